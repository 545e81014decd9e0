"""How fast neighboring trajectories part, and from when on an error of a trajectory tells nothing.

Source of the method: G. Benettin, L. Galgani, A. Giorgilli and J.-M. Strelcyn, Meccanica 15, 9 (1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcore.arrays import host, integer, number, positive
from mlcore.errors import InvalidArgument
from mlcore.integrators.metrics import horizon, separation
from mlcore.md import System, random_start

__all__ = ["Lyapunov", "lyapunov", "verlet_horizon"]

Array = npt.NDArray[np.float64]
_ROUNDING = 1e-16
_FAR = 20.0


@dataclass(frozen=True)
class Lyapunov:
    """The largest Lyapunov exponent of a system.

    Attributes:
        value: per unit of time, mean over starts.
        error: standard error of the mean; NaN for one start.
        runs: of each start.
        time: over which growth was averaged, for each start.
    """

    value: float
    error: float
    runs: tuple[float, ...]
    time: float

    @property
    def chaotic(self) -> bool:
        """Whether the growth, exp(value time), is far beyond what grows with the time alone."""
        return self.value * self.time > _FAR

    def cut(self, limit: float = 0.1, first: float = _ROUNDING) -> float:
        """Time after which a difference of `first`, that of rounding, has grown to `limit`.

        Beyond it no error of a trajectory means anything; infinite without chaos.
        """
        return float(np.log(limit / first) / self.value) if self.chaotic else float("inf")


def lyapunov(
    system: System,
    x0: npt.ArrayLike | None = None,
    v0: npt.ArrayLike | None = None,
    *,
    mass: npt.ArrayLike | None = None,
    starts: int = 4,
    temperature: float = 0.0,
    seed: int = 0,
    dt: float = 1e-3,
    time: float = 200.0,
    warm_up: float = 20.0,
    renew: float = 0.1,
    apart: float = 1e-7,
) -> Lyapunov:
    """Growth of the distance, in positions and velocities, of two runs brought close again and again.

    Args:
        system: what moves; two degrees of freedom or more, else nothing grows but linearly.
        x0: (R, n, d) starts; random ones of Lennard-Jones particles by default.
        v0: of the shape of x0; at rest by default.
        mass: as for `System.run`.
        starts: random ones, where x0 is not given.
        temperature: of their velocities.
        seed: of the random starts and of the first displacements.
        dt: step of velocity Verlet.
        time: over which the growth is averaged, for each start.
        warm_up: time before that.
        renew: time between two rescalings; the distance must stay small until then.
        apart: distance to which runs are brought back.

    Raises:
        InvalidArgument: a number or shape is wrong.
        Error: a run has blown up.
    """
    if not isinstance(system, System):
        raise InvalidArgument(f"system must be one of mlcore.md, got {type(system).__name__}")
    if system.particles * system.dim < 2:
        raise InvalidArgument(
            "system must have two degrees of freedom or more: in one dimension errors grow linearly"
        )
    if integer("seed", seed) < 0:
        raise InvalidArgument(f"seed must not be negative, got {seed}")
    rng = np.random.default_rng(seed)
    x, v = _starts(system, x0, v0, integer("starts", starts), temperature, seed)
    every = max(1, round(positive("renew", renew) / positive("dt", dt)))
    rounds = max(1, round(positive("time", time) / (every * dt)))
    idle = max(0, round(number("warm_up", warm_up) / (every * dt)))
    small = positive("apart", apart)
    masses = _twice(mass)
    dx, dv = rng.standard_normal((2, *x.shape))
    growth = np.zeros(len(x))
    for turn in range(idle + rounds):
        norm = _norm(dx, dv)
        if turn > idle:
            growth += np.log(norm / small)
        scale = (small / norm)[:, None, None]
        made = system.run(
            np.concatenate([x, x + scale * dx]),
            np.concatenate([v, v + scale * dv]),
            dt=dt,
            steps=every,
            every=every,
            mass=masses,
            energies=False,
        )
        (x, other), (v, faster) = (
            np.split(ends[:, -1], 2) for ends in (made.positions, made.velocities)
        )
        dx, dv = other - x, faster - v
    growth += np.log(_norm(dx, dv) / small)
    rates = growth / (rounds * every * dt)
    error = float(rates.std(ddof=1) / np.sqrt(len(rates))) if len(rates) > 1 else float("nan")
    return Lyapunov(float(rates.mean()), error, tuple(rates.tolist()), rounds * every * dt)


def _starts(
    system: System,
    x0: npt.ArrayLike | None,
    v0: npt.ArrayLike | None,
    count: int,
    T: float,
    seed: int,
) -> tuple[Array, Array]:
    if x0 is None:
        if system.name != "lennard_jones":
            raise InvalidArgument(f"x0 must be given: {system.name} has no random starts")
        if count < 1:
            raise InvalidArgument(f"starts must be at least 1, got {count}")
        found = [random_start(system, seed + k, temperature=T) for k in range(count)]
        x, v = (np.stack(parts) for parts in zip(*found, strict=True))
        return x, v
    x = host("x0", x0, "starts are read")
    x = x[None] if x.ndim == 2 else x
    v = np.zeros_like(x) if v0 is None else host("v0", v0, "starts are read")
    if x.ndim != 3 or v.size != x.size:
        raise InvalidArgument(f"x0 and v0 must have one shape (R, n, d), got {x.shape}, {v.shape}")
    return x, v.reshape(x.shape)


def _twice(mass: npt.ArrayLike | None) -> npt.ArrayLike | None:
    if mass is None or np.ndim(mass) < 2:
        return mass
    return np.concatenate([np.asarray(mass)] * 2)


def _norm(dx: Array, dv: Array) -> Array:
    return np.asarray(np.sqrt((dx**2).sum((1, 2)) + (dv**2).sum((1, 2))))


def verlet_horizon(
    system: System,
    x0: npt.ArrayLike,
    v0: npt.ArrayLike,
    *,
    dt: float,
    interval: float,
    frames: int,
    mass: npt.ArrayLike | None = None,
    limit: float = 0.1,
) -> tuple[Array, Array]:
    """When velocity Verlet parts from itself with half the step: the fair measure of a horizon.

    Args:
        system: what moves.
        x0: (R, n, d).
        v0: (R, n, d).
        dt: the step; the other one is half of it.
        interval: time between compared frames, a whole number of steps.
        frames: looked at, at most; runs end when all have parted.
        mass: as for `System.run`.
        limit: of the mean distance of particles.

    Returns:
        (R,) times, infinite where they stay together, and (R, F) the distances of the F frames seen.
    """
    every = round(positive("interval", interval) / positive("dt", dt))
    if every < 1 or abs(every * dt - interval) > 1e-9 * interval:
        raise InvalidArgument(f"interval must be a whole number of steps {dt}, got {interval}")
    ends = [(np.asarray(x0, dtype=np.float64), np.asarray(v0, dtype=np.float64))] * 2
    parts: list[Array] = []
    done, block, parted = 0, 16, np.zeros(len(ends[0][0]), dtype=bool)
    while not parted.all() and done < integer("frames", frames):
        count = min(block, frames - done)
        runs = [
            system.run(
                *end,
                dt=dt / cut,
                steps=count * every * cut,
                every=every * cut,
                mass=mass,
                energies=False,
            )
            for cut, end in zip((1, 2), ends, strict=True)
        ]
        ends = [(run.positions[:, -1], run.velocities[:, -1]) for run in runs]
        parts.append(separation(runs[0].positions[:, 1:], runs[1].positions[:, 1:], system.box))
        parted |= (parts[-1] > limit).any(1)
        done, block = done + count, 2 * block
    apart = np.concatenate(parts, 1)
    times = interval * np.arange(1, apart.shape[1] + 1)
    return horizon(times, apart, limit), apart
