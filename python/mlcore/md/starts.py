"""Where Lennard-Jones particles start."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, number, positive
from mlcore.errors import InvalidArgument
from mlcore.md.systems import System

__all__ = ["lattice_start", "random_start", "thermal_velocities"]

Array = npt.NDArray[np.float64]
_TRIES = 20_000


def random_start(
    system: System,
    seed: int,
    *,
    mass: float = 1.0,
    temperature: float = 0.0,
    apart: float = 0.95,
    half_edge: float = 3.0,
) -> tuple[Array, Array]:
    """Positions at random, no pair closer than `apart`, and thermal velocities without drift.

    Args:
        system: Lennard-Jones particles; in a periodic cube distances are those of nearest images and
            the whole cube is used.
        seed: of both.
        mass: of all particles.
        temperature: in units of energy; 0 for particles at rest.
        apart: smallest distance, in units of sigma.
        half_edge: positions lie within +- this where there is no box; in a sphere also 0.9 sigma
            inside it.

    Returns:
        Positions and velocities, (n, 3).

    Raises:
        InvalidArgument: so many particles do not fit.
    """
    rng = _generator(seed)
    sigma = system.parameters["sigma"]
    closest = positive("apart", apart) * sigma
    radius, half = system.parameters["radius"], positive("half_edge", half_edge)
    if system.box is not None:
        half = system.box / 2
    found = np.empty((0, 3))
    for _ in range(_TRIES):
        if len(found) == system.particles:
            break
        x = rng.uniform(-half, half, 3)
        d = found - x
        if system.box is not None:
            d -= system.box * np.round(d / system.box)
        outside = radius is not None and np.linalg.norm(x) > radius - 0.9 * sigma
        if not outside and (d * d).sum(1).min(initial=np.inf) >= closest**2:
            found = np.vstack([found, x])
    if len(found) < system.particles:
        raise InvalidArgument(
            f"{system.particles} particles {closest:g} apart do not fit at random; "
            f"{len(found)} did: start from a lattice"
        )
    return found, thermal_velocities(system.particles, temperature, rng, mass)


def lattice_start(
    system: System, cells: int, seed: int, *, mass: float = 1.0, temperature: float = 0.0
) -> tuple[Array, Array]:
    """A face-centred cubic crystal that fills the periodic cube, and thermal velocities without drift.

    A liquid wants a temperature at which the crystal melts: twice that of the liquid, half of which
    becomes potential energy.

    Args:
        system: Lennard-Jones particles in a periodic cube, 4 cells^3 of them.
        cells: cubic cells along an edge.
        seed: of the velocities.
        mass: of all particles.
        temperature: in units of energy; 0 for particles at rest.

    Returns:
        Positions and velocities, (n, 3).

    Raises:
        InvalidArgument: there is no cube, or the number of particles is another.
    """
    if system.box is None:
        raise InvalidArgument("a lattice needs a periodic cube (box)")
    if integer("cells", cells) < 1 or system.particles != 4 * cells**3:
        raise InvalidArgument(
            f"{cells} cells along an edge hold {4 * cells**3} particles, not {system.particles}"
        )
    corners = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    x = ((corners + basis) / cells - 0.5).reshape(-1, 3) * system.box
    rng = _generator(seed)
    return x, thermal_velocities(system.particles, temperature, rng, mass)


def _generator(seed: int) -> np.random.Generator:
    if integer("seed", seed) < 0:
        raise InvalidArgument(f"seed must not be negative, got {seed}")
    return np.random.default_rng(seed)


def thermal_velocities(
    n: int, temperature: float, rng: np.random.Generator, mass: float = 1.0
) -> Array:
    """(n, 3) Maxwell's velocities whose sum is zero, scaled to this very temperature.

    Args:
        n: particles of one mass.
        temperature: kinetic energy over 3 (n - 1) / 2, at least 0.
    """
    if not number("temperature", temperature) >= 0:
        raise InvalidArgument(f"temperature must not be negative, got {temperature}")
    v = rng.standard_normal((n, 3))
    v -= v.mean(0)
    if n < 2 or temperature == 0:
        return np.zeros((n, 3))
    return np.asarray(v * np.sqrt(3 * (n - 1) * temperature / (mass * (v * v).sum())))
