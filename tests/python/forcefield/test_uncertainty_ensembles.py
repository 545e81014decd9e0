"""Ensembles of fits: their spread against algebra, propagation, and the coverage of intervals."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.parameters import Free, Parameter, Space
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.uncertainty import (
    cascade,
    coverage,
    fisher,
    gaussian,
    mcmc,
    natural_temperature,
    pops,
    profile,
    refits,
)
from mlcore.forcefield.uncertainty.ensembles import Distribution, Ensemble
from mlcore.forcefield.uncertainty.misfit import Misfit, local_fit

R = np.linspace(2.0, 5.0, 15)


def morse() -> Space:
    """Depth, width and place of a well."""
    parameters = [Parameter(name=n, default=1.0, lower=0.01, upper=10.0) for n in "Das"]
    return Space(
        parameters,
        {
            "D": Free(lower=0.2, upper=2.0, initial=0.7, scale="log"),
            "a": Free(lower=0.5, upper=3.0, initial=1.5),
            "s": Free(lower=2.0, upper=3.5, initial=2.6),
        },
    )


def curve(space: Space, r: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def energies(points: np.ndarray) -> np.ndarray:
        depth, width, place = (x[:, None] for x in space.table(points, space.names).T)
        x = np.exp(-width * (r - place))
        return depth * (x * x - 2 * x)

    return energies


def noisy(space: Space, truth: np.ndarray, sigma: float, seed: int = 0):  # type: ignore[no-untyped-def]
    energies = curve(space, R)
    data = energies(truth[None])[0] + np.random.default_rng(seed).normal(0, sigma, len(R))
    return lambda points: (energies(points) - data) / sigma


@pytest.fixture(scope="module")
def fitted():  # type: ignore[no-untyped-def]
    space = morse()
    residuals = noisy(space, space.initial, 0.01)
    point = local_fit(residuals, np.full(3, 0.5))
    return space, residuals, point, fisher(residuals, space, point)


def test_ninety_percent_intervals_hold_the_truth(fitted) -> None:  # type: ignore[no-untyped-def]
    space, residuals, *_ = fitted
    others = curve(space, np.array([1.8, 2.4, 3.3]))
    found = coverage(residuals, space, space.initial, properties=others, seed=5)
    assert found.fits == 50
    assert 0.80 <= found.overall <= 0.97
    assert 0.80 <= found.of_properties <= 0.97
    narrow = coverage(residuals, space, space.initial, level=0.3, seed=5)
    assert narrow.overall < 0.5


def test_gaussian_members_spread_as_the_covariance(fitted) -> None:  # type: ignore[no-untyped-def]
    _, _, point, information = fitted
    members = gaussian(information, 4000, seed=1)
    wide = information.unit_covariance()
    np.testing.assert_allclose(np.cov(members.points.T), wide, atol=0.08 * np.abs(wide).max())
    np.testing.assert_allclose(
        members.points.mean(axis=0), point, atol=4 * np.sqrt(np.diag(wide) / 4000).max()
    )


@pytest.mark.parametrize("noise", ["bootstrap", "normal"])
def test_refits_spread_as_the_covariance(fitted, noise: str) -> None:  # type: ignore[no-untyped-def]
    space, residuals, point, information = fitted
    members = refits(residuals, space, point, 60, noise=noise, seed=2)  # type: ignore[arg-type]
    scaled = noise == "bootstrap"
    expected = np.sqrt(np.diag(information.unit_covariance(scaled=scaled, prior=False)))
    np.testing.assert_allclose(members.points.std(axis=0, ddof=1) / expected, 1, atol=0.3)


def test_walkers_spread_as_the_covariance(fitted) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("emcee")
    space, residuals, point, information = fitted
    members = mcmc(residuals, space, point, steps=400, seed=3)
    expected = np.sqrt(np.diag(information.unit_covariance()))
    np.testing.assert_allclose(members.points.std(axis=0) / expected, 1, atol=0.35)
    np.testing.assert_allclose(members.points.mean(axis=0), point, atol=0.6 * expected.max())
    np.testing.assert_array_equal(
        members.points, mcmc(residuals, space, point, steps=400, seed=3).points
    )
    hot = mcmc(residuals, space, point, steps=400, seed=3, temperature=4.0)
    np.testing.assert_allclose(hot.points.std(axis=0) / members.points.std(axis=0), 2.0, rtol=0.4)
    square = float(np.sum(residuals(point[None]) ** 2))
    assert natural_temperature(residuals, point) == pytest.approx(square / 3)


def test_profile_is_the_linear_interval_where_the_model_is_linear() -> None:
    space = morse()
    matrix = np.random.default_rng(4).normal(size=(9, 3)) * 20

    def residuals(points: np.ndarray) -> np.ndarray:
        return (points - space.initial) @ matrix.T

    low, high = profile(residuals, space, space.initial, "s", tolerance=1e-5)
    expected = fisher(residuals, space, space.initial).intervals(0.9)["s"]
    assert (low, high) == (
        pytest.approx(expected[0], abs=1e-4),
        pytest.approx(expected[1], abs=1e-4),
    )
    with pytest.raises(InvalidArgument, match="not free"):
        profile(residuals, space, space.initial, "q")


def test_profile_ends_at_the_bound_where_nothing_is_known() -> None:
    space = morse()

    def residuals(points: np.ndarray) -> np.ndarray:
        return (points[:, :2] - 0.5) / 0.05

    low, high = profile(residuals, space, np.full(3, 0.5), "s")
    assert (low, high) == (2.0, 3.5)
    inner = profile(residuals, space, np.full(3, 0.5), "a")
    assert 0.5 < inner[0] < 1.75 < inner[1] < 3.0


def test_pops_members_reach_every_datum() -> None:
    """A constant fitted to a slope: the box reaches from the least to the largest datum."""
    space = Space(
        [Parameter(name="m", default=0.5, lower=0, upper=1)],
        {"m": Free(lower=0, upper=1, initial=0.5)},
    )
    data = np.linspace(0.3, 0.7, 9)

    def residuals(points: np.ndarray) -> np.ndarray:
        return (points - data) / 0.001

    information = fisher(residuals, space, [0.5])
    members = pops(information, 400, seed=0)
    assert members.points.min() == pytest.approx(0.3, abs=0.01)
    assert members.points.max() == pytest.approx(0.7, abs=0.01)
    assert gaussian(information, 400).points.std() < 0.001


def test_an_ensemble_tells_the_spread_of_other_properties() -> None:
    fit = silicon("sw")
    energies, _, crystal = fit.targets
    own = Space(
        fit.model.parameters, {n: fit.space.free[n] for n in ("epsilon", "sigma", "lambda")}
    )
    with Evaluator(fit.model, [crystal]) as evaluator:
        misfit = Misfit(evaluator, own, [crystal])
        information = fisher(misfit, own, own.unit(fit.answer))
    members = gaussian(information, 40, seed=0)
    with Evaluator(fit.model, [energies, crystal]) as others:
        found = members.propagate(others, own)
    assert found.values.shape == (40, 20)
    assert found.names[0] == "energies [0]"
    # lattice constant and energy are known to their tolerances, another phase is not
    np.testing.assert_allclose(found.spread[15:17], 0.01, rtol=0.3)
    assert 0.1 < found.spread[[x.info["name"] for x in energies.structures].index("fcc")] < 1
    assert found.covers(np.concatenate([energies.reference, crystal.reference])).all()
    assert "energies [0]" in found.table()


def lennard_jones() -> Space:
    parameters = [Parameter(name=n, default=1.0, lower=0.01, upper=10.0) for n in "es"]
    return Space(
        parameters,
        {
            "e": Free(lower=0.1, upper=3.0, initial=0.7),
            "s": Free(lower=1.5, upper=3.5, initial=2.4),
        },
    )


def test_errors_go_along_to_a_coarser_model() -> None:
    """Noisy energies -> Morse -> Lennard-Jones -> its energy elsewhere: intervals hold the truth."""
    fine, coarse = morse(), lennard_jones()
    grid, elsewhere = np.linspace(2.5, 4.5, 9), np.array([2.7, 5.0])
    energies = curve(fine, grid)

    def say(candidates):  # type: ignore[no-untyped-def]
        points = np.array([fine.unit(values) for values in candidates])
        return [Evaluation(values={"e": row}) for row in energies(points)]

    def well(points: np.ndarray, r: np.ndarray) -> np.ndarray:
        depth, size = (x[:, None] for x in coarse.table(points, coarse.names).T)
        return 4 * depth * ((size / r) ** 12 - (size / r) ** 6)

    def residuals(told: Evaluation):  # type: ignore[no-untyped-def]
        return lambda points: (well(points, grid) - told.values["e"]) / 0.01

    true = local_fit(residuals(say([fine.values(fine.initial)])[0]), coarse.initial)
    wanted = well(true[None], elsewhere)[0]
    held = []
    for seed in range(20):
        data = noisy(fine, fine.initial, 0.02, seed)
        point = local_fit(data, fine.initial, tolerance=1e-8)
        members = gaussian(fisher(data, fine, point), 24, seed)
        found = cascade(
            members,
            fine,
            say,
            coarse,
            residuals,
            start=true,
            fit=lambda r, start: local_fit(r, start, tolerance=1e-6),
        )
        assert (found.method, found.details["of"]) == ("cascade", "gaussian")
        told = Distribution(("near", "far"), well(found.points, elsewhere))
        held.append(np.abs(told.mean - wanted) <= 1.645 * told.spread)
    assert 0.75 <= np.mean(held) <= 1.0
    assert 0.0005 < told.spread[0] < 0.05
    with pytest.raises(Error, match="could be fitted"):
        cascade(members, fine, lambda c: [Evaluation(failed="no")] * len(c), coarse, residuals)


def test_members_that_fail_are_counted() -> None:
    space = morse()
    members = Ensemble(space.names, np.array([[0.1] * 3, [0.5] * 3, [0.9] * 3]), "gaussian", {})

    def evaluate(candidates):  # type: ignore[no-untyped-def]
        return [
            Evaluation(failed="no")
            if values["D"] > 1
            else Evaluation(values={"x": np.array([values["a"]])})
            for values in candidates
        ]

    found = members.propagate(evaluate, space)
    assert (len(found.values), found.failed) == (2, 1)
    with pytest.raises(Error, match="could be evaluated"):
        Ensemble(space.names, members.points[2:], "gaussian", {}).propagate(evaluate, space)


def test_intervals_and_records(tmp_path) -> None:  # type: ignore[no-untyped-def]
    values = np.arange(101.0)[:, None] * [1.0, -1.0]
    found = Distribution(("up", "down"), values)
    low, high = found.interval(0.9)
    np.testing.assert_allclose(low, [5, -95])
    np.testing.assert_allclose(high, [95, -5])
    assert found.covers([94.0, -4.0]).tolist() == [True, False]
    found.plot(tmp_path / "properties.png")
    assert json.loads(json.dumps(found.record()))["names"] == ["up", "down"]
    space = morse()
    members = Ensemble(space.names, np.random.default_rng(0).random((5, 3)), "pops", {"seed": 1})
    members.save(tmp_path / "members.json")
    again = Ensemble.from_record(json.loads((tmp_path / "members.json").read_text()))
    np.testing.assert_array_equal(again.points, members.points)
    low_d, high_d = again.intervals(space)["D"]
    assert 0.2 <= low_d < high_d <= 2.0
    with pytest.raises(FileFormatError):
        Ensemble.from_record({"format": "mlcore ensemble 1", "names": ["a"], "points": [1.0]})
