"""Figs 5 and 9: Lennard-Jones particles in a periodic box and in a sphere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import measures
import numpy as np
from mlcore import md
from mlcore.errors import Error
from mlcore.integrators import (
    Frames,
    LSTMIntegrator,
    NBodyIntegrator,
    evaluate,
    lyapunov,
    not_truth_plus_scalar,
)
from mlcore.integrators.costs import verlet_seconds
from mlcore.integrators.metrics import horizon, separation
from settings import BOX, EPSILON, LIMIT, RADIUS, SMALL, WINDOW, Array, Work

ACCEPTABLE = 0.005  # the usual step of a Lennard-Jones liquid
TAUGHT = (
    0.025  # frames that the N-body integrator learns from; it learns steps of 1, 2 and 4 of them
)
NBODY_STEPS = (0.05, 0.1)


def fixed(n: int, place: str) -> dict[str, Any]:
    """Parameters of the system."""
    where = {"box": BOX} if place == "box" else {"radius": RADIUS}
    return {"n": n, "epsilon": EPSILON, **where}


def bound(n: int, place: str, first: int, count: int) -> Array:
    """Seeds of random starts at rest with E < -0.5: few particles may else not act on each other."""
    made = md.sweep(
        "lennard_jones",
        {"seed": np.arange(first, first + 30 * count)},
        fixed=fixed(n, place),
        dt=SMALL,
        time=SMALL,
    )
    return np.asarray(made.parameters["seed"][made.energy[:, 0] < -0.5][:count])


def truth(n: int, place: str, work: Work) -> md.Dataset:
    """Unseen random starts at rest."""
    size = work.size
    return md.sweep(
        "lennard_jones",
        {"seed": bound(n, place, 100_000, size.tests)},
        fixed=fixed(n, place),
        dt=SMALL,
        time=size.end_particles,
        every=50,
        path=work.runs(f"{n}_{place}_test"),
    )


def network(n: int, place: str, step: float, work: Work) -> LSTMIntegrator:
    """The paper's network: two layers of 32, five frames of 6 n numbers; positions are not wrapped."""
    name = f"{n}_{place}_lstm_{step:g}"

    def make() -> LSTMIntegrator:
        size = work.size
        time = step * min(size.frames, round(size.longest / step))
        runs = min(size.runs, max(8, round(size.simulated / time)))
        data = md.sweep(
            "lennard_jones",
            {"seed": bound(n, place, 0, runs)},
            fixed=fixed(n, place),
            dt=SMALL,
            time=time,
            every=round(step / SMALL),
            path=work.runs(name),
        )
        return LSTMIntegrator(margin=np.inf).fit(
            data,
            seconds=size.seconds_particles,
            checkpoint=work.folder / "checkpoints" / name,
            progress=work.watched,
        )

    return work.model(name, LSTMIntegrator.load, make)


def nbody(n: int, work: Work) -> NBodyIntegrator:
    """Learned pair kicks, for steps of 0.025, 0.05 and 0.1."""
    size = work.size

    def make() -> NBodyIntegrator:
        data = md.sweep(
            "lennard_jones",
            {"seed": bound(n, "box", 0, size.taught)},
            fixed=fixed(n, "box"),
            dt=SMALL,
            time=size.taught_time,
            every=round(TAUGHT / SMALL),
            path=work.runs(f"{n}_box_nbody"),
        )
        return NBodyIntegrator(steps=(1, 2, 4), iterations=size.iterations).fit(data)

    return work.model(f"{n}_box_nbody", NBodyIntegrator.load, make)


def steppers(n: int, work: Work) -> dict[str, tuple[float, NBodyIntegrator]]:
    """One model at two steps, and with its energy put right after every step."""
    rescaled = nbody(n, work)
    found = {f"{step:g}": (step, nbody(n, work)) for step in NBODY_STEPS}
    rescaled.energy = "rescale"
    return found | {f"{NBODY_STEPS[-1]:g}, rescaled": (NBODY_STEPS[-1], rescaled)}


def experiment(n: int, place: str, work: Work) -> dict[str, Any]:
    """Errors, energies, and how far any trajectory means something."""
    size, name = work.size, f"{n}_{place}"
    test = truth(n, place, work)
    networks = {step: network(n, place, step, work) for step in size.steps}
    works = steppers(n, work) if place == "box" else {}
    work.tell(f"{name}: roll-outs")
    chaos = lyapunov(
        test.system_of(0), test.positions[:4, 0], test.velocities[:4, 0], time=size.exponent
    )
    cut = chaos.cut()
    found: dict[str, Any] = {
        "n": n,
        "place": place,
        "runs": len(test),
        "lyapunov": {"value": chaos.value, "error": chaos.error, "runs": chaos.runs, "cut": cut},
        "parted": parted(test),
        "verlet": verlet(test, work.size.end_particles),
        "lstm": {
            f"{s:g}": measures.lstm(one, test.stride(round(s / 0.05)), cut)
            for s, one in networks.items()
        },
        "nbody": {
            name: _nbody(one, test.stride(round(s / 0.05)), cut) for name, (s, one) in works.items()
        },
        "quality": [vars(q) for q in works["0.1"][1].quality] if works else [],
        "far": far(test, networks, works, work),
        "cost": cost(test),
        "gates": report(name, networks, works, test, work),
    }
    return found | {"scalar": scalar(test), "floor": floor(n, place)}


def _nbody(learned: NBodyIntegrator, true: md.Dataset, cut: float) -> dict[str, Any]:
    window = true.frames(slice(1))
    found = measures.judged(learned.rollout(window, measures.count(true, 1)), true, 1, cut=cut)
    found["step_seconds"] = measures.seconds_of(
        lambda n: learned.rollout(window[:1], n, num_threads=1)
    )
    one = true.frames(slice(min(true.positions.shape[1], 200)))
    stepped = [learned.step(one.frames(slice(k, k + 1))) for k in range(one.positions.shape[1] - 1)]
    box = one.system_of(0).box
    errors = [
        separation(f.positions[:, 0], one.positions[:, k + 1], box) for k, f in enumerate(stepped)
    ]
    return found | {"forced": float(np.mean(errors)), "straight": measures.straight(true)}


def parted(test: md.Dataset) -> dict[str, Any]:
    """When runs part that ought to be one: half the step, and starts that differ by rounding."""
    end = min(20.0, float(test.times[-1]))
    first = test.frames(slice(1))
    true = test.frames(slice(round(end / test.interval) + 1))
    found: dict[str, Any] = {}
    tests: dict[str, tuple[float, float]] = {"half the step": (0.5 * SMALL, 0.0)}
    tests |= {f"start moved by {d:g}": (SMALL, d) for d in (1e-4, 1e-8, 1e-12, 1e-15)}
    for name, (dt, moved) in tests.items():
        x = first.positions[:, 0].copy()
        x[:, 0, 0] += moved
        run = test.system_of(0).run(
            x, first.velocities[:, 0], dt=dt, steps=round(end / dt), every=round(test.interval / dt)
        )
        apart = separation(run.positions[:, 1:], true.positions[:, 1:], test.system_of(0).box)
        t = true.times[1:]
        found[name] = {
            "t": t[::2],
            "apart": np.median(apart, 0)[::2],
            "0.001": float(np.median(horizon(t, apart, 1e-3))),
            "0.1": float(np.median(horizon(t, apart, LIMIT))),
        }
    return found


def verlet(test: md.Dataset, end: float) -> dict[str, Any]:
    """Velocity Verlet with the paper's larger steps, in pieces so that its end is seen."""
    system, found = test.system_of(0), {}
    for dt in (ACCEPTABLE, 0.01, 0.04, 0.1):
        every = max(1, round(0.2 / dt))
        x, v = test.positions[:, 0], test.velocities[:, 0]
        parts, lost = [], None
        piece = max(1, round(2.0 / (every * dt)))
        for k in range(round(end / (piece * every * dt))):
            try:
                run = system.run(x, v, dt=dt, steps=piece * every, every=every)
            except Error:
                lost = k * piece * every * dt
                break
            x, v = run.positions[:, -1], run.velocities[:, -1]
            parts.append((run.positions[:, 1:], (run.potential + run.kinetic)[:, 1:]))
        told: dict[str, Any] = {"lost": lost}
        if parts:
            made, energy = (np.concatenate(p, 1) for p in zip(*parts, strict=True))
            t = every * dt * np.arange(1, made.shape[1] + 1)
            true = test.positions[:, :: round(every * dt / test.interval)][:, 1 : len(t) + 1]
            own = separation(made[:, : true.shape[1]], true, system.box)
            away = np.abs((energy - test.energy[:, :1]) / test.energy[:, :1])
            told |= {
                "energy": float(np.median(away.max(1))),
                "energy_curve": measures.binned(t, away),
                "own_curve": measures.binned(t[: own.shape[1]], own),
                "horizon": float(np.median(horizon(t[: own.shape[1]], own, LIMIT))),
            }
        found[f"{dt:g}"] = told
    return found


def far(
    test: md.Dataset, networks: Mapping[str, Any], works: Mapping[str, Any], work: Work
) -> dict[str, Any]:
    """Fig 5: the change of one run's energy, as far as is affordable."""
    one, end = test[:1], work.size.far
    system, first = one.system_of(0), float(one.energy[0, 0])
    run = system.run(
        one.positions[:, 0], one.velocities[:, 0], dt=SMALL,
        steps=round(end / 4.0) * 4000, every=4000,
    )  # fmt: skip
    energy = (run.potential + run.kinetic)[:, 1:]
    t = 4.0 * np.arange(1, energy.shape[1] + 1)
    found = {"Verlet 0.001": measures.binned(t, np.abs((energy - first) / first))}
    several = {f"LSTM {s:g}": (s, one, WINDOW) for s, one in networks.items()}
    several |= {f"N-body {name}": (*told, 1) for name, told in works.items()}
    for name, (step, learned, size) in several.items():
        window = one.stride(round(step / one.interval)).frames(slice(size))
        found[name] = _away(system, _sparse(learned, window, step, min(end, 2e4)), first)
    return found


def _sparse(learned: Any, window: md.Dataset, step: float, end: float) -> Frames:
    made = learned.rollout(window, round(end / step) - WINDOW)
    some = np.unique(np.geomspace(1, len(made.times), 2000).astype(int) - 1)
    return Frames(made.times[some], made.positions[:, some], made.velocities[:, some], made.refused)


def _away(system: md.System, made: Frames, first: float) -> dict[str, Any]:
    energy = measures.energies(system, made, np.ones((1, system.particles)))
    away = np.abs((energy - first) / first)
    return measures.binned(made.times, away) | {"refused": list(made.refused)}


def floor(n: int, place: str, units: int = 32, starts: int = 1000) -> float:
    """Error by Eq 17 that no network of so many last units can fall below, on average over starts.

    Its last layer is linear, so all it can predict lies in a plane of that many dimensions. Of all
    planes the one of the principal components of the starts is the nearest to them.
    """
    system = md.lennard_jones(**fixed(n, place))
    x = np.stack([md.random_start(system, seed)[0] for seed in range(starts)]).reshape(starts, -1)
    if x.shape[1] <= units:
        return 0.0
    x -= x.mean(0)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    left = x - x @ axes[:units].T @ axes[:units]
    return float(np.linalg.norm(left.reshape(starts, n, 3), axis=2).mean())


def cost(test: md.Dataset) -> dict[str, float]:
    """Of compiled small steps, and of a plain Python loop over pairs."""
    system = test.system_of(0)
    x, v, m = test.positions[:1, -1], test.velocities[:1, -1], test.masses[:1]
    return {
        "acceptable": ACCEPTABLE,
        "verlet_seconds": verlet_seconds(system, x, v, m, SMALL),
        "python_seconds": measures.seconds_of(lambda n: _plain(x[0], system.box, n), 3),
    }


def _plain(x: Array, box: float | None, n: int) -> None:
    """Forces as a program without arrays would find them, n times."""
    rows = x.tolist()
    for _ in range(n):
        forces = [[0.0, 0.0, 0.0] for _ in rows]
        for i, a in enumerate(rows):
            for j in range(i):
                d = [p - q for p, q in zip(a, rows[j], strict=True)]
                if box is not None:
                    d = [one - box * round(one / box) for one in d]
                s = 1 / sum(one * one for one in d)
                if s > 0.16:
                    f = 48 * EPSILON * s * (s**6 - 0.5 * s**3)
                    for k in range(3):
                        forces[i][k] += f * d[k]
                        forces[j][k] -= f * d[k]


def report(
    name: str,
    networks: Mapping[str, Any],
    works: Mapping[str, Any],
    test: md.Dataset,
    work: Work,
) -> Mapping[str, Any]:
    """The whole evaluation at one step, and what predictions must pass."""
    step = min(networks)
    several = {"LSTM": networks[step]} | ({"N-body": works["0.1"][1]} if works else {})
    frames = min(500, measures.count(test.stride(round(step / test.interval)), WINDOW))
    made = evaluate(several, test, interval=step, frames=frames, forced=20, timing=False)
    made.save(work.folder / "reports" / f"{name}.html")
    return measures.gates(made)


def scalar(test: md.Dataset) -> dict[str, Any]:
    """What a "prediction" looks like that is the truth plus one number in each frame."""
    true = test.positions[0]
    rng = np.random.default_rng(0)
    made = true + rng.normal(2.5e-3, 2.1e-4, (len(true), 1, 1))
    error = separation(made, true, test.system_of(0).box)
    gate = not_truth_plus_scalar(made, true)
    return {
        "mean": float(error.mean()),
        "least": float(error.min()),
        "largest": float(error.max()),
        "held": gate.held,
        "detail": gate.detail,
        "t": test.times[::20],
        "error": error[::20],
    }
