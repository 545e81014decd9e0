"""The supervised child: takes chunks from its parent, answers item by item, ends with its parent."""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import shutil
import signal
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mlcore.parallel.callables import find
from mlcore.parallel.payload import answer, prepared_call, raised
from mlcore.parallel.task import Call, Task

__all__ = ["KEPT", "READY", "States", "main"]

READY = b"ready"
_LAST = threading.Lock()
KEPT = 4  # prepared states of the last calls


class States:
    """The prepared states of one process, made once for each factory and its arguments."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, Callable[..., Any]] = OrderedDict()

    def call(self, call: Call) -> Callable[[Any], Any]:
        """What to call with an item; raises whatever import and factory raise."""
        sys.path.extend(path for path in call.paths if path not in sys.path)
        function = find(call.function) if call.function else None
        return prepared_call(function, self._state(call))

    def _state(self, call: Call) -> Callable[..., Any] | None:
        if call.factory is None:
            return None
        if call.key not in self._made:
            name, arguments = call.factory
            assert arguments is not None, "the parent has lost count of the states here"
            self._made[call.key] = find(name)(*pickle.loads(arguments))
        self._made.move_to_end(call.key)
        while len(self._made) > KEPT:
            self._made.popitem(last=False)
        return self._made[call.key]


def main(descriptor: int) -> None:
    """Serve the parent at the other end of this socket until it is closed."""
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    connection = Connection(descriptor)
    states = States()
    while (task := _received(connection)) is not None:
        _serve(connection, states, task)


def _end_with_parent(descriptor: int) -> None:
    """When the parent is gone nobody kills a child that hangs, nor what it started, but itself."""
    poll = select.poll()
    poll.register(descriptor, 0)
    poll.poll()
    _vanish()


def _vanish() -> None:
    """End this process and all it started, and leave nothing in its temporary folder."""
    with _LAST:  # both threads may come here
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


def _received(connection: Connection) -> Task | None:
    try:
        task: Task | None = connection.recv()
    except (EOFError, OSError):
        _vanish()
        raise
    return task


def _serve(connection: Connection, states: States, task: Task) -> None:
    try:
        call = states.call(task.call)
    except BaseException as error:
        connection.send_bytes(raised(error))
        return
    connection.send_bytes(READY)
    for item in task.items:
        connection.send_bytes(answer(call, item))
