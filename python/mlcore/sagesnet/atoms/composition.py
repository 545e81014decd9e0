"""How a step is put together of drifts and kicks: x goes on with v, v with the forces at x, in turns.

Even parts are those of the Verlet scheme. The tuned ones cost as many forces and were found by least
squares: among symmetric compositions of six kicks they follow best, over one step, harmonic oscillators
of angles up to 3.1, and the Morse oscillator that a bond of carbon is in a step of 10 fs up to half of
its depth. Such schemes are those of S. Blanes & P. C. Moan, J. Comput. Appl. Math. 142, 313 (2002), whose
coefficients are for steps that are small.
"""

from __future__ import annotations

from mlcore.errors import InvalidArgument

__all__ = ["TUNED", "parts"]

TUNED = 6
"""Kicks of the tuned composition."""
_DRIFTS = (0.06224693, 0.24743623, -0.01327589)
_KICKS = (0.16178712, 0.68053033)


def parts(kicks: int, tuned: bool = False) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Parts of a step that the drifts, one more than kicks, and the kicks take; a drift is first.

    Both add up to 1 and read the same from the end: steps can be gone back.

    Raises:
        InvalidArgument: tuned, and other than six kicks.
    """
    if not tuned:
        ends, between = 0.5 / kicks, 1.0 / kicks
        return (ends, *[between] * (kicks - 1), ends), (between,) * kicks
    if kicks != TUNED:
        raise InvalidArgument(f"tuned: there are tuned parts for {TUNED} kicks, not for {kicks}")
    return _mirrored(_DRIFTS, 1 - 2 * sum(_DRIFTS)), _mirrored(_KICKS, None)


def _mirrored(first: tuple[float, ...], middle: float | None) -> tuple[float, ...]:
    """From both ends the same; what is left of 1 in the middle, which two share where there is none."""
    inner = (middle,) if middle is not None else (0.5 - sum(first),) * 2
    return (*first, *inner, *reversed(first))
