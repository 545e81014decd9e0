"""Children that may hang or die: each is a process of its own, watched item by item.

Every engine runs its items in such children, also inside an MPI rank or a worker on another host, so
that a simulation that hangs or crashes costs one item and no worker. A child is a fresh interpreter
(nothing is forked, no ``if __name__ == "__main__"`` is needed), keeps its prepared states between
chunks, has a temporary folder of its own and ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import BinaryIO

from mlcore.errors import Error
from mlcore.parallel.child import KEPT, READY
from mlcore.parallel.payload import Failure, failed
from mlcore.parallel.task import Answer, Call, Task

__all__ = ["Child", "Children", "child_environment"]

# What a launcher tells an MPI process about itself. A child that kept it would join its parent's
# job when LAMMPS calls MPI_Init, and wait there for ever.
_LAUNCHER = ("PMI_", "PMI2_", "PMIX_", "HYDI_", "HYDRA_", "MPI_LOCAL", "OMPI_", "PRTE_", "PALS_")
_TAIL = 4000  # bytes of a dead child's output that are kept
_MUCH = 1 << 22  # bytes of output of a child that lives
_LOOK = 0.5  # seconds between looks whether the child lives
_POLITE = 2.0  # seconds an idle child has to end by itself
_START = "from mlcore.parallel.child import main; main({})"


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: one thread where nothing is said, and no part of an MPI job."""
    kept = {k: v for k, v in environment.items() if not k.startswith(_LAUNCHER)}
    kept.setdefault("OMP_NUM_THREADS", "1")
    return kept


class Lost(Exception):
    """The child is of no more use; what was answered before is good."""

    def __init__(self, failure: Failure, preparing: bool) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.preparing = preparing

    @property
    def timed_out(self) -> bool:
        return self.failure.type == "TimedOut"


class Child:
    """One process that answers items."""

    def __init__(self) -> None:
        self._keys: list[str] = []  # states it keeps, as it counts them itself
        self._folder = Path(tempfile.mkdtemp(prefix="mlcore-worker-"))
        self._log = self._folder / "output.log"
        self._ended = False
        self._connection, theirs = Pipe()
        with theirs, self._log.open("ab") as log:
            self._process = self._started(theirs, log)

    def _started(self, theirs: Connection, log: BinaryIO) -> subprocess.Popen[bytes]:
        environment = child_environment(os.environ) | {"TMPDIR": str(self._folder)}
        return subprocess.Popen(
            [sys.executable, "-c", _START.format(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C is the driver's; what the child starts dies with it
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def answer(self, task: Task, answered: list[bytes]) -> bytes | None:
        """Append the answers to the items of a chunk from number ``len(answered)`` on.

        Returns:
            The payload of an error that all of them have because nothing could be prepared, or None.

        Raises:
            Lost: the child hung or died; `answered` holds what came before.
        """
        call = task.call
        rest = Task(self._short(call), task.items[len(answered) :])
        try:
            self._connection.send(rest)
        except OSError:
            raise self._died(preparing=True) from None
        ready = self._next(call.startup, preparing=True)
        if ready != READY:
            return ready
        if call.factory is not None:
            self._keys = [*(key for key in self._keys if key != call.key), call.key][-KEPT:]
        for _ in rest.items:
            answered.append(self._next(call.timeout, preparing=False))
        return None

    def _short(self, call: Call) -> Call:
        """The call without the arguments of a state that the child has: they may be large."""
        if call.factory is None or not self.has(call.key):
            return call
        return replace(call, factory=(call.factory[0], None))

    def has(self, key: str) -> bool:
        """Whether the child has prepared this state."""
        return key in self._keys

    def _next(self, seconds: float | None, preparing: bool) -> bytes:
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = _LOOK if end is None else min(_LOOK, max(0.0, end - time.monotonic()))
            try:
                if self._connection.poll(left):
                    return self._connection.recv_bytes()
            except (EOFError, OSError):
                raise self._died(preparing) from None
            if self._process.poll() is not None and not self._connection.poll(0):
                raise self._died(preparing)
            if end is not None and time.monotonic() >= end:
                raise self._hung(seconds, preparing)

    def _hung(self, seconds: float | None, preparing: bool) -> Lost:
        what = "was not ready" if preparing else "had not answered"
        text = f"the worker {what} after {seconds:g} s and was killed"
        return Lost(Failure("TimedOut", text, self.kill()), preparing)

    def _died(self, preparing: bool) -> Lost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK)
        text = f"the worker {_ending(self._process.poll())}"
        text += " while it got ready" if preparing else ""
        return Lost(Failure("WorkerDied", text, self.kill()), preparing)

    def shorten_log(self) -> None:
        """Forget what a child that lives has written, where that is much."""
        # somebody who tidies the temporary folder takes no answer away
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _MUCH:
                os.truncate(self._log, 0)

    def stop(self) -> None:
        """Kill the child and all it started; its thread finds it dead and puts it away."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> str:
        """Kill the child and put it away; returns the last it wrote."""
        if self._ended:
            return ""
        self._ended = True
        self.stop()
        self._process.wait()
        self._connection.close()
        tail = ""
        with contextlib.suppress(OSError):
            tail = self._log.read_bytes()[-_TAIL:].decode(errors="replace")
        shutil.rmtree(self._folder, ignore_errors=True)
        return tail

    def close(self) -> None:
        """Let an idle child end by itself, so that what it prepared is put away."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_POLITE)
        self.kill()


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its connection"
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


class Children:
    """The children of one process: as many as it has threads that run tasks at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._hopeless: dict[tuple[str, str | None], bytes] = {}
        self._closed = False

    def run(self, task: Task) -> Answer:
        """Answer every item of a chunk; hung and dead children become errors or are replaced.

        Raises:
            Error: the children were closed.
        """
        start = time.monotonic()
        answered: list[bytes] = []
        # what cannot be prepared for one function may well be for another
        kind = (task.call.key, task.call.function)
        deaths, false_starts = 0, 0
        while len(answered) < len(task.items):
            before = len(answered)
            try:
                shared = self._hopeless.get(kind) or self._attempt(task, answered)
            except Lost as lost:
                shared = None
                deaths = 0 if len(answered) > before else deaths
                if lost.preparing:
                    false_starts += 1
                    if lost.timed_out or false_starts > task.call.retries:
                        shared = self._hopeless[kind] = failed(lost.failure)
                else:
                    deaths += 1
                    if lost.timed_out or deaths > task.call.retries:
                        answered.append(failed(lost.failure))
                        deaths = 0
            if shared is not None:
                answered += [shared] * (len(task.items) - len(answered))
        return Answer(tuple(answered), time.monotonic() - start)

    def _attempt(self, task: Task, answered: list[bytes]) -> bytes | None:
        child = self._taken(task.call.key)
        try:
            shared = child.answer(task, answered)
        except BaseException:
            child.kill()
            with self._lock:
                self._busy.discard(child)
            raise
        child.shorten_log()
        with self._lock:
            self._busy.discard(child)
            self._idle.append(child)
        return shared

    def _taken(self, key: str) -> Child:
        """An idle child that lives, the one prepared for this key if there is one, or a new one."""
        with self._lock:
            if self._closed:
                raise Error("the engine was closed while it worked")
            self._idle = [child for child in self._idle if child.lives]
            self._idle.sort(key=lambda child: child.has(key))
            child = self._idle.pop() if self._idle else Child()
            self._busy.add(child)
            return child

    def close(self) -> None:
        """End all children, the busy ones at once; what runs in them is lost."""
        with self._lock:
            self._closed = True
            idle, busy = self._idle, list(self._busy)
            self._idle = []
        for child in busy:
            child.stop()
        for child in idle:
            child.close()
