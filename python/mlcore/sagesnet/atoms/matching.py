"""Bonds learned by least squares: from the forces of frames, or from frames a step apart.

Force matching: F. Ercolesi, J. B. Adams, Europhys. Lett. 26, 583 (1994). Forces of `Bonds` are linear in
their weights, so that the best ones solve a linear system; training on steps can go on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.cells import AtomCells
from mlcore.sagesnet.atoms.state import AtomState

__all__ = ["Matched", "Matching", "match_forces", "match_steps"]

T = TypeVar("T")
_LEAST = 0.01  # eV/A, below which forces are as good as none
_WHITENED = 36  # frames by which weights are measured
_NODES = 4  # of a step, between which bonds swing by half a period


@dataclass(frozen=True)
class Matched:
    """How well.

    Attributes:
        parts: (f,) root mean square errors of each frame's forces, in parts of the forces' own.
        part: the same of all frames together.
    """

    parts: Tensor
    part: float


class Matching:
    """A system of equations that grows with frames.

    Frames count alike, whatever the size of their forces; atoms that are driven do not count. A frame
    of n atoms takes as long as forces by each weight alone (0.4 s for 800 of carbon) and 24 n bytes
    for each weight.

    Args:
        cells: with kicks, whose bonds are whitened already (`AtomCells.whiten`).
        ridge: part of the mean of the system's diagonal that is added to it: weights that frames tell
            little of stay small, so that what was never seen is not answered wildly.

    Raises:
        InvalidArgument: the cells have no bonds or too many weights, or ridge is out of range.
    """

    def __init__(self, cells: AtomCells, ridge: float = 1e-6) -> None:
        if not 0 < ridge < 1:
            raise InvalidArgument(f"ridge must be a number between 0 and 1, got {ridge!r}")
        if cells.bonds is None:
            raise InvalidArgument("cells: these have no kicks, hence no bonds")
        self.cells, self.ridge = cells, ridge
        size = cells.bonds.weight.numel()
        if not len(cells.bonds.mixing):
            raise InvalidArgument(
                f"cells: bonds have {size} weights, too many to be matched: take fewer elements, "
                "radial, order or turns"
            )
        self._gram = torch.zeros(size, size, dtype=torch.float64)
        self._right = torch.zeros(size, dtype=torch.float64)

    def add_forces(self, state: AtomState, forces: npt.ArrayLike) -> None:
        """A frame and its forces, (n, 3) eV/A in the order of its atoms, without those of other origin
        than bonds.

        Raises:
            InvalidArgument: they are of another shape or not finite.
        """
        self._add(state, self.cells.forces_of_weights(state), _checked("forces", state, forces))

    def add_step(self, state: AtomState, target: AtomState) -> None:
        """Frames a step apart: mean forces are those that change the velocities so. In between, places
        are interpolated by both frames' velocities (cubic Hermite splines).

        Raises:
            InvalidArgument: atoms are not the same in both.
        """
        each: Tensor = 0  # type: ignore[assignment]
        for part, moved in _between(self.cells, state, target):
            each = each + part * self.cells.forces_of_weights(state, moved)
        self._add(state, each, _mean_force(self.cells, state, target))

    def _add(self, state: AtomState, each: Tensor, wanted: Tensor) -> None:
        free = state.free.cpu()
        each, wanted = each.cpu()[:, free].flatten(1), wanted[free].flatten()
        if not len(wanted):
            return
        part = 1 / (len(wanted) * (float(wanted.square().mean()) + _LEAST**2))
        self._gram += part * each @ each.T
        self._right += part * each @ wanted

    def solve(self) -> None:
        """Gives the bonds the weights by which all that was added is met best.

        Raises:
            InvalidArgument: nothing was added.
        """
        gram = self._gram.clone()
        mean = gram.diagonal().mean()
        if not mean > 0:
            raise InvalidArgument("no frame with atoms that are bound and not driven was added")
        gram.diagonal().add_(self.ridge * mean)
        self.cells.set_weights(torch.linalg.solve(gram, self._right))


def match_forces(
    cells: AtomCells,
    states: Sequence[AtomState],
    forces: Sequence[npt.ArrayLike],
    *,
    ridge: float = 1e-6,
    progress: bool = False,
) -> Matched:
    """Whitens bonds and gives them the weights by which forces of frames are met best; see `Matching`.

    Args:
        cells: with kicks.
        states: frames.
        forces: of each, (n, 3) eV/A in the order of its atoms, e.g. by `mlcore.lammps.label`.
        ridge: see `Matching`.
        progress: show a bar.

    Raises:
        InvalidArgument: naming what is out of range or does not fit; these cells have no bonds.
    """
    if len(forces) != len(states):
        raise InvalidArgument(
            f"forces must be those of each frame, got {len(forces)} for {len(states)}"
        )
    matching = _whitened(cells, states, ridge)
    given = [
        (state, _checked(f"forces[{k}]", state, one))
        for k, (state, one) in enumerate(zip(states, forces, strict=True))
    ]
    for state, wanted in _shown(given, progress):
        matching.add_forces(state, wanted)
    matching.solve()
    return _judged((cells.forces(state), wanted, state) for state, wanted in given)


def match_steps(
    cells: AtomCells,
    pairs: Sequence[tuple[AtomState, AtomState]],
    *,
    ridge: float = 1e-3,
    progress: bool = False,
) -> Matched:
    """Whitens bonds and gives them the weights by which changes of velocities in a step are met best:
    where forces are not known. As right as the path between both frames is; see `Matching.add_step`.

    Args:
        cells: with kicks.
        pairs: frames and those a step later.
        ridge: see `Matching`; more than for forces, since the path between frames is a guess.
        progress: show a bar.

    Returns:
        Parts are those of mean forces.

    Raises:
        InvalidArgument: naming what is out of range or does not fit; these cells have no bonds.
    """
    matching = _whitened(cells, [now for now, _ in pairs], ridge)
    for state, target in _shown(pairs, progress):
        matching.add_step(state, target)
    matching.solve()

    def mean(state: AtomState, target: AtomState) -> Tensor:
        between = _between(cells, state, target)
        return torch.stack([part * cells.forces(state, moved) for part, moved in between]).sum(0)

    return _judged((mean(a, b), _mean_force(cells, a, b), a) for a, b in pairs)


def _whitened(cells: AtomCells, states: Sequence[AtomState], ridge: float) -> Matching:
    if not states:
        raise InvalidArgument("frames must be one or more, got none")
    matching = Matching(cells, ridge)
    cells.whiten(states[:: -(-len(states) // _WHITENED)])
    return matching


def _checked(name: str, state: AtomState, forces: npt.ArrayLike) -> Tensor:
    told = torch.as_tensor(np.asarray(forces, np.float64))
    if told.shape != (len(state), 3):
        raise InvalidArgument(f"{name} must be of shape ({len(state)}, 3), got {tuple(told.shape)}")
    if not bool(told.isfinite().all()):
        raise InvalidArgument(f"{name} must be finite numbers")
    return told


def _between(
    cells: AtomCells, state: AtomState, target: AtomState
) -> Iterable[tuple[float, Tensor]]:
    """Parts of a step, and how far (n, 3) A the atoms have come there."""
    target = state.matched(target)
    way = state.displacement(target).double()
    first, last = (cells.dt * one.velocity.double() for one in (state, target))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    for s, part in zip((nodes + 1) / 2, weights / 2, strict=True):
        moved = s**2 * (3 - 2 * s) * way + s * (1 - s) ** 2 * first - s**2 * (1 - s) * last
        yield float(part), moved


def _mean_force(cells: AtomCells, state: AtomState, target: AtomState) -> Tensor:
    """(n, 3) eV/A of a step, float64."""
    faster = (state.matched(target).velocity - state.velocity).double()
    return (faster / cells.push_of(state)).cpu()


def _shown(items: Sequence[T], progress: bool) -> Iterable[T]:
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        yield from bar.track(items, description="forces")


def _judged(found: Iterable[tuple[Tensor, Tensor, AtomState]]) -> Matched:
    """Of forces, what they should be, and whose they are."""
    sums = []
    for forces, wanted, state in found:
        free = state.free.cpu()
        wrong = forces.detach().cpu()[free] - wanted[free]
        sums.append([float(wrong.square().sum()), float(wanted[free].square().sum())])
    wrong, whole = torch.tensor(sums, dtype=torch.float64).T
    parts = (wrong / whole.clamp(min=1e-300)).sqrt()
    return Matched(parts, float((wrong.sum() / whole.sum().clamp(min=1e-300)).sqrt()))
