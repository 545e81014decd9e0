"""Nets on tiles, a worker for each: threads, processes, or the ranks of an MPI job.

    tiled = net.tile(4, engine="processes")
    tiled.rollout(start, until=200)

A worker holds its tile while steps are made, and exchanges the rims with its neighbours, once for each
layer of the predictor. What all workers hold is put together where a step is recorded. Sums are made
in the order of the tiles: results are the same to the last bit in every engine, where torch uses as
many threads in each.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Literal

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import BackendUnavailable, Error, InvalidArgument
from mlcore.sagesnet.cells import State
from mlcore.sagesnet.grid import Environment, Grid
from mlcore.sagesnet.lattice import ActiveLattice, DenseLattice, Lattice
from mlcore.sagesnet.rollout import (
    Rollout,
    all_finite,
    checked_steps,
    progress_bar,
    recorded,
)
from mlcore.sagesnet.tiles import TiledLattice, TileLattice, tiles

if TYPE_CHECKING:
    from mlcore.sagesnet.net import SagesNet

__all__ = ["ENGINES", "EngineName", "Tiled", "Tiles", "tiled"]

EngineName = Literal["threads", "processes", "mpi"]
ENGINES: tuple[EngineName, ...] = ("threads", "processes", "mpi")
Tiles = int | Sequence[int | Sequence[int]] | None
"""How many tiles, or for each axis how many, or their sizes."""
_PATIENCE = 120.0  # seconds that a process waits for its neighbours to come up
_ENDED = "another tile has failed"

Swap = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class _Job:
    """Steps of a level, or of states whose cells are local (``level`` -1).

    Attributes:
        net: the net.
        lattice: in tiles.
        level: of the steps.
        environment: see `Environment`.
        first: number of the first step.
        steps: how many.
    """

    net: Any
    lattice: TiledLattice
    level: int
    environment: Environment
    first: int
    steps: int


@torch.no_grad()
def _work(job: _Job, number: int, part: Tensor, swap: Swap) -> Tensor:
    """What one tile is after the steps.

    Raises:
        Error: a vector is not finite any more.
    """
    pairs = sorted((min(number, n), max(number, n), n) for n in range(len(job.lattice.boxes)))

    def exchange(out: Mapping[int, Tensor]) -> dict[int, Tensor]:
        # all pairs in one order for everybody: nobody waits for somebody who waits for him
        return {n: swap(n, out[n]) for _, _, n in pairs if n in out}

    own = TileLattice(job.lattice, number, exchange)
    level = max(job.level, 0)
    grid = Grid(part, (own,) * (level + 1))
    around = _around(job, number)
    for step in range(job.first, job.first + job.steps):
        if job.level < 0:
            grid = grid.of(job.net.cells.encode(part, own))
        grid = job.net.predict(grid, around, step)
        if not all_finite(grid.h):
            raise Error(f"step {step + 1} of level {level}: vectors are not finite any more")
        if job.level < 0:
            part = job.net.cells.advance(grid.h, own, part)
    return part if job.level < 0 else grid.h


def _around(job: _Job, number: int) -> Environment:
    """What acts on one tile: a function is asked for the whole lattice."""
    whole = job.environment
    if not callable(whole):
        return whole
    asked = whole

    def part(step: int, lattice: Lattice) -> Tensor:
        return job.lattice.part(asked(step, job.lattice.base), number)

    return part


# ---------------------------------------------------------------------------------------- engines
class _Threads:
    """A thread of this process for each tile."""

    def run(self, job: _Job, parts: Sequence[Tensor]) -> list[Tensor]:
        n = len(parts)
        queues = {(a, b): SimpleQueue[Tensor | None]() for a in range(n) for b in range(n)}
        done: list[Tensor | None] = [None] * n
        errors: list[BaseException] = []

        def work(number: int) -> None:
            def swap(other: int, rows: Tensor) -> Tensor:
                queues[number, other].put(rows)
                got = queues[other, number].get()
                if got is None:
                    raise Error(_ENDED)
                return got

            try:
                done[number] = _work(job, number, parts[number], swap)
            except BaseException as error:
                errors.append(error)
                for other in range(n):
                    queues[number, other].put(None)

        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next((e for e in errors if str(e) != _ENDED), errors[0])
        return [part for part in done if part is not None]

    def close(self) -> None:
        """Nothing is left."""


class _Processes:
    """A process for each tile, by `mlcore.parallel`; neighbours talk to each other by sockets."""

    def __init__(self, workers: int) -> None:
        from mlcore import parallel

        settings = parallel.EngineSettings(name="processes", workers=workers, retries=0)
        self.engine = parallel.engine(settings)

    def run(self, job: _Job, parts: Sequence[Tensor]) -> list[Tensor]:
        with tempfile.TemporaryDirectory(prefix="mlcore-tiles-") as folder:
            items = [
                (folder, number, job.first, job.steps, part.numpy())
                for number, part in enumerate(parts)
            ]
            threads = torch.get_num_threads()
            arguments = (job.net, job.lattice, job.level, job.environment, threads)
            done = []
            for result in self.engine.map(None, items, chunk=1, prepared=(_Process, arguments)):
                if result.error is None:
                    done.append(torch.as_tensor(result.value))
                elif _ENDED not in result.error.message:
                    raise Error(result.error.message)
        if len(done) < len(parts):
            raise Error(_ENDED)
        return done

    def close(self) -> None:
        """End the processes."""
        self.engine.close()


class _Process:
    """What a process of `_Processes` keeps between stretches of steps."""

    def __init__(
        self, net: Any, lattice: TiledLattice, level: int, environment: Environment, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        self.job = (net, lattice, level, environment)

    def __call__(self, item: tuple[str, int, int, int, Any]) -> Any:
        folder, number, first, steps, part = item
        job = _Job(*self.job, first, steps)
        plans = job.lattice.plans(job.net.predictors[max(job.level, 0)].arguments["kernel"])
        with _sockets(Path(folder), number, plans[number].neighbors) as swap:
            return _work(job, number, torch.as_tensor(part), swap).numpy()


@contextlib.contextmanager
def _sockets(folder: Path, number: int, neighbors: Sequence[int]) -> Iterator[Swap]:
    """Connections to the processes of other tiles; the higher number calls the lower."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.settimeout(_PATIENCE)
        server.bind(str(folder / f"{number}.part"))
        server.listen(len(neighbors) + 1)
        (folder / f"{number}.part").rename(folder / str(number))
        linked: dict[int, Connection] = {}
        for other in (n for n in neighbors if n < number):
            linked[other] = stack.enter_context(_called(folder / str(other)))
            linked[other].send(number)
        for _ in (n for n in neighbors if n > number):
            try:
                call = stack.enter_context(Connection(server.accept()[0].detach()))
            except TimeoutError:
                raise Error(_ENDED) from None
            linked[call.recv()] = call

        def swap(other: int, rows: Tensor) -> Tensor:
            try:
                if number < other:
                    _send(linked[other], rows)
                    return _received(linked[other], rows)
                got = _received(linked[other], rows)
                _send(linked[other], rows)
                return got
            except (EOFError, OSError):
                raise Error(_ENDED) from None

        yield swap


def _called(path: Path) -> Connection:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            return Connection(client.detach())
        time.sleep(0.005)
    raise Error(_ENDED)


def _send(to: Connection, rows: Tensor) -> None:
    to.send_bytes(rows.contiguous().numpy().tobytes())


def _received(source: Connection, like: Tensor) -> Tensor:
    """Rows of the batch, length and dtype of others."""
    flat = np.frombuffer(bytearray(source.recv_bytes()), dtype=like.numpy().dtype)
    return torch.as_tensor(flat.reshape(*like.shape[:-2], -1, like.shape[-1]))


class _Ranks:
    """The ranks of this MPI job, one for each tile; all of them run the same program."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise BackendUnavailable(
                f"engine = mpi needs mpi4py and an MPI ({error}); "
                "install them with: pip install 'mlcore[cluster]' mpich"
            ) from None
        self.world = MPI.COMM_WORLD

    def run(self, job: _Job, parts: Sequence[Tensor]) -> list[Tensor]:
        rank = self.world.rank

        def swap(other: int, rows: Tensor) -> Tensor:
            got = self.world.sendrecv(rows.contiguous().numpy(), dest=other, source=other)
            return torch.as_tensor(got)

        try:
            own = _work(job, rank, parts[rank], swap)
        except Exception:
            # the other ranks wait for this one, and would for ever
            traceback.print_exc()
            sys.stderr.flush()
            self.world.Abort(1)
            raise
        return [torch.as_tensor(part) for part in self.world.allgather(own.numpy())]

    def close(self) -> None:
        """The ranks stay."""


# ------------------------------------------------------------------------------------------- face
@dataclass(frozen=True)
class Tiled(Generic[State]):
    """A net on tiles; made by `SagesNet.tile`.

    Attributes:
        net: that is run.
        wanted: tiles, see `mlcore.sagesnet.tiles.tiles`; None: one for each rank.
        engine: "threads", "processes" or "mpi".
    """

    net: SagesNet[State]
    wanted: int | Sequence[int | Sequence[int]]
    engine: EngineName

    def lattice(self, base: Lattice) -> TiledLattice:
        """A level's lattice in tiles.

        Raises:
            InvalidArgument: it cannot be cut so.
        """
        if not isinstance(base, DenseLattice | ActiveLattice):
            raise InvalidArgument(f"lattice: a {type(base).__name__} cannot be cut into tiles")
        extents = base.extents if isinstance(base, DenseLattice) else base.active.grid_shape
        return TiledLattice(base, tiles(tuple(extents), self.wanted))  # type: ignore[arg-type]

    def rollout(
        self,
        start: State | Sequence[State],
        until: int,
        *,
        level: int = 0,
        record: int = 1,
        environment: Environment = None,
        watch: Callable[[int, State], None] | None = None,
        progress: bool = False,
    ) -> Rollout[State]:
        """`SagesNet.rollout` on tiles; arguments, results and errors are its own.

        Workers go on by themselves from one recorded step to the next: record seldom. With the
        engine "processes" an environment that is a function must be one of a module, and cells
        must be local (`Cells.local`) or the level at least 1; other cells, as those of atoms, are
        encoded and advanced here between any two steps, their vectors are told to the workers. With
        "mpi" all ranks call this alike, and all get the whole result.
        """
        span, steps = checked_steps(self.net, until, level, record)
        with torch.no_grad(), progress_bar(progress, steps) as move:
            made = self._steps(start, steps, level, record, environment)
            return recorded(made, span, move, watch)

    def _steps(
        self, start: Any, steps: int, level: int, record: int, environment: Environment
    ) -> Iterator[tuple[int, Any, Grid | None]]:
        state = start[0] if isinstance(start, list | tuple) else start
        if level:
            grid = self.net.encode(start, level)
            lattice = self.lattice(grid.lattice)
            yield 0, state, grid
            for step, h in self._stretches(lattice, grid.h, level, steps, record, environment):
                yield step, self.net.decode(grid.of(h))[0], grid.of(h)
            return
        yield 0, state, None
        if self.net.cells.local:
            lattice = self.lattice(self.net.cells.lattice([state]))
            for step, new in self._stretches(lattice, state, -1, steps, record, environment):
                yield step, new, None
            return
        yield from self._told(state, steps, record, environment)

    def _stretches(
        self,
        lattice: TiledLattice,
        values: Tensor,
        level: int,
        steps: int,
        record: int,
        environment: Environment,
    ) -> Iterator[tuple[int, Tensor]]:
        """Whole fields at recorded steps."""
        parts = [lattice.part(values, number) for number in range(len(lattice.boxes))]
        with contextlib.closing(self._team(len(parts))) as team:
            for first in range(0, steps, record):
                job = _Job(self.net, lattice, level, environment, first, min(record, steps - first))
                parts = team.run(job, parts)
                yield first + job.steps, lattice.whole(torch.cat(parts, dim=lattice.axis))

    def _told(
        self, state: Any, steps: int, record: int, environment: Environment
    ) -> Iterator[tuple[int, Any, None]]:
        """States that are advanced here: workers are told vectors for every step."""
        if self.engine == "processes":
            kind = self.net.cells.kind
            raise InvalidArgument(f"engine: cells of kind {kind!r} run in threads or under mpi")
        base, lattice = None, None
        kept = self.net.cells.conserved(state)
        for step in range(steps):
            grid = self.net.encode([state])
            if lattice is None or grid.lattice is not base:
                base, lattice = grid.lattice, self.lattice(grid.lattice)
            parts = [lattice.part(grid.h, number) for number in range(len(lattice.boxes))]
            with contextlib.closing(self._team(len(parts))) as team:
                job = _Job(self.net, lattice, 0, environment, step, 1)
                h = lattice.whole(torch.cat(team.run(job, parts), dim=lattice.axis))
            state = self.net.cells.advance(h, grid.lattice, state)
            now = self.net.cells.conserved(state)
            if kept is not None and now is not None and not torch.equal(now, kept):
                raise Error(f"step {step + 1}: what must be conserved is not")
            if (step + 1) % record == 0 or step + 1 == steps:
                yield step + 1, state, None

    def _team(self, count: int) -> Any:
        if self.engine == "threads":
            return _Threads()
        if self.engine == "processes":
            return _Processes(count)
        ranks = _Ranks()
        if ranks.world.size != count:
            raise InvalidArgument(
                f"tiles: {count} of them need as many ranks, there are {ranks.world.size}"
            )
        return ranks


def tiled(net: SagesNet[State], wanted: Tiles, engine: EngineName) -> Tiled[State]:
    """`SagesNet.tile`."""
    if engine not in ENGINES:
        raise InvalidArgument(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if wanted is None:
        wanted = _Ranks().world.size if engine == "mpi" else len(os.sched_getaffinity(0))
    return Tiled(net, wanted, engine)
