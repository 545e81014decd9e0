"""CPU time of a large step of `fix mlcore dynamics` beside ten small ones of LAMMPS' own.

    python bench/lammps_splitting.py [--atoms 4000] [--steps 400] [--repeats 3] [--json FILE]

A Lennard-Jones liquid (density 0.8442, T about 0.7, cutoff 2.5): `fix nve` with pair_style lj/cut, ten
steps of 0.005 (skin 0.3, neighbors where atoms have moved by half of it), and one step of 0.05 by a
splitting of 4 kicks on 48 intervals, with lj/cut for thermo output alone. Its tables are those of four
small steps in one: what a step costs does not depend on what was learned.
Every figure is the difference of two runs; CPU time of all ranks is added up.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import mlcore.lammps
import numpy as np
from lammps_force import cpu_seconds
from mlcore.export import write_splitting
from mlcore.splitting import PairSplitting

STEP, SMALL, KICKS, INTERVALS = 0.05, 0.005, 4, 48
CUTOFF, CLOSEST = 2.5, 0.8
LJ = "pair_style lj/cut 2.5\npair_coeff 1 1 1 1\n"
ROWS = {
    "nve": f"neighbor 0.3 bin\n{LJ}timestep {SMALL}\nfix i all nve\n",
    "splitting": f"neighbor {{skin}} bin\n{LJ}timestep {STEP}\nfix i all mlcore dynamics lj\n",
}


def small_steps(step: float) -> PairSplitting:
    """KICKS steps of Verlet in one."""
    t = np.arange(4) / 3
    u = 1 / CUTOFF + (1 / CLOSEST - 1 / CUTOFF) * (np.arange(INTERVALS)[:, None] + t) / INTERVALS
    cubics = 48 * (u**6 - 0.5) / KICKS @ np.linalg.inv(np.vander(t, 4, increasing=True)).T
    drifts = [0.5 / KICKS, *[1 / KICKS] * (KICKS - 1), 0.5 / KICKS]
    tables = np.repeat(cubics[None, None], (KICKS + 1) // 2, 0)
    return PairSplitting(step, drifts, [1.0], tables, 1 / CUTOFF, 1 / CLOSEST)


def melt(folder: Path, atoms: int) -> None:
    cells = round((atoms / 4) ** (1 / 3))
    (folder / "in.lmp").write_text(f"""units lj
lattice fcc 0.8442
region b block 0 {cells} 0 {cells} 0 {cells}
create_box 1 b
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
{LJ}fix i all nve
run 1000
write_data liquid.data nocoeff
""")
    cpu_seconds(folder, 0, 1)


def microseconds(folder: Path, body: str, ranks: int, steps: int, repeats: int) -> float:
    """Of CPU, for one of `steps`."""
    (folder / "in.lmp").write_text(
        f"units lj\nread_data liquid.data\nneigh_modify every 1 delay 0 check yes\n{body}"
        "thermo 100000\nrun ${steps}\n"
    )
    short = steps // 10
    start = min(cpu_seconds(folder, short, ranks) for _ in range(repeats))
    whole = min(cpu_seconds(folder, short + steps, ranks) for _ in range(repeats))
    return 1e6 * (whole - start) / steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=400, help="large ones")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skins", type=float, nargs="+", default=[0.6, 0.8, 1.0])
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    mlcore.lammps.build()
    many = round(STEP / SMALL)
    found: list[dict[str, object]] = []
    print(f"{'':14s} {'ranks':>5s} {'skin':>5s} {'us/atom/0.05':>13s} {'of nve':>7s}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        melt(folder, words.atoms)
        write_splitting(folder / "lj", [small_steps(STEP / 2**k) for k in range(3)])
        atoms = 4 * round((words.atoms / 4) ** (1 / 3)) ** 3
        for ranks in (1, 2):
            reference = 0.0
            for name, body in ROWS.items():
                for skin in words.skins if name != "nve" else [0.3]:
                    factor = many if name == "nve" else 1
                    count = factor * words.steps
                    one = microseconds(folder, body.format(skin=skin), ranks, count, words.repeats)
                    value = one * factor / atoms
                    reference = reference or value
                    ratio = value / reference
                    print(
                        f"{name:14s} {ranks:5d} {skin:5.1f} {value:13.3f} {ratio:7.2f}", flush=True
                    )
                    found.append({"run": name, "ranks": ranks, "skin": skin, "us": value})
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
