"""Fits that are watched: their files are read from where the last look ended, and kept thinned.

A look at a history of any length costs what is new in it. What was read is a cache that may be lost
at any time: a look then begins anew, some megabytes at a time.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mlcore.studio.figures import MOST

if TYPE_CHECKING:
    from mlcore.forcefield.search.pareto import Front

__all__ = ["FOLLOWED", "Best", "Followed", "Following", "Lines", "Thinned", "read_json"]

LOOK = 4 << 20
"""Bytes of a history that one look reads at most."""
PARAMETERS = 12
"""Free parameters that are kept; of more the first."""
_CHUNK = 1 << 20
_LONGEST = 64 << 20  # bytes of a line
_MARK = 64  # bytes before the end of what was read, by which it is known again
_MESSAGES = 100
_FRONT = 500

# a history's own lines, as `mlcore.forcefield.run.history` writes them; others are read as JSON
_LINE = re.compile(
    rb'\{"n":(\d+),"batch":\d+,"stage":"([^"\\]*)","point":\[([^\]]*)\],"total":([^,]+),'
    rb'"terms":\[([^\]]*)\],"objectives":\[([^\]]*)\],"violation":([^,]+),"level":(\d+),'
    rb'"failed":null,"residuals":\d+,"seconds":([0-9.e+-]+)(?:,"slopes":\d+)?\}'
)


class Lines:
    """Lines of a file that grows, each once.

    Attributes:
        path: of the file, which need not be there.
        offset: byte up to which it was read.
        bytes_read: of all looks together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = self.bytes_read = 0
        self._file: tuple[int, int] | None = None
        self._mark = b""

    def stands(self) -> bool:
        """Whether what was read is still there; else the file was made anew or cut."""
        if not self.offset:
            return True
        try:
            with self.path.open("rb") as stream:
                return self._known(stream)
        except OSError:
            return False

    def _known(self, stream: IO[bytes]) -> bool:
        found = os.fstat(stream.fileno())
        if (found.st_dev, found.st_ino) != self._file or found.st_size < self.offset:
            return False
        stream.seek(self.offset - len(self._mark))
        self.bytes_read += len(self._mark)
        return stream.read(len(self._mark)) == self._mark

    @property
    def behind(self) -> bool:
        """Whether there is more than the last look read, half a line perhaps."""
        try:
            return self.path.stat().st_size > self.offset
        except OSError:
            return False

    def new(self, most: int = LOOK) -> Iterator[list[bytes]]:
        """Whole lines that came since, some at a time, without what ends them; ``most`` bytes or so."""
        try:
            stream = self.path.open("rb")
        except OSError:
            return
        with stream:
            found = os.fstat(stream.fileno())
            self._file = (found.st_dev, found.st_ino)
            end, size = self.offset + most, _CHUNK
            while self.offset < end:
                stream.seek(self.offset)
                chunk = stream.read(size)
                self.bytes_read += len(chunk)
                whole = chunk.rfind(b"\n") + 1
                if not whole:
                    if len(chunk) < size or size >= _LONGEST:
                        return  # the line is being written
                    size *= 2
                    continue
                self.offset += whole
                self._mark = chunk[max(0, whole - _MARK) : whole]
                yield chunk[: whole - 1].split(b"\n")
                if len(chunk) < size:
                    return


class Thinned:
    """Every so many of the rows that come: fewer than ``most``, at an even stride that doubles."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.rows: list[Any] = []
        self.stride, self.count = 1, 0

    @property
    def wants(self) -> bool:
        """Whether the next row is kept."""
        return self.count % self.stride == 0

    def add(self, row: Any) -> None:
        """Take a row in; what it is does not matter where it is not wanted."""
        if self.wants:
            self.rows.append(row)
        self.count += 1
        if len(self.rows) >= self._most:
            self.rows = self.rows[::2]
            self.stride *= 2


@dataclass(frozen=True)
class Best:
    """The best candidate so far.

    Attributes:
        number: of the evaluation, from 0.
        key: by which candidates are ordered: violation, levels not passed, total.
        point: in the unit cube.
        terms: in tolerances, in the order of the fit's terms; None where not measured.
    """

    number: int
    key: tuple[float, int, float]
    point: tuple[float, ...]
    terms: tuple[float | None, ...]

    @property
    def total(self) -> float:
        return self.key[2]


@dataclass
class _Found:
    """What one line says; point and terms are read where they are needed."""

    number: int
    stage: str
    key: tuple[float, int, float]
    seconds: float
    objectives: Sequence[float]
    failed: bool
    words: Sequence[str]
    _point: Any
    _terms: Any

    def point(self) -> tuple[float, ...]:
        told = self._point
        return tuple(json.loads(b"[" + told + b"]")) if isinstance(told, bytes) else tuple(told)

    def terms(self) -> tuple[float | None, ...]:
        told = self._terms
        return tuple(json.loads(b"[" + told + b"]")) if isinstance(told, bytes) else tuple(told)


class Following:
    """What is known of a fit in a folder; `look` reads what is new.

    Attributes:
        folder: of the fit.
        count: evaluations seen.
        best: of them; None before the first.
        stages: names, in the order in which they began.
        totals: rows (number, score, stage as a number of ``stages``).
        tried: rows (number, point of the first `PARAMETERS`).
        better: rows (number, score, point) of those that were the best so far.
        clock: rows (elapsed seconds, evaluations, best score or None).
        aims: rows of objectives, where there are several.
        failed, failures: candidates that could not be evaluated, and what was said, with counts.
        seconds: that evaluations took, together.
        last: the last event that tells of evaluations.
        kept: of files that are written once, by name: (mark of the file, what was made of it).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.kept: dict[str, tuple[Any, Any]] = {}
        self._begin()

    def _begin(self) -> None:
        self._history = Lines(self.folder / "history.jsonl")
        self._events = Lines(self.folder / "events.jsonl")
        self.count = self.failed = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.stages: list[str] = []
        self.totals, self.clock = Thinned(1200), Thinned(1200)
        self.tried, self.better, self.aims = Thinned(300), Thinned(1000), Thinned(1000)
        self.failures: Counter[str] = Counter()
        self.last: Mapping[str, Any] | None = None
        self._front: Front | None = None
        self._full = False

    @property
    def bytes_read(self) -> int:
        """Of histories and events, by all looks since the beginning."""
        return self._history.bytes_read + self._events.bytes_read

    @property
    def behind(self) -> bool:
        """Whether another look would find more of the history at once."""
        return self._history.behind and self._full

    def look(self, most: int = LOOK) -> None:
        """Read what is new, at most about ``most`` bytes of the history."""
        if not (self._history.stands() and self._events.stands()):
            self._begin()
        start = self._history.offset
        for lines in self._history.new(most):
            self._join([aims for line in lines if (aims := self._take(line))])
        self._full = self._history.offset - start >= most
        for lines in self._events.new(most):
            for line in lines:
                self._event(line)

    # -- the history -------------------------------------------------------------------------------
    def _take(self, line: bytes) -> tuple[float, ...]:
        """Read a line; the objectives of its candidate, where it may be on a front."""
        found = _glance(line)
        if found is None or found.number < self.count:
            return ()
        self.count = found.number + 1
        self.seconds += found.seconds
        self.failed += found.failed
        for word in found.words:
            known = word in self.failures or len(self.failures) < _MESSAGES
            self.failures[word[:400] if known else "others"] += 1
        if found.stage not in self.stages:
            self.stages.append(found.stage)
        total = found.key[2]
        self.totals.add((found.number, total, self.stages.index(found.stage)))
        self.tried.add((found.number, found.point()[:PARAMETERS]) if self.tried.wants else None)
        if self.best is None or found.key < self.best.key:
            self.best = Best(found.number, found.key, found.point(), found.terms())
            self.better.add((found.number, total, self.best.point[:PARAMETERS]))
        several = len(found.objectives) > 1 and found.key[0] <= 0
        return tuple(found.objectives) if several and math.isfinite(sum(found.objectives)) else ()

    def _join(self, aims: list[tuple[float, ...]]) -> None:
        """Take objectives in, of which few are on the front."""
        if not aims:
            return
        from mlcore.forcefield.score import Score
        from mlcore.forcefield.search.pareto import Front

        front = self._front = self._front or Front()
        known = np.array(self.front or [(math.inf,) * len(aims[0])])
        for row in aims:
            self.aims.add(row)
        told = np.array(aims)
        behind = np.zeros(len(told), dtype=np.bool_)
        for one in known:
            behind |= (one <= told).all(axis=1)
        for row in told[~behind].tolist():
            front.add(np.zeros(0), Score(math.nan, objectives=tuple(row)))
        if len(members := front.members) > _FRONT:
            self._front = Front()
            for member in members[::2]:
                self._front.add(*member)

    @property
    def front(self) -> list[tuple[float, ...]]:
        """Objectives of points that no other dominates, by the first."""
        members = [] if self._front is None else self._front.members
        return [score.objectives for _, score in members]

    @property
    def improvements(self) -> list[tuple[int, float, tuple[float, ...]]]:
        """Rows of ``better``, the best and the last evaluation among them."""
        rows = list(self.better.rows)
        if self.best is not None:
            end = (self.best.total, self.best.point[:PARAMETERS])
            rows += [(self.best.number, *end)] if rows[-1][0] != self.best.number else []
            rows += [(self.count - 1, *end)] if self.count - 1 > self.best.number else []
        return rows

    # -- events ------------------------------------------------------------------------------------
    def _event(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            row = (float(told["elapsed"]), int(told["evaluations"]), told.get("best"))
        except (ValueError, KeyError, TypeError):
            return
        self.last = told
        self.clock.add(row)

    @property
    def times(self) -> list[tuple[float, int, float | None]]:
        """Rows of ``clock``, the last event among them."""
        rows = list(self.clock.rows)
        if self.last is not None and rows[-1][1] != self.last["evaluations"]:
            rows.append((self.last["elapsed"], self.last["evaluations"], self.last.get("best")))
        return rows


def _glance(line: bytes) -> _Found | None:
    """What a line of a history says; None where it is none."""
    fits = _LINE.fullmatch(line)
    if fits is None:
        return _read(line)
    number, stage, point, total, terms, objectives, violation, level, seconds = fits.groups()
    key = (_number(violation), -int(level), _number(total))
    aims = [_number(one) for one in objectives.split(b",")] if objectives else []
    return _Found(int(number), stage.decode(), key, float(seconds), aims, False, (), point, terms)


def _number(text: bytes) -> float:
    return math.inf if text == b"null" else float(text)


def _read(line: bytes) -> _Found | None:
    try:
        told = json.loads(line)
        infinite = [math.inf if x is None else float(x) for x in
                    (told["violation"], told["total"], *told["objectives"])]  # fmt: skip
        return _Found(
            number=int(told["n"]),
            stage=str(told["stage"]),
            key=(infinite[0], -int(told["level"]), infinite[1]),
            seconds=float(told["seconds"]),
            objectives=infinite[2:],
            failed=told["failed"] is not None,
            words=[*([told["failed"]] if told["failed"] else []), *told.get("notes", {}).values()],
            _point=told["point"],
            _terms=told["terms"],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Followed:
    """The fits that were looked at last.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._known: OrderedDict[Path, Following] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, folder: Path) -> Following:
        """The fit in a folder; to be looked at under its ``lock``."""
        with self._lock:
            found = self._known.setdefault(folder, Following(folder))
            self._known.move_to_end(folder)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
            return found


FOLLOWED = Followed()
"""Of this process."""


def read_json(
    following: Following, name: str, make: Callable[[Any], Any] | None = None, most: int = 128 << 20
) -> Any:
    """What ``make`` makes of a file of the fit, made again where the file was replaced.

    None where it is not there, is no JSON of that kind, or is larger than ``most`` bytes.
    """
    path = following.folder / name
    try:
        found = path.stat()
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        known = following.kept.get(name)
        if known is None or known[0] != mark:
            told = None if found.st_size > most else json.loads(path.read_text(encoding="utf-8"))
            made = told if make is None or told is None else make(told)
            known = following.kept[name] = (mark, made)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        following.kept.pop(name, None)
        return None
    return known[1]
