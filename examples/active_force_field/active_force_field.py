"""A Stillinger-Weber force field learns silicon from few labels, chosen or drawn by chance.

python active_force_field.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from matplotlib import pyplot as plt
from mlcore.forcefield import forms
from mlcore.forcefield.active import (
    Pick,
    active_learning,
    disagreement,
    dynamics,
    potential_label,
    predict,
)
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.targets import Energies, Forces
from mlcore.forcefield.uncertainty.ensembles import refits
from mlcore.forcefield.uncertainty.misfit import Misfit, local_fit

FITTED = forms.model("sw", ["Si"])
# stands for an expensive calculation: any function of a structure that gives it back labelled,
# such as mlcore.forcefield.active.code_label(codes.Vasp(...), "vasp")
TRUTH = forms.model("tersoff", ["Si"])
LABEL = potential_label(TRUTH, TRUTH.defaults)
PICKS: tuple[Pick, ...] = ("random", "committee", "dopt")


def space() -> Space:
    free = {}
    for name in ("epsilon", "sigma", "lambda", "gamma", "B"):
        value = FITTED.defaults[name]
        free[name] = Free(lower=0.6 * value, upper=1.5 * value, initial=value)
    return Space(FITTED.parameters, free)


def rattled(calm: int, wild: int, seed: int) -> list[Atoms]:
    """Crystals of eight atoms, most of them alike and a few that are not, in no order."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(calm + wild):
        atoms = bulk("Si", "diamond", 5.43, cubic=True)
        size, strain = (0.05, 0.01) if k < calm else (0.3, 0.08)
        atoms.positions += rng.normal(0, size, atoms.positions.shape)
        atoms.set_cell(atoms.cell * (1 + rng.uniform(-strain, strain)), scale_atoms=True)
        found.append(atoms)
    return [found[k] for k in rng.permutation(len(found))]


def contest(out: Path, seeds: int, rounds: int) -> dict[str, list[list[float]]]:
    """Test error after each round: way of choosing -> seed -> round."""
    test = [LABEL(atoms) for atoms in rattled(4, 20, 99)]
    errors: dict[str, list[list[float]]] = {}
    for pick in PICKS:
        for seed in range(seeds):
            run = active_learning(
                FITTED,
                space(),
                out / f"{pick}_{seed}",
                label=LABEL,
                start=[LABEL(atoms) for atoms in rattled(3, 0, seed + 50)],
                pool=rattled(40, 8, seed),
                pick=pick,
                rounds=rounds,
                per_round=1,
                members=4,
                test=test,
                seed=seed,
            )
            errors.setdefault(pick, []).append([r.errors["score"] for r in run.rounds])
    return errors


def own_dynamics(out: Path, rounds: int) -> str:
    """The loop with structures from the model's own molecular dynamics at 2000 K."""
    crystal = bulk("Si", "diamond", 5.43, cubic=True) * (2, 2, 2)
    run = active_learning(
        FITTED,
        space(),
        out / "dynamics",
        label=LABEL,
        start=[LABEL(atoms) for atoms in rattled(3, 0, 50)],
        explore=dynamics(FITTED, crystal, 2000.0, frames=10, every=50),
        pick="dopt",
        rounds=rounds,
        per_round=2,
        test=[LABEL(atoms) for atoms in rattled(4, 20, 99)],
    )
    return run.table()


def spread_and_error() -> tuple[np.ndarray, np.ndarray]:
    """How far a committee of the first round is apart on the pool, and how far it is off."""
    known, pool = [LABEL(atoms) for atoms in rattled(3, 0, 50)], rattled(40, 8, 0)
    targets = [Energies(known), Forces(known)]
    with Evaluator(FITTED, targets) as evaluator:
        misfit = Misfit(evaluator, space(), targets)
        point = local_fit(misfit, space().initial)
        members = refits(misfit, space(), point, 6, noise="normal").candidates(space())
    apart = disagreement(predict(FITTED, pool, members))
    own = predict(FITTED, pool, [space().values(point)])
    true = [LABEL(atoms) for atoms in pool]
    off = [
        np.sqrt(np.mean((own.forces[k][0] - atoms.get_forces()) ** 2)) / 0.2
        for k, atoms in enumerate(true)
    ]
    return apart, np.array(off)


def picture(path: Path, errors: dict[str, list[list[float]]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for pick, rows in errors.items():
        low, middle, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
        labelled = 3 + np.arange(len(middle))
        left.plot(labelled, middle, "o-", label=pick)
        left.fill_between(labelled, low, high, alpha=0.15)
    left.set(xlabel="labelled structures", ylabel="test error, tolerances", yscale="log")
    left.legend()
    apart, off = spread_and_error()
    right.loglog(apart, off, "o")
    right.set(xlabel="disagreement, tolerances", ylabel="true force error, tolerances")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds, two rounds")
    parser.add_argument("--out", type=Path, default=Path("out/active_force_field"))
    options = parser.parse_args()
    seeds, rounds = (2, 2) if options.quick else (10, 5)
    options.out.mkdir(parents=True, exist_ok=True)
    errors = contest(options.out, seeds, rounds)
    (options.out / "errors.json").write_text(json.dumps(errors))
    lines = ["| labelled | " + " | ".join(PICKS) + " |", "|---" * (len(PICKS) + 1) + "|"]
    medians = {pick: np.median(errors[pick], axis=0) for pick in PICKS}
    for k in range(rounds + 1):
        lines.append(f"| {3 + k} | " + " | ".join(f"{medians[p][k]:.2f}" for p in PICKS) + " |")
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(own_dynamics(options.out, 1 if options.quick else 3))
    picture(options.out / "active_force_field.png", errors)


if __name__ == "__main__":
    main()
