"""Coarse coordinates of a chain, found in LAMMPS frames, measured in a run, stepped by Dyn_ML1.

python run.py [--quick] [--autoencoder] [--out out]
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from mlcore import data, lammps, observables, steppers
from mlcore.export import Column, write_mlmod
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]
BEADS, MODES = 16, 5
DT, EVERY = 0.01, 100
SPRING, DRAG = 3.0, 1.0  # of a bond (LAMMPS writes K = SPRING / 2) and of a bead


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    chains: int
    frames: int
    stretched: int


QUICK = Size(chains=200, frames=60, stretched=200)
FULL = Size(chains=400, frames=200, stretched=2000)


def write_chains(path: Path, chains: Array) -> None:
    """Data file of chains (count, BEADS, 3)."""
    count = len(chains)
    reach = np.abs(chains).max() + 60.0
    lines = ["chains", "", f"{count * BEADS} atoms", f"{count * (BEADS - 1)} bonds"]
    lines += ["1 atom types", "1 bond types", ""]
    lines += [f"{-reach} {reach} {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", "1 1.0", "", "Atoms # bond", ""]
    for k, x in enumerate(chains.reshape(-1, 3)):
        lines.append(f"{k + 1} {k // BEADS + 1} 1 {x[0]:.10g} {x[1]:.10g} {x[2]:.10g}")
    lines += ["", "Bonds", ""]
    bonds = [c * BEADS + b for c in range(count) for b in range(1, BEADS)]
    lines += [f"{k} 1 {first} {first + 1}" for k, first in enumerate(bonds, 1)]
    path.write_text("\n".join(lines) + "\n")


def simulate(script: str, log: str, **variables: object) -> None:
    """Runs a script with variables."""
    words = ["-log", log, "-screen", "none"]
    for key, value in variables.items():
        words += ["-var", key, str(value)]
    if lammps.run(script, args=words) != 0:
        raise SystemExit(f"LAMMPS failed:\n{Path(log).read_text()[-2000:]}")


def chains_of(dump: str) -> Array:
    """(frames, chains, BEADS, 3) positions of a dump."""
    x = data.read_trajectory(dump, format="lammps-dump").positions
    return x.reshape(len(x), -1, BEADS, 3)


def equilibrium(count: int, seed: int) -> Array:
    """Chains of independent Gaussian bonds, kT = 1."""
    bonds = np.random.default_rng(seed).normal(scale=SPRING**-0.5, size=(count, BEADS, 3))
    return np.cumsum(bonds, 1)


def learn(size: Size) -> tuple[observables.LinearProjection, steppers.OneStep]:
    """Modes from frames of equilibrium, and their mean motion over one interval."""
    write_chains(Path("equilibrium.data"), equilibrium(size.chains, 1))
    steps = size.frames * EVERY
    simulate(
        "in.chains",
        "frames.log",
        start="equilibrium.data",
        every=EVERY,
        name="frames.dump",
        steps=steps,
    )
    x = chains_of("frames.dump")
    modes = observables.LinearProjection(MODES).fit(x.reshape(-1, BEADS, 3))
    modes.export("projection", units="lj")
    times = DT * EVERY * np.arange(len(x))
    coarse = [data.Trajectory(times, modes.project(chain)) for chain in x.swapaxes(0, 1)]
    step = steppers.OneStep("configuration", ("x",), hidden=(), relative=False)
    step.fit(coarse)
    return modes, step


def relax(
    size: Size, modes: observables.LinearProjection, step: steppers.OneStep
) -> tuple[Array, Array, Array]:
    """Coarse coordinates of stretched chains: mean of many, by the learned step, and the first chain
    as measured in the run."""
    straight = np.zeros((BEADS, 3))
    straight[:, 0] = 1.5 * (np.arange(BEADS) - BEADS / 2)
    write_chains(Path("stretched.data"), np.tile(straight, (size.stretched, 1, 1)))
    frames = 30
    simulate(
        "in.chains",
        "relax.log",
        start="stretched.data",
        every=EVERY,
        name="relax.dump",
        steps=frames * EVERY,
        qoi="projection",
        beads=BEADS,
        seed=77,
    )
    x = chains_of("relax.dump")
    whole = np.stack([modes.project(chain) for chain in x.swapaxes(0, 1)], 1)
    measured = thermo("relax.log")[:, 1]
    return whole, measured, stepped(step, modes.project(straight[None])[0], frames)


def stepped(step: steppers.OneStep, start: Array, frames: int) -> Array:
    """(frames + 1, points, 3) coarse coordinates, three to a point, moved by Dyn_ML1 in LAMMPS."""
    bundle = step.export("modes", units="lj")
    column = Column(step.network, bundle.contract, particles=len(start))
    models = {"dyn1_filename": column, "dyn2_filename": column}
    write_mlmod(
        "modes.mlmod_params", "Dyn_ML1", models, particles=len(start), mask_fix="INITIAL_INTEGRATE"
    )
    write_points(Path("modes.data"), start)
    simulate("in.modes", "modes.log", dt=step.dt, steps=frames)
    return data.read_trajectory("modes.dump", format="lammps-dump").positions


def autoencoded(size: Size, epochs: int) -> list[str]:
    """The same with coordinates that an autoencoder finds, from the largest of the chains on."""
    count, frames = 3 * (MODES - 1), 10
    x = chains_of("frames.dump")
    code = observables.Autoencoder(count, "translation", hidden=(32,))
    made = code.fit(x[::4].reshape(-1, BEADS, 3), epochs=epochs)
    code.export("code", units="lj")

    def points(chain: Array) -> Array:
        return code.encode(chain).reshape(len(chain), -1, 3)

    times = DT * EVERY * np.arange(len(x))
    step = steppers.OneStep("configuration", ("x",), hidden=(), relative=False)
    step.fit([data.Trajectory(times, points(chain)) for chain in x.swapaxes(0, 1)])
    pool = x.reshape(-1, BEADS, 3)
    start = pool[np.argmax(pool.var(1).sum(-1))]
    write_chains(Path("large.data"), np.tile(start, (size.chains, 1, 1)))
    simulate(
        "in.chains",
        "large.log",
        start="large.data",
        every=EVERY,
        name="large.dump",
        steps=frames * EVERY,
        qoi="code",
        value="f_modes[1]",
        beads=BEADS,
        seed=78,
    )
    y = chains_of("large.dump")
    whole = np.stack([points(chain) for chain in y.swapaxes(0, 1)], 1)
    learned = stepped(step, points(start[None])[0], frames)
    away = np.sqrt(((learned - whole.mean(1)) ** 2).sum((1, 2)) / (learned[0] ** 2).sum())
    noise = np.sqrt((whole.var(1) / whole.shape[1]).sum((1, 2)) / (learned[0] ** 2).sum())
    both = np.abs(thermo("large.log")[:, 1] - whole[:, 0, 0, 0]).max()
    return [
        f"autoencoder: {count} numbers leave {made.held_out_error:.4f} of a bead's place, "
        f"principal components {made.pca_error:.4f}",
        f"its first number, in the run and from its frames: differ by {both:.1e}",
        f"its step off by {away.max():.4f} of the start (standard error {noise.max():.4f})",
    ]


def write_points(path: Path, z: Array) -> None:
    """Data file of atoms at the coarse coordinates."""
    reach = np.abs(z).max() + 10.0
    lines = ["modes", "", f"{len(z)} atoms", "1 atom types", ""]
    lines += [f"{-reach} {reach} {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", "1 1.0", "", "Atoms # atomic", ""]
    lines += [f"{k} 1 {x[0]:.10g} {x[1]:.10g} {x[2]:.10g}" for k, x in enumerate(z, 1)]
    path.write_text("\n".join(lines) + "\n")


def thermo(log: str) -> Array:
    """(frames, 2): step and value."""
    rows = [line.split() for line in Path(log).read_text().splitlines()]
    start = next(k for k, row in enumerate(rows) if row[:1] == ["Step"])
    end = next(k for k in range(start, len(rows)) if rows[k][:2] == ["Loop", "time"])
    return np.array(rows[start + 1 : end], dtype=np.float64)


def rouse_rates() -> Array:
    """Rates of the modes of an ideal chain: (SPRING / DRAG) 4 sin^2(pi p / (2 BEADS))."""
    p = np.arange(1, MODES)
    return np.asarray(SPRING / DRAG * 4 * np.sin(np.pi * p / (2 * BEADS)) ** 2)


def plot(whole: Array, learned: Array, dt: float) -> None:
    """coarse_chain.png: decay of the modes that the stretch excites."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    t = dt * np.arange(len(learned))
    for p, color in ((1, "tab:blue"), (3, "tab:orange")):
        start = learned[0, p, 0]
        mean = whole[:, :, p, 0].mean(1) / start
        error = whole[:, :, p, 0].std(1) / start / whole.shape[1] ** 0.5
        axis.errorbar(
            t,
            mean,
            np.abs(error),
            fmt="o",
            ms=3,
            color=color,
            label=f"mode {p}: all beads, mean of {whole.shape[1]} chains",
        )
        axis.plot(t, learned[:, p, 0] / start, color=color, label=f"mode {p}: Dyn_ML1")
        axis.plot(t, np.exp(-rouse_rates()[p - 1] * t), "k:", lw=1)
    axis.plot([], [], "k:", lw=1, label="Rouse")
    axis.set(xlabel="time", ylabel="mode / its start", title="a stretched chain relaxes")
    axis.legend(fontsize=8)
    figure.savefig("coarse_chain.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument(
        "--autoencoder", action="store_true", help="also coordinates that an autoencoder finds"
    )
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("in.chains", "in.modes"):
        shutil.copy(HERE / name, options.out / name)
    os.chdir(options.out)
    modes, step = learn(size)
    whole, measured, learned = relax(size, modes, step)
    plot(whole, learned, step.dt)
    print(f"{MODES - 1} modes of {BEADS} beads hold {modes.explained:.3f} of the variance")
    found = -np.log(np.abs(learned[1, 1:, 0] / learned[0, 1:, 0])) / step.dt
    print(f"slowest mode: rate {found[0]:.4f}, Rouse {rouse_rates()[0]:.4f}")
    both = np.abs(measured - whole[:, 0, 1, 0]).max()
    print(f"mode 1 of the first chain, in the run and from its frames: differ by {both:.1e}")
    spread = whole[:, :, 1, 0].std(1)[1:] / whole.shape[1] ** 0.5
    away = (learned[1:, 1, 0] - whole[1:, :, 1, 0].mean(1)) / learned[0, 1, 0]
    print(
        f"relaxation of mode 1: learned step off by {np.abs(away).max():.4f} of its start "
        f"(standard error {np.max(spread) / abs(learned[0, 1, 0]):.4f})"
    )
    if options.autoencoder:
        print("\n".join(autoencoded(size, 20 if options.quick else 100)))
    print(f"picture: {options.out / 'coarse_chain.png'}")


if __name__ == "__main__":
    main()
