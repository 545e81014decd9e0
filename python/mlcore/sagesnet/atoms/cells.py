"""Cells of atoms: what is in the slots of a cell becomes its vector, which moves the atoms on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.around import around, mean_by_row
from mlcore.sagesnet.atoms.bonds import Bonds, Neighbours, neighbours
from mlcore.sagesnet.atoms.counted import blocks_of, lacking, likeliest
from mlcore.sagesnet.atoms.lattice import AtomLattice, DenseAtomLattice, atom_lattice, held
from mlcore.sagesnet.atoms.reading import Reader, SlotScores
from mlcore.sagesnet.atoms.slots import slots
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.sagesnet.atoms.thermostat import Thermostat
from mlcore.sagesnet.atoms.turned import turned
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.lattice import Lattice
from mlcore.sagesnet.symmetry import Symmetry

__all__ = ["AtomCells", "Scales"]

_ACCELERATION = 9.648533212e-3
"""A/fs^2 of a mass of 1 u that 1 eV/A pulls at."""
_SMALL = 0.02  # of squared errors, in parts of changes, below which they count as they are
_SKIN = 0.05  # A, beyond what atoms move in a step, within which others are looked for


@dataclass(frozen=True)
class Scales:
    """Root mean squares of a component, the units of what a net is told and tells.

    Attributes:
        velocity: A/fs, of velocities.
        step: A, of what a step leads away from x + v dt.
        change: A/fs, of the change of a velocity in a step.
    """

    velocity: float = 0.01
    step: float = 0.01
    change: float = 0.01

    @classmethod
    def of(cls, runs: Sequence[Sequence[AtomState]], dt: float) -> Scales:
        """Those of runs of states ``dt`` fs apart.

        Raises:
            InvalidArgument: no run has two states, or nothing moves in them.
        """
        pairs = [(a, a.matched(b)) for run in runs for a, b in pairwise(run)]
        if not pairs:
            raise InvalidArgument("runs: none has two states")
        velocity = torch.cat([a.velocity[a.free] for a, _ in pairs])
        step = torch.cat([(a.displacement(b) - a.velocity * dt)[a.free] for a, b in pairs])
        change = torch.cat([(b.velocity - a.velocity)[a.free] for a, b in pairs])
        found = [float(x.double().square().mean().sqrt()) for x in (velocity, step, change)]
        if not all(math.isfinite(x) and x > 0 for x in found):
            raise InvalidArgument(f"runs: nothing to learn, scales are {found}")
        return cls(*found)


class AtomCells(Cells[AtomState]):
    """Cells that hold atoms; see `AtomGrid` and `AtomState`.

    A cell's vector is made of all of its atoms by a network for each and a sum, so their order says
    nothing; an empty one's is zero. A step takes each atom by x + v dt and what a network reads of
    the predicted vector of its cell, and sorts it into the cell where it ends, in whole numbers:
    atoms are neither lost nor made. Corrections are held within ``limit`` scales and velocities
    within as many of theirs, so no run ends in infinite numbers, trained or not.

    With ``kicks`` a step is no straight line but that of learned bonds (`Bonds`): so many times the
    atoms drift, are kicked by the bonds' forces, and drift on. What is read of vectors is then a
    correction of that, and without ``correction`` nothing: such steps can be turned and shifted at
    will, keep the momentum, and look at no vectors.

    A cell with more atoms than slots is no obstacle to encoding and motion, only to `read` and to
    `mlcore.sagesnet.slots`.

    Args:
        elements: atomic numbers or chemical symbols.
        dt: fs, of a step.
        channels: C.
        width: of the hidden layers of the networks.
        waves: how many multiples of pi its offset is told by, as sines and cosines.
        slots: K, most atoms that can be read of a cell.
        scales: see `Scales`, or its three numbers.
        limit: see above.
        noise: A and A/fs, standard deviation of what is added to places and velocities in training.
        shift: whether in training each system is moved somewhere else between the cells of its
            periodic axes. What is seen of few runs is else learned by heart where it lies.
        reading: weight of the autoencoder's loss beside that of motion; 0 leaves `read` untrained.
        variance: whether an error bar is predicted too, and the loss is a likelihood.
        dense: compute all cells of the box, not only those with atoms and their neighbours.
        margin: empty cells beyond an open axis of a box that is periodic along others.
        kicks: forces of bonds in a step; 0: atoms go straight.
        reach, inner, radial, order, turns: of the bonds; see `Bonds`.
        correction: whether vectors of cells move atoms beyond that.
        even: whether in the loss systems count alike, however fast they change or err.

    Attributes:
        thermostat: acts at the end of every step of a rollout; None: nothing does. See `Thermostat`.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    kind: ClassVar[str] = "atoms"

    def __init__(
        self,
        elements: Sequence[int | str] = (6,),
        dt: float = 1.0,
        channels: int = 32,
        width: int = 64,
        waves: int = 2,
        slots: int = 4,
        scales: Scales | Sequence[float] = Scales(),
        limit: float = 10.0,
        noise: Sequence[float] = (0.0, 0.0),
        shift: bool = False,
        reading: float = 0.0,
        variance: bool = False,
        dense: bool = False,
        margin: int = 4,
        kicks: int = 0,
        reach: float = 2.0,
        inner: float | None = None,
        radial: int = 5,
        order: int = 3,
        turns: int = 5,
        correction: bool = True,
        even: bool = False,
    ) -> None:
        super().__init__()
        self.scales = scales if isinstance(scales, Scales) else Scales(*scales)
        told = [self.scales.velocity, self.scales.step, self.scales.change]
        elements = _numbers(elements)
        self.arguments = {
            "elements": elements,
            "dt": dt,
            "channels": channels,
            "width": width,
            "waves": waves,
            "slots": slots,
            "scales": told,
            "limit": limit,
            "noise": [float(x) for x in noise],
            "shift": shift,
            "reading": reading,
            "variance": variance,
            "dense": dense,
            "margin": margin,
            "kicks": kicks,
            "reach": reach,
            "inner": inner,
            "radial": radial,
            "order": order,
            "turns": turns,
            "correction": correction,
            "even": even,
        }
        for name, values in (("dt", [dt]), ("scales", told), ("limit", [limit])):
            if not all(math.isfinite(x) and x > 0 for x in values):
                raise InvalidArgument(f"{name} must be positive, got {values}")
        if len(noise) != 2 or not all(math.isfinite(x) and x >= 0 for x in noise):
            raise InvalidArgument(f"noise must be two numbers from 0 on, got {noise!r}")
        for name, whole in (("channels", channels), ("width", width), ("slots", slots)):
            if not isinstance(whole, int) or whole < 1:
                raise InvalidArgument(f"{name} must be a whole number from 1 on, got {whole!r}")
        if not isinstance(kicks, int) or kicks < 0:
            raise InvalidArgument(f"kicks must be a whole number from 0 on, got {kicks!r}")
        if variance and not correction:
            raise InvalidArgument("variance is read of vectors: it needs correction")
        self.bonds = Bonds(len(elements), reach, inner, radial, order, turns) if kicks else None
        self.register_buffer("masses", torch.as_tensor(atomic_masses).float(), persistent=False)
        self.kicks, self.correction, self.even = kicks, correction, even
        self.thermostat: Thermostat | None = None
        self.channels, self.dt, self.limit, self.variance = channels, dt, limit, variance
        self.shift = shift
        self.noise, self.weight, self.dense, self.margin = tuple(noise), reading, dense, margin
        self.register_buffer("species", self._table(elements), persistent=False)
        self.register_buffer("waves", math.pi * torch.arange(1.0, waves + 1), persistent=False)
        features = len(elements) + 6 + 6 * waves
        self.atom = _network(features, width, channels)
        self.cell = _network(channels, width, channels)
        self.push = nn.Linear(3, channels, bias=False)
        self.own = nn.Linear(features, width)
        self.seen = nn.Linear(channels, width)
        self.mixed = nn.Linear(channels, width)
        self.motion = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 8 if variance else 6)
        )
        # a fresh net moves everything at constant velocity
        last = self.motion[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.reader = Reader(channels, width, len(elements), slots, self.scales.velocity)

    @staticmethod
    def _table(elements: Sequence[int]) -> Tensor:
        table = torch.zeros(119, dtype=torch.int64)
        table[list(elements)] = torch.arange(1, len(elements) + 1)
        return table

    def lattice(self, states: Sequence[AtomState]) -> AtomLattice | DenseAtomLattice:
        return atom_lattice(states, self.dense, self.margin)

    def encode(self, state: AtomState, lattice: Lattice) -> Tensor:
        known = held(lattice)
        rows = self._rows(state, known)
        atoms = self.atom(self._features(state))
        total = atoms.new_zeros((len(known.where), self.channels)).index_add(0, rows, atoms)
        filled = torch.nonzero(torch.bincount(rows, minlength=len(total))).flatten()
        h = torch.zeros_like(total).index_copy(0, filled, self.cell(total[filled]))
        if state.force is not None:
            h = h.index_add(0, rows, self.push(state.force.to(h.dtype)))
        return known.shaped(h)

    def read(self, h: Tensor, lattice: Lattice) -> AtomState:
        known = held(lattice)
        told = self.reader(h.reshape(len(known.where), self.channels))
        inside = (known.where[:, 1:] < torch.tensor(known.grid.extents)).all(dim=1)
        kind = torch.where(inside[:, None].to(h.device), told[0].argmax(dim=-1), 0)
        return self._told(known, known.where, kind, *told[1:])

    def counted(self, h: Tensor, lattice: Lattice, counts: Tensor) -> AtomState:
        """`read`, but every block of cells holds exactly the atoms of ``counts``, in the slots that
        they are likeliest in. Cells that are not computed are taken where others have too few.

        Raises:
            Error: a block holds more atoms than it has slots.
        """
        known, (b, x, y, z) = held(lattice), counts.shape[:4]
        more = lacking(known, counts.sum(dim=-1), self.reader.slots)
        where = torch.cat([known.where.cpu(), more])
        order = torch.argsort(where[:, 0], stable=True)
        flat = h.reshape(len(known.where), self.channels)
        flat = torch.cat([flat, flat.new_zeros((len(more), self.channels))])
        where, told = where[order], self.reader(flat[order.to(h.device)])
        block = blocks_of(where, known, (b, x, y, z)).to(h.device)
        kind = likeliest(told[0], block, counts.flatten(0, 3).to(h.device))
        return self._told(known, where, kind, *told[1:])

    def _told(
        self,
        lattice: AtomLattice | DenseAtomLattice,
        where: Tensor,
        kind: Tensor,
        offset: Tensor,
        velocity: Tensor,
    ) -> AtomState:
        """Atoms of kinds (M, K), places and velocities (M, K, 3) of cells ``where`` (M, 4), which
        are those of one system after the other."""
        row, slot = torch.nonzero(kind, as_tuple=True)
        numbers = torch.tensor([0, *self.arguments["elements"]], device=kind.device)
        where, batch = where.to(kind.device)[row], self._batch(lattice)
        count = torch.bincount(where[:, 0], minlength=batch)
        first = torch.cumsum(count, 0) - count
        low = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0)).item()
        return AtomState(
            replace(lattice.grid, slots=self.reader.slots),
            batch,
            numbers[kind[row, slot]],
            torch.arange(len(row), device=kind.device) - first[where[:, 0]],
            where[:, 0],
            where[:, 1:],
            torch.zeros_like(where[:, 1:]),
            offset[row, slot].float().clamp(max=low),
            (velocity[row, slot] * self.scales.velocity).float(),
        )

    @property
    def blind(self) -> bool:
        return not self.correction

    def advance(self, h: Tensor, lattice: Lattice, state: AtomState) -> AtomState:
        way, velocity = self._carried(state)
        if self.correction:
            step, change, _ = self._motion(h, lattice, state)
            way, velocity = way + step.to(way.dtype), velocity + change.to(way.dtype)
        if self.thermostat is not None:
            velocity = self.thermostat(velocity, self._buffer("masses")[state.numbers], self.dt)
        most = self.limit * self.scales.velocity
        driven = ~state.free[:, None]
        velocity = torch.where(driven, state.velocity, velocity.clamp(-most, most))
        way = torch.where(driven, state.velocity * self.dt, way)
        return state.moved(way, velocity)

    def energy(self, state: AtomState) -> Tensor:
        """(B,) eV of the systems' bonds.

        Raises:
            InvalidArgument: these cells have no bonds.
        """
        bonds = self._bonds()
        each = bonds.energies(neighbours(state, bonds.reach), self._species(state) - 1)
        return each.new_zeros(state.batch).index_add(0, state.system, each)

    def forces(self, state: AtomState, moved: Tensor | None = None) -> Tensor:
        """(n, 3) eV/A by which bonds pull at the atoms, at driven ones too, where they have ``moved``
        (n, 3) A, float64, since.

        Raises:
            InvalidArgument: these cells have no bonds.
        """
        return self._bonds().forces(self._near(state, moved), self._species(state) - 1, moved)

    def forces_of_weights(self, state: AtomState, moved: Tensor | None = None) -> Tensor:
        """(c, n, 3) eV/A, float64, that each weight of the bonds alone would make if it were 1; see
        `forces`."""
        near, species = self._near(state, moved), self._species(state) - 1
        return self._bonds().forces_of_weights(near, species, moved)

    def _near(self, state: AtomState, moved: Tensor | None) -> Neighbours:
        """Who may be within reach."""
        far = 0.0 if moved is None or not len(moved) else 2 * float(moved.norm(dim=1).max())
        return neighbours(state, self._bonds().reach + far)

    def push_of(self, state: AtomState) -> Tensor:
        """(n, 1) A/fs by which a force of 1 eV/A changes velocities in a step."""
        return (self.dt * _ACCELERATION / self._buffer("masses")[state.numbers])[:, None].double()

    def around(self, state: AtomState) -> Tensor:
        """(n, F) what the bonds of each atom see around it; see `mlcore.sagesnet.atoms.around`.

        Raises:
            InvalidArgument: these cells have no bonds.
        """
        return around(self._bonds(), state, self._species(state) - 1)

    def signs(self, state: AtomState, lattice: Lattice) -> tuple[Tensor, Tensor]:
        """Cells with atoms that are not driven; of their bonds, speeds and kicks the means."""
        rows, free = self._rows(state, held(lattice)), state.free
        told = state.velocity.new_zeros((len(state), 0))
        if self.bonds is not None:
            push = self.dt * _ACCELERATION / self._buffer("masses")[state.numbers]
            speed = state.velocity.norm(dim=1) / self.scales.velocity
            kick = push * self.forces(state).detach().norm(dim=1) / self.scales.change
            told = torch.cat([self.around(state), torch.stack([speed, kick], dim=1)], dim=1)
        return mean_by_row(told[free], rows[free])

    def whiten(self, states: Sequence[AtomState], floor: float = 1e-8) -> None:
        """`Bonds.whiten`: makes training of bonds some hundred times faster.

        Raises:
            InvalidArgument: these cells have no bonds, or know nothing of an element.
        """
        for state in states:
            self._species(state)
        self._bonds().whiten(states, self._buffer("species") - 1, floor)

    def set_weights(self, weights: Tensor) -> None:
        """Those of the bonds, (c,).

        Raises:
            InvalidArgument: these cells have no bonds.
        """
        bonds = self._bonds()
        with torch.no_grad():
            bonds.weight.copy_(weights.reshape(bonds.shape))

    def _bonds(self) -> Bonds:
        if self.bonds is None:
            raise InvalidArgument("kicks: these cells have none, hence no bonds")
        return self.bonds

    def _carried(self, state: AtomState) -> tuple[Tensor, Tensor]:
        """(n, 3) A each atom goes by its velocity and the bonds' kicks, (n, 3) A/fs its velocity
        afterwards."""
        if self.bonds is None:
            return state.velocity * self.dt, state.velocity
        velocity = state.velocity.double()
        most = 2 * float(velocity.detach().abs().max()) * self.dt if len(state) else 0.0
        near = neighbours(state, self.bonds.reach + min(most, 1.0) + _SKIN)
        species, part = self._species(state) - 1, self.dt / self.kicks
        push = (part * _ACCELERATION / self._buffer("masses")[state.numbers] * state.free)[:, None]
        way, known = torch.zeros_like(velocity), self.bonds.coefficients
        fastest = self.limit * self.scales.velocity
        for _ in range(self.kicks):
            way = way + velocity * (part / 2)
            force = self.bonds.forces(near, species, way, known)
            if state.force is not None:
                force = force + state.force
            # a bond that is far beyond all that was seen may push without measure
            velocity = (velocity + push * force).clamp(-fastest, fastest)
            way = way + velocity * (part / 2)
        return way.to(state.velocity.dtype), velocity.to(state.velocity.dtype)

    def reconstruction(self, h: Tensor, lattice: Lattice, state: AtomState) -> Tensor:
        """Mean over the atoms of what `read` costs of all cells."""
        total, _ = self._reading(h, lattice, state)
        return total.sum() / max(len(state), 1)

    def scores(self, h: Tensor, lattice: Lattice, state: AtomState) -> SlotScores:
        """How well ``state`` is read of vectors."""
        known, parts = held(lattice), slots(self._readable(state))
        rows = known.rows(parts.cells)
        flat = h.reshape(len(known.where), self.channels)[rows]
        return self.reader.scores(flat, self._species(state), state, parts)

    def loss(self, h: Tensor, lattice: Lattice, state: AtomState, target: AtomState) -> Tensor:
        """Squared errors of places and velocities in units of their scales, a mean over the atoms
        that are not driven, and with ``reading`` that of the autoencoder now and a step later."""
        target = state.matched(target)
        errors = self._of_atoms(h, lattice, state, target)
        total = self._evened(errors, state, target) if self.even else errors[state.free].mean()
        if self.weight:
            now = self.reconstruction(self.encode(state, lattice), lattice, state)
            later = self.reconstruction(h, lattice, target)
            total = total + self.weight * (now + later) / 2
        return total

    def errors(self, h: Tensor, lattice: Lattice, state: AtomState, target: AtomState) -> Tensor:
        """Mean of the loss of motion over a cell's atoms that are not driven, 0 without one."""
        known = held(lattice)
        rows, free = self._rows(state, known), state.free
        errors = self._of_atoms(h, lattice, state, state.matched(target))
        total = errors.new_zeros(len(known.where)).index_add(0, rows[free], errors[free])
        count = torch.bincount(rows[free], minlength=len(total))
        return known.shaped((total / count.clamp(min=1))[:, None])[..., 0]

    def stack(self, states: Sequence[AtomState]) -> AtomState:
        return AtomState.stack(states)

    def turned(self, state: AtomState, symmetry: Symmetry) -> AtomState:
        return turned(state, symmetry)

    def shaken(
        self, state: AtomState, target: AtomState, generator: torch.Generator
    ) -> tuple[AtomState, AtomState]:
        if self.shift:
            edges = torch.as_tensor(state.grid.edges * np.array(state.grid.pbc)[:, None]).float()
            ways = (torch.rand((state.batch, 3), generator=generator) @ edges).to(
                state.offset.device
            )
            state, target = (one.moved(ways[one.system], one.velocity) for one in (state, target))
        if not any(self.noise):
            return state, target
        x, v = (
            scale
            * torch.randn(state.velocity.shape, generator=generator)
            * state.free[:, None].cpu()
            for scale in self.noise
        )
        device = state.velocity.device
        return state.moved(x.to(device), state.velocity + v.to(device)), target

    def conserved(self, state: AtomState) -> Tensor:
        return state.counts()

    def _of_atoms(self, h: Tensor, lattice: Lattice, state: AtomState, target: AtomState) -> Tensor:
        """(n,) errors; ``target`` in the order of ``state``."""
        way, velocity = self._carried(state)
        wanted = state.displacement(target) - way.double()
        faster = target.velocity - velocity
        if self.correction:
            step, change, spread = self._motion(h, lattice, state)
        else:
            step, change, spread = torch.zeros_like(way), torch.zeros_like(way), None
        errors = torch.stack(
            [
                ((wanted.to(step.dtype) - step) / self.scales.step).square().mean(dim=1),
                ((faster - change) / self.scales.change).square().mean(dim=1),
            ],
            dim=1,
        )
        if spread is None:
            return errors.sum(dim=1)
        return (errors * torch.exp(-spread) + spread).sum(dim=1)

    def _evened(self, errors: Tensor, state: AtomState, target: AtomState) -> Tensor:
        """Mean over systems of the logarithm of their errors in parts of how fast they change: one at
        rest says as much as a hot one, and one that flies apart no more."""
        free, count = state.free, torch.bincount(state.system[state.free], minlength=state.batch)

        def means(values: Tensor) -> Tensor:
            total = values.new_zeros(state.batch).index_add(0, state.system[free], values[free])
            return total / count.clamp(min=1)

        change = (target.velocity - state.velocity) / self.scales.change
        part = means(errors) / (means(change.square().mean(dim=1)) + 0.01)
        return torch.log1p(part / _SMALL).mean() * _SMALL

    def _motion(
        self, h: Tensor, lattice: Lattice, state: AtomState
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Beyond constant velocity: steps (n, 3), changes of velocity (n, 3), and the logarithms of
        the variances of both in units of their scales (n, 2)."""
        known = held(lattice)
        around = h.reshape(len(known.where), self.channels)[self._rows(state, known)]
        if state.force is not None:
            around = around + self.push(state.force.to(h.dtype))
        own = self.own(self._features(state))
        joint = [nn.functional.silu(own + self.seen(around)), own * self.mixed(around)]
        told = self.motion(torch.cat(joint, dim=-1))
        held_in = self.limit * torch.tanh(told[:, :6] / self.limit)
        step, change = held_in[:, :3], held_in[:, 3:]
        spread = 8 * torch.tanh(told[:, 6:] / 8) if self.variance else None
        return step * self.scales.step, change * self.scales.change, spread

    def _features(self, state: AtomState) -> Tensor:
        """(n, F) what is told of each atom."""
        dtype = self.own.weight.dtype
        offset, species = state.offset.to(dtype), self._species(state) - 1
        angles = (offset[..., None] * self._buffer("waves").to(dtype)).flatten(1)
        kind = nn.functional.one_hot(species, len(self.arguments["elements"])).to(dtype)
        speed = state.velocity.to(dtype) / self.scales.velocity
        return torch.cat([kind, offset, speed, angles.sin(), angles.cos()], dim=1)

    def _species(self, state: AtomState) -> Tensor:
        """(n,) numbers of the atoms' elements, from 1 on."""
        species = self._buffer("species")[state.numbers]
        if bool((species == 0).any()):
            odd = sorted(set(state.numbers[species == 0].tolist()))
            raise InvalidArgument(f"elements: these cells know nothing of {odd}")
        return species

    def _rows(self, state: AtomState, lattice: AtomLattice | DenseAtomLattice) -> Tensor:
        """(n,) row of each atom's cell."""
        rows = lattice.rows(torch.cat([state.system[:, None], state.cell], dim=1))
        if bool((rows < 0).any()):
            raise InvalidArgument("lattice: not that of the state, an atom lies outside")
        return rows

    def _reading(self, h: Tensor, lattice: Lattice, state: AtomState) -> tuple[Tensor, Tensor]:
        """(M,) what reading costs of each cell, and which are occupied."""
        known, parts = held(lattice), slots(self._readable(state))
        rows = known.rows(parts.cells)
        # what left for a cell that is not computed cannot be read
        kept = rows >= 0
        parts = replace(parts, cells=parts.cells[kept], table=parts.table[kept])
        flat = h.reshape(len(known.where), self.channels)
        return self.reader.loss(flat, rows[kept], self._species(state), state, parts), rows[kept]

    def _readable(self, state: AtomState) -> AtomState:
        return replace(state, grid=replace(state.grid, slots=self.reader.slots))

    def _buffer(self, name: str) -> Tensor:
        tensor: Tensor = getattr(self, name)
        return tensor

    @staticmethod
    def _batch(lattice: AtomLattice | DenseAtomLattice) -> int:
        return lattice.batch if isinstance(lattice, DenseAtomLattice) else lattice.active.batches


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


def _numbers(elements: Sequence[int | str]) -> list[int]:
    """Atomic numbers of elements.

    Raises:
        InvalidArgument: one is no element, or comes twice.
    """
    found = [atomic_numbers.get(z, 0) if isinstance(z, str) else int(z) for z in elements]
    if not found or len(set(found)) != len(found) or not 0 < min(found) <= max(found) <= 118:
        raise InvalidArgument(
            f"elements must be different atomic numbers or chemical symbols, got {elements!r}"
        )
    return found
