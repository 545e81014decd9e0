"""The three model classes: what they learn, what they keep, what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.mobility import models
from mlcore.mobility.background import FiniteLag
from mlcore.mobility.estimators import MobilityEstimate
from mlcore.mobility.models.base import PairModel
from mlcore.mobility.tensors import RPY, PairMobility

LEARNED = ["NeuralPairModel", "GaussianProcessPairModel", "KernelRidgePairModel"]
EDGES = np.array([4.5, 5.5, 6.5, 7.5, 8.5, 10.0, 12.0])


def _truth(local: float, bump: float) -> PairMobility:
    """RPY plus a smooth short-ranged bump that is itself positive definite."""
    basis = models.KernelRidgePairModel("none", 9.0, shells=4, largest_wavenumber=1.2).basis
    weights = bump * np.ones(4)
    r = np.linspace(0, 9.0, 1024)
    v = basis.evaluate(r)
    own = float(basis.self_values @ weights) + local
    columns = (v.par @ weights, v.dpar @ weights, v.perp @ weights, v.dperp @ weights)
    return PairMobility(own, 9.0, *columns, background=RPY(2.0, 2.5))


def _estimate(
    truth: PairMobility, cell: np.ndarray | None, noise: float = 0.0, seed: int = 0
) -> MobilityEstimate:
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(4000, 3))
    d *= (rng.uniform(EDGES[0], EDGES[-1], 4000) / np.linalg.norm(d, axis=1))[:, None]
    r = np.linalg.norm(d, axis=1)
    parts = [d[(r >= a) & (r < b)][:60] for a, b in pairwise(EDGES)]
    count = len(parts)
    error = 4e-5 * np.ones(count)
    blank = MobilityEstimate(
        EDGES,
        np.array([np.linalg.norm(p, axis=1).mean() for p in parts]),
        0.0,
        4e-5,
        np.zeros(count),
        error,
        np.zeros(count),
        error,
        np.full(count, 60),
        None,
        "active",
        1.0,
        1.0,
        cell,
        tuple(parts),
    )
    theory = blank.theory(truth)
    import dataclasses

    return dataclasses.replace(
        blank,
        self_mobility=theory.self_mobility + noise * 4e-5 * rng.normal(),
        par=theory.par + noise * error * rng.normal(size=count),
        perp=theory.perp + noise * error * rng.normal(size=count),
    )


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("cell", [None, 22.0 * np.eye(3)], ids=["open", "periodic"])
def test_learns_background_local_part_and_remainder(name: str, cell: np.ndarray | None) -> None:
    truth = _truth(local=3e-3, bump=1e-3)
    estimate = _estimate(truth, cell, noise=1.0)
    model: PairModel = getattr(models, name)("rpy", 9.0, radius=1.8, viscosity=2.4)
    result = model.fit(estimate)
    assert result.value < 2.5 * 13
    mobility = model.mobility()
    theory = estimate.theory(mobility)
    assert estimate.chi2(theory).reduced < 2.0
    assert abs(theory.self_mobility - estimate.self_mobility) < 3 * 4e-5
    # what a run would do between the bins, and in another box
    r = np.linspace(5, 11.5, 9)
    got, want = mobility.pair(r), truth.pair(r)
    np.testing.assert_allclose(got[0], want[0], atol=2.5e-4)
    np.testing.assert_allclose(got[1], want[1], atol=2.5e-4)


@pytest.mark.parametrize("name", LEARNED)
def test_model_formulas_and_core_table_agree(name: str) -> None:
    model: PairModel = getattr(models, name)("rpy", 9.0, radius=1.8, viscosity=2.4)
    model.fit(_estimate(_truth(3e-3, 1e-3), None))
    mobility = model.mobility()
    r = np.concatenate([np.linspace(0.05, 12, 400), [2 * model.parameters.radius]])
    for got, want in zip(mobility.pair(r), model.pair(r), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-9 * model.total_self_mobility)
    one = np.asarray(mobility.matrix(np.zeros((1, 3))))
    np.testing.assert_allclose(one, model.total_self_mobility * np.eye(3), rtol=1e-12)


def test_one_background_radius_cannot_fit_self_and_pair() -> None:
    """The local part is what makes the difference."""
    estimate = _estimate(_truth(3e-3, 0.0), 22.0 * np.eye(3))
    model = models.ParametricModel("rpy", radius=2.0, viscosity=2.5)
    model.fit(estimate)
    assert model.parameters.local == pytest.approx(3e-3, rel=0.05)
    assert model.parameters.radius == pytest.approx(2.0, rel=0.02)
    assert model.parameters.viscosity == pytest.approx(2.5, rel=0.01)


def test_no_background_learns_pair_functions_alone() -> None:
    """A 1/r truth needs a cutoff far beyond the data: the window bends what it cuts."""
    estimate = _estimate(_truth(3e-3, 1e-3), None)
    model = models.KernelRidgePairModel("none", 150.0, shells=128, largest_wavenumber=2.0)
    model.fit(estimate)
    assert estimate.chi2(estimate.theory(model.mobility())).reduced < 4


def test_fixed_background_stays() -> None:
    for name in LEARNED:
        model: PairModel = getattr(models, name)(
            "rpy", 9.0, radius=1.9, viscosity=2.6, fit_background=False
        )
        options = {"epochs": 50} if name == "NeuralPairModel" else {}
        model.fit(_estimate(_truth(3e-3, 1e-3), None), **options)
        assert model.parameters.radius == pytest.approx(1.9, rel=1e-12)
        assert model.parameters.viscosity == pytest.approx(2.6, rel=1e-12)


def test_finite_lag_rows_are_the_estimators() -> None:
    """Regression knows the same deficit as MobilityEstimate.theory."""
    import dataclasses

    from mlcore.mobility.regression import Regression

    lag = FiniteLag(20.0, 0.5)
    estimate = _estimate(_truth(3e-3, 0.0), 22.0 * np.eye(3))
    estimate = dataclasses.replace(estimate, kind="passive", lag=20.0)
    model = models.ParametricModel("rpy", radius=2.0, viscosity=2.5)
    terms = Regression(estimate, model.basis, finite_lag=lag)
    theory = estimate.theory(RPY(2.0, 2.5), lag)
    want = np.concatenate([[theory.self_mobility], theory.par, theory.perp])
    np.testing.assert_allclose(terms.rpy(2.0, 2.5), want, atol=1e-10)


def test_overlapping_bins_are_handled() -> None:
    from mlcore.mobility.regression import Regression

    estimate = _estimate(_truth(3e-3, 0.0), 22.0 * np.eye(3))
    terms = Regression(estimate, models.ParametricModel("rpy").basis)
    theory = estimate.theory(RPY(3.2, 2.5))
    want = np.concatenate([[theory.self_mobility], theory.par, theory.perp])
    np.testing.assert_allclose(terms.rpy(3.2, 2.5), want, atol=1e-9)


def test_predictive_errors_cover_the_truth() -> None:
    truth = _truth(3e-3, 1e-3)
    r = np.linspace(5.5, 10, 6)
    want = truth.pair(r)
    z = []
    for seed in range(12):
        estimate = _estimate(truth, None, noise=1.0, seed=seed)
        model = models.GaussianProcessPairModel("rpy", 9.0, radius=1.8, viscosity=2.4)
        model.fit(estimate)
        got, error = model.pair(r), model.pair_errors(r)
        z += [(g - w) / e for g, w, e in zip(got, want, error, strict=True)]
    spread = np.sqrt(np.mean(np.square(z)))
    assert 0.3 < spread < 1.7


def test_seed_decides_the_neural_fit() -> None:
    estimate = _estimate(_truth(3e-3, 1e-3), None)
    fits = []
    for seed in (0, 0, 1):
        model = models.NeuralPairModel("rpy", 9.0, radius=1.8, viscosity=2.4, seed=seed)
        model.fit(estimate, epochs=40)
        fits.append(model.parameters.weights)
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


# -- saving ----------------------------------------------------------------------------------------
@pytest.fixture(params=[*LEARNED, "ParametricModel"])
def fitted(request: pytest.FixtureRequest) -> PairModel:
    make = getattr(models, request.param)
    model: PairModel = make("rpy", 9.0, radius=1.8, viscosity=2.4)
    options = {"epochs": 30} if request.param == "NeuralPairModel" else {}
    model.fit(_estimate(_truth(3e-3, 1e-3), None), **options)
    return model


def test_saved_models_come_back_exactly(fitted: PairModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    again = models.load(path)
    assert type(again) is type(fitted)
    assert again.options() == fitted.options()
    r = np.linspace(0.1, 10, 40)
    for a, b in zip(again.pair(r), fitted.pair(r), strict=True):
        assert np.array_equal(a, b)
    assert again.total_self_mobility == fitted.total_self_mobility
    assert again.parameters.errors == fitted.parameters.errors


def test_damaged_model_files_are_refused(fitted: PairModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    whole = path.read_bytes()
    tensors, metadata = read_tensors(path)
    meta = json.loads(metadata["mlcore-pair-model"])

    def written(**changes: object) -> Path:
        write_tensors(path, tensors, {"mlcore-pair-model": json.dumps({**meta, **changes})})
        return path

    cases = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "larger than": (1 << 40).to_bytes(8, "little") + whole[8:],
    }
    for match, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=match) as caught:
            models.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(FileFormatError, match="cannot be read"):
        models.load(tmp_path / "absent")
    with pytest.raises(FileFormatError, match="kind"):
        models.load(written(kind="oracle"))
    with pytest.raises(FileFormatError, match="cutoff"):
        models.load(written(options={**meta["options"], "cutoff": -1}))
    with pytest.raises(FileFormatError):
        models.load(written(options={**meta["options"], "colour": 3}))
    with pytest.raises(FileFormatError, match="radius"):
        models.load(written(parameters={**meta["parameters"], "radius": "two"}))
    if tensors["weights"].size:
        with pytest.raises(FileFormatError, match="weights"):
            models.load(written(options={**meta["options"], "shells": 7}))
    broken = {**tensors, "weights": tensors["weights"] * np.nan}
    if tensors["weights"].size:
        write_tensors(path, broken, metadata)
        with pytest.raises(FileFormatError, match="'weights' holds NaN"):
            models.load(path)


def test_arguments_are_checked() -> None:
    make = models.GaussianProcessPairModel
    for options, name in (
        ({"cutoff": None}, "cutoff"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"cutoff": 5.0, "background": "stokes"}, "background"),
        ({"cutoff": 5.0, "radius": 0.0}, "radius"),
        ({"cutoff": 5.0, "shells": 0}, "shells"),
        ({"cutoff": 5.0, "fit_background": False}, "fit_background"),
        ({"cutoff": 5.0, "amplitudes": ()}, "amplitudes"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            make(**options)  # type: ignore[arg-type]
    with pytest.raises(Error, match="fit"):
        make(cutoff=5.0).mobility()
    with pytest.raises(InvalidArgument, match="hidden"):
        models.NeuralPairModel(cutoff=5.0, hidden=())
    with pytest.raises(InvalidArgument, match="rmin"):
        make(cutoff=9.0, radius=2.0, viscosity=2.0).fit(_estimate(_truth(1e-3, 0), None), rmin=99)


def test_models_without_a_network_do_not_import_torch() -> None:
    code = (
        "import sys; from mlcore.mobility import models; models.GaussianProcessPairModel; "
        "models.KernelRidgePairModel; models.ParametricModel; import mlcore.training, mlcore.export; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
