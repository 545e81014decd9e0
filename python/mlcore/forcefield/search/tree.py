"""Monte Carlo tree search in a continuous space (c-MCTS, B52)."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.forcefield.search.face import Points, Strategy, inside, merit, opening

__all__ = ["tree"]

Mask = npt.NDArray[np.bool_]


@dataclass(eq=False)
class _Node:
    """A point; its children are playouts around it that are better than it is.

    Attributes:
        value: its own merit.
        best: least merit of its subtree.
        depth: 0 for nodes of the first layer.
        tries: batches of playouts around it.
        visits: batches of playouts around it and all below it.
        hint: a displacement worth trying first.
    """

    point: Points
    value: float
    best: float
    depth: int
    parent: _Node | None = None
    children: list[_Node] = field(default_factory=list)
    tries: int = 1
    visits: int = 1
    hint: Points | None = None

    def upward(self) -> Iterator[_Node]:
        """It, its parent, and so on."""
        node: _Node | None = self
        while node is not None:
            yield node
            node = node.parent


def tree(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    roots: Annotated[int, Field(ge=1, description="nodes of the first layer, spread evenly")] = 40,
    playouts: Annotated[int, Field(ge=1, description="points tried around a chosen node")] = 8,
    exploration: Annotated[
        float, Field(ge=0, description="weight of rarely visited nodes in the UCB")
    ] = 0.1,
    window: Annotated[
        float, Field(gt=0, le=1, description="width of the playouts around the first layer")
    ] = 0.3,
    scaling: Annotated[
        float, Field(ge=0, description="the window falls as exp(-scaling depth)")
    ] = 0.01,
    narrowest: Annotated[
        float, Field(gt=0, le=1, description="part of the window that is always left")
    ] = 0.03,
    decades: Annotated[
        float, Field(ge=0, description="distances of playouts within a window, in powers of ten")
    ] = 1.0,
    sparsity: Annotated[
        float, Field(gt=0, description="less of it moves fewer coordinates in a playout")
    ] = 0.1,
) -> Strategy:
    """c-MCTS: UCB selection, adaptive playouts, windows that narrow with depth.

    S. Manna et al., Nat. Commun. 13, 368 (2022). The reward of a node is the best merit of its
    subtree, counted by its rank among all nodes, so that the scale of the totals does not matter;
    at every node going down competes with more playouts around the node itself. Playouts move few
    coordinates or many, near or far, or repeat sums of the moves that led to the node, whichever
    succeeded more often; where several succeed at once, their sum is tried next.
    """
    random = np.random.default_rng(seed)
    trunk = _Node(np.zeros(size), math.inf, math.inf, -1)
    order: list[float] = []
    success = _Success()
    points = opening(size, start, random, roots)
    for point, score in zip(points, (yield points), strict=True):
        _grow(trunk, point, merit(score), order)
    while True:
        node = _select(trunk, order, exploration)
        width = window * max(narrowest, math.exp(-scaling * node.depth))
        moves = _moves(size, playouts, width, decades, sparsity, random)
        again = _repeated(moves, node, success, random)
        if node.hint is not None:
            moves[0], node.hint = node.hint, None
        points = inside(node.point + moves)
        values = [merit(score) for score in (yield points)]
        success.learn(again, np.array(values) < node.value)
        _learn(node, points, values, order)


class _Success:
    """How often playouts of new moves and of repeated moves were better than their node."""

    def __init__(self) -> None:
        self._rates = [0.2, 0.1]

    @property
    def share(self) -> float:
        """Of the playouts, that should repeat moves."""
        return self._rates[1] / sum(self._rates)

    def learn(self, again: Mask, better: Mask) -> None:
        """The running means; none falls so low that it is never tried again."""
        for kind, which in enumerate((~again, again)):
            if which.any():
                mean = 0.9 * self._rates[kind] + 0.1 * float(better[which].mean())
                self._rates[kind] = max(0.005, mean)


def _repeated(moves: Points, node: _Node, success: _Success, random: np.random.Generator) -> Mask:
    """Makes some of the moves random sums of the last eight that led to the node; which ones."""
    path = [above for above in node.upward() if above.depth >= 0][:9]
    again = random.random(len(moves)) < success.share
    if len(path) < 2:
        return np.zeros(len(moves), dtype=np.bool_)
    past = np.array([a.point - b.point for a, b in pairwise(path)])
    mixed = random.standard_normal((len(moves), len(past))) @ past
    moves[again] = (mixed + 0.1 * moves)[again]
    return again


def _select(trunk: _Node, order: list[float], exploration: float) -> _Node:
    """Down the tree by upper confidence bounds, to where the node itself beats its children."""

    def reward(value: float) -> float:
        return 1 - math.log(1 + bisect_left(order, value)) / math.log(1 + len(order))

    node = trunk
    while True:
        log = math.log(node.visits + 1)
        chosen, highest = node, -math.inf
        if node is not trunk:
            highest = reward(node.value) + exploration * math.sqrt(log / node.tries)
        for child in node.children:
            bound = reward(child.best) + exploration * math.sqrt(log / child.visits)
            if bound > highest:
                chosen, highest = child, bound
        if chosen is node:
            return node
        node = chosen


def _moves(
    size: int,
    count: int,
    width: float,
    decades: float,
    sparsity: float,
    random: np.random.Generator,
) -> Points:
    """(count, n) displacements of random sparsity and of random distance up to the width."""
    share = size ** -(random.random((count, 1)) ** sparsity)
    moved = random.random((count, size)) < share
    moved[np.arange(count), random.integers(size, size=count)] = True
    far = width * 10 ** (-decades * random.random((count, 1)))
    return np.asarray(moved * far * random.standard_normal((count, size)))


def _learn(node: _Node, points: Points, values: list[float], order: list[float]) -> None:
    """Better playouts become children; the best of them is to try the sum of all their moves."""
    for above in node.upward():
        above.visits += 1
    node.tries += 1
    better = sorted(
        (k for k in range(len(values)) if values[k] < node.value), key=values.__getitem__
    )
    for rank, k in enumerate(better):
        child = _grow(node, points[k], values[k], order)
        if rank == 0 and len(better) > 1:
            child.hint = (points[better[1:]] - node.point).sum(axis=0)


def _grow(parent: _Node, point: Points, value: float, order: list[float]) -> _Node:
    """A new child, told to all above it."""
    child = _Node(point, value, value, parent.depth + 1, parent)
    parent.children.append(child)
    insort(order, value)
    for above in parent.upward():
        above.best = min(above.best, value)
    return child
