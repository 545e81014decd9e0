"""Matter on coarse levels: counts, momentum and kinetic energy of each cell beside its vector.

They never go through a lift. They are pooled from the cells of level 0, sums over blocks, and moved by
what passes each face between two coarse cells, F(i -> j) = -F(j -> i), told by a small network from the
vectors on both sides: what one cell loses the other gains. So totals stay, atoms exactly: what passes is
whole atoms, what rounding leaves is kept for the next step, and no cell gives more than it has.
Momentum and kinetic energy stay to the rounding of float64. They are moved about, never made: where a
thermostat or the potential feeds them, their totals are not those of the truth.

    fit_fluxes(net, runs, level=1)                  # after the level is trained
    net.rollout(frames, until=64, level=1).conserved    # `Fields` of each recorded step
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet.atoms.lattice import AtomLattice, DenseAtomLattice
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.fields import Fields, fields_of, mean_fields
from mlcore.sagesnet.fingerprint import fingerprint
from mlcore.sagesnet.lattice import ActiveLattice, DenseLattice, Lattice, Triple

if TYPE_CHECKING:
    from mlcore.sagesnet.fit import Run
    from mlcore.sagesnet.grid import Grid
    from mlcore.sagesnet.net import SagesNet
    from mlcore.training.options import TrainingOptions, TrainingResult

__all__ = ["Fluxes", "Matter", "fit_fluxes", "kinds_of", "pooled"]

_LIMIT = 10.0
"""Scales within which a flux is held, so that no run ends in infinite numbers."""
_NONE = 1e-200


@dataclass(frozen=True)
class Matter:
    """What the cells of a coarse level hold.

    Attributes:
        fields: of the coarse cells; counts are whole numbers.
        room: coarse cells along the axes that anything may be in; beyond are margins of a lattice.
        around: along which axes the last of them is a neighbour of the first.
        left: (B, X, Y, Z, 3, S) float64, parts of atoms that rounding has left at the upper faces.
    """

    fields: Fields
    room: Triple
    around: tuple[bool, bool, bool]
    left: Tensor

    @property
    def faces(self) -> Tensor:
        """(X, Y, Z, 3) bool: whether anything may pass from a cell to the next one along an axis."""
        room = torch.zeros(self.fields.extents, dtype=torch.bool)
        x, y, z = self.room
        room[:x, :y, :z] = True
        faces = []
        for axis, around in enumerate(self.around):
            extent, there = self.fields.extents[axis], room & room.roll(-1, axis)
            place = torch.arange(extent).reshape([-1 if a == axis else 1 for a in range(3)])
            inside = place < extent - 1
            # a cell that is its own neighbour gives itself nothing
            faces.append(there & (inside | (around and extent > 1)))
        return torch.stack(faces, dim=-1).to(self.left.device)

    def moved(self, wanted: Tensor) -> Matter:
        """A step later.

        Args:
            wanted: (B, X, Y, Z, 3, S + 4) float64, what is to pass from every cell to the next one
                along each axis: counts, momentum, kinetic energy.

        Returns:
            What is left when none gives more than it has; totals as before.
        """
        kinds = len(self.fields.kinds)
        wanted = wanted * self.faces[..., None]
        wish = wanted[..., :kinds] + self.left
        # more than both sides have is nothing to keep for later, and whole numbers have an end
        stock = self.fields.counts.double()
        wish = wish.clamp(-_ahead(stock), stock[:, :, :, :, None])
        whole = wish.round()
        atoms = _limited(whole.long(), self.fields.counts)
        push = wanted[..., kinds : kinds + 3]
        energy = _limited(wanted[..., kinds + 3 :], self.fields.kinetic[..., None])
        return replace(
            self,
            fields=replace(
                self.fields,
                counts=_passed(self.fields.counts, atoms),
                momentum=_passed(self.fields.momentum, push),
                kinetic=_passed(self.fields.kinetic[..., None], energy)[..., 0],
            ),
            left=wish - whole,
        )


def _ahead(values: Tensor) -> Tensor:
    """(B, X, Y, Z, 3, S) values of the next cell along each axis."""
    return torch.stack([values.roll(-1, 1 + axis) for axis in range(3)], dim=4)


def _behind(faces: Tensor) -> Tensor:
    """(B, X, Y, Z, 3, S) what passes each cell's lower faces."""
    return torch.stack([faces[..., axis, :].roll(1, 1 + axis) for axis in range(3)], dim=4)


def _passed(values: Tensor, faces: Tensor) -> Tensor:
    """Values (B, X, Y, Z, S) after what passes the upper faces, (B, X, Y, Z, 3, S)."""
    return values - faces.sum(dim=4) + _behind(faces).sum(dim=4)


def _limited(faces: Tensor, stock: Tensor) -> Tensor:
    """Fluxes, less where a cell would give more than its stock; whole numbers stay whole."""
    given = faces.clamp(min=0).sum(dim=4) + _behind(faces).clamp(max=0).neg().sum(dim=4)
    if faces.is_floating_point():
        # shares a little smaller: rounding must not make a stock negative, nor what is all but none
        part = torch.where(stock > _NONE, stock / given.clamp(min=_NONE) * (1 - 1e-12), 0.0)
        part = part.clamp(max=1.0)
        return torch.where(faces > 0, faces * part[:, :, :, :, None], faces * _ahead(part))
    short, enough = stock < given, given.clamp(min=1)
    out = torch.where(
        short[:, :, :, :, None],
        faces.clamp(min=0) * stock[:, :, :, :, None] // enough[:, :, :, :, None],
        faces.clamp(min=0),
    )
    back = faces.clamp(max=0).neg()
    back = torch.where(_ahead(short), back * _ahead(stock) // _ahead(enough), back)
    return out - back


class Fluxes(nn.Module):
    """What passes a face, from what is on both sides of it.

    The network is asked from both sides and the answers are subtracted, so that F(i -> j) is
    -F(j -> i) to the bit whatever the weights are. A fresh one moves nothing.

    Args:
        channels: C, of vectors.
        kinds: that are counted; see `Fields`.
        width: of the hidden layer.
    """

    middle: Tensor
    spread: Tensor
    scale: Tensor

    def __init__(self, channels: int, kinds: Sequence[int], width: int = 32) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "kinds": list(kinds), "width": width}
        self.kinds = tuple(int(kind) for kind in kinds)
        values = len(self.kinds) + 4
        side = 2 * channels + values + 1
        self.hidden = nn.Linear(2 * side + 3, width)
        self.outputs = nn.Linear(width, values)
        self.straight = nn.Linear(2 * side, values, bias=False)
        for weight in (self.outputs.weight, self.outputs.bias, self.straight.weight):
            nn.init.zeros_(weight)
        self.register_buffer("middle", torch.zeros(values))
        self.register_buffer("spread", torch.ones(values))
        self.register_buffer("scale", torch.ones(values))

    def forward(self, before: Tensor, after: Tensor, values: Tensor) -> Tensor:
        """(B, X, Y, Z, 3, S + 4) float64 from every cell to the next one along each axis.

        Args:
            before: (B, X, Y, Z, C) vectors.
            after: those predicted a step later.
            values: (B, X, Y, Z, S + 4) counts, momentum, kinetic energy; see `values_of`.
        """
        told = ((values - self.middle) / self.spread).to(before.dtype)
        here = torch.cat([before, after, told], dim=-1)[:, :, :, :, None].expand(
            *before.shape[:-1], 3, -1
        )
        ahead = _ahead(here[:, :, :, :, 0])
        ways = torch.eye(3).to(before).expand(*before.shape[:-1], 3, 3)
        return self.between(here, ahead, ways)

    def between(self, one: Tensor, other: Tensor, way: Tensor) -> Tensor:
        """(..., S + 4) float64 from one cell to another.

        Args:
            one, other: (..., 2 C + S + 4) vectors before and after, and what cells hold, scaled.
            way: (..., 3) from the first to the second.
        """
        flux = self._told(one, other, way) - self._told(other, one, -way)
        return self.scale.double() * _LIMIT * torch.tanh(flux.double() / _LIMIT)

    def normalise(self, values: Tensor, changes: Tensor) -> None:
        """Take scales from data, (n, S + 4) each; what never changes is never moved."""
        kinds = len(self.kinds)
        # of momentum's components one scale and no middle, so that all directions are alike
        middle, spread = values.mean(dim=0), values.std(dim=0, correction=0)
        middle[kinds : kinds + 3] = 0
        scale = changes.square().mean(dim=0).sqrt()
        for numbers in (spread, scale):
            numbers[kinds : kinds + 3] = numbers[kinds : kinds + 3].square().mean().sqrt()
        self.middle.copy_(middle)
        self.spread.copy_(torch.where(spread > 0, spread, 1.0))
        self.scale.copy_(scale)

    def _told(self, one: Tensor, other: Tensor, way: Tensor) -> Tensor:
        # momentum along the way: what is learned along one axis is known along the others
        sides = [
            torch.cat([side, (side[..., -4:-1] * way).sum(dim=-1, keepdim=True)], dim=-1)
            for side in (one, other)
        ]
        both = torch.cat(sides, dim=-1)
        seen = nn.functional.silu(self.hidden(torch.cat([both, way], dim=-1)))
        told: Tensor = self.outputs(seen) + self.straight(both)
        return told


def kinds_of(cells: Cells[Any]) -> tuple[int, ...]:
    """What is counted in states of these cells.

    Raises:
        InvalidArgument: nothing is.
    """
    told = cells.arguments
    if "elements" in told:
        return tuple(told["elements"])
    if "states" in told:
        return tuple(range(1, told["states"]))
    raise InvalidArgument(f"cells of kind {cells.kind!r} hold nothing that is counted")


def values_of(fields: Fields) -> Tensor:
    """(B, X, Y, Z, S + 4) float64 counts, momentum, kinetic energy."""
    return torch.cat([fields.counts.double(), fields.momentum, fields.kinetic[..., None]], dim=-1)


def pooled(net: SagesNet[Any], frames: Sequence[Any], lattices: Sequence[Lattice]) -> Matter:
    """What coarse cells hold in a window: sums over their blocks; counts of its first frame, means
    over its frames of momentum and kinetic energy.

    Args:
        net: whose lifts say what a block is.
        frames: states of the window.
        lattices: of level 0 to that of the result; see `Grid`.

    Raises:
        InvalidArgument: nothing of this kind of cells is counted.
    """
    kinds, base = kinds_of(net.cells), lattices[0]
    fields = mean_fields([fields_of(state, kinds, _extents(base)) for state in frames], first=True)
    level = len(lattices) - 1
    for lift in (net.lift(one) for one in range(1, level + 1)):
        fields = fields.pooled(lift.space)
    inside, around = _walls(base)
    block = [math.prod(net.lift(one).space[a] for one in range(1, level + 1)) for a in range(3)]
    x, y, z = (-(-n // k) for n, k in zip(inside, block, strict=True))
    left = fields.momentum.new_zeros((*fields.kinetic.shape, 3, len(kinds)))
    return Matter(fields, (x, y, z), around, left)


def advanced(fluxes: nn.Module, before: Grid, after: Grid) -> Matter:
    """What cells hold a step later.

    Raises:
        InvalidArgument: the fluxes are of other kinds than the cells.
        Error: a flux is not finite, or counts are not what they were.
    """
    assert isinstance(fluxes, Fluxes) and before.matter is not None
    matter = before.matter
    if fluxes.kinds != matter.fields.kinds:
        told = f"of {fluxes.kinds}, cells hold {matter.fields.kinds}"
        raise InvalidArgument(f"fluxes: those of level {before.level} are {told}")
    batch = len(matter.fields.kinetic)
    with torch.no_grad():
        sides = [dense(grid.h, grid.lattice, batch) for grid in (before, after)]
        passing = fluxes(*sides, values_of(matter.fields))
        if not bool(torch.isfinite(passing).all()):
            raise Error(f"level {before.level}: fluxes are not finite any more")
        found = matter.moved(passing)
    counts, was = found.fields.counts, matter.fields.counts
    if not torch.equal(counts.sum((1, 2, 3)), was.sum((1, 2, 3))) or bool((counts < 0).any()):
        raise Error(f"level {before.level}: what must be conserved is not")
    return found


def dense(h: Tensor, lattice: Lattice, batch: int) -> Tensor:
    """(B, X, Y, Z, C) of all cells of a box; zeros where a lattice has none.

    Raises:
        InvalidArgument: the lattice is of a kind unknown here.
    """
    if isinstance(lattice, DenseLattice):
        return h
    if not isinstance(lattice, ActiveLattice):
        raise InvalidArgument(f"lattice: cells of a {type(lattice).__name__} are not known")
    where = torch.as_tensor(lattice.active.coordinates).to(h.device)
    if where.shape[1] == 3:
        where = torch.cat([torch.zeros_like(where[:, :1]), where], dim=1)
    whole = h.new_zeros((batch, *lattice.active.grid_shape, h.shape[-1]))
    return whole.index_put(tuple(where.long().unbind(dim=1)), h)


def fit_fluxes(
    net: SagesNet[Any],
    runs: Sequence[Run[Any]],
    *,
    level: int = 1,
    horizon: int = 2,
    width: int = 32,
    options: TrainingOptions | None = None,
) -> TrainingResult:
    """Train what passes the faces of a level, and keep it in ``net.fluxes``.

    All else stays as it is. What coarse cells hold is compared with the truth after each of
    ``horizon`` steps, in units of how much it changes in one.

    Args:
        net: with the level and those below trained.
        runs: of at least ``horizon`` + 1 windows.
        level: from 1 on.
        horizon: steps of the level in a sample.
        width: see `Fluxes`.
        options: of the training.

    Raises:
        InvalidArgument: naming what is out of range; no run is long enough, nothing is counted.
    """
    from mlcore.training.loop import train
    from mlcore.training.options import TrainingOptions

    if not isinstance(level, int) or not 1 <= level < len(net.levels):
        raise InvalidArgument(f"level must be a coarse one, 1 to {len(net.levels) - 1}: {level!r}")
    if not isinstance(horizon, int) or horizon < 1:
        raise InvalidArgument(f"horizon must be a whole number from 1 on, got {horizon!r}")
    fluxes = Fluxes(net.cells.channels, kinds_of(net.cells), width)
    fluxes.to(next(net.parameters()))
    windows = _Windows(net, runs, level, horizon)
    fluxes.normalise(*windows.known())
    result = train(fluxes, windows, options or TrainingOptions(), label=f"fluxes of level {level}")
    net.fluxes[str(level)] = fluxes
    return result


@dataclass(frozen=True)
class _Sample:
    """Windows after windows of a batch of systems.

    Attributes:
        vectors: (B, X, Y, Z, C) of each, predicted from the first.
        values: (B, X, Y, Z, S + 4) what cells truly hold.
        faces: (B, X, Y, Z, 3) bool, which are open.
    """

    vectors: list[Tensor]
    values: list[Tensor]
    faces: Tensor


def _joined(samples: Sequence[_Sample]) -> _Sample:
    vectors = zip(*(sample.vectors for sample in samples), strict=True)
    values = zip(*(sample.values for sample in samples), strict=True)
    return _Sample(
        [torch.cat(parts) for parts in vectors],
        [torch.cat(parts) for parts in values],
        torch.cat([sample.faces for sample in samples]),
    )


class _Windows:
    """Squared errors of what cells hold after some steps from the truth."""

    def __init__(
        self, net: SagesNet[Any], runs: Sequence[Run[Any]], level: int, horizon: int
    ) -> None:
        self.net, self.runs, self.level, self.horizon = net, runs, level, horizon
        with torch.no_grad():
            self.samples = [sample for run in runs for sample in self._samples(run)]
        if not self.samples:
            needed = (horizon + 1) * net.span(level)
            raise InvalidArgument(f"runs: none has {needed} states, {horizon + 1} windows")
        self.size = len(self.samples)

    def known(self) -> tuple[Tensor, Tensor]:
        """(n, S + 4) what cells hold, and how it changes in a step."""
        values = [v.flatten(0, 3) for s in self.samples for v in s.values]
        changes = [
            (b - a).flatten(0, 3)
            for s in self.samples
            for a, b in zip(s.values, s.values[1:], strict=False)
        ]
        return torch.cat(values), torch.cat(changes)

    def loss(self, module: nn.Module, samples: Tensor) -> Tensor:
        alike: dict[torch.Size, list[_Sample]] = {}
        for sample in (self.samples[i] for i in samples.tolist()):
            alike.setdefault(sample.faces.shape, []).append(sample)
        total = sum(len(group) * self._loss(module, _joined(group)) for group in alike.values())
        assert isinstance(total, Tensor)
        return total / len(samples)

    def validation(self, module: nn.Module) -> float | None:
        return None

    def identity(self) -> str:
        told = f"{self.net.description()} fluxes {self.level} {self.horizon}"
        return f"{told} {fingerprint(self.runs)}"

    def _samples(self, run: Run[Any]) -> Iterator[_Sample]:
        net, span = self.net, self.net.span(self.level)
        for start in range(len(run.states) - (self.horizon + 1) * span + 1):
            windows = [
                run.states[start + k * span : start + (k + 1) * span]
                for k in range(self.horizon + 1)
            ]
            grid = net.encode(windows[0], self.level)
            told = [pooled(net, window, grid.lattices) for window in windows]
            batch, vectors = len(told[0].fields.kinetic), []
            for _ in windows:
                vectors.append(dense(grid.h, grid.lattice, batch))
                grid = net.predict(grid, run.environment)
            faces = told[0].faces.expand(batch, -1, -1, -1, -1)
            yield _Sample(vectors, [values_of(one.fields) for one in told], faces)

    def _loss(self, module: nn.Module, sample: _Sample) -> Tensor:
        assert isinstance(module, Fluxes)
        values, losses = sample.values[0], []
        steps = zip(sample.vectors, sample.vectors[1:], sample.values[1:], strict=False)
        scale = torch.where(module.scale > 0, module.scale, 1.0).double()
        for before, after, truth in steps:
            passing = module(before, after, values) * sample.faces[..., None]
            values = _passed(values, passing)
            losses.append(((values - truth) / scale).square().mean())
        return torch.stack(losses).mean()


def _extents(lattice: Lattice) -> Triple:
    """Cells along the axes of a box, margins too."""
    if isinstance(lattice, DenseLattice):
        return lattice.extents
    if isinstance(lattice, ActiveLattice):
        x, y, z = lattice.active.grid_shape
        return x, y, z
    raise InvalidArgument(f"lattice: cells of a {type(lattice).__name__} are not known")


def _walls(base: Lattice) -> tuple[Triple, tuple[bool, bool, bool]]:
    """Cells of level 0 that anything may be in, and along which axes they are periodic."""
    if isinstance(base, AtomLattice | DenseAtomLattice):
        return base.grid.extents, base.grid.pbc
    boundary = base.active.boundary if isinstance(base, ActiveLattice) else "zero"
    if isinstance(base, DenseLattice):
        boundary = base.boundary
    return _extents(base), (boundary == "periodic",) * 3
