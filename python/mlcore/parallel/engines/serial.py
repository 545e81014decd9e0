"""No workers: the calling process does everything; for small work and for debuggers."""

from __future__ import annotations

import time
from concurrent.futures import Future

from pydantic import BaseModel, ConfigDict

from mlcore.parallel.child import States
from mlcore.parallel.face import Engine
from mlcore.parallel.payload import answer, raised
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.supervised import Children
from mlcore.parallel.task import Answer, Task

__all__ = ["Options", "Serial"]


class Options(BaseModel):
    """The serial engine has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Serial(Engine):
    """One item after the other, in this process; with a timeout in one child, which can be killed."""

    chunk_seconds = 0.0  # one item each, one at a time: results come as they are made
    chunks_each = 1

    def __init__(self, settings: EngineSettings, options: Options) -> None:
        super().__init__(settings.model_copy(update={"workers": 1}))
        self._states = States()
        self._children = Children()

    def _submit(self, task: Task) -> Future[Answer]:
        done: Future[Answer] = Future()
        done.set_result(self._children.run(task) if task.call.timeout else self._here(task))
        return done

    def _here(self, task: Task) -> Answer:
        start = time.monotonic()
        try:
            call = self._states.call(task.call)
        except Exception as error:
            payloads = (raised(error),) * len(task.items)
        else:
            payloads = tuple(answer(call, item) for item in task.items)
        return Answer(payloads, time.monotonic() - start)

    def _stop(self) -> None:
        self._children.close()
