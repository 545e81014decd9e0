"""The bundle: a folder with a manifest, weights, and hashes that tie them together.

DIR/manifest.json         format, units, parameters in full precision, SHA-256 of every file
DIR/weights.safetensors   float64 tensors par, dpar, perp, dperp (knots,) [+ model.*]
DIR/M_ii.pt, M_ij.pt      TorchScript for MLMOD's calling convention (optional)
DIR/*.mlmod_params        XML for `fix mlmod` (optional; not hashed, meant to be edited)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.export.manifest import (
    MANIFEST,
    WEIGHTS,
    ManifestReader,
    bundle_folder,
    checked_units,
    write_manifest,
)
from mlcore.io.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from mlcore.mobility.models.base import PairModel
    from mlcore.mobility.tensors import PairMobility

__all__ = ["Bundle", "PairTableData", "export", "load_bundle", "write_bundle"]

Array = NDArray[np.float64]

_TABLES = ("par", "dpar", "perp", "dperp")


@dataclass(frozen=True)
class PairTableData:
    """Numbers of a pair mobility: what the manifest and the tensors hold.

    Args:
        kernel: "none" or "rpy".
        radius, viscosity: of the background; None without one.
        self_mobility: diagonal besides the background.
        cutoff: end of the table.
        par, dpar, perp, dperp: (n,) values and slopes on uniform knots 0..cutoff.
    """

    kernel: str
    radius: float | None
    viscosity: float | None
    self_mobility: float
    cutoff: float
    par: Array
    dpar: Array
    perp: Array
    dperp: Array

    @classmethod
    def of_model(cls, model: PairModel) -> PairTableData:
        """Table of a fitted model."""
        p = model.parameters
        _, (par, dpar, perp, dperp) = model.knots()
        rpy = model.background == "rpy"
        return cls(
            model.background,
            p.radius if rpy else None,
            p.viscosity if rpy else None,
            model.self_mobility,
            model.cutoff,
            par,
            dpar,
            perp,
            dperp,
        )

    @classmethod
    def of_mobility(cls, mobility: PairMobility) -> PairTableData:
        """Table of a mobility of the core."""
        from mlcore.mobility.tensors import RPY

        background = mobility.background
        if background is not None and not isinstance(background, RPY):
            kind = type(background).__name__
            raise InvalidArgument(
                f"mobility.background must be RPY or None for a bundle, not {kind}"
            )
        if background is not None and np.ndim(background.radius) > 0:
            raise InvalidArgument("mobility.background must have one radius for a bundle")
        table = mobility.table
        return cls(
            "none" if background is None else "rpy",
            None if background is None else float(background.radius),
            None if background is None else float(background.viscosity),
            float(mobility.self_mobility),
            float(table.cutoff),
            *(np.asarray(getattr(table, name), dtype=np.float64) for name in _TABLES),
        )

    def mobility(self) -> PairMobility:
        """The core's mobility with these numbers."""
        from mlcore.mobility.tensors import RPY, PairMobility

        background = None
        if self.kernel == "rpy" and self.radius is not None and self.viscosity is not None:
            background = RPY(self.radius, self.viscosity)
        return PairMobility(
            self.self_mobility,
            self.cutoff,
            self.par,
            self.dpar,
            self.perp,
            self.dperp,
            background=background,
        )


@dataclass(frozen=True)
class Bundle:
    """A bundle read and checked.

    Args:
        path: its folder.
        manifest: content of manifest.json.
        table: numbers of the mobility.
        tensors: all tensors of weights.safetensors.
    """

    path: Path
    manifest: dict[str, Any]
    table: PairTableData
    tensors: dict[str, NDArray[Any]]

    @property
    def mobility(self) -> PairMobility:
        """What runs: the core's mobility."""
        return self.table.mobility()

    @property
    def units(self) -> dict[str, str]:
        """Names of the units of length, energy and time."""
        return dict(self.manifest["units"])

    def model(self) -> PairModel:
        """The Python model the bundle was made from.

        Raises:
            Error: the bundle was made from a bare mobility.
        """
        from mlcore.mobility.models.base import PairModel

        meta = self.manifest.get("model")
        if meta is None:
            raise Error(f"{self.path / MANIFEST}: field 'model' is missing: made without a model")
        tensors = {k[6:]: v for k, v in self.tensors.items() if k.startswith("model.")}
        where = f"{self.path / MANIFEST}: model"
        try:
            return PairModel.from_state(tensors, meta, where)
        except (TypeError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
            raise FileFormatError(f"{where}: {str(error)[:400]}") from error


# -- writing --------------------------------------------------------------------------------------
def _write(
    folder: Path,
    table: PairTableData,
    units: dict[str, str],
    training: Mapping[str, Any],
    model_tensors: Mapping[str, NDArray[Any]],
    model_meta: Mapping[str, Any] | None,
) -> None:
    tensors = {name: np.asarray(getattr(table, name), dtype=np.float64) for name in _TABLES}
    tensors |= {f"model.{k}": np.asarray(v) for k, v in model_tensors.items()}
    write_tensors(folder / WEIGHTS, tensors)
    background: dict[str, Any] = {"kernel": table.kernel}
    if table.kernel == "rpy":
        background |= {"radius": table.radius, "viscosity": table.viscosity}
    parts: dict[str, Any] = {
        "mobility": {
            "background": background,
            "self_mobility": table.self_mobility,
            "cutoff": table.cutoff,
            "knots": len(table.par),
        }
    }
    if model_meta is not None:
        parts["model"] = dict(model_meta)
    write_manifest(folder, "mobility", units, training, parts)


def write_bundle(
    path: str | Path,
    mobility: PairMobility,
    *,
    units: Mapping[str, str] | str = "lj",
    training: Mapping[str, Any] | None = None,
    model_tensors: Mapping[str, NDArray[Any]] | None = None,
) -> Bundle:
    """Write a bundle of a mobility of the core (no MLMOD files), read it back and return it.

    Args:
        path: folder to appear; a bundle already there is replaced as a whole.
        mobility: pair mobility, background RPY or none.
        units: names of the units of length, energy and time, or one word for all.
        training: where it came from; anything JSON can hold.
        model_tensors: stored as model.* beside the table.

    Raises:
        InvalidArgument: naming the argument.
        Error: cannot be written; nothing is left behind.
    """
    target = Path(path)
    table = PairTableData.of_mobility(mobility)
    with bundle_folder(target) as folder:
        _write(folder, table, checked_units(units), training or {}, model_tensors or {}, None)
        load_bundle(folder)
    return load_bundle(target)


def export(
    model: PairModel,
    path: str | Path,
    *,
    units: Mapping[str, str] | str = "lj",
    mlmod: bool = True,
    kT: float = 1.0,
    delta: float | None = None,
    stochastic: bool = True,
    drift: bool = True,
    training: Mapping[str, Any] | None = None,
    verify_sizes: tuple[int, ...] = (5, 23),
) -> Bundle:
    """Export a fitted model, verified before anything is put in place.

    Bundle and MLMOD files are written to a temporary folder, read back and compared with the eager
    model on random configurations (some pairs overlapping) of `verify_sizes` particles; only then
    is the folder renamed to `path`.

    Args:
        model: fitted pair model.
        path: folder to appear; a bundle already there is replaced as a whole.
        units: names of the units of length, energy and time, or one word for all.
        mlmod: also write M_ii.pt, M_ij.pt, model.mlmod_params, and bundle.mlmod_params, which
            names the folder as given here.
        kT: thermal energy for the XML.
        delta: displacement of the finite-difference drift; default 1e-4 of the cutoff.
        stochastic, drift: flags of the XML.
        training: further provenance for the manifest.
        verify_sizes: particle numbers of the check.

    Raises:
        Error: what was written does not agree with the model, or cannot be written.
    """
    if not (math.isfinite(kT) and kT >= 0):
        raise InvalidArgument(f"kT must be finite and not negative, not {kT!r}")
    target = Path(path)
    table = PairTableData.of_model(model)
    tensors, meta = model.state()
    provenance = {**_provenance(model), **(training or {})}
    with bundle_folder(target) as folder:
        if mlmod:
            from mlcore.export import mlmod as mlmod_files

            step = 1e-4 * model.cutoff if delta is None else delta
            mlmod_files.write_files(folder, table)
            mlmod_files.write_parameters(
                folder, target, kT=kT, delta=step, stochastic=stochastic, drift=drift
            )
        _write(folder, table, checked_units(units), provenance, tensors, meta)
        _verify(model, folder, verify_sizes, mlmod)
    return load_bundle(target)


def _provenance(model: PairModel) -> dict[str, Any]:
    told: dict[str, Any] = {"model": type(model).__name__, "seed": model.seed}
    if model.result is not None:
        r = model.result
        told |= {"loss": r.loss, "value": r.value, "steps": r.steps, "seconds": r.seconds}
    return told


# -- verification ---------------------------------------------------------------------------------
def configuration(count: int, cutoff: float, seed: int) -> Array:
    """Random positions, one pair closer than a hundredth of the cutoff."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 3)) * cutoff * 0.5 * max(count / 8, 1) ** (1 / 3)
    x[1] = x[0] + 0.01 * cutoff * np.array([0.6, -0.48, 0.64])
    return np.asarray(x, dtype=np.float64)


def eager_matrix(model: PairModel, x: Array) -> Array:
    """(3n,3n) open-boundary mobility straight from the model's formulas, no table."""
    n = len(x)
    d = x[:, None] - x[None]
    r = np.linalg.norm(d, axis=-1)
    np.fill_diagonal(r, 1.0)
    par, perp = model.pair(r)
    dyad = (d / r[..., None])[..., :, None] * (d / r[..., None])[..., None, :]
    blocks = par[..., None, None] * dyad + perp[..., None, None] * (np.eye(3) - dyad)
    blocks[np.arange(n), np.arange(n)] = model.total_self_mobility * np.eye(3)
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n))


def _verify(model: PairModel, folder: Path, sizes: tuple[int, ...], mlmod: bool) -> None:
    if len(sizes) == 0 or min(sizes) < 2:
        raise InvalidArgument(f"verify_sizes must hold numbers of at least 2, not {sizes!r}")
    scale = model.total_self_mobility
    bundle = load_bundle(folder)
    mobility = bundle.mobility
    # every knot and every middle between two, where a run will interpolate
    r = np.linspace(0.0, model.cutoff, 2 * len(bundle.table.par) - 1)[1:]
    for got, exact in zip(mobility.pair(r), model.pair(r), strict=True):
        _agree("bundle", float(np.abs(got - exact).max()) / scale, 1e-8, "pair functions")
    for count in sizes:
        x = configuration(count, model.cutoff, count)
        want = eager_matrix(model, x)
        checks = [("bundle", np.asarray(mobility.matrix(x)), 1e-8)]
        if mlmod:
            from mlcore.export import mlmod as mlmod_files

            checks.append(("MLMOD files", mlmod_files.assemble(folder, x), 1e-5))
        for what, found, allowed in checks:
            worst = float(np.abs(found - want).max()) / scale
            _agree(what, worst, allowed, f"{count} particles")


def _agree(what: str, worst: float, allowed: float, where: str) -> None:
    if not worst <= allowed:
        raise Error(
            f"{what}: differs from the model by {worst:.2e} of the self mobility ({where}), more "
            f"than {allowed:.0e}; nothing was put in place"
        )


# -- reading --------------------------------------------------------------------------------------
class _Reader(ManifestReader):
    """Reads the part of a mobility."""

    def table(self, tensors: dict[str, NDArray[Any]]) -> PairTableData:
        kernel = self.field("mobility", "background", "kernel")
        if kernel not in ("none", "rpy"):
            self.fail(f"field mobility.background.kernel must be 'none' or 'rpy', not {kernel!r}")
        radius = viscosity = None
        if kernel == "rpy":
            radius = self.number("mobility", "background", "radius", positive=True)
            viscosity = self.number("mobility", "background", "viscosity", positive=True)
        knots = self.whole("mobility", "knots", least=2)
        arrays = []
        for name in _TABLES:
            where = f"{self.path / WEIGHTS}: tensor {name!r}"
            if name not in tensors:
                raise FileFormatError(f"{where} is missing")
            if tensors[name].dtype != np.float64:
                raise FileFormatError(f"{where} must be F64, not {tensors[name].dtype}")
            if tensors[name].shape != (knots,):
                shape = tensors[name].shape
                raise FileFormatError(
                    f"{where} must have shape ({knots},) (mobility.knots), not {shape}"
                )
            arrays.append(tensors[name])
        own = self.number("mobility", "self_mobility")
        if own < 0 or (own == 0 and kernel == "none"):
            self.fail(f"field mobility.self_mobility must be positive, not {own!r}")
        return PairTableData(
            kernel,
            radius,
            viscosity,
            own,
            self.number("mobility", "cutoff", positive=True),
            *arrays,
        )


def load_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle. Nothing is unpickled and no code in it is run.

    Raises:
        FileFormatError: naming file and field: absent, unreadable, truncated, wrong types or
            shapes, NaN, wrong hash, names that leave the folder.
    """
    folder = Path(path)
    reader = _Reader(folder)
    reader.check_kind("mobility")
    files = reader.files()
    tensors, _ = read_tensors(folder / WEIGHTS, data=files[WEIGHTS])
    return Bundle(folder, reader.manifest, reader.table(tensors), tensors)
