"""What a stepper is worth: numbers, from any function that takes a state to the one a step later.

A stepper that also has a method ``forces(state) -> (n, 3)`` eV/A is read at its grips, as molecular
dynamics is; of others, broken bonds tell where a sheet yields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from ase.data import atomic_masses
from frames import Pair, positions
from mlcore.errors import Error
from mlcore.sagesnet import AtomState
from mlcore.sagesnet.carbon import Pull, Yield, seed_noise, yield_point
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
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = dict[str, Any]
GPA = 160.2176634
"""GPa in an eV/A^3."""
BROKEN, HOLD = 4, 5
"""Bonds that are broken, and looks in a row that they must be, before a rollout without stress ends."""
SWING = 3.0
"""GPa that the stress must reach before a fall counts: up to 2.1 GPa it swings where grips start to move.
The data's own `Pull.least` may be lower, which none of its labels hangs on."""


class Stepper(Protocol):
    """A state to the one a step later."""

    def __call__(self, state: AtomState) -> AtomState: ...


def straight(state: AtomState, dt: float = 10.0) -> AtomState:
    """Constant velocity."""
    return state.moved(state.velocity * dt, state.velocity)


# -- M2: one step ----------------------------------------------------------------------------------
def one_step(stepper: Stepper, pairs: Iterable[Pair], dt: float = 10.0) -> Numbers:
    """Errors after one step in parts of those of constant velocity, of atoms that move freely.

    Returns:
        velocity, place: roots of summed squares over all pairs; velocity_median: of the pairs' own;
        velocity_rms: A/fs; pairs; ended: why a step could not be made, where all others are nan.
    """
    sums, each = np.zeros(4), []
    for now, later in pairs:
        later = now.matched(later)
        free = now.free
        try:
            after = stepper(now)
        except Error as problem:
            return _refused(str(problem))
        way = now.displacement(later) - dt * now.velocity
        parts = (
            after.velocity - later.velocity,
            now.velocity - later.velocity,
            after.displacement(later),
            way,
        )
        found = np.array([float(part[free].detach().double().square().sum()) for part in parts])
        sums += found
        each.append((found[0], found[1], int(free.sum())))
    wrong, base, atoms = np.array(each).T
    return {
        "velocity": float(np.sqrt(sums[0] / sums[1])),
        "place": float(np.sqrt(sums[2] / sums[3])),
        "velocity_median": float(np.median(np.sqrt(wrong / base))),
        "velocity_rms": float(np.sqrt(wrong.sum() / (3 * atoms.sum()))),
        "pairs": len(each),
        "ended": "",
    }


def _refused(problem: str) -> Numbers:
    names = ("velocity", "place", "velocity_median", "velocity_rms")
    return {name: float("nan") for name in names} | {"pairs": 0, "ended": problem}


# -- M0, M1 and growth of error: rollouts beside molecular dynamics ---------------------------------
def follow(
    stepper: Stepper, frames: Sequence[AtomState], told: Callable[[int], None] = lambda step: None
) -> Numbers:
    """A rollout from the first frame beside the frames that molecular dynamics made.

    Lengths are those of the first frame's bonds between atoms of which one moves freely.

    Returns:
        For every step: bond_rms, A, of the difference of each bond's length; bond_mean, A, of all;
        bond_shape, A, of the difference of their sorted lengths, which is that of the distributions;
        apart, A, root mean square over free atoms; broken; temperature and temperature_md, K. In
        all: steps; bond_error and shape_error, root mean squares over all steps; bond_worst;
        temperature_ratio, of the means; counts_kept, whether atoms of each element were as many all
        the time; ended, why it stopped early, or nothing.
    """
    state = frames[0]
    free, kept = state.free.numpy(), state.counts()
    masses = atomic_masses[state.numbers.numpy()]
    pairs = bonds(state.positions().numpy())
    pairs = pairs[free[pairs].any(axis=1)]
    told_of: dict[str, list[float]] = {
        name: []
        for name in (
            "bond_rms",
            "bond_mean",
            "bond_shape",
            "apart",
            "broken",
            "temperature",
            "temperature_md",
        )
    }
    same, ended = True, ""
    for step, truth in enumerate(frames[1:], 1):
        try:
            state = stepper(state)
        except Error as problem:
            ended = str(problem)
            break
        true = state.matched(truth)
        same &= bool((state.counts() == kept).all())
        mine, theirs = _lengths(state, pairs), _lengths(true, pairs)
        told_of["bond_rms"].append(float(np.sqrt(((mine - theirs) ** 2).mean())))
        shape = np.sort(mine) - np.sort(theirs)
        told_of["bond_shape"].append(float(np.sqrt((shape**2).mean())))
        told_of["bond_mean"].append(float(mine.mean() - theirs.mean()))
        told_of["apart"].append(state.apart(true)[0])
        told_of["broken"].append(int((mine > 1.95).sum()))
        for name, one in (("temperature", state), ("temperature_md", true)):
            heat = kinetic_temperature(one.velocity.detach().numpy(), masses, free)
            told_of[name].append(float(heat[0]))
        told(step)
    rms = np.array(told_of["bond_rms"] or [np.nan])
    hot, md = (np.mean(told_of[k] or [np.nan]) for k in ("temperature", "temperature_md"))
    return told_of | {
        "steps": len(told_of["apart"]),
        "bond_error": float(np.sqrt((rms**2).mean())),
        "bond_worst": float(rms.max()),
        "shape_error": float(np.sqrt((np.array(told_of["bond_shape"] or [np.nan]) ** 2).mean())),
        "broken_most": int(max(told_of["broken"], default=0)),
        "temperature_ratio": float(hot / md),
        "counts_kept": same,
        "ended": ended,
    }


def _lengths(state: AtomState, pairs: NDArray[np.int64]) -> Array:
    x = state.positions().numpy()
    return np.asarray(np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1))


# -- M3: a sheet pulled until it yields -------------------------------------------------------------
@dataclass
class Stretched:
    """A sheet as a stepper pulled it.

    Attributes:
        curve: (c, 2) strain and stress, GPa, each the mean over the steps of a point of the labels'
            curve; empty for a stepper without forces.
        strains, frames: (t,), (t, n, 3) float32 A, at every look, the start included.
        found: the yield, by stress where there is one, else by bonds.
        torn: by bonds.
        broken: (t,) bonds.
        counts_kept: whether atoms of each element were as many all the time.
        steps: that were made.
        ended: "yield", "strain", or what stopped it.
        escaped: whether an atom left the box, which ends a rollout.
    """

    curve: Array
    strains: Array
    frames: NDArray[np.float32]
    found: Yield
    torn: Yield
    broken: NDArray[np.int64]
    counts_kept: bool
    steps: int
    ended: str
    escaped: bool

    def numbers(self) -> Numbers:
        """What JSON can hold."""
        return {
            "yield": plain(self.found),
            "torn": plain(self.torn),
            "curve": self.curve.round(5).tolist(),
            "broken": self.broken.tolist(),
            "counts_kept": self.counts_kept,
            "steps": self.steps,
            "ended": self.ended,
        }


def plain(found: Yield) -> Numbers:
    """A yield as JSON can hold it: without a stress where bonds alone told."""
    return asdict(found) | {"stress": found.stress if np.isfinite(found.stress) else None}


def stretch(
    stepper: Stepper,
    start: AtomState,
    grip: NDArray[np.int64],
    section: float,
    pull: Pull,
    *,
    dt: float = 10.0,
    until: float = 0.6,
    look: int = 10,
    told: Callable[[float], None] = lambda strain: None,
) -> Stretched:
    """Lets a stepper pull a sheet apart, its grips driven, and stops as the labels' runs do.

    Args:
        stepper: see the module.
        start: the first frame of a run, its grips moving; atoms by id.
        grip: (n,) -1, 0 or 1.
        section: A^2, that stress refers to.
        pull: settings of the run.
        dt: fs, of a step.
        until: strain at which it ends at the latest.
        look: steps between looks at bonds.
        told: the strain, every look.
    """
    per_step = pull.rate * dt * 1e-3
    sample = max(1, round(pull.sample * pull.timestep * 1e3 / dt))
    watch = _Watch(pull)
    forces = getattr(stepper, "forces", None)
    state, kept, same = start, start.counts(), True
    first = positions(start)
    frames, strains, curve = [first], [0.0], []
    broken, hanging = [0], [True]
    pulls: list[float] = []
    ended, step = "strain", 0
    while step * per_step < until:
        try:
            state = stepper(state)
        except Error as problem:
            ended = f"step {step + 1}: {problem}"
            break
        step += 1
        same &= bool((state.counts() == kept).all())
        if forces is not None:
            pulls.append(_pull(forces(state), state, grip))
            if len(pulls) == sample:
                # as in the labels, a point lies in the middle of the steps it is the mean of
                strain = (step - (sample - 1) / 2) * per_step
                curve.append((strain, float(np.mean(pulls)) * GPA / section))
                pulls = []
                if watch.fallen(curve[-1][1]):
                    ended = "yield"
                    break
        if step % look == 0:
            frames.append(positions(state))
            strains.append(step * per_step)
            harm = damage(frames[-1], grip, first)
            broken.append(int(harm.broken[0]))
            hanging.append(bool(harm.hanging[0]))
            told(strains[-1])
            if min(broken[-HOLD:]) >= BROKEN or not hanging[-1]:
                ended = "yield"
                break
    told_of = Damage(np.array(broken), np.array(hanging))
    torn = tear(strains, told_of, BROKEN)
    table = np.array(curve).reshape(-1, 2)
    found = torn
    if len(table):
        fallen = yield_point(table[:, 0], table[:, 1], drop=pull.drop, least=max(SWING, pull.least))
        # stress or bonds, whichever tells first; of molecular dynamics both tell the same
        found = fallen if fallen.fallen and fallen.strain < torn.strain else torn
    return Stretched(
        table,
        np.array(strains),
        np.array(frames, np.float32),
        found,
        torn,
        told_of.broken,
        same,
        step,
        ended,
        ended not in ("yield", "strain"),
    )


class _Watch:
    """Tells when the stress has fallen for good, as LAMMPS is told to in the labels' runs."""

    def __init__(self, pull: Pull) -> None:
        self.pull = pull
        self.points = max(1, round(pull.window / pull.timestep / pull.sample))
        self.values: list[float] = []
        self.peak = -np.inf

    def fallen(self, stress: float) -> bool:
        self.values.append(stress)
        mean = float(np.mean(self.values[-self.points :]))
        self.peak = max(self.peak, mean)
        return self.peak > max(SWING, self.pull.least) and mean < (1 - self.pull.drop) * self.peak


def _pull(forces: Any, state: AtomState, grip: NDArray[np.int64]) -> float:
    """eV/A: half of what pulls at both grips."""
    along = np.asarray(forces.detach(), np.float64)[:, 0]
    held = grip[state.ids.numpy()]
    return float((along[held < 0].sum() - along[held > 0].sum()) / 2)


# -- S32: what frames tell --------------------------------------------------------------------------
def observables(mine: Array, theirs: Array) -> Numbers:
    """Structure in frames (t, n, 3) beside that in others at the same strain.

    Returns:
        pair_density: of the difference, as a part of the whole, up to 6 A; bond_overlap: of the
        histograms of bond lengths, 1 where they are equal; bond_mean, A; coordination, of both, the
        part of atoms with 0, 1, 2, 3 and 4 or more neighbours.
    """
    (middles, one), (_, other) = pair_density(mine), pair_density(theirs)
    shells = middles**2
    edges, hist = bond_lengths(mine)
    _, true = bond_lengths(theirs)
    width = np.diff(edges)
    centre = (edges[1:] + edges[:-1]) / 2
    return {
        "pair_density": float((np.abs(one - other) * shells).sum() / (other * shells).sum()),
        "bond_overlap": float((np.minimum(hist, true) * width).sum()),
        "bond_mean": float((hist * width * centre).sum() - (true * width * centre).sum()),
        "coordination": [_coordination(mine), _coordination(theirs)],
    }


def _coordination(frames: Array) -> list[float]:
    found = np.concatenate([coordination(x) for x in frames])
    return [float(part) for part in np.bincount(np.minimum(found, 4), minlength=5) / len(found)]


# -- M3: all sheets ---------------------------------------------------------------------------------
def summary(
    found: Sequence[float],
    labels: Sequence[float],
    known: Sequence[float],
    again: Iterable[tuple[str, float]],
    late: float | None = None,
) -> Numbers:
    """Errors of yield strains beside what is known without any model.

    Args:
        found, labels: of the sheets held out.
        known: labels of the sheets that were learned from, whose mean is a prediction.
        again: (pattern, label) of all runs, for the noise of seeds.
        late: by how much sheets that were learned from yield later than their labels, in the mean.

    Returns:
        late; on_time_rmse and on_time_part, errors of strains less ``late``, in parts as below; rmse,
        bias, correlation; mean_rmse, of the best constant there is, the mean of the labels
        held out; known_mean_rmse, of the mean of those learned from; part, of rmse in mean_rmse;
        seed_noise and its degrees of freedom; sheets.
    """
    mine, true = np.asarray(found, float), np.asarray(labels, float)
    noise, free = seed_noise(again)
    best = float(true.std())
    rmse = float(np.sqrt(((mine - true) ** 2).mean()))
    on_time = None if late is None else float(np.sqrt(((mine - late - true) ** 2).mean()))
    spread = len(true) > 2 and mine.std() > 0 and true.std() > 0
    return {
        "sheets": len(true),
        "rmse": rmse,
        "bias": float((mine - true).mean()),
        "correlation": float(np.corrcoef(mine, true)[0, 1]) if spread else None,
        "mean_rmse": best,
        "known_mean_rmse": float(np.sqrt(((np.mean(known) - true) ** 2).mean())) if known else None,
        "part": rmse / best if best > 0 else None,
        "late": late,
        "on_time_rmse": on_time,
        "on_time_part": on_time / best if on_time is not None and best > 0 else None,
        "seed_noise": noise if free else None,
        "seed_pairs": free,
    }
