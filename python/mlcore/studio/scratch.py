"""Folders that live as long as what makes them: on the studio's own disk, named after the process.

One that was killed leaves its folders behind; the next server throws them away.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlcore.studio.processes import alive, birth

__all__ = ["made", "making", "tidied"]

_NAME = re.compile(r"\.(\d+)-(\d+)-[0-9a-f]+\.part")


def made(home: Path) -> Path:
    """A new hidden folder of this process in ``home``, for its user's eyes alone."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = os.getpid()
    folder = home / f".{own}-{birth(own) or 0:.0f}-{secrets.token_hex(8)}.part"
    folder.mkdir(mode=0o700)
    return folder


@contextlib.contextmanager
def making(home: Path) -> Iterator[Path]:
    """As `made`, gone afterwards."""
    folder = made(home)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tidied(home: Path) -> None:
    """Throw away what processes that are no longer there have left in ``home``."""
    for left in home.glob(".*.part"):
        found = _NAME.fullmatch(left.name)
        if found is None or not alive(int(found[1]), float(found[2])):
            shutil.rmtree(left, ignore_errors=True)
