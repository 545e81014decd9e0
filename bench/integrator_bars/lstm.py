"""The LSTM of arXiv:2004.06493 where it does best: a double well, one mass, steps of 0.4.

There is no bar on its error after long times, because nothing the network learned holds it back: errors
of a step add up in energy and phase until its orbit is another one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from bars import Measured
from mlcore import md
from mlcore.integrators import LSTMIntegrator
from mlcore.integrators.metrics import horizon, separation

STEP, WINDOW = 0.4, 5


def runs(x0: np.ndarray, end: float) -> md.Dataset:
    return md.sweep("double_well", {"x0": x0}, dt=1e-3, time=end, every=round(STEP / 1e-3))


def double_well() -> Iterator[Measured]:
    """120 runs, starts at +-[1.5, 3.1]; the defaults of `fit`."""
    one_side = np.linspace(1.5, 3.1, 60)
    data = runs(np.concatenate([one_side, -one_side]), 100.0)
    start = time.process_time()
    learned = LSTMIntegrator().fit(data)
    yield Measured("training, CPU s", time.process_time() - start, most=150)
    assert learned.training is not None
    batches = learned.training.epochs * -(
        -len(data) * 9 // 10 * (data.positions.shape[1] - 5) // 64
    )
    yield Measured("updates of the weights", batches)
    yield from judged("x0 = -2", learned, runs(np.array([-2.0]), 2000.0), bars=True)
    rng = np.random.default_rng(1)
    unseen = rng.uniform(1.5, 3.1, 20) * rng.choice([-1, 1], 20)
    yield from judged("20 unseen starts", learned, runs(unseen, 2000.0))


def judged(
    name: str, learned: LSTMIntegrator, truth: md.Dataset, bars: bool = False
) -> Iterator[Measured]:
    forced = learned.teacher_forced(truth)
    own = learned.rollout(truth.frames(slice(WINDOW)), truth.positions.shape[1] - WINDOW)
    assert forced.accepted.all() and own.accepted.all(), (forced.refused, own.refused)
    errors = [separation(found.positions, truth.positions[:, WINDOW:]) for found in (forced, own)]
    t = own.times
    yield Measured(
        f"{name}: one step from true windows, mean", errors[0].mean(), 1e-3 if bars else None
    )
    yield Measured(f"{name}: the same, largest", errors[0].max())
    early = errors[1][:, t <= 10].mean(1)
    yield Measured(
        f"{name}: own roll-out, mean to t = 10", float(np.median(early)), 1e-2 if bars else None
    )
    for end in (100.0, t[-1]):
        error = float(np.median(errors[1][:, t <= end].mean(1)))
        yield Measured(f"{name}: the same to t = {end:.0f}", error)
    when = float(np.median(horizon(t, errors[1])))
    yield Measured(f"{name}: error above 0.1 from t", when, least=15 if bars else None)
    system = truth.system_of(0)
    x, v = own.positions[..., 0, 0], own.velocities[..., 0, 0]
    potential = system.energies_forces(x.reshape(-1, 1, 1))[0].reshape(x.shape)
    first = truth.energy[:, :1]
    away = np.abs((potential + 0.5 * v**2 - first) / first)
    yield Measured(
        f"{name}: energy off, to t = 10, over the first", float(np.median(away[:, t <= 10].max(1)))
    )
    yield Measured(f"{name}: the same to t = {t[-1]:.0f}", float(np.median(away.max(1))))


bars = {"LSTM, double well": double_well}
