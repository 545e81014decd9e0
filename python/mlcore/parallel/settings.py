"""The one setting: which engine, how many workers, and the engine's own options."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ENGINES", "EngineName", "EngineSettings"]

EngineName = Literal["serial", "processes", "mpi", "parsl", "dask"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


class EngineSettings(BaseModel):
    """Which engine runs a map; JSON in and out.

    Attributes:
        name: serial, processes, mpi, parsl or dask.
        workers: how many run at once; None: one for each core this process may use. The number of
            ranks decides for mpi, and options of the provider for parsl on a cluster.
        options: the engine's own, checked when it starts; see `mlcore.parallel.engines`.
        startup: seconds a worker has to start and to prepare its state.
        retries: how often an item is tried again whose worker died.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: EngineName = "processes"
    workers: int | None = Field(default=None, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)
    startup: float = Field(default=600.0, gt=0)
    retries: int = Field(default=1, ge=0)

    @property
    def count(self) -> int:
        """Workers asked for, or the cores this process may use."""
        return self.workers or len(os.sched_getaffinity(0))
