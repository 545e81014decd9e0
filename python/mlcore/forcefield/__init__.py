"""Force fields: from structures and properties to a potential that LAMMPS runs.

The parts come when they are asked for::

    import mlcore.forcefield as ff

    made = ff.model("tersoff", ["Si"])
    space = ff.Space(made.parameters, ["A", "B"])
    targets = [ff.targets.CubicCrystal(bulk("Si", "diamond", 5.43), {"a": 5.43})]
    result = ff.fit(made, space, targets, folder="silicon")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcore.forcefield import forms, search, structures, targets
    from mlcore.forcefield.config import Config
    from mlcore.forcefield.evaluate import Evaluation, Evaluator
    from mlcore.forcefield.export import load
    from mlcore.forcefield.forms import Form, Model, form
    from mlcore.forcefield.forms import model as model
    from mlcore.forcefield.objective import Objective
    from mlcore.forcefield.parameters import Free, Parameter, Space
    from mlcore.forcefield.run.events import read_events
    from mlcore.forcefield.run.fitting import Fit, cancel, fit, resume
    from mlcore.forcefield.run.history import read_history
    from mlcore.forcefield.run.result import Result
    from mlcore.forcefield.score import Score
    from mlcore.forcefield.structures import Dataset
    from mlcore.forcefield.targets import Target

__all__ = [
    "Config",
    "Dataset",
    "Evaluation",
    "Evaluator",
    "Fit",
    "Form",
    "Free",
    "Model",
    "Objective",
    "Parameter",
    "Result",
    "Score",
    "Space",
    "Target",
    "cancel",
    "fit",
    "form",
    "forms",
    "load",
    "model",
    "read_events",
    "read_history",
    "resume",
    "search",
    "structures",
    "targets",
]

_HOMES = {
    "config": ("Config",),
    "evaluate": ("Evaluation", "Evaluator"),
    "run.events": ("read_events",),
    "export": ("load",),
    "forms": ("Form", "Model", "form", "model"),
    "run.history": ("read_history",),
    "objective": ("Objective",),
    "parameters": ("Free", "Parameter", "Space"),
    "run.result": ("Result",),
    "run": ("Fit", "cancel", "fit", "resume"),
    "score": ("Score",),
    "structures": ("Dataset",),
    "targets": ("Target",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    if name in ("forms", "search", "structures", "targets"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
