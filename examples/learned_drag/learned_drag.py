"""Learns a drag without potential from LAMMPS tracers: as a force, and as steps in time.

python learned_drag.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from mlcore import data, forces, lammps, steppers
from mlcore.export import Column, write_mlmod
from mlcore.training import TrainingOptions
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
DT, EVERY = 0.005, 20
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """A drag of LAMMPS, what it depends on, and the networks that learn it; () is linear."""

    name: str
    inputs: tuple[str, ...]
    hidden: tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """How much is simulated and learned; frames are 20 timesteps apart."""

    tracers: int
    frames: int
    epochs: int
    tested: int


LAWS = (Law("viscous", ("v",), ()), Law("vortex", ("x", "v"), (48, 48)))
DEFAULT = Size(tracers=600, frames=60, epochs=200, tested=125)
QUICK = Size(tracers=150, frames=40, epochs=150, tested=64)


def lmp(script: str, log: str, **variables: object) -> None:
    """Runs one of the input scripts beside this program."""
    lammps.logged(HERE / script, log, {"folder": HERE, **variables})


def frames_of(name: str, dt: float = DT) -> data.Trajectory:
    return data.read_trajectory(f"{name}.dump", dt=dt)


def record(law: Law, name: str, atoms: int, frames: int, seed: int) -> data.Trajectory:
    """Tracers of LAMMPS under its own drag, and where they started as NAME.data."""
    settings = {"law": law.name, "name": name, "atoms": atoms, "frames": frames, "seed": seed}
    lmp("in.tracers", f"{name}.log", **settings)
    return frames_of(name)


def learn_force(law: Law, name: str, size: Size) -> tuple[forces.ForceFit, float]:
    """The drag as a force: the fit, and the size of a force component."""
    lmp("in.forces", f"{name}.forces.log", law=law.name, name=name)
    frames = frames_of(f"{name}.forces")
    model = forces.ExternalForce(law.inputs, hidden=law.hidden)
    fit = model.fit(frames, validation=0.1, epochs=size.epochs, batch_size=256)
    model.export(f"{law.name}_force", units="lj")
    return fit, float(np.sqrt(np.square(frames.forces).mean()))


def learn_steps(law: Law, tracks: data.Trajectory, size: Size) -> None:
    """The drag as one-step dynamics: a bundle, and MLMOD's files for the tested tracers."""
    model = steppers.OneStep(sees="atoms", inputs=law.inputs, hidden=law.hidden)
    settings = TrainingOptions(epochs=size.epochs, batch_size=256, patience=None)
    model.fit(tracks, training=settings)
    bundle = model.export(f"{law.name}_steps", units="lj")
    column = Column(model.network, bundle.contract, particles=size.tested)
    write_mlmod(
        f"{law.name}.mlmod_params",
        "Dyn_ML1",
        {"dyn1_filename": column, "dyn2_filename": column},
        particles=size.tested,
        mask_fix="INITIAL_INTEGRATE",
    )


def follow(law: Law, size: Size) -> dict[str, data.Trajectory]:
    """New tracers by LAMMPS' drag and by everything learned."""
    start = f"{law.name}.test"
    found = {"LAMMPS": record(law, start, size.tested, size.frames, seed=9)}
    bundle, steps = f"{law.name}_force", size.frames * EVERY
    settings = {"law": "learned", "bundle": bundle, "data": f"{start}.data", "steps": steps}
    lmp("in.tracks", f"{law.name}.force.log", name=f"{law.name}.force", **settings)
    found["learned force"] = frames_of(f"{law.name}.force")
    models = {"mlcore": f"{law.name}_steps", "mlmod": f"{law.name}.mlmod_params"}
    for face, model in models.items():
        name = f"{law.name}.{face}"
        settings = {"dt": DT * EVERY, "face": face, "model": model, "name": name}
        lmp("in.leaps", f"{name}.log", data=f"{start}.data", steps=size.frames, **settings)
        found[f"learned steps, fix {face}"] = frames_of(name, DT * EVERY)
    return found


def repelling(law: Law, size: Size) -> float:
    """Error of the way of atoms that also repel each other, over the first unit of time."""
    tracks = []
    for drag in (law.name, "learned"):
        name = f"{law.name}.pairs.{drag}"
        settings = {"law": drag, "bundle": f"{law.name}_force", "name": name, "pairs": "yes"}
        lmp("in.tracks", f"{name}.log", data="apart.data", steps=200, **settings)
        tracks.append(frames_of(name))
    return distance(tracks[0], tracks[1])


def apart(count: int) -> None:
    """apart.data: atoms on a lattice, close to each other, with velocities."""
    rng = np.random.default_rng(3)
    side = round(count ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    x = 1.15 * (grid - (side - 1) / 2)
    v = rng.normal(0, 1.4, x.shape)
    lines = ["atoms that repel each other", "", f"{len(x)} atoms", "1 atom types", ""]
    lines += [f"-30 30 {c}lo {c}hi" for c in "xyz"]
    lines += ["", "Masses", "", "1 1.0", "", "Atoms # atomic", ""]
    lines += [f"{k} 1 {a:.17g} {b:.17g} {c:.17g}" for k, (a, b, c) in enumerate(x, 1)]
    lines += ["", "Velocities", ""]
    lines += [f"{k} {a:.17g} {b:.17g} {c:.17g}" for k, (a, b, c) in enumerate(v, 1)]
    Path("apart.data").write_text("\n".join(lines) + "\n")


def distance(truth: data.Trajectory, other: data.Trajectory) -> float:
    """Root mean square distance at the end, in units of the way made by then."""
    way = truth.positions[-1] - truth.positions[0]
    away = other.positions[-1] - truth.positions[-1]
    return float(np.sqrt(np.square(away).sum() / np.square(way).sum()))


HEADER = (
    "| drag | error of the force | way, learned force | way, learned steps, fix mlcore "
    "| way, learned steps, fix mlmod | way with a pair style, learned force |\n" + "|---" * 6 + "|"
)


def picture(tracks: dict[str, dict[str, data.Trajectory]]) -> None:
    """learned_drag.png: ways of some tracers and how far the learned ones are off in time."""
    figure, axes = plt.subplots(len(LAWS), 2, figsize=(10, 4 * len(LAWS)))
    styles = ("-", "--", ":", ".")
    colors = ("k", "#D55E00", "#0072B2", "#009E73")
    for law, (left, right) in zip(LAWS, axes, strict=True):
        truth = tracks[law.name]["LAMMPS"]
        for (name, track), style, color in zip(
            tracks[law.name].items(), styles, colors, strict=True
        ):
            x = track.positions[:, :12, :2]
            left.plot(x[..., 0], x[..., 1], style, color=color, lw=1.5, ms=3)
            if name != "LAMMPS":
                away = np.linalg.norm(track.positions - truth.positions, axis=2).mean(1)
                right.semilogy(truth.times[1:], away[1:], style, color=color, label=name)
        left.set(xlabel="x", ylabel="y", title=f"{law.name}: 12 tracers", aspect="equal")
        right.set(xlabel="time", ylabel="mean distance from LAMMPS' tracers")
        right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig("learned_drag.png", dpi=150)
    plt.close(figure)


def study(size: Size) -> str:
    """Everything; the table."""
    lines, tracks = [HEADER], {}
    apart(size.tested)
    for law in LAWS:
        name = f"{law.name}.learn"
        learned_from = record(law, name, size.tracers, size.frames, seed=4)
        fit, typical = learn_force(law, name, size)
        learn_steps(law, learned_from, size)
        tracks[law.name] = follow(law, size)
        truth, *others = tracks[law.name].values()
        errors = [fit.held_out_force_error / typical, *(distance(truth, o) for o in others)]
        cells = [f"{e:.1e}" for e in (*errors, repelling(law, size))]
        lines.append(f"| {law.name} | " + " | ".join(cells) + " |")
    picture(tracks)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, half a minute at most")
    parser.add_argument("--out", type=Path, default=Path("out/learned_drag"), help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.out):
        table = study(QUICK if given.quick else DEFAULT)
        Path("table.md").write_text(table)
    print(table, end="")


if __name__ == "__main__":
    main()
