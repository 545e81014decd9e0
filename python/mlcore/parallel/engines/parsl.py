"""Workers on many nodes, brought by Parsl: ZeroMQ between them, batch systems start them.

Chunks go through Parsl's `HighThroughputExecutor`: an interchange beside the driver, a manager on each
node, workers that join and leave while a map runs. The chunk of a worker or node that is lost is run
again elsewhere.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlcore.errors import BackendUnavailable, InvalidArgument
from mlcore.parallel import worker
from mlcore.parallel.face import Engine
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.task import Answer, Task

__all__ = ["Options", "Parsl", "Provider"]

_PROVIDERS = {
    "local": "LocalProvider",
    "slurm": "SlurmProvider",
    "pbspro": "PBSProProvider",
    "torque": "TorqueProvider",
    "lsf": "LSFProvider",
    "grid_engine": "GridEngineProvider",
    "condor": "CondorProvider",
    "kubernetes": "KubernetesProvider",
}
_LAUNCHERS = {
    "simple": "SimpleLauncher",
    "single": "SingleNodeLauncher",
    "srun": "SrunLauncher",
    "mpiexec": "MpiExecLauncher",
    "mpirun": "MpiRunLauncher",
    "aprun": "AprunLauncher",
    "jsrun": "JsrunLauncher",
}


class Provider(BaseModel):
    """What starts the workers. Other fields are arguments of Parsl's provider of this kind.

    Attributes:
        kind: local, or the batch system.
        launcher: how a block of several nodes starts one manager on each, e.g. srun.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Literal[
        "local", "slurm", "pbspro", "torque", "lsf", "grid_engine", "condor", "kubernetes"
    ] = "local"
    launcher: Literal["simple", "single", "srun", "mpiexec", "mpirun", "aprun", "jsrun"] | None = (
        None
    )


class Options(BaseModel):
    """Options of the Parsl engine; `EngineSettings.workers` are those on one node.

    Attributes:
        provider: what starts the workers.
        address: where workers reach the driver; None: 127.0.0.1 for local workers, every address
            of this host for others.
        worker_port: port of the interchange for workers; None: a free one of `worker_ports`.
        worker_ports: range to look for a free one in.
        cores_per_worker: None: one; local workers share the cores there are.
        python: interpreter of the workers; None: this one's path.
        run_dir: where scripts, keys and logs go, on a file system that the workers see; None: a
            temporary folder for local workers, ``mlcore-parsl`` here for others.
        heartbeat: seconds between signs of life of managers.
        lost_after: seconds without one after which a node is lost and its chunks run elsewhere.
        chunk_seconds: how long a chunk should take.
        encrypted: CurveZMQ between driver and workers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider = Provider()
    address: str | None = None
    worker_port: int | None = Field(default=None, ge=1, le=65535)
    worker_ports: tuple[int, int] = (54000, 55000)
    cores_per_worker: float | None = Field(default=None, gt=0)
    python: str | None = None
    run_dir: str | None = None
    heartbeat: int = Field(default=10, ge=1)
    lost_after: int = Field(default=60, ge=2)
    chunk_seconds: float = Field(default=0.5, gt=0)
    encrypted: bool = True


class Parsl(Engine):
    """Workers that Parsl's blocks bring, and those started by hand with `worker_command`."""

    attempts = 1  # Parsl itself runs the chunk of a lost worker again

    def __init__(self, settings: EngineSettings, options: Options) -> None:
        parsl = _parsl()
        super().__init__(settings)
        self.chunk_seconds = options.chunk_seconds
        local = options.provider.kind == "local"
        self._temporary = tempfile.mkdtemp(prefix="mlcore-parsl-") if local else "mlcore-parsl"
        self._keep = not local
        folder = Path(options.run_dir or self._temporary).resolve()
        provider = _provider(parsl, options.provider)
        self._executor = _executor(parsl, provider, settings, options)
        config = parsl.Config(
            executors=[self._executor],
            run_dir=str(folder),
            retries=2,
            initialize_logging=False,
            strategy="simple",
            strategy_period=0.5 if local else 5,  # blocks are first started after that time
        )
        blocks = max(1, provider.max_blocks) * provider.nodes_per_block
        self.workers = settings.count * blocks
        self._kernel = parsl.DataFlowKernel(config)
        self._run = parsl.python_app(worker.run, data_flow_kernel=self._kernel)

    @property
    def worker_command(self) -> str:
        """A command that starts workers by hand, here or on a host that sees `run_dir`; they join."""
        return str(self._executor.launch_cmd.format(block_id=f"by-hand-{os.urandom(4).hex()}"))

    def _submit(self, task: Task) -> Future[Answer]:
        future: Future[Answer] = self._run(task)
        return future

    def _stop(self) -> None:
        self._kernel.cleanup()
        if not self._keep:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _parsl() -> Any:
    try:
        import parsl
    except ImportError as error:
        raise BackendUnavailable(
            f"engine = parsl needs parsl ({error}); install it with: pip install 'mlcore[cluster]'"
        ) from None
    return parsl


def _provider(parsl: Any, provider: Provider) -> Any:
    import parsl.launchers
    import parsl.providers

    made = getattr(parsl.providers, _PROVIDERS[provider.kind])
    arguments = dict(provider.model_extra or {})
    if provider.launcher is not None:
        arguments["launcher"] = getattr(parsl.launchers, _LAUNCHERS[provider.launcher])()
    if provider.kind == "local":
        arguments = {"min_blocks": arguments.get("init_blocks", 1)} | arguments
    try:
        return made(**arguments)
    except Exception as error:
        raise InvalidArgument(f"options of parsl: provider {provider.kind}: {error}") from None


def _executor(parsl: Any, provider: Any, settings: EngineSettings, options: Options) -> Any:
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    local = options.provider.kind == "local"
    share = math.floor(1000 * len(os.sched_getaffinity(0)) / settings.count) / 1000
    cores = options.cores_per_worker or (min(1.0, share) if local else 1.0)
    python = shlex.quote(options.python or sys.executable)
    pool = f"{python} -m mlcore.parallel.engines.manager "
    return HighThroughputExecutor(
        label="mlcore",
        provider=provider,
        address=options.address or ("127.0.0.1" if local else None),
        worker_port=options.worker_port,
        worker_port_range=options.worker_ports,
        max_workers_per_node=settings.count,
        cores_per_worker=cores,
        heartbeat_period=options.heartbeat,
        heartbeat_threshold=options.lost_after,
        encrypted=options.encrypted,
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py ", pool, 1),
        interchange_launch_cmd=[sys.executable, "-m", "mlcore.parallel.engines.interchange"],
    )
