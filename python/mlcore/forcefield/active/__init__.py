"""Active learning: which structures to label next, round after round."""

from mlcore.forcefield.active.committee import Predictions, disagreement, predict
from mlcore.forcefield.active.rounds import (
    ActiveRun,
    Label,
    Pick,
    Round,
    active_learning,
    code_label,
    dynamics,
    potential_label,
)

__all__ = [
    "ActiveRun",
    "Label",
    "Pick",
    "Predictions",
    "Round",
    "active_learning",
    "code_label",
    "disagreement",
    "dynamics",
    "potential_label",
    "predict",
]
