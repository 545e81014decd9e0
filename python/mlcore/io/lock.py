"""One process drives a folder; who does, others may see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mlcore.errors import Error

__all__ = ["LOCK", "holder", "locked"]

LOCK = "driver.lock"
# seconds: one who looks whether somebody drives it holds the file for a moment
_PATIENCE = 0.5
_PAUSE = 0.01


@contextlib.contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """This process alone drives the folder; the system lets go when it ends, however it does.

    Raises:
        Error: another process drives it.
    """
    with (folder / name).open("a+", encoding="utf-8") as stream:
        if not _taken(stream.fileno()):
            stream.seek(0)
            who = stream.read().strip() or "another process"
            raise Error(f"{folder}: {who} is at work on it")
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {os.uname().nodename}")
        stream.flush()
        yield


def _taken(file: int) -> bool:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def holder(folder: Path, name: str = LOCK) -> str | None:
    """Who drives the folder, None where nobody does."""
    path = folder / name
    if not path.is_file():
        return None
    with path.open("r", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return stream.read().strip() or "another process"
    return None
