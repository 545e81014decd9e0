"""Fisher information of fits: against algebra, and the sloppy direction of Tersoff by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.parameters import Free, Parameter, Space
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.targets import Energies
from mlcore.forcefield.uncertainty.fisher_information import Fisher, fisher, quantile
from mlcore.forcefield.uncertainty.misfit import Misfit


def space(**free: Free) -> Space:
    parameters = [Parameter(name=n, default=1.0, lower=-1e9, upper=1e9) for n in free]
    return Space(parameters, free)


LOG = Free(lower=0.1, upper=1000.0, initial=10.0, scale="log")
LINEAR = Free(lower=-2.0, upper=6.0, initial=2.0)


def line(own: Space, x: np.ndarray, y: np.ndarray, sigma: float):  # type: ignore[no-untyped-def]
    def residuals(points: np.ndarray) -> np.ndarray:
        table = own.table(points, own.names)
        return (table[:, :1] + table[:, 1:] * x - y) / sigma

    return residuals


def test_a_straight_line_has_the_covariance_of_algebra() -> None:
    own = space(a=LINEAR, b=LINEAR)
    x = np.linspace(0, 1, 12)
    rng = np.random.default_rng(0)
    design = np.stack([np.ones(12), x], axis=1)
    y = design @ [1.0, 3.0] + rng.normal(0, 0.1, 12)
    best = np.linalg.lstsq(design, y, rcond=None)[0]
    found = fisher(line(own, x, y, 0.1), own, own.unit(dict(zip("ab", best, strict=True))))
    expected = 0.01 * np.linalg.inv(design.T @ design)
    relative = np.outer(best, best)
    np.testing.assert_allclose(found.covariance() * relative, expected, rtol=1e-7)
    errors = found.errors(scaled=True)
    spread = np.sum((design @ best - y) ** 2) / 10
    assert errors["b"] == pytest.approx(
        np.sqrt(spread * np.linalg.inv(design.T @ design)[1, 1]), rel=1e-7
    )
    low, high = found.intervals(0.9)["a"]
    assert high - low == pytest.approx(2 * 1.6448536 * np.sqrt(expected[0, 0]), rel=1e-6)
    np.testing.assert_allclose(
        found.unit_covariance(prior=False), expected / 64, rtol=1e-7
    )  # a range of 8


def test_a_product_alone_leaves_a_named_direction_open() -> None:
    own = space(a=LOG, b=LOG, c=LINEAR)

    def residuals(points: np.ndarray) -> np.ndarray:
        a, b, c = own.table(points, own.names).T
        return np.stack([np.log(a * b**2) / 0.01, (c - 2) / 0.1], axis=1)

    found = fisher(residuals, own, own.initial)
    assert found.sloppy_names() == ("a", "b")
    assert found.determined() == ["a^1 b^2"]
    (open_one,) = found.sloppy()
    assert open_one.weights["b"] / open_one.weights["a"] == pytest.approx(-0.5, rel=1e-6)
    assert "a^1 b^-0.5" in found.table()
    with pytest.raises(InvalidArgument, match="not determined at all"):
        found.covariance()
    assert found.errors(prior=True)["c"] == pytest.approx(0.1, rel=1e-3)


def test_tersoff_leaves_beta_c_and_d_open() -> None:
    fit = silicon("tersoff")
    with Evaluator(fit.model, fit.targets) as evaluator:
        found = fisher(
            Misfit(evaluator, fit.space, fit.targets), fit.space, fit.space.unit(fit.answer)
        )
    assert set(found.sloppy_names()) == {"beta", "c", "d"}
    assert len(found.sloppy()) == 2
    assert found.determined() == ["beta^1 c^2 d^-4"]
    sloppiest = found.sloppy()[0].weights
    assert sloppiest["beta"] / sloppiest["c"] == pytest.approx(-2, abs=0.05)


def test_the_record_comes_back(tmp_path: Path) -> None:
    own = space(a=LOG, b=LINEAR)
    x = np.linspace(0, 1, 5)
    found = fisher(line(own, x, x, 0.3), own, own.initial)
    again = Fisher.from_record(json.loads(json.dumps(found.record())))
    np.testing.assert_array_equal(again.jacobian, found.jacobian)
    np.testing.assert_array_equal(again.spectrum, found.spectrum)
    found.plot(tmp_path / "fisher.png")
    found.save(tmp_path / "fisher.json")
    assert json.loads((tmp_path / "fisher.json").read_text())["names"] == ["a", "b"]
    with pytest.raises(FileFormatError):
        Fisher.from_record({"format": "mlcore fisher 1"})


def test_quantiles_of_two_sided_intervals() -> None:
    assert quantile(0.95) == pytest.approx(1.959964, rel=1e-6)
    assert quantile(0.9, 5) == pytest.approx(2.015048, rel=1e-6)
    with pytest.raises(InvalidArgument, match="level"):
        quantile(1.0)


def test_weights_of_targets_count_as_their_number() -> None:
    fit = silicon("sw")
    small = [fit.targets[0].structures[0]]
    one = Energies(small, [-34.0], name="one")
    four = Energies(small, [-34.0], name="four", weight=4.0, names=["four times"])
    with Evaluator(fit.model, [one, four]) as evaluator:
        row = Misfit(evaluator, fit.space, [one, four])(fit.space.initial[None])[0]
    assert row[1] == pytest.approx(2 * row[0])
