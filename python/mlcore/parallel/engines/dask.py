"""Workers of a Dask cluster: a scheduler that runs already, or workers in this process.

Where no address is given, Dask's scheduler and one worker thread for each child live in this process;
the items run in the children, so nothing is gained by Dask processes between.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mlcore.errors import BackendUnavailable, Error
from mlcore.parallel import worker
from mlcore.parallel.face import Engine
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.task import Answer, Task

__all__ = ["Dask", "Options"]


class Options(BaseModel):
    """Options of the Dask engine.

    Attributes:
        address: of a scheduler, e.g. tcp://host:8786; None: workers of our own.
        scheduler_file: file that ``dask scheduler --scheduler-file`` writes, instead of an address.
        patience: seconds to wait for the scheduler and its first worker.
        chunk_seconds: how long a chunk should take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = None
    scheduler_file: str | None = None
    patience: float = Field(default=120.0, gt=0)
    chunk_seconds: float = Field(default=0.5, gt=0)


class Dask(Engine):
    """The workers of a Dask scheduler; each should have one thread."""

    attempts = 1  # Dask itself runs the chunk of a lost worker again

    def __init__(self, settings: EngineSettings, options: Options) -> None:
        distributed = _distributed()
        super().__init__(settings)
        self.chunk_seconds = options.chunk_seconds
        self._cluster = None
        if options.address is None and options.scheduler_file is None:
            worker.reopen()
            self._cluster = _cluster(distributed, settings.count)
        try:
            self._client = distributed.Client(
                self._cluster or options.address,
                scheduler_file=options.scheduler_file,
                timeout=options.patience,
                set_as_default=False,
            )
            self._client.wait_for_workers(1, timeout=options.patience)
        except (OSError, TimeoutError) as error:
            where = options.address or options.scheduler_file or "local"
            raise Error(f"engine = dask: no worker at {where}: {error}") from None
        self.workers = max(settings.workers or 1, sum(self._client.nthreads().values()))
        self._executor = self._client.get_executor(pure=False, retries=2)

    def _submit(self, task: Task) -> Future[Answer]:
        future: Future[Answer] = self._executor.submit(worker.run, task)
        return future

    def _stop(self) -> None:
        self._executor.shutdown(wait=False)
        if self._cluster is not None:
            worker.close()
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _cluster(distributed: Any, workers: int) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",  # None would take port 8787 all the same
        silence_logs=50,
    )


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise BackendUnavailable(
            f"engine = dask needs dask and distributed ({error}); "
            "install them with: pip install 'mlcore[cluster]'"
        ) from None
    return distributed
