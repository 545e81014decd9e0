"""Rules of cellular automata, on periodic boxes of as many dimensions as the rule has.

A state is (B, X, Y, Z) int64, and a rule of one or two dimensions uses the last axes; see
`AutomatonCells`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument

__all__ = ["CountRule", "ElementaryRule", "Rule"]


class Rule(ABC):
    """What every cell becomes."""

    dimensions: int

    @abstractmethod
    def step(self, state: Tensor) -> Tensor:
        """One step later; same shape.

        Raises:
            InvalidArgument: no state of this rule.
        """

    def run(self, state: Tensor, steps: int) -> list[Tensor]:
        """The state and those after each of so many steps."""
        states = [state]
        for _ in range(steps):
            states.append(self.step(states[-1]))
        return states

    def _check(self, state: Tensor) -> None:
        whole = not (state.is_floating_point() or state.is_complex())
        flat = state.dim() == 4 and all(n == 1 for n in state.shape[1 : 4 - self.dimensions])
        if not (whole and flat):
            raise InvalidArgument(
                f"state must be whole numbers (B, X, Y, Z) with extents of 1 before the last "
                f"{self.dimensions} axes, got {state.dtype} {tuple(state.shape)}"
            )


@dataclass(frozen=True)
class ElementaryRule(Rule):
    """A rule of a row of cells and their two neighbours, by Wolfram's number.

    Args:
        number: 0 to 255; bit 4 left + 2 centre + right is what the cell becomes.

    Raises:
        InvalidArgument: ``number`` is out of range.
    """

    number: int
    dimensions = 1

    def __post_init__(self) -> None:
        if not isinstance(self.number, int) or not 0 <= self.number < 256:
            raise InvalidArgument(f"number must be from 0 to 255, got {self.number!r}")

    def step(self, state: Tensor) -> Tensor:
        self._check(state)
        seen = 4 * state.roll(1, -1) + 2 * state + state.roll(-1, -1)
        return (self.number >> seen) & 1


@dataclass(frozen=True)
class CountRule(Rule):
    """A rule that counts the live cells among all that touch a cell: 2, 8 or 26.

    Args:
        born: counts at which a dead cell comes alive.
        survives: counts at which a live cell stays alive.
        dimensions: 1 to 3.

    Raises:
        InvalidArgument: a count that no cell can have, or other dimensions.
    """

    born: frozenset[int]
    survives: frozenset[int]
    dimensions: int = 2

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2, 3):
            raise InvalidArgument(f"dimensions must be 1, 2 or 3, got {self.dimensions!r}")
        for name in ("born", "survives"):
            counts = frozenset(getattr(self, name))
            if not counts <= set(range(self.neighbours + 1)):
                raise InvalidArgument(f"{name} must be from 0 to {self.neighbours}: {set(counts)}")
            object.__setattr__(self, name, counts)

    @classmethod
    def of(cls, text: str) -> CountRule:
        """A rule by its usual name.

        Args:
            text: "B3/S23" in two dimensions, or four digits after C. Bays in three: "4555" keeps
                cells of 4 to 5 neighbours alive and gives birth at 5 to 5.

        Raises:
            InvalidArgument: neither.
        """
        if match := re.fullmatch(r"[Bb]([0-8]*)/?[Ss]([0-8]*)", text):
            born, survives = (frozenset(map(int, digits)) for digits in match.groups())
            return cls(born, survives, 2)
        if re.fullmatch(r"\d{4}", text):
            low, high, first, last = map(int, text)
            return cls(frozenset(range(first, last + 1)), frozenset(range(low, high + 1)), 3)
        raise InvalidArgument(f"rule must read like 'B3/S23' or '4555', got {text!r}")

    @classmethod
    def majority(cls, dimensions: int = 2) -> CountRule:
        """A cell becomes what most of it and its neighbours are."""
        half = (3**dimensions - 1) // 2
        every = range(half, 2 * half + 1)
        return cls(frozenset(every) - {half}, frozenset(every), dimensions)

    @classmethod
    def unanimous(cls, dimensions: int = 2) -> CountRule:
        """A cell lives on where it and all neighbours are alive: rule 128 in any dimension."""
        return cls(frozenset(), frozenset({3**dimensions - 1}), dimensions)

    @property
    def neighbours(self) -> int:
        """How many cells touch a cell."""
        return int(3**self.dimensions - 1)

    def step(self, state: Tensor) -> Tensor:
        self._check(state)
        total = state
        for axis in range(4 - self.dimensions, 4):
            total = total + total.roll(1, axis) + total.roll(-1, axis)
        becomes = torch.stack([self._table(self.born), self._table(self.survives)])
        return becomes.to(state.device)[state, total - state]

    def _table(self, counts: Collection[int]) -> Tensor:
        return torch.tensor([int(n in counts) for n in range(self.neighbours + 1)])
