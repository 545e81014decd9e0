"""A poor force finds out by itself what it does not know, and becomes a good one.

python active_learning.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from matplotlib import pyplot as plt
from mlcore import forces, lammps
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CUTOFF = 2.5
COLD, HOT = 0.7, 3.0
ROUNDS = 3
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """How much is simulated; with 4 cells^3 atoms."""

    cells: int
    settle: int
    cold: int
    test: int
    steps: int
    most: int


DEFAULT = Size(cells=4, settle=2000, cold=3, test=20, steps=6000, most=5)
QUICK = Size(cells=3, settle=500, cold=3, test=8, steps=2500, most=4)


def lmp(script: Path, folder: Path, **variables: object) -> None:
    """Runs an input script in a folder."""
    words = ["-log", f"{script.name}.log", "-screen", "none", "-var", "home", str(HERE)]
    for name, value in variables.items():
        words += ["-var", name, str(value)]
    if lammps.run(script, args=words, folder=folder) != 0:
        raise SystemExit(f"LAMMPS stopped: see {folder / script.name}.log")


def reference(name: str, folder: Path, size: Size, **variables: object) -> list[Atoms]:
    """Frames of a run with the true force; made once."""
    path = folder / f"{name}.xyz"
    told = {"cells": size.cells, "settle": size.settle, **variables}
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        lmp(HERE / "in.reference", folder, record=part.name, **told)
        part.rename(path)
    return list(ase.io.read(path, index=":", format="extxyz"))


def label(frames: list[Atoms]) -> list[Atoms]:
    """The true energies and forces."""
    style, coeff = (line.split(maxsplit=1)[1] for line in (HERE / "force.reference").open())
    return lammps.label(frames, style, coeff)


def committee(seed: int = 0) -> forces.Committee:
    return forces.Committee(forces.PairForce(cutoff=CUTOFF, intervals=20, seed=seed), members=4)


def spread_and_error(bundle: Path, frames: list[Atoms]) -> tuple[Array, Array]:
    """Of every atom: spread of the committee, and the length of its true error."""
    model = forces.load(bundle)
    found = [model.evaluate(atoms) for atoms in frames]
    errors = [
        np.linalg.norm(f.forces - atoms.get_forces(), axis=1)
        for f, atoms in zip(found, frames, strict=True)
    ]
    return np.concatenate([f.spread for f in found]), np.concatenate(errors)


def control(folder: Path, size: Size, count: int, test: list[Atoms]) -> float:
    """Error of a committee that learned from as many frames, all of them cold."""
    frames = reference("control", folder, size, temperature=COLD, frames=count, seed=11)
    model = committee()
    model.fit(frames, validation=None)
    errors = [model.forces(atoms) - atoms.get_forces() for atoms in test]
    return float(np.sqrt(np.mean(np.square(errors))))


def table(rounds: list[forces.Round], scale: float, cold: float) -> str:
    lines = [
        "| round | frames learned | force error | of the forces | spread | recorded |",
        "|---|---|---|---|---|---|",
    ]
    for r in rounds:
        error = f"{r.force_error:.4g} | {r.force_error / scale:.2%}"
        lines.append(f"| {r.number} | {r.known} | {error} | {r.spread:.3g} | {r.recorded} |")
    lines.append(f"| cold only | {rounds[-1].known} | {cold:.4g} | {cold / scale:.2%} | | |")
    return "\n".join(lines) + "\n"


def picture(path: Path, rounds: list[forces.Round], test: list[Atoms], cold: float) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    left.semilogy([r.number for r in rounds], [r.force_error for r in rounds], "o-", color="k")
    left.axhline(cold, ls=":", color="0.5", label=f"{rounds[-1].known} cold frames")
    left.set(xlabel="round", ylabel="force error on hot frames", xticks=range(len(rounds)))
    left.legend(frameon=False)
    for r, color in ((rounds[0], "#D55E00"), (rounds[-1], "#0072B2")):
        spread, error = spread_and_error(r.bundle, test)
        right.loglog(spread, error, ".", ms=2, color=color, label=f"round {r.number}")
    ends = np.array(right.get_xlim())
    right.plot(ends, ends, "k-", lw=0.8)
    right.set(xlabel="spread of the committee", ylabel="true error of an atom's force")
    right.legend(frameon=False, markerscale=5)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def study(folder: Path, size: Size) -> str:
    """Everything; the table."""
    cold = reference("cold", folder, size, temperature=COLD, frames=size.cold)
    test = reference("test", folder, size, temperature=HOT, frames=size.test, seed=2026)

    def explore(task: forces.Exploration) -> None:
        lmp(
            HERE / "in.explore",
            task.folder,
            model="../bundle",
            frames=task.frames.name,
            spread=task.spread,
            round=task.number,
            cells=size.cells,
            hot=HOT,
            steps=size.steps,
        )

    rounds = forces.active_rounds(
        committee(),
        cold,
        explore,
        label,
        folder=folder / "rounds",
        rounds=ROUNDS,
        most=size.most,
        test=test,
        fit={"validation": None},
        progress=True,
    )
    scale = float(np.sqrt(np.mean([np.square(atoms.get_forces()) for atoms in test])))
    only_cold = control(folder, size, rounds[-1].known, test)
    picture(folder / "active_learning.png", rounds, test, only_cold)
    return table(rounds, scale, only_cold)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, half a minute")
    parser.add_argument("--out", type=Path, default=Path("out/active_learning"), help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    text = study(given.out.resolve(), QUICK if given.quick else DEFAULT)
    (given.out / "table.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
