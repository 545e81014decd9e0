"""Labels of stress curves, and what frames tell: known answers."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.carbon import TINY, Yield, cut, first_peak, modulus, seed_noise, yield_point
from mlcore.sagesnet.carbon.labels import smooth, toughness
from mlcore.sagesnet.carbon.observables import (
    Damage,
    bond_lengths,
    bonds,
    coordination,
    damage,
    kinetic_temperature,
    pair_density,
    tear,
)

STRAIN = np.arange(1, 501) * 1e-3


def _curve(*knots: tuple[float, float]) -> np.ndarray:
    return np.interp(STRAIN, *zip(*knots, strict=True))


def test_the_label_is_the_maximum_before_the_first_deep_fall() -> None:
    # a ripple of 10 %, the maximum at 0.2, a fall to a half, and more stress far behind it
    stress = _curve((0, 0), (0.1, 50), (0.12, 45), (0.2, 80), (0.25, 40), (0.5, 120))
    found = yield_point(STRAIN, stress)
    assert found.fallen and abs(found.strain - 0.2) < 0.003 and abs(found.stress - 80) < 3
    assert yield_point(STRAIN, stress, drop=0.05).strain == pytest.approx(0.1, abs=0.003)
    assert yield_point(STRAIN, stress, drop=0.6).strain == pytest.approx(0.5, abs=0.006)
    peak = first_peak(STRAIN, stress)
    assert peak == Yield(pytest.approx(0.1), pytest.approx(50.0), True)  # type: ignore[arg-type]


def test_noise_is_no_yield_and_a_curve_without_a_fall_says_so() -> None:
    rng = np.random.default_rng(0)
    rising = _curve((0, 0), (0.5, 100)) + rng.normal(0, 1, 500)
    found = yield_point(STRAIN, rising)
    assert not found.fallen and found.strain > 0.45
    assert first_peak(STRAIN, rising).strain < 0.1  # that rule takes noise for a peak
    small = _curve((0, 0), (0.05, 1.0), (0.1, 0.1), (0.4, 60), (0.45, 10), (0.5, 10))
    assert yield_point(STRAIN, small).strain == pytest.approx(0.4, abs=0.006)
    assert first_peak(STRAIN, _curve((0, 0), (0.5, 100))) == Yield(0.5, 100.0, False)


def test_smoothing_keeps_lines_and_takes_noise_away() -> None:
    line = 3 + 5 * STRAIN
    assert np.allclose(smooth(STRAIN, line, 0.02), line)
    noise = np.random.default_rng(1).normal(size=500)
    assert smooth(STRAIN, noise, 0.02)[20:-20].std() < 0.4
    assert np.array_equal(smooth(STRAIN, noise, 1e-5), noise) or np.allclose(
        smooth(STRAIN, noise, 1e-5), noise
    )


def test_modulus_toughness_and_the_noise_of_seeds() -> None:
    slope, error = modulus(STRAIN, 900 * STRAIN - 2000 * STRAIN**2)
    assert slope == pytest.approx(900) and error < 1e-6
    assert toughness(STRAIN, np.full(500, 4.0), 0.2) == pytest.approx(4 * 0.199)
    labels = [("a", 0.1), ("a", 0.3), ("b", 0.2), ("c", 0.5), ("c", 0.5)]
    noise, free = seed_noise(labels)
    assert noise == pytest.approx(np.sqrt(0.02 / 2)) and free == 2
    assert np.isnan(seed_noise([("a", 1.0)])[0])


def test_bad_curves_are_refused() -> None:
    for x, y in [([], []), ([0.0, 1.0], [1.0]), ([1.0, 0.0], [1.0, 2.0]), ([0.0], [np.nan])]:
        with pytest.raises(InvalidArgument):
            yield_point(x, y)
    with pytest.raises(InvalidArgument, match="until"):
        modulus(STRAIN, STRAIN, until=0.002)


def test_observables_of_a_perfect_sheet() -> None:
    x = cut("111", TINY).positions
    assert set(np.unique(coordination(x))) <= {1, 2, 3}
    assert 2 * len(bonds(x)) == coordination(x).sum()
    edges, density = bond_lengths(x)
    assert density @ np.diff(edges) == pytest.approx(1)
    assert edges[np.argmax(density)] <= 4.118 / 3 <= edges[np.argmax(density) + 1]
    r, told = pair_density(x, cutoff=2.0, bins=200)
    counted = (told * 4 / 3 * np.pi * ((r + 0.005) ** 3 - (r - 0.005) ** 3)).sum() * len(x)
    assert counted == pytest.approx(2 * len(bonds(x)))
    assert abs(r[np.argmax(told)] - 4.118 / 3) < 0.01


def test_kinetic_temperature_is_maxwell_s() -> None:
    rng = np.random.default_rng(2)
    spread = np.sqrt(units.kB * 300 / 12.011) * units.fs
    v = rng.normal(0, spread, (40, 500, 3))
    v[:, 0] = 100.0
    mobile = np.arange(500) > 0
    assert kinetic_temperature(v, mobile=mobile).mean() == pytest.approx(300, rel=0.02)
    with pytest.raises(InvalidArgument, match="mobile"):
        kinetic_temperature(v, mobile=np.zeros(500, bool))


def test_a_sheet_torn_in_two_yields_where_it_tears() -> None:
    sheet = cut("111", TINY)
    x, grip = sheet.positions, sheet.arrays["grip"]
    right = x[:, 0] > x[:, 0].mean()
    gaps = np.concatenate([np.linspace(0, 0.4, 20), np.linspace(1.0, 3.0, 20)])
    frames = x + gaps[:, None, None] * right[None, :, None] * [1.0, 0.0, 0.0]
    found = damage(frames, grip)
    assert found.broken[:20].max() == 0 and found.hanging[:20].all()
    assert not found.hanging[20:].any() and found.broken[-1] >= 9
    strains = np.linspace(0, 0.39, 40)
    told = tear(strains, found)
    assert told.fallen and told.strain == pytest.approx(strains[19])
    assert not tear(strains[:20], Damage(found.broken[:20], found.hanging[:20])).fallen
    # bonds that heal are none that are broken for good
    healed = Damage(np.array([0, 9, 0, 0, 5, 6]), np.ones(6, bool))
    assert tear(np.arange(6) / 10, healed).strain == pytest.approx(0.3)
