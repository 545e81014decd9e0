"""A small sum by an engine, compared with what it must be."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from mlcore.parallel.face import Engine

__all__ = ["Verdict", "add", "leibniz", "same", "try_out"]

_PARTS = 200
_TERMS = 500  # of each part
_SAME = 20_000


@dataclass(frozen=True)
class Verdict:
    """What an engine did.

    Attributes:
        passed: no item was lost and both sums have the bits they must have.
        value: pi as it came out.
        error: what failed.
        seconds: of the whole test, with the start of workers.
        rate: items/s that do nothing, workers being there.
    """

    passed: bool
    value: float | None
    error: str
    seconds: float
    rate: float


def leibniz(part: int) -> float:
    """Terms of Leibniz' series for pi, from ``500 * part`` on."""
    first = part * _TERMS
    return math.fsum(4.0 * (-1) ** k / (2 * k + 1) for k in range(first, first + _TERMS))


def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    return a + b


def same(x: int) -> int:
    """The item itself."""
    return x


def try_out(engine: Engine) -> Verdict:
    """Pi by map and reduce, and the rate of items that do nothing."""
    start = time.monotonic()
    results = list(engine.map(leibniz, range(_PARTS), timeout=60.0))
    errors = [str(result.error) for result in results if result.error is not None]
    if errors:
        return Verdict(False, None, errors[0], time.monotonic() - start, 0.0)
    parts = [result.value for result in results]
    total = engine.reduce(add, parts, timeout=60.0)
    error = str(total.error) if total.error else ""
    if not error and (parts != [leibniz(p) for p in range(_PARTS)] or total.value != _tree(parts)):
        error = "the sum has other bits than that of one process"
    if not error and abs(total.value - math.pi) > 2.0 / (_PARTS * _TERMS):
        error = f"the series gave {total.value}"
    rate = 0.0 if error else _rate(engine)
    return Verdict(not error, total.value, error, time.monotonic() - start, rate)


def _tree(parts: list[float]) -> float:
    while len(parts) > 1:
        odd = parts[-1:] if len(parts) % 2 else []
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]


def _rate(engine: Engine) -> float:
    start = time.monotonic()
    count = sum(1 for _ in engine.map(same, range(_SAME)))
    return count / (time.monotonic() - start)
