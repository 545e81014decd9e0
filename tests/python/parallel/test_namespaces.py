"""A worker in another network namespace, which reaches the driver by one address alone."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import parallel_work as work
import pytest
from mlcore import parallel


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[tuple[str, str]]:
    """Name of a network namespace, and this host's address as it is seen from there."""
    if shutil.which("ip") is None:
        pytest.skip("no program ip")
    name, net = f"mlcore{os.getpid()}", f"10.213.{os.getpid() % 250}"
    here, there = f"ml{os.getpid()}a", f"ml{os.getpid()}b"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted: {error.stderr.decode().strip()}")
    try:
        try:
            ip("link", "add", here, "type", "veth", "peer", "name", there)
            ip("link", "set", there, "netns", name)
            ip("addr", "add", f"{net}.1/30", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", name, "addr", "add", f"{net}.2/30", "dev", there)
            ip("-n", name, "link", "set", there, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network interfaces are not permitted: {error.stderr.decode().strip()}")
        yield name, f"{net}.1"
    finally:
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", here)
        ip("netns", "del", name)


def test_a_worker_on_another_host_does_the_work(namespace: tuple[str, str]) -> None:
    pytest.importorskip("parsl")
    name, address = namespace
    provider = {"kind": "local", "init_blocks": 0, "min_blocks": 0, "max_blocks": 0}
    with parallel.engine("parsl", workers=1, provider=provider, address=address) as engine:
        giving_up = threading.Timer(240.0, engine.close)  # rather than wait for ever
        giving_up.start()
        command = ["ip", "netns", "exec", name, *shlex.split(engine.worker_command)]
        host = subprocess.Popen(
            command, process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            results = list(engine.map(work.namespace_of, range(20)))
        finally:
            giving_up.cancel()
            with suppress(ProcessLookupError):
                os.killpg(host.pid, signal.SIGKILL)
            host.wait()
    assert [r.value[0] for r in results if r.error is None] == list(range(20))
    assert {r.value[1] for r in results} != {str(Path("/proc/self/ns/net").readlink())}
    assert len({r.value[1] for r in results}) == 1
