"""What the best candidate says while a fit goes on: kept small, and without a trace in its history."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_problems import run_small, small
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.run import Setup, fitting
from mlcore.forcefield.run.history import read_history, same
from mlcore.forcefield.run.parity import PREDICTED, parity, predicted, row_of
from mlcore.forcefield.run.result import Result

HERE = Path(__file__).parent
# every batch has a look
EAGER = "from mlcore.forcefield.run import fitting; fitting._PREDICT = fitting._RARE = 0.0; "


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / PREDICTED).read_text())
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A fit in which nobody looks."""
    return run_small(tmp_path_factory.mktemp("fits") / "whole", search="cma")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_PREDICT", 0.0)
    monkeypatch.setattr(fitting, "_RARE", 0.0)


def check_values(folder: Path) -> None:
    """The file holds what an evaluator says of the evaluation it names."""
    problem, found = small(), told(folder)
    point = read_history(folder)[found["evaluation"]].point
    with Evaluator(problem.model, problem.targets) as evaluator:
        (own,) = evaluator([problem.space.values(point)])
    energies = found["series"][0]["seen"]
    assert energies["value"] == pytest.approx(own.values["energies"], rel=1e-6)
    assert energies["names"] == ["small", "rest", "large"]
    assert found["properties"][1][2] == pytest.approx(own.values["diamond"][1], rel=1e-6)


@pytest.mark.parametrize("engine", [None, "processes"])
def test_looks_leave_no_trace_in_the_history(
    tmp_path: Path, whole: Result, eager: None, engine: str | None
) -> None:
    workers = None if engine is None else 2
    found = run_small(tmp_path / "fit", search="cma", engine=engine, workers=workers)
    assert same(read_history(tmp_path / "fit"), read_history(whole.folder))
    assert told(tmp_path / "fit")["evaluation"] == found.evaluation
    check_values(tmp_path / "fit")


def test_a_killed_driver_leaves_a_whole_file_and_goes_on_to_the_same(
    tmp_path: Path, whole: Result, eager: None
) -> None:
    folder = tmp_path / "fit"
    code = (
        f"{EAGER}from pathlib import Path; from fit_problems import killed_after; "
        f"killed_after(31, Path({str(folder)!r}), {{'search': 'cma'}})"
    )
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); {code}"]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    before = told(folder)["evaluation"]
    assert before is None or before < 31
    found = run_small(folder, resume=True, search="cma")
    assert same(read_history(folder), read_history(whole.folder))
    assert told(folder)["evaluation"] == found.evaluation


def test_a_fit_that_is_resumed_keeps_what_was_told(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_small(tmp_path / "fit", search="cma", budget=20)
    assert told(tmp_path / "fit")["evaluation"] == first.evaluation
    monkeypatch.setattr(fitting, "_RARE", 1e9)
    run_small(tmp_path / "fit", search="cma", budget=20, resume=True)
    assert told(tmp_path / "fit")["evaluation"] == first.evaluation


def test_looks_that_would_cost_much_of_the_time_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_PREDICT", 0.0)
    monkeypatch.setattr(fitting, "_RARE", 1e9)
    run_small(tmp_path / "fit", search="cma", budget=20)
    found = told(tmp_path / "fit")
    # references are there from the beginning
    assert found["evaluation"] is None
    assert [one["seen"]["rms"] for one in found["series"]] == [None, None]
    assert found["series"][0]["seen"]["reference"] == pytest.approx([-4.575, -4.62875, -4.55])


def test_levels_that_a_candidate_did_not_pass_have_no_values(tmp_path: Path) -> None:
    problem = small()
    for target, level in zip(problem.targets, (0, 1, 2), strict=True):
        target.level = level
    objective = Objective(problem.targets, tolerances={0: 1e-6})
    setup = Setup(problem.model, problem.space, problem.targets, objective)
    values = problem.space.values(problem.space.initial)
    with setup.recipe.make() as evaluator:
        (found,) = evaluator([values])
    rows = predicted(setup, 0, found)["errors"]
    assert rows[0][2] > 0 and [row[3] for row in rows[1:]] == [None, None]


# -- what is drawn ---------------------------------------------------------------------------------
def row(
    values: np.ndarray, kind: str = "Forces", unit: str = "eV/A", **more: Any
) -> dict[str, Any]:
    count = len(values)
    return {
        "part": "train", "target": "t", "type": kind, "group": "g", "unit": unit,
        "terms": [f"n{k}" for k in range(count)], "term_of": np.arange(count),
        "reference": np.zeros(count), "sigma": np.full(count, 0.5), "value": values,
    } | more  # fmt: skip


def test_of_many_points_some_are_drawn_the_worst_among_them() -> None:
    values = np.random.default_rng(0).normal(size=50_000)
    values[12_345] = 99.0
    found = parity([row(values[:30_000]), row(values[30_000:])])
    seen = found["series"][0]["seen"]
    assert 900 <= len(seen["value"]) <= 1000 and len(seen["reference"]) == len(seen["value"])
    assert 99.0 in seen["value"] and seen["names"] is None
    # sizes are of all
    assert (seen["count"], seen["rms"]) == (50_000, pytest.approx(np.sqrt(np.mean(values**2))))
    assert found["errors"][0][2:5] == [
        pytest.approx(seen["rms"]), pytest.approx(2 * seen["rms"]), 50_000,
    ]  # fmt: skip
    assert len(json.dumps(found)) < 100_000


def test_numbers_of_several_units_are_drawn_by_unit() -> None:
    crystal = row(np.array([1.0, 140.0, 70.0]), "CubicCrystal", "A GPa GPa")
    held = row(np.array([2.0, 150.0, 80.0]), "CubicCrystal", "A GPa GPa", part="test", target="u")
    told = parity([crystal, held])["series"]
    assert [(one["unit"], one["seen"]["count"]) for one in told] == [("A", 1), ("GPa", 2)]
    assert told[1]["held_out"]["value"] == [150.0, 80.0] and told[1]["seen"]["names"] == [
        "n1",
        "n2",
    ]
    # a number alone is no plot, and what has no units for each is none
    assert parity([row(np.ones(1))])["series"] == []
    assert parity([row(np.ones(3), "X", "A GPa")])["series"] == []
    assert [line[0] for line in parity([crystal])["properties"]] == ["n0", "n1", "n2"]


def test_a_value_that_is_missing_is_a_gap() -> None:
    found = parity([row(np.array([1.0, np.nan]))])
    assert found["series"][0]["seen"]["value"] == [1.0, None]
    assert found["errors"][0][2:] == [None, 2.0, 2, None, None, None]
    assert row_of("test", small().targets[0])["value"].shape == (0,)
