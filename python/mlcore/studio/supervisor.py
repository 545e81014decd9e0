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
from mlcore.studio.settings import Settings
from mlcore.studio.store import ACTIVE, State, Store, Task
from mlcore.studio.work import COMMAND, EXIT

__all__ = ["LOG", "Supervisor", "alive", "ensure"]

log = logging.getLogger("mlcore.studio")
LOG = "log.txt"
LOCK = "supervisor.lock"
HEARTBEAT = "server.alive"
"""The server touches it; a supervisor that has nothing to do leaves some time after the last one."""
_TICK = 0.25
_GRACE = 20.0  # seconds from the wish to end until a process is killed
_LONELY = 60.0
_LONGEST = 32 << 20  # bytes of a log, after which its beginning is cut off


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
            (folder / EXIT).unlink(missing_ok=True)
            write_text(folder / COMMAND, json.dumps(words) + "\n")
            child = _spawned(folder, self._environment(task))
        except (OSError, Error) as error:
            self._end(task, State.FAILED, f"could not be started: {error}")
            return
        self._children[child.pid] = child
        facts: dict[str, Any] = {"pid": child.pid, "birth": _birth(child.pid), "fresh": False}
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
        return {**os.environ, "MLCORE_STUDIO_TASK": task.id, "PYTHONUNBUFFERED": "1"}

    # -- watching ----------------------------------------------------------------------------------
    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]

    def _watch(self, task: Task) -> None:
        folder = self._store.task_folder(task)
        going = task.pid is not None and alive(task.pid, task.birth)
        self._note(task, folder, going)
        if not going:
            self._ended(task, folder)
        elif task.state in (State.PAUSING, State.CANCELLING) and task.pid is not None:
            self._stop(task, task.pid)

    def _note(self, task: Task, folder: Path, going: bool) -> None:
        try:
            found = kind_of(task.kind).progress(folder)
        except (Error, OSError, ValueError, KeyError, TypeError) as error:
            # half of what it reads may be written by others just now
            log.debug("%s: %r", task.id, error)
            return
        facts = dict(found.facts)
        part = min(max(found.part, 0.0), 1.0)
        seconds, memory = _used(task.pid) if going and task.pid else (0.0, 0)
        same = (part, found.line, facts) == (task.progress, task.line, task.facts)
        if same and memory == task.memory:
            return
        with self._store.session() as session:
            row = session.get(Task, task.id)
            if row is None:
                return
            row.progress, row.line, row.facts = part, found.line, facts
            row.memory = memory
            row.cpu_seconds = max(row.cpu_seconds, seconds)
            row.changed = time.time()
        if going:
            _cut(folder / LOG)

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
        if task.pid is not None:
            _signal(task.pid, signal.SIGKILL)  # what it left behind
        code = _code(folder)
        if task.state is State.PAUSING and code != 0:
            self._end(task, State.PAUSED)
        elif task.state is State.CANCELLING and code != 0:
            self._end(task, State.CANCELLED)
        elif code == 0:
            self._end(task, State.DONE)
        elif code is None and task.restarts < self._settings.restarts:
            self._again(task)
        else:
            said = "its process was killed" if code is None else _last(folder / LOG)
            self._end(task, State.FAILED, said or f"ended with code {code}")

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


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _birth(pid: int) -> float | None:
    found = _stat(pid)
    return None if found is None else float(found[19])


def alive(pid: int, birth: float | None) -> bool:
    """Whether it is still the process that was born then."""
    found = _stat(pid)
    return found is not None and found[0] != "Z" and float(found[19]) == birth


def _used(pid: int) -> tuple[float, int]:
    """CPU seconds and bytes of memory of a process and all of its session."""
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    seconds = memory = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        found = _stat(int(entry.name))
        if found is not None and int(found[3]) == pid:
            seconds += sum(int(found[k]) for k in (11, 12, 13, 14))
            memory += int(found[21]) * page
    return seconds / tick, memory


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _code(folder: Path) -> int | None:
    """The exit code of the last run; None: it was killed."""
    try:
        return int(json.loads((folder / EXIT).read_text(encoding="utf-8"))["code"])
    except (OSError, ValueError, KeyError):
        return None


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
