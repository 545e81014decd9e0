"""Monte Carlo tree search in a continuous space (c-MCTS, B52)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from mlcore.forcefield.search.face import Points, Strategy, inside, merit, opening

__all__ = ["tree"]


@dataclass(eq=False)
class _Node:
    """A point whose children are playouts around it.

    Attributes:
        value: its own merit.
        best: least merit of its subtree.
        visits: expansions in its subtree.
        reach: factor of the window of its playouts; grows with success, falls with failure.
    """

    point: Points
    value: float
    depth: int
    parent: _Node | None = None
    children: list[_Node] = field(default_factory=list)
    best: float = math.inf
    visits: int = 0
    reach: float = 1.0


def tree(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    roots: Annotated[int, Field(ge=1, description="nodes of the first layer, spread evenly")] = 20,
    playouts: Annotated[int, Field(ge=1, description="points tried around a chosen node")] = 8,
    exploration: Annotated[
        float, Field(ge=0, description="weight of rarely visited nodes in the UCB")
    ] = 0.1,
    window: Annotated[
        float, Field(gt=0, le=1, description="half width of the playouts around a root")
    ] = 0.5,
    scaling: Annotated[
        float, Field(ge=0, description="the window falls as exp(-scaling depth)")
    ] = 0.05,
    widening: Annotated[
        float, Field(gt=0, le=1, description="a node takes (visits)^widening children")
    ] = 0.3,
) -> Strategy:
    """c-MCTS: UCB selection, adaptive playouts, windows that narrow with depth.

    S. Manna et al., Nat. Commun. 13, 368 (2022). A node's reward is the best merit of its subtree,
    counted as its rank among all nodes, so that the scale of the totals does not matter. Playouts
    move few coordinates or many, near or far, at random; their width follows their success.
    """
    random = np.random.default_rng(seed)
    trunk = _Node(np.zeros(size), math.inf, -1)
    points = opening(size, start, random, roots)
    for point, score in zip(points, (yield points), strict=True):
        _grow(trunk, point, merit(score))
    nodes = list(trunk.children)
    while True:
        node = _select(trunk, nodes, exploration, widening)
        width = window * node.reach * math.exp(-scaling * node.depth)
        points = _playouts(node.point, width, playouts, random)
        values = [merit(score) for score in (yield points)]
        first = int(np.argmin(values))
        node.reach = _reached(node.reach, sum(v < node.value for v in values) / playouts)
        nodes.append(_grow(node, points[first], values[first]))


def _grow(parent: _Node, point: Points, value: float) -> _Node:
    """A new child, told to all above it."""
    child = _Node(point, value, parent.depth + 1, parent, reach=parent.reach)
    parent.children.append(child)
    above: _Node | None = child
    while above is not None:
        above.best = min(above.best, value)
        above.visits += 1
        above = above.parent
    return child


def _select(trunk: _Node, nodes: list[_Node], exploration: float, widening: float) -> _Node:
    """Down the tree by upper confidence bounds to a node that has room for a child."""
    order = np.sort([node.best for node in nodes])
    node = trunk
    while node is trunk or len(node.children) >= node.visits**widening:
        if not node.children:
            break
        log = math.log(max(node.visits, 1))

        def bound(child: _Node, log: float = log) -> float:
            reward = 1 - np.searchsorted(order, child.best) / len(order)
            return float(reward + exploration * math.sqrt(log / child.visits))

        node = max(node.children, key=bound)
    return node


def _playouts(point: Points, width: float, count: int, random: np.random.Generator) -> Points:
    """(count, n) points around one: of random sparsity, of random distance up to the width."""
    size = len(point)
    share = size ** -random.random((count, 1))
    moved = random.random((count, size)) < share
    moved[np.arange(count), random.integers(size, size=count)] = True
    far = width * random.random((count, 1)) ** 2
    return inside(point + moved * far * random.standard_normal((count, size)))


def _reached(reach: float, success: float) -> float:
    """One fifth of the playouts should succeed (I. Rechenberg)."""
    return min(2.0, max(1e-3, reach * math.exp((success - 0.2) / 2)))
