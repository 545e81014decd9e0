"""Bundles of splittings: large steps of particles that act in pairs, as the core makes them.

The kind is "dynamics", the native engine "splitting". weights.safetensors holds, in float64,
m0.drifts (K + 1,), m0.masses (T,) of the types, and m0.tables0, m0.tables1, .. (ceil(K / 2), pairs of
types, M, 4): the coefficients of `mlcore.splitting.PairSplitting` for the step, for half of it, a
quarter, .., which a run falls back to when particles come too close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.export.manifest import (
    WEIGHTS,
    ManifestReader,
    bundle_folder,
    checked_units,
    write_manifest,
)
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.splitting import PairSplitting

__all__ = ["SplittingBundle", "load_splitting", "write_splitting"]

Array = NDArray[np.float64]
_ALIKE = 1e-12
_MOST = {"kicks": 1024, "intervals": 1 << 20, "halvings": 32}


@dataclass(frozen=True, eq=False)
class SplittingBundle:
    """A bundle read and checked.

    Args:
        path: its folder.
        manifest: content of manifest.json.
        steps: the step, half of it, a quarter, ..; their species are the types.
    """

    path: Path
    manifest: dict[str, Any]
    steps: tuple[PairSplitting, ...]

    @property
    def units(self) -> dict[str, str]:
        """Names of the units of length, energy and time."""
        return dict(self.manifest["units"])


def write_splitting(
    path: str | Path,
    steps: Sequence[PairSplitting],
    *,
    units: Mapping[str, str] | str = "lj",
    training: Mapping[str, Any] | None = None,
) -> SplittingBundle:
    """Write a bundle, verified before it is put in place.

    Args:
        path: folder to appear; a bundle already there is replaced as a whole.
        steps: a step and, for pairs that come too close in it, that of half its length, a quarter, ..;
            alike but for step and coefficients. Species are types, in their order.
        units: names of the units of length, energy and time, or one word for all.
        training: where it came from; anything JSON can hold.

    Raises:
        InvalidArgument: naming the argument.
        Error: a step of the core does not agree with its formula, or a file cannot be written.
    """
    steps = tuple(steps)
    _check_alike(steps)
    first, target, told_units = steps[0], Path(path), checked_units(units)
    tensors = {"m0.drifts": first.drifts, "m0.masses": first.masses}
    tensors |= {f"m0.tables{k}": step.coefficients for k, step in enumerate(steps)}
    native = {
        "kind": "splitting",
        "kicks": first.kicks,
        "intervals": first.intervals,
        "halvings": len(steps) - 1,
        "u_lo": first.u_lo,
        "u_hi": first.u_hi,
    }
    model = {
        "sees": "neighbors",
        "gives": "step",
        "dtype": "float64",
        "cutoff": first.cutoff,
        "types": first.species,
        "timestep": first.h,
        "members": 1,
    }
    with bundle_folder(target) as folder:
        write_tensors(folder / WEIGHTS, tensors)
        verified = {"native": verified_steps(steps)}
        parts = {"model": model, "engines": {"native": native}, "verified": verified}
        write_manifest(folder, "dynamics", told_units, training or {}, parts)
        load_splitting(folder)
    return load_splitting(target)


def _check_alike(steps: Sequence[PairSplitting]) -> None:
    if not steps or not all(isinstance(one, PairSplitting) for one in steps):
        raise InvalidArgument("steps must hold at least one PairSplitting")
    if len(steps) - 1 > _MOST["halvings"]:
        raise InvalidArgument(f"steps must hold at most {_MOST['halvings'] + 1}, got {len(steps)}")
    first = steps[0]
    for k, one in enumerate(steps):
        if abs(one.h * 2**k - first.h) > _ALIKE * first.h:
            raise InvalidArgument(f"steps must be h, h / 2, h / 4, .., but number {k} is {one.h:g}")
        same = one.coefficients.shape == first.coefficients.shape
        same &= (one.u_lo, one.u_hi) == (first.u_lo, first.u_hi)
        same &= np.array_equal(one.drifts, first.drifts)
        same &= np.array_equal(one.masses, first.masses)
        if not same:
            raise InvalidArgument(
                f"steps must be alike but for h and coefficients, number {k} is not"
            )


def is_splitting(reader: ManifestReader) -> bool:
    """Whether a manifest tells of a splitting; whatever is wrong with it otherwise."""
    engines = reader.manifest.get("engines")
    native = engines.get("native") if isinstance(engines, dict) else None
    return isinstance(native, dict) and native.get("kind") == "splitting"


def load_splitting(path: str | Path) -> SplittingBundle:
    """Read and check a bundle of a splitting.

    Raises:
        FileFormatError: naming file and field: absent, unreadable, truncated, wrong types or
            shapes, NaN, wrong hash, names that leave the folder.
    """
    folder = Path(path)
    reader = ManifestReader(folder)
    reader.check_kind("dynamics")
    for name, wanted in (("sees", "neighbors"), ("gives", "step"), ("dtype", "float64")):
        reader.word("model", name, among=(wanted,))
    reader.word("engines", "native", "kind", among=("splitting",))
    if reader.whole("model", "members", least=1) != 1:
        reader.fail("field model.members must be 1 of a splitting")
    tensors, _ = read_tensors(folder / WEIGHTS, data=reader.files()[WEIGHTS])
    types = reader.whole("model", "types", least=1)
    kicks, intervals = (_count(reader, name, 1) for name in ("kicks", "intervals"))
    shape = ((kicks + 1) // 2, types * (types + 1) // 2, intervals, 4)
    u_lo, u_hi = (reader.number("engines", "native", n, positive=True) for n in ("u_lo", "u_hi"))
    if abs(reader.number("model", "cutoff", positive=True) * u_lo - 1) > _ALIKE:
        reader.fail("field engines.native.u_lo must be the inverse of model.cutoff")
    drifts = _tensor(reader, tensors, "m0.drifts", (kicks + 1,))
    masses = _tensor(reader, tensors, "m0.masses", (types,))
    h = reader.number("model", "timestep", positive=True)
    steps = []
    for k in range(_count(reader, "halvings", 0) + 1):
        coefficients = _tensor(reader, tensors, f"m0.tables{k}", shape)
        try:
            steps.append(PairSplitting(h / 2**k, drifts, masses, coefficients, u_lo, u_hi))
        except InvalidArgument as error:
            raise FileFormatError(f"{folder / WEIGHTS}: {error}") from error
    return SplittingBundle(folder, reader.manifest, tuple(steps))


def _count(reader: ManifestReader, name: str, least: int) -> int:
    value = reader.whole("engines", "native", name, least=least)
    if value > _MOST[name]:
        reader.fail(f"field engines.native.{name} must be at most {_MOST[name]}, not {value}")
    return value


def _tensor(
    reader: ManifestReader, tensors: Mapping[str, Any], name: str, shape: tuple[int, ...]
) -> Array:
    where = f"{reader.path / WEIGHTS}: tensor {name!r}"
    if name not in tensors:
        raise FileFormatError(f"{where} is missing")
    found = tensors[name]
    if found.dtype != np.float64 or found.shape != shape:
        raise FileFormatError(f"{where} must be F64 {shape}, not {found.dtype} {found.shape}")
    return np.asarray(found)


# -- verification ---------------------------------------------------------------------------------
def verified_steps(steps: Sequence[PairSplitting]) -> float:
    """Largest relative error of the core's steps against their formula in NumPy.

    Raises:
        Error: larger than 1e-10.
    """
    worst = max(_error(step) for step in steps)
    if not worst <= 1e-10:
        raise Error(f"native: differs from the formula by {worst:.2e}, more than 1e-10")
    return worst


def _error(step: PairSplitting, count: int = 40) -> float:
    """One step of particles that stay apart, some pairs near `closest` and some beyond the cutoff."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(count ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:count]
    apart = 1.05 * step.closest + 0.1 * (step.cutoff - step.closest)
    x = grid * apart + rng.uniform(-0.02, 0.02, (count, 3)) * apart
    v = rng.uniform(-1, 1, (count, 3)) * 0.01 * step.closest / step.h
    species = rng.integers(0, step.species, count)
    want = _formula(step, x, v, species)
    columns = np.array([j for i in range(count) for j in range(count) if j != i], np.int32)
    offsets = np.arange(count + 1) * (count - 1)
    at, velocity = x + step.h * step.drifts[0] * v, v
    for k in range(step.kicks):
        velocity, _ = step.kick(k, at, velocity, offsets, columns, species=species)
        at = at + step.h * step.drifts[k + 1] * velocity
    scale = np.abs(want[0] - x).max(), np.abs(want[1]).max()
    errors = [
        float(np.abs(found - right).max() / max(size, 1e-300))
        for found, right, size in zip((at, velocity), want, scale, strict=True)
    ]
    return max(errors)


def _formula(step: PairSplitting, x: Array, v: Array, species: NDArray[Any]) -> tuple[Array, Array]:
    x = x + step.h * step.drifts[0] * v
    for k in range(step.kicks):
        v = _kicked(step, k, x, v, species)
        x = x + step.h * step.drifts[k + 1] * v
    return x, v


def _kicked(step: PairSplitting, k: int, x: Array, v: Array, species: NDArray[Any]) -> Array:
    """Velocities after kick k of all pairs."""
    D = x[:, None] - x[None]
    r = np.linalg.norm(D, axis=2)
    np.fill_diagonal(r, np.inf)
    u = 1 / r
    place = np.clip((u - step.u_lo) / (step.u_hi - step.u_lo), 0, 1) * step.intervals
    cell = np.minimum(place.astype(np.int64), step.intervals - 1)
    t = place - cell
    low, high = np.minimum.outer(species, species), np.maximum.outer(species, species)
    pair = low * step.species - low * (low - 1) // 2 + high - low
    a, b, c, d = np.moveaxis(step.coefficients[min(k, step.kicks - 1 - k), pair, cell], -1, 0)
    G = np.where(r < step.cutoff, u**8 * (a + t * (b + t * (c + t * d))), 0.0)
    push = (G[..., None] * D).sum(1)
    return np.asarray(v + step.h / step.masses[species][:, None] * push)
