"""Workers on this machine: a thread for each, which watches a child."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue

from pydantic import BaseModel, ConfigDict

from mlcore.parallel.face import Engine
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.supervised import Children
from mlcore.parallel.task import Answer, Task

__all__ = ["Options", "Processes"]


class Options(BaseModel):
    """The process engine has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Processes(Engine):
    """As many supervised children as there are workers."""

    def __init__(self, settings: EngineSettings, options: Options) -> None:
        super().__init__(settings)
        self._children = Children()
        self._queue: SimpleQueue[tuple[Task, Future[Answer]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"mlcore-worker-{i}", daemon=True)
            for i in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _submit(self, task: Task) -> Future[Answer]:
        future: Future[Answer] = Future()
        self._queue.put((task, future))
        return future

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            task, future = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._children.run(task))
            except BaseException as error:
                future.set_exception(error)

    def _stop(self) -> None:
        self._children.close()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
