"""What the study of automata must hold: parts that were done before are read from out/automata."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bars import Bars, Measured

ROOT = Path(__file__).parents[2]


def automata() -> Iterator[Measured]:
    """CA1 to CA6 and L1."""
    sys.path.insert(0, str(ROOT / "examples" / "automata"))
    study = importlib.import_module("automata")
    _, found = study.main(ROOT / "out" / "automata", workers=2)
    for one in found:
        yield Measured(f"{one['case']} {one['what']}", one["value"], one["most"], one["least"])


bars: Bars = {"automata": automata}
