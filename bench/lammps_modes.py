"""CPU time per step of every mode of `fix mlmod` in stock LAMMPS, one thread, beside MLMOD's.

    python bench/lammps_modes.py [--only F_Pair] [--steps 200] [--repeats 3] [--json FILE]

Every figure is the difference of two runs, so starting LAMMPS and loading models does not count;
the smallest of `--repeats` is printed. MLMOD's times are its own, measured once on another machine
with models of the same cost; a bar is a ratio to them or a time in ms.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlcore.lammps
import torch
from lammps_mobility import (
    DETERMINISTIC,
    RADIUS,
    SELF,
    STOCHASTIC,
    VISCOSITY,
    milliseconds_per_step,
    oseen,
    parameters,
    rpy,
    script,
    self_part,
)

WHOLE = "dX_MF_Q1_ML1_N2N"
Model = Callable[[torch.Tensor], torch.Tensor]


def spring(z: torch.Tensor) -> torch.Tensor:
    return torch.cat([z[3:] - z[:3], z[:3] - z[3:]]) * 1e-6


def soft(z: torch.Tensor) -> torch.Tensor:
    r = z[3:] - z[:3]
    push = r * torch.exp(-(r * r).sum())
    return torch.cat([-push, push])


def near(z: torch.Tensor) -> torch.Tensor:
    """Vanishes at distance 2.5."""
    r = z[3:] - z[:3]
    push = 0.1 * r * torch.clamp(6.25 - (r * r).sum(), min=0.0)
    return torch.cat([-push, push])


def whole_rpy(z: torch.Tensor) -> torch.Tensor:
    """The matrix of all particles at once, batched by its author."""
    x, one = z.reshape(-1, 3), torch.eye(3)
    n = x.shape[0]
    r = x[None] - x[:, None]
    square = (r * r).sum(-1) + torch.eye(n)
    d = torch.sqrt(square)[..., None, None]
    rr, a = r[..., None] * r[..., None, :] / square[..., None, None], RADIUS
    far = (1 + 2 * a * a / (3 * d * d)) * one + (1 - 2 * a * a / (d * d)) * rr
    near = (1 - 9 * d / (32 * a)) * one + 3 * d / (32 * a) * rr
    blocks = torch.where(d > 2 * a, far / (8 * math.pi * VISCOSITY * d), SELF * near)
    own = torch.eye(n)[..., None, None]
    blocks = (1 - own) * blocks + own * SELF * one
    return blocks.permute(0, 2, 1, 3).reshape(-1, 1)


def trap(z: torch.Tensor) -> torch.Tensor:
    return -1e-3 * z


def still(z: torch.Tensor) -> torch.Tensor:
    """Positions and velocities of all, as they are."""
    return z + 0.0


@dataclass(frozen=True)
class Workload:
    title: str
    mode: str
    n: int
    models: dict[str, tuple[Model, int]]  # file: function, inputs
    theirs: float | None = None  # MLMOD, seconds per step
    ratio: float | None = None  # at least this many times faster
    limit: float | None = None  # ms
    tags: tuple[tuple[str, str], ...] = ()
    nve: bool = False


def pair_mobility(mode: str, model: Model, n: int, theirs: float, ratio: float) -> Workload:
    files = {"M_ii.pt": (self_part, 3), f"{model.__name__}.pt": (model, 6)}
    return Workload(f"{mode} {model.__name__}", mode, n, files, theirs, ratio)


def whole(n: int, theirs: float) -> Workload:
    return Workload(f"{WHOLE} rpy", WHOLE, n, {"M.pt": (whole_rpy, 3 * n)}, theirs)


def force(mode: str, model: Model, n: int, atoms: int, **more: object) -> Workload:
    files = {"F.pt": (model, 3 * atoms)}
    return Workload(f"{mode} {model.__name__}", mode, n, files, nve=True, **more)  # type: ignore[arg-type]


WORKLOADS = [
    *(
        pair_mobility(DETERMINISTIC, rpy, n, theirs, 80 if n == 200 else 0)
        for n, theirs in ((20, 4.9e-3), (50, 3.0e-2), (100, 0.122), (200, 0.488))
    ),
    pair_mobility(DETERMINISTIC, oseen, 200, 0.280, 80),
    *(
        pair_mobility(STOCHASTIC, rpy, n, theirs, 130 if n == 200 else 0)
        for n, theirs in ((20, 1.9e-2), (50, 0.121), (100, 0.50), (200, 1.97))
    ),
    *(whole(n, theirs) for n, theirs in ((20, 4.0e-4), (50, 1.0e-3), (100, 6e-3), (200, 2.5e-2))),
    Workload("dX_MF", "dX_MF", 200, {}),
    force("F_Pair_ML1", spring, 200, 2, theirs=0.123, ratio=80, limit=2.5),
    force("F_Pair_ML1", soft, 200, 2, limit=2.5),
    *(force("F_Pair_ML1", near, n, 2, tags=(("cutoff", "2.5"),)) for n in (1_000, 10_648, 97_336)),
    force("F_X_ML1", trap, 1000, 1, theirs=2.6e-3),
    force("F_ML1", trap, 1000, 1000),
    Workload("Dyn_ML1", "Dyn_ML1", 1000, {"F.pt": (still, 6000)}),
    Workload("QoI_ML1", "QoI_ML1", 1000, {"F.pt": (lambda z: z[:3] + z[-3:], 3000)}, nve=True),
]


def xml(work: Workload) -> str:
    if work.mode in (DETERMINISTIC, STOCHASTIC):
        return parameters(work.mode, [*work.models][-1].removesuffix(".pt"))
    if work.mode == WHOLE:
        tags = {"M_filename": "M.pt", "delta": "1e-3", "KBT": "0.1"}
        return written(work.mode, tags | {"flag_stochastic": "1", "flag_thm_drift": "0"})
    if work.mode == "dX_MF":
        return written(work.mode, {"eta": "1.0", "a": "0.4", "epsilon": "0.1"})
    tags = {"base_name": "b", "base_dir": "out", "mask_fix": "FINAL_INTEGRATE"}
    tags["mask_input"] = "X V" if work.mode == "Dyn_ML1" else "X"
    for name in ("F_filename", "dyn1_filename", "dyn2_filename", "qoi_filename"):
        tags[name] = "F.pt"
    tags |= dict(work.tags)
    return written(work.mode, tags)


def written(mode: str, tags: dict[str, str]) -> str:
    body = "".join(f'<{tag} value="{value}"/>' for tag, value in tags.items())
    return f'<MLMOD><model_data type="{mode}">{body}</model_data></MLMOD>'


def on_lattice(n: int) -> str:
    """A periodic liquid of round(n^(1/3))^3 atoms that move and are sorted into new lists."""
    side = round(n ** (1 / 3))
    return f"""units lj
lattice sc 0.4
region b block 0 {side} 0 {side} 0 {side}
create_box 1 b
create_atoms 1 box
mass 1 1.0
pair_style zero 1.0
pair_coeff * *
velocity all create 1.0 4711
neighbor 0.4 bin
timestep 0.005
fix m all mlmod model.xml verbose 0
thermo 100000
run ${{steps}}
"""


def prepare(folder: Path, work: Workload) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file, (model, inputs) in work.models.items():
            torch.jit.trace(model, torch.rand(inputs, 1)).save(str(folder / file))
    (folder / "model.xml").write_text(xml(work))
    text = script(work.n) if work.n <= 400 else on_lattice(work.n)
    if work.nve:
        text = text.replace("thermo 100000", "fix move all nve\nthermo 100000")
    (folder / "in.lmp").write_text(text)


def verdict(work: Workload, ms: float) -> tuple[str, bool]:
    words, held = [], True
    if work.theirs:
        ratio = 1e3 * work.theirs / ms
        words.append(f"MLMOD {1e3 * work.theirs:8.2f} ms, {ratio:6.0f} x")
        if work.ratio:
            held = held and ratio >= work.ratio
            words.append(f"bar {work.ratio:.0f} x")
    if work.limit:
        held = held and ms <= work.limit
        words.append(f"bar {work.limit} ms")
    if work.ratio or work.limit:
        words.append("held" if held else "MISSED")
    return ", ".join(words), held


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of a title")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    mlcore.lammps.build()
    figures: dict[str, float] = {}
    all_held = True
    for work in WORKLOADS:
        if options.only not in work.title:
            continue
        steps = max(20, min(5 * options.steps, options.steps * 10_000 // work.n))
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), work)
            ms = milliseconds_per_step(Path(name), steps, options.repeats)
        text, held = verdict(work, ms)
        all_held = all_held and held
        figures[f"{work.title}, n = {work.n}"] = ms
        print(f"{work.title:24s} n = {work.n:6d} {ms:9.3f} ms  {text}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all_held else 1


if __name__ == "__main__":
    sys.exit(main())
