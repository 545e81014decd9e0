"""Processes that are killed: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import time

from server import Server, begun, points, process_of, submitted, until
from studio_fits import LONG


def test_a_task_outlives_its_server(served: Server) -> None:
    with served.browser() as browser:
        task = submitted(browser, LONG)
        before = begun(browser, task)
    pid = process_of(task)
    served.kill()
    time.sleep(1)
    served.start()
    with served.browser() as browser:
        assert process_of(task) == pid
        begun(browser, task, before["facts"]["evaluations"] + 1)
        browser.post(f"/api/tasks/{task}/cancel")
        until(browser, task, "cancelled")


def test_a_killed_worker_is_gone_on_with_to_the_same_history(served: Server) -> None:
    with served.browser() as browser:
        quiet = submitted(browser, LONG | {"run": {"budget": 3000, "seed": 3}})
        until(browser, quiet, "done")
        task = submitted(browser, LONG | {"run": {"budget": 3000, "seed": 3}})
        begun(browser, task)
        os.kill(process_of(task), signal.SIGKILL)
        assert until(browser, task, "done", "failed")["state"] == "done"
    assert points(served.folder, task) == points(served.folder, quiet)


def test_a_killed_supervisor_is_followed_by_another(served: Server) -> None:
    with served.browser() as browser:
        task = submitted(browser, LONG)
        before = begun(browser, task)
        pid, first = process_of(task), served.supervisor()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        after = begun(browser, task, before["facts"]["evaluations"] + 500)
        assert served.supervisor() != first
        assert process_of(task) == pid
        assert after["state"] == "running"
        browser.post(f"/api/tasks/{task}/cancel")
        until(browser, task, "cancelled")


def test_a_fit_that_is_killed_again_and_again_fails(served: Server) -> None:
    with served.browser() as browser:
        task = submitted(browser, LONG)
        process = None
        for _ in range(3):
            process = process_of(task, other=process)
            os.kill(process, signal.SIGKILL)
        told = until(browser, task, "failed")
        assert "killed" in told["error"]
        browser.post(f"/api/tasks/{task}/resume")
        assert begun(browser, task)["state"] == "running"
        browser.post(f"/api/tasks/{task}/cancel")
        until(browser, task, "cancelled")
