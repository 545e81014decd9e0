"""Nothing is left behind, whatever happens; and what the settings say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import parallel_work as work
import pytest
from mlcore import parallel
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.supervised import child_environment

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
import parallel_work as work
from mlcore import parallel
with parallel.engine("processes", workers=2) as engine:
    list(engine.map(work.leave_mark, [({marks!r}, i) for i in range(4)]))
"""


def gone(pid: int) -> bool:
    """No such process, or a zombie that only waits for being collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(what: object, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(what())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_driver(tmp_path: Path, number: signal.Signals) -> None:
    tests = str(Path(__file__).parent)
    code = DRIVER.format(tests=tests, marks=str(tmp_path))
    driver = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    marks = lambda: [p for p in tmp_path.iterdir() if p.name.isdigit()]  # noqa: E731
    assert wait_for(lambda: len(marks()) == 2)
    pids = [int(p.name) for p in marks()] + [int(p.read_text()) for p in marks()]
    driver.send_signal(number)
    _, said = driver.communicate(timeout=60)
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert wait_for(lambda: all(gone(pid) for pid in pids))


def test_what_a_killed_worker_started_and_wrote_goes_with_it(tmp_path: Path) -> None:
    with parallel.engine("processes", workers=1) as engine:
        (result,) = engine.map(work.leave_mark, [(str(tmp_path), 1)], timeout=3.0)
        assert result.error.type == "TimedOut"
        (mark,) = tmp_path.iterdir()
        assert wait_for(lambda: gone(int(mark.name)) and gone(int(mark.read_text())))
        folder = Path(next(engine.map(work.temporary_folder, [1])).value)
        assert folder.is_dir()
    assert not folder.exists()


def test_a_worker_killed_from_outside_is_replaced() -> None:
    with parallel.engine("processes", workers=2) as engine:
        prepared = (work.Counter, (0,))
        before = {r.value[1] for r in engine.map(None, range(8), chunk=1, prepared=prepared)}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        results = list(engine.map(None, range(8), chunk=1, prepared=prepared))
        assert [r.value[0] for r in results] == list(range(8))
        assert not before & {r.value[1] for r in results}


def test_a_factory_that_hangs_is_given_up_once() -> None:
    settings = EngineSettings(name="processes", workers=1, startup=1.0)
    with parallel.engine(settings) as engine:
        results = list(engine.map(None, range(5), chunk=2, prepared=(work.hanging_factory, ())))
    assert {r.error.type for r in results} == {"TimedOut"} and len(results) == 5
    assert "not ready" in results[0].error.message


def test_no_retry_when_none_is_wanted(tmp_path: Path) -> None:
    with parallel.engine(EngineSettings(name="processes", workers=1, retries=0)) as engine:
        (result,) = engine.map(work.die_once, [(str(tmp_path), 1)])
    assert result.error.type == "WorkerDied"


def test_a_closed_engine_says_so() -> None:
    engine = parallel.engine("processes", workers=1)
    results = engine.map(work.wait, [0.0, 60.0], chunk=1)
    assert next(results).value == 0.0
    engine.close()
    with pytest.raises(parallel.Error, match="closed"):
        next(results)
    with pytest.raises(parallel.Error, match="closed"):
        engine.map(work.square, [1])


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_another_thread_may_close(name: parallel.EngineName) -> None:
    if name == "dask":
        pytest.importorskip("distributed")
    engine = parallel.engine(name, workers=1)
    results = engine.map(work.wait, [0.0, 600.0, 600.0], chunk=1)
    assert next(results).value == 0.0
    closing = threading.Timer(0.2, engine.close)
    closing.start()
    with pytest.raises(parallel.Error, match="closed"):
        next(results)
    closing.join()


def test_a_function_whose_module_kills_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_module.py").write_text(
        "import os, signal\n"
        "if 'mlcore-worker' in os.environ.get('TMPDIR', ''):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def same(x):\n    return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import deadly_module  # type: ignore[import-not-found]

    with parallel.engine("processes", workers=1) as engine:
        (bad,) = engine.map(deadly_module.same, [1])
        assert bad.error is not None and bad.error.type == "WorkerDied"
        (good,) = engine.map(work.square, [3.0])
        assert good.value == 9.0


def test_children_are_no_part_of_an_mpi_job() -> None:
    job = {"PMI_RANK": "1", "PMI_FD": "7", "HYDI_CONTROL_FD": "3", "MPI_LOCALRANKID": "0"}
    job |= {"PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
    assert child_environment(job | {"HOME": "/h"}) == {"HOME": "/h", "OMP_NUM_THREADS": "1"}
    assert child_environment({"OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4"}


def test_settings_travel_as_json() -> None:
    file = EngineSettings(name="parsl", workers=8, options={"address": "127.0.0.1"})
    assert EngineSettings.model_validate_json(file.model_dump_json()) == file


def test_processes_work_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # the one setting of a machine is that of the domain packages
    monkeypatch.setenv("MLCORE_ENGINE", "serial")
    with parallel.engine(workers=1) as engine:
        assert engine.settings.name == "processes"


def test_wrong_settings_are_named() -> None:
    with pytest.raises(parallel.InvalidArgument, match="redis"):
        parallel.engine("redis")  # type: ignore[arg-type]
    with pytest.raises(parallel.InvalidArgument, match="workers"):
        parallel.engine("serial", workers=0)
    with pytest.raises(parallel.InvalidArgument, match="options of processes: nodes"):
        parallel.engine("processes", nodes=3)


def test_more_states_than_are_kept_are_made_again() -> None:
    with parallel.engine("processes", workers=1) as engine:
        counted = []
        for start in (0, 10, 20, 30, 40, 50, 0, 10, 10):
            (result,) = engine.map(None, [1], prepared=(work.Counter, (start,)))
            counted.append(result.value[2])
    assert counted == [1, 11, 21, 31, 41, 51, 1, 11, 12]


def test_a_broken_state_is_tried_again() -> None:
    with parallel.engine("processes", workers=1) as engine:
        prepared = (work.broken_factory, ("no licence",))
        for _ in range(2):
            (result,) = engine.map(None, [1], prepared=prepared)
            assert result.error.message == "no licence"
