"""Mobilities learned from trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlcore.errors import Error
from mlcore.io.standing import read_standing
from mlcore.studio.figures import Tone, figure, lines, points, table
from mlcore.studio.kinds.face import Download, Kind, Place, Problem, Progress, Step
from mlcore.studio.kinds.films import LARGEST, Film, Filmed, TrajectoryFilm
from mlcore.studio.kinds.inputs import Inputs
from mlcore.studio.kinds.mobility_form import PARTS, READ, form, suggested
from mlcore.studio.kinds.pace import pace, paced, remote, workers_of
from mlcore.studio.kinds.started import started, threads_of, write_start
from mlcore.studio.kinds.suggesting import Suggesting, Suggestion
from mlcore.studio.kinds.trained import (
    CONFIG,
    last_epoch,
    learning,
    narrow,
    offered,
    read_config,
    read_json,
    write_config,
    wrong,
)

__all__ = ["Mobility"]

_SECTIONS = ("active", "passive", "held_out")
_STAGES = {"estimate": 0.15, "train": 0.6, "export": 0.65, "simulate": 0.95, "cost": 1.0}
_ALONG = {"par": "along the pair", "perp": "across the pair"}
_TONES: dict[str, Tone] = {"learned": "accent", "theory": "other"}
_DATA = {"active": "known forces", "passive": "free motion"}


class Mobility(Filmed, Suggesting, Kind):
    name: ClassVar[str] = "mobility"
    title: ClassVar[str] = "Learn a mobility"
    blurb: ClassVar[str] = "How particles in a fluid move each other, from their trajectories."
    steps: ClassVar[Sequence[Step]] = (
        Step("model", "Model", ("train",)),
        Step("data", "Data", ("data", "system", "units")),
        Step("objective", "Objective", ("estimate", "theory")),
        Step("optimisation", "Runs", ("simulate", "seed", "title")),
        Step("submit", "Submit"),
    )

    def example(self) -> dict[str, Any]:
        return {
            "title": "Mobility",
            "units": {"length": "a0", "energy": "kBT", "time": "t0"},
            "system": {"kBT": 1.0},
            "data": {"active": {"files": "upload:ID", "lag": 2.0}},
            "estimate": {"edges": [2.0, 4.0, 5.2, 7.0, 9.0, 12.0, 16.0, 20.8], "bootstrap": 200},
            "train": {
                "models": ["neural", "kernel-ridge"],
                "losses": ["regression"],
                "run": ["neural", "regression"],
                "cutoff": 12.0,
                "epochs": 600,
                "background": {"kernel": "rpy", "radius": 2.0, "viscosity": 2.5},
            },
        }

    def suggested(
        self, config: Mapping[str, Any], place: Place, upload: str | None = None
    ) -> Suggestion:
        return suggested(config, place, upload)

    def schema(self) -> dict[str, Any]:
        from mlcore.mobility.config import Config

        made = Config.model_json_schema()
        made["properties"].pop("cost")
        return form(made, "optimisation")

    def problems(self, config: Mapping[str, Any], place: Place) -> list[Problem]:
        from mlcore.mobility.config import Config

        odd = narrow(config)
        if odd:
            return odd
        if "cost" in config:
            return [Problem("cost", "scripts are not run here; leave it out")]
        told, inputs = _taken(config, place)
        return remote(place) or wrong(Config, told) or inputs.problems

    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        told, inputs = _taken(config, place)
        inputs.link(folder)
        parts = _cut(told, inputs)
        for file in parts:
            kind = told["train"].get("data", "active")
            told["data"][kind] = {**told["data"][kind], "files": f"{Path(file).parent}/*"}
        write_start(folder, workers_of(place), parts)
        write_config(folder, told)

    def command(self, folder: Path, fresh: bool) -> list[str]:
        words = ["mlcore", "mobility", "demo", CONFIG, "--out", "run"]
        words += ["--progress", "run/standing.json", *(["--fresh"] if fresh else [])]
        return started(words)

    def progress(self, folder: Path) -> Progress:
        run = folder / "run"
        epoch = _epoch(run)
        paced(folder, "epochs", None if epoch is None else epoch["epoch"])
        if (run / "summary.json").is_file():
            return Progress(1.0, "done", self._facts(run))
        told = read_standing(run / "standing.json")
        line = str(told.get("line", "starting"))
        done = [part for name, part in _STAGES.items() if _finished(run, name)]
        part = max(done, default=0.0)
        ahead = [one for one in _STAGES.values() if one > part]
        known = told.get("part")
        if isinstance(known, float) and ahead:
            part += known * (min(ahead) - part)
        if epoch is not None and line.startswith("training neural"):
            line += f", epoch {epoch['epoch']:.0f}, loss {epoch['loss']:.4g}"
        return Progress(part, line, self._facts(run))

    def view(self, folder: Path) -> dict[str, Any]:
        run = folder / "run"
        units = _units(folder)
        figures = list(_mobilities(run, units))
        logs = {path.name: path for path in _trainings(run)}
        learned = learning("learning", "Training of networks", logs)
        if learned is not None:
            figures.append(learned)
        figures += _motions(run, units)
        numbers = pace(folder, threads_of(folder))
        return {"figures": figures, "tables": list(_tables(run)), "numbers": numbers}

    def downloads(self, folder: Path) -> list[Download]:
        pictures = sorted(path.name for path in (folder / "run").glob("*.png"))
        return [
            *offered(
                folder,
                ("run/export/bundle", "mobility", "Mobility, as mlcore and LAMMPS (MLMOD) read it"),
                ("run/report.html", "report.html", "Report"),
                ("run/summary.json", "summary.json", "Numbers and curves"),
                (CONFIG, CONFIG, "Full config"),
                ("run/estimate", "estimate", "Binned estimates"),
                ("run/train", "models", "All models and their trainings"),
            ),
            *offered(folder, *((f"run/{name}", name, f"Picture {name}") for name in pictures)),
        ]

    def film(self, folder: Path) -> Film | None:
        runs = sorted((folder / "run").glob("simulate-*/run1/trajectory.dump"))
        if not runs or runs[0].stat().st_size > LARGEST:
            return None
        name = runs[0].parts[-3].removeprefix("simulate-")
        return TrajectoryFilm(runs[0], f"{name}: the learned model in LAMMPS")

    def summary(self, config: Mapping[str, Any]) -> str:
        train = config.get("train")
        run = train.get("run") if isinstance(train, Mapping) else None
        return f"{config.get('title', 'Mobility')}" + (
            f", {' by '.join(map(str, run))}" if isinstance(run, list | tuple) else ""
        )

    def _facts(self, run: Path) -> dict[str, Any]:
        epoch = _epoch(run)
        return {} if epoch is None else {"epoch": epoch["epoch"], "best": epoch["loss"]}


def _taken(config: Mapping[str, Any], place: Place) -> tuple[dict[str, Any], Inputs]:
    """A config whose files are those in the folder of its task, and these."""
    inputs = Inputs(place)
    told = dict(config)
    data = config.get("data")
    if isinstance(data, Mapping):
        told["data"] = dict(data)
        for kind in _SECTIONS:
            section = data.get(kind)
            if isinstance(section, Mapping) and "files" in section:
                files = inputs.take(f"data.{kind}.files", section["files"], READ)
                told["data"][kind] = {**section, "files": files}
    return told, inputs


def _cut(told: Mapping[str, Any], inputs: Inputs) -> dict[str, int]:
    """The one file that is learned from, where none is held out to judge by: it is cut."""
    kind = told["train"].get("data", "active")
    mine = [name for name in inputs.links if name.startswith(f"inputs/data_{kind}_files/")]
    whole = len(mine) == 1 and not told["data"].get("held_out")
    return {mine[0]: PARTS} if whole else {}


def _finished(run: Path, stage: str) -> bool:
    return any(run.glob(f"{stage}*/stage.json"))


def _trainings(run: Path) -> list[Path]:
    return sorted(path.parent for path in run.glob("train/*/metrics.jsonl"))


def _epoch(run: Path) -> Mapping[str, float] | None:
    logs = _trainings(run)
    latest = max(logs, key=lambda one: (one / "metrics.jsonl").stat().st_mtime, default=None)
    return None if latest is None else last_epoch(latest)


def _units(folder: Path) -> dict[str, str]:
    """What figures measure in, by what they show."""
    told = read_config(folder).get("units", {})
    length, energy, time = (str(told.get(n, "lj")) for n in ("length", "energy", "time"))
    if {length, energy, time} <= {"", "lj", "reduced"}:
        return dict.fromkeys(("distance", "mobility", "wave number", "D(k)"), "reduced")
    return {
        "distance": length,
        "mobility": f"{length}²/({energy} {time})",
        "wave number": f"1/{length}",
        "D(k)": f"{length}²/{time}",
    }


def _mobilities(run: Path, units: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """Estimates by distance with their errors, and what was learned of them."""
    from mlcore.mobility.estimators import MobilityEstimate

    curves = read_json(run / "summary.json").get("curves", {})
    for kind, words in _DATA.items():
        path = run / "estimate" / f"{kind}.npz"
        if not path.is_file():
            continue
        try:
            estimate = MobilityEstimate.load(path)
        except (Error, OSError):
            continue
        for part, told in _ALONG.items():
            value, error = getattr(estimate, part), getattr(estimate, f"{part}_error")
            data = points(estimate.r, value, "data", tone="ink")
            finite = [float(e) if math.isfinite(e) else None for e in error]
            data["error_y"] = {"type": "data", "array": finite, "visible": True}
            traces = [data]
            for line in curves.get(kind, ()):
                tone, dotted = _TONES.get(line["role"], "quiet"), line["role"] != "learned"
                r, along = _gaps(line["r"]), _gaps(line[part])
                traces.append(lines(r, along, line["name"], tone=tone, dotted=dotted))
            yield figure(
                f"mobility-{kind}-{part}",
                f"Pair mobility {told}, {words}",
                traces,
                x=f"distance, {units['distance']}",
                y=f"mobility, {units['mobility']}",
                section="Mobility",
            )


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _motions(run: Path, units: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """Motion in LAMMPS beside what it is compared with."""
    for stage in sorted(run.glob("simulate-*/stage.json")):
        told = read_json(stage).get("result", {})
        name = stage.parent.name.removeprefix("simulate-")
        traces = []
        sides: tuple[tuple[str, Tone], ...] = (("reference", "ink"), ("learned", "accent"))
        for who, tone in sides:
            spectrum = told.get(who, {}).get("spectrum", {})
            if not spectrum:
                continue
            one = points(spectrum["k"], spectrum["value"], who, tone=tone)
            one["error_y"] = {"type": "data", "array": spectrum["error"], "visible": True}
            traces.append(one)
        if traces:
            yield figure(
                f"diffusion-{name}",
                f"Diffusion of density waves, {name}",
                traces,
                x=f"wave number, {units['wave number']}",
                y=f"D(k), {units['D(k)']}",
                section="Motion",
            )


def _tables(run: Path) -> Iterable[dict[str, Any]]:
    rows = read_json(run / "train" / "stage.json").get("result", {}).get("rows", [])
    if rows:
        columns = ["model", "loss", "self mobility", "chi2 / values", "ln L over none", "seconds"]
        yield table(
            "models",
            "Models",
            columns,
            [
                [
                    one["model"],
                    one["loss"],
                    one["self_mobility"],
                    f"{one['chi2']:.1f} / {one['values']}",
                    f"{one['over_none']['value']:.1f} ± {one['over_none']['error']:.1f}",
                    round(one["seconds"], 1),
                ]
                for one in rows
            ],
            section="Models",
        )
    numbers = read_json(run / "summary.json").get("numbers", [])
    if numbers:
        told = [[one["name"], one["value"], one["meaning"]] for one in numbers]
        yield table("numbers", "What was found", ["", "value", "meaning"], told, section="Mobility")
