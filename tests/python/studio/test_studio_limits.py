"""Tasks that take more than the administrator allows: they fail, say why, and leave what they made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Browser
from fastapi import FastAPI
from mlcore.studio.app import create
from mlcore.studio.kinds.forcefield import ForceField
from mlcore.studio.processes import TASK, Census, Used, killed, machine_bytes, share
from mlcore.studio.settings import Limits, Settings
from mlcore.studio.supervisor import OVER, Supervisor
from server import run_of, set_up
from upload_files import kept

Until = Callable[..., dict[str, Any]]
MOST = 500 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a studio that allows tasks little memory."""
    settings = f'[engines.serial]\nname = "serial"\n[limits]\ntask_bytes = {MOST}\n'
    return set_up(tmp_path / "studio", settings)


def greedy(browser: Browser, silicon: dict[str, Any]) -> dict[str, Any]:
    """A fit whose form takes all memory there is, but for some of its candidates."""
    loops = [f"{{% for a{k} in 'xxxxxxxxxx' %}}" for k in range(9)]
    flood = "".join(loops) + "yyyyyyyyyyyyyyyy" + "{% endfor %}" * len(loops)
    line = "pair_coeff * * {{ form.epsilon }} {{ form.sigma }} # "
    numbers = (("epsilon", 1.0, 0.5, 2.0), ("sigma", 2.0, 1.8, 2.4), ("cutoff", 5.0, 4.0, 6.0))
    form = {
        "name": "greedy",
        "title": "takes all there is",
        "parameters": [
            dict(zip(("name", "default", "lower", "upper"), n, strict=True)) for n in numbers
        ],
        "pair_style": "lj/cut {{ form.cutoff }}",
        "pair_coeff": [line + "{% if form.epsilon > 1.01 %}" + flood + "{% endif %}"],
        "cutoff": "cutoff",
    }
    upload = kept(browser, ("greedy.json", json.dumps(form).encode()))["id"]
    file = f"upload:{upload}/raw/greedy.json"
    return {
        "model": {"form": "greedy", "species": ["Si"], "file": file},
        "parameters": {"free": ["epsilon", "sigma"]},
        "targets": [{**silicon["targets"][0], "values": {"energy": -4.63}}],
        "search": {"name": "cma", "options": {"sigma": 0.01}},
        "run": {"budget": 500, "seed": 1},
    }


def submitted(browser: Browser, config: dict[str, Any], engine: str = "serial") -> str:
    asked = {"kind": "forcefield", "config": config, "submit": True, "engine": engine}
    answer = browser.post("/api/tasks", json=asked)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ended(browser: Browser, supervisor: Supervisor, task: str) -> dict[str, Any]:
    """The task, once it has ended under this supervisor."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        supervisor.tick()
        told: dict[str, Any] = browser.get(f"/api/tasks/{task}").json()
        if told["state"] in ("failed", "done"):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


def test_a_task_that_takes_too_much_memory_fails_and_keeps_its_history(
    browser: Browser, supervise: Until, silicon: dict[str, Any], folder: Path
) -> None:
    task = submitted(browser, greedy(browser, silicon))
    told = supervise(browser, task, "failed", "done")
    assert told["error"] == (
        "it took more than 524 MB of memory, the most the administrator allows a task"
    )
    assert (told["state"], told["memory"], Census()().get(task)) == ("failed", 0, None)
    run = run_of(folder, task)
    history = (run / "history.jsonl").read_text().splitlines()
    assert json.loads(history[0])["n"] == 0 and told["facts"]["evaluations"] == len(history)
    # it goes on from there, and ends the same way
    assert browser.post(f"/api/tasks/{task}/resume").status_code == 200
    again = supervise(browser, task, "failed", "done")
    assert (again["state"], again["error"]) == ("failed", told["error"])
    assert (run / "history.jsonl").read_text().splitlines()[: len(history)] == history


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Tasks run a program of ours instead of a fit."""

    def told(text: str) -> None:
        words = [sys.executable, "-c", text]
        monkeypatch.setattr(ForceField, "command", lambda self, folder, fresh: words)

    return told


def test_a_process_is_refused_what_nobody_could_give_it(
    browser: Browser, supervise: Until, silicon: dict[str, Any], program: Callable[[str], None]
) -> None:
    program("import numpy; numpy.ones(1 << 40)")
    told = supervise(browser, submitted(browser, silicon), "failed", "done")
    assert told["error"].startswith("a process of it took more than 524 MB of memory")
    assert "8.00 TiB" in told["error"]


CHILDREN = """
import subprocess, sys, time
code = "data = bytearray({each} << 20); import time; time.sleep(60)"
alone = {{"start_new_session": True, "env": {{}}}}
kept = [subprocess.Popen([sys.executable, "-c", code], **alone) for _ in range(4)]
time.sleep(60)
"""


def test_all_processes_of_a_task_count_wherever_they_went(
    browser: Browser, supervise: Until, silicon: dict[str, Any], program: Callable[[str], None]
) -> None:
    program(CHILDREN.format(each=200))
    task = submitted(browser, silicon)
    told = supervise(browser, task, "failed", "done")
    assert told["error"].startswith("it took more than 524 MB")
    assert Census()().get(task) is None


def test_a_task_that_is_cancelled_leaves_no_process(
    browser: Browser, supervise: Until, silicon: dict[str, Any], program: Callable[[str], None]
) -> None:
    program(CHILDREN.format(each=1))
    task = submitted(browser, silicon)
    end = time.monotonic() + 60
    while len(Census()().get(task, Used()).pids) < 6 and time.monotonic() < end:
        supervise(browser, task, "running", "queued")
    browser.post(f"/api/tasks/{task}/cancel")
    supervise(browser, task, "cancelled")
    assert Census()().get(task) is None


def test_a_task_that_writes_without_end_fails(
    app: FastAPI, browser: Browser, silicon: dict[str, Any], program: Callable[[str], None]
) -> None:
    program("import time; open('run/big', 'wb').write(bytes(30_000_000)); time.sleep(60)")
    limits = app.state.studio.settings.limits.model_copy(update={"stored": 20_000_000})
    settings = app.state.studio.settings.model_copy(update={"limits": limits})
    supervisor = Supervisor(app.state.studio.store, settings)
    told = ended(browser, supervisor, submitted(browser, silicon))
    assert told["error"].startswith("it took more than 20 MB of the disk")


def test_nobody_keeps_tasks_without_end(folder: Path) -> None:
    for limits, words in ((Limits(tasks=3), "3 tasks"), (Limits(stored=5000), "tasks, the most")):
        settings = Settings(limits=limits)
        with Browser(create(folder / words[0], settings, supervised=False)) as browser:
            asked = {"kind": "forcefield", "config": {"note": "x" * 2000}}
            answers = [browser.post("/api/tasks", json=asked) for _ in range(4)]
            assert [one.status_code for one in answers] == [201] * 3 + [413]
            assert words in answers[3].json()["detail"]
            task = answers[0].json()["id"]
            assert browser.post(f"/api/tasks/{task}/clone").status_code == 413
            browser.delete(f"/api/tasks/{task}")
            assert browser.post("/api/tasks", json=asked).status_code == 201


def test_who_keeps_too_much_runs_nothing_more(folder: Path, silicon: dict[str, Any]) -> None:
    app = create(folder, Settings(limits=Limits(stored=5000)), supervised=False)
    with Browser(app) as browser:
        first = submitted(browser, silicon, "processes")
        (place,) = folder.glob(f"users/*/tasks/{first}")
        (place / "big").write_bytes(bytes(5000))
        asked = {"kind": "forcefield", "config": silicon, "submit": True}
        answer = browser.post("/api/tasks", json=asked)
        assert (answer.status_code, "you keep" in answer.json()["detail"]) == (413, True)


ASKED = """
import signal, sys, time
def asked(number, frame):
    open("run/asked", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, asked)
open("run/ready", "w").close()
time.sleep(60)
"""


def test_another_program_is_asked_to_end_before_it_is_killed(
    browser: Browser, supervise: Until, silicon: dict[str, Any], folder: Path,
    program: Callable[[str], None],
) -> None:  # fmt: skip
    program(ASKED)
    task = submitted(browser, silicon)
    supervise(browser, task, "running")
    run = run_of(folder, task)
    end = time.monotonic() + 60
    while not (run / "ready").exists() and time.monotonic() < end:
        time.sleep(0.05)
    browser.post(f"/api/tasks/{task}/pause")
    supervise(browser, task, "paused")
    assert (run / "asked").exists()


SHARED = """
import os, time
data = bytearray(150 << 20)
for _ in range(3):
    if os.fork() == 0:
        break
os.write(1, b"ready\\n")
time.sleep(60)
"""


def test_memory_that_processes_share_counts_once() -> None:
    environment = {**os.environ, TASK: "shared"}
    words = [sys.executable, "-c", SHARED]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            for _ in range(4):
                assert child.stdout.readline() == "ready\n"
            used = Census()()["shared"]
            assert len(used.pids) == 4
            assert used.bytes > 600 << 20
            assert 150 << 20 < share(used.pids) < 250 << 20
        finally:
            killed("shared", Census())


def test_what_a_supervisor_has_ended_the_next_one_tells(
    app: FastAPI, browser: Browser, supervise: Until, silicon: dict[str, Any], folder: Path
) -> None:
    task = submitted(browser, silicon | {"run": {"budget": 100_000}})
    supervise(browser, task, "running")
    (place,) = folder.glob(f"users/*/tasks/{task}")
    (place / OVER).write_text("it took more than it may\n")
    killed(task, Census())  # and the supervisor was killed before it could note it
    Supervisor(app.state.studio.store, app.state.studio.settings).tick()
    told = browser.get(f"/api/tasks/{task}").json()
    assert (told["state"], told["error"]) == ("failed", "it took more than it may")
    browser.post(f"/api/tasks/{task}/resume")
    supervise(browser, task, "running")
    assert not (place / OVER).exists()


def test_a_task_that_takes_too_long_is_asked_to_end(
    tmp_path: Path, silicon: dict[str, Any]
) -> None:
    folder = tmp_path / "hasty"
    settings = Settings.load(folder)
    app = create(folder, settings, False)
    patient = Supervisor(app.state.studio.store, settings)
    hasty = settings.model_copy(update={"limits": Limits(task_seconds=1.0)})
    with Browser(app) as browser:
        task = submitted(browser, silicon | {"run": {"budget": 10**6}, "search": {"name": "cma"}})
        end = time.monotonic() + 60
        while not browser.get(f"/api/tasks/{task}").json()["facts"].get("evaluations"):
            assert time.monotonic() < end
            patient.tick()
            time.sleep(0.1)
        told = ended(browser, Supervisor(app.state.studio.store, hasty), task)
    assert told["state"] == "failed"
    assert told["error"] == "it took more than 1 s, the most the administrator allows a task"
    run = run_of(folder, task)
    assert len((run / "history.jsonl").read_text().splitlines()) == told["facts"]["evaluations"] > 0


def test_tasks_share_the_machine_where_nothing_is_told() -> None:
    whole = machine_bytes()
    assert Settings().task_bytes == whole * 4 // 5
    assert Settings(slots=4).task_bytes == whole // 5
    assert Settings(limits=Limits(task_bytes=10)).task_bytes == 10
