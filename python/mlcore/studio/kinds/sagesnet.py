"""Nets of cells, taught by runs of automata or atoms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlcore.studio.figures import bars, figure, table
from mlcore.studio.kinds.face import Download, Kind, Place, Problem, Progress, Step
from mlcore.studio.kinds.inputs import Inputs
from mlcore.studio.kinds.pace import pace, paced, remote, workers_of
from mlcore.studio.kinds.sagesnet_form import READ, form, suggested
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

__all__ = ["SagesNetFit"]

_MOST = {"channels": 512, "width": 1024, "lift_width": 1024, "layers": 16, "states": 256,
         "waves": 32, "slots": 64, "radial": 64, "order": 8, "turns": 8, "kicks": 16,
         "messages": 1024, "kernel": 5}  # fmt: skip
"""Sizes, at most: a config is checked by making its net."""
_LEVELS, _SPACE = 6, 16
_WEIGHTS = 1e8


class SagesNetFit(Suggesting, Kind):
    name: ClassVar[str] = "sagesnet"
    title: ClassVar[str] = "Fit SAGESnet"
    blurb: ClassVar[str] = "A net of cells on many scales, from runs of automata or atoms."
    steps: ClassVar[Sequence[Step]] = (
        Step("model", "Model", ("cells", "levels")),
        Step("data", "Data", ("runs", "grid")),
        Step("objective", "Objective", ("lift", "confidence")),
        Step("optimisation", "Optimisation", ("fit", "seed")),
        Step("submit", "Submit"),
    )

    def example(self) -> dict[str, Any]:
        return {
            "cells": {"kind": "automaton", "channels": 8},
            "levels": [
                {"width": 16, "residual": False},
                {"space": [1, 2, 2], "time": 2, "frames": 1, "width": 8, "lift_width": 16},
            ],
            "runs": [{"files": "upload:ID"}],
            "fit": {"epochs": 12, "learning_rate": 1e-2},
        }

    def schema(self) -> dict[str, Any]:
        from mlcore.sagesnet.config import Config

        return form(Config.model_json_schema(), "optimisation")

    def suggested(
        self, config: Mapping[str, Any], place: Place, upload: str | None = None
    ) -> Suggestion:
        return suggested(config, place, upload)

    def problems(self, config: Mapping[str, Any], place: Place) -> list[Problem]:
        from mlcore.sagesnet.config import Config

        odd = narrow(config) or list(_vast(config))
        if odd:
            return odd
        told, inputs = _taken(config, place)
        found = remote(place) or [_placed(one) for one in wrong(Config, told)]
        return found or inputs.problems

    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        told, inputs = _taken(config, place)
        inputs.link(folder)
        # what was trained is kept often, so that a pause costs little
        fit = {"checkpoint_every": 1, **dict(told.get("fit") or {})}
        write_config(folder, {**told, "fit": fit})
        write_start(folder, workers_of(place))

    def command(self, folder: Path, fresh: bool) -> list[str]:
        words = ["mlcore", "sagesnet", "fit", CONFIG, "--out", "run", "--quiet"]
        return started([*words, *(["--fresh"] if fresh else [])])

    def progress(self, folder: Path) -> Progress:
        config = read_config(folder)
        levels = max(len(config.get("levels", [])), 1)
        epochs = int(config.get("fit", {}).get("epochs", 100))
        training = folder / "run" / "training"
        if (folder / "run" / "summary.json").is_file():
            return Progress(1.0, "done", _facts(training, levels))
        doubting = sorted(training.glob("confidence_*/metrics.jsonl"))
        if doubting:
            return Progress(0.95, f"confidence: {len(doubting)} heads", _facts(training, levels))
        for k in reversed(range(levels)):
            epoch = last_epoch(training / f"level_{k}")
            if epoch is not None:
                paced(folder, "epochs", epoch["epoch"])
                done = (k + min(epoch["epoch"] / epochs, 1.0)) / levels
                line = (
                    f"level {k}: epoch {epoch['epoch']:.0f} of {epochs}, loss {epoch['loss']:.4g}"
                )
                return Progress(0.95 * done, line, _facts(training, levels))
        return Progress(0.0, "reading the runs")

    def view(self, folder: Path) -> dict[str, Any]:
        training = folder / "run" / "training"
        figures = []
        for path in sorted(training.glob("level_*")):
            title = f"Training of {path.name.replace('_', ' ')}"
            figures.append(learning(f"learning-{path.name}", title, {"": path}))
        heads = {p.name.removeprefix("confidence_").replace("_", " "): p
                 for p in sorted(training.glob("confidence_*"))}  # fmt: skip
        figures.append(learning("confidence", "Training of confidence", heads))
        summary = read_json(folder / "run" / "summary.json")
        figures += _summarised(summary)
        told = [one for one in figures if one is not None]
        numbers = pace(folder, threads_of(folder))
        return {"figures": told, "tables": list(_tables(summary)), "numbers": numbers}

    def downloads(self, folder: Path) -> list[Download]:
        return offered(
            folder,
            ("run/net", "net", "Net"),
            ("run/summary.json", "summary.json", "What was found of each level"),
            (CONFIG, CONFIG, "Full config"),
            ("run/training", "training", "Losses and pictures of all trainings"),
        )

    def summary(self, config: Mapping[str, Any]) -> str:
        cells, levels = config.get("cells"), config.get("levels")
        kind = cells.get("kind", "?") if isinstance(cells, Mapping) else "?"
        count = len(levels) if isinstance(levels, list) else 1
        return f"{kind}, {count} level{'s' if count != 1 else ''}"


def _placed(problem: Problem) -> Problem:
    """What is wrong with cells and levels together is shown at the cells."""
    text = problem.message.removeprefix("cells, levels: ")
    return problem if text == problem.message else Problem("cells", text)


def _taken(config: Mapping[str, Any], place: Place) -> tuple[dict[str, Any], Inputs]:
    """A config whose files are those in the folder of its task, and these."""
    inputs, told = Inputs(place), dict(config)
    cells, runs = config.get("cells"), config.get("runs")
    kind = cells.get("kind") if isinstance(cells, Mapping) else None
    endings = READ.get(kind if isinstance(kind, str) else "", sum(READ.values(), ()))
    if isinstance(runs, list):
        told["runs"] = [
            _run(run, k, inputs, endings) if isinstance(run, Mapping) else run
            for k, run in enumerate(runs)
        ]
    return told, inputs


def _run(
    run: Mapping[str, Any], k: int, inputs: Inputs, endings: tuple[str, ...]
) -> Mapping[str, Any]:
    files = run.get("files")
    if isinstance(files, str):
        return {**run, "files": [inputs.take(f"runs.{k}.files", files, endings)]}
    if isinstance(files, list):
        every = enumerate(files)
        return {**run, "files": [inputs.take(f"runs.{k}.files.{n}", f, endings) for n, f in every]}
    return run


def _vast(config: Mapping[str, Any]) -> Iterable[Problem]:
    """Sizes of nets that a server should not make only to check a config."""
    levels = config.get("levels")
    if isinstance(levels, list) and len(levels) > _LEVELS:
        yield Problem("levels", f"there are at most {_LEVELS}")
    tables = [("cells", config.get("cells")), ("grid", config.get("grid"))]
    some = levels[:_LEVELS] if isinstance(levels, list) else []
    tables += [(f"levels.{k}", one) for k, one in enumerate(some)]
    for at, told in tables:
        for name, value in told.items() if isinstance(told, Mapping) else ():
            most = _SPACE if name in ("space", "time", "frames") else _MOST.get(name)
            numbers = value if isinstance(value, list) else [value]
            if most and any(_number(one) > most for one in numbers):
                yield Problem(f"{at}.{name}", f"must be at most {most}")
    if sum(_weights(one) for one in some if isinstance(one, Mapping)) > _WEIGHTS:
        yield Problem("levels", f"have more than {_WEIGHTS:g} weights")
    cells = config.get("cells")
    elements = cells.get("elements") if isinstance(cells, Mapping) else ()
    if isinstance(elements, list) and len(elements) > 32:
        yield Problem("cells.elements", "must be at most 32")


def _number(told: Any) -> float:
    """Of what is told, as configs take it: text of digits is a number too."""
    try:
        return float(told)
    except (TypeError, ValueError, OverflowError):
        return math.inf if isinstance(told, int) else 0.0


def _weights(level: Mapping[str, Any]) -> float:
    """About how many a predictor has in its hidden layers."""
    layers, width = _number(level.get("layers", 1)), _number(level.get("width") or 0)
    return layers * width**2 * _number(level.get("kernel", 3)) ** 3


def _facts(training: Path, levels: int) -> dict[str, Any]:
    """Losses of the last epochs, by level."""
    found = {k: last_epoch(training / f"level_{k}") for k in range(levels)}
    known = {k: one for k, one in found.items() if one is not None}
    if not known:
        return {}
    latest = known[max(known)]
    return {"best": latest.get("validation", latest["loss"]), "epoch": latest["epoch"]} | {
        f"loss_{k}": one["loss"] for k, one in known.items()
    }


def _summarised(summary: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    levels = summary.get("levels", [])
    if levels:
        names = [f"level {one['level']}" for one in levels]
        best = [one["best"] for one in levels]
        yield figure(
            "levels", "Best loss of each level", [bars(names, best)], x="loss", section="Levels"
        )


def _tables(summary: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    levels = summary.get("levels", [])
    if levels:
        columns = ["level", "best loss", "in epoch", "of", "effective rank", "seconds"]
        rows = [
            [one["level"], one["best"], one["best_epoch"], one["epochs"],
             one.get("effective_rank", ""), round(one["seconds"], 1)]
            for one in levels
        ]  # fmt: skip
        yield table("levels", "Levels", columns, rows, section="Levels")
