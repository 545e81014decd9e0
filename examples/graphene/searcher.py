"""Which patterns of cuts to pull next, from those that have been pulled.

A pattern and its mirror images, along the pull and across it, count as one: they differ by where the
lattice is cut, no more. A straight line in what is told of a pattern, fitted to the logarithms of
strains with all its doubts, proposes the next ones: each by a line drawn from those doubts, which are
given less and less room round by round (Thompson sampling).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.carbon import Design, all_patterns
from numpy.typing import NDArray

Array = NDArray[np.float64]
Grid = tuple[int, int]
MOST = 18
"""Cells of a grid whose patterns can all be looked at."""
ALL_CUT = 1e-3
"""Least strain whose logarithm is taken."""
WIDTHS = {"way": 0.3, "cells": 0.1, "pairs": 0.03}
"""Variance that each kind of what is told has in the logarithm of a strain, before any is known."""
SCALES, NOISES = (0.1, 0.3, 1.0, 3.0), (0.003, 0.01, 0.03, 0.1)
"""Of all those variances, and of what remains: the likeliest are taken."""


# -- patterns --------------------------------------------------------------------------------------
def twins(pattern: str, grid: Grid) -> tuple[str, ...]:
    """A pattern and its mirror images, sorted, each once."""
    rows = [pattern[k : k + grid[1]] for k in range(0, len(pattern), grid[1])]
    found = (
        "".join(row[::side] for row in rows[::end]) for side, end in product((1, -1), repeat=2)
    )
    return tuple(sorted(set(found)))


def candidates(design: Design) -> list[str]:
    """Every sheet of a design that holds together, one of each set of twins."""
    if design.bits > MOST:
        raise InvalidArgument(
            f"design: {design.bits} cells to cut have too many patterns to look at, at most {MOST}"
        )
    return [p for p in all_patterns(design) if p == twins(p, design.grid)[0]]


def way(pattern: str, grid: Grid, step: Callable[[int], float] = float) -> float:
    """The shortest way from grip to grip through cells that are whole.

    Args:
        pattern: of cuts.
        grid: its cells along and across the pull.
        step: what it costs to go so many cells sideways between two rows.
    """
    rows = [
        [k for k in range(grid[1]) if pattern[row * grid[1] + k] == "1"] for row in range(grid[0])
    ]
    costs = dict.fromkeys(rows[0], 0.0)
    for row in rows[1:]:
        costs = {k: min(c + step(abs(k - j)) for j, c in costs.items()) for k in row}
    return min(costs.values())


# -- what is told of them --------------------------------------------------------------------------
@dataclass(frozen=True)
class Told:
    """Numbers of patterns, in parts of their deviation over all of them.

    Attributes:
        patterns: (n,).
        numbers: (n, m) the first of which is 1.
        variance: (m,) of their weights.
    """

    patterns: tuple[str, ...]
    numbers: Array
    variance: Array

    def rows(self, patterns: Iterable[str]) -> NDArray[np.int64]:
        """Where patterns stand."""
        place = {pattern: k for k, pattern in enumerate(self.patterns)}
        return np.array([place[pattern] for pattern in patterns], np.int64)


def told_of(patterns: Sequence[str], design: Design) -> Told:
    """How far a pull has to go sideways, how narrow a sheet is, its cells and pairs of neighbours.

    Mirror images have the same numbers.
    """
    grid = design.grid
    wide, high = (
        design.cells[1] * design.period[1],
        design.cells[0] * design.period[0],
    )

    def longer(cells: int) -> float:
        return float(np.hypot(cells * wide, high) / high - 1)

    signs = np.array([[1.0 if bit == "1" else -1.0 for bit in p] for p in patterns])
    sheets = signs.reshape(-1, *grid)
    images = np.stack([sheets[:, ::e, ::s] for e, s in product((1, -1), repeat=2)])
    images = images.reshape(4, len(patterns), -1)
    whole = (sheets > 0).sum(2)
    ways = np.column_stack(
        [
            [way(p, grid) for p in patterns],
            [way(p, grid, longer) for p in patterns],
            whole.min(1),
            np.log(whole).sum(1),
        ]
    )
    cells = images.mean(0)
    pairs = np.column_stack([(images[..., i] * images[..., j]).mean(0) for i, j in _near(grid)])
    columns, variance = [np.ones((len(patterns), 1))], [np.full(1, 100.0)]
    for name, values in (("way", ways), ("cells", cells), ("pairs", pairs)):
        spread = values.std(0)
        kept = (values - values.mean(0))[:, spread > 1e-9] / spread[spread > 1e-9]
        columns.append(kept)
        variance.append(np.full(kept.shape[1], WIDTHS[name] / max(1, kept.shape[1])))
    return Told(tuple(patterns), np.hstack(columns), np.concatenate(variance))


def _near(grid: Grid) -> list[tuple[int, int]]:
    places = list(product(range(grid[0]), range(grid[1])))
    return [
        (i, j)
        for (i, a), (j, b) in combinations(enumerate(places), 2)
        if max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1
    ]


# -- a line with doubts ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Line:
    """Weights that are likely, by what is known.

    Attributes:
        mean: (m,) the likeliest.
        root: (m, m) whose product with numbers of a normal distribution are doubts.
    """

    mean: Array
    root: Array

    def drawn(self, rng: np.random.Generator, boldness: float) -> Array:
        """Weights, as far from the likeliest as ``boldness`` allows."""
        return np.asarray(self.mean + boldness * self.root @ rng.normal(size=len(self.mean)))


def fitted(numbers: Array, strains: Array, variance: Array) -> Line:
    """The line through logarithms of strains, by the widths under which they are likeliest."""
    target = np.log(np.maximum(strains, ALL_CUT))
    found = []
    for scale, noise in product(SCALES, NOISES):
        prior = np.concatenate([variance[:1], scale * variance[1:]])
        spread = (numbers * prior) @ numbers.T + noise * np.eye(len(target))
        _, size = np.linalg.slogdet(spread)
        found.append((size + target @ np.linalg.solve(spread, target), noise, prior))
    _, noise, prior = min(found, key=lambda one: one[0])
    precise = numbers.T @ numbers / noise + np.diag(1 / prior)
    mean = np.linalg.solve(precise, numbers.T @ target / noise)
    # of the inverse: R with R R^T
    root = np.linalg.inv(np.linalg.cholesky(precise)).T
    return Line(mean, root)


# -- what to pull next -----------------------------------------------------------------------------
def gain(strain: float | Array, target: float | None) -> Array:
    """What a strain is worth: itself, or how near it is to a target, in parts of it."""
    found = np.asarray(strain, float)
    return found if target is None else -np.abs(np.log(np.maximum(found, ALL_CUT) / target))


def by_chance(design: Design, count: int, rng: np.random.Generator) -> list[str]:
    """Different sheets that hold together, of any number of cuts as likely as another."""
    found: dict[str, None] = {}
    rows, across = design.grid
    while len(found) < count:
        cuts = rng.choice(design.bits, rng.integers(1, rows * (across - 1) + 1), replace=False)
        whole = np.ones(design.bits, bool)
        whole[cuts] = False
        if whole.reshape(rows, across).any(1).all():
            pattern = "".join("01"[int(bit)] for bit in whole)
            found[twins(pattern, design.grid)[0]] = None
    return list(found)


def proposed(
    told: Told,
    known: Mapping[str, float],
    count: int,
    rng: np.random.Generator,
    boldness: float = 1.0,
    target: float | None = None,
) -> list[str]:
    """So many patterns to pull next, none of which is known.

    Args:
        told: of all patterns there are.
        known: strains of some.
        count: how many, fewer if fewer are left.
        rng: of the doubts.
        boldness: how much room they have; 0: the best by what is known.
        target: a strain to be met; None: the greatest.
    """
    rows = told.rows(known)
    line = fitted(told.numbers[rows], np.array(list(known.values())), told.variance)
    free = np.ones(len(told.patterns), bool)
    free[rows] = False
    found = []
    for _ in range(min(count, int(free.sum()))):
        worth = gain(np.exp(told.numbers @ line.drawn(rng, boldness)), target)
        k = int(np.argmax(np.where(free, worth, -np.inf)))
        free[k] = False
        found.append(told.patterns[k])
    return found
