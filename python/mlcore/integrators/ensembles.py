"""Averages over a run that do not ask where each particle is, beside those of the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlcore.integrators import metrics
from mlcore.integrators.face import Frames
from mlcore.integrators.measures import finite, velocities_of
from mlcore.integrators.setting import Curve, Setting, Value, Values, left_out
from mlcore.md import System, lennard_jones

__all__ = ["ENSEMBLE", "Ensemble", "beside", "measured", "pressure", "scatter"]

Array = npt.NDArray[np.float64]
ENSEMBLE = ("g_l1", "potential", "pressure", "vacf_l1", "msd", "diffusion")
_BINS = 60
_PAIRS = 4e6  # of frames of g(r) of one run
_NO_PRESSURE = "there is no box, or forces are not known"
_NO_VELOCITIES = "no velocities are predicted, or nothing moves"
_STILL = "nothing moves"
_LAG = 5.0  # time of correlations


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Averages of R runs.

    Attributes:
        runs: (R,) which of the data's.
        r: (B,) distances.
        g: (R, B) distribution of pairs.
        potential: (R,) energy per particle.
        pressure: (R,); NaN without a box.
        lags: (L,) times.
        vacf: (R, L); NaN without velocities.
        msd: (R, L).
        dim: dimensions.
    """

    runs: npt.NDArray[np.intp]
    r: Array
    g: Array
    potential: Array
    pressure: Array
    lags: Array
    vacf: Array
    msd: Array
    dim: int

    def of(self, runs: npt.NDArray[np.intp]) -> Ensemble:
        """Those of some of the data's runs."""
        rows = np.flatnonzero(np.isin(self.runs, runs))
        names = ("runs", "g", "potential", "pressure", "vacf", "msd")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    @property
    def curves(self) -> dict[str, Curve]:
        """Means over runs."""
        return {
            "g": (self.r, self.g.mean(0)),
            "vacf": (self.lags, self.vacf.mean(0)),
            "msd": (self.lags, self.msd.mean(0)),
        }

    @property
    def bands(self) -> dict[str, Curve]:
        """Smallest and largest values of single runs."""
        rows = {"g": (self.r, self.g), "vacf": (self.lags, self.vacf), "msd": (self.lags, self.msd)}
        return {
            f"{name} {word}": (x, pick(values, axis=0))
            for name, (x, values) in rows.items()
            for word, pick in (("low", np.min), ("high", np.max))
        }


def measured(setting: Setting, frames: Frames) -> Ensemble | str:
    """Averages over the frames that ensembles keep, of runs predicted to the end; or why none are."""
    if setting.particles == 1 or setting.dim != 3:
        return "one particle is no ensemble"
    if not setting.uniform:
        return "the runs are of different systems or masses"
    runs = finite(frames)
    kept = setting.kept()
    count = setting.n - (kept.start or 0)
    if not runs.any() or count < 8:
        return "no run was predicted to the end, or fewer than eight frames are kept"
    x = frames.positions[runs][:, kept]
    v = velocities_of(frames)[runs][:, kept]
    which = setting.looked_at[setting.looked_at >= (kept.start or 0)] - (kept.start or 0)
    lags = max(4, min(count // 2, round(_LAG / setting.interval) + 1))
    r, g = _distribution(setting, x)
    kinetic = metrics.kinetic_energy(v[:, which], setting.data.masses[runs])
    potential = _potential(setting.system, x[:, which])
    known = bool(np.isfinite(v).all())
    msd = [metrics.mean_square_displacement(metrics.unwrapped(run, setting.box), lags) for run in x]
    return Ensemble(
        np.flatnonzero(runs),
        r,
        g,
        potential.mean(1) / setting.particles,
        pressure(setting.system, x[:, which], kinetic),
        np.asarray(setting.interval * np.arange(lags)),
        metrics.velocity_autocorrelation(v, lags) if known else np.full((len(x), lags), np.nan),
        np.array(msd),
        setting.dim,
    )


def _distribution(setting: Setting, x: Array) -> tuple[Array, Array]:
    """(B,) and (R, B), of so many frames as there is time for."""
    box, cell = setting.box, setting.system.cell if setting.box is None else None
    reach = _reach(setting, x) if box is None else min(0.5 * box, 4.0)
    if cell is not None:
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        reach = min(0.5 * float(heights.min()), 4.0)
    edges = np.linspace(0, reach, _BINS + 1)
    most = max(50, int(_PAIRS / setting.particles**2))
    which = np.unique(np.linspace(0, x.shape[1] - 1, min(x.shape[1], most)).astype(np.intp))
    found = [metrics.pair_distribution(run[which], edges, box, cell) for run in x]
    return found[0][0], np.array([g for _, g in found])


def _reach(setting: Setting, x: Array) -> float:
    """In open space: where the pairs of the reference are, rounded up."""
    radius = setting.system.parameters.get("radius")
    if radius is not None:
        return float(2 * radius)
    extent = np.ptp(setting.rest.positions[:, setting.kept()], axis=2)
    return float(np.ceil(np.sqrt((extent**2).sum(-1)).max()))


def _potential(system: System, x: Array) -> Array:
    """(R, F); NaN where forces are not known."""
    if not system.forces:
        return np.full(x.shape[:2], np.nan)
    rows = np.ascontiguousarray(x).reshape(-1, *x.shape[2:])
    return np.asarray(system.energies_forces(rows)[0]).reshape(x.shape[:2])


def pressure(system: System, x: Array, kinetic: Array, change: float = 1e-5) -> Array:
    """(R,) of particles in a periodic cube: 2 K / 3 V - dU/dV, the latter by scaling all lengths.

    Args:
        system: Lennard-Jones particles in a box.
        x: (R, F, n, 3).
        kinetic: (R, F) energies.
        change: of lengths, relative.

    Returns:
        Means over frames; NaN without a box.
    """
    box = system.box
    if box is None or not system.forces:
        return np.full(len(x), np.nan)
    ends = []
    for scale in (1 - change, 1 + change):
        scaled = lennard_jones(**{**system.parameters, "box": box * scale})
        ends.append(_potential(scaled, x * scale))
    volume = box**3
    step = volume * ((1 + change) ** 3 - (1 - change) ** 3)
    return np.asarray((2 * kinetic / (3 * volume) - (ends[1] - ends[0]) / step).mean(1))


# ---------------------------------------------------------------------------------------- compared
def beside(own: Ensemble | str, reference: Ensemble | str) -> Values:
    """Distances of pooled averages from those of the reference, over the runs that both have."""
    for found in (own, reference):
        if isinstance(found, str):
            return dict.fromkeys(ENSEMBLE, left_out(found))
    assert isinstance(own, Ensemble) and isinstance(reference, Ensemble)
    same = reference.of(own.runs)
    true, part = same.curves, len(same.runs) < len(reference.runs)

    def told(pick: Callable[[Ensemble], Value]) -> Value:
        value = pick(own)
        if value.number is None or not part:
            return value
        return replace(value, text=f"{value}; truth of these runs {pick(same)}")

    return {
        "g_l1": Value(metrics.mean_difference(own.g.mean(0), true["g"][1])),
        "potential": told(lambda one: _told(one.potential)),
        "pressure": told(lambda one: _told(one.pressure, _NO_PRESSURE)),
        "vacf_l1": _number(_vacf(own.vacf.mean(0), true["vacf"][1]), _NO_VELOCITIES),
        "msd": _number(_msd(own.msd.mean(0), true["msd"][1]), _STILL),
        "diffusion": told(_diffusion),
    }


def scatter(reference: Ensemble | str) -> Values:
    """How far single reference runs are from the others: what a distance means."""
    if isinstance(reference, str):
        return dict.fromkeys(ENSEMBLE, left_out(reference))
    return {
        "g_l1": _between(reference.g, metrics.mean_difference, ""),
        "potential": _told(reference.potential),
        "pressure": _told(reference.pressure, _NO_PRESSURE),
        "vacf_l1": _between(reference.vacf, _vacf, _NO_VELOCITIES),
        "msd": _between(reference.msd, _msd, _STILL),
        "diffusion": _diffusion(reference),
    }


def _between(rows: Array, distance: Callable[[Array, Array], float], otherwise: str) -> Value:
    """Of each run from the mean of the others."""
    if len(rows) < 2:
        return left_out("one reference run has no scatter")
    found = [distance(row, np.delete(rows, k, 0).mean(0)) for k, row in enumerate(rows)]
    middle = float(np.median(found))
    if not np.isfinite(middle):
        return left_out(otherwise)
    return Value(middle, f"{middle:.2g} ({min(found):.2g} .. {max(found):.2g} run to run)")


def _vacf(own: Array, true: Array) -> float:
    """Integral of the difference over that of the absolute value."""
    size = float(np.abs(true).sum())
    return float(np.abs(own - true).sum()) / size if size > 0 else float("nan")


def _msd(own: Array, true: Array) -> float:
    """Mean relative difference."""
    if not (true[1:] > 0).all():
        return float("nan")
    return float(np.abs(own[1:] / true[1:] - 1).mean())


def _told(values: Array, otherwise: str = "energies are not known, or not finite") -> Value:
    if not np.isfinite(values).all():
        return left_out(otherwise)
    mean = float(values.mean())
    spread = f" +- {values.std(ddof=1) / np.sqrt(len(values)):.2g}" if len(values) > 1 else ""
    return Value(mean, f"{mean:.4g}{spread}")


def _number(value: float, otherwise: str) -> Value:
    return Value(value) if np.isfinite(value) else left_out(otherwise)


def _diffusion(found: Ensemble) -> Value:
    D = metrics.diffusion(found.lags, found.msd, found.dim)
    spread = f" +- {D.error:.2g}" if np.isfinite(D.error) else ""
    return Value(D.value, f"{D.value:.4g}{spread}")
