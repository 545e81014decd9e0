"""Where a long command stands, in a file that others may read while it runs."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from mlcore.io.atomic import write_text

__all__ = ["Standing", "read_standing"]

_PAUSE = 0.5  # seconds between two writings


class Standing:
    """Tells a file where a command stands: ``{"line", "part", "time"}``.

    Args:
        path: of the file, replaced as a whole; None: nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._told, self._line = path, -math.inf, ""

    def __call__(self, line: str, part: float = math.nan) -> None:
        """``line``: for people; ``part``: of it that is done, 0 to 1, NaN where unknown.

        Parts that follow each other within half a second are told as one.
        """
        now = time.monotonic()
        if self._path is None or (line == self._line and now - self._told < _PAUSE):
            return
        self._told, self._line = now, line
        known = float(part) if math.isfinite(part) else None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps({"line": line, "part": known, "time": time.time()}))


def read_standing(path: Path) -> dict[str, Any]:
    """What was told last; empty where nothing was."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
