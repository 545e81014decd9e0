"""Fits embedded atoms of copper to its lattice, cohesive energy and elastic constants.

python copper.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import mlcore.forcefield as ff
import numpy as np
from ase.build import bulk
from ase.units import GPa
from matplotlib import pyplot as plt
from mlcore.forcefield import targets

# measured at room temperature, as Y. Mishin et al., Phys. Rev. B 63, 224106 (2001), table III has them
A, ENERGY, C11, C12, C44 = 3.615, -3.54, 170.0, 122.5, 75.8
VACANCY, VACANCY_ERROR = 1.28, 0.05
FREE = ("alpha", "beta", "A", "B", "kappa", "lambda", "F0", "F1", "F2", "F3", "Fn2", "eta")
START = 0.15  # of every free parameter, to either side
# three pieces make the embedding function: they meet, the first two smoothly, and no density has none
TIES = {
    "Fn0": "F0 - 0.15*F1 + 0.0225*F2 - 0.003375*F3",
    "Fn1": "0.85*(F1 - 0.3*F2 + 0.0675*F3)",
    "Fn3": "Fn0 - Fn1 + Fn2",
    "Fe": "(F0 + 0.15*F1 + 0.0225*F2 + 0.003375*F3) / ((1 - eta*log(1.15))*1.15**eta)",
}


def rose(volumes: np.ndarray) -> np.ndarray:
    """Energy of volume per atom, eV, by the universal equation of J. H. Rose et al., Phys. Rev. B
    29, 2963 (1984), which needs no more than what was measured."""
    bulk_modulus = (C11 + 2 * C12) / 3 * GPa
    stretch = np.cbrt(volumes / (A**3 / 4)) - 1
    x = stretch * np.sqrt(9 * bulk_modulus * (A**3 / 4) / -ENERGY)
    return ENERGY * (1 + x) * np.exp(-x)


def wanted() -> list[ff.Target]:
    """What the fit sees: a crystal at rest, five numbers, and its energy at other volumes."""
    values = {"a": A, "energy": ENERGY, "C11": C11, "C12": C12, "C44": C44}
    sigma = {"a": 1e-3, "energy": 1e-3, "C11": 1.0, "C12": 1.0, "C44": 1.0}
    crystal = bulk("Cu", "fcc", A)
    volumes = A**3 / 4 * np.array([0.75, 0.85, 0.93, 1.07, 1.15, 1.3, 1.5, 1.7])
    return [
        targets.CubicCrystal(crystal, values, sigma=sigma, name="fcc"),
        targets.EnergyVolume(crystal, volumes, rose(volumes), sigma=0.05, name="volume"),
    ]


def unseen() -> list[ff.Target]:
    """What it does not see: a vacancy, relaxed."""
    crystal = bulk("Cu", "fcc", A)
    hole = bulk("Cu", "fcc", A, cubic=True) * (3, 3, 3)
    del hole[0]
    return [targets.Defect(hole, crystal, VACANCY, sigma=VACANCY_ERROR, name="vacancy")]


def space(model: ff.Model, seed: int) -> ff.Space:
    """Free parameters from half to one and a half times those of Zhou's copper."""
    shift = np.random.default_rng(seed).uniform(-START, START, len(FREE))
    free = {}
    for name, x in zip(FREE, shift, strict=True):
        value = model.defaults[name]
        near = value if abs(value) > 0.1 else 0.1
        ends = sorted((value - 0.5 * near, value + 0.5 * near))
        free[name] = ff.Free(lower=ends[0], upper=ends[1], initial=value + x * near)
    return ff.Space(model.parameters, free, ties=TIES)


def measured(model: ff.Model, values: dict[str, float]) -> dict[str, float]:
    """All that is compared, of one potential."""
    asked = [wanted()[0], *unseen()]
    with ff.Evaluator(model, asked) as evaluator:
        found = evaluator([values])[0]
    rows = [found.values[target.name] for target in asked]
    terms = [term for target in asked for term in target.terms]
    return dict(zip(terms, np.concatenate(rows).tolist(), strict=True))


def energies(model: ff.Model, values: dict[str, float], volumes: np.ndarray) -> np.ndarray:
    """eV per atom at volumes per atom."""
    curve = targets.EnergyVolume(bulk("Cu", "fcc", A), volumes, np.zeros(len(volumes)))
    with ff.Evaluator(model, [curve]) as evaluator:
        return evaluator([values])[0].values[curve.name]


def plot(model: ff.Model, sets: dict[str, dict[str, float]], path: Path) -> None:
    """Energy of volume, and the functions of each potential."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    volumes = np.linspace(8.5, 20, 60)
    r = np.linspace(1.9, 5.5, 200)
    for (name, values), colour in zip(sets.items(), ("0.7", "#0072B2", "black"), strict=True):
        left.plot(volumes, energies(model, values, volumes), color=colour, label=name)
        made = model.form.functions(model, values)
        pair = np.interp(r, made.dr * np.arange(made.pair.shape[-1]), made.pair[0, 0])
        right.plot(r, pair, color=colour, label=name)
    left.plot(volumes, rose(volumes), "--", color="#D55E00", label="universal, of what is measured")
    left.set(xlabel="volume per atom, $\\mathrm{\\AA}^3$", ylabel="energy per atom, eV")
    left.set_ylim(-3.7, -2.0)
    right.set(xlabel="distance, $\\mathrm{\\AA}$", ylabel="pair energy, eV", ylim=(-0.5, 1.0))
    left.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(columns: dict[str, dict[str, float]]) -> str:
    """Markdown, a line for each property."""
    lines = ["| property | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for term in next(iter(columns.values())):
        numbers = [f"{column.get(term, np.nan):.4g}" for column in columns.values()]
        lines.append(f"| {term} | " + " | ".join(numbers) + " |")
    return "\n".join(lines) + "\n"


def main(budget: int, seed: int) -> None:
    model = ff.model("eam/zhou", ["Cu"])
    own = space(model, seed)
    result = ff.fit(
        model, own, wanted(), held_out=unseen(), budget=budget, seed=seed, folder="fit", resume=True
    )
    sets = {"start": own.values(own.initial), "fitted": dict(result.values), "Zhou": model.defaults}
    columns = {name: measured(model, values) for name, values in sets.items()}
    reference = dict(zip(columns["start"], (A, ENERGY, C11, C12, C44, VACANCY), strict=True))
    text = table({"measured": reference, **columns})
    Path("table.md").write_text(text)
    plot(model, sets, Path("copper.png"))
    print(text, end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer evaluations")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for all that is made")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(options.out):
        main(budget=600 if options.quick else 4000, seed=0)
