"""What a fit has tried: one line of JSON for each evaluation, readable after any kind of end.

Points and scores are written as the shortest decimals that read back to the same bits, so that a
search which is told them again goes the same way. Residuals, which least squares needs, lie in a
file of float64 beside, whose length the lines tell, each before its derivatives where these were
asked for.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import FileFormatError
from mlcore.forcefield.score import Score

__all__ = ["Entry", "History", "read_history", "same"]

HISTORY = "history.jsonl"
RESIDUALS = "residuals.f64"
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """One evaluation.

    Attributes:
        number: of the evaluation, from 0.
        batch: number of the batch it was asked in.
        point: (n,) in the unit cube.
        score: what the search was told.
        terms: size of each term in tolerances, in the order of the fit's terms; None where it was
            not measured. Empty where the candidate failed.
        seconds: the evaluation took.
        stage: of the search, "" where it has none.
        notes: target -> what went wrong with it.
    """

    number: int
    batch: int
    point: tuple[float, ...]
    score: Score
    terms: tuple[float | None, ...]
    seconds: float
    stage: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """As `history.jsonl` holds it."""
        score = self.score
        told: dict[str, Any] = {
            "n": self.number,
            "batch": self.batch,
            "stage": self.stage,
            "point": self.point,
            "total": _finite(score.total),
            "terms": self.terms,
            "objectives": [_finite(x) for x in score.objectives],
            "violation": _finite(score.violation),
            "level": score.level,
            "failed": score.error,
            "residuals": 0 if score.residuals is None else len(score.residuals),
            "seconds": round(self.seconds, 6),
        }
        if score.slopes is not None:
            told["slopes"] = score.slopes.shape[1]
        if self.notes:
            told["notes"] = dict(self.notes)
        return json.dumps(told, allow_nan=False, separators=(",", ":"))

    def numbers(self) -> bytes:
        """As `residuals.f64` holds them."""
        parts = (self.score.residuals, self.score.slopes)
        return b"".join(np.asarray(p, dtype="<f8").tobytes() for p in parts if p is not None)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _infinite(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _entry(told: Mapping[str, Any], held: Array | None) -> Entry:
    count, columns = int(told["residuals"]), int(told.get("slopes", 0))
    residuals = None if held is None else held[:count]
    slopes = None if held is None or not columns else held[count:].reshape(-1, columns)
    return Entry(
        number=int(told["n"]),
        batch=int(told["batch"]),
        point=tuple(map(float, told["point"])),
        score=Score(
            total=_infinite(told["total"]),
            residuals=residuals,
            objectives=tuple(map(_infinite, told["objectives"])),
            violation=_infinite(told["violation"]),
            level=int(told["level"]),
            error=told["failed"],
            slopes=slopes,
        ),
        terms=tuple(told["terms"]),
        seconds=float(told["seconds"]),
        stage=str(told["stage"]),
        notes=told.get("notes", {}),
    )


def read_history(folder: str | os.PathLike[str]) -> list[Entry]:
    """All whole lines of a fit's history; a last one cut short by the end of its writer is dropped.

    Raises:
        FileFormatError: a line before the last is none of a history.
    """
    return [entry for entry, _ in _entries(Path(folder))]


def _entries(folder: Path) -> Iterator[tuple[Entry, int]]:
    """Entries, each with the length of the file up to its end."""
    path = folder / HISTORY
    content = path.read_bytes() if path.is_file() else b""
    rows = _stored(folder / RESIDUALS)
    end = used = 0
    for k, line in enumerate(content.splitlines(keepends=True)):
        end += len(line)
        try:
            told = json.loads(line)
            count = int(told["residuals"]) * (1 + int(told.get("slopes", 0)))
            held = rows[used : used + count] if count else None
            if held is not None and len(held) < count:
                return
            entry = _entry(told, held)
        except (ValueError, KeyError, TypeError) as error:
            if end == len(content):
                return
            raise FileFormatError(f"{path}: line {k + 1}: {error!r}") from None
        torn = not line.endswith(b"\n")
        if torn or entry.number != k:
            if end == len(content) or torn:
                return
            raise FileFormatError(f"{path}: line {k + 1} is of evaluation {entry.number}, not {k}")
        used += count
        yield entry, end


def _stored(path: Path) -> Array:
    if not path.is_file() or path.stat().st_size < 8:
        return np.zeros(0)
    count = path.stat().st_size // 8
    found: Array = np.memmap(path, dtype="<f8", mode="r", shape=(count,))
    return found


class History:
    """Appends to the history of a folder, after what is whole in it.

    Args:
        folder: of the fit.

    Attributes:
        entries: what was there already.
    """

    def __init__(self, folder: Path) -> None:
        found = list(_entries(folder))
        self.entries = [entry for entry, _ in found]
        self._lines = _opened(folder / HISTORY, found[-1][1] if found else 0)
        rows = sum(_length(entry.score) for entry in self.entries)
        self._rows = _opened(folder / RESIDUALS, 8 * rows)

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries down; on return they are the system's, whatever becomes of this process."""
        lines = []
        for entry in entries:
            self._rows.write(entry.numbers())
            lines.append(entry.line() + "\n")
        # a line is never there before its residuals
        self._rows.flush()
        self._lines.write("".join(lines).encode())
        self._lines.flush()

    def close(self) -> None:
        self._rows.close()
        self._lines.close()


def _length(score: Score) -> int:
    """Numbers that lie beside the line of a score."""
    return sum(part.size for part in (score.residuals, score.slopes) if part is not None)


def _opened(path: Path, length: int) -> IO[bytes]:
    if path.is_file() and path.stat().st_size != length:
        os.truncate(path, length)
    return path.open("ab")


def same(one: Sequence[Entry], other: Sequence[Entry]) -> bool:
    """Whether two histories are the same to the last bit, but for the times evaluations took."""
    return len(one) == len(other) and all(map(_equal, one, other))


def _equal(one: Entry, other: Entry) -> bool:
    a, b = one.score, other.score
    plain = (one.number, one.batch, one.point, one.terms, one.stage) == (
        (other.number, other.batch, other.point, other.terms, other.stage)
    )
    scores = (a.total, a.objectives, a.violation, a.level, a.error) == (
        (b.total, b.objectives, b.violation, b.level, b.error)
    )
    pairs = ((a.residuals, b.residuals), (a.slopes, b.slopes))
    return plain and scores and all(_same_rows(x, y) for x, y in pairs)


def _same_rows(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
