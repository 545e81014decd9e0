"""The MPI engine in a real job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import parallel_work as work
import pytest
from mlcore import parallel
from mlcore.lammps.environment import mpi_launcher

pytest.importorskip("mpi4py")
DRIVER = Path(__file__).with_name("mpi_driver.py")


def run(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(mpi_launcher()), "-n", str(ranks), sys.executable, str(DRIVER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_ranks_work_as_processes_do(tmp_path: Path) -> None:
    ranks = 3
    done = run(ranks, "all", str(tmp_path))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["workers"] == ranks - 1
    assert [x for x, _, _ in said["pids"]] == list(range(20))
    assert 1 <= len({pid for _, pid, _ in said["pids"]}) <= ranks - 1
    assert said["hang"] == [0, 1, 2, "TimedOut", 4, 5, 6, 7]
    assert said["die"] == [0, 1, 2, "WorkerDied", 4, 5]
    assert said["once"] == [[x, 2] for x in range(4)]
    assert said["failed"] == [0, "ValueError", 2, "ValueError"]
    with parallel.engine("processes", workers=1) as engine:
        assert said["sum"] == engine.reduce(work.add, [0.1 * i for i in range(1001)]).value
        energies = [r.value for r in engine.map(work.crystal_energy, [5.0, 5.26, 5.5, 5.26])]
    assert said["lammps"] == energies and energies[1] == energies[3] < energies[2] < 0


def test_a_driver_that_fails_ends_the_job(tmp_path: Path) -> None:
    done = run(2, "raise", str(tmp_path))
    assert done.returncode != 0
    assert "the driver fails" in done.stderr


def test_one_rank_is_told_how_to_start_more() -> None:
    done = run(1, "all", "")
    assert done.returncode != 0 and "mpiexec -n N" in done.stderr
