"""RPY plus a learned near field of many bodies, positive by construction.

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
from mlcore import data, lammps, mobility, training
from mlcore.export import write_mlmod
from models import CUTOFF, LearnedNearField, Mobility, TrueNearField, rpy, scripted
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]
DT = 5e-4


@dataclass(frozen=True)
class Size:
    """How much is simulated and learned."""

    runs: int
    steps: int
    epochs: int
    random: int  # configurations whose eigenvalues are looked at
    covariance: int  # steps


QUICK = Size(runs=5, steps=250, epochs=50, random=100, covariance=300)
FULL = Size(runs=20, steps=400, epochs=30, random=1000, covariance=4000)
LEARNED, LARGER = 12, 20  # spheres learned from, and of a larger cluster


# -- configurations -------------------------------------------------------------------------------
def cluster(n: int, closest: float, radius: float, seed: int) -> Array:
    """(n, 3) random places in a ball, no two nearer than `closest`."""
    generator = np.random.default_rng([n, seed])
    found: list[Array] = []
    for _ in range(100000):
        x = generator.uniform(-radius, radius, 3)
        apart = all(np.linalg.norm(x - other) > closest for other in found)
        if np.linalg.norm(x) < radius and apart:
            found.append(x)
        if len(found) == n:
            return np.array(found)
    raise ValueError(f"{n} spheres do not fit")


def dense(n: int, closest: float, seed: int) -> Array:
    """Spheres that fill about a quarter of their ball."""
    return cluster(n, closest, (4.0 * n) ** (1 / 3), seed)


def write_start(path: Path, x: Array) -> None:
    """LAMMPS data file of spheres."""
    lines = ["spheres", "", f"{len(x)} atoms", "1 atom types", ""]
    lines += [f"-60 60 {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", "1 1.0", "", "Atoms # atomic", ""]
    lines += [f"{k} 1 " + " ".join(f"{value:.10g}" for value in row) for k, row in enumerate(x, 1)]
    path.write_text("\n".join(lines) + "\n")


# -- simulation -----------------------------------------------------------------------------------
def write_model(folder: Path, name: str, near: torch.nn.Module) -> torch.jit.ScriptModule:
    """NAME.mlmod_params and NAME.pt; a scripted model takes any number of spheres."""
    script = scripted(near)
    script.save(str(folder / f"{name}.pt"))
    write_mlmod(
        folder / f"{name}.mlmod_params",
        "dX_MF_Q1_ML1_N2N",
        {"M_filename": f"{name}.pt"},
        delta=1e-3,
        KBT=1.0,
        flag_stochastic=1,
        flag_thm_drift=1,
    )
    return script


def simulate(folder: Path, name: str, starts: list[Array], steps: int) -> list[data.Trajectory]:
    """Runs in.cluster with a model from each start."""
    for k, x in enumerate(starts, 1):
        write_start(folder / f"{name}_{k}.data", x)
    variables = {"model": f"{name}.mlmod_params", "name": name, "dt": DT}
    words = ["-log", f"log.{name}", "-screen", "none"]
    for key, value in {**variables, "runs": len(starts), "steps": steps}.items():
        words += ["-var", key, str(value)]
    if lammps.run("in.cluster", args=words, folder=folder) != 0:
        raise SystemExit(f"LAMMPS failed:\n{(folder / f'log.{name}').read_text()[-2000:]}")
    dumps = [folder / f"{name}_{k}.dump" for k in range(1, len(starts) + 1)]
    return [data.read_trajectory(dump, format="lammps-dump") for dump in dumps]


def steps_of(run: data.Trajectory) -> tuple[Array, Array, Array]:
    """Positions, forces and displacements of the steps of a run, each (steps, n, 3)."""
    assert run.forces is not None
    return run.positions[:-1], run.forces[:-1], np.diff(run.positions, axis=0)


# -- learning -------------------------------------------------------------------------------------
class Displacements:
    """Likelihood of displacements of whole clusters: dx ~ N(0, 2 M dt) to first order in dt.

    Its logarithm holds the resistance M^-1 = M_RPY^-1 + R alone: no mobility is ever formed, and
    the force drops out (its cross term M^-1 M f does not depend on what is learned).
    """

    def __init__(self, runs: list[data.Trajectory]) -> None:
        found = [steps_of(run) for run in runs]
        self.x = torch.from_numpy(np.concatenate([x for x, _, _ in found]))
        moved = np.concatenate([d for _, _, d in found])
        self.moved = torch.from_numpy(moved).reshape(len(moved), -1, 1)
        self.far = torch.cholesky_inverse(torch.linalg.cholesky(rpy(self.x)))

    @property
    def size(self) -> int:
        return len(self.x)

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        """Mean negative log likelihood, but for a constant."""
        resistance = self.far[samples] + module.resistance(self.x[samples])
        d = self.moved[samples]
        square = (d * (resistance @ d)).sum((1, 2)) / (4 * DT)
        half = torch.linalg.cholesky(resistance).diagonal(dim1=1, dim2=2).log().sum(1)
        return (square - half).mean()

    def validation(self, module: torch.nn.Module) -> float | None:
        return None

    def identity(self) -> str:
        return f"{self.size} displacements"


def learn(runs: list[data.Trajectory], epochs: int) -> LearnedNearField:
    """The near field that makes the displacements most likely."""
    torch.manual_seed(1)
    near = LearnedNearField()
    options = training.TrainingOptions(
        epochs=epochs, learning_rate=1e-2, batch_size=250, patience=None
    )
    training.train(Mobility(near), Displacements(runs), options)
    return near


# -- results --------------------------------------------------------------------------------------
def errors(learned: torch.nn.Module, n: int, count: int) -> tuple[float, float]:
    """Relative error (Frobenius) of RPY alone and of the learned mobility in dense clusters."""
    x = torch.from_numpy(np.stack([dense(n, 2.02, 1000 + k) for k in range(count)]))
    true, far, found = Mobility(TrueNearField()).matrix(x), rpy(x), Mobility(learned).matrix(x)
    scale = torch.linalg.norm(true, dim=(1, 2))
    rpy_error, error = (torch.linalg.norm(m - true, dim=(1, 2)) / scale for m in (far, found))
    return float(rpy_error.mean()), float(error.mean())


def smallest_eigenvalues(script: torch.jit.ScriptModule, count: int) -> Array:
    """(count, 2) of clusters whose spheres overlap: number of spheres, eigenvalue of the file's M."""
    rows = []
    for k in range(count):
        n = 5 + k % 36
        x = cluster(n, 0.8, (1.2 * n) ** (1 / 3) + 1, k)
        m = script(torch.from_numpy(x.reshape(-1, 1)).float()).double().reshape(3 * n, 3 * n)
        rows.append([n, float(torch.linalg.eigvalsh(m)[0])])
    return np.array(rows)


def standard_errors(run: data.Trajectory, script: torch.jit.ScriptModule) -> Array:
    """Covariance of the whitened steps of a run minus I, in standard errors; lower triangle."""
    x, f, moved = (torch.from_numpy(a).reshape(len(a), -1, 1) for a in steps_of(run))
    m = torch.cat([script.matrix(row.reshape(1, -1, 3)) for row in x])
    noise = torch.linalg.solve_triangular(
        torch.linalg.cholesky(m), moved - DT * (m @ f), upper=False
    )
    white = (noise[..., 0] / math.sqrt(2 * DT)).numpy()
    count, width = white.shape
    covariance = white.T @ white / count
    error = np.sqrt((1 + np.eye(width)) / count)
    return np.asarray(((covariance - np.eye(width)) / error)[np.tril_indices(width)])


def strengths(near: torch.nn.Module, gaps: Array, crowded: bool) -> Array:
    """(len(gaps), 2) of a pair, alone or with four spheres around it."""
    rows = []
    for gap in gaps:
        r = 2 + gap
        ring = [[r / 2, 2.2 * math.cos(t), 2.2 * math.sin(t)] for t in (0, 1.6, 3.1, 4.7)]
        x = torch.tensor([[0.0, 0, 0], [r, 0, 0], *(ring if crowded else [])]).double()
        distance = torch.cdist(x, x) + 1e30 * torch.eye(len(x), dtype=x.dtype)
        rows.append(near(distance[None])[0, 0, 1].tolist())
    return np.array(rows)


def plot(path: Path, near: torch.nn.Module, eigenvalues: Array, deviations: Array) -> None:
    """Near field, smallest eigenvalues, covariance of steps."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    gaps = np.linspace(0.02, CUTOFF - 2, 80)
    for crowded, color in ((False, "tab:blue"), (True, "tab:orange")):
        true, found = (strengths(m, gaps, crowded) for m in (TrueNearField(), near))
        name = "with four neighbors" if crowded else "a pair alone"
        left.plot(gaps, true[:, 0], color="black", lw=3, alpha=0.3)
        left.plot(gaps, found[:, 0], color=color, label=f"{name}: approach")
        left.plot(gaps, true[:, 1], color="black", lw=3, alpha=0.3)
        left.plot(gaps, found[:, 1], "--", color=color, label=f"{name}: sliding")
    left.plot([], [], color="black", lw=3, alpha=0.3, label="true")
    left.set(yscale="log", ylim=(1e-3, 20), xlabel="gap / radius")
    left.set_ylabel("resistance / (6 pi viscosity radius)")
    left.legend()
    middle.semilogy(eigenvalues[:, 0], eigenvalues[:, 1], ".")
    middle.set(xlabel="overlapping spheres", ylabel="smallest eigenvalue of M")
    grid = np.linspace(-5, 5, 200)
    right.hist(deviations, 60, density=True, histtype="step", label="LAMMPS")
    right.plot(grid, np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), "k--", label="normal")
    right.set(xlabel="covariance of steps - 2 kT M dt, whitened / standard error")
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
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "in.cluster", out)
    x = dense(LEARNED, 1.0, 0)
    far = mobility.RPY(1.0, 1 / (6 * math.pi)).matrix(x)
    difference = np.abs(rpy(torch.from_numpy(x[None]))[0].numpy() - far).max()
    print(f"far field and mlcore.mobility.RPY differ by {difference:.1e}")

    write_model(out, "exact", TrueNearField())
    starts = [dense(LEARNED, 2.05, k) for k in range(size.runs)]
    runs = simulate(out, "exact", starts, size.steps)
    near = learn(runs, size.epochs)
    script = write_model(out, "learned", near)
    print(f"learned from {size.runs * size.steps} displacements of {LEARNED} spheres")
    for n in (LEARNED, 30):
        alone, learned = errors(near, n, 20)
        print(f"{n} spheres: error of M, RPY alone {alone:.4f}, learned {learned:.4f}")
    eigenvalues = smallest_eigenvalues(script, size.random)
    print(
        f"smallest eigenvalue in {size.random} random clusters of overlapping spheres: "
        f"{eigenvalues[:, 1].min():.2e}"
    )
    (told,) = simulate(out, "learned", [dense(LARGER, 2.05, 99)], size.covariance)
    deviations = standard_errors(told, script)
    print(
        f"covariance of {size.covariance} steps of {LARGER} spheres against 2 kT M dt: "
        f"root mean square {np.sqrt((deviations**2).mean()):.3f}, "
        f"largest {np.abs(deviations).max():.2f} standard errors of {len(deviations)} entries"
    )
    plot(out / "near_field.png", near, eigenvalues, deviations)
    print(f"picture: {out / 'near_field.png'}")


if __name__ == "__main__":
    main()
