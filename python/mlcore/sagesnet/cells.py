"""What is in a cell, and the vector that stands for it: the face between matter and predictors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.lattice import Lattice
from mlcore.sagesnet.symmetry import Symmetry

__all__ = ["Cells", "State"]

State = TypeVar("State")


class Cells(nn.Module, ABC, Generic[State]):
    """Turns states into vectors of cells and back.

    A state is one moment of a batch of systems of the same extents; what it is made of is the
    business of each kind of cells.

    Attributes:
        kind: name in files.
        channels: C, length of a cell's vector.
        arguments: what makes an equal, untrained one.
        local: states are tensors (B, X, Y, Z), and `encode`, `read` and `advance` do the same to any
            other arrangement (B, ...) of cells: each is looked at alone.
    """

    kind: ClassVar[str]
    local: ClassVar[bool] = False
    channels: int
    arguments: dict[str, Any]

    @property
    def blind(self) -> bool:
        """Whether `advance` and `loss` look at the state alone, not at vectors."""
        return False

    @abstractmethod
    def lattice(self, states: Sequence[State]) -> Lattice:
        """Where the cells of all these states lie."""

    @abstractmethod
    def encode(self, state: State, lattice: Lattice) -> Tensor:
        """(..., C) of the lattice's cells."""

    @abstractmethod
    def read(self, h: Tensor, lattice: Lattice) -> State:
        """The state that vectors stand for."""

    def counted(self, h: Tensor, lattice: Lattice, counts: Tensor) -> State:
        """`read`, where it is known what blocks of cells hold; by default that says nothing.

        Args:
            h, lattice: see `read`.
            counts: (B, X, Y, Z, S) int64 of the blocks; see `mlcore.sagesnet.conserved.kinds_of`.
        """
        return self.read(h, lattice)

    @abstractmethod
    def advance(self, h: Tensor, lattice: Lattice, state: State) -> State:
        """The state after ``state``, whose predicted vectors are ``h``; nothing is lost or made."""

    @abstractmethod
    def reconstruction(self, h: Tensor, lattice: Lattice, state: State) -> Tensor:
        """How far ``h`` is from standing for ``state``."""

    @abstractmethod
    def loss(self, h: Tensor, lattice: Lattice, state: State, target: State) -> Tensor:
        """How far what ``h`` makes of ``state`` is from ``target``."""

    @abstractmethod
    def errors(self, h: Tensor, lattice: Lattice, state: State, target: State) -> Tensor:
        """`loss` of every cell, (...) as the cells lie."""

    def signs(self, state: State, lattice: Lattice) -> tuple[Tensor, Tensor] | None:
        """What can be told beforehand of how wrong a step from ``state`` will be; heads of confidence
        look at it beside vectors, or in their place where ``blind``.

        Returns:
            (m,) int64 rows, rising, of the cells (flattened) in which anything can go wrong at all,
            and (m, S) numbers of each; None, the default: anywhere, and vectors tell.
        """
        return None

    def turned(self, state: State, symmetry: Symmetry) -> State:
        """The state turned or mirrored, with all vectors that are in it.

        Raises:
            InvalidArgument: such states cannot be.
        """
        raise InvalidArgument(f"symmetry: states of cells of kind {self.kind!r} do not turn")

    @abstractmethod
    def stack(self, states: Sequence[State]) -> State:
        """Several states as one batch."""

    def shaken(
        self, state: State, target: State, generator: torch.Generator
    ) -> tuple[State, State]:
        """A state and the one a step later with the noise of training; by default as they are."""
        return state, target

    def conserved(self, state: State) -> Tensor | None:
        """Numbers that no step may change, which rollouts watch; None where there are none."""
        return None
