"""Observables against cases with a known answer."""

import numpy as np
import pytest
from mlcore import InvalidArgument
from mlcore.mobility import observables


def walkers(rng, runs=6, frames=400, n=30, box=10.0, diffusion=0.02, interval=0.5):
    """Independent Brownian walkers: D(k) = D for every k, MSD = 6 D t, S(k) = 1."""
    step = np.sqrt(2 * diffusion * interval)
    start = rng.uniform(0, box, (runs, 1, n, 3))
    moves = step * rng.normal(size=(runs, frames - 1, n, 3))
    return list(np.concatenate([start, start + moves.cumsum(axis=1)], axis=1))


def test_mean_square_displacement_of_free_walkers(rng):
    curve = observables.mean_square_displacement(walkers(rng), 0.5, [1, 4, 16])
    assert np.allclose(curve.x, [0.5, 2, 8])
    assert np.all(np.abs(curve.value - 6 * 0.02 * curve.x) < 4 * curve.error)
    assert np.all(curve.error < 0.1 * curve.value)


def test_diffusion_of_free_walkers_is_the_same_at_every_k(rng):
    waves = observables.smallest_wavevectors(10 * np.eye(3))
    result = observables.diffusion_spectrum(
        walkers(rng), 0.5, waves, [2, 8], (2, 8), static=np.ones(3)
    )
    assert np.all(np.abs(result.value - 0.02) < 4 * result.error)
    assert np.all(result.error < 0.1 * result.value)
    expected = np.exp(-0.02 * result.k[:, None] ** 2 * result.lags)
    assert np.all(np.abs(result.scattering - expected) < 4 * result.scattering_error + 1e-12)


def test_error_bars_have_the_right_size():
    """The spread over independent repeats agrees with the mean error bar."""
    waves = observables.smallest_wavevectors(10 * np.eye(3), 1)
    values, errors = [], []
    for seed in range(40):
        runs = walkers(np.random.default_rng(seed), runs=4, frames=200, n=10)
        msd = observables.mean_square_displacement(runs, 0.5, [4])
        dk = observables.diffusion_spectrum(runs, 0.5, waves, [4], (0, 4), static=[1.0])
        values.append([msd.value[0], dk.value[0]])
        errors.append([msd.error[0], dk.error[0]])
    assert np.allclose(np.std(values, axis=0), np.mean(errors, axis=0), rtol=0.35)


def test_a_window_removes_what_happened_before_it(rng):
    """Displacements blurred by a constant independent error: slope unchanged, ratio not."""
    runs = [run + 0.3 * rng.normal(size=run.shape) for run in walkers(rng)]
    waves = observables.smallest_wavevectors(10 * np.eye(3), 1)
    late = observables.diffusion_spectrum(runs, 0.5, waves, [2, 20], (2, 20))
    early = observables.diffusion_spectrum(runs, 0.5, waves, [2, 20], (0, 2))
    assert abs(late.value[0] - 0.02) < 4 * late.error[0]
    assert early.value[0] > 0.02 + 4 * early.error[0]


def test_static_structure_factor_of_a_lattice_and_of_a_gas(rng):
    waves = observables.smallest_wavevectors(10 * np.eye(3))
    gas = [rng.uniform(0, 10, (2000, 20, 3))]
    assert np.allclose(observables.structure_factor(gas, waves), 1, atol=0.1)
    lattice = np.stack(np.meshgrid(*[np.arange(5) * 2.0] * 3), -1).reshape(1, -1, 3)
    assert np.allclose(observables.structure_factor([lattice], waves), 0, atol=1e-12)


def test_wavevectors_are_the_shells_of_a_cube():
    groups = observables.smallest_wavevectors(4 * np.eye(3))
    lengths = [np.linalg.norm(group, axis=1) for group in groups]
    assert [len(group) for group in groups] == [3, 6, 4]
    for group, number in zip(lengths, (1, 2, 3), strict=True):
        assert np.allclose(group, 2 * np.pi / 4 * np.sqrt(number))


def test_wavevectors_fit_a_triclinic_cell():
    cell = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0.5, -1.0, 6.0]])
    for group in observables.smallest_wavevectors(cell):
        phases = group @ cell.T / (2 * np.pi)
        assert np.allclose(phases, np.round(phases))


def test_hydrodynamic_function_of_independent_particles_is_their_mobility(rng):
    waves = observables.smallest_wavevectors(10 * np.eye(3))
    x = [rng.uniform(0, 10, (7, 3)) for _ in range(3)]
    value, error = observables.hydrodynamic_function(x, [0.3 * np.eye(21)] * 3, waves)
    assert np.allclose(value, 0.3) and np.allclose(error, 0)


def test_hydrodynamic_function_is_the_quadratic_form(rng):
    wave = 2 * np.pi / 10 * np.array([[0.0, 0.0, 1.0]])
    root = rng.normal(size=(6, 6))
    matrix, x = root @ root.T, rng.uniform(0, 10, (2, 3))
    value, _ = observables.hydrodynamic_function([x, x], [matrix, matrix], [wave])
    off = np.cos(wave[0] @ (x[0] - x[1]))
    expected = (matrix[2, 2] + matrix[5, 5] + 2 * off * matrix[2, 5]) / 2
    assert value[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"runs": []}, "runs"),
        ({"runs": [np.zeros((9, 3))]}, "runs"),
        ({"interval": 0.0}, "interval"),
        ({"lags": [400]}, "lags"),
        ({"lags": [0]}, "lags"),
        ({"blocks": 0}, "blocks"),
    ],
)
def test_wrong_arguments_are_named(rng, change, name):
    arguments = {"runs": walkers(rng), "interval": 1.0, "lags": [1]} | change
    with pytest.raises(InvalidArgument, match=name):
        observables.mean_square_displacement(**arguments)


def test_a_wrong_window_and_a_flat_cell_are_named(rng):
    waves = observables.smallest_wavevectors(10 * np.eye(3))
    with pytest.raises(InvalidArgument, match="window"):
        observables.diffusion_spectrum(walkers(rng), 1.0, waves, [1], (4, 2))
    with pytest.raises(InvalidArgument, match="cell"):
        observables.smallest_wavevectors(np.ones((3, 3)))


@pytest.fixture
def rng():
    return np.random.default_rng(20240601)
