"""Ensembles of strain heads in folders: a bundle of the kind "strain heads". Nothing is executed.

DIR/manifest.json         what makes equal, untrained heads, SHA-256 of the weights
DIR/weights.safetensors   the heads' states, those of the second begin with "heads.1."
DIR/results.json          of their trainings
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.export.manifest import WEIGHTS, ManifestReader, bundle_folder, write_manifest
from mlcore.io.atomic import write_text
from mlcore.io.tensors import parse_json, read_bytes, read_tensors, write_tensors
from mlcore.sagesnet.saved import take, tensors_of
from mlcore.training.options import TrainingResult

if TYPE_CHECKING:
    from mlcore.sagesnet.kirigami.head import Ensemble, StrainHead

__all__ = ["KIND", "load", "save", "training_of"]

KIND = "strain heads"

_RESULTS = "results.json"
_UNITS = {"length": "cells", "energy": "none", "time": "none"}
_LIMIT = 1 << 26
_MOST = 1000
_ARGUMENTS = ("channels", "layers", "width")


def save(ensemble: Ensemble, folder: str | Path, training: Mapping[str, Any] | None = None) -> None:
    """Write an ensemble, whole or not at all; one that is there already is replaced.

    Raises:
        Error: the folder holds something else, or cannot be written.
        InvalidArgument: there are no heads, they differ in shape, or something is not finite.
    """
    shapes = [head.arguments for head in ensemble.heads]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise InvalidArgument(f"ensemble: heads must be one or more of equal shape, got {shapes}")
    try:
        results = json.dumps([asdict(one) for one in ensemble.results], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"ensemble: results cannot be JSON: {error}") from error
    told = {"heads": {"members": len(shapes), **shapes[0]}}
    with bundle_folder(Path(folder)) as temporary:
        write_tensors(temporary / WEIGHTS, tensors_of(_module(ensemble.heads)))
        write_text(temporary / _RESULTS, results + "\n")
        write_manifest(temporary, KIND, _UNITS, training or {}, told)


def load(folder: str | Path) -> Ensemble:
    """The ensemble that `save` wrote, equal to the bit.

    Raises:
        FileFormatError: there is none, or it is damaged; names what is wrong.
    """
    from mlcore.sagesnet.kirigami.head import Ensemble, StrainHead

    reader = ManifestReader(Path(folder))
    reader.check_kind(KIND)
    members = reader.whole("heads", "members", least=1)
    shape = {name: reader.whole("heads", name, least=1) for name in _ARGUMENTS}
    if max(members, *shape.values()) > _MOST or len(reader.field("heads")) > len(shape) + 1:
        reader.fail(f"field heads must hold members, {', '.join(shape)} of at most {_MOST} each")
    path = reader.path / WEIGHTS
    tensors = read_tensors(path, data=reader.files([WEIGHTS])[WEIGHTS])[0]
    # a manifest is quickly written, and what it asks for is made before it is compared
    if sum(name.endswith(".mean") for name in tensors) != members:
        raise FileFormatError(f"{path}: tensors are not those of {members} heads")
    heads = [StrainHead(**shape) for _ in range(members)]
    take(_module(heads), tensors, str(path))
    results = _results(reader.path / _RESULTS)
    return Ensemble([head.eval() for head in heads], results)


def training_of(folder: str | Path) -> Any:
    """What `save` was told of the training."""
    return ManifestReader(Path(folder)).field("training")


def _module(heads: list[StrainHead]) -> nn.Module:
    return nn.ModuleDict({"heads": nn.ModuleList(heads)})


def _results(path: Path) -> list[TrainingResult]:
    told = parse_json(read_bytes(path, _LIMIT, "results"), str(path))
    names = set(TrainingResult.__dataclass_fields__)
    if not isinstance(told, list) or any(
        not isinstance(one, dict) or set(one) != names for one in told
    ):
        raise FileFormatError(f"{path}: must be a list of objects of {', '.join(sorted(names))}")
    return [TrainingResult(**one) for one in told]
