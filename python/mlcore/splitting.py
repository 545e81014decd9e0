"""Large steps of particles that act in pairs, by a symmetric splitting whose functions are given.

One step h moves particles of masses m by

    x += c_0 h v;   for k = 0 .. K-1:  v_i += (h / m_i) sum_j G_k(r_ij) (x_i - x_j),
                                       x += c_{k+1} h v

with G_k(r) = u^8 S(u), u = 1 / r, zero at the cutoff 1 / u_lo and beyond. S is a cubic on each of M
uniform intervals of u from u_lo to u_hi, its value at u_hi beyond: pairs closer than 1 / u_hi are too
close for the step. Drifts and kicks read the same backwards (c_k = c_{K-k}; kick k reads the table
min(k, K-1-k)), so the step is reversible; it is symplectic where S is differentiable, and conserves
momentum.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import (
    Kind,
    Particles,
    apart,
    host,
    integer,
    is_atoms,
    positive,
    real,
    thread_count,
)
from mlcore.dynamics import frame_count, reporter
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from mlcore.arrays import Pbc, Positions
    from mlcore.dynamics import Report

__all__ = ["NOT_FINITE", "RUNNING", "TOO_CLOSE", "PairSplitting", "SplittingRun"]

Array = npt.NDArray[np.float64]

RUNNING, TOO_CLOSE, NOT_FINITE = 0, 1, 2
_PIECE_SECONDS = 0.2  # between two looks at the keyboard
_PAIRS_PER_SECOND = 1e7  # at least, with all kicks of a step
_TOGETHER = 1 << 18  # particles on their way at a time


class SplittingRun(NamedTuple):
    """A run; for one replica without the axis R.

    Attributes:
        times: (T,) of the frames.
        positions, velocities: (R, T, n, 3), unwrapped; NaN in frames a replica did not reach.
        last_positions, last_velocities: (R, n, 3), the last good ones.
        done: (R,) steps done, or a number.
        closest: (R,) smallest distance below the cutoff that a kick saw, infinity where there was
            none, or a number; that of a step not done is included.
        status: (R,) why a replica stopped, or a number: RUNNING (it did not), TOO_CLOSE (in the next
            step a pair would come closer than ``closest`` of the splitting) or NOT_FINITE (in it a
            position or velocity would become infinite, NaN or absurdly large).
    """

    times: Array
    positions: Any
    velocities: Any
    last_positions: Any
    last_velocities: Any
    done: Any
    closest: Any
    status: Any


class PairSplitting:
    """The step h of K kicks for S species, its tables packed once.

    Args:
        h: > 0, length of a step.
        drifts: (K + 1,) c, K >= 1; palindromic, sum 1, may be negative.
        masses: (S,) of the species, > 0, or a number for one.
        coefficients: (ceil(K / 2), S (S + 1) / 2, M, 4): along an interval of u, t = 0 .. 1,
            S = a + b t + c t^2 + d t^3. Pairs a <= b of species in the order (0, 0), (0, 1), ..,
            (0, S-1), (1, 1), ...
        u_lo: > 0, inverse of the cutoff.
        u_hi: > u_lo, inverse of the distance that is too close.

    Attributes:
        h, drifts, masses, coefficients, u_lo, u_hi: as given.
        kicks, species, intervals: K, S, M.
        cutoff, closest: 1 / u_lo, 1 / u_hi.

    Raises:
        InvalidArgument: a shape does not fit, a value is wrong.
    """

    __slots__ = (
        "closest",
        "coefficients",
        "core",
        "cutoff",
        "drifts",
        "h",
        "intervals",
        "kicks",
        "masses",
        "species",
        "u_hi",
        "u_lo",
    )

    def __init__(
        self,
        h: float,
        drifts: npt.ArrayLike,
        masses: npt.ArrayLike,
        coefficients: npt.ArrayLike,
        u_lo: float,
        u_hi: float,
    ) -> None:
        self.h, self.u_lo, self.u_hi = (
            positive(name, value) for name, value in (("h", h), ("u_lo", u_lo), ("u_hi", u_hi))
        )
        self.drifts = _frozen("drifts", drifts, 1)
        self.masses = _frozen("masses", np.atleast_1d(host("masses", masses, _READ)), 1)
        self.coefficients = _frozen("coefficients", coefficients, 4)
        self.core: Any = _core.PairSplitting(
            self.h, self.drifts, self.masses, self.coefficients, self.u_lo, self.u_hi
        )
        self.kicks, self.species = len(self.drifts) - 1, len(self.masses)
        self.intervals = self.coefficients.shape[2]
        self.cutoff, self.closest = 1 / self.u_lo, 1 / self.u_hi

    def __repr__(self) -> str:
        return (
            f"PairSplitting(h={self.h!r}, kicks={self.kicks}, species={self.species}, "
            f"intervals={self.intervals}, cutoff={self.cutoff:g}, closest={self.closest:g})"
        )

    def run(
        self,
        x0: Positions,
        v0: Any = None,
        *,
        steps: int,
        every: int = 1,
        species: npt.ArrayLike | None = None,
        cell: Any = None,
        pbc: Pbc = None,
        wall: float | None = None,
        progress: bool | Report = False,
        out: Sequence[Any] | None = None,
        num_threads: int | None = None,
    ) -> SplittingRun:
        """Replicas one step after the other, each until a step would not be good.

        The same bits for a replica alone or among others, on any number of threads.

        Args:
            x0: (n, 3), or (R, n, 3) for R replicas, which run in parallel: NumPy, torch, CuPy (on
                the GPU n <= 1024 and all pairs), or Atoms, which bring velocities and cell.
            v0: velocities of the shape of x0; None: at rest, or those of Atoms.
            steps: number of steps, a multiple of ``every``.
            every: steps between frames.
            species: (n,) integers 0..S-1; may be left out where S is 1.
            cell: (3, 3) row vectors or (3,) edge lengths; None: open space, or that of Atoms. Every
                image within the cutoff counts.
            pbc: which axes repeat, one flag or three; None: all where there is a cell, or those of
                Atoms.
            wall: radius of a sphere about the origin that reflects particles on the straight way of
                a drift; in open space.
            progress: True for a bar, or a function of (frames done, frames).
            out: arrays (positions, velocities) to write to, None in place of one for a new one:
                C-contiguous float64 of the shapes of `SplittingRun`, of the kind and device of x0,
                apart from each other and from x0 and v0.
            num_threads: CPU threads; None takes the library-wide setting.

        Returns:
            SplittingRun with steps / every + 1 frames, of the kind of x0.

        Raises:
            InvalidArgument: a shape, value or option is wrong, or a particle starts outside the
                wall.
        """
        start = Particles.of(x0, cell, pbc, name="x0")
        count = frame_count(steps, every)
        speeds = _speeds(x0, v0, start)
        system = _core.SplittingSystem(
            *start.box,
            wall=0.0 if wall is None else positive("wall", wall),
            species=_species(species),
        )
        frames = _frames(out, start, count)
        if out is not None:
            _check_apart(frames, start.x, speeds)
        last, replicas = _begin(start, speeds, frames)
        advance = partial(
            self.core.run,
            system,
            num_threads=thread_count(num_threads),
            stream=start.kind.stream(),
        )
        advance(*replicas.state, every, 0, 0, _core.SplittingLists(), *replicas.frames)
        groups = list(replicas.groups())
        with reporter(progress, "Splitting") as report:
            for number, group in enumerate(groups):
                for done in _march(advance, group, count, every):
                    report(number * count + done, len(groups) * count)
        times: Array = self.h * every * np.arange(count + 1, dtype=np.float64)
        results = [result for _, result in frames]
        numbers = [_host(array) for array in (replicas.done, replicas.closest, replicas.status)]
        if start.batched:
            return SplittingRun(times, *results, *last, *numbers)
        one = [array[0] for array in last]
        return SplittingRun(times, *results, *one, *(array[0].item() for array in numbers))

    def kick(
        self,
        stage: int,
        x: Any,
        v: Any,
        offsets: Any,
        columns: Any,
        *,
        species: npt.ArrayLike | None = None,
        out: Any = None,
        num_threads: int | None = None,
    ) -> tuple[Any, float]:
        """One kick of a step alone, for a caller that drifts and finds neighbors itself.

        Args:
            stage: 0..K-1.
            x: (m, 3) positions of n <= m particles and, after them, their images, on the CPU.
            v: (n, 3) velocities.
            offsets: (n + 1,) integers; neighbors of particle i are ``columns[offsets[i]]`` ..
                ``columns[offsets[i + 1] - 1]``, each pair from both its ends. Those beyond the
                cutoff are skipped.
            columns: (p,) integers 0..m-1.
            species: (m,) integers 0..S-1; may be left out where S is 1.
            out: (n, 3) C-contiguous float64 array to write to, of the kind of v; v itself will do.
            num_threads: CPU threads; None takes the library-wide setting.

        Returns:
            Velocities after the kick, and the smallest distance of a pair below the cutoff, infinity
            where there is none. Below ``closest`` the kick is not good.

        Raises:
            InvalidArgument: a shape is wrong, x is not finite, a species or column out of range.
        """
        places = host("x", x, "kicks run")
        given, kind = real("v", v)
        kind.require_cpu("v", "kicks run")
        filled, result = kind.output(out, tuple(given.shape), like="v")
        filled[...] = given
        closest: float = self.core.kick(
            integer("stage", stage),
            places,
            filled,
            host("offsets", offsets, "kicks run", np.int64),
            host("columns", columns, "kicks run", np.int32),
            _species(species),
            num_threads=thread_count(num_threads),
        )
        return result, closest


_READ = "tables are read"


def _frozen(name: str, values: npt.ArrayLike, rank: int) -> Array:
    array = np.array(host(name, values, _READ, detach=True))
    if array.ndim != rank:
        raise InvalidArgument(f"{name} must have {rank} dimensions, got the shape {array.shape}")
    array.setflags(write=False)
    return array


def _species(species: npt.ArrayLike | None) -> npt.NDArray[np.int32] | None:
    if species is None:
        return None
    numbers = host("species", species, "species are read", np.int64)
    if numbers.ndim != 1:
        raise InvalidArgument(f"species must have the shape (n,), got {numbers.shape}")
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < 1 << 30:
        raise InvalidArgument(
            f"species must count from 0, got {int(numbers.min())}..{int(numbers.max())}"
        )
    return numbers.astype(np.int32)


def _speeds(x0: Any, v0: Any, start: Particles) -> Any:
    """(R, n, 3), or None: at rest."""
    if v0 is None and is_atoms(x0):
        v0 = x0.get_velocities()
    return None if v0 is None else start.vectors("v0", v0)


class _Replicas(NamedTuple):
    """Replicas on their way and their frames, as the core takes them."""

    x: Any
    v: Any
    done: Any
    closest: Any
    status: Any
    frames_x: Any
    frames_v: Any

    @property
    def state(self) -> tuple[Any, ...]:
        return self[:5]

    @property
    def frames(self) -> tuple[Any, ...]:
        return self[5:]

    def groups(self) -> Iterator[_Replicas]:
        """So many replicas at a time that their neighbor lists do not fill the memory."""
        count, n = self.x.shape[:2]
        size = max(_TOGETHER // max(n, 1), 1)
        for first in range(0, count, size):
            yield _Replicas(*(array[first : first + size] for array in self))

    def write(self, t: int) -> None:
        """Frame t from the state."""
        for frames, values in ((self.frames_x, self.x), (self.frames_v, self.v)):
            frames[:, t] = values
            frames[self.status != RUNNING, t] = np.nan


def _begin(
    start: Particles, speeds: Any, frames: Sequence[tuple[Any, Any]]
) -> tuple[list[Any], _Replicas]:
    """The last positions and velocities as the caller gets them, and replicas at frame 0."""
    shape = tuple(start.x.shape)
    (x, last_x), (v, last_v) = (start.kind.output(None, shape) for _ in range(2))
    x[...] = start.x
    v[...] = 0 if speeds is None else speeds
    numbers = np.zeros(shape[0], np.int64), np.full(shape[0], np.inf), np.zeros(shape[0], np.int32)
    placed = (_placed(array, start.kind) for array in numbers)
    replicas = _Replicas(x, v, *placed, *(filled for filled, _ in frames))
    replicas.write(0)
    return [last_x, last_v], replicas


def _march(
    advance: Callable[..., None], replicas: _Replicas, count: int, every: int
) -> Iterator[int]:
    """Makes the frames 1..count piece by piece; gives the number of those done."""
    lists = _core.SplittingLists()
    together, n = replicas.x.shape[:2]
    shortest = int(_PIECE_SECONDS * _PAIRS_PER_SECOND / (1 + together * n * n))
    for steps, first, last in _pieces(count, every, max(shortest, 1)):
        if steps == (last - first) * every:
            advance(*replicas.state, every, first, last, lists, *replicas.frames)
        else:
            advance(*replicas.state, steps, 0, 1, lists)
            if last > first:
                replicas.write(last)
        yield last


def _placed(array: npt.NDArray[Any], kind: Kind) -> Any:
    """A new array as the core takes it beside others of this kind."""
    return array if kind.on_cpu else kind.array(array)


def _host(array: Any) -> npt.NDArray[Any]:
    if isinstance(array, np.ndarray):
        return array
    found: npt.NDArray[Any] = array.get() if hasattr(array, "get") else array.cpu().numpy()
    return found


def _frames(out: Sequence[Any] | None, start: Particles, count: int) -> list[tuple[Any, Any]]:
    """Positions and velocities: each as the core fills it and as the caller gets it."""
    given = (None, None) if out is None else out
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        got = f"{len(given)} of them" if isinstance(given, (tuple, list)) else type(given).__name__
        raise InvalidArgument(f"out must be the arrays (positions, velocities), got {got}")
    n = start.x.shape[1]
    return [start.output(array, (count + 1, n, 3)) for array in given]


def _check_apart(frames: Sequence[tuple[Any, Any]], x: Any, v: Any) -> None:
    (positions, _), (velocities, _) = frames
    apart(positions, x0=x, v0=v, velocities=velocities)
    apart(velocities, x0=x, v0=v)


def _pieces(count: int, every: int, size: int) -> Iterator[tuple[int, int, int]]:
    """A run in pieces of about _PIECE_SECONDS, the first of ``size`` steps: (steps, first, last) with
    first and last the frames that are whole before and after it."""
    step, total = 0, count * every
    while step < total:
        began = time.perf_counter()
        first, within = divmod(step, every)
        whole = within == 0 and size >= every
        steps = min(size // every * every, total - step) if whole else min(size, every - within)
        step += steps
        yield steps, first, step // every
        seconds = max(time.perf_counter() - began, 1e-9)
        size = max(1, min(8 * size, int(steps * _PIECE_SECONDS / seconds)))
