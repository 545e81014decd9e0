"""Likelihood: gradients, agreement of the two implementations, recovery of a known system."""

from __future__ import annotations

import numpy as np
import pytest
from mlcore.data.trajectory import Trajectory
from mlcore.dynamics import Yukawa, brownian
from mlcore.errors import InvalidArgument
from mlcore.mobility import models
from mlcore.mobility.background import FiniteLag, configuration_terms, overlap_correction
from mlcore.mobility.forces import TabulatedForce, YukawaForce
from mlcore.mobility.increments import Increments, passive_increments
from mlcore.mobility.likelihood import Likelihood, find_images
from mlcore.mobility.models.shells import ShellBasis
from mlcore.mobility.tensors import RPY, PairMobility

CELL = np.array([[9.0, 0, 0], [1.0, 10.0, 0], [0.5, -1.0, 11.0]])


def _increments(cell: np.ndarray | None, forces: bool = True, drift: bool = True) -> Increments:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 9, (5, 4, 3))
    x[0, 1] = x[0, 0] + [1.1, 0.4, 0.3]
    step = 0.2 * rng.normal(size=x.shape)
    pull = rng.normal(size=x.shape) if forces else None
    return Increments(x, step, 0.3, 1.4, pull, cell, drift=drift)


def _terms(cell: np.ndarray | None, cutoff: float = 7.0, **options: object) -> Likelihood:
    basis = ShellBasis(np.linspace(0.3, 4, 5), cutoff, compressible=True)
    options = {"radius": 0.9, **options}
    return Likelihood(options.pop("data", _increments(cell)), basis, **options)  # type: ignore[arg-type]


def _vector(terms: Likelihood) -> np.ndarray:
    rng = np.random.default_rng(4)
    weights = 0.02 * rng.uniform(size=terms.basis.size)
    force = () if terms.force is None else terms.force.start + 0.1
    return np.concatenate([np.log([0.9, 1.2]), [0.05, 0.04], weights, force])


CASES = {
    "open": (None, {}),
    "periodic": (CELL, {}),
    "finite lag": (CELL, {"finite_lag": FiniteLag(0.3, 2.0, modes=5)}),
    "own noise": (CELL, {"separate_noise": True}),
    "Yukawa": (CELL, {"force": YukawaForce(2.0, 0.7, 4.0)}),
    "table": (None, {"force": TabulatedForce(1.0, 5.0, 4)}),
    "none": (CELL, {"background": "none"}),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_the_value(name: str) -> None:
    cell, options = CASES[name]
    terms = _terms(cell, **options)
    at = _vector(terms)
    value, gradient, _ = terms.expand(at)
    assert value[0] == pytest.approx(terms.value(at), rel=1e-12)
    for k in range(len(at)):
        h = 1e-6
        up, down = at.copy(), at.copy()
        up[k] += h
        down[k] -= h
        slope = (terms.value(up) - terms.value(down)) / (2 * h)
        assert gradient[0][k] == pytest.approx(slope, rel=2e-5, abs=2e-5), k


@pytest.mark.parametrize("cell", [None, CELL], ids=["open", "periodic"])
def test_density_is_that_of_the_core_mobility(cell: np.ndarray | None) -> None:
    from scipy.stats import multivariate_normal

    terms = _terms(cell)
    at = _vector(terms)
    inc = terms.increments
    r = np.linspace(0, terms.basis.cutoff, 4096)
    table = terms.basis.evaluate(r)
    w = at[4:]
    own = float(terms.basis.self_values @ w) + at[2]
    columns = (table.par @ w, table.dpar @ w, table.perp @ w, table.dperp @ w)
    mobility = PairMobility(own, terms.basis.cutoff, *columns, background=RPY(0.9, 1.2))
    matrices = np.asarray(mobility.matrix(inc.positions, cell))
    drift = np.asarray(mobility.divergence(inc.positions, cell))
    assert inc.forces is not None
    for b, got in enumerate(terms.log_likelihoods(at)):
        pull = matrices[b] @ inc.forces[b].reshape(-1)
        mean = inc.lag * (pull + inc.kT * drift[b].reshape(-1))
        density = multivariate_normal(mean, 2 * inc.kT * inc.lag * matrices[b])
        assert got == pytest.approx(density.logpdf(inc.displacements[b].reshape(-1)), rel=1e-8)


def test_fisher_information_is_the_mean_square_gradient() -> None:
    rng = np.random.default_rng(8)
    terms = _terms(CELL, data=_increments(CELL, drift=False))
    at = _vector(terms)
    steady, _ = terms.matrices(_point(terms, at), slice(0, 5))
    inc = terms.increments
    assert inc.forces is not None
    mean = inc.lag * np.einsum("bij,bj->bi", steady, inc.forces.reshape(5, -1))
    lower = np.linalg.cholesky(2 * inc.kT * inc.lag * steady)
    gradients = []
    for _ in range(600):
        terms.delta = mean + np.einsum("bij,bj->bi", lower, rng.normal(size=mean.shape))
        gradients.append(terms.expand(at)[1][0])
    _, _, information = terms.expand(at)
    measured = np.cov(np.array(gradients).T)
    free = terms.free()
    ratio = np.diagonal(measured)[free] / np.diagonal(information[0])[free]
    np.testing.assert_allclose(ratio, 1.0, atol=0.3)


def _point(terms: Likelihood, at: np.ndarray):  # type: ignore[no-untyped-def]
    from mlcore.mobility.likelihood import Point

    return Point(at, terms.basis.size)


@pytest.mark.parametrize("name", CASES)
def test_torch_and_numpy_agree(name: str) -> None:
    torch = pytest.importorskip("torch")
    from mlcore.mobility.losses import LikelihoodLoss, ParametricForce

    cell, options = CASES[name]
    terms = _terms(cell, **options)
    at = _vector(terms)
    tensor = torch.tensor(at, requires_grad=True)
    q = terms.basis.size

    class Fixed(torch.nn.Module):
        def weights(self):  # type: ignore[no-untyped-def]
            return tensor[4 : 4 + q]

        def radius(self):  # type: ignore[no-untyped-def]
            return torch.exp(tensor[0])

        def viscosity(self):  # type: ignore[no-untyped-def]
            return torch.exp(tensor[1])

        def local(self):  # type: ignore[no-untyped-def]
            return tensor[2]

        def noise_local(self):  # type: ignore[no-untyped-def]
            return tensor[3]

        def radial_force(self, r):  # type: ignore[no-untyped-def]
            assert terms.force is not None
            return terms.force.radial(r, tensor[4 + q :])

        def prior(self, width: float, ridge: float):  # type: ignore[no-untyped-def]
            return 0.0 * tensor.sum()

    loss = LikelihoodLoss(terms, 1.0, 0.0)
    everything = torch.arange(5)
    value = loss.loss(Fixed(), everything)
    assert float(value.detach()) == pytest.approx(-terms.value(at) / 5, rel=1e-11)
    value.backward()
    np.testing.assert_allclose(
        -5 * tensor.grad.numpy(), terms.expand(at)[1][0], rtol=1e-7, atol=1e-7
    )
    one = [float(loss.loss(Fixed(), torch.tensor([b])).detach()) for b in range(5)]
    np.testing.assert_allclose(one, -terms.log_likelihoods(at), rtol=1e-10)
    assert isinstance(ParametricForce(YukawaForce(1, 1, 1)), torch.nn.Module)


def test_background_terms_follow_the_core_in_any_cell() -> None:
    x = np.random.default_rng(0).uniform(0, 9, (3, 5, 3))
    a, b = configuration_terms(CELL, x)
    radius, viscosity = 0.3, 1.7
    want = np.asarray(RPY(radius, viscosity).matrix(x, CELL))
    got = (a + radius**2 * b + np.eye(15) / (6 * np.pi * radius)) / viscosity
    images = find_images(CELL, x, 2 * radius)
    if len(images.r) == 0:
        np.testing.assert_allclose(got, want, atol=1e-9)


def test_background_terms_follow_an_independent_ewald_sum() -> None:
    from ewald import periodic_rpy

    x = np.random.default_rng(1).uniform(0, 9, (2, 3, 3))
    a, b = configuration_terms(CELL, x)
    got = (a + 0.04 * b + np.eye(9) / (6 * np.pi * 0.2)) / 1.3
    np.testing.assert_allclose(got, periodic_rpy(CELL, x, 0.2, 1.3), atol=1e-9)


def test_overlap_correction_joins_smoothly() -> None:
    r = np.array([1.2, 1.9, 1.999999, 2.0, 2.5])
    par, perp = overlap_correction(r, 1.0, 0.7)
    assert (par[-2:] == 0).all() and (perp[-2:] == 0).all()
    assert abs(par[2]) < 1e-10 and abs(perp[2]) < 1e-10
    free = np.asarray(RPY(1.0, 0.7).pair(r))
    far = 1 / (8 * np.pi * 0.7 * r)
    np.testing.assert_allclose(free[0], far * (2 - 4 / (3 * r * r)) + par, rtol=1e-12)
    np.testing.assert_allclose(free[1], far * (1 + 2 / (3 * r * r)) + perp, rtol=1e-12)


# -- a known system from one trajectory set --------------------------------------------------------
TRUE = {"radius": 1.3, "viscosity": 0.7, "amplitude": 60.0, "kappa": 0.5}


@pytest.fixture(scope="module")
def yukawa_increments() -> Increments:
    """Four particles let go close together, 240 times: they see the force at all distances."""
    rng = np.random.default_rng(5)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(8)
    start = corners * rng.uniform(2.9, 4.5, (240, 1, 1)) + 0.1 * rng.normal(size=(240, 4, 3))
    x = brownian(
        RPY(TRUE["radius"], TRUE["viscosity"]),
        start,
        forces=[Yukawa(amplitude=TRUE["amplitude"], kappa=TRUE["kappa"], cutoff=9.0)],
        dt=0.01,
        kT=1.0,
        steps=800,
        every=20,
        seed=11,
    )
    times = 0.2 * np.arange(x.shape[1])
    runs = [Trajectory(times, x[r]) for r in range(len(x))]
    return passive_increments(runs, lag=0.2, kT=1.0, where="start", blocks_per_run=1)


@pytest.mark.slow
def test_recovers_mobility_and_force_from_one_trajectory_set(yukawa_increments: Increments) -> None:
    model = models.ParametricModel("rpy", radius=1.0, viscosity=1.0, prior_width=2.0)
    force = YukawaForce(20.0, 0.9, 9.0)
    result = model.fit(yukawa_increments, "likelihood", force=force)
    assert result.reason == "converged"
    p = model.parameters
    assert model.force_parameters is not None
    found = {"radius": p.radius, "viscosity": p.viscosity, **model.force_parameters}
    for name, true in TRUE.items():
        error = p.errors[name if name in p.errors else f"force.{name}"]
        assert 0 < error < 0.25 * true, name
        assert abs(found[name] - true) < 3 * error, (name, found[name], error)
    # the force itself is known far better than its two correlated parameters
    r = np.linspace(3, 6, 5)
    true_force = YukawaForce(TRUE["amplitude"], TRUE["kappa"], 9.0)
    log = np.log([found["amplitude"], found["kappa"]])
    np.testing.assert_allclose(
        force.radial(r, log), true_force.radial(r, true_force.start), rtol=0.15
    )


@pytest.mark.slow
def test_a_wrong_force_or_no_hydrodynamics_is_less_likely(yukawa_increments: Increments) -> None:
    some = yukawa_increments.select(np.arange(0, len(yukawa_increments), 4))
    values = {}
    for name, background, force in (
        ("both", "rpy", YukawaForce(40.0, 0.6, 9.0)),
        ("no force", "rpy", None),
        ("no hydrodynamics", "none", YukawaForce(40.0, 0.6, 9.0)),
    ):
        model = models.ParametricModel(background, radius=1.3, viscosity=0.7)
        values[name] = -model.fit(some, "likelihood", force=force).value
    assert values["both"] > values["no force"] + 10
    assert values["both"] > values["no hydrodynamics"] + 10


@pytest.mark.slow
def test_a_neural_force_follows_the_true_one(yukawa_increments: Increments) -> None:
    torch = pytest.importorskip("torch")
    from mlcore.mobility.losses import NeuralForce

    some = yukawa_increments.select(np.arange(0, len(yukawa_increments), 3))
    model = models.NeuralPairModel("rpy", 4.0, shells=8, radius=1.3, viscosity=0.7)
    model.fit(some, "likelihood", force=NeuralForce(9.0, 5.0), epochs=100)
    r = np.array([3.0, 4.0, 5.0])
    true = YukawaForce(TRUE["amplitude"], TRUE["kappa"], 9.0)
    assert model.force is not None
    got = model.force(torch.from_numpy(r)).detach().numpy()
    np.testing.assert_allclose(got, true.radial(r, true.start), rtol=0.4)


# -- bad input -------------------------------------------------------------------------------------
def test_errors_name_the_argument() -> None:
    x = np.zeros((3, 2, 3))
    with pytest.raises(InvalidArgument, match="displacements"):
        Increments(x, np.zeros((3, 1, 3)), 1.0, 1.0)
    with pytest.raises(InvalidArgument, match="positions"):
        Increments(np.full((3, 2, 3), np.nan), x, 1.0, 1.0)
    with pytest.raises(InvalidArgument, match="lag"):
        Increments(x, x, 0.0, 1.0)
    with pytest.raises(InvalidArgument, match="held_out"):
        Increments(x, x, 1.0, 1.0).split([0])
    model = models.ParametricModel("rpy", radius=1.0, viscosity=1.0)
    with pytest.raises(InvalidArgument, match="Increments"):
        model.fit(object(), "likelihood")
    with pytest.raises(InvalidArgument, match="MobilityEstimate"):
        model.fit(object(), "regression")
    with pytest.raises(InvalidArgument, match="loss"):
        model.fit(object(), "squares")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="finite_lag"):
        model.fit(Increments(x, x, 1.0, 1.0), "likelihood", finite_lag=FiniteLag(1.0, 1.0))
