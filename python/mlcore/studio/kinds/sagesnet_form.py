"""The form of a net of cells, and what it begins with by its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcore.studio.kinds.asked import LOCAL, arguments, described
from mlcore.studio.kinds.face import Place
from mlcore.studio.kinds.suggesting import Known, Suggestion, known, referred, shelf

__all__ = ["CHOICE", "READ", "cells_of", "form", "suggested"]

READ: dict[str, tuple[str, ...]] = {
    "automaton": (".npy",),
    "atoms": (".extxyz", ".xyz", ".lammpstrj", ".dump", ".lammpstrj.gz", ".dump.gz", ".extxyz.gz",
              ".h5"),
}  # fmt: skip
"""How names of files end that a kind of cells is read from."""
CHOICE: dict[str, Any] = {
    "from": "uploads", "kinds": ["grid", "trajectory", "structures", "runs"],
    "formats": ["carbon"], "endings": [*READ["automaton"], *READ["atoms"]],
}  # fmt: skip
_LISTED = 12  # files of a data set that are named one by one, so that some are held out
_SECONDS = 600  # of a first training of atoms
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "channels": {"description": "Numbers in the vector of a cell."},
    "states": {"description": "How many a cell can be in."},
    "dt": {"x-label": "Time of a step", "x-unit": "fs",
           "description": "That of the runs where they tell it."},
    "kicks": {"description": "Forces of learned bonds in a step; 0: atoms go straight."},
    "reach": {"x-label": "Reach of bonds", "x-unit": "Å", "description": "Of learned bonds, with kicks."},
}  # fmt: skip
_FEW = {"states", "channels", "elements", "dt", "kicks", "boundary"}
_WORDS: dict[str, dict[str, Any]] = {
    "cells": {"label": "Cells", "description": "What is in a cell, and how large its vector is."},
    "CellsSection.kind": {"label": "Kind", "redraw": True, "description": "",
                          "titles": {"automaton": "automaton: each cell in one of a few states",
                                     "atoms": "atoms: each cell holds some"}},
    "levels": {"label": "Levels", "item": "Level", "from": 0,
               "description": "From fine to coarse; each one above takes larger cells and longer steps."},
    "_Level.layers": {"label": "Layers", "description": "Of its predictor; each reaches one cell further."},
    "_Level.width": {"label": "Width",
                     "description": "Of hidden layers; that of the vectors where left out."},
    "_Level.space": {"label": "Cells of the level below, along each axis",
                     "description": "One number, or three such as 1, 2, 2; 1 on level 0."},
    "_Level.time": {"label": "Steps of the level below", "description": "In one step; 1 on level 0."},
    "_Level.frames": {"label": "Steps told", "late": True,
                      "description": "How many of those a vector tells of."},
    "_Level.lift_width": {"label": "Width of the lift", "late": True},
    "_Level.kernel": {"label": "Kernel", "late": True, "description": "Cells along an edge of what is seen."},
    "_Level.residual": {"label": "Predict changes", "late": True,
                        "description": "What a cell was is added to what is predicted; off for automata."},
    "_Level.messages": {"label": "Messages", "late": True, "description": "Numbers cells send each other."},
    "_Level.symmetric": {"label": "Same in all directions", "late": True},
    "runs": {"label": "Runs to learn from", "item": "Group",
             "description": "Automata: .npy of whole numbers (T, X, Y, Z). Atoms: extxyz or LAMMPS dumps of "
                            "consecutive frames, or runs of carbon (.h5)."},
    "RunsSection.files": {"label": "Data set", "choose": CHOICE | {"files": "many"}},
    "RunsSection.held_out": {"label": "Held out", "description": "Not learned from; tells the best epoch."},
    "RunsSection.environment": {"label": "What acts from outside", "late": True,
                                "description": "Names and numbers of the order of 1, the same names "
                                               "in all runs."},
    "RunsSection.stride": {"label": "Frames of the file in a step"},
    "RunsSection.symmetric": {"label": "Turned and mirrored", "late": True,
                              "description": "In training, each time another way."},
    "RunsSection.units": {"label": "Units", "late": True,
                          "description": "Of LAMMPS, where a file does not say."},
    "RunsSection.elements": {"label": "Elements of types", "late": True,
                             "description": "Of LAMMPS' types 1, 2, ..., such as C, H."},
    "grid": {"label": "Grid of atoms", "when": {"cells.kind": ["atoms"]}},
    "GridSection.edge": {"label": "Edge of a cell", "unit": "Å", "description": "As near as the box allows."},
    "GridSection.slots": {"label": "Most atoms in a cell", "description": "More in one is an error."},
    "GridSection.room": {"label": "Room beyond open sides", "unit": "Å"},
    "lift": {"label": "Lift between levels", "description": "How coarse vectors are taught."},
    "_Lift.noise": {"label": "Noise", "late": True}, "_Lift.begin": {"label": "Begin", "late": True},
    "_Lift.prediction": {"label": "Weight of predictions"}, "_Lift.hard": {"label": "Weight of hard cells"},
    "_Lift.steps": {"label": "Steps", "late": True, "description": "Those of the training where left out."},
    "confidence": {"label": "Confidence", "use": "Learn how wrong each cell is expected to be", "begin": {},
                   "description": "From two runs or more that are held out."},
    "ConfidenceSection.horizon": {"label": "Steps ahead"},
    "ConfidenceSection.part": {"label": "Part of errors below"},
    "ConfidenceSection.epochs": {"label": "Epochs"},
    "ConfidenceSection.learning_rate": {"label": "Learning rate"},
    "fit": {"label": "Optimisation of each level"},
    "_Fit.epochs": {"label": "Epochs", "description": "Passes over all steps of all runs."},
    "_Fit.learning_rate": {"label": "Learning rate", "description": "Of Adam, at the beginning."},
    "_Fit.batch_size": {"label": "Samples in a step"},
    "_Fit.seconds": {"label": "Time at most", "unit": "s",
                     "description": "Of each level; none where left out."},
    "_Fit.schedule": {"label": "Schedule", "late": True}, "_Fit.patience": {"label": "Patience", "late": True,
                      "unit": "epochs", "description": "Without improvement, after which it ends."},
    "_Fit.min_improvement": {"label": "Least improvement", "late": True},
    "_Fit.seed": {"label": "Seed of batches", "late": True},
    "_Fit.checkpoint_every": {"label": "Epochs between checkpoints", "late": True},
    "_Fit.final_part": {"label": "Last part of the rate", "late": True},
    "_Fit.weight_decay": {"label": "Weight decay", "late": True},
    "_Fit.clip": {"label": "Longest gradient", "late": True},
    "seed": {"label": "Seed", "description": "Of the first weights."},
}  # fmt: skip


def form(schema: Mapping[str, Any], step: str) -> dict[str, Any]:
    """The schema of configs with the words of its form and the arguments of all cells."""
    from mlcore.sagesnet.atoms.cells import AtomCells
    from mlcore.sagesnet.automata.cells import AutomatonCells

    made = described(schema, _WORDS, engines=list(LOCAL), step=step)
    section = made["$defs"]["CellsSection"]
    for kind, cells in (("automaton", AutomatonCells), ("atoms", AtomCells)):
        known_ = arguments(cells, ("slots",))
        if kind == "atoms":
            words = {"type": "array", "items": {"type": "string"}}
            known_ = {"elements": words | {"description": "Symbols, such as C, H."}, **known_}
        else:
            boundaries = {"type": "string", "enum": ["periodic", "zero"], "default": "periodic"}
            known_.setdefault(
                "boundary",
                boundaries
                | {"description": "Beyond the box there are its images, or empty cells."},
            )
        for field, told in known_.items():
            told = {**told, **_ARGUMENTS.get(field, {}), "x-late": field not in _FEW}
            one = section["properties"].setdefault(field, told)
            one.setdefault("x-when", {"cells.kind": []})["cells.kind"].append(kind)
            own = {name: told[name] for name in ("default", "description") if name in told}
            one.setdefault("x-by", {"cells.kind": {}})["cells.kind"][kind] = own
    section["additionalProperties"] = False  # all that there are have fields
    return made


# -- what the data tell ----------------------------------------------------------------------------
def cells_of(found: Known) -> str | None:
    """Kind of the cells that a data set can be read as."""
    if found.kind == "grid":
        whole = str(found.summary.get("dtype", "")).startswith(("int", "uint", "bool"))
        return "automaton" if whole and len(found.summary["shape"]) > 2 else None
    if found.kind == "runs":
        return "atoms" if found.summary.get("format") == "carbon" else None
    moves = found.kind == "trajectory" and found.ending_in(READ["atoms"])
    return "atoms" if moves and not _beads(found) else None


def _beads(found: Known) -> bool:
    """Whether a file tells types alone, which are no elements."""
    return any(str(one).startswith("type") for one in found.summary.get("elements", ()))


def suggested(config: Mapping[str, Any], place: Place, upload: str | None) -> Suggestion:
    """See `mlcore.studio.kinds.suggesting.Suggesting`."""
    told = dict(config)
    found = _chosen(told, place, upload)
    kind = None if found is None else cells_of(found)
    if found is None or kind is None:
        return Suggestion(told)
    runs, held = _runs(found, kind)
    told["runs"] = runs
    if not held:
        told.pop("confidence", None)  # is told by runs that are held out
    make = _of_grids if kind == "automaton" else _of_atoms
    notes = [*make(told, found), held or "nothing is held out: one file"]
    return Suggestion(told, notes)


def _of_grids(told: dict[str, Any], found: Known) -> list[str]:
    states = max(2, int(found.summary["most"]) + 1)
    told["cells"] = {"kind": "automaton", "states": states, "channels": 8 if states == 2 else 16}
    told.pop("grid", None)
    extents = [int(n) for n in found.summary["shape"]][-3:]
    levels: list[dict[str, Any]] = [{"width": 16, "residual": False}]
    space = [2 if n % 2 == 0 and n >= 8 else 1 for n in extents]
    if max(space) > 1 and int(found.summary["frames"]) > 4:
        levels.append({"space": space, "time": 2, "frames": 1, "width": 8, "lift_width": 16})
    told["levels"] = levels
    told["fit"] = {"epochs": 12, "learning_rate": 1e-2}
    size = " × ".join(map(str, extents))
    return [f"an automaton of {states} states, {size} cells", f"{len(levels)} level(s) of cells"]


def _of_atoms(told: dict[str, Any], found: Known) -> list[str]:
    summary = found.summary
    elements = [str(one) for one in summary.get("elements", ())]
    cells: dict[str, Any] = {"kind": "atoms", "elements": elements, "channels": 16, "width": 32}
    motion = summary.get("motion")
    notes = [f"atoms of {', '.join(elements)}"]
    if found.kind == "runs":
        cells |= {"kicks": 2, "shift": True}
        notes.append("bonds whose forces kick the atoms, which suits carbon")
    else:
        interval = motion.get("interval") if isinstance(motion, Mapping) else None
        cells["dt"] = interval or 1.0
        notes.append(f"a step of {cells['dt']:g} fs, the time between frames; check its unit")
    told["cells"] = cells
    told["levels"] = [{"layers": 1}]
    told["fit"] = {"epochs": 30, "learning_rate": 5e-3, "seconds": _SECONDS}
    return [*notes, f"{_SECONDS} s of training at most; more is better"]


def _runs(found: Known, kind: str) -> tuple[list[dict[str, Any]], str]:
    """Runs to learn from and to judge by; words of those that are held out."""
    names = [path.name for path in found.ending_in(READ[kind])]
    if not 2 <= len(names) <= _LISTED:
        return [{"files": [found.reference]}], ""
    kept = len(names) - max(1, len(names) // 4)
    files = [f"{found.reference}/{name}" for name in names]
    held = f"{len(names) - kept} of {len(names)} files held out"
    return [{"files": files[:kept]}, {"files": files[kept:], "held_out": True}], held


def _chosen(config: Mapping[str, Any], place: Place, upload: str | None) -> Known | None:
    if upload is not None:
        return known(place, upload)
    runs = config.get("runs")
    for run in runs if isinstance(runs, list) else ():
        files = run.get("files") if isinstance(run, Mapping) else None
        for one in files if isinstance(files, list) else [files]:
            if referred(one):
                return known(place, referred(one))
    return next((one for one in shelf(place) if cells_of(one)), None)
