"""CPU time per step of `fix mlcore force` in stock LAMMPS beside LAMMPS' own pair_style table.

    python bench/lammps_force.py [--atoms 10000] [--large 100000] [--steps 200] [--json FILE]

A Lennard-Jones liquid (density 0.8442, cutoff 2.5, skin 0.3, new neighbors every 20 steps, NVE) with
the pair energy as LAMMPS' table, as the same table of a bundle, and beside that as a perceptron of
the distance through libtorch (.pt and .pt2, single precision). Every figure is the difference of
two runs, so starting LAMMPS and loading models does not count; CPU time of all ranks is added up.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import mlcore.lammps
import numpy as np
import torch
from mlcore.export import Contract, PairTable, write_model
from mlcore.lammps.run import command, environment_variables
from mlcore.networks import register
from mlcore.networks.pair import PairEnergy

CUTOFF, FIRST = 2.5, 0.7
BARS = {"bundle's table": 5.0, "perceptron, .pt": 40.0, "perceptron, .pt2": 40.0}
FIXES = {
    "LAMMPS' table": "pair_style table linear 4000\npair_coeff 1 1 lj.table LJ",
    "bundle's table": "fix t all mlcore force table engine native verbose 0",
    "perceptron, .pt": "fix t all mlcore force table engine native verbose 0\n"
    "fix p all mlcore force perceptron engine torchscript verbose 0",
    "perceptron, .pt2": "fix t all mlcore force table engine native verbose 0\n"
    "fix p all mlcore force perceptron engine compiled verbose 0",
}


@register("bench.DistancePerceptron")
class DistancePerceptron(torch.nn.Module):
    """u(r) = scale (1 - r/rc)^2 layers(r), three layers of tanh; half of it to each atom."""

    arguments: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        super().__init__()
        sizes = ((1, 16), (16, 16), (16, 1))
        self.layers = torch.nn.ModuleList(torch.nn.Linear(*size) for size in sizes)
        self.scale = 1e-9  # costs its time and leaves the liquid as it is

    def forward(
        self, D: torch.Tensor, i: torch.Tensor, j: torch.Tensor, types: torch.Tensor
    ) -> torch.Tensor:
        r = torch.linalg.vector_norm(D, dim=1)
        h = r[:, None]
        for layer in self.layers[:-1]:
            h = torch.tanh(layer(h))
        u = self.layers[-1](h)[:, 0] * torch.clamp(1 - r / CUTOFF, min=0.0) ** 2
        return torch.zeros_like(types, dtype=D.dtype).index_add(0, i, 0.5 * self.scale * u)


def lennard_jones(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    six = r**-6.0
    return 4 * (six * six - six), -24 * (2 * six * six - six) / r


def write_models(folder: Path, compiled: bool) -> None:
    r = np.linspace(FIRST, CUTOFF, 4000)
    energy, slope = lennard_jones(r)
    rows = "\n".join(
        f"{k} {a:.12g} {u:.12g} {-s:.12g}"
        for k, (a, u, s) in enumerate(zip(r, energy, slope, strict=True), 1)
    )
    (folder / "lj.table").write_text(f"LJ\nN {len(r)} R {FIRST} {CUTOFF}\n\n{rows}\n")
    contract = Contract("force", "neighbors", "energy", dtype="float64", cutoff=CUTOFF)
    table = PairTable(FIRST, CUTOFF, energy[None], slope[None])
    write_model(
        folder / "table", contract, PairEnergy(CUTOFF), native=table, tolerance=float("inf")
    )
    torch.manual_seed(0)
    network = DistancePerceptron()
    single = Contract("force", "neighbors", "energy", dtype="float32", cutoff=CUTOFF)
    write_model(folder / "perceptron", single, network, compiled=compiled)


def script(atoms: int, force: str) -> str:
    cells = round((atoms / 4) ** (1 / 3))
    return f"""units lj
atom_style atomic
lattice fcc 0.8442
region b block 0 {cells} 0 {cells} 0 {cells}
create_box 1 b
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
neighbor 0.3 bin
neigh_modify delay 0 every 20 check no
{force}
fix i all nve
thermo 100000
run ${{steps}}
"""


def cpu_seconds(folder: Path, steps: int, ranks: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["-in", "in.lmp", "-log", "none", "-screen", "none", "-var", "steps", str(steps)]
    subprocess.run(
        [*command(ranks), *words],
        cwd=folder,
        env=environment_variables({"OMP_NUM_THREADS": "1"}),
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def microseconds_per_atom(
    folder: Path, name: str, atoms: int, ranks: int, steps: int, repeats: int
) -> float:
    (folder / "in.lmp").write_text(script(atoms, FIXES[name]))
    if name.startswith("perceptron"):
        steps = max(steps // 10, 10)
    short = 20
    start = min(cpu_seconds(folder, short, ranks) for _ in range(repeats))
    whole = min(cpu_seconds(folder, short + steps, ranks) for _ in range(repeats))
    count = 4 * round((atoms / 4) ** (1 / 3)) ** 3
    return 1e6 * (whole - start) / steps / count


def measure(words: argparse.Namespace, report: Callable[..., None]) -> None:
    names = [name for name in FIXES if words.compiled or not name.endswith("pt2")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_models(folder, words.compiled)
        for atoms in (words.atoms, words.large):
            for name in names if atoms == words.atoms else names[:2]:
                report(name, atoms, 1, microseconds_per_atom(
                    folder, name, atoms, 1, words.steps, words.repeats))  # fmt: skip
        for ranks in (2, 4):
            for name in names[:3]:
                atoms = words.atoms * ranks
                report(name, atoms, ranks, microseconds_per_atom(
                    folder, name, atoms, ranks, words.steps, words.repeats))  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=10000)
    parser.add_argument("--large", type=int, default=100000)
    parser.add_argument("--steps", type=int, default=200, help="a tenth of it with torch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="a .pt2 too (needs a compiler)")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    mlcore.lammps.build()
    found: list[dict[str, object]] = []
    reference: dict[tuple[int, int], float] = {}
    print(
        f"{'force':18s} {'atoms':>8s} {'ranks':>5s} {'us/atom/step':>13s} {'ratio':>7s} {'bar':>5s}"
    )

    def report(name: str, atoms: int, ranks: int, value: float) -> None:
        reference.setdefault((atoms, ranks), value)  # LAMMPS' own comes first
        ratio = value / reference[atoms, ranks]
        bar = BARS.get(name)
        print(
            f"{name:18s} {atoms:8d} {ranks:5d} {value:13.3f} {ratio:7.2f} {bar or '':>5}",
            flush=True,
        )
        found.append({"force": name, "atoms": atoms, "ranks": ranks, "us": value, "ratio": ratio})

    measure(words, report)
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")
    missed = [f for f in found if f["ratio"] > BARS.get(str(f["force"]), float("inf"))]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
