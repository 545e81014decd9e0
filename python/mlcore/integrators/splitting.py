"""Palindromic splittings: what learned steps of drifts and kicks share, whatever their arrays are.

One step h of positions x and displacements w = h v:

    x += c_0 w;  for k = 1..K:  w += s F_k(x; s);  x += c_k w,      s = h^2 / m

The same from both ends (c_k = c_{K-k}, F_k = F_{K+1-k}) it is its own inverse with w turned round; with
F_k = -grad of anything it is symplectic. The exact flow depends on h and m through s alone. Source:
R. I. McLachlan and G. R. W. Quispel, Splitting methods, Acta Numerica 11 (2002) 341.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["even", "mirrored", "palindrome", "step"]


def mirrored(k: int, count: int) -> int:
    """Which of the first (count + 1) // 2 items is at place k of a palindrome."""
    return min(k, count - 1 - k)


def palindrome(free: Sequence[Any], kicks: int) -> list[Any]:
    """The drifts c_0..c_K of sum 1 whose first K // 2 are free: those in the middle take what is left."""
    if len(free) != kicks // 2:
        raise ValueError(f"{kicks} kicks leave {kicks // 2} drifts free, got {len(free)}")
    rest = 1 - 2 * sum(free)
    middle = [0.5 * rest] * 2 if kicks % 2 else [rest]
    return [*free, *middle, *reversed(free)]


def even(kicks: int) -> list[float]:
    """The free drifts of K equal small steps: a half, then whole ones. A start for learning."""
    return [(0.5 if k == 0 else 1.0) / kicks for k in range(kicks // 2)]


def step(x: Any, w: Any, drifts: Sequence[Any], kick: Callable[[int, Any], Any]) -> tuple[Any, Any]:
    """Positions and displacements after one step; kick(k, x) = s F_{k+1}(x; s), k from 0."""
    x = x + drifts[0] * w
    for k, drift in enumerate(drifts[1:]):
        w = w + kick(k, x)
        x = x + drift * w
    return x, w
