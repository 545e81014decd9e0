"""The same fit by every engine: the same history to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fit_problems import run_small
from mlcore.forcefield.run.history import read_history, same
from mlcore.lammps.environment import mpi_launcher

HERE = Path(__file__).parent
BUDGET = 30


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "fit"
    run_small(folder, budget=BUDGET)
    return folder


@pytest.mark.parametrize(("engine", "package"), [("parsl", "parsl"), ("dask", "distributed")])
def test_brokers_make_the_same_history(
    tmp_path: Path, alone: Path, engine: str, package: str
) -> None:
    pytest.importorskip(package)
    run_small(tmp_path / "fit", budget=BUDGET, engine=engine, workers=2)
    assert same(read_history(tmp_path / "fit"), read_history(alone))


def test_ranks_make_the_same_history(tmp_path: Path, alone: Path) -> None:
    pytest.importorskip("mpi4py")
    folder = tmp_path / "fit"
    code = (
        "from pathlib import Path; from fit_problems import run_small; "
        f"found = run_small(Path({str(folder)!r}), budget={BUDGET}, engine='mpi'); "
        "print(found.state, found.verified.agrees)"
    )
    command = [str(mpi_launcher()), "-n", "3", sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", "True"]
    assert same(read_history(folder), read_history(alone))
