"""What a studio knows: one SQLite file, written by the server and the supervisor alone.

Everything else lies in folders beside it:

    studio.db                     users, sessions, tokens, tasks, uploads
    users/USER/tasks/TASK/        a task: config.json, run/ (what its command makes), log.txt
    users/USER/uploads/UPLOAD/    a data set: the file as it came, and what was read of it
    library/                      potentials that were published
    scratch/                      archives on their way to somebody

Names of users, tasks and uploads in paths are random words, not what people typed.
"""

from __future__ import annotations

import enum
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    CursorResult,
    Engine,
    ForeignKey,
    Index,
    create_engine,
    event,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mlcore.errors import Error

__all__ = [
    "ACTIVE",
    "ENDED",
    "Login",
    "State",
    "Store",
    "Task",
    "Token",
    "Upload",
    "User",
    "bytes_of",
    "word",
]

DATABASE = "studio.db"
VERSION = 1


def word() -> str:
    """A random name that cannot be guessed."""
    return secrets.token_hex(12)


def bytes_of(folder: Path) -> int:
    """Of all files in a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total


class State(enum.StrEnum):
    """Where a task stands."""

    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"


ACTIVE = (State.QUEUED, State.RUNNING, State.PAUSING, State.CANCELLING)
"""The supervisor has something to do with these."""
ENDED = (State.PAUSED, State.CANCELLED, State.FAILED, State.DONE)
"""Nothing happens to these by itself."""


class _Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON}  # noqa: RUF012


class User(_Base):
    """Somebody who has tasks."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True, default=word)
    name: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str | None]  # argon2id, with its salt; None: nobody can log in by password
    admin: Mapped[bool] = mapped_column(default=False)
    created: Mapped[float] = mapped_column(default=time.time)
    theme: Mapped[str] = mapped_column(default="auto")


class Login(_Base):
    """A browser that is logged in."""

    __tablename__ = "logins"
    key: Mapped[str] = mapped_column(primary_key=True)  # sha256 of the cookie
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    csrf: Mapped[str] = mapped_column(default=word)
    created: Mapped[float] = mapped_column(default=time.time)
    seen: Mapped[float] = mapped_column(default=time.time)


class Token(_Base):
    """Of a program that speaks for a user."""

    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(primary_key=True, default=word)
    key: Mapped[str] = mapped_column(unique=True)  # sha256 of the token
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    title: Mapped[str]
    created: Mapped[float] = mapped_column(default=time.time)
    used: Mapped[float | None]


class Upload(_Base):
    """A data set of a user."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(primary_key=True, default=word)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    title: Mapped[str]
    kind: Mapped[str]  # of what was found in it: structures, trajectory, runs, grid, ...
    created: Mapped[float] = mapped_column(default=time.time)
    size: Mapped[int] = mapped_column(default=0)
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Task(_Base):
    """Something to be done, or being done, or done."""

    __tablename__ = "tasks"
    id: Mapped[str] = mapped_column(primary_key=True, default=word)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str]
    title: Mapped[str]
    state: Mapped[State] = mapped_column(default=State.DRAFT)
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    engine: Mapped[str] = mapped_column(default="")
    workers: Mapped[int] = mapped_column(default=1)
    created: Mapped[float] = mapped_column(default=time.time)
    changed: Mapped[float] = mapped_column(default=time.time)
    queued: Mapped[float | None]
    started: Mapped[float | None]
    ended: Mapped[float | None]
    seconds: Mapped[float] = mapped_column(default=0.0)  # of wall time in runs that have ended
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    line: Mapped[str] = mapped_column(default="")  # where it stands, for people
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)  # numbers of the kind
    error: Mapped[str] = mapped_column(default="")
    pid: Mapped[int | None]
    birth: Mapped[float | None]  # of the process, so that a number used again is told from it
    restarts: Mapped[int] = mapped_column(default=0)
    fresh: Mapped[bool] = mapped_column(default=False)  # begin anew instead of going on
    cpu_seconds: Mapped[float] = mapped_column(default=0.0)
    memory: Mapped[int] = mapped_column(default=0)  # bytes now
    parent: Mapped[str | None]  # the task it was cloned from

    __table_args__ = (
        Index("tasks_of_user", "user_id", "changed"),
        Index("tasks_by_state", "state"),
    )

    @property
    def running_seconds(self) -> float:
        """Wall time of all its runs until now."""
        going = self.state in (State.RUNNING, State.PAUSING, State.CANCELLING)
        return self.seconds + (time.time() - self.started if going and self.started else 0.0)


class Store:
    """The database and the folders of a studio.

    Raises:
        Error: the folder is that of a newer studio.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._close_to_others()
        self._engine = _opened(self.folder / DATABASE)
        with self._engine.begin() as connection:
            version = connection.execute(text("PRAGMA user_version")).scalar_one()
            if version > VERSION:
                raise Error(f"{self.folder}: was made by a newer mlcore (version {version})")
            _Base.metadata.create_all(connection)
            connection.execute(text(f"PRAGMA user_version = {VERSION}"))

    def _close_to_others(self) -> None:
        """What users have is for nobody else on this machine, also in a folder that was there."""
        for home in (self.folder / "users", self.scratch):
            home.mkdir(exist_ok=True, mode=0o700)
            home.chmod(0o700)
        # of it SQLite's other files take who may read them
        (self.folder / DATABASE).touch(mode=0o600)
        for file in self.folder.glob(f"{DATABASE}*"):
            file.chmod(0o600)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """All of it happens, or nothing; what was read stays readable afterwards."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def task_folder(self, task: Task) -> Path:
        """Of one task."""
        return self.folder / "users" / task.user_id / "tasks" / task.id

    def upload_folder(self, upload: Upload) -> Path:
        """Of one data set."""
        return self.folder / "users" / upload.user_id / "uploads" / upload.id

    @property
    def library(self) -> Path:
        """Of published potentials."""
        return self.folder / "library"

    @property
    def scratch(self) -> Path:
        """Of files that are gone soon."""
        return self.folder / "scratch"

    def move(self, task: str, into: State, of: tuple[State, ...], **changes: Any) -> bool:
        """Take a task from one of the states ``of`` to another; False where it is in none of them."""
        statement = (
            update(Task)
            .where(Task.id == task, Task.state.in_(of))
            .values(state=into, changed=time.time(), **changes)
        )
        with self.session() as session:
            done = session.execute(statement)
            assert isinstance(done, CursorResult)
            return bool(done.rowcount)

    def close(self) -> None:
        self._engine.dispose()


def _opened(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        # readers never wait for the writer, and a wish that is told is on the disk
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine
