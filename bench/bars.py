"""Bars: long measurements beside what they must hold, each a function by name in a package."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlcore

__all__ = ["Measured", "main"]

Bars = dict[str, Callable[[], Iterator["Measured"]]]


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


def main(package: ModuleType, description: str | None) -> int:
    """Runs the bars of every module of ``package``; 1 where one is missed."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="bars whose name contains this")
    parser.add_argument("--list", action="store_true", help="tell the names alone")
    options = parser.parse_args()
    mlcore.set_num_threads(1)
    missed = 0
    for name, run in _known(package).items():
        if options.only not in name:
            continue
        print(name, flush=True)
        if options.list:
            continue
        start = time.process_time()
        for one in run():
            missed += one.held is False
            print(f"  {one}", flush=True)
        print(f"  took {time.process_time() - start:.0f} s of CPU time", flush=True)
    return int(missed > 0)


def _known(package: ModuleType) -> Bars:
    found: Bars = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        own: dict[str, Any] = importlib.import_module(f"{package.__name__}.{module}").bars
        found |= own
    return found
