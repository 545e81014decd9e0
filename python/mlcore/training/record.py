"""The metrics log: one JSON object a line, readable while training runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlcore.errors import Error, FileFormatError
from mlcore.io.atomic import write_text
from mlcore.io.tensors import parse_json, read_bytes

__all__ = ["MetricsLog", "read_metrics"]

_LIMIT = 1 << 28


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """All complete records of a metrics log; a last line cut off by a crash is left out.

    Raises:
        FileFormatError: naming file and line.
    """
    lines = read_bytes(path, _LIMIT, "metrics log").split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):
        record = parse_json(line, f"{path}: line {number}")
        if not isinstance(record, dict):
            raise FileFormatError(f"{path}: line {number}: not a JSON object")
        records.append(record)
    return records


class MetricsLog:
    """Appends records to a JSONL file; a resumed run first drops what came after its checkpoint."""

    def __init__(self, path: str | Path, keep: list[dict[str, float]] | None = None) -> None:
        self.path = Path(path)
        write_text(self.path, "".join(json.dumps(r) + "\n" for r in keep or []))
        self._stream = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, float]) -> None:
        """Append one record."""
        try:
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()
        except OSError as error:
            raise Error(f"{self.path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
