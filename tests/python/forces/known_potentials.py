"""Configurations with forces of known potentials, and what every learned force must hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, fcc100, fcc111
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet
from mlcore import neighbor_list

CUTOFF = 2.5
LJ = {"sigma": 1.0, "epsilon": 1.0, "rc": CUTOFF, "ro": 2.0, "smooth": True}


def rattled(rng: np.random.Generator, cells: int = 3) -> Atoms:
    """A crystal, dilute to dense, its atoms moved at random."""
    atoms = bulk("Ar", "fcc", a=rng.uniform(1.6, 1.8), cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, rng=rng)
    return atoms


def lj_frames(count: int, seed: int = 0, shift: float = 0.0) -> list[Atoms]:
    """Crystals with Lennard-Jones forces and energies, the latter shifted by so much an atom."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = rattled(rng)
        atoms.calc = LennardJones(**LJ)
        energy, forces = atoms.get_potential_energy() + shift * len(atoms), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        found.append(atoms)
    return found


def lj_pair(r: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
    """Energy and slope of the pair potential of `lj_frames`."""
    rows = []
    for distance in r:
        pair = Atoms("Ar2", positions=[[0, 0, 0], [distance, 0, 0]], calculator=LennardJones(**LJ))
        rows.append((pair.get_potential_energy(), pair.get_forces()[0, 0]))
    found = np.array(rows).T
    return found[0], found[1]


def charged_pair(r: np.ndarray, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy and slope of a screened repulsion of strength 1, 3 and 8 for pairs 0, 1 and 2."""
    strength = np.array([1.0, 3.0, 8.0])[pair]
    fade = 1 - (r / CUTOFF) ** 2
    u = strength * np.exp(-2 * r) * fade**3
    slope = strength * np.exp(-2 * r) * fade**2 * (-2 * fade - 6 * r / CUTOFF**2)
    return u, slope


def charged_frames(count: int, seed: int = 0) -> list[Atoms]:
    """Crystals of two kinds of atoms, mixed at random, with the forces of `charged_pair`."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = rattled(rng)
        atoms.symbols[rng.random(len(atoms)) < 0.5] = "Kr"
        kind = (atoms.symbols == "Kr").astype(int)
        i, j, d, D = neighbor_list("ijdD", atoms, CUTOFF)
        u, slope = charged_pair(d, kind[i] + kind[j])
        atoms.info["energy"] = 0.5 * u.sum()
        atoms.arrays["forces"] = np.zeros((len(atoms), 3))
        np.add.at(atoms.arrays["forces"], i, (slope / d)[:, None] * D)
        found.append(atoms)
    return found


def bond_frames(count: int, seed: int = 0) -> list[Atoms]:
    """Crystals whose atoms bind less the more neighbors they have, and prefer an angle."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Cu", "fcc", a=2.0 * rng.uniform(0.95, 1.1), cubic=True) * (2, 2, 2)
        atoms.rattle(0.12, rng=rng)
        x = torch.tensor(atoms.positions, requires_grad=True)
        energy = _bond_energy(x, float(atoms.cell.lengths()[0]))
        (slope,) = torch.autograd.grad(energy, x)
        calc = SinglePointCalculator(atoms, energy=energy.item(), forces=-slope.numpy())
        atoms.calc = calc
        found.append(atoms)
    return found


def _bond_energy(x: torch.Tensor, side: float, reach: float = 1.9) -> torch.Tensor:
    d = x[None] - x[:, None]
    d = d - torch.round(d / side) * side
    own = torch.eye(len(x), dtype=torch.bool)
    r = torch.sqrt((d * d).sum(-1) + own)
    near = torch.where((r < reach) & ~own, (1 - (r / reach) ** 2).clamp(min=0) ** 3, 0.0)
    density = (near * torch.exp(1 - r)).sum(1) + 1e-3
    u = d / r[..., None]
    cosine = torch.einsum("ija,ika->ijk", u, u)
    bent = (near[:, :, None] * near[:, None, :] * (cosine + 1 / 3) ** 2 * ~own).sum()
    return 2 * near.sum() - 2 * torch.sqrt(density).sum() + 0.5 * bent


def copper_frames(count: int, seed: int = 0) -> list[Atoms]:
    """Copper as ASE's EMT sees it: crystals, crystals with vacancies, and surfaces in turn, strained
    by up to 8 %, at 300 to 1500 K."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        a = 3.61 * (1 + rng.uniform(-0.08, 0.08))
        if number % 3 == 2:
            build = fcc100 if rng.random() < 0.5 else fcc111
            atoms = build("Cu", (2, 2, 5), a=a, vacuum=5.0)
        else:
            atoms = bulk("Cu", "fcc", a=a, cubic=True) * (2, 2, 2)
        if number % 3 == 1:
            del atoms[rng.choice(len(atoms), rng.integers(1, 4), replace=False)]
        atoms.calc = EMT()
        # from rest places half of the energy soon becomes potential
        heat = 2 * units.kB * rng.uniform(300, 1500)
        atoms.set_momenta(
            np.sqrt(heat * atoms.get_masses())[:, None] * rng.normal(size=(len(atoms), 3))
        )
        VelocityVerlet(atoms, 5 * units.fs).run(20)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        found.append(atoms)
    return found


def forces_by_differences(model: Any, atoms: Atoms, step: float = 1e-4) -> np.ndarray:
    """(3, 3) forces on the first three atoms from energies alone."""
    found = np.zeros((3, 3))
    for k in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[k] += sign * step
            energies.append(model.energy(moved))
        found[k] = -(energies[0] - energies[1]) / (2 * step)
    return found


def check_symmetries(model: Any, atoms: Atoms) -> None:
    """Shifts, turns, exchanges of equal atoms; no net force; no net torque of a cluster."""
    energy, forces = model.energy(atoms), model.forces(atoms)
    scale = np.abs(forces).max()
    assert np.abs(forces.sum(0)).max() < 1e-10 * scale * len(atoms)
    shifted = atoms.copy()
    shifted.positions += [0.3, -7.0, 11.0]
    np.testing.assert_allclose(model.energy(shifted), energy, rtol=1e-10)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ turn)
    turned.positions = atoms.positions @ turn
    np.testing.assert_allclose(model.energy(turned), energy, rtol=1e-10)
    np.testing.assert_allclose(model.forces(turned), forces @ turn, atol=1e-9 * scale)
    order = np.random.default_rng(6).permutation(len(atoms))
    np.testing.assert_allclose(model.energy(atoms[order]), energy, rtol=1e-10)
    np.testing.assert_allclose(model.forces(atoms[order]), forces[order], atol=1e-9 * scale)
    cluster = atoms.copy()
    cluster.pbc = False
    push = model.forces(cluster)
    torque = np.cross(cluster.positions, push).sum(0)
    assert np.abs(torque).max() < 1e-9 * np.abs(push).max() * len(atoms)
