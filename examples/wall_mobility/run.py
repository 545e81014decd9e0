"""Mobility near a wall, learned from how colloids move above it.

python run.py [--quick] [--out out]
"""

from __future__ import annotations

import argparse
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from mlcore import data, lammps, training
from mlcore.export import write_mlmod
from mlcore.export.mlmod import assemble
from mlcore.mobility import WallRPY
from models import ExactPair, ExactSelf, LearnedSelf
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]
WEIGHT, WALL, REACH = 2.0, 10.0, 0.1  # of the potential in kT; the radius is 1, kT is 1
HEIGHTS = np.linspace(1.0, 7.0, 1201)
EXACT = WallRPY(1.0, 1 / (6 * math.pi))


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    colloids: int
    steps: int  # that are learned from
    equilibrium: int


QUICK = Size(colloids=25, steps=3000, equilibrium=4000)
FULL = Size(colloids=25, steps=10000, equilibrium=15000)
FINE, COARSE = 1e-3, 5e-3  # time steps of the two


# -- truth ----------------------------------------------------------------------------------------
def boltzmann(z: Array, over: Array | None = None) -> Array:
    """Density of heights exp(-U / kT), divided by a mobility where one is given."""
    p = np.exp(-WALL * np.exp(-(z - 1) / REACH) - WEIGHT * (z - 1))
    p = p if over is None else p / over
    return np.asarray(p / np.trapezoid(p, z))


def exact_mobility(z: Array) -> Array:
    """(len(z), 2) along the wall and towards it."""
    x = np.zeros((len(z), 1, 3))
    x[:, 0, 2] = z
    m = EXACT.matrix(x)
    return np.stack([m[:, 0, 0], m[:, 2, 2]], 1)


# -- simulation -----------------------------------------------------------------------------------
def write_start(path: Path, colloids: int) -> Array:
    """Colloids on a wide square lattice, at heights drawn from the Boltzmann distribution."""
    side = math.ceil(math.sqrt(colloids))
    place = np.arange(colloids)
    cumulated = np.cumsum(boltzmann(HEIGHTS))
    drawn = np.random.default_rng(1).random(colloids)
    z = np.interp(drawn, cumulated / cumulated[-1], HEIGHTS)
    x = np.stack([12.0 * (place % side), 12.0 * (place // side), z], 1)
    lines = ["colloids", "", f"{colloids} atoms", "1 atom types", ""]
    lines += ["-200 300 xlo xhi", "-200 300 ylo yhi", "0 60 zlo zhi", "", "Masses", "", "1 1.0"]
    lines += ["", "Atoms # atomic", ""]
    lines += [f"{k} 1 {a:.9g} {b:.9g} {c:.9g}" for k, (a, b, c) in enumerate(x, 1)]
    path.write_text("\n".join(lines) + "\n")
    return x


def write_model(folder: Path, name: str, own: torch.nn.Module, drift: bool = True) -> None:
    """NAME.mlmod_params in a folder, and its two models beside it."""
    write_mlmod(
        folder / f"{name}.mlmod_params",
        "dX_MF_Q1_ML1_Pair",
        {"M_ii_filename": own, "M_ij_filename": ExactPair()},
        delta=5e-3,
        KBT=1.0,
        flag_stochastic=1,
        flag_thm_drift=int(drift),
    )


def simulate(folder: Path, model: str, **variables: object) -> data.Trajectory:
    """Runs in.wall with a model; what came out."""
    words = ["-log", f"log.{model}", "-screen", "none", "-var", "model", f"{model}.mlmod_params"]
    words += ["-var", "frames", f"{model}.dump"]
    for key, value in {"weight": WEIGHT, "wall": WALL, "reach": REACH, **variables}.items():
        words += ["-var", key, str(value)]
    if lammps.run("in.wall", args=words, folder=folder) != 0:
        raise SystemExit(f"LAMMPS failed:\n{(folder / f'log.{model}').read_text()[-2000:]}")
    return data.read_trajectory(folder / f"{model}.dump", format="lammps-dump")


# -- learning -------------------------------------------------------------------------------------
class Displacements:
    """Likelihood of displacements over one step: dz ~ N((m f + m') dt, 2 m dt) and so on.

    The derivative m' of the mobility is the drift of the Ito equation: it pushes away from the
    wall, and without it every mobility learned from where colloids go would be wrong.
    """

    def __init__(self, run: data.Trajectory, dt: float, module: LearnedSelf) -> None:
        x, f = run.positions, run.forces
        assert f is not None
        moved = np.diff(x, axis=0)
        self.dt = dt
        self.dz = torch.from_numpy(moved[..., 2].ravel())
        self.across = torch.from_numpy((moved[..., :2] ** 2).sum(-1).ravel())
        self.force = torch.from_numpy(f[:-1, :, 2].ravel())
        z = torch.from_numpy(x[:-1, :, 2].ravel()).requires_grad_(True)
        self.basis = module.basis(z)
        columns = self.basis.unbind(-1)
        slopes = [torch.autograd.grad(c.sum(), z, retain_graph=True)[0] for c in columns[1:]]
        self.slopes = torch.stack([torch.zeros_like(slopes[0]), *slopes], -1)
        self.basis = self.basis.detach()

    @property
    def size(self) -> int:
        return len(self.dz)

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        """Mean negative log likelihood, but for a constant."""
        c = module.coefficients
        log_along, log_up = (self.basis[samples] @ c.T).unbind(-1)
        up = torch.exp(log_up)
        slope = up * (self.slopes[samples] @ c[1])
        rest = self.dz[samples] - self.dt * (up * self.force[samples] + slope)
        normal = rest**2 / (4 * up * self.dt) + log_up / 2
        tangential = self.across[samples] / (4 * torch.exp(log_along) * self.dt) + log_along
        return (normal + tangential).mean()

    def validation(self, module: torch.nn.Module) -> float | None:
        return None

    def identity(self) -> str:
        return f"{self.size} displacements"


def learn(run: data.Trajectory, quick: bool) -> LearnedSelf:
    """The mobility that makes the displacements most likely."""
    module = LearnedSelf()
    options = training.TrainingOptions(
        epochs=300 if quick else 600, learning_rate=0.1, batch_size=None, patience=None
    )
    training.train(module, Displacements(run, FINE, module), options)
    return module.requires_grad_(False)


def binned(run: data.Trajectory, edges: Array) -> tuple[Array, Array]:
    """(bins, 2) plain <d^2> / (2 dt) by height, and its standard error."""
    d2 = np.diff(run.positions, axis=0) ** 2 / (2 * FINE)
    both = np.stack([d2[..., :2].mean(-1).ravel(), d2[..., 2].ravel()], 1)
    place = np.digitize(run.positions[:-1, :, 2].ravel(), edges) - 1
    rows = [both[place == k] for k in range(len(edges) - 1)]
    mean = np.array([r.mean(0) if len(r) > 1 else [np.nan] * 2 for r in rows])
    error = np.array([r.std(0) / math.sqrt(len(r)) if len(r) > 1 else [np.nan] * 2 for r in rows])
    return mean, error


# -- results --------------------------------------------------------------------------------------
def deviations(learned: Array) -> tuple[Array, Array]:
    """Root mean square over the colloids and largest over 99 % of them, relative; both (2,)."""
    p = boltzmann(HEIGHTS)
    relative = learned / exact_mobility(HEIGHTS) - 1
    cumulated = np.cumsum(p) / p.sum()
    inside = (cumulated > 0.005) & (cumulated < 0.995)
    mean = np.sqrt((relative**2 * p[:, None]).sum(0) / p.sum())
    return mean, np.abs(relative[inside]).max(0)


def distance(z: Array, density: Array) -> float:
    """Total variation between a histogram of heights and a density."""
    edges = np.linspace(1.0, 4.0, 16)
    cumulated = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    wanted = np.diff(np.interp(edges, HEIGHTS, cumulated / cumulated[-1]))
    found = np.histogram(z, edges)[0] / len(z)
    return float(np.abs(found - wanted).sum() / 2)


def plot(
    path: Path, learned: Array, points: tuple[Array, Array, Array], heights: dict[str, Array]
) -> None:
    """Mobility against height; heights of the colloids in equilibrium."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    exact = exact_mobility(HEIGHTS)
    at, mean, error = points
    for k, (name, color) in enumerate((("along the wall", "tab:blue"), ("up", "tab:orange"))):
        left.errorbar(at, mean[:, k], error[:, k], fmt=".", color=color, alpha=0.5)
        left.plot(HEIGHTS, exact[:, k], color="black", lw=3, alpha=0.3)
        left.plot(HEIGHTS, learned[:, k], color=color, label=f"{name}, learned")
    left.plot([], [], color="black", lw=3, alpha=0.3, label="exact")
    left.set(xlim=(1, 4.5), ylim=(0, 1), xlabel="height / radius")
    left.set_ylabel("mobility / (1 / 6 pi viscosity radius)")
    left.legend()
    edges = np.linspace(1, 4, 46)
    for (name, z), color in zip(heights.items(), ("tab:green", "tab:red"), strict=True):
        right.hist(z, edges, density=True, histtype="step", color=color, label=name)
    right.plot(HEIGHTS, boltzmann(HEIGHTS), color="black", label="Boltzmann")
    right.plot(HEIGHTS, boltzmann(HEIGHTS, exact[:, 1]), "k--", label="Boltzmann / mobility")
    right.set(xlim=(1, 4), xlabel="height / radius", ylabel="density of colloids")
    right.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    out: Path = options.out.resolve()
    shutil.copy(HERE / "in.wall", out)

    start = write_start(out / "start.data", size.colloids)
    write_model(out, "exact", ExactSelf())
    shutil.copy(out / "exact_M_ii.pt", out / "M_ii.pt")
    shutil.copy(out / "exact_M_ij.pt", out / "M_ij.pt")
    near = np.concatenate([start[:4], [[0.3, 1.9, 1.2], [1.5, 0.4, 1.1]]])
    difference = np.abs(assemble(out, near) - EXACT.matrix(near)).max()
    print(f"files of the exact mobility and mlcore.mobility.WallRPY differ by {difference:.1e}")

    run = simulate(out, "exact", steps=size.steps, dt=FINE, every=1)
    module = learn(run, options.quick)
    learned = module.mobility(torch.from_numpy(HEIGHTS)).numpy()
    mean, largest = deviations(learned)
    count = size.colloids * size.steps
    print(f"learned from {count} displacements; relative error, mean (largest over 99 %):")
    print(f"  along the wall {mean[0]:.4f} ({largest[0]:.4f}), up {mean[1]:.4f} ({largest[1]:.4f})")

    heights = {}
    for name, drift in (("learned", True), ("no_drift", False)):
        write_model(out, name, module, drift)
        told = simulate(out, name, steps=size.equilibrium, dt=COARSE, every=20, seed=7)
        heights["with drift" if drift else "without drift"] = told.positions[10:, :, 2].ravel()
    exact = exact_mobility(HEIGHTS)[:, 1]
    right, wrong = boltzmann(HEIGHTS), boltzmann(HEIGHTS, exact)
    for name, p in (("Boltzmann", right), ("Boltzmann / mobility", wrong)):
        print(f"mean height, {name}: {np.trapezoid(HEIGHTS * p, HEIGHTS):.3f}")
    for name, z in heights.items():
        print(
            f"mean height, learned mobility {name}: {z.mean():.3f}; "
            f"distance from Boltzmann {distance(z, right):.3f}, "
            f"from Boltzmann / mobility {distance(z, wrong):.3f}"
        )
    edges = np.linspace(1.05, 4.5, 24)
    plot(out / "wall.png", learned, ((edges[1:] + edges[:-1]) / 2, *binned(run, edges)), heights)
    print(f"picture: {out / 'wall.png'}")


if __name__ == "__main__":
    main()
