"""Nets in folders: a bundle of the kind "sagesnet". Nothing in it is executed.

DIR/manifest.json         what makes an equal, untrained net, units, SHA-256 of the weights
DIR/weights.safetensors   its state by the names that torch knows it by
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.export.manifest import WEIGHTS, ManifestReader, bundle_folder, write_manifest
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.networks.registry import UNMAKEABLE
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.confidence import ConfidenceHead
from mlcore.sagesnet.conserved import Fluxes
from mlcore.sagesnet.feedback import Feedback

if TYPE_CHECKING:
    from mlcore.sagesnet.net import SagesNet

__all__ = ["CELLS", "KIND", "load", "save", "take", "tensors_of"]

KIND = "sagesnet"
CELLS = {
    "automaton": "mlcore.sagesnet.automata.cells:AutomatonCells",
    "atoms": "mlcore.sagesnet.atoms.cells:AtomCells",
    "sheet": "mlcore.sagesnet.kirigami.cells:SheetCells",
}
"""Kinds of cells that mlcore has; one's own are known once their module is imported."""

_UNITS = {
    "automaton": {"length": "cells", "energy": "none", "time": "steps"},
    "atoms": {"length": "A", "energy": "eV", "time": "fs"},
}
_UNTOLD = {"length": "none", "energy": "none", "time": "none"}


def save(
    net: SagesNet[Any], folder: str | Path, *, training: Mapping[str, Any] | None = None
) -> None:
    """Write a net, whole or not at all; one that is there already is replaced.

    Args:
        net: of a kind of cells that `load` will find.
        folder: new, or a bundle.
        training: told of how it was trained, as JSON holds it.

    Raises:
        Error: the folder holds something else, or cannot be written.
        InvalidArgument: a weight is not finite, or something cannot be JSON.
    """
    _class(net.cells.kind)
    tensors = tensors_of(net)
    units = _UNITS.get(net.cells.kind, _UNTOLD)
    with bundle_folder(Path(folder)) as temporary:
        write_tensors(temporary / WEIGHTS, tensors)
        write_manifest(temporary, KIND, units, training or {}, {"net": net.description()})


def load(folder: str | Path) -> SagesNet[Any]:
    """The net that `save` wrote.

    Raises:
        FileFormatError: there is none, it is damaged, or of cells unknown here; names what is wrong.
    """
    reader = ManifestReader(Path(folder))
    reader.check_kind(KIND)
    net = _made(reader)
    data = reader.files([WEIGHTS])[WEIGHTS]
    tensors = read_tensors(reader.path / WEIGHTS, data=data)[0]
    take(net, tensors, str(reader.path / WEIGHTS))
    return net


def tensors_of(net: nn.Module) -> dict[str, NDArray[Any]]:
    """Its state for files.

    Raises:
        InvalidArgument: a weight is not finite.
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidArgument(f"net: {name} is not finite")
    return arrays


def _made(reader: ManifestReader) -> SagesNet[Any]:
    """The untrained net that a manifest describes."""
    from mlcore.sagesnet.net import Level, SagesNet

    kind = reader.word("net", "cells", "kind")
    arguments = {k: v for k, v in reader.field("net", "cells").items() if k != "kind"}
    levels, environment = reader.field("net", "levels"), reader.field("net", "environment")
    names = {field.name for field in fields(Level)}
    if not isinstance(levels, list) or not all(isinstance(one, dict) for one in levels):
        reader.fail("field net.levels must be a list of objects")
    for one in levels:
        if not set(one) <= names:
            reader.fail(f"field net.levels: unknown {', '.join(sorted(set(one) - names))}")
    if not isinstance(environment, list) or not all(isinstance(e, str) for e in environment):
        reader.fail("field net.environment must be a list of names")
    extra = {k: v for k, v in reader.field("net").items() if k not in _KNOWN}
    if extra:
        reader.fail(f"field net: unknown {', '.join(sorted(extra))}")
    try:
        cells = _class(kind)(**arguments)
        scales = [Level(**{k: _tuple(v) for k, v in one.items()}) for one in levels]
        net = SagesNet(cells, scales, environment)
        for name, head in reader.manifest["net"].get("confidence", {}).items():
            net.confidence[name] = ConfidenceHead(**head)
        for name, way in reader.manifest["net"].get("feedback", {}).items():
            net.feedback[name] = Feedback(**way)
        for name, moved in reader.manifest["net"].get("fluxes", {}).items():
            net.fluxes[name] = Fluxes(**moved)
        return net
    except UNMAKEABLE as error:
        reader.fail(f"field net: no such net can be made: {error}")


_KNOWN = ("cells", "levels", "environment", "confidence", "feedback", "fluxes")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def take(net: nn.Module, tensors: dict[str, NDArray[Any]], where: str) -> None:
    """Give a net the state of a file.

    Raises:
        FileFormatError: it is that of another net; begins with ``where``.
    """
    state = net.state_dict()
    if set(state) != set(tensors):
        wrong = sorted(set(state) ^ set(tensors))
        raise FileFormatError(f"{where}: tensors do not fit the net of the manifest: {wrong[:4]}")
    for name, value in state.items():
        array = tensors[name]
        if array.shape != tuple(value.shape):
            told = f"{array.shape}, not {tuple(value.shape)}"
            raise FileFormatError(f"{where}: tensor {name!r} is of shape {told}")
        if (array.dtype.kind == "f") != value.is_floating_point():
            raise FileFormatError(f"{where}: tensor {name!r} is {array.dtype}, not {value.dtype}")
    kinds = {array.dtype for array in tensors.values() if array.dtype.kind == "f"}
    if len(kinds) == 1:
        net.to(torch.from_numpy(np.zeros(0, kinds.pop())).dtype)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})


def _class(kind: str) -> type[Cells[Any]]:
    """The class of a kind of cells.

    Raises:
        InvalidArgument: it is not known here.
    """
    if kind in CELLS:
        module, _, name = CELLS[kind].partition(":")
        found: type[Cells[Any]] = getattr(importlib.import_module(module), name)
        return found
    pending = list(Cells.__subclasses__())
    while pending:
        one = pending.pop()
        if getattr(one, "kind", None) == kind:
            return one
        pending.extend(one.__subclasses__())
    raise InvalidArgument(
        f"cells of the kind {kind!r} are not known here; import the module that defines them first"
    )
