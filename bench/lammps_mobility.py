"""CPU time per step of `fix mlmod` in stock LAMMPS, one thread, open boundaries.

    python bench/lammps_mobility.py [--particles 200] [--steps 200] [--json FILE]

Every figure is the difference of two runs, so starting LAMMPS and loading models does not count;
the smallest of `--repeats` is printed beside the bar it must stay below (n = 200 only).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import mlcore.lammps
import numpy as np
import torch
from mlcore.export import write_bundle
from mlcore.lammps.run import command, environment_variables
from mlcore.mobility.tensors import PairMobility

RADIUS, VISCOSITY = 0.4, 1.0
SELF = 1 / (6 * math.pi * VISCOSITY * RADIUS)
DETERMINISTIC, STOCHASTIC = "dX_MF_ML1", "dX_MF_Q1_ML1_Pair"
BARS = {
    "traced rpy, dX_MF_ML1": 4.0,
    "traced oseen, dX_MF_ML1": 4.0,
    "traced rpy, stochastic": 12.0,
    "native, dX_MF_ML1": 2.0,
    "native, stochastic": 6.0,
}


def self_part(x: torch.Tensor) -> torch.Tensor:
    return (SELF * torch.eye(3) + 0 * x[0]).reshape(9, 1)


def rpy(z: torch.Tensor) -> torch.Tensor:
    r = z[3:6, 0] - z[0:3, 0]
    square = (r * r).sum()
    d = torch.sqrt(square)
    rr, one, a = torch.outer(r, r) / square, torch.eye(3), RADIUS
    far = (1 + 2 * a * a / (3 * square)) * one + (1 - 2 * a * a / square) * rr
    near = (1 - 9 * d / (32 * a)) * one + 3 * d / (32 * a) * rr
    return torch.where(d > 2 * a, far / (8 * math.pi * VISCOSITY * d), SELF * near).reshape(9, 1)


def oseen(z: torch.Tensor) -> torch.Tensor:
    r = z[3:6, 0] - z[0:3, 0]
    d = torch.sqrt((r * r).sum())
    block = (torch.eye(3) + torch.outer(r, r) / (d * d)) / (8 * math.pi * VISCOSITY * d)
    return block.reshape(9, 1)


def write_models(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(self_part, torch.rand(3, 1)).save(str(folder / "M_ii.pt"))
        for function in (rpy, oseen):
            traced = torch.jit.trace(function, torch.rand(6, 1))
            traced.save(str(folder / f"{function.__name__}.pt"))

    def gaussian(r: np.ndarray) -> np.ndarray:  # positive definite in space
        return 0.3 * SELF * np.exp(-((r / 1.5) ** 2))

    mobility = PairMobility.from_functions(SELF, 9.0, gaussian, gaussian)
    write_bundle(folder / "bundle", mobility, units="lj", training={})


def parameters(mode: str, pair: str) -> str:
    tags = (
        {"bundle": "bundle"}
        if pair == "native"
        else {"M_ii_filename": "M_ii.pt", "M_ij_filename": f"{pair}.pt"}
    )
    if mode == STOCHASTIC:
        tags |= {"delta": "1e-3", "KBT": "0.1", "flag_stochastic": "1", "flag_thm_drift": "0"}
    body = "".join(f'<{tag} value="{value}"/>' for tag, value in tags.items())
    return f'<MLMOD><model_data type="{mode}">{body}</model_data></MLMOD>'


def script(n: int) -> str:
    length = (n / 0.025) ** (1 / 3)
    return f"""units lj
boundary f f f
region b block 0 {length} 0 {length} 0 {length}
create_box 1 b
region inner block 0.5 {length - 0.5} 0.5 {length - 0.5} 0.5 {length - 0.5}
create_atoms 1 random {n} 4711 inner overlap 1.0 maxtry 2000
mass 1 1.0
pair_style lj/cut 1.122462
pair_coeff 1 1 1.0 1.0
timestep 1e-4
fix m all mlmod model.xml verbose 0
thermo 100000
run ${{steps}}
"""


def cpu_seconds(folder: Path, steps: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["-in", "in.lmp", "-log", "none", "-screen", "none", "-var", "steps", str(steps)]
    subprocess.run(
        [*command(1), *words],
        cwd=folder,
        env=environment_variables({"OMP_NUM_THREADS": "1"}),
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def milliseconds_per_step(folder: Path, steps: int, repeats: int) -> float:
    short = max(steps // 10, 10)
    start = min(cpu_seconds(folder, short) for _ in range(repeats))
    whole = min(cpu_seconds(folder, short + steps) for _ in range(repeats))
    return 1e3 * (whole - start) / steps


def measure(n: int, steps: int, repeats: int, report: Callable[[str, float], None]) -> None:
    mlcore.lammps.build()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        (folder / "in.lmp").write_text(script(n))
        for pair in ("rpy", "oseen", "native"):
            for mode in (DETERMINISTIC, STOCHASTIC):
                if (pair, mode) == ("oseen", STOCHASTIC):
                    continue  # not positive definite
                (folder / "model.xml").write_text(parameters(mode, pair))
                title = "native" if pair == "native" else f"traced {pair}"
                title += ", stochastic" if mode == STOCHASTIC else f", {mode}"
                report(title, milliseconds_per_step(folder, steps, repeats))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--particles", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, float] = {}

    def report(title: str, value: float) -> None:
        figures[title] = value
        bar = f"  bar {BARS[title]:5.1f}" if options.particles == 200 else ""
        print(f"{title:28s} {value:8.2f} ms CPU per step{bar}", flush=True)

    measure(options.particles, options.steps, options.repeats, report)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    missed = options.particles == 200 and any(figures[name] > bar for name, bar in BARS.items())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
