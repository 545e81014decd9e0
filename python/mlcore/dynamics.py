"""Whole trajectories in one call: Brownian dynamics with hydrodynamic interactions, and Newton's.

`brownian`: the Ito equation dx = (M F + kT div M) dt + sqrt(2 kT) M^(1/2) dW samples exp(-U / kT)
and diffuses with D = kT M. Sources: D. L. Ermak and J. A. McCammon, J. Chem. Phys. 69, 1352 (1978);
M. Fixman, J. Chem. Phys. 69, 1527 (1978).

`verlet`: Newton's equations by velocity Verlet, or by a symmetric composition of order 8.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import (
    Kind,
    Particles,
    apart,
    flag,
    host,
    integer,
    is_atoms,
    number,
    one_of,
    positive,
    real,
    thread_count,
)
from mlcore.arrays import box as cell_and_flags
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from mlcore.arrays import Pbc, Positions
    from mlcore.mobility.tensors import Mobility

__all__ = [
    "Constant",
    "DoubleWell",
    "FixedLennardJones",
    "Force",
    "Harmonic",
    "LennardJones",
    "Rugged",
    "SphericalWall",
    "SystemForce",
    "Trajectory",
    "Yukawa",
    "brownian",
    "force_field",
    "system_forces",
    "verlet",
]

Array = npt.NDArray[np.float64]
Report = Callable[[int, int], None]
_SHORT = 3e8  # pair steps that take no longer than that
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
        number("Yukawa: amplitude", self.amplitude)
        _check_positive("Yukawa", kappa=self.kappa, cutoff=self.cutoff)


@dataclass(frozen=True)
class LennardJones:
    """U = 4 epsilon ((sigma / r)^12 - (sigma / r)^6) for r < cutoff, shifted to 0 there.

    Args:
        sigma: > 0, length.
        epsilon: energy.
        cutoff: > 0, length; None: 2^(1/6) sigma, the purely repulsive WCA potential; infinite, for
            `verlet` in open space: the whole potential.
    """

    sigma: float
    epsilon: float
    cutoff: float | None = None

    def __post_init__(self) -> None:
        _check_positive("LennardJones", sigma=self.sigma)
        number("LennardJones: epsilon", self.epsilon)
        if self.cutoff is not None and not number("LennardJones: cutoff", self.cutoff) > 0:
            raise InvalidArgument(f"LennardJones: cutoff must be positive, got {self.cutoff}")

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

    def __post_init__(self) -> None:
        number("Harmonic: stiffness", self.stiffness)
        host("Harmonic: centre", self.centre, "centres are read")


@dataclass(frozen=True, eq=False)
class Constant:
    """A force that does not change, U = -force . x.

    Args:
        force: (n, 3), or (3,) for all particles alike.
    """

    force: npt.ArrayLike

    def __post_init__(self) -> None:
        host("Constant: force", self.force, "constant forces are read")


Force = Yukawa | LennardJones | Harmonic | Constant


@dataclass(frozen=True)
class DoubleWell:
    """U = x^4 / 4 - x^2 / 2 of every particle of a system in one dimension."""


@dataclass(frozen=True)
class Rugged:
    """U = (x^4 - x^3 - 16 x^2 + 4 x + 48) / 50 + sin(30 (x + 5)) / 5, in one dimension."""


@dataclass(frozen=True)
class FixedLennardJones:
    """U = 4 epsilon ((sigma / x)^12 - (sigma / x)^6) about a particle fixed at 0, in one dimension.

    Args:
        sigma: > 0, length.
        epsilon: energy.
    """

    sigma: float = 1.0
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("FixedLennardJones", sigma=self.sigma)
        number("FixedLennardJones: epsilon", self.epsilon)


@dataclass(frozen=True)
class SphericalWall:
    """A sphere about the origin that keeps the particles in.

    Args:
        radius: > 0, length.
        kind: "specular" reflects a particle at the exact point of its straight way within a step
            where it meets the sphere: speed and angular momentum are kept. "wca" repels: U = 4
            epsilon ((sigma / s)^12 - (sigma / s)^6) + epsilon for s = radius - |x| < 2^(1/6) sigma.
        sigma: > 0, length ("wca").
        epsilon: energy ("wca").
    """

    radius: float
    kind: str = "specular"
    sigma: float = 1.0
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("SphericalWall", radius=self.radius, sigma=self.sigma)
        number("SphericalWall: epsilon", self.epsilon)
        one_of("SphericalWall: kind", self.kind, "specular", "wca")


SystemForce = LennardJones | Harmonic | DoubleWell | Rugged | FixedLennardJones | SphericalWall


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of a run; a leading dimension R where there are replicas.

    Attributes:
        times: (T,).
        positions: (T, n, d), unwrapped.
        velocities: (T, n, d).
        potential: (T,) energies, pair energies shifted to zero at the cutoff; None if not wanted.
        kinetic: (T,), or None.
    """

    times: Any
    positions: Any
    velocities: Any
    potential: Any
    kinetic: Any

    @property
    def energy(self) -> Any:
        """(T,) potential + kinetic."""
        return self.potential + self.kinetic


def force_field(
    forces: Force | Sequence[Force],
    x: Positions,
    cell: Any = None,
    pbc: Pbc = None,
    *,
    out: Any = None,
    num_threads: int | None = None,
) -> tuple[float, Any]:
    """Potential energy and forces.

    Args:
        forces: one or several of Yukawa, LennardJones, Harmonic, Constant; they add up.
        x: (n, 3) positions, on the CPU or a GPU.
        cell: as for `Mobility`.
        pbc: as for `Mobility`; any mixture.
        out: C-contiguous float64 array for the forces, of the shape, kind and device of x and apart
            from it.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        U and -dU/dx of the shape and kind of x.

    Raises:
        InvalidArgument: a shape or value is wrong, or two particles coincide.
    """
    particles = Particles.of(x, cell, pbc)
    positions, kind = particles.single(), particles.kind
    field = core_field(forces, len(positions))
    filled, result = kind.output(out, tuple(positions.shape))
    if out is not None:
        apart(filled, x=positions)
    threads, stream = thread_count(num_threads), kind.stream()
    energy = _core.force_field(
        field, *particles.box, positions, filled, num_threads=threads, stream=stream
    )
    return energy, result


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
    random_finite_difference: float = 0.0,
    scheme: str = "euler_maruyama",
    noise: str = "cholesky",
    tol: float = 1e-3,
    seed: int = 0,
    stream: int = 0,
    psd: str = "error",
    max_displacement: float = 0.0,
    progress: bool | Report = False,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Brownian trajectories.

    "euler_maruyama": x += dt (M F + kT div M) + sqrt(2 kT dt) L xi, with M = L L^T, or the
    symmetric root S, M = S S, in place of L (``noise``).
    "midpoint": half a step to x', then x += dt M' F' + sqrt(2 kT dt) M' L^-T xi with the same xi;
    the drift kT div M comes out by itself (Fixman).
    xi = ``mlcore.random.normal(seed, stream + replica, step, range(n))``: a trajectory depends on
    neither the number of threads nor that of replicas.

    Args:
        mobility: RPY, Oseen or PairMobility.
        x0: (n, 3), or (R, n, 3) for R replicas, which run in parallel. On a GPU the same steps are
            made there, replica after replica, with the same random numbers, Cholesky by cuSOLVER:
            the CPU's trajectory to rounding (to ``tol`` where ``noise`` is found by iteration).
        forces: one or several of Yukawa, LennardJones, Harmonic, Constant; they add up.
        dt: > 0, time step.
        kT: >= 0, thermal energy.
        steps: number of steps, a multiple of ``every``.
        every: steps between frames.
        cell: as for `Mobility`.
        pbc: as for `Mobility`.
        drift: False leaves kT div M out, which samples a wrong distribution unless div M = 0.
        random_finite_difference: > 0 takes kT div M from one random displacement of this length
            (small against the particles, say 1e-4 radii) per step: right on average, and in the
            price of two products M F where the exact divergence is dear (Delong et al., J. Chem.
            Phys. 140, 134110 (2014)). 0 takes the exact one. "euler_maruyama" only.
        scheme: "euler_maruyama" or "midpoint".
        noise: how the root of M is found, see `mlcore.noise`: "cholesky" holds M, 72 n^2 bytes, and
            factors it in each step, n^3; "lanczos" and "chebyshev" ("euler_maruyama" only) need
            products with M alone, for thousands of particles: in open space without a table M is
            never formed; elsewhere for the noise, up to 2 GiB. "auto" takes Cholesky up to 100
            particles (some more where ``tol`` is below 5e-3), Lanczos else. Trajectories of
            different roots differ, their laws do not.
        tol: 1e-14..0.5, relative error of the noise of "lanczos" and "chebyshev".
        seed: 0 <= seed < 2**64.
        stream: 0 <= stream + R <= 2**30.
        psd: "error", or "repair" to take a step with M + shift I where M is not positive definite.
        max_displacement: longest step a particle may take before the run counts as blown up; 0
            takes the longest pair cutoff (no limit without pair forces).
        progress: True for a progress bar on stderr, or a function called with (frames done, frames
            in all). Calls with the interpreter lock come a few times a second.
        out: C-contiguous float64 array of the shape of the result to write to, of the kind and
            device of x0 and apart from it.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        (steps / every + 1, n, 3), or (R, steps / every + 1, n, 3): x0 and every later frame,
        unwrapped, of the kind of x0.

    Raises:
        InvalidArgument: a shape, value or option is wrong.
        NotPositiveDefinite: the mobility has no square root on the way; names step, smallest
            eigenvalue and closest pair.
        BackendUnavailable: x0 is on a GPU and mlcore was built without CUDA, or cuSOLVER is missing.
        Error: the run has blown up; names replica, step and particle. Or "lanczos" does not reach
            tol.
    """
    particles = Particles.of(x0, cell, pbc, name="x0")
    model = getattr(mobility, "core_model", None)
    if model is None:
        raise InvalidArgument(
            "mobility must be one the core knows (RPY, Oseen, PairMobility), got "
            f"{type(mobility).__name__}"
        )
    count = frame_count(steps, every)
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 30)):
        if not 0 <= integer(name, value) < 2**bits:
            raise InvalidArgument(f"{name} must lie in 0..2**{bits}-1, got {value}")
    n = particles.x.shape[1]
    field = core_field(forces, n)
    options = _core.BrownianOptions(
        dt=number("dt", dt),
        kT=number("kT", kT),
        every=every,
        drift=flag("drift", drift),
        scheme=one_of("scheme", scheme, "euler_maruyama", "midpoint"),
        seed=seed,
        stream=stream,
        psd=one_of("psd", psd, "error", "repair"),
        max_displacement=number("max_displacement", max_displacement),
        random_finite_difference=number("random_finite_difference", random_finite_difference),
        noise=one_of("noise", noise, "cholesky", "lanczos", "chebyshev", "auto"),
        tol=number("tol", tol),
    )
    threads = thread_count(num_threads)
    frames, result = particles.output(out, (count + 1, n, 3))
    if out is not None:
        apart(frames, x0=particles.x)
    frames[:, 0] = particles.x
    with reporter(progress) as report:
        for first, last in _chunks(count):
            _core.brownian(
                model,
                *particles.box,
                field,
                options,
                frames,
                first,
                last,
                num_threads=threads,
                stream=particles.kind.stream(),
            )
            report(last, count)
    return result


def verlet(
    x0: Any,
    v0: Any = None,
    *,
    forces: SystemForce | Sequence[SystemForce] = (),
    dt: float,
    steps: int,
    every: int = 1,
    mass: Any = None,
    box: float | None = None,
    integrator: str = "velocity_verlet",
    skin: float = 0.0,
    energies: bool = True,
    progress: bool | Report = False,
    out: Sequence[Any] | None = None,
    num_threads: int | None = None,
) -> Trajectory:
    """Newton's equations, the same bits for a replica alone or among others, on any threads.

    "velocity_verlet": v += dt f / 2m, x += dt v, v += dt f' / 2m (Swope, Andersen, Berens and
    Wilson, J. Chem. Phys. 76, 637 (1982)). "order8": 17 such steps of other lengths make one step
    of order 8 (Kahan and Li, Math. Comp. 66, 1089 (1997)), the truth to compare with; walls and
    cutoffs, where forces are not smooth, cost it its order. Both are symmetric in time.

    Args:
        x0: (n, d), or (R, n, d) for R replicas, which run in parallel; d = 1, 2 or 3. NumPy, torch,
            CuPy (on the GPU n <= 1024 and all pairs), or Atoms, which bring masses, velocities and,
            where they are periodic, the box: it must be a cube along the axes.
        v0: velocities of the shape of x0; None: at rest.
        forces: what acts, added up: one LennardJones at most (pairs), one Harmonic about the origin,
            one SphericalWall, and in one dimension DoubleWell, Rugged or FixedLennardJones.
        dt: > 0, time step.
        steps: number of steps, a multiple of ``every``.
        every: steps between frames.
        mass: > 0; one number, (n,) or (R, n). None: 1, or the masses of Atoms.
        box: edge of a periodic cube, None: open space, or that of Atoms. Pairs see every image
            within their cutoff.
        integrator: "velocity_verlet" or "order8".
        skin: of the neighbor list that serves more than 128 particles with a cutoff; 0: 0.4 sigma.
        energies: whether to compute them: of a frame they cost about as much as a step.
        progress: as for `brownian`.
        out: arrays (positions, velocities) or, with energies, (positions, velocities, energies) to
            write to, None in place of one for a new one: C-contiguous float64 of the shapes of
            `Trajectory`, energies (T, 2) or (R, T, 2) for potential and kinetic ones, of the kind
            and device of x0, apart from each other and from x0, v0 and mass.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        Trajectory with steps / every + 1 frames, of the kind of x0.

    Raises:
        InvalidArgument: a shape, value or option is wrong, or a particle starts outside the wall.
        Error: the run has blown up; names replica and frame.
    """
    box = _cube_of("x0", x0, box)
    x0, v0, mass = _of_atoms(x0, v0, mass)
    x, kind = real("x0", x0)
    if x.ndim not in (2, 3) or x.shape[-1] not in (1, 2, 3):
        raise InvalidArgument(
            f"x0 must have the shape (n, d) or (R, n, d) with d = 1, 2 or 3, got {tuple(x.shape)}"
        )
    count = frame_count(steps, every)
    batched = x.ndim == 3
    starts = x if batched else x[None]
    replicas, n, d = starts.shape
    system = core_system(forces, box)
    options = _core.VerletOptions(
        dt=number("dt", dt),
        every=every,
        integrator=one_of("integrator", integrator, "velocity_verlet", "order8"),
        skin=number("skin", skin),
    )
    threads = thread_count(num_threads)
    masses = _placed(_masses(mass, replicas, n), kind)
    speeds = None if v0 is None else _like("v0", v0, x, kind).reshape(starts.shape)
    shape = (replicas, count + 1, n, d)
    arrays = _run_arrays(out, kind, shape, batched, flag("energies", energies))
    if out is not None:
        _check_apart(arrays, x0=x, v0=speeds, mass=masses)
    positions, velocities, table = (filled for filled, _ in arrays)
    positions[:, 0] = starts
    velocities[:, 0] = 0 if speeds is None else speeds
    arguments = (system, options, masses, positions, velocities, table)
    work = replicas * steps * (n * n + 10) * (17 if integrator == "order8" else 1)
    with reporter(progress, "Verlet") as report:
        for first, last in _chunks(count) if work > _SHORT else ((0, count),):
            _core.verlet(*arguments, first, last, num_threads=threads, stream=kind.stream())
            report(last, count)
    xs, vs, E = (result for _, result in arrays)
    times = float(dt) * every * np.arange(count + 1)
    return Trajectory(times, xs, vs, *((None, None) if E is None else (E[..., 0], E[..., 1])))


def system_forces(
    forces: SystemForce | Sequence[SystemForce],
    x: Any,
    *,
    box: float | None = None,
    out: Any = None,
    num_threads: int | None = None,
) -> tuple[Any, Any]:
    """Potential energies and forces of what `verlet` moves.

    Args:
        forces: as for `verlet`.
        x: (n, d) or (R, n, d) positions, d = 1, 2 or 3, or Atoms, which bring the box; on a GPU all
            pairs are seen, and a cutoff must not exceed half the box.
        box: as for `verlet`.
        out: C-contiguous float64 array for the forces, of the shape, kind and device of x and apart
            from it.
        num_threads: CPU threads over R; None takes the library-wide setting.

    Returns:
        U, a number or (R,), and -dU/dx of the shape and kind of x. Infinite or NaN where particles
        coincide.

    Raises:
        InvalidArgument: a shape or value is wrong.
    """
    box = _cube_of("x", x, box)
    array, kind = real("x", x.positions if is_atoms(x) else x)
    if array.ndim not in (2, 3):
        raise InvalidArgument(
            f"x must have the shape (n, d) or (R, n, d), got {tuple(array.shape)}"
        )
    batched = array.ndim == 3
    stack = array if batched else array[None]
    energies, U = kind.output(None, (len(stack),))
    filled, F = kind.output(out, tuple(array.shape))
    if out is not None:
        apart(filled, x=array)
    system = core_system(forces, box)
    threads, stream = thread_count(num_threads), kind.stream()
    rows = filled if batched else filled[None]
    _core.system_forces(system, stack, rows, energies, num_threads=threads, stream=stream)
    return (U if batched else float(U[0])), F


def _cube_of(name: str, atoms: Any, box: float | None) -> float | None:
    """The box, or the edge of the periodic cube Atoms live in."""
    if box is not None or not is_atoms(atoms):
        return box
    rows, flags = cell_and_flags(atoms.cell, atoms.pbc)
    if not any(flags):
        return None
    edge = float(rows[0, 0])
    if not all(flags) or not np.array_equal(rows, edge * np.eye(3)):
        raise InvalidArgument(
            f"{name} must be Atoms in open space or in a cube along the axes, periodic in all of "
            f"them, got pbc {flags} and the cell {rows.tolist()}; box overrules both"
        )
    return edge


def _run_arrays(
    out: Any, kind: Kind, shape: tuple[int, ...], batched: bool, energies: bool
) -> list[tuple[Any, Any]]:
    """Positions, velocities, energies: each as the core fills it and as the caller gets it."""
    shapes = {"positions": shape, "velocities": shape}
    if energies:
        shapes["energies"] = (*shape[:2], 2)
    given = (None, None) if out is None else out
    if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= len(shapes):
        got = f"{len(given)} of them" if isinstance(given, (tuple, list)) else type(given).__name__
        raise InvalidArgument(
            f"out must be the arrays (positions, velocities{', energies' * energies}), got {got}"
        )
    arrays: list[tuple[Any, Any]] = []
    for k, (name, full) in enumerate(shapes.items()):
        array = given[k] if k < len(given) else None
        own = full if batched else full[1:]
        filled, result = kind.output(array, own, like="x0", name=f"out for {name}")
        arrays.append((filled if batched else filled[None], result))
    return arrays if energies else [*arrays, (None, None)]


def _check_apart(arrays: list[tuple[Any, Any]], **inputs: Any) -> None:
    names = ("positions", "velocities", "energies")
    others = {name: filled for name, (filled, _) in zip(names, arrays, strict=True)}
    for name in names:
        own = others.pop(name)
        if own is not None:
            apart(own, **inputs, **others)


def _of_atoms(x0: Any, v0: Any, mass: Any) -> tuple[Any, Any, Any]:
    if not is_atoms(x0):
        return x0, v0, 1.0 if mass is None else mass
    v0 = x0.get_velocities() if v0 is None else v0
    return x0.positions, v0, x0.get_masses() if mass is None else mass


def _like(name: str, values: Any, x: Any, kind: Kind) -> Any:
    array, own = real(name, values)
    own.require_device_of(kind, name, "x0")
    if tuple(array.shape) != tuple(x.shape):
        raise InvalidArgument(
            f"{name} must have the shape {tuple(x.shape)} of x0, got {tuple(array.shape)}"
        )
    return array


def _placed(array: Array, kind: Kind) -> Any:
    """A host array as the core reads it beside arrays of this kind."""
    if kind.on_cpu:
        return array
    if kind.name == "cupy":
        return sys.modules["cupy"].asarray(array)
    return sys.modules["torch"].as_tensor(array, device=kind.device)


def _masses(mass: Any, replicas: int, n: int) -> Array:
    """(1, n) or (R, n)."""
    array = host("mass", mass, "masses are read")
    if array.shape not in ((), (n,), (replicas, n)):
        raise InvalidArgument(
            f"mass must be a number or have the shape ({n},) or ({replicas}, {n}), got "
            f"{array.shape}"
        )
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise InvalidArgument("mass must be positive and finite")
    return np.ascontiguousarray(np.broadcast_to(array, (1, n)) if array.ndim < 2 else array)


def core_system(forces: SystemForce | Sequence[SystemForce], box: float | None) -> Any:
    """The core's ParticleSystem."""
    parts = _parts(forces, SystemForce)
    options: dict[str, Any] = {}
    if box is not None:
        options["box"] = positive("box", box)
    for part in parts:
        own = _system_part(part)
        if set(own) & set(options):
            raise InvalidArgument(f"forces may hold one {type(part).__name__} or its like at most")
        options |= own
    return _core.ParticleSystem(**options)


def _parts(forces: Any, one: Any) -> list[Any]:
    """A force or several as a list; what is in it is not looked at."""
    if isinstance(forces, one):
        return [forces]
    try:
        return list(forces)
    except TypeError:
        raise InvalidArgument(
            f"forces must be a force of mlcore.dynamics or several, got {type(forces).__name__}"
        ) from None


def _system_part(part: Any) -> dict[str, Any]:
    if isinstance(part, LennardJones):
        cutoff = 0.0 if np.isinf(part.reach) else part.reach
        return {"epsilon": part.epsilon, "sigma": part.sigma, "cutoff": cutoff}
    if isinstance(part, Harmonic):
        if np.any(np.asarray(part.centre, dtype=np.float64)):
            raise InvalidArgument("Harmonic: centre must be the origin in verlet")
        return {"trap": part.stiffness}
    if isinstance(part, SphericalWall):
        return {
            "wall": part.kind,
            "wall_radius": part.radius,
            "wall_sigma": part.sigma,
            "wall_epsilon": part.epsilon,
        }
    if isinstance(part, FixedLennardJones):
        own = {"landscape_epsilon": part.epsilon, "landscape_sigma": part.sigma}
        return {"landscape": "lennard_jones"} | own
    if isinstance(part, DoubleWell):
        return {"landscape": "double_well"}
    if isinstance(part, Rugged):
        return {"landscape": "rugged"}
    raise InvalidArgument(
        "forces must be LennardJones, Harmonic, SphericalWall, DoubleWell, Rugged or "
        f"FixedLennardJones, got {type(part).__name__}"
    )


def frame_count(steps: int, every: int) -> int:
    """Frames after the first; InvalidArgument where they are no whole number."""
    if integer("every", every) < 1:
        raise InvalidArgument(f"every must be at least 1, got {every}")
    if integer("steps", steps) < 0 or steps % every:
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
def reporter(progress: bool | Report, name: str = "Brownian dynamics") -> Iterator[Report]:
    """The caller's own function of (done, total), a bar on the terminal, or nothing."""
    if callable(progress):
        yield progress
    elif not (progress is not None and flag("progress", progress)):
        yield lambda done, total: None
    else:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def core_field(forces: Force | Sequence[Force], n: int) -> Any:
    """The core's ForceField of n particles."""
    parts = _parts(forces, Force)
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
    array = np.array(host(name, values, "forces are read"))
    if array.shape not in ((3,), (n, 3)):
        raise InvalidArgument(f"{name} must have the shape (3,) or ({n}, 3), got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidArgument(f"{name} must be finite")
    return np.atleast_2d(array)


def _check_positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        positive(f"{owner}: {name}", value)
