"""Sobol's and Morris' indices: the Ishigami function's known values, and a potential's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.parameters import Free, Parameter, Space
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.uncertainty.sensitivity import Sensitivity, morris, sobol, target_errors

pytest.importorskip("SALib")


def cube(*names: str) -> Space:
    free = {n: Free(lower=-np.pi, upper=np.pi, initial=0.0) for n in names}
    return Space([Parameter(name=n, default=0, lower=-4, upper=4) for n in names], free)


def ishigami(points: np.ndarray) -> Mapping[str, np.ndarray]:
    x = 2 * np.pi * points - np.pi
    y = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    return {"y": y, "second": x[:, 1]}


def test_sobol_indices_of_ishigami_are_those_of_its_integrals() -> None:
    found = sobol(ishigami, cube("x", "y", "z"), samples=2048, seed=1)
    a, b = 7.0, 0.1
    variance = a**2 / 8 + b * np.pi**4 / 5 + b**2 * np.pi**8 / 18 + 0.5
    first = np.array([0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8, 0.0]) / variance
    shared = 8 * b**2 * np.pi**8 / 225 / variance
    np.testing.assert_allclose(found.indices["y"]["first"], first, atol=0.02)
    np.testing.assert_allclose(found.indices["y"]["total"], first + [shared, 0, shared], atol=0.02)
    np.testing.assert_allclose(found.indices["second"]["total"], [0, 1, 0], atol=0.01)
    assert found.ranking("y") == ["x", "y", "z"]
    assert found.evaluations == 2048 * 5


def test_morris_effects_of_a_linear_function_are_its_slopes() -> None:
    def outputs(points: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"line": points @ [3.0, -2.0, 0.0], "product": points[:, 0] * points[:, 1]}

    found = morris(outputs, cube("x", "y", "z"), paths=10)
    np.testing.assert_allclose(found.indices["line"]["mean"], [3, 2, 0], atol=1e-9)
    np.testing.assert_allclose(found.indices["line"]["spread"], 0, atol=1e-9)
    assert found.indices["product"]["spread"][0] > 0.1
    assert found.evaluations == 40


def test_candidates_that_fail_count_as_the_worst() -> None:
    def outputs(points: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"y": np.where(points[:, 0] > 0.9, np.nan, points[:, 0])}

    found = morris(outputs, cube("x", "y"), paths=10)
    assert found.failed > 0
    assert found.ranking("y")[0] == "x"
    with pytest.raises(Error, match="every candidate failed"):
        morris(lambda points: {"y": np.full(len(points), np.nan)}, cube("x"))
    with pytest.raises(InvalidArgument, match="shape"):
        morris(lambda points: {"y": np.zeros(1)}, cube("x"))


def test_parameters_of_silicon_move_the_targets_they_should() -> None:
    fit = silicon("sw")
    near = {
        n: Free(lower=0.95 * fit.answer[n], upper=1.05 * fit.answer[n], initial=fit.answer[n])
        for n in ("epsilon", "sigma", "gamma")
    }
    space = Space(fit.model.parameters, near)
    crystal = fit.targets[2:]
    with Evaluator(fit.model, crystal) as evaluator:
        outputs = target_errors(evaluator, space, crystal, logarithmic=False)
        found = morris(outputs, space, paths=5)

        def lattice(points: np.ndarray) -> Mapping[str, np.ndarray]:
            told = evaluator([space.values(point) for point in points])
            return {"a": np.array([one.values["diamond"][0] for one in told])}

        of_a = morris(lattice, space, paths=4)
    assert set(found.outputs) == {"total", "diamond"}
    np.testing.assert_allclose(found.indices["total"]["mean"], found.indices["diamond"]["mean"])
    assert found.ranking("total")[0] == "sigma"
    # the perfect crystal has no three-body energy and its lattice constant is a length alone
    np.testing.assert_allclose(of_a.indices["a"]["mean"], [0, 0.1 * 5.431, 0], atol=1e-4)


def test_the_record_comes_back(tmp_path: Path) -> None:
    found = sobol(ishigami, cube("x", "y", "z"), samples=8)
    again = Sensitivity.from_record(json.loads(json.dumps(found.record(), allow_nan=False)))
    assert again.table() == found.table()
    found.plot(tmp_path / "sensitivity.png")
    found.save(tmp_path / "sensitivity.json")
    assert (tmp_path / "sensitivity.png").stat().st_size > 3000
    with pytest.raises(InvalidArgument, match="power of 2"):
        sobol(ishigami, cube("x", "y", "z"), samples=10)
    with pytest.raises(InvalidArgument, match="levels even"):
        morris(ishigami, cube("x", "y", "z"), levels=3)
    with pytest.raises(InvalidArgument, match="output"):
        found.ranking("q")
    with pytest.raises(FileFormatError, match="format"):
        Sensitivity.from_record({})
