"""Workers are the ranks of an MPI job; rank 0 drives them.

Run as ``mpiexec -n N python -m ...``. Nothing is spawned by MPI: the N - 1 other ranks exist and wait
in `Mpi(...)` until rank 0 ends, then they exit. What stands before the engine in the program is run
by all ranks, so make the engine early. Items run in children of the ranks, so that a simulation that
hangs or crashes does not take the job with it; a rank that is killed does, as MPI has it.
"""

from __future__ import annotations

import atexit
import sys
import threading
from concurrent.futures import Executor, Future, wait
from typing import Any

from pydantic import BaseModel, ConfigDict

from mlcore.errors import BackendUnavailable, InvalidArgument
from mlcore.parallel import worker
from mlcore.parallel.face import Engine
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.task import Answer, Task

__all__ = ["Mpi", "Options"]

_PATIENCE = 2.0  # seconds the ranks have to finish when rank 0 ends


class Options(BaseModel):
    """The MPI engine has none: ``mpiexec`` decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Ranks:
    """The other ranks of the job; one object for the life of rank 0, whatever engines it makes."""

    def __init__(self) -> None:
        MPI, MPICommExecutor = _mpi()
        self.world = MPI.COMM_WORLD
        if self.world.size < 2:
            raise InvalidArgument(
                "engine = mpi: there is one rank only; run the program as "
                "mpiexec -n N python -m ... with N >= 2 (N - 1 ranks work)"
            )
        executor: Executor | None = MPICommExecutor(self.world, root=0).__enter__()
        if executor is None:  # this rank has served
            worker.close()
            sys.exit(0)
        self.executor = executor
        self.under_way: set[Future[Answer]] = set()
        # mpi4py waits for its ranks before any atexit is run; this comes before it
        getattr(threading, "_register_atexit", atexit.register)(self._end)

    def submit(self, task: Task) -> Future[Answer]:
        future = self.executor.submit(worker.run, task)
        self.under_way.add(future)
        future.add_done_callback(self.under_way.discard)
        return future

    def _end(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
        if wait(list(self.under_way), timeout=_PATIENCE).not_done:
            sys.stderr.write("mlcore: ranks are busy with items nobody waits for; ending the job\n")
            sys.stderr.flush()
            self.world.Abort(1)


_ranks: _Ranks | None = None


def _mpi() -> tuple[Any, Any]:
    try:
        from mpi4py import MPI
        from mpi4py.futures import MPICommExecutor
    except ImportError as error:
        raise BackendUnavailable(
            f"engine = mpi needs mpi4py and an MPI ({error}); "
            "install them with: pip install 'mlcore[cluster]' mpich"
        ) from None
    return MPI, MPICommExecutor


class Mpi(Engine):
    """The other ranks of this MPI job."""

    def __init__(self, settings: EngineSettings, options: Options) -> None:
        global _ranks
        if _ranks is None:
            _ranks = _Ranks()
        super().__init__(settings.model_copy(update={"workers": _ranks.world.size - 1}))
        self._ranks = _ranks

    def _submit(self, task: Task) -> Future[Answer]:
        return self._ranks.submit(task)

    def _stop(self) -> None:
        """The ranks stay for the next engine; they end with rank 0."""
        for future in list(self._ranks.under_way):
            future.cancel()
