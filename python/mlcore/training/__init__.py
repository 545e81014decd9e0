"""One training loop for every learned model: checkpoint, resume, early stop, progress, metrics log.

    from mlcore import training
    result = training.train(module, objective, training.TrainingOptions(epochs=500, directory="out/run"))

Importing this package does not import torch; calling `train` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlcore.training.options import TrainingOptions, TrainingResult, checked_seed
from mlcore.training.record import MetricsLog, read_metrics

if TYPE_CHECKING:
    from mlcore.training.curve import plot_learning_curve
    from mlcore.training.loop import Objective, train

__all__ = [
    "MetricsLog",
    "Objective",
    "TrainingOptions",
    "TrainingResult",
    "checked_seed",
    "plot_learning_curve",
    "read_metrics",
    "train",
]

_LAZY = {
    "Objective": "mlcore.training.loop",
    "train": "mlcore.training.loop",
    "plot_learning_curve": "mlcore.training.curve",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
