"""The process that runs tasks: it starts, watches and stops their processes, and outlives the server.

Its memory is the store. Killed and started again it finds the processes it had started by their number
and time of birth; tasks whose own process was killed are gone on with.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from mlcore.errors import Error
from mlcore.io import write_text
from mlcore.io.lock import holder, locked
from mlcore.studio.kinds import kind_of
from mlcore.studio.processes import TASK, Census, Used, alive, birth, killed, share
from mlcore.studio.settings import Settings
from mlcore.studio.store import ACTIVE, State, Store, Task, bytes_of
from mlcore.studio.words import duration, size
from mlcore.studio.work import COMMAND, EXIT, MOST

__all__ = ["LOG", "OVER", "Supervisor", "ensure"]

log = logging.getLogger("mlcore.studio")
LOG = "log.txt"
OVER = "over.txt"
"""In the folder of a task: which limit ended its last run."""
LOCK = "supervisor.lock"
HEARTBEAT = "server.alive"
"""The server touches it; a supervisor that has nothing to do leaves some time after the last one."""
_TICK = 0.25
_GRACE = 20.0  # seconds from the wish to end until a process is killed
_LONELY = 60.0
_LOOK = 5.0  # seconds between looks at how much a task has written
_LONGEST = 32 << 20  # bytes of a log, after which its beginning is cut off
_SPARE = 1 << 30  # bytes a single process may ask for beyond the limit before it is refused them
_REFUSED = (
    "MemoryError",
    "Unable to allocate",
    "not enough memory",
    "bad_alloc",
    "Cannot allocate",
)


class Supervisor:
    """Of the tasks of a store.

    Args:
        store: of the studio.
        settings: of the studio.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._asked: dict[str, float] = {}  # task -> when its process was asked to end
        self._looked: dict[str, float] = {}  # task -> when its folder was looked at
        self._census = Census()
        self._used: dict[str, Used] = {}

    def run(self) -> None:
        """Until there is nothing to do and no server."""
        seen = time.time()
        while True:
            busy = False
            try:
                busy = self.tick()
            except (OSError, SQLAlchemyError, Error) as error:
                # a full disk must not end what runs
                log.error("%s", error)
            if busy or self._served():
                seen = time.time()
            if time.time() - seen > _LONELY:
                return
            time.sleep(_TICK)

    def tick(self) -> bool:
        """Look at everything once; whether there is anything to do."""
        with self._store.session() as session:
            tasks = list(session.scalars(select(Task).where(Task.state.in_(ACTIVE))))
        self._reap()
        self._used = self._census() if tasks else {}
        for task in tasks:
            if task.state is not State.QUEUED:
                with contextlib.suppress(OSError):
                    self._watch(task)
        going = sum(task.state is not State.QUEUED for task in tasks)
        for task in self._next(tasks, self._settings.slots - going):
            self._start(task)
        return bool(tasks)

    def _served(self) -> bool:
        path = self._store.folder / HEARTBEAT
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime < _LONELY
        return False

    # -- starting ----------------------------------------------------------------------------------
    def _next(self, tasks: list[Task], free: int) -> Iterator[Task]:
        """Of those that wait, as many as are free; users with fewest running first."""
        running = Counter(task.user_id for task in tasks if task.state is not State.QUEUED)
        waiting = [task for task in tasks if task.state is State.QUEUED]
        for _ in range(max(0, min(free, len(waiting)))):
            first = min(waiting, key=lambda one: (running[one.user_id], one.queued or 0.0))
            waiting.remove(first)
            running[first.user_id] += 1
            yield first

    def _start(self, task: Task) -> None:
        folder = self._store.task_folder(task)
        try:
            words = kind_of(task.kind).command(folder, task.fresh)
            if task.fresh:
                shutil.rmtree(folder / "run", ignore_errors=True)
            (folder / "run").mkdir(parents=True, exist_ok=True)
            for left in (EXIT, OVER):
                (folder / left).unlink(missing_ok=True)
            write_text(folder / COMMAND, json.dumps(words) + "\n")
            child = _spawned(folder, self._environment(task))
        except (OSError, Error) as error:
            self._end(task, State.FAILED, f"could not be started: {error}")
            return
        self._children[child.pid] = child
        facts: dict[str, Any] = {"pid": child.pid, "birth": birth(child.pid), "fresh": False}
        started = self._store.move(
            task.id,
            State.RUNNING,
            (State.QUEUED,),
            started=time.time(),
            ended=None,
            error="",
            **facts,
        )
        if not started:  # cancelled in between
            _signal(child.pid, signal.SIGKILL)

    def _environment(self, task: Task) -> dict[str, str]:
        most = str(self._settings.task_bytes + _SPARE)
        return {**os.environ, TASK: task.id, MOST: most, "PYTHONUNBUFFERED": "1"}

    # -- watching ----------------------------------------------------------------------------------
    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]

    def _watch(self, task: Task) -> None:
        folder = self._store.task_folder(task)
        used = self._used.get(task.id, Used())
        going = task.pid is not None and alive(task.pid, task.birth)
        self._note(task, folder, used)
        if not going:
            self._ended(task, folder)
        elif over := self._over(task, folder, used):
            _tell(folder, f"it took more than {over}")
            killed(task.id, self._census)
        elif task.pid is not None and (
            task.state in (State.PAUSING, State.CANCELLING) or self._too_long(task, folder)
        ):
            self._stop(task, task.pid)
        if going:
            _cut(folder / LOG)

    def _over(self, task: Task, folder: Path, used: Used) -> str:
        """What a task takes more of than it may, with how much that is; empty: nothing."""
        most, kept = self._settings.task_bytes, self._settings.limits.stored
        if used.bytes > most and share(used.pids) > most:
            return f"{size(most)} of memory{_ALLOWED}"
        if time.monotonic() - self._looked.get(task.id, 0.0) > _LOOK:
            self._looked[task.id] = time.monotonic()
            if bytes_of(folder) > kept:
                return f"{size(kept)} of the disk, the most the administrator lets a user keep"
        return ""

    def _too_long(self, task: Task, folder: Path) -> bool:
        """Whether a task takes more time than it may, which is noted."""
        most = self._settings.limits.task_seconds
        if most is None or task.running_seconds < most:
            return False
        if not (folder / OVER).is_file():
            _tell(folder, f"it took more than {duration(most)}{_ALLOWED}")
        return True

    def _note(self, task: Task, folder: Path, used: Used) -> None:
        try:
            found = kind_of(task.kind).progress(folder)
        except (Error, OSError, ValueError, KeyError, TypeError) as error:
            # half of what it reads may be written by others just now
            log.debug("%s: %r", task.id, error)
            return
        facts = dict(found.facts)
        part = min(max(found.part, 0.0), 1.0)
        same = (part, found.line, facts) == (task.progress, task.line, task.facts)
        if same and used.bytes == task.memory:
            return
        with self._store.session() as session:
            row = session.get(Task, task.id)
            if row is None:
                return
            row.progress, row.line, row.facts = part, found.line, facts
            row.memory = used.bytes
            row.cpu_seconds = max(row.cpu_seconds, used.seconds)
            row.changed = time.time()

    def _stop(self, task: Task, pid: int) -> None:
        asked = self._asked.setdefault(task.id, 0.0)
        if not asked:
            self._asked[task.id] = time.monotonic()
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        elif time.monotonic() - asked > _GRACE:
            _signal(pid, signal.SIGKILL)

    def _ended(self, task: Task, folder: Path) -> None:
        self._asked.pop(task.id, None)
        self._looked.pop(task.id, None)
        killed(task.id, self._census)  # what it left behind
        code, over = _code(folder), _ended_by(folder)
        if code == 0:
            self._end(task, State.DONE)
        elif task.state is State.CANCELLING:
            self._end(task, State.CANCELLED)
        elif over:
            self._end(task, State.FAILED, over)
        elif task.state is State.PAUSING:
            self._end(task, State.PAUSED)
        elif code is None and task.restarts < self._settings.restarts:
            self._again(task)
        else:
            self._end(task, State.FAILED, self._why(folder, code))

    def _why(self, folder: Path, code: int | None) -> str:
        """What a task failed of that no limit of the supervisor has ended."""
        if code is None:
            return "its process was killed"
        said = _last(folder / LOG)
        if any(word in said for word in _REFUSED):
            most = size(self._settings.task_bytes)
            return f"a process of it took more than {most} of memory{_ALLOWED}: {said}"
        return said or f"ended with code {code}"

    def _again(self, task: Task) -> None:
        self._store.move(
            task.id,
            State.QUEUED,
            (task.state,),
            queued=time.time(),
            restarts=task.restarts + 1,
            seconds=task.running_seconds,
            pid=None,
            line="its process was killed; it goes on",
        )

    def _end(self, task: Task, state: State, error: str = "") -> None:
        facts: dict[str, Any] = {"progress": 1.0} if state is State.DONE else {}
        self._store.move(
            task.id,
            state,
            ACTIVE,
            ended=time.time(),
            seconds=task.running_seconds,
            error=error[:2000],
            pid=None,
            memory=0,
            **facts,
        )


def ensure(folder: Path) -> None:
    """Start a supervisor where none is at work on the folder; it lives on when this process ends."""
    if holder(folder, LOCK) is not None:
        return
    with (folder / "supervisor.log").open("ab") as log_file:
        subprocess.Popen(
            [sys.executable, "-m", "mlcore.studio.supervisor", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
            cwd=folder,
        )


def waiting(store: Store) -> int:
    """Tasks that are queued or run."""
    with store.session() as session:
        count = select(func.count()).select_from(Task).where(Task.state.in_(ACTIVE))
        return session.scalar(count) or 0


# -- processes -------------------------------------------------------------------------------------
_ALLOWED = ", the most the administrator allows a task"


def _spawned(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / LOG).open("ab") as log_file:
        return subprocess.Popen(
            [sys.executable, "-m", "mlcore.studio.work", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which is ended as a whole
            cwd=folder,
            env=environment,
        )


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _code(folder: Path) -> int | None:
    """The exit code of the last run; None: it was killed."""
    try:
        return int(json.loads((folder / EXIT).read_text(encoding="utf-8"))["code"])
    except (OSError, ValueError, KeyError):
        return None


def _tell(folder: Path, words: str) -> None:
    """Why a run is ended, for whoever finds that it has; a full disk keeps nobody from ending it."""
    with contextlib.suppress(OSError):
        write_text(folder / OVER, words + "\n")


def _ended_by(folder: Path) -> str:
    """Which limit ended the last run; empty: none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / OVER).read_text(encoding="utf-8").strip()
    return ""


def _last(path: Path) -> str:
    """The last line of a log that says what was wrong."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 8192))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    told = [line for line in lines if line.startswith("error: ")]
    return (told or lines or [""])[-1].removeprefix("error: ")


def _cut(path: Path) -> None:
    """Keep the end of a log that became too long; its writer appends."""
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size > _LONGEST:
            with path.open("r+b") as stream:
                stream.seek(size - _LONGEST // 4)
                end = stream.read()
                stream.seek(0)
                stream.write(end)
                stream.truncate()


def main(folder: Path) -> int:
    """Be the supervisor of a folder; 0 at once where there is one already."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    with contextlib.suppress(Error), locked(folder, LOCK):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        store = Store(folder)
        try:
            Supervisor(store, Settings.load(folder)).run()
        finally:
            store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
