"""Any integrator on runs it has not seen, beside the truth and what needs no learning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import mlcore
from mlcore.arrays import flag, integer, number, positive
from mlcore.errors import Error, InvalidArgument
from mlcore.integrators import ensembles, measures
from mlcore.integrators.baselines import (
    BallisticIntegrator,
    PeriodicContinuation,
    VerletIntegrator,
)
from mlcore.integrators.chaos import Lyapunov, lyapunov, verlet_horizon
from mlcore.integrators.costs import acceptable, costs, verlet_seconds, written
from mlcore.integrators.face import Frames, Integrator
from mlcore.integrators.honesty import (
    Gate,
    no_peeking,
    not_truth_plus_scalar,
    simulation_time,
    unseen_runs,
)
from mlcore.integrators.setting import Curve, Setting, Value, Values, left_out
from mlcore.integrators.table import TRUTH, Column, Report
from mlcore.md import Dataset

__all__ = ["evaluate"]

PAPER_STEP = 1e-3
_WINDOW = 5
_SECONDS = 10.0  # for the Lyapunov exponent


def evaluate(
    integrator: Integrator | Mapping[str, Integrator],
    data: Dataset,
    *,
    window: int | None = None,
    interval: float | None = None,
    frames: int | None = None,
    forced: int = 100,
    dt: float | None = None,
    exponent: float | None = None,
    baselines: bool = True,
    timing: bool = True,
    discard: float = 0.2,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Rolls integrators out from the first frames of runs and tells how that compares with the rest.

    Args:
        integrator: one, or several by name, side by side. They may have `evaluations_per_step` and
            `energy_evaluations_per_step` (of the reference potential: numbers, or functions of the
            step), `kicks` (learned forces per step), `trained_on` (`fingerprints` of their runs) and
            `dense` (windows must hold the small steps, too).
        data: runs that were not trained on, whose frames are one large step apart or closer.
        window: frames that integrators are given; by default 5, as in the paper's program, or more
            where one needs them (its `window`).
        interval: the large step, a whole number of the data's; that of the data by default.
        frames: predicted, at most; all there are by default.
        forced: windows of true frames of each run, at most.
        dt: step with which the runs were made, where they do not tell it.
        exponent: Lyapunov's, where it is known; computed by default.
        baselines: also straight flight, periodic continuation (one dimension) and velocity Verlet with
            as many evaluations of the force as an integrator makes of learned ones.
        timing: whether to measure times of steps.
        discard: part of the frames that averages leave out at the beginning.
        progress: a function of what is being done.

    Raises:
        InvalidArgument: runs are too short, or a number is wrong.
    """
    tell = progress or (lambda text: None)
    several = integrator if isinstance(integrator, Mapping) else {_name(integrator): integrator}
    if not several or TRUTH in several:
        raise InvalidArgument(f"integrator must be one or more, none named {TRUTH!r}")
    for name, one in several.items():
        if not callable(getattr(one, "rollout", None)):
            raise InvalidArgument(
                f"integrator {name!r} has no rollout: it is a {type(one).__name__}"
            )
    if integer("forced", forced) < 1:
        raise InvalidArgument(f"forced must be at least 1, got {forced}")
    given = _frames_given(several.values()) if window is None else integer("window", window)
    setting = _setting(data, given, interval, frames, dt, number("discard", discard))
    tell("Lyapunov exponent")
    found = _exponent(setting, exponent)
    setting = replace(setting, cut=float("inf") if found is None else found.cut(setting.limit))
    tell("reference")
    work = _Work(setting, forced, flag("timing", timing))
    columns = [work.truth()]
    for name, one in several.items():
        tell(name)
        columns.append(work.column(name, one))
    for name, one in _baselines(several, setting).items() if baselines else ():
        tell(name)
        columns.append(work.column(name, one, baseline=True))
    return Report(
        tuple(columns), work.facts(found), setting.cut, found, work.until, dict(data.provenance)
    )


def _name(integrator: Integrator) -> str:
    return type(integrator).__name__.removesuffix("Integrator")


def _frames_given(integrators: Iterable[Any]) -> int:
    told = [getattr(one, "window", 0) for one in integrators]
    return max([_WINDOW, *(size for size in told if isinstance(size, int))])


def _setting(
    data: Dataset,
    window: int,
    interval: float | None,
    frames: int | None,
    dt: float | None,
    discard: float,
) -> Setting:
    if not isinstance(data, Dataset):
        raise InvalidArgument(f"data must be a Dataset of runs, got {type(data).__name__}")
    if interval is not None:
        k = round(positive("interval", interval) / data.interval)
        if k < 1 or abs(k * data.interval - interval) > 1e-9 * interval:
            raise InvalidArgument(
                f"interval must be a whole number of the data's {data.interval:g}, got {interval}"
            )
        data = data.stride(k)
    if integer("window", window) < 1:
        raise InvalidArgument(f"window must be at least 1, got {window}")
    if frames is not None:
        if integer("frames", frames) < 1:
            raise InvalidArgument(f"frames must be at least 1, got {frames}")
        data = data.frames(slice(window + frames))
    if data.positions.shape[1] <= window:
        raise InvalidArgument(
            f"data must hold more frames than the window of {window}, got {data.positions.shape[1]}"
        )
    if not 0 <= discard < 1:
        raise InvalidArgument(f"discard must lie in 0 .. 1, got {discard}")
    request = data.provenance.get("request", {})
    usual = PAPER_STEP if data.system_of(0).forces else data.interval
    step = request.get("dt", usual) if dt is None else dt
    truth = str(request.get("truth", "verlet"))
    return Setting(data, window, positive("dt", step), truth, discard=discard)


def _exponent(setting: Setting, known: float | None) -> Lyapunov | None:
    """None in one dimension, where errors grow linearly."""
    if setting.particles * setting.dim < 2:
        return None
    if known is not None:
        value = positive("exponent", known)
        return Lyapunov(value, float("nan"), (value,), float("inf"))
    if not setting.forces_known:
        return None
    system, runs = setting.groups[0]
    runs = runs[:4]
    rest, mass = setting.rest, setting.data.masses[runs]
    x, v = rest.positions[runs, -1], rest.velocities[runs, -1]
    step = PAPER_STEP if setting.truth != "verlet" else setting.dt
    second = verlet_seconds(system, x[:1], v[:1], mass[:1], step)
    time = float(np.clip(_SECONDS * step / (second * 2 * len(runs)), 10.0, 100.0))
    return lyapunov(system, x, v, mass=mass, dt=step, time=time, warm_up=0.1 * time)


def _baselines(several: Mapping[str, Integrator], setting: Setting) -> dict[str, Any]:
    found: dict[str, Any] = {"straight flight": BallisticIntegrator()}
    given = {type(one) for one in several.values()}
    if setting.particles * setting.dim == 1 and setting.forces_known:
        found["periodic"] = PeriodicContinuation()
    for one in several.values():
        passes = getattr(one, "kicks", None)
        if isinstance(passes, int) and passes > 0 and setting.forces_known:
            found[f"Verlet x{passes}"] = VerletIntegrator(setting.interval / passes)
    return {
        name: one
        for name, one in found.items()
        if name not in several and (type(one) not in given or isinstance(one, VerletIntegrator))
    }


class _Work:
    """What columns share."""

    def __init__(self, setting: Setting, forced: int, timing: bool) -> None:
        self.setting, self.forced, self.timing = setting, forced, timing
        self.step = acceptable(setting) if setting.forces_known else 0.0
        self.until = tuple(measures.times_told(setting))
        self.verlet = 0.0
        if timing and setting.forces_known:
            first = setting.first[:1]
            state = first.positions[:, -1], first.velocities[:, -1], first.masses
            self.verlet = verlet_seconds(setting.system, *state, self.step)
        self.reference = ensembles.measured(setting, setting.reference)

    def facts(self, exponent: Lyapunov | None) -> dict[str, str]:
        """What the table needs to be read."""
        setting, data = self.setting, self.setting.data
        begin = f"{setting.window} frames, {setting.times[-1]:g} time units predicted after them"
        told = {
            "system": f"{data.system}, {len(data)} runs, {setting.particles} particles",
            "truth": _truth(setting),
            "large step": _large(setting),
            "window": begin,
            "trajectories mean something": _meaning(setting, exponent),
        }
        if setting.forces_known:
            told["errors of the truth"] = "velocity Verlet from itself with half the step"
        if self.step:
            told["largest acceptable small step"] = f"{self.step:g}"
        if self.verlet:
            told["one compiled small step"] = f"{written(self.verlet)} on one thread"
        told["mlcore"] = mlcore.__version__
        return told

    # -- columns
    def truth(self) -> Column:
        """The runs themselves: how far they may be trusted, and how far apart they are."""
        setting = self.setting
        reference = setting.reference
        values, curves = measures.conservation(setting, reference)
        values |= measures.equipartition(setting, reference)
        values |= ensembles.scatter(self.reference)
        found, more = self._parted()
        values |= found
        if self.step:
            values["forces"] = Value(setting.interval / self.step)
        if self.verlet:
            seconds = self.verlet * setting.interval / self.step
            values["seconds"] = Value(seconds, written(seconds))
        curves = {**curves, **more, **_averages(self.reference)}
        if not isinstance(self.reference, str):
            curves |= self.reference.bands
        return Column(TRUTH, _truth(setting), values, curves)

    def _parted(self) -> tuple[Values, dict[str, Curve]]:
        """Verlet beside Verlet with half the step, from the same frames."""
        setting = self.setting
        if not setting.forces_known:
            why = left_out("the forces of these runs are not known")
            return dict.fromkeys(("horizon", "growth"), why), {}
        parts = []
        most = setting.n
        if np.isfinite(setting.cut):
            most = min(most, int(1.2 * setting.cut / setting.interval) + 1)
        step = setting.dt
        if setting.truth != "verlet":
            step = setting.interval / max(1, round(setting.interval / PAPER_STEP))
        for system, runs in setting.groups:
            state = setting.first[runs]
            parts.append(
                verlet_horizon(
                    system,
                    state.positions[:, -1],
                    state.velocities[:, -1],
                    dt=step,
                    interval=setting.interval,
                    frames=most,
                    mass=state.masses,
                    limit=setting.limit,
                )[1]
            )
        # runs of one system end when all of them have parted: they stay so
        seen = max(part.shape[1] for part in parts)
        padded = [
            np.pad(p, ((0, 0), (0, seen - p.shape[1])), constant_values=np.inf) for p in parts
        ]
        apart = np.concatenate(padded)
        values = measures.horizons(setting, apart)
        times = setting.times[:seen]
        for end in self.until:
            early = apart[:, times <= end * (1 + 1e-9)]
            if end <= min(times[-1] * (1 + 1e-9), setting.cut) and np.isfinite(early).all():
                values[f"error_{end:g}"] = Value(float(early.mean()))
        shown = np.where(np.isfinite(apart), apart, np.nan)
        curve = times, np.nanmedian(shown, 0)
        return values, {f"Verlet {step:g} from {step / 2:g}": curve}

    def column(self, name: str, integrator: Any, baseline: bool = False) -> Column:
        """One integrator."""
        setting, rolled, frames = self._rolled(integrator)
        if not isinstance(frames, str):
            _check(name, frames, setting)
            frames = measures.until_blown(setting, frames)
        what = repr(integrator)
        if isinstance(frames, str):
            cells = dict.fromkeys(("horizon", "energy_largest", "g_l1"), left_out(frames))
            return Column(name, what, cells, baseline=baseline)
        stepped = measures.teacher_forced(integrator, setting, self.forced)
        values, curves = measures.one_step(stepped)
        for end in self.until:
            values[f"forced_{end:g}"] = measures.forced(stepped, end)
        values["horizon_forced"] = _horizon_forced(stepped, setting)
        found, more = measures.autoregressive(setting, frames, self.until)
        values, curves = values | found, curves | more
        if not (baseline and isinstance(integrator, BallisticIntegrator)):
            found, more = self._kept(integrator, setting, rolled, frames)
            values, curves = values | found, curves | more
        gates = () if baseline else self._gates(integrator, setting, rolled, frames)
        refused = {run: why for run, why in enumerate(frames.refused) if why}
        return Column(name, what, values, curves, gates, refused, baseline)

    def _kept(
        self, integrator: Any, setting: Setting, window: Dataset, frames: Frames
    ) -> tuple[Values, dict[str, Curve]]:
        """What is conserved, averages, and costs."""
        values, curves = measures.conservation(setting, frames)
        values |= measures.reversibility(integrator, setting, frames)
        values |= measures.equipartition(setting, frames)
        averages = ensembles.measured(setting, frames)
        values |= ensembles.beside(averages, self.reference)
        if self.timing and setting.forces_known and frames.accepted.any():
            parts = integrator, setting, window, setting.interval, self.verlet, self.step
            values |= costs(*parts)
        return values, curves | _averages(averages)

    def _rolled(self, integrator: Any) -> tuple[Setting, Dataset, Frames | str]:
        """Frames predicted, from which window, and what they are to be compared with."""
        setting = self.setting
        try:
            if not getattr(integrator, "dense", False):
                window = setting.first
                return setting, window, integrator.rollout(window, setting.n, setting.interval)
            return self._dense(integrator)
        except Error as error:
            return setting, setting.first, str(error)

    def _dense(self, integrator: Any) -> tuple[Setting, Dataset, Frames]:
        """With all small steps of the kick-start; it is doubled until no run is refused."""
        setting = self.setting
        most = setting.data.positions.shape[1] - 1
        length = setting.window
        while True:
            own = replace(setting, window=length)
            window = _small_steps(own)
            frames = integrator.rollout(window, own.n, own.interval)
            if frames.accepted.all() or max(2 * length - 1, 3) > most // 2:
                return own, window, frames
            length = max(2 * length - 1, 3)

    def _gates(
        self, integrator: Any, setting: Setting, window: Dataset, frames: Frames
    ) -> tuple[Gate, ...]:
        few = setting.data[: min(3, len(setting.data))]
        frames_given, n = setting.window, min(5, setting.n)
        if getattr(integrator, "dense", False):  # small steps go on after the window, too
            frames_given = window.positions.shape[1]
            few = _small_steps(replace(setting, data=few, window=setting.window + 1))
        peeked = no_peeking(
            integrator, few, window=frames_given, steps=n, interval=setting.interval
        )
        return (
            unseen_runs(integrator, setting.data),
            peeked,
            not_truth_plus_scalar(frames.positions, setting.rest.positions),
            simulation_time(frames, setting.interval),
        )


def _small_steps(setting: Setting) -> Dataset:
    """The window, with every small step in it."""
    every = max(1, round(setting.interval / setting.dt))
    data = setting.data
    steps = (setting.window - 1) * every
    shape = (len(data), steps + 1, *data.positions.shape[2:])
    x, v = np.empty(shape), np.empty(shape)
    for system, runs in setting.groups:
        made = system.run(
            data.positions[runs, 0],
            data.velocities[runs, 0],
            dt=setting.interval / every,
            steps=steps,
            mass=data.masses[runs],
            truth=setting.truth,
            energies=False,
        )
        x[runs], v[runs] = made.positions, made.velocities
    blank = np.zeros(shape[:2])
    return replace(
        data,
        positions=x,
        velocities=v,
        potential=blank,
        kinetic=blank,
        interval=setting.interval / every,
    )


def _check(name: str, frames: Frames, setting: Setting) -> None:
    wanted = setting.rest.positions.shape
    if not isinstance(frames, Frames):
        raise InvalidArgument(f"integrator {name!r} must give Frames, got {type(frames).__name__}")
    for quantity in ("positions", "velocities"):
        array = getattr(frames, quantity)
        if not isinstance(array, np.ndarray) and not (quantity == "velocities" and array is None):
            raise InvalidArgument(f"integrator {name!r} must give {quantity} as an array")
    if frames.velocities is not None and frames.velocities.shape != frames.positions.shape:
        raise InvalidArgument(
            f"integrator {name!r} must give as many velocities as positions, got "
            f"{frames.velocities.shape} and {frames.positions.shape}"
        )
    if np.shape(frames.positions) != wanted or len(frames.times) != wanted[1]:
        raise InvalidArgument(
            f"integrator {name!r} must give frames of the shape {wanted}, got "
            f"{np.shape(frames.positions)} at {len(frames.times)} times"
        )
    if len(frames.refused) != wanted[0]:
        raise InvalidArgument(f"integrator {name!r} must tell of {wanted[0]} runs what it refused")


def _averages(found: ensembles.Ensemble | str) -> dict[str, Curve]:
    return {} if isinstance(found, str) else found.curves


def _horizon_forced(found: measures.Forced | str, setting: Setting) -> Value:
    if isinstance(found, str):
        return left_out(found)
    wrong = found.times[found.error > setting.limit]
    if len(wrong) == 0:
        return Value(None, f">{found.times.max():.3g}")
    return Value(float(wrong.min()))


def _large(setting: Setting) -> str:
    if not setting.forces_known:
        return f"{setting.interval:g}"
    return f"{setting.interval:g} = {setting.interval / setting.dt:g} small ones"


def _truth(setting: Setting) -> str:
    words = {"verlet": "velocity Verlet", "order8": "order 8, the differential equation"}
    if not setting.forces_known:
        return "recorded runs"
    return f"{words.get(setting.truth, setting.truth)}, dt = {setting.dt:g}"


def _meaning(setting: Setting, exponent: Lyapunov | None) -> str:
    if exponent is None:
        if setting.particles * setting.dim == 1:
            return "always: in one dimension errors grow linearly, no exponent is positive"
        return "not known: the forces of these runs are not"
    spread = f" +- {exponent.error:.2g}" if np.isfinite(exponent.error) else ""
    told = f"Lyapunov exponent {exponent.value:.3g}{spread}"
    if not np.isfinite(setting.cut):
        return f"always: {told}, not told from linear growth"
    return f"to t = ln(0.1 / 1e-16) / {exponent.value:.3g} = {setting.cut:.3g} ({told})"
