"""Roll-outs of nets that other tasks have fitted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mlcore.io import write_text
from mlcore.io.standing import read_standing
from mlcore.studio.figures import figure, lines
from mlcore.studio.kinds.asked import LOCAL, described
from mlcore.studio.kinds.face import CONFIG, Download, Kind, Place, Problem, Progress, Step
from mlcore.studio.kinds.films import CellFilm, Film, Filmed, PointFilm
from mlcore.studio.kinds.inputs import FOLDER, Inputs
from mlcore.studio.kinds.pace import pace, paced, remote, workers_of
from mlcore.studio.kinds.sagesnet_form import CHOICE, READ, cells_of
from mlcore.studio.kinds.started import started, threads_of, write_start
from mlcore.studio.kinds.suggesting import (
    Known,
    Suggesting,
    Suggestion,
    blank,
    known,
    referred,
    shelf,
)
from mlcore.studio.kinds.trained import narrow, offered, read_json, wrong

__all__ = ["Config", "SagesNetRun"]

_TASK = "task:"
_NET = f"{FOLDER}/net"
_LOOKED_AT = 200  # moments of which observables are drawn
_MOST = 16  # states of automata that are told apart
_WORDS: dict[str, dict[str, Any]] = {
    "net": {"label": "Net", "choose": {"from": "tasks", "kind": "sagesnet"},
            "description": "One that a task of yours has fitted."},
    "start": {"label": "Start", "choose": CHOICE | {"files": "one"},
              "description": "The file whose frames it begins with."},
    "frame": {"label": "Frame to begin at", "late": True,
              "description": "Of the file, counted from 0; levels above 0 take several from there on."},
    "steps": {"label": "Steps", "description": "Of level 0."},
    "level": {"label": "Level", "description": "That does the steps; coarse ones are faster."},
    "record": {"label": "Keep each so many-th step", "late": True},
    "environment": {"label": "What acts from outside",
                    "description": "By the names the net knows, as in its training."},
    "confidence": {"label": "Confidence",
                   "description": "Tell how wrong each cell is expected to be; of atoms, where the "
                                  "net has learned it."},
    "temperature": {"label": "Temperature", "unit": "K",
                    "description": "That atoms are held at; free where left out."},
    "damping": {"label": "Damping", "unit": "fs", "late": True,
                "description": "Within which atoms forget their velocities, where they are held."},
    "seed": {"label": "Seed", "late": True, "description": "Of that chance."},
    "axis": {"label": "Look along axis", "late": True, "description": "In pictures."},
}  # fmt: skip
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Config(BaseModel):
    """What a roll-out is told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    net: str
    """`task:ID` of a task that has fitted a net."""
    start: str
    """`upload:ID`, or `upload:ID/name`: the file whose frames it begins with."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Of level 0."""
    level: Annotated[int, Field(ge=0, le=16)] = 0
    """That does the steps."""
    record: Annotated[int, Field(ge=1)] = 1
    """Keep each so many-th step of the level."""
    frame: Annotated[int, Field(ge=0)] = 0
    """Of the file to begin at."""
    environment: dict[Name, Number] = Field(default_factory=dict)
    """What acts from outside, by the names the net knows."""
    confidence: bool = False
    """Tell how wrong each cell is expected to be; of atoms, if the net has learned it."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """K, that atoms are held at."""
    damping: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    """fs, within which they forget their velocities."""
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    """Of that chance."""
    axis: Literal[0, 1, 2] = 2
    """Along which pictures look."""


class SagesNetRun(Filmed, Suggesting, Kind):
    name: ClassVar[str] = "sagesnet_run"
    title: ClassVar[str] = "Run SAGESnet"
    blurb: ClassVar[str] = "A fitted net of cells from a start of yours, played back in 3D."
    steps: ClassVar[Sequence[Step]] = (
        Step("model", "Model", ("net",)),
        Step("data", "Data", ("start", "frame")),
        Step("run", "Run", ("steps", "level", "record", "environment", "confidence", "temperature",
                            "damping", "seed", "axis")),
        Step("submit", "Submit"),
    )  # fmt: skip
    resumable: ClassVar[bool] = False

    def example(self) -> dict[str, Any]:
        return {"net": "task:ID", "start": "upload:ID", "steps": 50}

    def schema(self) -> dict[str, Any]:
        return described(Config.model_json_schema(), _WORDS, engines=list(LOCAL), step="run")

    def suggested(
        self, config: Mapping[str, Any], place: Place, upload: str | None = None
    ) -> Suggestion:
        told, notes = dict(config), []
        if blank(told.get("net")):
            told["net"] = next((f"{_TASK}{name}" for name in _fitted(place)), _TASK + "ID")
        net = _net(told["net"], place) if isinstance(told["net"], str) else None
        if net is None:
            return Suggestion(told)
        fits = _chosen(told, place, upload, _kind(net))
        if fits is not None and referred(told.get("start")) != fits.id:
            # a run begins with one file
            files = fits.ending_in(READ[_kind(net)])
            told["start"] = fits.reference + (f"/{files[0].name}" if len(files) > 1 else "")
            notes.append(f"begins with {files[0].name}")
        around = read_json(net / "manifest.json").get("net", {}).get("environment")
        names = [str(one) for one in around] if isinstance(around, list) else []
        given = told.get("environment")
        if set(names) != set(given if isinstance(given, Mapping) else ()):
            told["environment"] = dict.fromkeys(names, 0.0)
            notes.append(f"from outside act {', '.join(names) or 'no numbers'}")
        return Suggestion(told, notes)

    def problems(self, config: Mapping[str, Any], place: Place) -> list[Problem]:
        found = narrow(config) or remote(place) or wrong(Config, config)
        if found:
            return found
        told = Config.model_validate(config)
        net = _net(told.net, place)
        if net is None:
            return [Problem("net", "is none of your tasks that have fitted a net: say task:ID")]
        kind = _kind(net)
        inputs = Inputs(place)
        inputs.take("start", told.start, READ[kind])
        if len(inputs.links) > 1:
            return [Problem("start", "there are several files: say upload:ID/name")]
        if kind == "automaton" and (told.confidence or told.temperature is not None):
            name = "confidence" if told.confidence else "temperature"
            return [Problem(name, "is of atoms; this net is of automata")]
        return inputs.problems

    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        told = Config.model_validate(config)
        net = _net(told.net, place)
        assert net is not None
        inputs = Inputs(place)
        inputs.take("start", told.start, READ[_kind(net)])
        inputs.link(folder)
        # the net stays when the task that fitted it goes
        shutil.copytree(net, folder / _NET, copy_function=_linked)
        (start,) = inputs.links
        kept = told.model_dump() | {"start": start}
        write_text(folder / CONFIG, json.dumps(kept, indent=1) + "\n")
        write_start(folder, workers_of(place))

    def command(self, folder: Path, fresh: bool) -> list[str]:
        told = read_json(folder / CONFIG)
        words = ["mlcore", "sagesnet", "run", _NET, str(told["start"])]
        for name in ("steps", "level", "record", "frame", "seed", "axis"):
            words += [f"--{name}", str(told[name])]
        for name, value in told["environment"].items():
            words += ["--environment", f"{name}={value!r}"]
        if told["confidence"]:
            words.append("--confidence")
        if told["temperature"] is not None:
            words += ["--temperature", str(told["temperature"]), "--damping", str(told["damping"])]
        atoms = _kind(folder / _NET) == "atoms"
        for ending in (".npy", ".extxyz", ".gif") if atoms else (".npy", ".gif"):
            words += ["--out", f"run/motion{ending}"]
        return started([*words, "--quiet", "--progress", "run/standing.json"])

    def progress(self, folder: Path) -> Progress:
        told = read_standing(folder / "run" / "standing.json")
        if (folder / "run" / "motion.gif").is_file():
            return Progress(1.0, "done")
        part = told.get("part")
        done = part if isinstance(part, float) else 0.0
        if isinstance(part, float):
            paced(folder, "steps", round(part * read_json(folder / CONFIG).get("steps", 0)))
        return Progress(0.95 * done, str(told.get("line", "starting")))

    def view(self, folder: Path) -> dict[str, Any]:
        path = folder / "run" / "motion.npy"
        told = read_json(folder / CONFIG)
        numbers = pace(folder, threads_of(folder))
        if not path.is_file():
            return {"figures": [], "tables": [], "numbers": numbers}
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        keep = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _LOOKED_AT)).astype(int))
        # moments are kept at equal distances, but for the last
        steps = np.minimum(keep * (told["steps"] / max(len(frames) - 1, 1)), told["steps"])
        draw = _moves if _kind(folder / _NET) == "atoms" else _shares
        return {"figures": list(draw(frames, keep, steps)), "tables": [], "numbers": numbers}

    def downloads(self, folder: Path) -> list[Download]:
        return offered(
            folder,
            ("run/motion.extxyz", "motion.extxyz", "Trajectory"),
            ("run/motion.npy", "motion.npy", "States, or positions, as an array"),
            ("run/motion.gif", "motion.gif", "Film"),
            (CONFIG, CONFIG, "Full config"),
        )

    def film(self, folder: Path) -> Film | None:
        path = folder / "run" / "motion.npy"
        if not path.is_file():
            return None
        if _kind(folder / _NET) == "automaton":
            return CellFilm(path, "states of cells")
        from ase.io import read

        first: Any = read(folder / "run" / "motion.extxyz", index=0)
        places = np.load(path, mmap_mode="r", allow_pickle=False)
        x, y, z = (bool(one) for one in first.pbc)
        return PointFilm(places, "atoms", first.numbers, first.cell[:], (x, y, z))

    def summary(self, config: Mapping[str, Any]) -> str:
        return f"{config.get('steps', 50)} steps"


def _net(reference: str, place: Place) -> Path | None:
    """The folder of the net of ``task:ID``, where it is one of the user's."""
    folder = place.tasks.get(reference.removeprefix(_TASK)) if reference.startswith(_TASK) else None
    net = None if folder is None else folder / "run" / "net"
    return net if net is not None and _kind(net) in READ else None


def _fitted(place: Place) -> list[str]:
    """Tasks that have fitted a net, the newest first."""
    nets = {name: _net(_TASK + name, place) for name in place.tasks}
    made = {name: net.stat().st_mtime for name, net in nets.items() if net is not None}
    return sorted(made, key=lambda name: made[name], reverse=True)


def _chosen(config: Mapping[str, Any], place: Place, upload: str | None, kind: str) -> Known | None:
    """Data that a net of this kind of cells can begin with."""
    found = known(place, upload or referred(config.get("start")))
    if found is not None:
        return found if _begins(found, kind) else None
    return next((one for one in shelf(place) if _begins(one, kind)), None)


def _begins(found: Known, kind: str) -> bool:
    # one structure is no trajectory, but a start
    return cells_of(found) == kind or (
        kind == "atoms" and found.kind == "structures" and bool(found.ending_in(READ["atoms"]))
    )


def _kind(net: Path) -> str:
    """Of the cells of a net."""
    told = read_json(net / "manifest.json").get("net", {})
    cells = told.get("cells", {}) if isinstance(told, dict) else {}
    return str(cells.get("kind", "")) if isinstance(cells, dict) else ""


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _shares(frames: Any, keep: Any, steps: Any) -> Iterable[dict[str, Any]]:
    """How many cells are in each state, by time."""
    counts = [np.bincount(np.asarray(frames[k]).ravel(), minlength=2) for k in keep]
    states = min(max(map(len, counts)), _MOST)
    size = int(counts[0].sum())
    traces = []
    for state in range(1, states):
        part = [count[state] / size if state < len(count) else 0.0 for count in counts]
        traces.append(lines(steps, part, f"state {state}"))
    yield figure(
        "shares", "Cells in each state", traces, x="step", y="part of all cells", section="Motion"
    )
    changed = [float(np.mean(np.asarray(frames[a]) != frames[b])) for a, b in pairwise(keep)]
    if changed:
        one = lines(steps[1:], changed, "", tone="accent")
        yield figure(
            "changed", "Cells that change", [one], x="step", y="part of all cells", section="Motion"
        )


def _moves(frames: Any, keep: Any, steps: Any) -> Iterable[dict[str, Any]]:
    """How far atoms are from where they began."""
    first = np.asarray(frames[0], float)
    apart = [np.linalg.norm(np.asarray(frames[k], float) - first, axis=1) for k in keep]
    mean = [float(np.sqrt(np.mean(one**2))) for one in apart]
    most = [float(one.max()) for one in apart]
    traces = [lines(steps, mean, "root mean square", tone="accent")]
    traces.append(lines(steps, most, "largest", tone="quiet"))
    yield figure("moves", "Displacement from the start", traces, x="step", y="Å", section="Motion")
