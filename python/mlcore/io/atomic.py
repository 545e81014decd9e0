"""Writes that either put a whole file (or folder) in place or leave what was there.

Everything is written under a hidden temporary name in the target's own folder, flushed to the
disk and renamed. A full disk, a crash or Ctrl-C leaves the old file as it was.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlcore.errors import Error

__all__ = ["atomic_directory", "atomic_path", "write_bytes", "write_text"]

PathLike = str | os.PathLike[str]


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _target(path: PathLike) -> Path:
    """The file a write to `path` means: links are followed, so that they stay links."""
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise Error(f"cannot write {os.fspath(path)}: folder {target.parent} does not exist")
    return target


def _failure(path: PathLike, error: OSError) -> Error:
    return Error(f"cannot write {os.fspath(path)}: {error.strerror or error}")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary path to write to; renamed to `path` when the block ends without an error.

    The name of the temporary path ends like that of `path`, so libraries that choose a format by
    the suffix work. Raises `mlcore.errors.Error` when the folder is missing, not writable, or the
    disk is full; then nothing is left behind and an existing file is unchanged.
    """
    target = _target(path)
    if target.is_dir():
        raise Error(f"cannot write {os.fspath(path)}: it is a folder")
    suffixes = "".join(target.suffixes[-2:])
    temporary = _temporary(target)
    temporary = temporary.with_name(temporary.name + suffixes)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(target)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        _remove(temporary)


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all (see `atomic_path` for the errors)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: PathLike, text: str) -> None:
    """Write `text` in UTF-8 to `path`, whole or not at all (see `atomic_path` for the errors)."""
    write_bytes(path, text.encode())


@contextmanager
def atomic_directory(path: PathLike) -> Iterator[Path]:
    """A new empty folder to fill; renamed to `path` when the block ends without an error.

    A folder already at `path` is replaced as a whole. Two renames are needed for that, so a reader
    may find no folder for a moment, never half a folder. Raises `mlcore.errors.Error` when `path`
    is a file, its parent is missing or not writable, or the disk is full.
    """
    target = _target(path)
    if target.exists() and not target.is_dir():
        raise Error(f"cannot write folder {os.fspath(path)}: a file of that name is in the way")
    temporary = _temporary(target)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _flush(file)
        _swap(temporary, target)
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        _remove(temporary)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = _temporary(target)
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove(old)
