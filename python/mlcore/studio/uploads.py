"""Data sets of users: received, read in a process with limits, kept, and thrown away.

An upload lies in `users/USER/uploads/UPLOAD/`: `raw/` as it came, and what `mlcore.studio.parsing` made of
it. Until that is done the folder has a hidden name; of one that is refused, or whose server was killed,
nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from sqlalchemy import func, select

from mlcore.studio import scratch
from mlcore.studio.settings import Limits
from mlcore.studio.store import ACTIVE, State, Store, Task, Upload, User, bytes_of, word
from mlcore.studio.words import size as words

__all__ = [
    "RAW",
    "READERS",
    "Gate",
    "discard",
    "folder_of",
    "keep",
    "making",
    "parsed",
    "room_for",
    "room_for_more",
    "room_on_disk",
    "safe_name",
    "using",
]

RAW = "raw"
_LONGEST = 100  # letters of a name
READERS = ThreadPoolExecutor(2, "reader")
"""Who waits for the processes that read; others shall answer requests meanwhile."""
_KEEPING = threading.Lock()
_PEOPLE = 4  # who send as many data sets at once as they may, before others are put off


def safe_name(name: str, taken: Collection[str] = ()) -> str:
    """A plain name of a file in place of what somebody calls it; another than those ``taken``."""
    base = unicodedata.normalize("NFKC", name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._+ ()=-]", "_", base).strip(" ").lstrip(" .-_") or "file"
    stem, dot, ending = plain.partition(".")
    plain = stem[: max(1, _LONGEST - len(ending) - 1)] + dot + ending
    plain = plain[:_LONGEST]
    known = {one.lower() for one in taken}
    found, k = plain, 1
    while found.lower() in known:
        k += 1
        stem, dot, ending = plain.partition(".")
        found = f"{stem}-{k}{dot}{ending}"
    return found


# -- room ------------------------------------------------------------------------------------------
def room_for(store: Store, user: User, limits: Limits, coming: int) -> int:
    """Bytes that a user may still store.

    Raises:
        HTTPException: 413, there is no room for another data set of so many bytes.
    """
    with store.session() as session:
        mine = select(func.count()).select_from(Upload).where(Upload.user_id == user.id)
        number = session.scalar(mine) or 0
    if number >= limits.uploads:
        raise HTTPException(413, f"you have {number} data sets, the most; delete one first")
    return room_for_more(store, user, limits, coming)


def room_for_more(store: Store, user: User, limits: Limits, coming: int = 1) -> int:
    """Bytes that a user may still store, in data sets and tasks.

    Raises:
        HTTPException: 413, they are fewer than those that come.
    """
    with store.session() as session:
        mine = select(func.coalesce(func.sum(Upload.size), 0)).where(Upload.user_id == user.id)
        stored = session.scalar(mine) or 0
    free = limits.stored - stored - bytes_of(store.folder / "users" / user.id / "tasks")
    if coming > free:
        told = f"you keep {words(limits.stored - free)} of at most {words(limits.stored)}"
        raise HTTPException(413, f"{told}; delete data sets or tasks first")
    return int(free)


def room_on_disk(folder: Path, spare: int, coming: int = 0) -> None:
    """Nothing, where so many bytes more leave some of the disk free.

    Raises:
        HTTPException: 507, they would not.
    """
    if shutil.disk_usage(folder).free - coming < spare:
        raise HTTPException(507, "the server's disk is nearly full; tell its administrator")


# -- receiving -------------------------------------------------------------------------------------
class Gate:
    """Lets some uploads in at once, of one user and of all; the others shall come again."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def passed(self, user: User, limits: Limits) -> Iterator[None]:
        """While an upload is received and read.

        Raises:
            HTTPException: 429, the user has too many inside; 503, all have.
        """
        with self._lock:
            if self._inside[user.id] >= limits.uploads_at_once:
                told = (
                    f"{limits.uploads_at_once} data sets of yours are read just now; wait for them"
                )
                raise HTTPException(429, told, {"Retry-After": "2"})
            if self._inside.total() >= _PEOPLE * limits.uploads_at_once:
                told = "others send data sets just now; try again in a while"
                raise HTTPException(503, told, {"Retry-After": "5"})
            self._inside[user.id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside[user.id] -= 1
                self._inside += Counter()  # forgets those who have none


@contextlib.contextmanager
def making(store: Store, user: User) -> Iterator[Path]:
    """A folder to receive files into; gone afterwards, unless `keep` has made a data set of it."""
    with scratch.making(folder_of(store, user)) as folder:
        (folder / RAW).mkdir(mode=0o700)
        yield folder


def folder_of(store: Store, user: User) -> Path:
    """Where the data sets of a user lie."""
    return store.folder / "users" / user.id / "uploads"


# -- reading ---------------------------------------------------------------------------------------
def parsed(folder: Path, asked: Mapping[str, Any], limits: Limits, free: int) -> dict[str, Any]:
    """Kind and summary of what is in `raw/`, read by a process of its own.

    Args:
        folder: of `making`.
        asked: `files`, `options` and `title`; or `ids`, `key`, `corrected` and `title`.
        limits: of the user.
        free: bytes that may be written.

    Raises:
        HTTPException: 400, the files are wrong; 413, they take more than they may; 502, a service
            does not answer; 507, the disk is full.
    """
    told = {
        "seconds": limits.parsing_seconds,
        "bytes": limits.parsing_bytes,
        "structures": limits.structures,
        "stored": max(free, 1),
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mlcore.studio.parsing", str(folder)],
            input=json.dumps({**asked, "limits": told}).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limits.parsing_seconds,
            env=environment,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise _too_long(limits) from None
    if done.returncode:
        raise _refusal(done.returncode, done.stdout, limits)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def _too_long(limits: Limits) -> HTTPException:
    return HTTPException(
        413, f"reading it takes longer than {limits.parsing_seconds:g} s; upload less at once"
    )


def _refusal(code: int, said: bytes, limits: Limits) -> HTTPException:
    try:
        told = json.loads(said)
        return HTTPException(told["status"], told["detail"])
    except (ValueError, KeyError, TypeError):
        if -code in (9, 24):  # SIGKILL, SIGXCPU: of the processor's time
            return _too_long(limits)
        most = words(limits.parsing_bytes)
        return HTTPException(
            413, f"reading it takes more than {most} of memory, or breaks the reader"
        )


# -- keeping ---------------------------------------------------------------------------------------
def keep(
    store: Store, user: User, limits: Limits, folder: Path, title: str, found: Mapping[str, Any]
) -> Upload:
    """Make a data set of a folder that was read.

    Raises:
        HTTPException: 413, there is no room for it.
    """
    files = [
        {"name": one.name, "size": one.stat().st_size} for one in sorted((folder / RAW).iterdir())
    ]
    made = Upload(
        id=word(),
        user_id=user.id,
        title=title,
        kind=found["kind"],
        size=bytes_of(folder),
        summary={**found["summary"], "files": files},
        created=time.time(),
    )
    with _KEEPING:
        room_for(store, user, limits, made.size)
        folder.rename(store.upload_folder(made))
        try:
            with store.session() as session:
                session.add(made)
        except BaseException:
            shutil.rmtree(store.upload_folder(made), ignore_errors=True)
            raise
    return made


def using(store: Store, upload: Upload) -> list[Task]:
    """Tasks that run, wait or are paused, and whose config names the data set."""
    states = (*ACTIVE, State.PAUSED)
    wanted = select(Task).where(Task.user_id == upload.user_id, Task.state.in_(states))
    with store.session() as session:
        return [one for one in session.scalars(wanted) if f"upload:{upload.id}" in _text(one)]


def _text(task: Task) -> str:
    return json.dumps(task.config)


def discard(store: Store, upload: Upload) -> None:
    """Throw a data set away.

    Raises:
        HTTPException: 409, a task uses it.
    """
    tasks = using(store, upload)
    if tasks:
        told = ", ".join(repr(task.title) for task in tasks[:3])
        raise HTTPException(409, f"a task that is not done uses it: {told}; cancel it first")
    with store.session() as session:
        session.delete(session.get_one(Upload, upload.id))
    shutil.rmtree(store.upload_folder(upload), ignore_errors=True)
