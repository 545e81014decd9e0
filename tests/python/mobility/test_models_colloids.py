"""Bars on the colloid trajectories shipped with the examples (explicit SRD solvent)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlcore.data.trajectory import Trajectory, read_trajectory
from mlcore.mobility import models
from mlcore.mobility.background import FiniteLag
from mlcore.mobility.estimators import WCA, MobilityEstimate, active_estimate
from mlcore.mobility.evaluate import compare, held_out_log_likelihoods, response_slope
from mlcore.mobility.increments import Increments, active_increments
from mlcore.mobility.tensors import RPY

DATA = Path(__file__).parents[3] / "examples/colloids/data"
EDGES = [4.3, 5.6, 6.5, 7.5, 8.5, 10.0, 11.5, 13.5, 16.0, 20.8]
CONTACT = 5.6
LAG = FiniteLag(20.0, 0.4995)
GUESS = {"radius": 2.0, "viscosity": 2.5}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs examples/colloids/data"),
]


def _runs(pattern: str) -> list[Trajectory]:
    return [read_trajectory(p, dt=0.1) for p in sorted(DATA.glob(pattern))]


@pytest.fixture(scope="module")
def multi() -> list[Trajectory]:
    return _runs("active_multi_s*.dump.gz")


@pytest.fixture(scope="module")
def estimate(multi: list[Trajectory]) -> MobilityEstimate:
    return active_estimate(multi, EDGES, lag=20.0, skip=80.0, interactions=WCA(4.8), kT=1.0)


def _increments(runs: list[Trajectory]) -> Increments:
    return active_increments(runs, lag=20.0, kT=1.0, skip=80.0, interactions=WCA(4.8))


@pytest.mark.parametrize(
    "name", ["NeuralPairModel", "GaussianProcessPairModel", "KernelRidgePairModel"]
)
def test_regression_on_the_active_estimate(name: str, estimate: MobilityEstimate) -> None:
    model = getattr(models, name)("rpy", 10.0, **GUESS)
    model.fit(estimate, rmin=CONTACT)
    theory = estimate.theory(model.mobility())
    assert estimate.chi2(theory, CONTACT).reduced <= 1.8
    assert theory.self_mobility == pytest.approx(11.64e-3, abs=2 * 0.07e-3)
    # the learned pair part against periodic RPY with the solvent's own numbers, nothing fitted
    rpy = estimate.theory(RPY(2.0, 2.497))
    scale, error = estimate.scale(rpy, CONTACT)
    assert abs(scale - 1) <= 3 * error
    used = np.asarray(EDGES[:-1]) >= CONTACT
    learned = np.concatenate([theory.par[used], theory.perp[used]])
    known = np.concatenate([rpy.par[used], rpy.perp[used]])
    assert learned @ known / (known @ known) == pytest.approx(1.0, abs=3 * error)


@pytest.fixture(scope="module")
def table(multi: list[Trajectory]):  # type: ignore[no-untyped-def]
    training, held_out = _increments(multi).split([5, 6])
    part = active_estimate(multi[:5], EDGES, lag=20.0, skip=80.0, interactions=WCA(4.8), kT=1.0)
    kinds = (models.NeuralPairModel, models.GaussianProcessPairModel, models.KernelRidgePairModel)
    jobs = [
        (kind("rpy", 10.0, **GUESS), loss)
        for loss in ("regression", "likelihood")
        for kind in kinds
    ]
    rows = compare(jobs, training, held_out, part, finite_lag=LAG, rmin=CONTACT)
    return rows, jobs


def test_held_out_likelihood(table) -> None:  # type: ignore[no-untyped-def]
    rows, jobs = table
    assert len(rows) == 3 + len(jobs)
    for row in rows[3:]:
        assert row.over_none.significance >= 3, row
        assert row.over_rpy.value >= -1.0, row
        assert row.seconds > 0 and len(row.bin_errors) == 18 and row.values == 16
    assert rows[0].model == "no hydrodynamics" and rows[0].over_none.value == 0.0


def test_likelihood_trained_models_are_not_below_the_better_of_the_fitted_rpy(table) -> None:  # type: ignore[no-untyped-def]
    rows, _ = table
    best = max(row.over_none.value for row in rows[1:3])
    trained = [row for row in rows[3:] if row.loss == "likelihood"]
    assert len(trained) == 3
    for row in trained:
        assert row.over_none.value >= best - 1.0, row


def test_single_forces_are_predicted(table) -> None:  # type: ignore[no-untyped-def]
    single = _increments(_runs("active_single_s*.dump.gz"))
    for model, _ in table[1]:
        slope = response_slope(model, single, contact=CONTACT)
        assert abs(slope.value - 1) <= 2 * slope.error
        assert slope.error < 0.2


def test_free_space_theory_is_found_wrong(multi: list[Trajectory], table) -> None:  # type: ignore[no-untyped-def]
    """The test of likelihood has teeth: RPY with 1.5 times the viscosity loses clearly."""
    _, held_out = _increments(multi).split([5, 6])
    good = models.ParametricModel("rpy", **GUESS)
    training, _ = _increments(multi).split([5, 6])
    good.fit(training, "likelihood", finite_lag=LAG)
    bad = models.ParametricModel("rpy", fit_background=False, radius=2.0, viscosity=3.75)
    bad.fit(training, "likelihood", finite_lag=LAG)
    values = [held_out_log_likelihoods(m, held_out, finite_lag=LAG).sum() for m in (good, bad)]
    assert values[0] > values[1] + 20
