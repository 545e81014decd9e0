"""The form of an integrator, and what it begins with by its runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from mlcore.studio.kinds.asked import LOCAL, arguments, described
from mlcore.studio.kinds.face import Place, Problem
from mlcore.studio.kinds.suggesting import Known, Suggestion, blank, known, referred, shelf

__all__ = ["form", "names_of", "suggested", "unswept"]

_OWN = ("data", "progress", "checkpoint", "training")
_TITLES = {
    "lstm": "recurrent network (lstm): any system, short windows",
    "symplectic": "symplectic map: one particle in one dimension",
    "action_angle": "action and angle: bound motion in one dimension",
    "nbody": "learned pair kicks (nbody): many particles in three dimensions",
}
_FEW = {"hidden", "window", "epochs", "learning_rate", "kicks", "cutoff", "degree"}
"""Arguments that are shown at once; the others in a closed part."""
_WORDS: dict[str, dict[str, Any]] = {
    "model": {"label": "Integrator", "description": "What takes the large steps."},
    "data": {"label": "Runs of yours", "use": "Learn from runs of a data set", "begin": "upload:ID",
             "choose": {"from": "uploads", "kinds": ["runs"], "formats": ["runs"], "files": "one"},
             "type": "string", "default": None,
             "description": "HDF5 files that mlcore.md writes. Else runs are made here, below."},
    "runs": {"label": "Runs made here", "use": "Make runs of a reference system",
             "begin": {"system": "double_well", "dt": 1e-3, "time": 20.0, "every": 200,
                       "over": {"x0": [{"from": 1.5, "to": 3.0, "count": 20}]}},
             "description": "Small exact steps, in reduced units."},
    "Runs.dt": {"label": "Time step", "unit": "reduced", "description": "Of the exact runs."},
    "Runs.time": {"label": "Length of a run", "unit": "reduced"},
    "Runs.every": {"label": "Steps between frames", "description": "One large step is so many small ones."},
    "Runs.truth": {"label": "Exact integrator", "late": True,
                   "description": "order8 needs far fewer and longer steps."},
    "Runs.over": {"label": "Starts and parameters",
                  "description": "A run for each value, and for each with each where several vary. One "
                                 "that has two ranges has two rows; without an end it is one value."},
    "Runs.fixed": {"label": "The same in all runs",
                   "description": "Parameters of the system; what is not told here has its usual value."},
    "fit": {"label": "Training"},
    "Fit.data": {"hidden": True},
    "Fit.strides": {"label": "Frames in a large step",
                    "description": "1: the time between frames; several are learned together where "
                                   "the kind can."},
    "Fit.held_out": {"label": "Part held out", "description": "Of the runs; what the report judges by."},
    "Fit.seed": {"label": "Seed", "late": True, "description": "Of what is held out."},
    "Fit.horizon": {"label": "Judged up to", "unit": "time of the runs",
                    "description": "Rolled out to there; all of a run where left out."},
}  # fmt: skip


_RUNS = {
    1: {"x0": "start", "v0": "first velocity", "mass": "mass"},
    3: {"seed": "seed of the start", "mass": "mass", "temperature": "temperature of the start",
        "lattice": "cells of the start along an edge", "settle": "time before the first frame"},
}  # fmt: skip
_PARAMETERS = {
    "k": "stiffness", "epsilon": "depth of the well", "sigma": "length", "n": "particles",
    "box": "edge of the cube", "radius": "of a sphere", "wall": "of the sphere, specular or wca",
    "cutoff": "in lengths",
}  # fmt: skip
_SHARED = ("n", "wall")
"""All runs have the same of these."""


def names_of(system: str) -> dict[str, str]:
    """What runs of a reference system can be told, in words."""
    from mlcore.md.systems import parameters_of

    own = {name: _PARAMETERS.get(name, name) for name in parameters_of(system)}
    return own | _RUNS[3 if system == "lennard_jones" else 1]


def unswept(runs: Any) -> list[Problem]:
    """What a sweep would be refused for."""
    from mlcore.md.systems import SYSTEMS

    if runs.system not in SYSTEMS:
        return [Problem("runs.system", f"must be one of {', '.join(SYSTEMS)}")]
    names, told = names_of(runs.system), {"over": runs.over, "fixed": runs.fixed}
    problems = [
        Problem(f"runs.{at}.{name}", f"{runs.system} has none; it has {', '.join(names)}")
        for at, some in told.items()
        for name in some
        if name not in names
    ]
    given = {*runs.over, *runs.fixed}
    twice = set(runs.over) & set(runs.fixed)
    problems += [Problem(f"runs.fixed.{name}", "varies from run to run") for name in sorted(twice)]
    needed = "n" if runs.system == "lennard_jones" else "x0"
    if needed not in given:
        problems.append(Problem("runs", f"needs {needed}, {names[needed]}"))
    elif not runs.over:
        problems.append(Problem("runs.over", "needs the values of one parameter at least"))
    steps = round(runs.time / runs.dt)
    if steps % runs.every or abs(steps * runs.dt - runs.time) > 1e-9 * runs.time:
        frame = runs.every * runs.dt
        problems.append(Problem("runs.time", f"must be a whole number of frames of {frame:g}"))
    return problems


def form(schema: Mapping[str, Any], step: str) -> dict[str, Any]:
    """The schema of configs with the words of its form and the arguments of all integrators."""
    from mlcore.integrators import saved
    from mlcore.md.systems import SYSTEMS

    kinds = list(saved.KINDS)
    words: dict[str, dict[str, Any]] = {
        "Model.kind": {"label": "Kind", "enum": kinds, "redraw": True, "titles": _TITLES,
                       "description": ""},
        "Runs.system": {"label": "System", "enum": list(SYSTEMS),
                        "titles": {name: name.replace("_", " ") for name in SYSTEMS}, "redraw": True,
                        "description": "Of Lennard-Jones particles all runs share n and box."},
    }  # fmt: skip
    fixed = {system: names_of(system) for system in SYSTEMS}
    over = {
        system: {name: told for name, told in names.items() if name not in _SHARED}
        for system, names in fixed.items()
    }
    for field, grid in (
        ("Runs.over", {"of": "runs.system", "names": over}),
        ("Runs.fixed", {"of": "runs.system", "names": fixed, "single": True}),
    ):
        words[field] = {**_WORDS[field], "grid": grid}
    made = described(schema, _WORDS | words, engines=list(LOCAL), step=step)
    for kind, (module, name) in saved.KINDS.items():
        made_of = getattr(importlib.import_module(f"mlcore.integrators.{module}"), name)
        for section, call in (("Model", made_of), ("Fit", made_of.fit)):
            properties = made["$defs"][section]["properties"]
            for field, told in arguments(call, _OWN).items():
                one = properties.setdefault(field, told | {"x-late": field not in _FEW})
                one.setdefault("x-when", {"model.kind": []})["model.kind"].append(kind)
                own = {name: told[name] for name in ("default", "description") if name in told}
                one.setdefault("x-by", {"model.kind": {}})["model.kind"][kind] = own
    for section in ("Model", "Fit"):
        made["$defs"][section]["additionalProperties"] = False  # all that there are have fields
    # those of all kinds
    for field in ("strides", "held_out", "seed", "horizon", "data"):
        made["$defs"]["Fit"]["properties"][field].pop("x-when", None)
    return made


def suggested(config: Mapping[str, Any], place: Place, upload: str | None) -> Suggestion:
    """See `mlcore.studio.kinds.suggesting.Suggesting`."""
    told = dict(config)
    found = _chosen(told, place, upload)
    if found is None or found.kind != "runs" or found.summary.get("format") == "carbon":
        return Suggestion(told)
    summary = found.summary
    told.pop("runs", None)
    told["data"] = found.reference
    fit = dict(told["fit"]) if isinstance(told.get("fit"), Mapping) else {}
    fit.pop("data", None)
    whole = float(summary["interval"]) * (int(summary["frames"]) - 1)
    fit["horizon"] = float(f"{0.5 * whole:.3g}") if whole > 0 else None
    told["fit"] = {name: value for name, value in fit.items() if value is not None}
    notes = [f"{summary['runs']} runs of {summary['system']}, judged up to {fit['horizon']:g}"]
    model = told.get("model")
    kind = model.get("kind") if isinstance(model, Mapping) else None
    many = int(summary["particles"]) > 1 and int(summary["dimensions"]) == 3
    if many and kind != "nbody":
        told["model"] = {"kind": "nbody"}
        told["fit"].pop("epochs", None)
        notes.append("learned pair kicks, which suit many particles")
    elif not many and kind == "nbody":
        told["model"] = {"kind": "lstm", "hidden": [16, 16], "window": 5}
        notes.append("a recurrent network, which suits few coordinates")
    return Suggestion(told, notes)


def _chosen(config: Mapping[str, Any], place: Place, upload: str | None) -> Known | None:
    if upload is not None:
        return known(place, upload)
    fit = config.get("fit")
    inside = fit.get("data") if isinstance(fit, Mapping) else None
    reference = config.get("data", inside)
    if reference is None:
        return None  # runs are made
    if not blank(reference):
        return known(place, referred(reference))
    fits = (
        one for one in shelf(place) if one.kind == "runs" and one.summary.get("format") != "carbon"
    )
    return next(fits, None)
