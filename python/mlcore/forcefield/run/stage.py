"""Which of the searches that a search is made of is at work."""

from __future__ import annotations

from collections.abc import Iterator
from types import GeneratorType
from typing import Any

from mlcore.forcefield.search.face import Search
from mlcore.forcefield.search.registry import STRATEGIES

__all__ = ["Stage"]


# searches made of others say nothing; these parts of theirs have names
_MADE_OF_OTHERS = ("default", "two_stage")
_PARTS = {"_refined": "least_squares", "_spread": "restart"}


class Stage:
    """Follows a search through its stages, by looking at it: the search itself knows nothing of it.

    Attributes:
        name: of the strategy that asked for the last points, such as ``cma``.
    """

    def __init__(self, search: Search) -> None:
        self._outermost: Any = search._strategy
        self.name = ""

    def changed(self) -> bool:
        """Whether the points just asked for come from another stage than those before."""
        name = ""
        for inner in _chain(self._outermost):
            name = _name(inner) or name
        changed, self.name = name != self.name, name
        return changed


def _chain(strategy: Any) -> Iterator[Any]:
    """A generator, the one it waits for, and so on."""
    while isinstance(strategy, GeneratorType):
        yield strategy
        inside = strategy.gi_yieldfrom
        if not isinstance(inside, GeneratorType) and strategy.gi_frame is not None:
            inside = strategy.gi_frame.f_locals.get("strategy")
        strategy = inside


def _name(strategy: Any) -> str:
    """The strategy a generator is, "" where it is a part of one."""
    name = strategy.__name__
    if name == "inverted" and strategy.gi_frame is not None:
        name = strategy.gi_frame.f_locals["work"].__qualname__.partition(".")[0]
    if name in _PARTS:
        return _PARTS[name]
    return str(name) if name in STRATEGIES and name not in _MADE_OF_OTHERS else ""
