"""The numbers of an evaluation, part by part: each function gives cells by key, with reasons for gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import Error
from mlcore.integrators import metrics
from mlcore.integrators.face import Frames, Integrator
from mlcore.integrators.setting import (
    Curve,
    Setting,
    Value,
    Values,
    left_out,
    windows_as_runs,
)

__all__ = [
    "Forced",
    "autoregressive",
    "conservation",
    "equipartition",
    "finite",
    "forced",
    "horizons",
    "one_step",
    "reversibility",
    "teacher_forced",
    "times_told",
    "until_blown",
    "velocities_of",
]

Array = npt.NDArray[np.float64]
_BLOWN = 10.0  # times the largest kinetic energy of the truth
_BACK = 1000  # steps forth and back at most
_NUMBERS = 50_000_000  # in windows at once
_UNKNOWN = "the forces of these runs are not known"
_OVERLAP = 0.01  # of the energy, by which the potential one may exceed it at a turning point


# ----------------------------------------------------------------------------------- teacher forced
@dataclass(frozen=True, eq=False)
class Forced:
    """One step from each of M windows of true frames.

    Attributes:
        times: (M,) of the predicted frames, counted as in a roll-out.
        run: (M,).
        error: (M,); NaN where refused.
        straight: (M,) error of straight flight.
        r_squared: of changes of velocities; NaN without them.
        energy: (M,) |E - E_true| over |E_true|; NaN without velocities.
        refused: how many.
    """

    times: Array
    run: npt.NDArray[np.intp]
    error: Array
    straight: Array
    r_squared: float
    energy: Array
    refused: int


def teacher_forced(integrator: Integrator, setting: Setting, count: int) -> Forced | str:
    """Every step from a window of true frames, `count` of each run; or why there is none."""
    if getattr(integrator, "dense", False):
        return "windows of close frames hold the steps in between: nothing is predicted one by one"
    size = setting.window * setting.particles * setting.dim * len(setting.data)
    few = max(2, min(count, _NUMBERS // size))
    windows, run, after = windows_as_runs(setting.data, setting.window, few)
    try:
        made = integrator.rollout(windows, 1, setting.interval)
    except Error as error:
        return str(error)
    data, box = setting.data, setting.box
    x, v = data.positions[run, after], data.velocities[run, after]
    last_x, last_v = windows.positions[:, -1], windows.velocities[:, -1]
    straight = metrics.separation(last_x + setting.interval * last_v, x, box)
    predicted = velocities_of(made)[:, 0]
    known = np.isfinite(predicted).all((1, 2))
    r_squared = np.nan
    if known.any():
        change = (v - last_v)[known]
        if change.any():
            r_squared = metrics.r_squared((predicted - last_v)[known], change)
    owner = replace(setting, data=windows)
    total = owner.potential(made.positions)[:, 0]
    total = total + metrics.kinetic_energy(predicted[:, None], windows.masses)[:, 0]
    true = data.energy[run, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = np.abs(total - true) / np.abs(true)
    return Forced(
        np.asarray(setting.interval * (after - setting.window + 1)),
        run,
        metrics.separation(made.positions[:, 0], x, box),
        straight,
        r_squared,
        energy,
        int((~made.accepted).sum()),
    )


def velocities_of(frames: Frames) -> Array:
    """NaN where an integrator gives none."""
    if frames.velocities is None:
        return np.full_like(frames.positions, np.nan)
    return frames.velocities


def one_step(found: Forced | str) -> tuple[Values, dict[str, Curve]]:
    """One step at a time."""
    keys = ("one_step", "one_step_max", "one_step_ratio", "velocity_r2", "energy_forced")
    if isinstance(found, str) or not np.isfinite(found.error).any():
        why = found if isinstance(found, str) else "every window was refused"
        return {key: left_out(why) for key in keys}, {}
    fine = np.isfinite(found.error)
    mean = float(found.error[fine].mean())
    straight = float(found.straight[fine].mean())
    still = left_out("straight flight makes no error")
    values = {
        "one_step": Value(mean),
        "one_step_max": Value(float(found.error[fine].max())),
        "one_step_ratio": Value(mean / straight) if straight > 0 else still,
        "velocity_r2": Value(found.r_squared, f"{found.r_squared:.6f}")
        if np.isfinite(found.r_squared)
        else left_out("no velocities are predicted, or none changes"),
        "energy_forced": _largest(found.energy, "no velocities are predicted, or E is zero"),
    }
    times = np.unique(found.times)
    curve = np.array([_mean(found.error[found.times == t]) for t in times])
    return values, {"teacher forced": (times, curve)}


def _largest(values: Array, otherwise: str) -> Value:
    fine = values[np.isfinite(values)]
    return Value(float(fine.max())) if len(fine) else left_out(otherwise)


def _mean(values: Array) -> float:
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) else float("nan")


def forced(found: Forced | str, until: float) -> Value:
    """Mean teacher-forced error to some time."""
    if isinstance(found, str):
        return left_out(found)
    return _number(
        _mean(found.error[found.times <= until * (1 + 1e-9)]), "every window was refused"
    )


def _number(value: float, otherwise: str) -> Value:
    return Value(value) if np.isfinite(value) else left_out(otherwise)


# ------------------------------------------------------------------------------------ autoregressive
def finite(frames: Frames) -> npt.NDArray[np.bool_]:
    """(R,) runs that were predicted to the end."""
    return np.asarray(frames.accepted & np.isfinite(frames.positions).all((1, 2, 3)))


def until_blown(setting: Setting, frames: Frames) -> Frames:
    """The same, NaN from where a run's kinetic energy is beyond all that the truth has."""
    v = velocities_of(frames)
    with np.errstate(over="ignore", invalid="ignore"):
        kinetic = metrics.kinetic_energy(v, setting.data.masses)
    wrong = (kinetic > _BLOWN * setting.data.kinetic.max()) & frames.accepted[:, None]
    wrong |= ~np.isfinite(frames.positions).all((2, 3)) & frames.accepted[:, None]
    if not wrong.any():
        return frames
    after = np.logical_or.accumulate(wrong, 1)[:, :, None, None]
    x, v = (np.where(after, np.nan, values) for values in (frames.positions, v))
    return replace(frames, positions=x, velocities=v)


def times_told(setting: Setting) -> list[float]:
    """Times to which mean errors are told: powers of ten, and the end."""
    end = float(setting.times[-1])
    tens = [10.0**k for k in range(-3, 9) if 10 * setting.interval <= 10.0**k < 0.99 * end]
    return [*tens[-4:], end]


def autoregressive(
    setting: Setting, frames: Frames, until: Sequence[float]
) -> tuple[Values, dict[str, Curve]]:
    """Errors of a roll-out on its own frames, to some times, how far they hold and how they grow."""
    error = metrics.separation(frames.positions, setting.rest.positions, setting.box)
    accepted = frames.accepted
    values: Values = {}
    stopped = accepted & ~finite(frames)
    values["refused"] = Value(float((~accepted).sum()), f"{(~accepted).sum()} of {len(accepted)}")
    values["blown"] = _blown(setting, frames, stopped)
    if frames.redone:
        values["redone"] = Value(float(sum(frames.redone)))
    why = next((reason for reason in frames.refused if reason), "")
    for end in until:
        values[f"error_{end:g}"] = _mean_error(setting, error[accepted], end, why)
    if not accepted.any():
        return values | dict.fromkeys(("horizon", "growth"), left_out(why)), {}
    values |= horizons(setting, error[accepted])
    shown = np.where(np.isfinite(error[accepted]), error[accepted], np.nan)
    some = np.isfinite(shown).any(0)
    curve = np.full(setting.n, np.nan)
    curve[some] = np.nanmedian(shown[:, some], 0)
    worst = np.full(setting.n, np.nan)
    worst[some] = np.nanmax(shown[:, some], 0)
    return values, {
        "autoregressive": (setting.times, curve),
        "autoregressive, worst run": (setting.times, worst),
    }


def _blown(setting: Setting, frames: Frames, stopped: npt.NDArray[np.bool_]) -> Value:
    text = f"{stopped.sum()} of {len(stopped)}"
    if stopped.any():
        wrong = ~np.isfinite(frames.positions[stopped]).all((2, 3))
        text += f" (first at t = {setting.times[int(wrong.any(0).argmax())]:.3g})"
    return Value(float(stopped.sum()), text)


def _mean_error(setting: Setting, error: Array, end: float, why: str) -> Value:
    if len(error) == 0:
        return left_out(why)
    if end > setting.cut:
        return Value(
            None, "refused", f"after t = {setting.cut:.3g} an error of a trajectory means nothing"
        )
    part = error[:, setting.times <= end * (1 + 1e-9)]
    if not np.isfinite(part).all():
        return left_out("a run blew up before that time")
    return Value(float(part.mean()))


def horizons(setting: Setting, error: Array) -> Values:
    """Horizon and growth of errors (R, T)."""
    times = setting.times[: error.shape[1]]
    reached = metrics.horizon(times, error, setting.limit)
    middle = float(np.median(reached))
    low, high = (_time(float(f(reached)), times[-1]) for f in (np.min, np.max))
    text = f"{_time(middle, times[-1])} ({low} .. {high})"
    number = middle if np.isfinite(middle) else None
    grown = metrics.growth(times, error, setting.limit)
    if grown is None:
        told = left_out("the error does not grow over six frames and a factor of three below 0.1")
    elif grown.law == "exponential":
        told = Value(grown.rate, f"exp({grown.rate:.2g} t)")
    else:
        told = Value(grown.exponent, f"t^{grown.exponent:.2g}")
    return {"horizon": Value(number, text), "growth": told}


def _time(value: float, end: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else f">{end:.3g}"


# -------------------------------------------------------------------------------------- conservation
_CONSERVED = (
    "energy_largest",
    "energy_drift",
    "momentum_largest",
    "momentum_drift",
    "angular_largest",
    "temperature",
    "temperature_drift",
    "overlaps",
)


def conservation(setting: Setting, frames: Frames) -> tuple[Values, dict[str, Curve]]:
    """Energy, momentum and temperature along a roll-out."""
    runs, which = finite(frames), setting.looked_at
    whole = Frames(frames.times, frames.positions, velocities_of(frames), frames.refused)
    if not runs.any() or len(which) < 2:
        return {key: left_out("no run was predicted to the end") for key in _CONSERVED}, {}
    potential, kinetic = setting.energies(whole, which)
    first = setting.data.energy[:, setting.window - 1]
    values = {"overlaps": _overlaps(potential[runs], first[runs])}
    if not np.isfinite(kinetic[runs]).all():
        return {k: left_out("no velocities are predicted") for k in _CONSERVED} | values, {}
    if not setting.forces_known:
        dark = dict.fromkeys(("energy_largest", "energy_drift", "overlaps"), left_out(_UNKNOWN))
        found, curves = _moving(setting, whole, runs)
        return dark | found, curves
    times = setting.times[which]
    scale = setting.data.kinetic.max()
    found, curves = _energy(times, (potential + kinetic)[runs], first[runs], float(scale))
    values |= found
    found, more = _moving(setting, whole, runs)
    return values | found, curves | more


def _moving(
    setting: Setting, frames: Frames, runs: npt.NDArray[np.bool_]
) -> tuple[Values, dict[str, Curve]]:
    """What velocities alone tell."""
    v, masses = frames.velocities[runs], setting.data.masses[runs]
    values = _momentum(setting, v, masses, runs)
    values |= _angular(setting, frames.positions[runs], v, masses, runs)
    found, curves = _temperature(setting, v, masses)
    own = found["temperature"]
    if own.number is not None and not runs.all():
        known = _temperature(setting, setting.rest.velocities[runs], masses)[0]["temperature"]
        found["temperature"] = replace(own, text=f"{own}; truth of these runs {known}")
    return values | found, curves


def _overlaps(potential: Array, first: Array) -> Value:
    wrong = int((potential > first[:, None] + _OVERLAP * np.abs(first[:, None])).sum())
    return Value(float(wrong), f"{wrong} of {potential.size}")


def _energy(
    times: Array, energy: Array, first: Array, scale: float
) -> tuple[Values, dict[str, Curve]]:
    if (np.abs(first) <= 1e-9 * scale).any():
        why = "a run's energy is zero, there is nothing to divide by"
        return {"energy_largest": left_out(why), "energy_drift": left_out(why)}, {}
    change = (energy - first[:, None]) / np.abs(first)[:, None]
    found = metrics.drift(times, change, np.zeros(len(change)))
    values = {
        "energy_largest": Value(float(found.largest.max())),
        "energy_drift": Value(float(np.abs(found.fitted).max())),
    }
    return values, {"energy": (times, np.abs(change).max(0))}


def _momentum(setting: Setting, v: Array, masses: Array, runs: npt.NDArray[np.bool_]) -> Values:
    keys = ("momentum_largest", "momentum_drift")
    if not setting.conserved:
        return {key: left_out("this system is not known to conserve momentum") for key in keys}
    last = setting.first.velocities[runs, -1:]
    change = metrics.momentum(v, masses) - metrics.momentum(last, masses)
    slopes = metrics.drift(setting.times, np.moveaxis(change, -1, 0)).fitted
    return {
        "momentum_largest": Value(float(np.sqrt((change**2).sum(-1)).max())),
        "momentum_drift": Value(float(np.sqrt((slopes**2).sum(0)).max())),
    }


def _angular(
    setting: Setting, x: Array, v: Array, masses: Array, runs: npt.NDArray[np.bool_]
) -> Values:
    """About the origin, where the sphere is that may be around."""
    if setting.data.system != "lennard_jones" or setting.box is not None:
        why = "this system is not known to conserve angular momentum"
        return {"angular_largest": left_out(why)}
    first = setting.first
    begun = metrics.angular_momentum(
        first.positions[runs, -1:], first.velocities[runs, -1:], masses
    )
    change = metrics.angular_momentum(x, v, masses) - begun
    return {"angular_largest": Value(float(np.sqrt((change**2).sum(-1)).max()))}


def _temperature(setting: Setting, v: Array, masses: Array) -> tuple[Values, dict[str, Curve]]:
    if setting.particles == 1:
        why = left_out("one particle has no temperature")
        return dict.fromkeys(("temperature", "temperature_drift"), why), {}
    found = metrics.temperature(v, masses, setting.conserved)
    kept = found[:, setting.kept()]
    runs = kept.mean(1)
    spread = f" +- {runs.std(ddof=1) / np.sqrt(len(runs)):.2g}" if len(runs) > 1 else ""
    values = {"temperature": Value(float(runs.mean()), f"{runs.mean():.4g}{spread}")}
    if kept.shape[1] < 2 or not runs.mean() > 0:
        values["temperature_drift"] = left_out("fewer than two frames are kept, or nothing moves")
    else:
        slope = metrics.drift(setting.times[setting.kept()], kept).fitted.mean() / runs.mean()
        values["temperature_drift"] = Value(float(slope))
    return values, {"temperature": (setting.times, found.mean(0))}


def equipartition(setting: Setting, frames: Frames) -> Values:
    """How kinetic energy is shared by axes, groups of mass and particles."""
    keys = ("equipartition", "equipartition_particles")
    if setting.particles == 1:
        return dict.fromkeys(keys, left_out("one particle shares with none"))
    runs = finite(frames)
    v = velocities_of(frames)[:, setting.kept()]
    runs &= np.isfinite(v).all((1, 2, 3))
    if not runs.any():
        return dict.fromkeys(keys, left_out("no run with velocities was predicted to the end"))
    if not v[runs].any():
        return dict.fromkeys(keys, left_out("nothing moves"))
    masses = setting.data.masses[runs]
    found = metrics.equipartition(v[runs], masses)
    parts = ", ".join(f"{part:.3f}" for part in found.axes)
    if len(found.groups) > 1:
        parts += "; " + ", ".join(f"m={m:g}: {part:.3f}" for m, part in found.groups.items())
    return {
        "equipartition": Value(found.worst, parts),
        "equipartition_particles": Value(float(np.abs(found.particles - 1).max())),
    }


def reversibility(integrator: Integrator, setting: Setting, frames: Frames) -> Values:
    """Forth, velocities turned, and back: how far from where it began."""
    key, size = "reversibility", setting.window
    if getattr(integrator, "dense", False):
        return {key: left_out("windows of close frames cannot be made from a roll-out")}
    most = min(setting.n, _BACK)
    if np.isfinite(setting.cut):
        most = min(most, max(int(0.25 * setting.cut / setting.interval), size + 1))
    x, v = frames.positions[:, :most], velocities_of(frames)[:, :most]
    runs = np.flatnonzero(frames.accepted & np.isfinite(x + v).all((1, 2, 3)))
    if most <= size or len(runs) == 0:
        return {key: left_out("too few frames with velocities to go back from")}
    window = _turned(setting, x[runs][:, most - size :], v[runs][:, most - size :], runs)
    try:
        back = integrator.rollout(window, most - size + 1, setting.interval)
    except Error as error:
        return {key: left_out(str(error))}
    if not back.accepted.any():
        return {key: left_out(f"the way back was refused: {back.refused[0]}")}
    begun = setting.first.positions[runs, -1:]
    forth = np.concatenate([begun, x[runs][:, : most - size]], 1)[:, ::-1]
    missed = metrics.separation(back.positions, forth, setting.box)[back.accepted]
    worst = float(np.nan_to_num(missed, nan=np.inf).max())
    if not np.isfinite(worst):
        return {key: left_out("the way back blew up")}
    return {key: Value(worst, f"{worst:.2g} ({most} steps)")}


def _turned(setting: Setting, x: Array, v: Array, runs: npt.NDArray[np.intp]) -> Any:
    some = setting.first[runs]
    blank = np.zeros(x.shape[:2])
    return replace(
        some, positions=x[:, ::-1].copy(), velocities=-v[:, ::-1], potential=blank, kinetic=blank
    )
