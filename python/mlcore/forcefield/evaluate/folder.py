"""A folder in memory that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["MemoryFolder"]

_MEMORY = Path("/dev/shm")
_PREFIX = "mlcore-files-"
_LOCK = "lock"


class MemoryFolder:
    """A new folder, in memory where there is some.

    A process that was killed leaves its folder behind; the next one that makes a folder removes it.
    Whether a folder is in use is told by a lock on a file in it, which a process loses as it ends.

    Args:
        home: where it is made; None: in memory, where there is some to spare.

    Attributes:
        path: the folder.
    """

    def __init__(self, home: Path | None = None) -> None:
        home = home or _home()
        _sweep(home)
        self.path, self._lock = _made(home)
        # somebody may have swept it away before the lock was there
        while not (self.path / _LOCK).exists():
            os.close(self._lock)
            self.path, self._lock = _made(home)

    def remove(self) -> None:
        """Removes the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _made(home: Path) -> tuple[Path, int]:
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return path, lock


def _home() -> Path:
    there = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    if there and shutil.disk_usage(_MEMORY).free > 1 << 24:
        return _MEMORY
    return Path(tempfile.gettempdir())


def _sweep(home: Path) -> None:
    """Removes folders of this user nobody holds. One without a lock is being made just now."""
    for folder in home.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)
