"""Steps put together of drifts and kicks, against exact motion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.composition import TUNED, parts
from numpy.typing import NDArray

Array = NDArray[np.float64]
DT, MASS, ACCELERATION = 10.0, 6.0, 9.648533e-3  # fs, u (reduced, of two carbons), A/fs^2 of eV/A/u
DEPTH, STIFF = 6.0, 2.0  # eV, 1/A: a bond of carbon, 22.6 fs


def stepped(
    force: Callable[[Array], Array], x: Array, v: Array, kicks: int, tuned: bool, steps: int = 1
) -> tuple[Array, Array]:
    drifts, pushes = parts(kicks, tuned)
    dt = DT / steps
    for _ in range(steps):
        x = x + drifts[0] * dt * v
        for drift, push in zip(drifts[1:], pushes, strict=True):
            v = v + push * dt * ACCELERATION / MASS * force(x)
            x = x + drift * dt * v
    return x, v


def morse(x: Array) -> Array:
    return -2 * DEPTH * STIFF * (np.exp(-STIFF * x) - np.exp(-2 * STIFF * x))


def error(energy: float, kicks: int, tuned: bool) -> float:
    """Of the velocity after a step, in parts of its change, in the mean over phases."""
    phase = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = np.sqrt(energy / DEPTH) / STIFF * np.cos(phase)
    v = np.sqrt(2 * energy * ACCELERATION / MASS) * np.sin(phase)
    _, exact = stepped(morse, x, v, 1, False, steps=20_000)
    _, found = stepped(morse, x, v, kicks, tuned)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact - v))


@pytest.mark.parametrize("energy", [0.026, 0.3, 1.0])
def test_tuned_parts_follow_a_bond_closer(energy: float) -> None:
    assert error(energy, TUNED, True) < error(energy, TUNED, False) / 2.5
    assert error(energy, TUNED, True) < error(energy, 5, False) / 4


@pytest.mark.parametrize("period", [20.0, 30.0, 100.0])
def test_tuned_parts_follow_oscillators(period: float) -> None:
    angle = 2 * np.pi / period
    stiffness = MASS * angle**2 / ACCELERATION

    def worst(tuned: bool) -> float:
        x, v = stepped(
            lambda x: -stiffness * x, np.array([1.0, 0]), np.array([0, angle]), TUNED, tuned
        )
        exact = np.cos(angle * DT), np.sin(angle * DT)
        return float(np.abs(x - [exact[0], exact[1]]).max())

    assert worst(True) < 0.012
    assert worst(True) < worst(False) / 2.5


@pytest.mark.parametrize(("kicks", "tuned"), [(1, False), (5, False), (6, False), (6, True)])
def test_parts_add_up_and_read_the_same_from_the_end(kicks: int, tuned: bool) -> None:
    drifts, pushes = parts(kicks, tuned)
    assert len(drifts) == len(pushes) + 1 == kicks + 1
    assert sum(drifts) == pytest.approx(1, abs=1e-15)
    assert sum(pushes) == pytest.approx(1, abs=1e-15)
    assert drifts == pytest.approx(drifts[::-1], abs=0)
    assert pushes == pytest.approx(pushes[::-1], abs=0)


def test_steps_can_be_gone_back() -> None:
    x, v = np.array([0.1]), np.array([0.02])
    there = stepped(morse, x, v, TUNED, True)
    back = stepped(morse, there[0], -there[1], TUNED, True)
    np.testing.assert_allclose([back[0], -back[1]], [x, v], atol=1e-14)


def test_other_numbers_have_no_tuned_parts() -> None:
    with pytest.raises(
        InvalidArgument, match="tuned: there are tuned parts for 6 kicks, not for 5"
    ):
        parts(5, tuned=True)
