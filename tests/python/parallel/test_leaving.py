"""Workers that join over the network while a map runs, and workers that are killed."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import parallel_work as work
import pytest
from mlcore import parallel


@contextmanager
def given_up(engine: parallel.Engine, after: float = 240.0) -> Iterator[None]:
    """A map that waits for ever becomes an error."""
    timer = threading.Timer(after, engine.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def started() -> Iterator[Callable[[list[str]], subprocess.Popen[bytes]]]:
    """A function that starts worker hosts, each the leader of a process group; all end with the block."""
    hosts: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        hosts.append(
            subprocess.Popen(
                command,
                process_group=0,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
        )
        return hosts[-1]

    try:
        yield start
    finally:
        for host in hosts:
            end(host)


def end(host: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(host.pid, signal.SIGKILL)
    host.wait()


def group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def run_while_hosts_change(
    engine: parallel.Engine,
    folder: Path,
    first: subprocess.Popen[bytes],
    join: Callable[[], subprocess.Popen[bytes]],
    lose_worker: bool = False,
) -> None:
    """One host works, a second joins, the first is killed; nothing is lost.

    `lose_worker`: the first host's worker is killed by its third item, and the host starts another.
    """
    items = ((str(folder), x, lose_worker and x == 2) for x in itertools.count())
    results = engine.map(work.tell_watcher, items, chunk=1)
    got = list(itertools.islice(results, 2 * engine.chunks_each))
    assert {group(pid) for _, pid in (r.value for r in got[-2:])} == {first.pid}
    assert len({r.value[1] for r in got}) == 1 + lose_worker
    second = join()
    while group(got[-1].value[1]) != second.pid and len(got) < 500:
        got.append(next(results))
    end(first)
    got += itertools.islice(results, 3 * engine.chunks_each)
    results.close()
    assert [r.error for r in got] == [None] * len(got)
    assert [r.value[0] for r in got] == list(range(len(got)))
    assert group(got[-1].value[1]) == second.pid


def test_hosts_join_and_leave_parsl(tmp_path: Path) -> None:
    pytest.importorskip("parsl")
    provider = {"kind": "local", "init_blocks": 0, "min_blocks": 0, "max_blocks": 0}
    options = {"provider": provider, "heartbeat": 1, "lost_after": 8}
    with (
        parallel.engine("parsl", workers=1, **options) as engine,
        given_up(engine),
        started() as start,
    ):
        join = lambda: start(shlex.split(engine.worker_command))  # noqa: E731
        run_while_hosts_change(engine, tmp_path, join(), join, lose_worker=True)


def test_hosts_join_and_leave_dask(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    (tmp_path / "notes").mkdir()
    scheduler = {"n_workers": 0, "host": "127.0.0.1", "protocol": "tcp", "dashboard_address": ":0"}
    with LocalCluster(**scheduler, silence_logs=50) as cluster, started() as start:
        command = [sys.executable, "-m", "dask", "worker", cluster.scheduler_address, "--no-nanny"]
        command += ["--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
        first = start(command)
        with parallel.engine("dask", address=cluster.scheduler_address) as engine, given_up(engine):
            assert engine.workers == 1
            run_while_hosts_change(engine, tmp_path / "notes", first, lambda: start(command))
