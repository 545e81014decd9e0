"""Estimators on synthetic motion with a known mobility."""

from __future__ import annotations

import numpy as np
import pytest
from ewald import periodic_rpy
from mlcore.data import Trajectory
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.mobility.estimators import (
    WCA,
    BinnedTheory,
    MobilityEstimate,
    active_estimate,
    displacement_velocity_estimate,
    force_segments,
    passive_estimate,
)
from mlcore.mobility.finite_lag import FiniteLag, FlowDeficit
from mlcore.mobility.finite_size import group_by_box, image_correction, infinite_box_mobility
from mlcore.mobility.lag_scan import lag_scan

CELL = np.array([[11.0, 0, 0], [2.0, 10.0, 0], [-1.0, 1.5, 12.0]])
EDGES = [2.0, 3.0, 4.0, 5.0, 6.5, 12.0]
RADIUS, VISCOSITY = 1.0, 0.3


class Oracle:
    """Periodic RPY by the slow Ewald sum of the tests."""

    radius, viscosity = RADIUS, VISCOSITY
    real, reciprocal = 2, 6

    def matrix(self, x, cell=None, pbc=None):
        x = np.asarray(x)
        batch = x if x.ndim == 3 else x[None]
        m = periodic_rpy(cell, batch, RADIUS, VISCOSITY, real=self.real, reciprocal=self.reciprocal)
        return m if x.ndim == 3 else m[0]


def apart(rng, n, closest=2.0):
    """Positions in CELL with no two closer than `closest`."""
    from mlcore.data.geometry import minimum_image

    while True:
        x = rng.uniform(0, 1, (n, 3)) @ CELL
        i, j = np.triu_indices(n, 1)
        if np.linalg.norm(minimum_image(x[i] - x[j], CELL), axis=1).min() > closest:
            return x


class Coarse(Oracle):
    """Rough and fast, where only the noise matters."""

    real, reciprocal = 1, 3


def jumps(rng, configurations, n, kT=1.0, tau=1e-4, oracle=Oracle, draws=1):
    """Runs of two frames whose displacement is one exact Gaussian step of variance 2 kT M tau."""
    runs = []
    for _ in range(configurations):
        x = apart(rng, n)
        root = np.sqrt(2 * kT * tau) * np.linalg.cholesky(oracle().matrix(x, CELL))
        for _ in range(draws):
            step = (root @ rng.normal(size=3 * n)).reshape(n, 3)
            runs.append(Trajectory([0.0, tau], np.stack([x, x + step]), CELL))
    return runs


def driven(rng, segments, n, noise=0.05, dt=1e-3, per=6, draw=None):
    """One run, forces redrawn every `per` frames; positions follow v = M F plus noise."""
    x = apart(rng, n)
    positions, forces = [x], []
    for k in range(segments):
        force = rng.normal(size=(n, 3)) if draw is None else draw(rng, k, n, x)
        if k:
            x = positions[-1]
        for _ in range(per):
            v = (Oracle().matrix(x, CELL) @ force.reshape(-1)).reshape(n, 3)
            x = x + dt * (v + noise * rng.normal(size=(n, 3)))
            positions.append(x)
            forces.append(force)
    forces = [forces[0], *forces]
    return Trajectory(
        dt * np.arange(len(positions)), np.array(positions), CELL, forces=np.array(forces)
    )


def pulls(estimate, theory):
    z = np.r_[
        (estimate.self_mobility - theory.self_mobility) / estimate.self_error,
        (estimate.par - theory.par) / estimate.par_error,
        (estimate.perp - theory.perp) / estimate.perp_error,
    ]
    return z[np.isfinite(z)]


@pytest.fixture(scope="module")
def passive_runs():
    return jumps(np.random.default_rng(0), 150, 6, draws=4)


def test_passive_recovers_known_mobility(passive_runs):
    estimate = passive_estimate(passive_runs, EDGES, lag=1e-4, kT=1.0, block=1e-4)
    theory = estimate.theory(Oracle())
    z = pulls(estimate, theory)
    assert estimate.blocks == 600 and len(z) == 11
    assert (z @ z) / len(z) < 2.2
    assert abs(z[0]) < 3
    scale, error = estimate.scale(theory)
    assert abs(scale - 1) < 3 * error and error < 0.1
    wrong = passive_estimate(passive_runs, EDGES, lag=1e-4, kT=1.3, block=1e-4)
    assert abs(pulls(wrong, theory)[0]) > 5


def test_error_bars_have_the_right_size():
    """Spread of independent estimates against their own error bars."""
    rng = np.random.default_rng(3)
    estimates = [
        passive_estimate(
            jumps(rng, 50, 3, oracle=Coarse), [2, 6, 12], lag=1e-4, kT=1.0, resamples=300
        )
        for _ in range(25)
    ]
    for name, error in (
        ("self_mobility", "self_error"),
        ("par", "par_error"),
        ("perp", "perp_error"),
    ):
        spread = np.std([getattr(e, name) for e in estimates], axis=0, ddof=1)
        said = np.mean([getattr(e, error) for e in estimates], axis=0)
        assert np.all(np.abs(np.log(said / spread)) < 0.5), name


def test_displacement_velocity_recovers_known_mobility():
    """x from velocities v_t = sqrt(2 kT M/dt) xi_t: <(x(t+1)-x(t-1))/2 v(t)> = kT M with v centred."""
    rng = np.random.default_rng(5)
    runs = []
    dt = 1e-4
    for _ in range(250):
        x = apart(rng, 5)
        root = np.linalg.cholesky(Oracle().matrix(x, CELL))
        v = (np.sqrt(1 / dt) * root @ rng.normal(size=(15, 3))).T.reshape(3, 5, 3)
        # frame k moves by half of v[k] before and half after: the trapezoidal rule
        moves = dt * (v[1:] + v[:-1]) / 2
        path = x + np.concatenate([np.zeros((1, 5, 3)), moves.cumsum(0)])
        runs.append(Trajectory(dt * np.arange(3), path, CELL, velocities=v))
    estimate = displacement_velocity_estimate(runs, EDGES, lag=dt, kT=1.0)
    # the displacement holds v[1]/2 twice and is halved: <D v> = kT M / 2
    theory = estimate.theory(Oracle()).scaled(0.5)
    z = pulls(estimate, theory)
    assert (z @ z) / len(z) < 2.2
    assert estimate.kind == "displacement-velocity"


def test_active_recovers_known_mobility():
    estimate = active_estimate(
        driven(np.random.default_rng(1), 60, 6), EDGES, lag=2e-3, skip=2e-3, samples=3000
    )
    assert estimate.blocks == 60
    theory = estimate.theory(Oracle())
    z = pulls(estimate, theory)
    assert (z @ z) / len(z) < 2.2
    scale, error = estimate.scale(theory)
    assert abs(scale - 1) < 3 * error and error < 0.05


def test_without_noise_each_sample_is_its_own_theory():
    """One pair at fixed distance, no noise: the regression is exact."""
    x = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    rng = np.random.default_rng(2)
    m = Oracle().matrix(x, np.eye(3) * 10)
    runs = []
    for _ in range(8):
        f = rng.normal(size=(2, 3))
        v = (m @ f.reshape(-1)).reshape(2, 3)
        both = np.stack([f, f])
        runs.append(Trajectory([0, 1e-9], np.stack([x, x + 1e-9 * v]), np.eye(3) * 10, forces=both))
    estimate = active_estimate(runs, [2.9, 3.1], lag=1e-9)
    assert estimate.self_mobility == pytest.approx(m[0, 0], rel=1e-5)
    assert estimate.par[0] == pytest.approx(m[0, 3], rel=1e-5)
    assert estimate.perp[0] == pytest.approx((m[1, 4] + m[2, 5]) / 2, rel=1e-5)
    np.testing.assert_allclose(estimate.theory(Oracle()).par, m[0, 3], rtol=1e-6)


def test_known_interactions_are_added():
    """A mobility that is constant in every bin, without noise: exact with the repulsion, else not."""
    from mlcore.data.geometry import minimum_image

    wca, rng = WCA(2.8, 1.0), np.random.default_rng(4)
    edges, own = np.array([2.0, 3.0, 5.0, 12.0]), 1.0
    par, perp = np.array([0.4, 0.2, 0.1]), np.array([0.3, -0.1, 0.05])
    runs, tau = [], 1e-9
    for _ in range(40):
        x = apart(rng, 6, 2.2)
        external = rng.normal(size=(6, 3))
        force = external + wca(x[None], CELL)[0]
        d = minimum_image(x[:, None] - x[None], CELL)
        r = np.linalg.norm(d, axis=-1) + 99 * np.eye(6)
        u = d / r[..., None]
        b = np.digitize(r, edges) - 1
        inside = (b < 3)[..., None]
        along = (u * force[None]).sum(-1, keepdims=True) * u
        k = np.minimum(b, 2)
        pair = par[k][..., None] * along + perp[k][..., None] * (force[None] - along)
        velocity = own * force + (inside * pair).sum(1)
        path = np.stack([x, x + tau * velocity])
        runs.append(Trajectory([0, tau], path, CELL, forces=np.stack([external, external])))
    estimate = active_estimate(runs, edges, lag=tau, interactions=wca)
    assert estimate.self_mobility == pytest.approx(own, rel=1e-5)
    np.testing.assert_allclose(estimate.par, par, rtol=1e-4)
    np.testing.assert_allclose(estimate.perp, perp, rtol=1e-4)
    without = active_estimate(runs, edges, lag=tau)
    assert abs(without.par[0] - par[0]) > 0.05
    with pytest.raises(InvalidArgument, match="interactions should return"):
        active_estimate(runs, edges, lag=tau, interactions=lambda x, cell, pbc: x[..., :2])


def test_wca_is_minus_the_gradient_and_obeys_newton():
    rng = np.random.default_rng(0)
    x = (rng.uniform(0, 1, (1, 12, 3)) @ CELL).repeat(2, 0)
    wca = WCA(3.0, 1.7)
    force = wca(x, CELL)
    np.testing.assert_allclose(force.sum(1), 0, atol=1e-9 * abs(force).max())

    def energy(y):
        from mlcore.data.geometry import minimum_image

        i, j = np.triu_indices(12, 1)
        r = np.linalg.norm(minimum_image(y[i] - y[j], CELL), axis=1)
        r = r[r < 2 ** (1 / 6) * 3.0]
        return (4 * 1.7 * ((3 / r) ** 12 - (3 / r) ** 6) + 1.7).sum()

    h = 1e-6
    for p, k in ((0, 0), (5, 1), (11, 2)):
        up, down = x[0].copy(), x[0].copy()
        up[p, k] += h
        down[p, k] -= h
        gradient = (energy(up) - energy(down)) / (2 * h)
        assert force[0, p, k] == pytest.approx(-gradient, rel=1e-4, abs=1e-5 * abs(force).max())


def test_segments_take_the_force_from_the_last_frame():
    forces = np.zeros((7, 1, 3))
    forces[:, 0, 0] = [9, 1, 1, 1, 2, 2, 1]  # frame 0 tells nothing
    run = Trajectory(np.arange(7.0), np.zeros((7, 1, 3)), forces=forces)
    assert force_segments(run) == [(0, 3), (3, 5), (5, 6)]


def test_singular_designs_are_named():
    rng = np.random.default_rng(6)

    def zero(rng, k, n, x):
        return np.zeros((n, 3))

    def balanced(rng, k, n, x):
        f = rng.normal(size=(n, 3)).round(3)
        return f - f.mean(0)

    def same(rng, k, n, x):
        return np.tile(rng.normal(size=3), (n, 1))

    for draw, message in (
        (zero, "all forces are zero"),
        (balanced, "sum to zero"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            active_estimate(driven(rng, 12, 5, draw=draw), EDGES, lag=2e-3)
    # the same force on both particles of a pair at rest: self and pair parts act together
    x = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    runs = []
    for k in range(12):
        f = np.tile(same(rng, k, 2, x), (2, 1, 1))
        runs.append(Trajectory([0, 1.0], np.stack([x, x]), np.eye(3) * 10, forces=f))
    with pytest.raises(InvalidArgument, match="do not tell these parts apart: self, par"):
        active_estimate(runs, [2, 4], lag=1.0)
    # forces along the line of centres only
    runs = []
    for _ in range(12):
        f = np.zeros((2, 2, 3))
        f[:, :, 0] = rng.normal(size=2)
        runs.append(Trajectory([0, 1.0], np.stack([x, x]), np.eye(3) * 10, forces=f))
    with pytest.raises(InvalidArgument, match=r"no force acts along the part\(s\) perp 2-4"):
        active_estimate(runs, [2, 4], lag=1.0)


def test_self_part_alone_and_empty_bins():
    rng = np.random.default_rng(8)
    one = Trajectory(
        np.arange(40.0),
        np.cumsum(rng.normal(size=(40, 1, 3)), 0),
        np.eye(3) * 9,
        forces=np.ones((40, 1, 3)),
    )
    estimate = active_estimate(one, None, lag=2.0, block=8.0)
    assert estimate.bins == 0 and estimate.self_error > 0 and len(estimate.par) == 0
    passive = passive_estimate(jumps(rng, 40, 3), [0.1, 0.2, 12.0], lag=1e-4, kT=1.0)
    assert passive.counts[0] == 0 and np.isnan(passive.par[0]) and np.isfinite(passive.par[1])
    assert passive.chi2(passive.theory(Oracle())).count == 2


def test_arguments_are_checked(passive_runs):
    run = passive_runs[:3]
    for change, message in (
        ({"edges": [1]}, "edges"),
        ({"edges": [3, 2]}, "edges"),
        ({"edges": [-1, 2]}, "edges"),
        ({"lag": 1.5e-4}, "not a multiple"),
        ({"lag": -1.0}, "lag should be"),
        ({"lag": 1.0}, "too long"),
        ({"kT": 0.0}, "kT"),
        ({"trajectories": []}, "empty"),
        ({"trajectories": run[:1]}, "at least 2 blocks"),
        ({"resamples": 3}, "resamples"),
        ({"trajectories": [run[0], Trajectory([0, 1e-4], run[0].positions)]}, "another box"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            passive_estimate(
                **{"trajectories": run, "edges": EDGES, "lag": 1e-4, "kT": 1.0} | change
            )
    with pytest.raises(InvalidArgument, match="no velocities"):
        displacement_velocity_estimate(run, EDGES, lag=1e-4, kT=1.0)
    with pytest.raises(InvalidArgument, match="no forces"):
        active_estimate(run, EDGES, lag=1e-4)
    with pytest.raises(InvalidArgument, match="left after skipping"):
        active_estimate(driven(np.random.default_rng(0), 3, 3), EDGES, lag=2e-3, skip=1.0)


def test_theory_takes_functions_and_checks_the_lag(passive_runs):
    estimate = passive_estimate(passive_runs[:30], EDGES, lag=1e-4, kT=1.0)
    steady = estimate.theory(Oracle())

    def tensors(d):
        return Oracle().matrix(np.stack([d, 0 * d], 1), CELL)[:, :3, 3:]

    np.testing.assert_allclose(estimate.theory(tensors).par, steady.par)
    assert np.isnan(estimate.theory(tensors).self_mobility)
    lag = FiniteLag(1e-4, 1e5)
    late = estimate.theory(Oracle(), lag)
    assert late.self_mobility < steady.self_mobility
    given = estimate.theory(tensors, FlowDeficit(lag, RADIUS, VISCOSITY))
    np.testing.assert_allclose(given.par, late.par)
    with pytest.raises(InvalidArgument, match="no radius"):
        estimate.theory(tensors, lag)
    with pytest.raises(InvalidArgument, match=r"lag 0\.2"):
        estimate.theory(Oracle(), FiniteLag(0.2, 1.0))
    with pytest.raises(InvalidArgument, match="estimator"):
        estimate.theory(Oracle(), FiniteLag(1e-4, 1.0, "displacement-velocity"))
    with pytest.raises(InvalidArgument, match="should return"):
        estimate.theory(lambda d: d)


def test_save_and_load(tmp_path, passive_runs):
    estimate = passive_estimate(passive_runs[:30], EDGES, lag=1e-4, kT=1.0)
    path = tmp_path / "e.npz"
    estimate.save(path)
    again = MobilityEstimate.load(path)
    for name in ("edges", "r", "par", "par_error", "perp", "covariance", "cell", "counts", "kind"):
        np.testing.assert_array_equal(getattr(again, name), getattr(estimate, name))
    assert (again.self_mobility, again.lag, again.kT) == (estimate.self_mobility, 1e-4, 1.0)
    for a, b in zip(again.directions, estimate.directions, strict=True):
        np.testing.assert_array_equal(a, b)
    data = path.read_bytes()
    for bad, message in (
        (b"", "saved estimate|read"),
        (data[: len(data) // 2], "saved estimate"),
        (b"hello", "saved estimate"),
    ):
        path.write_bytes(bad)
        with pytest.raises(FileFormatError, match=message):
            MobilityEstimate.load(path)
    for field, value, message in (
        ("par", np.zeros(2), "field par should have shape"),
        ("kind", np.array("other"), "field kind"),
        ("directions_0", np.zeros(3), "field directions_0"),
        ("perp", None, "field perp is missing"),
        ("r", np.array(["a"] * 5), "field r should hold numbers"),
    ):
        estimate.save(path)
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays = arrays | {field: value}
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        with pytest.raises(FileFormatError, match=message):
            MobilityEstimate.load(path)
    with pytest.raises(FileFormatError, match="cannot be read"):
        MobilityEstimate.load(tmp_path / "no.npz")


def test_scale_and_chi2_are_right_for_a_made_up_estimate(passive_runs):
    estimate = passive_estimate(passive_runs[:60], EDGES, lag=1e-4, kT=1.0)
    same = BinnedTheory(estimate.self_mobility, estimate.par / 2, estimate.perp / 2)
    assert estimate.scale(same)[0] == pytest.approx(2.0)
    moved = BinnedTheory(0.0, estimate.par + estimate.par_error, estimate.perp)
    assert estimate.chi2(moved, 2.0).value == pytest.approx(5.0)
    assert estimate.chi2(moved, 4.0).value == pytest.approx(3.0)
    assert estimate.chi2(moved, 4.0).reduced == pytest.approx(0.5)
    with pytest.raises(InvalidArgument, match="no bin beyond"):
        estimate.scale(same, 50.0)


def relaxing(rng, n=400, tau=5.0, drift=0.0):
    """Velocity = white noise minus what relaxes over tau: the mobility grows to a plateau."""
    runs = []
    for _ in range(12):
        v = np.zeros((n, 4, 3))
        noise = rng.normal(size=(n, 4, 3))
        for k in range(1, n):
            v[k] = v[k - 1] * np.exp(-1 / tau) + noise[k]
        path = v.cumsum(0) * (1 + drift * 0)
        path += drift * np.arange(n)[:, None, None] * rng.normal(size=(1, 4, 3))
        runs.append(Trajectory(np.arange(n, dtype=float), path, np.eye(3) * 1e4))
    return runs


def test_lag_scan_finds_a_plateau_or_says_that_there_is_none():
    rng = np.random.default_rng(7)
    lags = [1, 2, 5, 50, 70, 100]
    scan = lag_scan(relaxing(rng), lags, None, kT=1.0)
    assert scan.self_plateau is not None
    assert scan.self_plateau.first >= 5 and scan.self_plateau.last == 100
    assert scan.self_mobility[0] < 0.5 * scan.self_plateau.value
    assert "plateau for lags" in scan.table()
    drifting = lag_scan(relaxing(rng, drift=1.0), lags, None, kT=1.0)
    assert drifting.self_plateau is None and "no plateau" in drifting.statement
    with pytest.raises(InvalidArgument, match="three"):
        lag_scan(relaxing(rng)[:2], [1, 2], None, kT=1.0)


def test_finite_lag_limits():
    d = np.array([[0, 0, 0], [3.0, 1.0, -2.0], [5.0, 0.1, 0.3]])
    long = FlowDeficit(FiniteLag(1e9, 1.0), RADIUS, VISCOSITY).pair_tensor(d, CELL)
    assert abs(long).max() < 1e-6
    green_kubo = FiniteLag(50.0, 1.0, "displacement-velocity")
    einstein = FiniteLag(50.0, 1.0)
    fast = FlowDeficit(green_kubo, RADIUS, VISCOSITY).self_part(CELL)
    slow = FlowDeficit(einstein, RADIUS, VISCOSITY).self_part(CELL)
    assert np.trace(fast) < 0.1 * np.trace(slow)
    # at lag zero the whole flow is missing: the sum over modes is the mobility of two such spheres
    none = FlowDeficit(FiniteLag(1e-12, 1.0, "displacement-velocity", modes=16), RADIUS, VISCOSITY)
    whole = Oracle().matrix(np.array([[0, 0, 0], [5.0, 0.1, 0.3]]), CELL)[:3, 3:]
    np.testing.assert_allclose(
        none.pair_tensor(d[2:], CELL)[0], whole, atol=0.01 * abs(whole).max()
    )


def test_finite_lag_in_a_large_box_is_that_in_open_space():
    lag = FiniteLag(4.0, 0.5, modes=24)
    deficit = FlowDeficit(lag, RADIUS, VISCOSITY)
    d = np.array([[0, 0, 0], [2.5, 0, 0], [1.0, -2.0, 2.0]])
    size = 40.0
    open_space = deficit.pair_tensor(d)
    boxed = deficit.pair_tensor(d, np.eye(3) * size)
    # images, and the zero mode, take off a constant of order 1/L, the same for close pairs
    shift = open_space - boxed
    assert abs(np.trace(shift[0]) / 3) < 3 / (6 * np.pi * VISCOSITY * size)
    difference = shift - shift[0]
    assert abs(difference).max() < 0.01 * abs(open_space[0]).max()


def test_finite_lag_matrix_is_symmetric_and_positive():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, (7, 3))
    deficit = FlowDeficit(FiniteLag(3.0, 0.5), RADIUS, VISCOSITY)
    for cell in (CELL, None):
        m = deficit.matrix(x, cell)
        np.testing.assert_allclose(m, m.T, atol=1e-15)
        assert np.linalg.eigvalsh(m).min() > -1e-12 * abs(m).max()
    with pytest.raises(InvalidArgument, match="lag"):
        FlowDeficit(FiniteLag(0.0, 1.0), RADIUS, VISCOSITY)


def self_estimate(value, error, length):
    nothing = np.empty(0)
    return MobilityEstimate(
        np.zeros(1),
        nothing,
        value,
        error,
        nothing,
        nothing,
        nothing,
        nothing,
        np.empty(0, dtype=np.int64),
        None,
        "active",
        1.0,
        1.0,
        np.eye(3) * length,
        (),
    )


def test_infinite_box():
    lengths = [12.0, 16.0, 20.0, 30.0]
    exact = [2.0 + image_correction(np.eye(3) * s, 1.0) / 0.7 for s in lengths]
    assert exact == sorted(exact) and max(exact) < 2
    estimates = [self_estimate(v, 0.01, s) for v, s in zip(exact, lengths, strict=True)]
    fixed = infinite_box_mobility(estimates, 1.0, 0.7)
    assert fixed.mobility == pytest.approx(2.0) and fixed.error == pytest.approx(0.005)
    free = infinite_box_mobility(estimates, 1.0)
    assert (free.mobility, free.viscosity) == pytest.approx((2.0, 0.7))
    assert fixed.chi2.count == 3 and free.chi2.count == 2
    with pytest.raises(InvalidArgument, match="two different boxes"):
        infinite_box_mobility(estimates[:1], 1.0)
    with pytest.raises(InvalidArgument, match="empty"):
        infinite_box_mobility([], 1.0)


def test_image_correction_is_the_self_part_of_periodic_rpy():
    cube = np.eye(3) * 9.0
    own = periodic_rpy(cube, np.zeros((1, 1, 3)), 1.0, 1.0)[0]
    expected = np.trace(own) / 3 - 1 / (6 * np.pi)
    assert image_correction(cube, 1.0) == pytest.approx(expected, rel=1e-5)


def test_runs_are_grouped_by_box():
    x = np.zeros((2, 1, 3))
    runs = [Trajectory([0, 1], x, np.eye(3) * s) for s in (4, 2, 4)]
    assert [len(g) for g in group_by_box(runs)] == [1, 2]
    with pytest.raises(InvalidArgument, match="no periodic box"):
        group_by_box([Trajectory([0, 1], x)])
