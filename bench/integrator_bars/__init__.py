"""One module for each kind of integrator, whose `bars` hold its long measurements by name."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Measured"]


@dataclass(frozen=True)
class Measured:
    """A value beside its bar.

    Attributes:
        what: was measured.
        value: of it.
        most: it must not exceed this; None sets no such bar.
        least: it must not be below this; None sets no such bar.
    """

    what: str
    value: float
    most: float | None = None
    least: float | None = None

    @property
    def held(self) -> bool | None:
        """Whether the bar is held; None where there is none. What is no number holds no bar."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    def __str__(self) -> str:
        bars = [f"<= {self.most:g}"] if self.most is not None else []
        bars += [f">= {self.least:g}"] if self.least is not None else []
        word = {True: "held", False: "MISSED", None: ""}[self.held]
        return f"{self.what:<58}{' and '.join(bars):>14} {self.value:>12.4g}  {word}".rstrip()
