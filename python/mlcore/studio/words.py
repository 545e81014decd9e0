"""Numbers and times as people read them, for templates."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

__all__ = ["FILTERS", "duration", "moment", "signed", "size"]

_ANGSTROM = re.compile(r"\bA\b")


def duration(seconds: float) -> str:
    """Such as 3 min 12 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(at: float) -> str:
    """How long ago it was, or the day."""
    ago = time.time() - at
    if ago < 60:
        return "just now"
    if ago < 86400:
        return f"{duration(ago - ago % 60).removesuffix(' 0 s')} ago"
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


def iso(at: float) -> str:
    """As machines read it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def size(count: float) -> str:
    """Bytes, such as 3.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def signed(unit: str) -> str:
    """A unit with its signs: eV/A is eV/Å."""
    return _ANGSTROM.sub("Å", unit)


def query(told: Mapping[str, Any]) -> str:
    """Words after the ? of an address, those that say something."""
    return urlencode({name: value for name, value in told.items() if value not in ("", None)})


FILTERS = {
    "duration": duration,
    "moment": moment,
    "iso": iso,
    "size": size,
    "unit": signed,
    "query": query,
}
