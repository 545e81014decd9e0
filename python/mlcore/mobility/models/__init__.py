"""Learned pair mobilities, one face: fit, mobility, pair, save, load.

    from mlcore.mobility import models
    model = models.NeuralPairModel(background="rpy", cutoff=10.0, seed=0)
    model.fit(estimate)                      # or model.fit(increments, loss="likelihood")
    mobility = model.mobility()

`torch` is imported when NeuralPairModel is first asked for, not before.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.mobility.models.base import FitResult, PairModel, PairParameters

if TYPE_CHECKING:
    from mlcore.mobility.models.gaussian_process import GaussianProcessPairModel
    from mlcore.mobility.models.kernel_ridge import KernelRidgePairModel
    from mlcore.mobility.models.neural import NeuralPairModel
    from mlcore.mobility.models.parametric import ParametricModel

__all__ = [
    "KINDS",
    "FitResult",
    "GaussianProcessPairModel",
    "KernelRidgePairModel",
    "NeuralPairModel",
    "PairModel",
    "PairParameters",
    "ParametricModel",
    "load",
]

KINDS = {
    "neural": "NeuralPairModel",
    "gaussian-process": "GaussianProcessPairModel",
    "kernel-ridge": "KernelRidgePairModel",
    "parametric": "ParametricModel",
}
_MODULES = {
    "NeuralPairModel": "neural",
    "GaussianProcessPairModel": "gaussian_process",
    "KernelRidgePairModel": "kernel_ridge",
    "ParametricModel": "parametric",
}


def load(path: str | Path) -> PairModel:
    """Read a model written by `PairModel.save`."""
    return PairModel.load(path)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
