"""Large steps of many particles: a reversible, symplectic splitting whose pair kicks are learned.

One step h drifts and kicks in turn (`mlcore.integrators.splitting`); the kicks act along the vectors
between pairs and are learned from states a step apart (`pair_kicks`, `nbody_fit`). Whatever was
learned, momentum is kept to rounding, so is angular momentum in open space; the step commutes with
translations, rotations and permutations, is its own inverse with velocities turned round, and is
symplectic, so that an energy close to the true one is kept for ever. Nothing of the true force is
needed, neither to learn nor to run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlcore.arrays import host, integer, one_of, positive
from mlcore.dynamics import Report, reporter
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators.face import Frames, checked_request, datasets
from mlcore.integrators.nbody_export import export
from mlcore.integrators.nbody_fit import States, fitted, stepped
from mlcore.integrators.nbody_run import Propagation, Thermostat
from mlcore.integrators.pair_kicks import PairKicks
from mlcore.integrators.saved import PathLike, Settings, read, tensor, write
from mlcore.integrators.seen import fingerprints
from mlcore.integrators.splitting import even, palindrome
from mlcore.md import Dataset
from mlcore.neighbors import neighbor_batch

__all__ = ["NBodyIntegrator", "StepQuality", "Thermostat"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
_MOST_HALVINGS = 30
_CANDIDATES = 20  # frames looked at for each one learned from
_ROOM = (
    0.85  # of the closest distance in frames: splines end there; within a step pairs come closer
)


@dataclass(frozen=True)
class StepQuality:
    """One step from held-out states.

    Attributes:
        step: h.
        error: mean distance between predicted and true positions.
        ballistic: the same for straight flight.
        r2: of the change of velocities: 1 is perfect, 0 where nothing acts but was said to.
        runs: where the states are from: "held-out runs", or "later frames" where there is one run.
    """

    step: float
    error: float
    ballistic: float
    r2: float
    runs: str


class NBodyIntegrator:
    """Learns steps of many particles that act on each other in pairs, up to a cutoff.

    One model serves every step between the shortest and the longest it was taught, masses it was
    taught, and several types.

    Args:
        kicks: K, evaluations of the learned pair functions in a step.
        steps: which multiples of the data's interval to learn.
        cutoff: distance of the last interaction; None takes that of a reference system.
        energy: "free": what the map keeps by itself. "rescale": velocities are scaled after every step
            so that potential energy (of the reference system: one evaluation a step) and kinetic
            energy add up to those of the window.
        thermostat: Langevin's, for constant temperature instead: a `Thermostat`, or its arguments by name.
        orders: powers of h^2 / m in the pair functions; None: as many as there are steps times masses,
            3 at most.
        intervals: of the splines in 1 / r.
        atoms: how many particles' states to learn from, for each step.
        iterations: of least squares at most.
        smoothness: weight of the splines' second differences.
        halvings: how often a step is halved that brings particles closer than any was taught, or raises
            the potential above the energy that is to be kept.
        seed: of the states learned from.
    """

    def __init__(
        self,
        kicks: int = 4,
        *,
        steps: Sequence[int] = (1,),
        cutoff: float | None = None,
        energy: str = "free",
        thermostat: Thermostat | Mapping[str, Any] | None = None,
        orders: int | None = None,
        intervals: int = 48,
        atoms: int = 5000,
        iterations: int = 60,
        smoothness: float = 1e-8,
        halvings: int = 6,
        seed: int = 0,
    ) -> None:
        self.kicks = _at_least("kicks", kicks, 1)
        if not isinstance(steps, Sequence) or isinstance(steps, str):
            raise InvalidArgument(f"steps must be a list of multiples, got {steps!r}")
        self.steps = tuple(sorted({_at_least("steps", one, 1) for one in steps}))
        if not self.steps:
            raise InvalidArgument("steps must hold at least one multiple")
        self.cutoff = None if cutoff is None else positive("cutoff", cutoff)
        self.energy = one_of("energy", energy, "free", "rescale")
        if thermostat is not None and energy == "rescale":
            raise InvalidArgument("thermostat and energy='rescale' exclude each other")
        self.thermostat = _bath(thermostat)
        self.orders = None if orders is None else _at_least("orders", orders, 1)
        self.intervals = _at_least("intervals", intervals, 4)
        self.atoms, self.iterations = (
            _at_least("atoms", atoms, 1),
            _at_least("iterations", iterations, 1),
        )
        self.smoothness = positive("smoothness", smoothness)
        self.halvings, self.seed = _at_least("halvings", halvings, 0), _at_least("seed", seed, 0)
        if self.halvings > _MOST_HALVINGS:
            raise InvalidArgument(f"halvings must be at most {_MOST_HALVINGS}, got {halvings}")
        self.learned: PairKicks | None = None
        self.taught: tuple[float, ...] = ()
        self.masses: tuple[tuple[float, ...], ...] = ()
        self.interaction: Mapping[str, float] = {}
        self._reach = np.inf  # of h^2 / m, taught together
        self.trained_on: tuple[str, ...] = ()
        self.quality: tuple[StepQuality, ...] = ()

    def fit(self, data: Dataset | Sequence[Dataset], *, progress: bool | Report = False) -> Self:
        """Learn from runs: positions, velocities and masses, at the multiples `steps` of their interval.

        A fifth of the runs is held out for `quality` where there are five or more, else a fifth of
        the frames.

        Args:
            data: runs of particles in three dimensions; several sets may differ in interval, masses
                and particles, but not in what acts between them.
            progress: a bar, or a function of (iterations done, iterations in all).

        Raises:
            InvalidArgument: the data do not fit together, or hold too few frames, or no pair.
        """
        sets = datasets(data)
        interaction, cutoff = self._checked(sets)
        rng = np.random.default_rng(self.seed)
        longest = max(self.steps)
        parts = [_divided(one, int(rng.integers(2**31)), longest) for one in sets]
        drawn = [
            _Draw(part, multiple, cutoff, self.atoms, rng)
            for part, _, _ in parts
            for multiple in self.steps
        ]
        closest = _ROOM * min(one.closest for one in drawn)
        states = [s for one in drawn for s in one.states()]
        if not all(s.change > 0 for s in states):
            raise InvalidArgument("velocities do not change in the data: there is nothing to learn")
        taught = np.array([s.step for s in states])
        light = min(float(s.masses.min()) for s in states)
        types = 1 + max(int(s.types.max()) for s in states)
        masses = {m for s in states for m in np.unique(s.masses).tolist()}
        orders = self.orders or min(3, len(set(np.round(taught, 12))) * len(masses))
        shape = ((self.kicks + 1) // 2, types * (types + 1) // 2, orders, self.intervals + 3)
        start = PairKicks(
            np.array(palindrome(even(self.kicks), self.kicks)),
            np.zeros(shape),
            cutoff,
            closest,
            2 * float(taught.max()) ** 2 / light,
        )
        with reporter(progress, "pair kicks") as report:
            self.learned = fitted(
                start, states, iterations=self.iterations, smoothness=self.smoothness, report=report
            )
        self.interaction = interaction
        self._reach = max(s.step**2 / float(s.masses.min()) for s in states)
        self.taught = tuple(sorted(set(taught.tolist())))
        self.masses = tuple(
            tuple(
                sorted({m for s in states for m in np.unique(s.masses[:, s.types == t]).tolist()})
            )
            for t in range(types)
        )
        self.trained_on = tuple(mark for part, _, _ in parts for mark in fingerprints(part))
        self.quality = tuple(self._qualities(parts, cutoff, rng))
        return self

    def step(self, window: Dataset, interval: float | None = None) -> Frames:
        """The next frame: `rollout(window, 1, interval)`."""
        return self.rollout(window, 1, interval)

    def rollout(
        self,
        window: Dataset,
        n: int,
        interval: float | None = None,
        *,
        progress: bool | Report = False,
        num_threads: int | None = None,
    ) -> Frames:
        """n frames after a window, of which the last positions, velocities and masses are read.

        An interval longer than the longest step taught is made of several steps. Runs whose particles
        come closer than any were taught, even in short steps, are refused with a reason; so are masses
        and types that were not taught, and reference systems of another pair potential.

        Raises:
            InvalidArgument: the interval is shorter than every step taught.
            Error: nothing was learned yet.
        """
        n, interval = checked_request(window, n, interval)
        x, v = np.full((2, len(window), n, *window.positions.shape[2:]), np.nan)
        step, _ = self._divided(interval)
        refused = [self._unknown(window, run, step) for run in range(len(window))]
        redone = np.zeros(len(window), np.int64)
        with reporter(progress, "roll-out") as report:
            for runs in _alike(window, refused):
                propagation, many = self._propagation(window[runs], interval, num_threads)
                propagation.run(n, many, x, v, runs, report)
                for run, why in zip(runs, propagation.refused, strict=True):
                    refused[run] = why
                redone[runs] = propagation.redone
        return Frames(
            np.asarray(interval * np.arange(1, n + 1)), x, v, tuple(refused), tuple(redone.tolist())
        )

    def propagation(
        self, window: Dataset, num_threads: int | None = None
    ) -> tuple[Propagation, int]:
        """For a program with its own loop: what makes steps from the window's last frame, and how many
        make its interval.

        Raises:
            InvalidArgument: as `rollout`, and where a run would be refused.
        """
        step, _ = self._divided(window.interval)
        for run in range(len(window)):
            if why := self._unknown(window, run, step):
                raise InvalidArgument(f"window: {why}")
        if len(_alike(window, [""] * len(window))) != 1:
            raise InvalidArgument("window must hold runs of one system and one set of masses")
        return self._propagation(window, window.interval, num_threads)

    def _divided(self, interval: float) -> tuple[float, int]:
        """Step, and how many of it make the interval."""
        self._learned()
        many = max(1, int(np.ceil(interval / self.taught[-1] * (1 - 1e-9))))
        step = interval / many
        if step < self.taught[0] * (1 - 1e-9):
            raise InvalidArgument(
                f"interval {interval:g} would be made of steps of {step:g}, shorter than the "
                f"{self.taught[0]:g} that was taught"
            )
        return step, many

    def _propagation(
        self, window: Dataset, interval: float, num_threads: int | None
    ) -> tuple[Propagation, int]:
        step, many = self._divided(interval)
        made = Propagation(
            self._learned(),
            window,
            step,
            rescale=self.energy == "rescale",
            thermostat=self.thermostat,
            halvings=self.halvings,
            num_threads=num_threads,
        )
        return made, many

    def energy_evaluations_per_step(self, interval: float) -> float:
        """Evaluations of the reference potential in an interval: one a step where energy is rescaled."""
        if self.energy == "free":
            return 0.0
        return float(self._divided(interval)[1])

    def export(
        self,
        path: PathLike,
        *,
        step: float | None = None,
        masses: npt.ArrayLike | None = None,
        types: Sequence[int] | None = None,
        units: Mapping[str, str] | str = "lj",
    ) -> Any:
        """A bundle for `fix mlcore dynamics`: the pair kicks at one step.

        Args:
            path: folder to appear; a bundle already there is replaced as a whole.
            step: timestep of the runs; None: the longest that was taught.
            masses: of LAMMPS' types 1, 2, ..; None: the lightest that was taught, type by type.
            types: the learned type of each of them; None: 0, 1, .. in order.
            units: names of the units of length, energy and time, or one word for all.

        Raises:
            InvalidArgument: the step or a mass was not taught; names the argument.
        """
        learned = self._learned()
        own = self.taught[-1] if step is None else positive("step", step)
        if not self.taught[0] * (1 - 1e-9) <= own <= self.taught[-1] * (1 + 1e-9):
            raise InvalidArgument(
                f"step must lie in {self.taught[0]:g}..{self.taught[-1]:g} that was taught, got {own:g}"
            )
        weights = np.array([one[0] for one in self.masses])
        if masses is not None:
            weights = np.atleast_1d(host("masses", masses, "masses are read"))
        if weights.ndim != 1 or not len(weights):
            raise InvalidArgument(f"masses must hold one or more, got the shape {weights.shape}")
        kinds = list(range(len(self.masses)))[: len(weights)] if types is None else list(types)
        if types is None and len(self.masses) == 1:
            kinds = [0] * len(weights)
        if any(not 0 <= t < len(self.masses) for t in kinds):
            raise InvalidArgument(f"types must lie in 0..{len(self.masses) - 1}, got {kinds}")
        for t, mass in zip(kinds, weights, strict=False):
            low, high = self.masses[t][0], self.masses[t][-1]
            if not low * (1 - 1e-9) <= mass <= high * (1 + 1e-9):
                raise InvalidArgument(
                    f"masses: {mass:g} lies outside {low:g}..{high:g} that was taught for type {t}"
                )
        if why := self._too_long(own, float(weights.min())):
            raise InvalidArgument(why)
        return export(
            learned,
            path,
            step=own,
            masses=weights,
            types=types,
            halvings=self.halvings,
            units=units,
        )

    def save(self, path: PathLike) -> None:
        """One safetensors file, whole or not at all."""
        learned, bath = self._learned(), self.thermostat
        settings = {
            "steps": list(self.steps),
            "energy": self.energy,
            "thermostat": None if bath is None else bath.settings(),
            "halvings": self.halvings,
            "cutoff": learned.cutoff,
            "closest": learned.closest,
            "unit": learned.unit,
            "interaction": dict(self.interaction),
            "trained_on": list(self.trained_on),
            "quality": [vars(one) for one in self.quality],
        }
        if np.isfinite(self._reach):
            settings["reach"] = self._reach
        tensors = {
            "drifts": learned.drifts,
            "controls": learned.controls,
            "taught": np.array(self.taught),
        }
        for t, masses in enumerate(self.masses):
            tensors[f"masses.{t}"] = np.array(masses)
        write(path, "nbody", tensors, settings)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """What `save` wrote.

        Raises:
            FileFormatError: the file is absent, of another kind, or damaged; names what is wrong.
        """
        tensors, told = read(path, "nbody")
        drifts = tensor(path, tensors, "drifts", (-1,))
        controls = tensor(path, tensors, "controls", ((len(drifts)) // 2, -1, -1, -1))
        learned = PairKicks(
            drifts, controls, told.number("cutoff"), told.number("closest"), told.number("unit")
        )
        taught = tuple(tensor(path, tensors, "taught", (-1,)).tolist())
        _check_file(path, learned, taught)
        bath = told.values.get("thermostat")
        try:
            found = cls(
                learned.kicks,
                steps=told.values.get("steps", ()),
                cutoff=learned.cutoff,
                energy=told.text("energy"),
                thermostat=None if bath is None else Thermostat(**told.table("thermostat")),
                intervals=learned.intervals,
                orders=controls.shape[2],
                halvings=told.integer("halvings"),
            )
            found.quality = tuple(StepQuality(**one.values) for one in told.parts("quality"))
        except (InvalidArgument, TypeError) as error:
            raise FileFormatError(f"{path}: {error}") from error
        found.learned, found.taught = learned, taught
        if "reach" in told.values:
            found._reach = told.number("reach")
        if "interaction" in told.values:
            acts = Settings(f"{told.where}: interaction", told.table("interaction"))
            found.interaction = {name: acts.number(name) for name in acts.values}
        found.masses = tuple(
            tuple(tensor(path, tensors, f"masses.{t}", (-1,)).tolist())
            for t in range(learned.types)
        )
        if not all(masses and min(masses) > 0 for masses in found.masses):
            raise FileFormatError(f"{path}: tensors 'masses' must hold positive numbers")
        found.trained_on = told.texts("trained_on")
        return found

    def __repr__(self) -> str:
        told = f", steps {self.taught[0]:g}..{self.taught[-1]:g}" if self.taught else ""
        return f"NBodyIntegrator({self.kicks} kicks{told}, energy {self.energy})"

    def _learned(self) -> PairKicks:
        if self.learned is None:
            raise Error("the integrator has learned nothing yet: call fit first")
        return self.learned

    def _checked(self, sets: Sequence[Dataset]) -> tuple[Mapping[str, float], float]:
        """What acts between particles, as far as it is known, and the cutoff, of data that fit together."""
        for one in sets:
            if one.positions.shape[3] != 3:
                raise InvalidArgument(
                    f"data must be of particles in three dimensions, got {one.positions.shape[3]}"
                )
            if one.positions.shape[1] <= max(self.steps):
                raise InvalidArgument(
                    f"data must have more than {max(self.steps)} frames for steps {self.steps}"
                )
            place = one.system_of(0).parameters
            if place.get("radius") is not None and place["wall"] != "specular":
                raise InvalidArgument(
                    "data must be without a wall that pushes: only pairs are learned"
                )
        every = [_interaction_of(one, run) for one in sets for run in range(len(one))]
        known = [one for one in every if one]
        for name in known[0] if known else ():
            values = sorted({one[name] for one in known})
            if len(values) > 1:
                raise InvalidArgument(f"data must be of one pair potential, got {name} {values}")
        kinds = {t for one in sets for run in range(len(one)) for t in types_of(one, run).tolist()}
        if missing := sorted(set(range(max(kinds))) - kinds):
            raise InvalidArgument(
                f"data must hold types without gaps: up to {max(kinds)}, but none of {missing[:5]}"
            )
        interaction = known[0] if known else {}
        if self.cutoff is not None:
            return interaction, self.cutoff
        told = {_cutoff_of(one, run) for one in sets for run in range(len(one))}
        if len(told) != 1 or None in told:
            raise InvalidArgument("cutoff must be given: that of the data is not one number")
        return interaction, float(next(iter(told)))  # type: ignore[arg-type]

    def _unknown(self, window: Dataset, run: int, step: float) -> str:
        """Why a run is refused before its first step; empty where it is not."""
        for name, own in _interaction_of(window, run).items():
            known = self.interaction.get(name, own)
            if abs(own - known) > 1e-9 * abs(known):
                return f"{name} of run {run} is {own:g}, taught was {known:g}"
        types = types_of(window, run)
        for t in np.unique(types):
            if t >= len(self.masses):
                return f"type {t} of run {run} was not taught"
            for mass in np.unique(window.masses[run, types == t]):
                low, high = self.masses[t][0], self.masses[t][-1]
                if not low * (1 - 1e-9) <= mass <= high * (1 + 1e-9):
                    return (
                        f"mass {mass:g} of run {run} lies outside {low:g}..{high:g} that was taught"
                    )
        return self._too_long(step, float(window.masses[run].min()), f" of run {run}")

    def _too_long(self, step: float, mass: float, where: str = "") -> str:
        """Why a step is beyond what this mass was taught with; empty where it is not."""
        if step**2 / mass <= self._reach * (1 + 1e-9):
            return ""
        longest = np.sqrt(self._reach * mass)
        return f"step {step:g} is longer than the {longest:g} that mass {mass:g}{where} was taught with"

    def _qualities(
        self, parts: Sequence[tuple[Dataset, Dataset, str]], cutoff: float, rng: np.random.Generator
    ) -> Iterator[StepQuality]:
        for _, held, runs in parts:
            for multiple in self.steps:
                try:
                    draw = _Draw(held, multiple, cutoff, self.atoms, rng, chosen=False)
                except InvalidArgument:  # all held-out states touch the wall: nothing to judge by
                    continue
                yield _quality(self._learned(), draw.states(), runs)


def types_of(data: Dataset, run: int) -> Indices:
    """(n,) types of the particles: all 0 where the system knows none."""
    told = data.system_of(run).parameters.get("types")
    return np.zeros(data.positions.shape[2], np.intp) if told is None else np.array(told, np.intp)


def _quality(learned: PairKicks, states: Sequence[States], runs: str) -> StepQuality:
    wrong, straight, left, change, weight = np.zeros(5)
    for one in states:
        x, v = stepped(learned, one)
        wrong += np.linalg.norm(x - one.x1, axis=2).sum()
        straight += np.linalg.norm(one.x + one.step * one.v - one.x1, axis=2).sum()
        left += ((v - one.v1) ** 2).sum()
        change += ((one.v1 - one.v) ** 2).sum()
        weight += one.x[:, :, 0].size
    return StepQuality(
        states[0].step,
        float(wrong / weight),
        float(straight / weight),
        float(1 - left / change) if change > 0 else float(left == 0),
        runs,
    )


def _divided(data: Dataset, seed: int, longest: int) -> tuple[Dataset, Dataset, str]:
    """What is learned from and what is not, both with steps of so many frames."""
    if len(data) >= 5:
        return *data.split(0.8, seed), "held-out runs"
    frames = data.positions.shape[1]
    cut = max(longest + 1, int(0.8 * frames))
    if frames - cut < longest:
        return data, data, "the same frames"
    return data.frames(slice(0, cut)), data.frames(slice(cut - 1, None)), "later frames"


class _Draw:
    """States to learn from: half at random, half those with the closest pairs among many."""

    def __init__(
        self, data: Dataset, multiple: int, cutoff: float, atoms: int, rng: np.random.Generator,
        chosen: bool = True,
    ) -> None:  # fmt: skip
        runs, frames, n, _ = data.positions.shape
        places = runs * (frames - multiple)
        count = min(places, max(4, atoms // n))
        self.data, self.multiple = data, multiple
        self.run, self.frame = np.divmod(rng.permutation(places), frames - multiple)
        self._keep(self._away_from_walls(), count * (_CANDIDATES if chosen else 1))
        self.closest = np.inf
        if chosen:
            apart = np.minimum(
                self._apart(self.frame, cutoff), self._apart(self.frame + multiple, cutoff)
            )
            if not np.isfinite(apart.min()):
                raise InvalidArgument("no pair of the data is within the cutoff")
            self.closest = float(apart.min())
            near = np.argsort(apart)[: count // 2]
            others = np.setdiff1d(np.arange(len(apart)), near)[: count - len(near)]
            self._keep(np.sort(np.concatenate([near, others])), count)

    def _keep(self, some: Indices, count: int) -> None:
        self.run, self.frame = self.run[some[:count]], self.frame[some[:count]]

    def _away_from_walls(self) -> Indices:
        """States from which nobody reaches a reflecting sphere within the step."""
        data = self.data
        told = [data.system_of(run).parameters.get("radius") for run in range(len(data))]
        if all(radius is None for radius in told):
            return np.arange(len(self.run))
        radius = np.array([np.inf if one is None else one for one in told])[self.run]
        step = self.multiple * data.interval
        far = np.zeros(len(self.run))
        for frame in (self.frame, self.frame + self.multiple):
            out = np.linalg.norm(data.positions[self.run, frame], axis=2)
            way = step * np.linalg.norm(data.velocities[self.run, frame], axis=2)
            far = np.maximum(far, (out + 1.5 * way).max(1))
        free = np.flatnonzero(far < radius)
        if not len(free):
            raise InvalidArgument(
                "data hold no state in which all particles are away from the wall"
            )
        return free

    def states(self) -> list[States]:
        """Those of one cell and set of types each."""
        found = []
        for runs in _alike(self.data, [""] * len(self.data), masses=False):
            rows = np.flatnonzero(np.isin(self.run, runs))
            if len(rows):
                found.append(self._some(rows))
        return found

    def _some(self, rows: Indices) -> States:
        run, frame, data = self.run[rows], self.frame[rows], self.data
        later = frame + self.multiple
        return States(
            data.interval * self.multiple,
            data.positions[run, frame],
            data.velocities[run, frame],
            data.positions[run, later],
            data.velocities[run, later],
            data.masses[run],
            types_of(data, int(run[0])),
            data.system_of(int(run[0])).cell,
        )

    def _apart(self, frame: Indices, cutoff: float) -> Array:
        """(C,) the closest pair's distance."""
        found = np.full(len(frame), np.inf)
        for runs in _alike(self.data, [""] * len(self.data), masses=False):
            rows = np.flatnonzero(np.isin(self.run, runs))
            if len(rows):
                x = self.data.positions[self.run[rows], frame[rows]]
                cell = self.data.system_of(int(runs[0])).cell
                n = x.shape[1]
                i, d = neighbor_batch(
                    "id",
                    x.reshape(-1, 3),
                    cutoff,
                    cell,
                    cell is not None,
                    half=True,
                    batch_offsets=np.arange(len(rows) + 1) * n,
                ).arrays
                np.minimum.at(found, rows[i // n], d)
        return found


def _alike(
    window: Dataset, refused: Sequence[str], masses: bool = True
) -> list[npt.NDArray[np.intp]]:
    """Runs that are not refused, of one system (and one set of masses) each."""
    keys: dict[Any, list[int]] = {}
    for run in range(len(window)):
        if not refused[run]:
            key = str(sorted(window.system_of(run).parameters.items()))
            own = window.masses[run].tobytes() if masses else b""
            keys.setdefault((key, own), []).append(run)
    return [np.array(runs) for runs in keys.values()]


def _interaction_of(data: Dataset, run: int) -> dict[str, float]:
    """What decides about the pair potential of a reference system; nothing of recorded runs."""
    told = data.system_of(run).parameters
    return {name: float(told[name]) for name in ("epsilon", "sigma", "cutoff") if name in told}


def _bath(told: Thermostat | Mapping[str, Any] | None) -> Thermostat | None:
    if told is None or isinstance(told, Thermostat):
        return told
    try:
        return Thermostat(**told)
    except TypeError as error:
        raise InvalidArgument(
            f"thermostat must be a Thermostat or its arguments: {error}"
        ) from None


def _cutoff_of(data: Dataset, run: int) -> float | None:
    told: Mapping[str, Any] = data.system_of(run).parameters
    if "cutoff" not in told or not np.isfinite(told["cutoff"]):
        return None
    return float(told["cutoff"] * told.get("sigma", 1.0))


def _at_least(name: str, value: int, least: int) -> int:
    if integer(name, value) < least:
        raise InvalidArgument(f"{name} must be at least {least}, got {value}")
    return int(value)


def _check_file(path: PathLike, learned: PairKicks, taught: tuple[float, ...]) -> None:
    drifts, points = learned.drifts, learned.controls.shape[3]
    fits = (
        len(drifts) >= 2
        and np.allclose(drifts, drifts[::-1], atol=1e-12)
        and abs(drifts.sum() - 1) < 1e-12
        and 0 < learned.closest < learned.cutoff
        and learned.unit > 0
        and points >= 7
        and learned.types * (learned.types + 1) // 2 == learned.controls.shape[1]
        and taught
        and min(taught) > 0
        and list(taught) == sorted(taught)
    )
    if not fits:
        raise FileFormatError(f"{path}: the kicks are none: drifts, distances or shapes do not fit")
