"""CPU time of neighbor lists beside ASE, matscipy and vesin (where installed), one thread.

    python bench/neighbors.py [--sizes 1000,10000] [--repeats 9] [--json FILE]

Lennard-Jones liquid density 0.8442, cutoff 2.5, particles in random order; copper crystal, 5 A.
Calls of all libraries alternate; the smallest time of each is kept. A ratio is the time of the
fastest peer over that of mlcore in the same run. Every peer's number of pairs is compared too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ase.build
import ase.neighborlist
import mlcore
import numpy as np
from matscipy.neighbours import neighbour_list as matscipy_list

DENSITY, CUTOFF = 0.8442, 2.5
SLOW_PEERS_UP_TO = 10_000  # ase and matscipy beyond that say nothing new and take long
Call = Callable[[], int]


def length(arrays: Any) -> int:
    return len(arrays[0])


def peers(quantities: str, atoms: ase.Atoms, cutoff: float, half: bool) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    if not half and len(atoms) <= SLOW_PEERS_UP_TO:
        calls["ase"] = lambda: length(ase.neighborlist.neighbor_list(quantities, atoms, cutoff))
        calls["matscipy"] = lambda: length(matscipy_list(quantities, atoms, cutoff))
    if importlib.util.find_spec("vesin"):
        from vesin import NeighborList

        x, cell, pbc = atoms.positions, atoms.cell[:], atoms.pbc.tolist()
        lists = NeighborList(cutoff=cutoff, full_list=not half)
        calls["vesin"] = lambda: length(lists.compute(x, cell, pbc, quantities, copy=False))
    return calls


def least_times(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    pairs = {name: call() for name, call in calls.items()}
    if len(set(pairs.values())) != 1:
        raise SystemExit(f"the libraries disagree on the number of pairs: {pairs}")
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def compare(
    name: str, atoms: ase.Atoms, cutoff: float, quantities: str, half: bool, repeats: int
) -> dict[str, Any]:
    def ours(sort: bool) -> Call:
        return lambda: length(
            mlcore.neighbor_list(quantities, atoms, cutoff, half=half, sorted=sort, num_threads=1)
        )

    calls = {
        "mlcore": ours(True),
        "mlcore unsorted": ours(False),
        **peers(quantities, atoms, cutoff, half),
    }
    return report(name, least_times(calls, repeats))


def report(name: str, seconds: dict[str, float]) -> dict[str, Any]:
    others = {peer: t for peer, t in seconds.items() if not peer.startswith("mlcore")}
    print(f"{name:34}" + "".join(f"  {peer} {1e3 * t:.3g} ms" for peer, t in seconds.items()))
    row: dict[str, Any] = {"case": name, "seconds": seconds}
    if others:
        best = min(others, key=lambda peer: others[peer])
        row["ratio"] = {
            label: others[best] / t for label, t in seconds.items() if label not in others
        }
        text = ", ".join(f"{label} {ratio:.1f}x" for label, ratio in row["ratio"].items())
        print(f"{'':34}  faster than {best}: {text}")
    return row


def liquid(n: int, pbc: Any = True, shear: float = 0.0) -> ase.Atoms:
    edge = (n / DENSITY) ** (1 / 3)
    cell = edge * np.array([[1, 0, 0], [shear, 1, 0], [shear, -shear, 1]])
    x = np.random.default_rng(0).uniform(size=(n, 3)) @ cell
    return ase.Atoms(f"Ar{n}", positions=x, cell=cell, pbc=pbc)


def reuse(n: int, skin: float, repeats: int) -> dict[str, Any]:
    """One step of a moving system whose list need not be searched anew."""
    atoms = liquid(n)
    x, cell = atoms.positions, atoms.cell[:]
    neighbors = mlcore.NeighborList(CUTOFF, skin, sorted=False, num_threads=1)

    def ours() -> int:
        neighbors.update(x, cell, True)
        return length(neighbors.get("ijSDd"))

    calls: dict[str, Call] = {"mlcore": ours}
    if importlib.util.find_spec("vesin"):
        from vesin import NeighborList

        lists = NeighborList(cutoff=CUTOFF, full_list=True, skin=skin)
        calls["vesin"] = lambda: length(lists.compute(x, cell, True, "ijSDd", copy=False))
    return report(f"LJ {n}, reuse with skin {skin}", least_times(calls, repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000", help="numbers of particles")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    print(f"instruction set {mlcore._core.simd_level()}")
    rows = []
    for n in map(int, options.sizes.split(",")):
        cases = {
            f"LJ {n}, full ijSDd": (liquid(n), "ijSDd", False),
            f"LJ {n}, half ij": (liquid(n), "ij", True),
            f"LJ {n} triclinic, full ijSDd": (liquid(n, shear=0.3), "ijSDd", False),
            f"LJ {n} pbc TTF, full ijSDd": (liquid(n, (1, 1, 0)), "ijSDd", False),
        }
        for name, (atoms, quantities, half) in cases.items():
            rows.append(compare(name, atoms, CUTOFF, quantities, half, options.repeats))
        rows.append(reuse(n, 0.3, options.repeats))
    copper = ase.build.bulk("Cu", cubic=True) * 10
    copper.rattle(0.05, seed=1)
    rows.append(compare("Cu 4000, 5 A, full ijSDd", copper, 5.0, "ijSDd", False, options.repeats))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
