"""Reference systems of learned integrators: four in one dimension, and Lennard-Jones particles.

Source of the potentials and ranges: J. C. S. Kadupitiya, G. C. Fox and V. Jadhao, arXiv:2004.06493.
Units are those of Lennard-Jones: masses, lengths and energies of order one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, number, one_of, positive
from mlcore.dynamics import (
    DoubleWell,
    FixedLennardJones,
    Harmonic,
    LennardJones,
    Rugged,
    SphericalWall,
    SystemForce,
    Trajectory,
    system_forces,
    verlet,
)
from mlcore.errors import InvalidArgument

__all__ = [
    "SYSTEMS",
    "System",
    "double_well",
    "fixed_lennard_jones",
    "lennard_jones",
    "named",
    "oscillator",
    "recorded",
    "rugged",
]

Array = npt.NDArray[np.float64]
TRUTHS = {"verlet": "velocity_verlet", "order8": "order8"}


@dataclass(frozen=True)
class System:
    """What acts on how many particles, and where.

    Attributes:
        name: of the function that makes it.
        forces: what acts, as `mlcore.dynamics.verlet` takes them.
        particles: n.
        dim: 1 or 3.
        box: edge of a periodic cube, or None.
        parameters: arguments of the function that makes it.
    """

    name: str
    forces: tuple[SystemForce, ...]
    particles: int = 1
    dim: int = 1
    box: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cell(self) -> npt.NDArray[np.float64] | None:
        """(3, 3) of periodic space, one lattice vector per row; None in open space."""
        told = self.parameters.get("cell")
        if told is not None:
            return np.array(told, dtype=np.float64)
        return None if self.box is None else self.box * np.eye(3)

    def energies_forces(self, x: npt.ArrayLike) -> tuple[Any, Any]:
        """Potential energies (R,) and forces (R, n, d) of positions (R, n, d), or of one (n, d)."""
        self._need_forces()
        return system_forces(self.forces, np.asarray(x, dtype=np.float64), box=self.box)

    def run(
        self,
        x0: npt.ArrayLike,
        v0: npt.ArrayLike | None = None,
        *,
        dt: float,
        steps: int,
        every: int = 1,
        mass: npt.ArrayLike | None = None,
        truth: str = "verlet",
        **options: Any,
    ) -> Trajectory:
        """Newton's equations; see `mlcore.dynamics.verlet` for shapes, options and errors.

        Args:
            truth: "verlet", velocity Verlet, or "order8", which follows the differential equation.
        """
        one_of("truth", truth, *TRUTHS)
        self._need_forces()
        return verlet(
            x0,
            v0,
            forces=self.forces,
            dt=dt,
            steps=steps,
            every=every,
            mass=mass,
            box=self.box,
            integrator=TRUTHS[truth],
            **options,
        )

    def _need_forces(self) -> None:
        if self.name == recorded.__name__:
            raise InvalidArgument("the forces of recorded runs are not known")


def recorded(
    n: int, cell: npt.ArrayLike | None = None, types: Sequence[int] | None = None
) -> System:
    """Particles that were watched, whose forces are not known: see `mlcore.md.from_trajectories`.

    Args:
        n: particles.
        cell: (3, 3) of periodic space, one lattice vector per row; None: open space.
        types: (n,) from 0 on; None: all alike.
    """
    if integer("n", n) < 1:
        raise InvalidArgument(f"n must be at least 1, got {n}")
    if types is not None and (len(types) != n or min(types) < 0):
        raise InvalidArgument(f"types must be {n} numbers from 0 on")
    rows = None if cell is None else np.asarray(cell, dtype=np.float64)
    if rows is not None and (rows.shape != (3, 3) or not abs(np.linalg.det(rows)) > 0):
        raise InvalidArgument("cell must be (3, 3), of some volume")
    told = {
        "n": int(n),
        "cell": None if rows is None else tuple(map(tuple, rows.tolist())),
        "types": None if types is None else tuple(int(t) for t in types),
    }
    return System("recorded", (), n, 3, None, told)


def oscillator(k: float = 1.0) -> System:
    """U = k x^2 / 2."""
    positive("k", k)
    return System("oscillator", (Harmonic(k),), parameters={"k": float(k)})


def fixed_lennard_jones(epsilon: float = 1.0, sigma: float = 1.0) -> System:
    """U = 4 epsilon ((sigma / x)^12 - (sigma / x)^6): bound between sigma and infinity for E < 0."""
    told = {"epsilon": number("epsilon", epsilon), "sigma": positive("sigma", sigma)}
    return System("fixed_lennard_jones", (FixedLennardJones(sigma, epsilon),), parameters=told)


def double_well() -> System:
    """U = x^4 / 4 - x^2 / 2: wells at -1 and 1, the separatrix at E = 0 (x = sqrt 2 at rest)."""
    return System("double_well", (DoubleWell(),))


def rugged() -> System:
    """U = (x^4 - x^3 - 16 x^2 + 4 x + 48) / 50 + sin(30 (x + 5)) / 5: 47 wells, top barrier 4.61."""
    return System("rugged", (Rugged(),))


def lennard_jones(
    n: int,
    box: float | None = None,
    radius: float | None = None,
    wall: str = "specular",
    epsilon: float = 1.0,
    sigma: float = 1.0,
    cutoff: float = 2.5,
) -> System:
    """Particles that attract each other: free, in a periodic cube, or in a sphere.

    Args:
        n: particles.
        box: edge of the cube; the force is truncated and the energy shifted at the cutoff.
        radius: of the sphere about the origin instead.
        wall: "specular" or "wca" (`mlcore.dynamics.SphericalWall`).
        epsilon: depth of the pair potential.
        sigma: its length.
        cutoff: in units of sigma.
    """
    if box is not None and radius is not None:
        raise InvalidArgument("box and radius exclude each other: a cube or a sphere")
    if integer("n", n) < 1:
        raise InvalidArgument(f"n must be at least 1, got {n}")
    number("epsilon", epsilon)
    told: dict[str, Any] = {
        "n": int(n),
        "box": None if box is None else positive("box", box),
        "radius": None if radius is None else positive("radius", radius),
        "wall": one_of("wall", wall, "specular", "wca"),
        "epsilon": float(epsilon),
        "sigma": positive("sigma", sigma),
        "cutoff": positive("cutoff", cutoff),
    }
    forces: list[SystemForce] = [LennardJones(sigma, epsilon, cutoff * sigma)]
    if radius is not None:
        forces.append(SphericalWall(radius, wall, sigma, epsilon))
    return System("lennard_jones", tuple(forces), n, 3, box, told)


SYSTEMS: dict[str, Callable[..., System]] = {
    make.__name__: make for make in (oscillator, fixed_lennard_jones, double_well, rugged)
} | {"lennard_jones": lennard_jones}
_MAKERS = SYSTEMS | {"recorded": recorded}


def named(name: str, **parameters: Any) -> System:
    """The system of that name.

    Raises:
        InvalidArgument: there is no such system, it has no such parameter, or lacks one.
    """
    make = _MAKERS[one_of("system", name, *_MAKERS)]
    known = parameters_of(name)
    for key in parameters:
        if key not in known:
            raise InvalidArgument(
                f"{name} has no parameter {key!r}; it has {', '.join(known) or 'none'}"
            )
    for key, told in inspect.signature(make).parameters.items():
        if told.default is told.empty and key not in parameters:
            raise InvalidArgument(f"{name} needs the parameter {key!r}")
    return make(**parameters)


def parameters_of(name: str) -> tuple[str, ...]:
    """Names of the parameters of a system."""
    return tuple(inspect.signature(_MAKERS[one_of("system", name, *_MAKERS)]).parameters)
