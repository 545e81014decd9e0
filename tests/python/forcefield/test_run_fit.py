"""Fits: their folders, their ends, and that they go on as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_problems import run_small, small
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.run import Fit, cancel, fit
from mlcore.forcefield.run.events import append_events, read_events, read_state, write_state
from mlcore.forcefield.run.history import HISTORY, Entry, History, read_history, same
from mlcore.forcefield.run.result import Result
from mlcore.forcefield.score import Score
from mlcore.io.lock import holder, locked

HERE = Path(__file__).parent


def child(code: str) -> subprocess.Popen[bytes]:
    # a shell that starts these tests in its background has them ignore Ctrl-C
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}"
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One fit from begin to end, in this process."""
    return run_small(tmp_path_factory.mktemp("fits") / "whole")


def test_a_fit_finds_the_parameters_and_tells_all_of_it(whole: Result) -> None:
    folder = whole.folder
    told = json.loads((folder / "result.json").read_text())
    assert whole.state == "done" and whole.total is not None
    assert whole.total < 0.1 * read_history(folder)[0].score.total
    assert told["total"] == whole.total
    assert Result.load(folder) == whole
    best = json.loads((folder / "best.json").read_text())
    assert best["values"] == whole.values and best["total"] == whole.total
    assert (folder / "model" / "model.tersoff").is_file()
    kinds = [event["event"] for event in read_events(folder)]
    assert kinds[0] == "started" and kinds[-1] == "finished"
    assert {"stage", "batch", "best", "checkpoint"} <= set(kinds)
    assert [e["stage"] for e in read_events(folder) if e["event"] == "stage"][:2] == [
        "cma",
        "least_squares",
    ]


def test_parts_add_up_to_the_score(whole: Result) -> None:
    assert whole.total is not None
    assert math.fsum(whole.contributions.values()) == pytest.approx(whole.total, rel=1e-14)


def test_the_score_is_that_of_a_fresh_process(whole: Result) -> None:
    assert whole.verified.agrees
    assert whole.verified.total == pytest.approx(whole.total, rel=1e-8)


def test_a_score_that_is_not_reproduced_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    from mlcore.forcefield.objective import Objective

    told = Objective.score

    def too_good(self: Objective, evaluation: Any, violation: float = 0.0) -> Score:
        score = told(self, evaluation, violation)
        # of the search alone: what is found again has values of its own
        lie = 1.0 if evaluation.values else 0.5
        return Score(score.total * lie, score.residuals, level=score.level)

    monkeypatch.setattr(Objective, "score", too_good)
    found = run_small(tmp_path / "fit", budget=20, search="cma")
    assert not found.verified.agrees
    assert "NOT REPRODUCED" in str(found)


def test_histories_read_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    entries = [
        Entry(0, 0, tuple(rng.random(3).tolist()), Score(0.1 + 0.2, rng.random(5), (1 / 3,)),
              (1e-300, None, -2.5), 0.25, "cma", {"crystal": "melts"}),
        Entry(1, 0, (0.0, 1.0, 5e-324), Score.failed("LAMMPS: \u201cno\u201d\n", 0.5, 2), (), 0.0),
    ]  # fmt: skip
    history = History(tmp_path)
    history.append(entries)
    history.close()
    assert same(read_history(tmp_path), entries)
    assert History(tmp_path).entries[0].notes == {"crystal": "melts"}
    assert not same(read_history(tmp_path), entries[:1])
    other = [entries[0], Entry(1, 0, (0.0, 1.0, 0.0), entries[1].score, (), 0.0)]
    assert not same(read_history(tmp_path), other)


@pytest.mark.parametrize("lost", [1, 7, 60])
def test_what_is_torn_off_a_history_is_dropped(tmp_path: Path, lost: int) -> None:
    entries = [Entry(k, k, (k / 7,), Score(1.0, np.full(4, k / 3)), (0.5,), 0.0) for k in range(5)]
    history = History(tmp_path)
    history.append(entries)
    history.close()
    os.truncate(tmp_path / HISTORY, (tmp_path / HISTORY).stat().st_size - lost)
    again = History(tmp_path)
    assert same(again.entries, entries[:4])
    again.append(entries[4:])
    again.close()
    assert same(read_history(tmp_path), entries)


def test_residuals_that_are_missing_take_their_lines_along(tmp_path: Path) -> None:
    entries = [Entry(k, k, (0.5,), Score(1.0, np.full(4, 1.0)), (), 0.0) for k in range(3)]
    history = History(tmp_path)
    history.append(entries)
    history.close()
    os.truncate(tmp_path / "residuals.f64", 11 * 8)
    assert same(read_history(tmp_path), entries[:2])


@pytest.mark.parametrize(("count", "engine"), [(31, "'processes'")])
def test_a_killed_driver_is_resumed_to_the_same_history(
    tmp_path: Path, whole: Result, count: int, engine: str
) -> None:
    folder = tmp_path / "fit"
    options = f"{{'engine': {engine}, 'workers': None if {engine} is None else 2}}"
    code = (
        "from pathlib import Path; from fit_problems import killed_after; "
        f"killed_after({count}, Path({str(folder)!r}), {options})"
    )
    assert child(code).wait() == -signal.SIGKILL
    state = read_state(folder)
    assert state is not None and state["state"] == "running" and not state["alive"]
    assert count <= len(read_history(folder)) < 60
    found = run_small(folder, resume=True)
    assert found.total == whole.total
    assert same(read_history(folder), read_history(whole.folder))
    assert [e["resumed"] for e in read_events(folder) if e["event"] == "started"] == [False, True]


@pytest.mark.parametrize("engine", ["processes"])
def test_engines_make_the_same_history(tmp_path: Path, whole: Result, engine: str) -> None:
    run_small(tmp_path / "fit", engine=engine, workers=2, timeout=60.0)
    assert same(read_history(tmp_path / "fit"), read_history(whole.folder))


def test_a_wish_to_cancel_leaves_what_can_be_resumed(tmp_path: Path, whole: Result) -> None:
    folder = tmp_path / "fit"
    asked = small()
    task = fit_of(asked, folder)
    task._progress = lambda event: event["event"] == "best" and task.cancel()
    first = task.run()
    state = read_state(folder)
    assert first.state == "cancelled" and state is not None and state["state"] == "cancelled"
    assert 0 < first.evaluations < 60
    assert run_small(folder, resume=True).total == whole.total
    assert same(read_history(folder), read_history(whole.folder))


def fit_of(asked: Any, folder: Path) -> Fit:
    from mlcore.forcefield.objective import Objective
    from mlcore.forcefield.run import Setup

    setup = Setup(asked.model, asked.space, asked.targets, Objective(asked.targets), budget=60,
                  seed=3)  # fmt: skip
    return Fit(setup, folder)


def test_a_fit_that_waits_can_be_cancelled_and_run(tmp_path: Path) -> None:
    folder = tmp_path / "fit"
    task = fit_of(small(), folder)
    state = read_state(folder)
    assert state is not None and (state["state"], state["alive"]) == ("queued", False)
    assert cancel(folder) == "cancelled"
    task.cancel()
    assert task.run().state == "done"


def test_a_wish_to_cancel_ends_what_workers_do(tmp_path: Path) -> None:
    folder = tmp_path / "fit"
    options: dict[str, Any] = {"engine": "processes", "workers": 1, "search": "random"}

    def watch(event: Any) -> None:
        if event["event"] == "best" and not (folder / "cancel").exists():
            cancel(folder)

    found = run_small(folder, budget=10**6, progress=watch, **options)
    state = read_state(folder)
    assert found.state == "cancelled" and state is not None and state["state"] == "cancelled"
    assert found.evaluations == len(read_history(folder)) < 10**6
    assert [e["event"] for e in read_events(folder)][-1] == "cancelled"


def test_a_worker_that_is_killed_loses_no_candidate(
    tmp_path: Path, whole: Result, monkeypatch: Any
) -> None:
    append, killed = History.append, []

    def kill(self: History, entries: Any) -> None:
        append(self, entries)
        if len(killed) < 2:
            killed.append(workers()[0])
            os.kill(killed[-1], signal.SIGKILL)

    monkeypatch.setattr(History, "append", kill)
    run_small(tmp_path / "fit", engine="processes", workers=1)
    assert len(set(killed)) == 2
    assert same(read_history(tmp_path / "fit"), read_history(whole.folder))


def workers() -> list[int]:
    """Supervised children of this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and b"mlcore.parallel.child" in words:
            found.append(int(path.name))
    return found


def test_levels_are_paid_for_one_after_the_other(tmp_path: Path) -> None:
    from mlcore.forcefield.objective import Objective

    asked = small()
    for target, level in zip(asked.targets, (0, 1, 2), strict=True):
        target.level = level
    objective = Objective(asked.targets, tolerances={0: 30.0, 1: 30.0})
    options: dict[str, Any] = {"search": "hoga", "options": {"popsize": 10}, "budget": 50}
    found = fit(asked.model, asked.space, asked.targets, objective=objective, folder=tmp_path,
                **options)  # fmt: skip
    entries = read_history(tmp_path)
    levels = {entry.score.level for entry in entries}
    assert len(levels) > 1 and found.verified.agrees
    for entry in entries:
        measured = [term is not None for term in entry.terms]
        assert measured == [True] * 3 + [entry.score.level >= 1] + [entry.score.level >= 2] * 2
    best = max(entries, key=lambda e: (e.score.level, -e.score.total))
    assert found.evaluation == best.number


def test_ctrl_c_and_a_cancel_file(tmp_path: Path) -> None:
    folder = tmp_path / "fit"
    code = (
        "from pathlib import Path; from fit_problems import run_small; "
        f"run_small(Path({str(folder)!r}), budget=10**6, search='random', resume=True)"
    )
    for wish in ("signal", "file"):
        driver = child(code)
        before = len(read_history(folder)) if folder.is_dir() else 0
        deadline = time.monotonic() + 60
        while len(read_history(folder)) <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(Error, match="at work"):
            run_small(folder, budget=10**6, search="random", resume=True)
        if wish == "file":
            assert cancel(folder) == "cancelling"
        else:
            driver.send_signal(signal.SIGINT)
        driver.wait(60)
        state = read_state(folder)
        assert state is not None and state["state"] == "cancelled" and not state["alive"]
    assert driver.returncode == 0
    with pytest.raises(InvalidArgument, match="cancelled already"):
        cancel(folder)


def test_a_folder_holds_one_fit(tmp_path: Path, whole: Result) -> None:
    with pytest.raises(InvalidArgument, match="holds a fit"):
        run_small(whole.folder)
    with pytest.raises(Error, match="another search"):
        run_small(whole.folder, resume=True, seed=4)
    with pytest.raises(Error, match="another evaluator"):
        run_small(whole.folder, resume=True, cutoff_cap=11.0)
    with pytest.raises(InvalidArgument, match="holds no fit"):
        cancel(tmp_path)


def test_a_finished_fit_is_found_again(whole: Result) -> None:
    before = (whole.folder / HISTORY).read_bytes()
    assert run_small(whole.folder, resume=True).values == whole.values
    assert (whole.folder / HISTORY).read_bytes() == before


def test_a_wish_that_waits_is_seen_in_the_state(tmp_path: Path) -> None:
    write_state(tmp_path, "queued")
    (tmp_path / "versions.json").touch()
    with locked(tmp_path):
        write_state(tmp_path, "running")
        assert cancel(tmp_path) == "cancelling"
        told = read_state(tmp_path)
        assert told is not None and told["state"] == "cancelling"
        assert cancel(tmp_path) == "cancelling"
        write_state(tmp_path, "done")
        told = read_state(tmp_path)
        assert told is not None and told["state"] == "done"


def test_states_follow_each_other(tmp_path: Path) -> None:
    write_state(tmp_path, "queued")
    write_state(tmp_path, "running")
    write_state(tmp_path, "done")
    with pytest.raises(Error, match="cannot become cancelling"):
        write_state(tmp_path, "cancelling")
    with locked(tmp_path), pytest.raises(Error, match="at work"), locked(tmp_path):
        pass


def test_candidates_that_fail_are_told_with_the_words_of_lammps(tmp_path: Path) -> None:
    asked = small()
    # n < 0 is nothing to LAMMPS, a cutoff beyond the cap nothing to us
    free = {
        "R": Free(lower=2.5, upper=16.0, initial=2.85),
        "n": Free(lower=-1, upper=1, initial=0.7),
    }
    space = Space(asked.model.parameters, free)
    options: dict[str, Any] = {"search": "random", "budget": 30, "evaluator": "lammps"}
    found = fit(asked.model, space, asked.targets, folder=tmp_path, **options)
    entries = read_history(tmp_path)
    failed = [str(e.score.error) for e in entries if e.score.error]
    assert any("cutoff" in words for words in failed)
    assert any("ERROR" in words for words in failed)
    assert sum(found.failures.values()) >= len(failed)
    assert found.total is not None and math.isfinite(found.total)


def test_points_that_violate_a_constraint_cost_nothing(tmp_path: Path) -> None:
    asked = small()
    space = Space(asked.model.parameters, asked.space.free, constraints=["A > 4*B"])
    fit(asked.model, space, asked.targets, search="latin_hypercube", budget=20, folder=tmp_path)
    entries = read_history(tmp_path)
    violating = [e for e in entries if e.score.violation > 0]
    assert 0 < len(violating) < 20
    assert all(e.seconds == 0 and math.isinf(e.score.total) for e in violating)
    for entry in entries:
        values = space.values(entry.point)
        assert (values["A"] > 4 * values["B"]) == (entry.score.violation == 0)


def test_options_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    for options, word in (
        ({"budget": 0}, "budget"),
        ({"timeout": -1.0}, "timeout"),
        ({"search": "no such"}, "no such"),
        ({"options": {"popsize": "many"}, "search": "cma"}, "popsize"),
        ({"engine": "cloud"}, "engine"),
    ):
        with pytest.raises(InvalidArgument, match=word):
            run_small(tmp_path / "fit", **options)
    assert not (tmp_path / "fit").exists()


def test_whoever_looks_does_not_keep_a_driver_out(tmp_path: Path) -> None:
    import threading

    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            holder(tmp_path)

    with locked(tmp_path):
        told = holder(tmp_path)
    watchers = [threading.Thread(target=look) for _ in range(3)]
    for one in watchers:
        one.start()
    try:
        for _ in range(200):
            with locked(tmp_path):
                pass
    finally:
        over.set()
        for one in watchers:
            one.join()
    assert told is not None and str(os.getpid()) in told


def test_two_that_begin_at_once_leave_one_fit(tmp_path: Path, monkeypatch: Any) -> None:
    from mlcore.forcefield.run import fitting

    known = fitting.record

    def second_comes_now(setup: Any) -> Any:
        monkeypatch.setattr(fitting, "record", known)
        with pytest.raises(Error, match="at work"):
            run_small(tmp_path / "one", seed=4, budget=2)
        return known(setup)

    monkeypatch.setattr(fitting, "record", second_comes_now)
    assert run_small(tmp_path / "one", seed=3, budget=2).state == "done"
    assert json.loads((tmp_path / "one" / "versions.json").read_text())["seed"] == 3


def test_events_go_on_after_a_line_cut_short(tmp_path: Path) -> None:
    append_events(tmp_path, [{"event": "started"}])
    with (tmp_path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"event": "ba')
    append_events(tmp_path, [{"event": "started", "resumed": True}])
    assert list(read_events(tmp_path)) == [
        {"event": "started"},
        {"event": "started", "resumed": True},
    ]


def test_beads_that_change_places_are_another_fit(tmp_path: Path) -> None:
    from ase import Atoms
    from mlcore.forcefield.run.fingerprint import _targets_hash
    from mlcore.forcefield.targets import Energies

    def told(*names: str) -> str:
        atoms = Atoms("X2", [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]], cell=[9.0] * 3, pbc=True)
        atoms.arrays["species"] = np.array(names)
        return _targets_hash([Energies([atoms], [-1.0], names=["pair"])])

    assert told("A", "B") != told("B", "A")


def test_a_fit_that_runs_again_counts_its_failures_once(tmp_path: Path) -> None:
    problem = small()
    from mlcore.forcefield.objective import Objective
    from mlcore.forcefield.run import Setup

    setup = Setup(problem.model, problem.space, problem.targets, Objective(problem.targets),
                  budget=4, search="random", cutoff_cap=2.0)  # fmt: skip
    task = Fit(setup, tmp_path / "fit")
    first = task.run()
    assert sum(first.failures.values()) == 4
    assert task.run().failures == first.failures


def test_a_damaged_record_of_versions_is_told(whole: Result, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    (folder / "versions.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"versions\.json.*fingerprint"):
        run_small(folder, resume=True)


def test_a_defect_of_a_worker_is_told_in_one_line() -> None:
    from mlcore.forcefield.run.candidates import evaluations
    from mlcore.parallel import Failure
    from mlcore.parallel import Result as Answer

    with pytest.raises(Error) as caught:
        evaluations(Answer(None, Failure("NameError", "x", "Traceback\n  here")))
    assert str(caught.value) == "the evaluation stopped: NameError: x"
    assert caught.value.__notes__ == ["Traceback\n  here"]


def front(folder: Path, **options: Any) -> Result:
    problem = small()
    objective = Objective(problem.targets, pareto=["energies", "diamond"])
    return run_small(folder, objective=objective, search="nsga2", budget=150, **options)


def test_a_front_begins_with_least_squares_and_resumes_to_the_same(tmp_path: Path) -> None:
    """The stages are told, and a fit cut short in the middle of a batch goes on as if it were not."""
    found = front(tmp_path / "whole")
    entries = read_history(tmp_path / "whole")
    stages = [entry.stage for entry in entries]
    assert list(dict.fromkeys(stages)) == ["nsga2", "least_squares"] and stages[-1] == "nsga2"
    objective = Objective(small().targets, pareto=["energies", "diamond"])
    shares = objective.shares()
    assert shares is not None
    for entry in entries:
        if entry.score.residuals is not None:
            parts = shares @ entry.score.residuals**2
            assert parts == pytest.approx(entry.score.objectives, rel=1e-12)
    told = [e["stage"] for e in read_events(tmp_path / "whole") if e["event"] == "stage"]
    assert told == ["nsga2", "least_squares", "nsga2"]
    child(
        f"from pathlib import Path; from fit_problems import killed_after, small;"
        f"from mlcore.forcefield.objective import Objective;"
        f"killed_after(70, Path({str(tmp_path / 'cut')!r}), dict(search='nsga2', budget=150,"
        f"objective=Objective(small().targets, pareto=['energies', 'diamond'])))"
    ).wait(120)
    assert 0 < len(read_history(tmp_path / "cut")) < 150
    again = front(tmp_path / "cut", resume=True)
    assert same(read_history(tmp_path / "cut"), entries) and again.front == found.front


def test_objectives_that_are_no_sums_of_squares_have_no_shares() -> None:
    targets = small().targets
    assert Objective(targets).shares() is None
    assert Objective(targets, "max", pareto=["energies", "diamond"]).shares() is None
