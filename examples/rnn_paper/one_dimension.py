"""Figs 3, 4 and 8: one particle in one dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import measures
import numpy as np
from mlcore import md
from mlcore.errors import Error
from mlcore.integrators import (
    ActionAngleIntegrator,
    LSTMIntegrator,
    PeriodicContinuation,
    SymplecticIntegrator,
    VerletIntegrator,
    evaluate,
    largest_acceptable_step,
    starts,
)
from mlcore.integrators.costs import verlet_seconds
from mlcore.integrators.metrics import growth, horizon, separation
from settings import SMALL, WINDOW, Array, Size, Work, seed_of

SPLIT, SPLIT_END = 0.4, 2000.0  # step of the learned splitting, and to what time it is followed
LONGEST = 200.0  # of the runs that networks learn from
FAR_APART = 4.0  # frames of the action-angle map, whatever its window: each costs the same
LARGER = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Case:
    """One potential: what the paper sweeps and names, and where unseen starts lie.

    Attributes:
        title: in words.
        system: of `mlcore.md`.
        low, high: starts of the paper's sweep.
        mass: of the test.
        named: starts that the paper names.
        unseen: ends of the range of others.
        taught: ends of the range that the integrators which work learn from.
        teach: number of runs, length and steps between frames of those; harmonics.
        kicks, degree: of the learned splitting, or none.
        fixed: parameters that are not swept.
        over: those that are.
    """

    title: str
    system: str
    low: float
    high: float
    mass: float
    named: tuple[float, ...]
    unseen: tuple[float, float]
    taught: tuple[float, float]
    teach: tuple[int, float, int, int]
    splitting: tuple[int, int] | None
    fixed: Mapping[str, float]
    over: Mapping[str, tuple[float, float, int]]


CASES = {
    "oscillator": Case(
        "harmonic oscillator", "oscillator", -10, -1, 10.0, (-1.0,), (-9.7, -1.3), (-10, -0.9),
        (20, 100, 10, 32), (4, 4), {"k": 1.0}, {"k": (1, 10, 4)},
    ),
    "lennard_jones": Case(
        "Lennard-Jones particle", "fixed_lennard_jones", 1.03, 3.0, 1.0, (2.0, 2.5), (1.25, 2.8),
        (1.2, 2.9), (120, 200, 10, 2048), (12, 40), {}, {},
    ),
    "double_well": Case(
        "double well", "double_well", -3.1, 3.1, 1.0, (-2.0,), (1.65, 3.0), (1.6, 3.05),
        (60, 200, 10, 128), (10, 24), {}, {},
    ),
    "rugged": Case(
        "rugged potential", "rugged", -6.1, 6.1, 1.0, (-6.0,), (-6.05, -5.5), (-6.08, -5.47),
        (900, 40, 5, 768), None, {}, {},
    ),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------- runs
def truth(case: Case, name: str, work: Work) -> md.Dataset:
    """Runs nothing learns from, by velocity Verlet at 1e-3: the starts the paper names, then others."""
    rng = np.random.default_rng(seed_of(name))
    x0 = [*case.named, *rng.uniform(*case.unseen, work.size.tests - len(case.named))]
    return md.sweep(
        case.system,
        {"x0": x0},
        fixed={**case.fixed, "mass": case.mass},
        dt=SMALL,
        time=work.size.end,
        every=100,
        path=work.runs(f"{name}_test"),
    )


def paper_sweep(case: Case, name: str, step: float, work: Work) -> md.Dataset:
    """The paper's sweep, starts between those of its grid, to at most t = 200."""
    size = work.size
    count = size.starts // round(np.prod([n for *_, n in case.over.values()]))
    grid = np.linspace(case.low, case.high, count + 1)
    over: dict[str, Any] = {k: np.linspace(a, b, n) for k, (a, b, n) in case.over.items()}
    over["mass"] = np.linspace(1, 10, size.masses) if size.masses > 1 else [case.mass]
    over["x0"] = 0.5 * (grid[1:] + grid[:-1])
    return md.sweep(
        case.system,
        over,
        fixed={k: v for k, v in case.fixed.items() if k not in over},
        dt=SMALL,
        time=step * min(size.frames, round(max(200.0, 40 * step) / step)),
        every=round(step / SMALL),
        path=work.runs(f"{name}_lstm_{step:g}"),
    )


def one_mass(step: float, work: Work) -> md.Dataset:
    """The easiest task: a double well, one mass, starts above the barrier."""
    side = np.linspace(1.505, 3.095, 60)
    return md.sweep(
        "double_well",
        {"x0": np.concatenate([side, -side])},
        dt=SMALL,
        time=100,
        every=round(step / SMALL),
        path=work.runs("double_well_one_mass"),
    )


# ------------------------------------------------------------------------------------------- learning
def learned_lstm(
    name: str, data: Callable[[], md.Dataset], seconds: float, work: Work
) -> LSTMIntegrator:
    """The paper's network: two layers of 32, five frames of positions and velocities."""

    def make() -> LSTMIntegrator:
        return LSTMIntegrator(margin=np.inf).fit(
            data(),
            seconds=seconds,
            checkpoint=work.folder / "checkpoints" / name,
            progress=work.watched,
        )

    return work.model(name, LSTMIntegrator.load, make)


def action_angle(case: Case, name: str, work: Work) -> ActionAngleIntegrator:
    """Frequencies and shapes of orbits; one model for all steps."""
    runs, time, every, harmonics = case.teach

    def make() -> ActionAngleIntegrator:
        system = md.named(case.system, **case.fixed)
        data = md.sweep(
            case.system,
            {"x0": starts(system, *case.taught, runs)},
            fixed={**case.fixed, "mass": case.mass},
            dt=SMALL,
            time=time,
            every=every,
            path=work.runs(f"{name}_action_angle"),
        )
        return ActionAngleIntegrator(harmonics=harmonics).fit(data)

    return work.model(f"{name}_action_angle", ActionAngleIntegrator.load, make)


def splitting(case: Case, name: str, work: Work) -> SymplecticIntegrator:
    """A learned reversible step of 0.4."""
    assert case.splitting is not None
    kicks, degree = case.splitting
    low, high = case.taught

    def make() -> SymplecticIntegrator:
        x0 = np.linspace(low, high, 60)
        data = md.sweep(
            case.system,
            {"x0": np.concatenate([x0, -x0 - 0.01]) if case.system == "double_well" else x0},
            fixed={**case.fixed, "mass": case.mass},
            dt=SMALL,
            time=100 * SPLIT,
            every=round(SPLIT / SMALL),
            path=work.runs(f"{name}_splitting"),
        )
        return SymplecticIntegrator(kicks, degree, tolerance=1e-3).fit(data)

    return work.model(f"{name}_splitting", SymplecticIntegrator.load, make)


# ------------------------------------------------------------------------------------------- judging
def experiment(name: str, work: Work) -> dict[str, Any]:
    """Fig 3 for one potential, and Fig 8 for the Lennard-Jones particle."""
    case, size = CASES[name], work.size
    test = truth(case, name, work)
    networks = {
        step: learned_lstm(
            f"{name}_lstm_{step:g}",
            lambda step=step: paper_sweep(case, name, step, work),  # type: ignore[misc]
            size.seconds,
            work,
        )
        for step in size.steps
    }
    work.tell(f"{name}: roll-outs")
    found: dict[str, Any] = {
        "title": case.title,
        "named": {"m": case.mass, **case.fixed, "x0": list(case.named)},
        "runs": len(test),
        "truth": verlet_errors(case, test, size),
        "lstm": {
            f"{s:g}": measures.lstm(n, test.stride(round(s / 0.1))) for s, n in networks.items()
        },
    }
    works = {"action-angle": action_angle(case, name, work)}
    found["works"] = working(case, name, test, works["action-angle"], work)
    if name == "double_well":
        data = one_mass(SPLIT, work)
        best = learned_lstm(
            "double_well_lstm_one_mass", lambda: one_mass(SPLIT, work), size.seconds_best, work
        )
        found["best"] = measures.lstm(best, test.stride(round(SPLIT / 0.1)))
        found["best"]["runs"] = len(data)
    found["cost"] = cost(case, test)
    found["gates"] = report(name, networks, works["action-angle"], test, work)
    if name == "lennard_jones":
        found["fig_8"] = fig_8(test, networks)
    return found


def working(
    case: Case, name: str, test: md.Dataset, learned: ActionAngleIntegrator, work: Work
) -> dict[str, Any]:
    """The integrators that work, and what learns nothing."""
    found: dict[str, Any] = {}
    for step in work.size.steps:
        frames = WINDOW * round(step / 0.1)
        window = test.frames(slice(frames)).stride(round(step / 0.1))
        last = (WINDOW - 1) * round(step / 0.1)
        true = test.frames(slice(last, None)).stride(round(FAR_APART / 0.1))
        made = learned.rollout(window, measures.count(true, 1), FAR_APART)
        key = f"action-angle, {step:g}"
        found[key] = measures.judged(made, true, 1)
        found[key]["step_seconds"] = measures.seconds_of(
            lambda n, window=window: learned.rollout(window[:1], n)  # type: ignore[misc]
        )
    if case.splitting is not None:
        made = splitting(case, name, work)
        true = test.frames(slice(round(SPLIT_END / 0.1) + 1)).stride(round(SPLIT / 0.1))
        window = true.frames(slice(1))
        key = f"splitting, {SPLIT:g}"
        found[key] = measures.judged(made.rollout(window, measures.count(true, 1)), true, 1)
        found[key]["step_seconds"] = measures.seconds_of(lambda n: made.rollout(window[:1], n))
    found["periodic"] = periodic(case, test, work.size.steps[-1])
    return found


def periodic(case: Case, test: md.Dataset, step: float) -> dict[str, Any]:
    """Periodic continuation of the small steps that the paper's kick-start makes."""
    every = round(step / 0.1)
    kick = (WINDOW - 1) * every
    while True:
        system = test.system_of(0)
        run = system.run(
            test.positions[:, 0], test.velocities[:, 0], dt=SMALL, steps=kick * 100, every=1,
            mass=test.masses,
        )  # fmt: skip
        dense = md.Dataset(
            test.system, run.positions, run.velocities, run.potential, run.kinetic, test.masses,
            SMALL, test.parameters, test.fixed, test.provenance,
        )  # fmt: skip
        true = test.frames(slice(kick, None)).stride(every)
        frames = PeriodicContinuation().rollout(dense, measures.count(true, 1), step)
        if not any(frames.refused) or 4 * kick > test.positions.shape[1]:
            break
        kick *= 2
    found = measures.judged(frames, true, 1)
    return found | {"kick_start": kick * 100}


def verlet_errors(case: Case, test: md.Dataset, size: Size) -> dict[str, Any]:
    """Velocity Verlet with larger steps beside the truth; the truth beside the differential equation."""
    window, found = test.frames(slice(1)), {}
    for dt in LARGER:
        frames = max(1, round(dt / 0.1))
        true = test.stride(frames)
        try:
            made = VerletIntegrator(dt).rollout(window, measures.count(true, 1), true.interval)
        except Error as error:
            found[f"{dt:g}"] = {"lost": str(error)[:80]}
            continue
        own = separation(made.positions, true.positions[:, 1:])
        law = growth(made.times, np.maximum.accumulate(own[0]), limit=0.3)
        found[f"{dt:g}"] = {
            "curve": measures.binned(made.times, own),
            "growth": None if law is None else [law.law, law.exponent, *law.misfit],
            "at_1000": _near(made.times, own[0], 1000.0),
            "end": _near(made.times, own[0], made.times[-1]),
            "horizon": float(np.median(horizon(made.times, own))),
        }
    exact = VerletIntegrator(0.01, "order8").rollout(window[:1], measures.count(test, 1), 0.1)
    own = separation(exact.positions, test.positions[:1, 1:])
    return {"verlet": found, "off_the_equation": _near(exact.times, own[0], exact.times[-1])}


def _near(times: Array, error: Array, when: float) -> float:
    """Largest error within 20 before a time."""
    some = (times <= when) & (times > when - 20)
    return float(error[some].max()) if some.any() else float("nan")


def cost(case: Case, test: md.Dataset) -> dict[str, float]:
    """Of compiled small steps."""
    system, mass = test.system_of(0), test.masses
    x, v = test.positions[:, 0], test.velocities[:, 0]
    step = largest_acceptable_step(system, x, v, mass=mass)
    return {
        "acceptable": step,
        "verlet_seconds": verlet_seconds(system, x[:1], v[:1], mass[:1], SMALL),
    }


def report(
    name: str, networks: Mapping[float, Any], works: Any, test: md.Dataset, work: Work
) -> Mapping[str, Any]:
    """The whole evaluation at one step, and what predictions must pass."""
    step = SPLIT if SPLIT in networks else next(iter(networks))
    several = {"LSTM": networks[step], "action-angle": works}
    frames = min(250, measures.count(test.stride(round(step / 0.1)), WINDOW))
    made = evaluate(several, test, interval=step, frames=frames, forced=20, timing=False)
    made.save(work.folder / "reports" / f"{name}.html")
    return measures.gates(made)


def fig_8(test: md.Dataset, networks: Mapping[float, LSTMIntegrator]) -> dict[str, Any]:
    """First and 75th period from x0 = 2.5."""
    one = test[1]
    spans = [(0.0, 13.0), (987.0, 1000.0)]
    found: dict[str, Any] = {"spans": [s for s in spans if s[1] <= one.times[-1]]}
    system = one.system_of(0)

    def cut(t: Array, x: Array, v: Array) -> list[dict[str, Any]]:
        e = system.energies_forces(x[:, None, None])[0] + 0.5 * v**2
        parts = []
        for a, b in found["spans"]:
            s = (t >= a) & (t <= b)
            parts.append(
                {
                    "t": t[s],
                    "x": x[s],
                    "v": v[s],
                    "energy": (e[s] - one.energy[0, 0]) / abs(one.energy[0, 0]),
                }
            )
        return parts

    found["truth"] = cut(one.times, one.positions[0, :, 0, 0], one.velocities[0, :, 0, 0])
    for dt in (0.01, 0.05, 0.1):
        made = VerletIntegrator(dt).rollout(one.frames(slice(1)), measures.count(one, 1), 0.1)
        rows = made.positions[0, :, 0, 0], made.velocities[0, :, 0, 0]
        found[f"verlet {dt:g}"] = cut(made.times, *rows)
    for step, network in networks.items():
        true = one.stride(round(step / 0.1))
        n = measures.count(true, WINDOW)
        forced = network.teacher_forced(true)
        own = network.rollout(true.frames(slice(WINDOW)), n)
        for kind, made in (("forced", forced), ("own", own)):
            rows = made.positions[0, :, 0, 0], made.velocities[0, :, 0, 0]
            found[f"{kind} {step:g}"] = cut(true.times[WINDOW:], *rows)
    return found


# ---------------------------------------------------------------------------------------------- Fig 4
def perturbation(work: Work) -> dict[str, Any]:
    """A small momentum at the start: what becomes of it."""
    size, system = work.size, "fixed_lennard_jones"
    kicks = [0.0, 1e-3, 1e-4, 1e-5, -1e-3, -1e-4]
    test = md.sweep(
        system, {"v0": kicks}, fixed={"x0": 5.1}, dt=SMALL, time=200, every=100,
        path=work.runs("perturbation_test"),
    )  # fmt: skip
    step = size.steps[0]
    true = test.stride(round(step / 0.1))
    case = CASES["lennard_jones"]
    network = learned_lstm(
        f"lennard_jones_lstm_{step:g}",
        lambda: paper_sweep(case, "lennard_jones", step, work),
        size.seconds,
        work,
    )
    window, n = true.frames(slice(WINDOW)), measures.count(true, WINDOW)

    def make() -> SymplecticIntegrator:
        data = md.sweep(
            system, {"x0": np.linspace(1.13, 5.6, 90)}, dt=SMALL, time=210, every=100,
            path=work.runs("perturbation_splitting"),
        )  # fmt: skip
        return SymplecticIntegrator(10, 48, tolerance=1e-3).fit(data)

    learned = work.model("perturbation_splitting", SymplecticIntegrator.load, make)
    own = network.rollout(window, n).positions[..., 0, 0]
    forced = network.teacher_forced(true).positions[..., 0, 0]
    split = learned.rollout(test.frames(slice(WINDOW)), measures.count(test, WINDOW))
    exact = test.positions[..., 0, 0]
    force = float(abs(test.system_of(0).energies_forces(np.array([[[5.1]]]))[1].ravel()[0]))
    found: dict[str, Any] = {
        "kicks": kicks,
        "step": step,
        "force": force,
        "refused_at_margin": _refusal(network, window),
        "turning": float(test.times[exact[0].argmin()]),
        "apart": {
            "Verlet": _apart(exact),
            "LSTM, true frames": _apart(forced),
            "LSTM, own frames": _apart(own),
            "splitting": _apart(split.positions[..., 0, 0]),
        },
        "error": {
            "LSTM, true frames": _largest(forced - true.positions[:, WINDOW:, 0, 0]),
            "LSTM, own frames": _largest(own - true.positions[:, WINDOW:, 0, 0]),
            "splitting": _largest(split.positions[..., 0, 0] - exact[:, WINDOW:]),
        },
        "curves": {
            "t": test.times[::10],
            "Verlet": exact[:, ::10],
            "apart": np.abs(exact[1:4] - exact[0])[:, ::10],
            "t of LSTM": true.times[WINDOW:][::10],
            "apart, own frames": np.abs(own[1:4] - own[0])[:, ::10],
            "LSTM, true frames": forced[:, ::10],
            "LSTM, own frames": own[:, ::10],
        },
    }
    return found | {"long": _shear(size)}


def _apart(x: Array) -> list[float]:
    return [float(np.abs(row - x[0]).mean()) for row in x[1:]]


def _largest(x: Array) -> list[float]:
    return [float(np.abs(row).max()) for row in x]


def _refusal(network: LSTMIntegrator, window: md.Dataset) -> str:
    """What it says where windows may leave the ranges of the training by a tenth, as by default."""
    margin, network.margin = network.margin, 0.1
    said = network.rollout(window[:1], 1).refused[0]
    network.margin = margin
    return said


def _shear(size: Size) -> dict[str, Any]:
    """The distance of two neighbouring orbits over many periods: a power of t, not an exponential."""
    system, end = md.fixed_lennard_jones(), min(size.end, 1e4)
    x0 = np.array([2.5, 2.5 + 1e-6]).reshape(-1, 1, 1)
    run = system.run(x0, np.zeros_like(x0), dt=SMALL, steps=round(end / SMALL), every=100)
    apart = np.abs(run.positions[1] - run.positions[0])[1:, 0, 0]
    t = 0.1 * np.arange(1, len(apart) + 1)
    edges = np.geomspace(30, end, 20)
    largest = [apart[(t >= a) & (t < b)].max() for a, b in pairwise(edges)]
    middle = np.sqrt(edges[1:] * edges[:-1])
    power = float(np.polyfit(np.log(middle), np.log(largest), 1)[0])
    return {"t": middle, "apart": largest, "power": power}
