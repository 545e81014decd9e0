"""Mobility tensors: velocities of particles in a viscous fluid from the forces on them.

V_i = sum_j M_ij F_j with 3x3 blocks M_ij. Any unit system: a mobility is a velocity over a force,
1/(6 pi viscosity radius). Positions come as a NumPy array (or what becomes one), a torch tensor, a
CuPy array or ``ase.Atoms``; results are of the same kind and on the same device (NumPy for Atoms).
Batches are a leading dimension: (B, n, 3). For derivatives by torch see `mlcore.ops`.

Arrays are float64. Where all arrays of a call are float32 so is the result: in open space without a
table the sums then run in single precision, which is twice as fast; an entry of M is off by some
1e-6 of itself or of the self part, a velocity by some 1e-6 of sum_j |M_ij| |F_j|. Everything else is
computed in double precision and rounded.

Sources: J. Rotne and S. Prager, J. Chem. Phys. 50, 4831 (1969); H. Yamakawa, J. Chem. Phys. 53, 436
(1970); H. Hasimoto, J. Fluid Mech. 5, 317 (1959); C. W. J. Beenakker, J. Chem. Phys. 85, 1581
(1986); P. J. Zuk et al., J. Fluid Mech. 741, R5 (2014); R. Cortez, L. Fauci and A. Medovikov, Phys.
Fluids 17, 031504 (2005); J. W. Swan and J. F. Brady, Phys. Fluids 19, 113306 (2007).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import (
    Particles,
    apart,
    host,
    integer,
    number,
    positive,
    precision,
    thread_count,
)
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

    from mlcore.arrays import Pbc, Positions

__all__ = [
    "RPY",
    "CoreMobility",
    "Mobility",
    "Oseen",
    "PairMobility",
    "PairTable",
    "RegularizedOseen",
    "WallRPY",
]

Array = npt.NDArray[np.float64]


class Mobility(ABC):
    """A mobility that depends on the positions of the particles alone.

    All methods take ``cell`` as (3, 3) row vectors or (3,) edge lengths, None for open space (or
    the cell of ``Atoms``), and ``pbc`` as one flag or three; None means all axes when a cell is
    given, or the flags of ``Atoms``. Positions may lie outside the cell.
    """

    @abstractmethod
    def matrix(
        self,
        x: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        """The matrix M.

        Args:
            x: (n, 3) or (B, n, 3) positions.
            cell: see the class.
            pbc: see the class.
            out: C-contiguous array to write to, of the kind, device and precision of the result,
                apart from the inputs.
            num_threads: CPU threads; None takes the library-wide setting.

        Returns:
            (3n, 3n) or (B, 3n, 3n), symmetric; row 3i + a, column 3j + b.

        Raises:
            InvalidArgument: a shape, value or cell is wrong, or arrays are on different devices.
            BackendUnavailable: x is on a GPU and mlcore was built without CUDA.
        """

    @abstractmethod
    def apply(
        self,
        x: Positions,
        forces: npt.ArrayLike | torch.Tensor,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        """Velocities M F, without storing M.

        Args:
            x: (n, 3) or (B, n, 3) positions.
            forces: like x.
            cell: see the class.
            pbc: see the class.
            out: C-contiguous array to write to, of the kind, device and precision of the result,
                apart from the inputs.
            num_threads: CPU threads; None takes the library-wide setting.

        Returns:
            Like x.

        Raises:
            InvalidArgument, BackendUnavailable: as `matrix`.
        """

    @abstractmethod
    def divergence(
        self,
        x: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        """Divergence D_i = sum_j d/dx_j . M_ij, the drift of Ito Brownian dynamics over kT.

        Arguments and errors as `matrix`.

        Returns:
            Like x; mobility over length.
        """


class CoreMobility(Mobility):
    """A mobility the C++ core knows.

    Attributes:
        core_model: what the functions of ``mlcore._core`` take.
    """

    core_model: Any

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold what it was made from."""
        return {name: value for name, value in vars(self).items() if name != "core_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.core_model = self._core_model()

    @abstractmethod
    def _core_model(self) -> Any: ...

    @abstractmethod
    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        """Pair mobilities along and across the line of centres, in open space.

        Args:
            r: distances > 0 of any shape.

        Returns:
            par, perp of the shape of r: M_ij = par rr + perp (I - rr).
        """

    def matrix(
        self,
        x: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        particles = Particles.of(x, cell, pbc, dtype=precision(x))
        side = 3 * particles.x.shape[1]
        return self._run(_core.mobility_matrix, particles, (side, side), out, num_threads)

    def apply(
        self,
        x: Positions,
        forces: npt.ArrayLike | torch.Tensor,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        particles = Particles.of(x, cell, pbc, dtype=precision(x, forces))
        force = particles.vectors("forces", forces)
        shape = particles.x.shape[1:]
        return self._run(_core.mobility_apply, particles, shape, out, num_threads, forces=force)

    def position_gradient(
        self,
        x: Positions,
        forces: npt.ArrayLike | torch.Tensor,
        adjoint: npt.ArrayLike | torch.Tensor,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        """Derivative in the positions of sum(adjoint * apply(x, forces)), in float64.

        That in the forces is ``apply(x, adjoint)``; `mlcore.ops.mobility_apply` knows those in the
        parameters too.

        Args:
            x: (n, 3) or (B, n, 3) positions.
            forces: like x.
            adjoint: like x.
            cell, pbc: see the class.
            out: C-contiguous float64 array to write to, of the kind and device of x.
            num_threads: CPU threads; None takes the library-wide setting.

        Returns:
            Like x.

        Raises:
            InvalidArgument, BackendUnavailable: as `matrix`.
        """
        particles = Particles.of(x, cell, pbc)
        force, other = particles.vectors("forces", forces), particles.vectors("adjoint", adjoint)
        shape = particles.x.shape[1:]
        backward = _core.mobility_apply_backward
        inputs = {"forces": force, "adjoint": other}
        return self._run(backward, particles, shape, out, num_threads, **inputs)

    def divergence(
        self,
        x: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        particles = Particles.of(x, cell, pbc, dtype=precision(x))
        shape = particles.x.shape[1:]
        return self._run(_core.mobility_divergence, particles, shape, out, num_threads)

    def _run(
        self,
        operation: Callable[..., Any],
        particles: Particles,
        shape: tuple[int, ...],
        out: Any,
        num_threads: int | None,
        **inputs: Any,
    ) -> Any:
        array, result = particles.output(out, tuple(shape))
        if out is not None:
            apart(array, x=particles.x, **inputs)
        threads, stream = thread_count(num_threads), particles.kind.stream()
        arrays = (particles.x, *inputs.values(), array)
        operation(self.core_model, *particles.box, *arrays, num_threads=threads, stream=stream)
        return result


class _Spheres(CoreMobility):
    """An analytic mobility of spheres, told apart by ``kernel``."""

    kernel: ClassVar[str]
    radius: float | Array
    viscosity: float
    tolerance: float

    def _set(self, radius: float | Array, viscosity: float, tolerance: float = 1e-10) -> None:
        self.radius = radius
        self.viscosity = positive("viscosity", viscosity)
        self.tolerance = _tolerance(tolerance)
        self.core_model = self._core_model()

    def _core_model(self) -> Any:
        return _core.MobilityModel(**self.core_options())

    def core_options(self) -> dict[str, Any]:
        """What ``_core.MobilityModel`` takes."""
        unequal = isinstance(self.radius, np.ndarray)
        return {
            "kernel": self.kernel,
            "radii" if unequal else "radius": self.radius,
            "viscosity": self.viscosity,
            "tolerance": self.tolerance,
        }


class Oseen(_Spheres):
    """Point forces: the Oseen tensor between particles, Stokes drag on each.

    Not positive definite for particles closer than about 1.5 radii; use `RPY` for square roots.
    Particles closer than 1e-40 (1e-9 where float32 is computed in single precision) coincide, which
    is an error.

    Args:
        viscosity: > 0.
        radius: > 0, of the self part 1/(6 pi viscosity radius).
        tolerance: error of periodic sums relative to the self part.
    """

    kernel = "oseen"
    radius: float

    def __init__(self, viscosity: float, radius: float, tolerance: float = 1e-10) -> None:
        self._set(positive("radius", radius), viscosity, tolerance)

    def __repr__(self) -> str:
        return f"Oseen(viscosity={self.viscosity!r}, radius={self.radius!r})"

    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        perp = 1 / (8 * np.pi * self.viscosity * _distances(r))
        return 2 * perp, perp


class RegularizedOseen(_Spheres):
    """Forces spread over blobs: the regularised Stokeslet, in open space.

    The blob is 15 epsilon^4 / (8 pi (r^2 + epsilon^2)^(7/2)), its mobility
    ((r^2 + 2 epsilon^2) I + r r) / (8 pi viscosity (r^2 + epsilon^2)^(3/2)): positive definite and
    free of divergence. A particle's own mobility is that of a sphere of radius 2 epsilon / 3.

    Args:
        viscosity: > 0.
        epsilon: > 0, width of the blobs.
    """

    kernel = "regularized_oseen"
    radius: float

    def __init__(self, viscosity: float, epsilon: float) -> None:
        self.epsilon = positive("epsilon", epsilon)
        self._set(self.epsilon / 1.5, viscosity)

    def __repr__(self) -> str:
        return f"RegularizedOseen(viscosity={self.viscosity!r}, epsilon={self.epsilon!r})"

    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        s, e2 = np.square(_distances(r)), self.epsilon**2
        scale = 1 / (8 * np.pi * self.viscosity * (s + e2) ** 1.5)
        return 2 * scale * (s + e2), scale * (s + 2 * e2)


class RPY(_Spheres):
    """Rotne-Prager-Yamakawa tensor of spheres, overlapping ones included.

    Positive definite for any configuration. In a periodic cell (any lattice) it is the sum over all
    images without the k = 0 mode (no net flow), by an Ewald sum.

    Args:
        radius: > 0; one for all spheres, or (n,) radii: apart, overlapping or one inside the other,
            in open space.
        viscosity: > 0.
        tolerance: error of periodic sums relative to 1/(6 pi viscosity radius), 1e-14..1e-2.
    """

    kernel = "rpy"

    def __init__(
        self, radius: float | npt.ArrayLike, viscosity: float, tolerance: float = 1e-10
    ) -> None:
        self._set(_radius(radius), viscosity, tolerance)

    def __repr__(self) -> str:
        return f"RPY(radius={self.radius!r}, viscosity={self.viscosity!r})"

    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        if isinstance(self.radius, np.ndarray):
            raise InvalidArgument("spheres of several radii have no common pair functions")
        s = _distances(r) / self.radius
        mobility = 1 / (6 * np.pi * self.viscosity * self.radius)
        far = np.maximum(s, 2)
        par = np.where(s < 2, 1 - 3 / 16 * s, 1.5 / far - 1 / far**3)
        perp = np.where(s < 2, 1 - 9 / 32 * s, 0.75 / far + 0.5 / far**3)
        return mobility * par, mobility * perp


class WallRPY(_Spheres):
    """`RPY` of equal spheres above a no-slip wall at z = 0, by the images of Swan and Brady.

    In open space; every particle must lie at z >= radius. M_ij depends on the heights too; the self
    part falls to 1/2 (along the wall) and 1/4 (towards it) of 1/(6 pi viscosity radius) at contact,
    where the true one, lubrication included, vanishes. The divergence is that of the self part.

    Args:
        radius: > 0.
        viscosity: > 0.
    """

    kernel = "rpy_wall"
    radius: float

    def __init__(self, radius: float, viscosity: float) -> None:
        self._set(positive("radius", radius), viscosity)

    def __repr__(self) -> str:
        return f"WallRPY(radius={self.radius!r}, viscosity={self.viscosity!r})"

    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        raise InvalidArgument("near a wall a pair is not described by its distance alone")


@dataclass(frozen=True, eq=False)
class PairTable:
    """Pair functions on uniform knots 0..cutoff, cubic Hermite between, zero from the cutoff on.

    Args:
        cutoff: length.
        par: (k,) mobility along the line of centres.
        dpar: (k,) its derivative.
        perp: (k,) mobility across it.
        dperp: (k,) its derivative.
    """

    cutoff: float
    par: Array
    dpar: Array
    perp: Array
    dperp: Array

    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        """Interpolated par, perp at distances r."""
        from scipy.interpolate import CubicHermiteSpline

        distance = _distances(r)
        knots = np.linspace(0.0, self.cutoff, len(self.par))
        inside = distance < self.cutoff
        par, perp = (
            np.where(inside, CubicHermiteSpline(knots, value, slope)(distance), 0.0)
            for value, slope in ((self.par, self.dpar), (self.perp, self.dperp))
        )
        return par, perp


class PairMobility(CoreMobility):
    """A tabulated, short-ranged pair mobility on top of an analytic background.

    M_ij = background + par(r) rr + perp(r) (I - rr), M_ii = background + self_mobility I. In a
    periodic cell the table is summed over all images within its cutoff.

    Args:
        self_mobility: extra diagonal, mobility; finite. It holds the table's own value at r = 0.
        cutoff: > 0, length.
        par: (k,) values on uniform knots 0..cutoff, k >= 2, mobility.
        dpar: (k,) their derivatives.
        perp: (k,) as par, across the line of centres.
        dperp: (k,) as dpar.
        background: any other mobility of this module, or None.

    Attributes:
        table: the numbers as a `PairTable`.

    Raises:
        InvalidArgument: lengths differ, or a value is not finite.
    """

    def __init__(
        self,
        self_mobility: float,
        cutoff: float,
        par: npt.ArrayLike,
        dpar: npt.ArrayLike,
        perp: npt.ArrayLike,
        dperp: npt.ArrayLike,
        background: _Spheres | None = None,
    ) -> None:
        self.self_mobility = number("self_mobility", self_mobility)
        if not np.isfinite(self.self_mobility):
            raise InvalidArgument(f"self_mobility must be finite, got {self_mobility}")
        if background is not None and not isinstance(background, _Spheres):
            raise InvalidArgument(
                f"background must be RPY, WallRPY, Oseen, RegularizedOseen or None, got "
                f"{type(background).__name__}"
            )
        self.background = background
        self.cutoff = positive("cutoff", cutoff)
        columns = {"par": par, "dpar": dpar, "perp": perp, "dperp": dperp}
        values = {name: _column(name, value) for name, value in columns.items()}
        lengths = {len(value) for value in values.values()}
        if len(lengths) > 1 or min(lengths) < 2:
            shapes = ", ".join(f"{name} {len(value)}" for name, value in values.items())
            raise InvalidArgument(f"tables must have equal lengths of at least 2, got {shapes}")
        self.table = PairTable(self.cutoff, **values)
        self.core_model = self._core_model()

    @classmethod
    def from_functions(
        cls,
        self_mobility: float,
        cutoff: float,
        par: Callable[[Array], npt.ArrayLike],
        perp: Callable[[Array], npt.ArrayLike],
        knots: int = 2048,
        background: _Spheres | None = None,
    ) -> PairMobility:
        """Tabulates two functions of the distance; derivatives are those of a cubic spline.

        Args:
            self_mobility: as the class.
            cutoff: as the class.
            par: called once with the (knots,) distances 0..cutoff.
            perp: likewise.
            knots: >= 4.
            background: as the class.

        Raises:
            InvalidArgument: too few knots, or a function returns a wrong shape or a value that
                is not finite.
        """
        from scipy.interpolate import CubicSpline

        if integer("knots", knots) < 4:
            raise InvalidArgument(f"knots must be at least 4, got {knots}")
        r = np.linspace(0.0, positive("cutoff", cutoff), knots)
        columns: dict[str, Array] = {}
        for name, function in (("par", par), ("perp", perp)):
            if not callable(function):
                raise InvalidArgument(
                    f"{name} must be a function of the distance, got {type(function).__name__}"
                )
            values = _column(name, function(r))
            if len(values) != knots:
                raise InvalidArgument(
                    f"{name} must return {knots} values for {knots} distances, got {len(values)}"
                )
            columns[name] = values
            columns["d" + name] = CubicSpline(r, values).derivative()(r)
        return cls(self_mobility, cutoff, **columns, background=background)

    def __repr__(self) -> str:
        return (
            f"PairMobility(self_mobility={self.self_mobility!r}, cutoff={self.cutoff!r}, "
            f"knots={len(self.table.par)}, background={self.background!r})"
        )

    def pair(self, r: npt.ArrayLike) -> tuple[Array, Array]:
        par, perp = self.table.pair(r)
        if self.background is None:
            return par, perp
        far_par, far_perp = self.background.pair(r)
        return par + far_par, perp + far_perp

    def _core_model(self) -> Any:
        background = self.background
        analytic = {"kernel": "none"} if background is None else background.core_options()
        table = self.table
        return _core.MobilityModel(
            **analytic,
            self_mobility=self.self_mobility,
            cutoff=table.cutoff,
            par=table.par,
            dpar=table.dpar,
            perp=table.perp,
            dperp=table.dperp,
        )


def _radius(radius: Any) -> float | Array:
    if np.ndim(radius) == 0:
        return positive("radius", radius)
    radii = _column("radius", radius)
    if not (radii > 0).all():
        raise InvalidArgument(f"radius must be positive, but the smallest one is {radii.min()}")
    return radii


def _tolerance(value: float) -> float:
    if not 1e-14 <= number("tolerance", value) <= 1e-2:
        raise InvalidArgument(f"tolerance must lie in 1e-14..1e-2, got {value}")
    return float(value)


def _distances(r: npt.ArrayLike) -> Array:
    distance: Array = host("r", r, "pair functions are evaluated")
    if not (distance >= 0).all():
        raise InvalidArgument("r must not be negative or NaN")
    return distance


def _column(name: str, values: Any) -> Array:
    column = np.array(host(name, values, "tables are read"))
    if column.ndim != 1:
        raise InvalidArgument(f"{name} must be 1-d, got the shape {column.shape}")
    if not np.isfinite(column).all():
        raise InvalidArgument(f"{name} must be finite")
    column.setflags(write=False)
    return column
