"""Brownian dynamics with hydrodynamic interactions, whole trajectories in one call.

The Ito equation dx = (M F + kT div M) dt + sqrt(2 kT) M^(1/2) dW samples exp(-U / kT) and diffuses
with D = kT M. Sources: D. L. Ermak and J. A. McCammon, J. Chem. Phys. 69, 1352 (1978); M. Fixman,
J. Chem. Phys. 69, 1527 (1978).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Particles, positive
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from mlcore.arrays import Pbc, Positions
    from mlcore.mobility.tensors import Mobility

__all__ = ["Constant", "Force", "Harmonic", "LennardJones", "Yukawa", "brownian", "force_field"]

Array = npt.NDArray[np.float64]
Report = Callable[[int, int], None]
_CPU = "dynamics run"
_CHUNK_SECONDS = 0.3  # between signs of life, and for Ctrl-C to be heard


@dataclass(frozen=True)
class Yukawa:
    """Screened repulsion U = amplitude exp(-kappa r) / r for r < cutoff, shifted to 0 there.

    Args:
        amplitude: energy times length.
        kappa: > 0, inverse length.
        cutoff: > 0, length; the force is cut off there. Every periodic image within it counts.
    """

    amplitude: float
    kappa: float
    cutoff: float

    def __post_init__(self) -> None:
        _check_positive("Yukawa", kappa=self.kappa, cutoff=self.cutoff)


@dataclass(frozen=True)
class LennardJones:
    """U = 4 epsilon ((sigma / r)^12 - (sigma / r)^6) for r < cutoff, shifted to 0 there.

    Args:
        sigma: > 0, length.
        epsilon: energy.
        cutoff: > 0, length; None: 2^(1/6) sigma, the purely repulsive WCA potential.
    """

    sigma: float
    epsilon: float
    cutoff: float | None = None

    def __post_init__(self) -> None:
        _check_positive("LennardJones", sigma=self.sigma, cutoff=self.reach)

    @property
    def reach(self) -> float:
        """The cutoff in use."""
        return 2 ** (1 / 6) * self.sigma if self.cutoff is None else self.cutoff


@dataclass(frozen=True, eq=False)
class Harmonic:
    """Trap U = stiffness |x - centre|^2 / 2 on unwrapped coordinates; at most one per field.

    Args:
        stiffness: energy over length squared.
        centre: (3,), or (n, 3) for a centre of each particle's own.
    """

    stiffness: float
    centre: npt.ArrayLike = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Constant:
    """A force that does not change, U = -force . x.

    Args:
        force: (n, 3), or (3,) for all particles alike.
    """

    force: npt.ArrayLike


Force = Yukawa | LennardJones | Harmonic | Constant


def force_field(
    forces: Force | Sequence[Force],
    x: Positions,
    cell: Any = None,
    pbc: Pbc = None,
    *,
    num_threads: int | None = None,
) -> tuple[float, Any]:
    """Potential energy and forces.

    Args:
        forces: one or several of Yukawa, LennardJones, Harmonic, Constant; they add up.
        x: (n, 3) positions.
        cell: as for `Mobility`.
        pbc: as for `Mobility`; any mixture.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        U and -dU/dx of the shape and kind of x.

    Raises:
        InvalidArgument: a shape or value is wrong, or two particles coincide.
    """
    particles = Particles.of(x, cell, pbc, cpu=_CPU)
    positions = particles.single()
    field = core_field(forces, len(positions))
    out = np.empty(positions.shape)
    threads = num_threads or 0
    energy = _core.force_field(field, *particles.box, positions, out, num_threads=threads)
    return energy, particles.kind.like(out)


def brownian(
    mobility: Mobility,
    x0: Positions,
    *,
    forces: Force | Sequence[Force] = (),
    dt: float,
    kT: float,
    steps: int,
    every: int = 1,
    cell: Any = None,
    pbc: Pbc = None,
    drift: bool = True,
    scheme: str = "euler_maruyama",
    seed: int = 0,
    stream: int = 0,
    psd: str = "error",
    max_displacement: float = 0.0,
    progress: bool | Report = False,
    num_threads: int | None = None,
) -> Any:
    """Brownian trajectories.

    "euler_maruyama": x += dt (M F + kT div M) + sqrt(2 kT dt) L xi, with M = L L^T.
    "midpoint": half a step to x', then x += dt M' F' + sqrt(2 kT dt) M' L^-T xi with the same xi;
    the drift kT div M comes out by itself (Fixman).
    xi = ``mlcore.random.normal(seed, stream + replica, step, range(n))``: a trajectory depends on
    neither the number of threads nor that of replicas.

    Args:
        mobility: RPY, Oseen or PairMobility.
        x0: (n, 3), or (R, n, 3) for R replicas, which run in parallel.
        forces: one or several of Yukawa, LennardJones, Harmonic, Constant; they add up.
        dt: > 0, time step.
        kT: >= 0, thermal energy.
        steps: number of steps, a multiple of ``every``.
        every: steps between frames.
        cell: as for `Mobility`.
        pbc: as for `Mobility`.
        drift: False leaves kT div M out, which samples a wrong distribution unless div M = 0.
        scheme: "euler_maruyama" or "midpoint".
        seed: 0 <= seed < 2**64.
        stream: 0 <= stream + R <= 2**30.
        psd: "error", or "repair" to take a step with M + shift I where M is not positive definite.
        max_displacement: longest step a particle may take before the run counts as blown up; 0
            takes the longest pair cutoff (no limit without pair forces).
        progress: True for a progress bar on stderr, or a function called with (frames done, frames
            in all). Calls with the interpreter lock come a few times a second.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        (steps / every + 1, n, 3), or (R, steps / every + 1, n, 3): x0 and every later frame,
        unwrapped, of the kind of x0.

    Raises:
        InvalidArgument: a shape, value or option is wrong.
        NotPositiveDefinite: the mobility has no square root on the way; names step, smallest
            eigenvalue and closest pair.
        Error: the run has blown up; names replica, step and particle.
    """
    particles = Particles.of(x0, cell, pbc, name="x0", cpu=_CPU)
    model = getattr(mobility, "core_model", None)
    if model is None:
        raise InvalidArgument(
            "mobility must be one the core knows (RPY, Oseen, PairMobility), got "
            f"{type(mobility).__name__}"
        )
    count = frame_count(steps, every)
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 30)):
        if not 0 <= value < 2**bits:
            raise InvalidArgument(f"{name} must lie in 0..2**{bits}-1, got {value}")
    replicas, n, _ = particles.x.shape
    field = core_field(forces, n)
    options = _core.BrownianOptions(
        dt=dt,
        kT=kT,
        every=every,
        drift=drift,
        scheme=scheme,
        seed=seed,
        stream=stream,
        psd=psd,
        max_displacement=max_displacement,
    )
    frames = np.empty((replicas, count + 1, n, 3))
    frames[:, 0] = particles.x
    with _reporter(progress) as report:
        for first, last in _chunks(count):
            _core.brownian(
                model,
                *particles.box,
                field,
                options,
                frames,
                first,
                last,
                num_threads=num_threads or 0,
            )
            report(last, count)
    return particles.kind.like(frames if particles.batched else frames[0])


def frame_count(steps: int, every: int) -> int:
    """Frames after the first; InvalidArgument where they are no whole number."""
    if every < 1:
        raise InvalidArgument(f"every must be at least 1, got {every}")
    if steps < 0 or steps % every:
        raise InvalidArgument(f"steps must be a multiple of every = {every}, got {steps}")
    return steps // every


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    """Ranges of frames, each taking about _CHUNK_SECONDS; one empty range checks the arguments."""
    yield 0, 0
    first, size = 0, 1
    while first < count:
        start = time.perf_counter()
        last = min(count, first + size)
        yield first, last
        seconds = max(time.perf_counter() - start, 1e-9)
        size = max(1, min(8 * size, int(size * _CHUNK_SECONDS / seconds)))
        first = last


@contextmanager
def _reporter(progress: bool | Report) -> Iterator[Report]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total: None
    else:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("Brownian dynamics", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def core_field(forces: Force | Sequence[Force], n: int) -> Any:
    """The core's ForceField of n particles."""
    parts = [forces] if isinstance(forces, Force) else list(forces)
    traps = [part for part in parts if isinstance(part, Harmonic)]
    if len(traps) > 1:
        raise InvalidArgument(f"forces may hold one Harmonic at most, got {len(traps)}")
    constant = np.zeros((n, 3))
    pairs = []
    for part in parts:
        if isinstance(part, Constant):
            constant += _rows("force", part.force, n)
        elif isinstance(part, Yukawa):
            pairs.append(("yukawa", part.amplitude, 1 / part.kappa, part.cutoff))
        elif isinstance(part, LennardJones):
            pairs.append(("lennard_jones", part.epsilon, part.sigma, part.reach))
        elif not isinstance(part, Harmonic):
            raise InvalidArgument(
                "forces must be Yukawa, LennardJones, Harmonic or Constant, got "
                f"{type(part).__name__}"
            )
    options: dict[str, Any] = {"constant": constant} if constant.any() else {}
    for trap in traps:
        options |= {"stiffness": trap.stiffness, "centres": _rows("centre", trap.centre, n)}
    return _core.ForceField(pairs=pairs, **options)


def _rows(name: str, values: npt.ArrayLike, n: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((3,), (n, 3)):
        raise InvalidArgument(f"{name} must have the shape (3,) or ({n}, 3), got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidArgument(f"{name} must be finite")
    return np.atleast_2d(array)


def _check_positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        positive(f"{owner}: {name}", value)
