"""Text files, plain or gzip, read line by line with errors that name file and line."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import FileFormatError

__all__ = ["LINE_LIMIT", "TextSource"]

LINE_LIMIT = 1 << 20
"""Longest line accepted, in bytes: bounds the memory that a damaged file can ask for."""


class TextSource:
    """An open text file. Every failure becomes a `FileFormatError` that names the file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.line_number = 0
        self._pushed: list[str] = []
        self._file = self._open()

    def __enter__(self) -> TextSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def _open(self) -> BinaryIO:
        if self.path.is_dir():
            self.fail("is a folder; a trajectory file is needed", line=0)
        try:
            raw = self.path.open("rb")
        except FileNotFoundError:
            self.fail("does not exist", line=0)
        except PermissionError:
            self.fail("cannot be read: no permission", line=0)
        except OSError as error:
            self.fail(f"cannot be read: {error.strerror}", line=0)
        magic = raw.read(2)
        raw.seek(0)
        if not magic:
            raw.close()
            self.fail("is empty", line=0)
        if magic == b"\x1f\x8b":
            return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
        if self.path.suffix == ".gz":
            raw.close()
            self.fail("is named .gz but is not a gzip file", line=0)
        return raw

    def fail(self, message: str, line: int | None = None) -> NoReturn:
        """Raise a `FileFormatError`; `line` 0 leaves the line number out."""
        number = self.line_number if line is None else line
        where = f"{self.path}, line {number}: " if number else f"{self.path}: "
        raise FileFormatError(where + message)

    def line(self, expected: str) -> str:
        """The next line without its end; an error at the end of the file names `expected`."""
        text = self._read()
        if text is None:
            self.fail(f"the file ends where {expected} should follow; it looks cut")
        return text

    def peek_columns(self) -> int:
        """Number of words on the next line, which stays to be read."""
        text = self._read()
        if text is None:
            return 0
        self._pushed.append(text)
        self.line_number -= 1
        return len(text.split("#")[0].split())

    def _read(self) -> str | None:
        if self._pushed:
            self.line_number += 1
            return self._pushed.pop()
        try:
            raw = self._file.readline(LINE_LIMIT)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.fail(f"damaged or cut gzip file ({error})")
        except OSError as error:
            self.fail(f"cannot be read: {error.strerror or error}")
        if not raw:
            return None
        self.line_number += 1
        if not raw.endswith(b"\n"):
            if len(raw) >= LINE_LIMIT:
                self.fail(f"line longer than {LINE_LIMIT} bytes")
            self.fail("the last line does not end with a newline; the file looks cut")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            self.fail("is not text")

    def next_frame(self) -> str | None:
        """The next line that is not blank, or None at the end of the file."""
        while (text := self._read()) is not None:
            if text.strip():
                return text
        return None

    def integer(self, text: str, field: str, least: int | None = None) -> int:
        """`text` as an integer not below `least`."""
        try:
            value = int(text)
        except ValueError:
            self.fail(f"{field} should be an integer, found {text.strip()[:60]!r}")
        if least is not None and value < least:
            self.fail(f"{field} should be at least {least}, found {value}")
        return value

    def kinds(self, column: NDArray[np.float64], field: str) -> NDArray[np.int64]:
        """A column of atom types: whole numbers of at least 1."""
        if (column != np.round(column)).any() or (column < 1).any():
            self.fail(f"{field} should hold positive integers")
        return column.astype(np.int64)

    def floats(self, texts: Sequence[str], field: str, count: int) -> NDArray[np.float64]:
        """`count` finite numbers."""
        if len(texts) != count:
            self.fail(f"{field} should be {count} numbers, found {len(texts)}")
        try:
            values = np.array([float(t) for t in texts])
        except ValueError:
            self.fail(f"{field} should be {count} numbers, found {' '.join(texts)[:80]!r}")
        if not np.isfinite(values).all():
            self.fail(f"{field} is not finite: {' '.join(texts)[:80]}")
        return values

    def table(self, rows: int, names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float64]:
        """The columns `wanted` of the next `rows` lines of a table with columns `names`."""
        return self.columns(rows, names, wanted)[0]

    def columns(
        self, rows: int, names: Sequence[str], wanted: Sequence[str], text: str | None = None
    ) -> tuple[NDArray[np.float64], list[str]]:
        """The columns `wanted` of a table, and the words of the column `text`."""
        first = self.line_number + 1
        lines = [self.line(f"row {k + 1} of {rows}") for k in range(rows)]
        tokens = " ".join(lines).split()
        width = len(names)
        if len(tokens) == rows * width:
            words = [] if text is None else tokens[names.index(text) :: width]
            table = np.empty((rows, len(wanted)))
            try:
                for k, name in enumerate(wanted):
                    column = tokens[names.index(name) :: width]
                    table[:, k] = np.fromiter(map(float, column), float, rows)
            except ValueError:
                pass  # the careful way tells where
            else:
                if np.isfinite(table).all():
                    return table, words
        table = self._careful_table(lines, first, names, wanted)
        place = None if text is None else names.index(text)
        return table, [] if place is None else [line.split()[place] for line in lines]

    def _careful_table(
        self, lines: Sequence[str], first: int, names: Sequence[str], wanted: Sequence[str]
    ) -> NDArray[np.float64]:
        out = np.empty((len(lines), len(wanted)))
        for k, line in enumerate(lines):
            tokens = line.split()
            if len(tokens) != len(names):
                self.fail(
                    f"{len(tokens)} columns, but {len(names)} are announced ({' '.join(names)})",
                    line=first + k,
                )
            for c, name in enumerate(wanted):
                token = tokens[names.index(name)]
                try:
                    out[k, c] = float(token)
                except ValueError:
                    self.fail(
                        f"column {name} should be a number, found {token[:60]!r}", line=first + k
                    )
                if not np.isfinite(out[k, c]):
                    self.fail(f"column {name} is not finite: {token}", line=first + k)
        return out
