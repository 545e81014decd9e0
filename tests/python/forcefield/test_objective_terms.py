"""Objectives: what residuals add up to, levels without tolerance, weights of 0, fronts with gates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from mlcore import InvalidArgument
from mlcore.forcefield.evaluate import Evaluation
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.targets import Energies, Forces

ATOM = Atoms("Si", cell=[9, 9, 9], pbc=True)


def energies(name: str, **options: Any) -> Energies:
    return Energies([ATOM], [0.0], name=name, names=[name], **options)


def evaluation(level: int = 1, **terms: float) -> Evaluation:
    residuals = {name: np.array([size]) for name, size in terms.items()}
    return Evaluation(residuals=residuals, terms=terms, level=level)


def test_residuals_add_up_to_the_total_where_it_is_a_sum_of_squares() -> None:
    row = np.array([3.0, 0.0, -4.0])
    forces = Forces([ATOM], [np.zeros((1, 3))], name="f", names=["f"], weight=3.0)
    found = Evaluation(
        residuals={"e": np.array([-0.5]), "f": row}, terms={"e": -0.5, "f": 5.0}, level=1
    )
    for kind in ("sse", "huber"):
        score = Objective([energies("e"), forces], kind, delta=1.5).score(found)
        assert score.residuals is not None
        assert float(score.residuals @ score.residuals) == pytest.approx(score.total, rel=1e-14)
        # none turns round, and those of one term keep their ratio
        assert score.residuals[1:] / score.residuals[1] == pytest.approx(row / 3)
        assert score.residuals[0] < 0
    for other in ("max", "logsumexp", "e + f", lambda terms: abs(terms["e"])):
        assert Objective([energies("e"), forces], other).score(found).residuals is None


def test_a_weight_of_0_does_not_count() -> None:
    targets = [energies("a"), energies("b", weight=0.0)]
    found = evaluation(a=2.0, b=1000.0)
    for kind, expected in (("sse", 4.0), ("huber", 3.0), ("max", 2.0), ("logsumexp", 2.0)):
        assert Objective(targets, kind).score(found).total == pytest.approx(expected), kind
    with pytest.raises(InvalidArgument, match="weight above 0"):
        Objective(targets[1:])


def test_levels_without_a_tolerance_count_with_the_next_one() -> None:
    targets = [energies(name, level=k) for k, name in enumerate("abcd")]
    objective = Objective(targets, tolerances={0: 2.0, 2: 2.0})
    whole = {"a": 1.0, "b": 10.0, "c": 1.0, "d": 3.0}
    assert objective.score(evaluation(0, a=5.0)).total == 25.0
    assert objective.score(evaluation(2, a=1.0, b=10.0, c=4.0)).total == (100 + 16) / 2
    assert objective.score(evaluation(4, **whole)).total == 9.0
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidArgument, match="must be positive"):
            Objective(targets, tolerances={0: wrong})


def test_a_candidate_turned_away_is_no_best_of_what_it_never_came_to() -> None:
    targets = [energies("a"), energies("b", level=1)]
    objective = Objective(targets, tolerances={0: 2.0}, pareto=["a", "b"])
    assert objective.score(evaluation(0, a=5.0)).objectives == (25.0, math.inf)
    assert objective.score(evaluation(2, a=1.0, b=3.0)).objectives == (1.0, 9.0)


def test_an_objective_without_a_value_is_a_failure() -> None:
    score = Objective([energies("a")], "log(a - 5)").score(evaluation(a=1.0))
    assert score.total == math.inf
    assert score.residuals is None and "objective is nan" in str(score.error)
