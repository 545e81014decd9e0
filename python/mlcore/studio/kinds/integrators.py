"""Integrators of large steps, taught and judged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mlcore.errors import Error
from mlcore.io.standing import read_standing
from mlcore.studio.figures import Tone, bars, figure, lines, table
from mlcore.studio.kinds.face import Download, Kind, Place, Problem, Progress, Step
from mlcore.studio.kinds.films import Film, Filmed, PointFilm
from mlcore.studio.kinds.inputs import Inputs
from mlcore.studio.kinds.integrators_form import form, suggested, unswept
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

__all__ = ["Integrators"]

_READ = (".h5", ".hdf5")
_RUNS, _STEPS = 100_000, 1e10  # of a sweep, at most
_CURVES = {
    "autoregressive": ("Error on its own frames", "error", True),
    "teacher forced": ("Error of single steps from true frames", "error", True),
    "energy": ("Change of the energy", "|E - E0| / |E0|", True),
    "temperature": ("Temperature", "temperature", False),
    "g": ("Pair distribution", "g(r)", False),
    "vacf": ("Velocity autocorrelation", "autocorrelation", False),
    "msd": ("Mean square displacement", "displacement squared", False),
}
_BARS = {"horizon": "Horizon: time of error > 0.1", "seconds": "CPU time of a step, s"}
_ROWS = {
    "one_step": "one step from true frames, mean error",
    "horizon": "horizon: time of error > 0.1, own frames",
    "energy_largest": "|E - E0| / |E0|, largest",
    "energy_drift": "drift of E / E0 per time",
    "momentum_largest": "|P - P0|, largest",
    "reversibility": "forth and back, error",
    "forces": "evaluations of the force per large step",
    "seconds": "CPU time per step, one run",
    "speedup": "net speed-up over compiled Verlet",
}


class Integrators(Filmed, Suggesting, Kind):
    name: ClassVar[str] = "integrators"
    title: ClassVar[str] = "Train an integrator"
    blurb: ClassVar[str] = (
        "Large time steps learned from runs, and a report of what they are worth."
    )
    steps: ClassVar[Sequence[Step]] = (
        Step("model", "Model", ("model",)),
        Step("data", "Data", ("data", "runs")),
        Step("training", "Training", ("fit",)),
        Step("submit", "Submit"),
    )

    def example(self) -> dict[str, Any]:
        starts = [
            {"from": 1.5, "to": 3.0, "count": 20},
            {"from": -3.0, "to": -1.5, "count": 20},
        ]
        return {
            "runs": {
                "system": "double_well",
                "dt": 1e-3,
                "time": 20.0,
                "every": 200,
                "over": {"x0": starts},
            },
            "model": {"kind": "lstm", "hidden": [16, 16], "window": 5},
            "fit": {"held_out": 0.2, "horizon": 10.0, "epochs": 40},
        }

    def schema(self) -> dict[str, Any]:
        from mlcore.integrators.config import Config

        return form(Config.model_json_schema(), "training")

    def suggested(
        self, config: Mapping[str, Any], place: Place, upload: str | None = None
    ) -> Suggestion:
        return suggested(config, place, upload)

    def problems(self, config: Mapping[str, Any], place: Place) -> list[Problem]:
        from mlcore.integrators.config import Config

        odd = narrow(config) or _vast(config.get("runs")) or _twice(config)
        if odd:
            return odd
        told, inputs = _taken(config, place)
        found = remote(place) or _once(wrong(Config, told)) or inputs.problems or _several(inputs)
        if found:
            return found
        made = Config.model_validate(told)
        return ([] if made.runs is None else unswept(made.runs)) or _unmade(made)

    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        told, inputs = _taken(config, place)
        inputs.link(folder)
        write_start(folder, workers_of(place))
        write_config(folder, told)

    def command(self, folder: Path, fresh: bool) -> list[str]:
        words = ["mlcore", "integrators", "fit", CONFIG, "--out", "run", "--report"]
        words += ["--progress", "run/standing.json", *(["--fresh"] if fresh else [])]
        return started(words)

    def progress(self, folder: Path) -> Progress:
        run = folder / "run"
        told = read_standing(run / "standing.json")
        line = str(told.get("line", "starting"))
        epoch, epochs = last_epoch(run / "training"), _epochs(folder)
        facts: dict[str, Any] = {}
        paced(folder, "epochs", None if epoch is None else epoch["epoch"])
        if epoch is not None:
            facts = {"epoch": epoch["epoch"], "best": epoch.get("validation", epoch["loss"])}
        if (run / "report.json").is_file():
            return Progress(1.0, "done", facts)
        if line.startswith("judging"):
            return Progress(0.85, line, facts)
        if epoch is None:
            return Progress(0.05 if line == "training" else 0.0, line, facts)
        line = f"epoch {epoch['epoch']:.0f}" + (f" of {epochs}" if epochs else "")
        part = min(epoch["epoch"] / epochs, 1.0) if epochs else 0.0
        return Progress(0.1 + 0.7 * part, f"{line}, loss {epoch['loss']:.4g}", facts)

    def view(self, folder: Path) -> dict[str, Any]:
        run = folder / "run"
        report = read_json(run / "report.json")
        learned = learning("learning", "Training", {"": run / "training"})
        figures = [] if learned is None else [learned]
        figures += _figures(report)
        numbers = pace(folder, threads_of(folder))
        return {"figures": figures, "tables": list(_tables(report)), "numbers": numbers}

    def downloads(self, folder: Path) -> list[Download]:
        return offered(
            folder,
            ("run/integrator.safetensors", "integrator.safetensors", "Integrator"),
            ("run/report.html", "report.html", "Report"),
            ("run/report.json", "report.json", "Numbers of the report"),
            ("run/runs.h5", "runs.h5", "Runs that were made"),
            ("run/motion.npz", "motion.npz", "A motion that was left out, learned and true"),
            (CONFIG, CONFIG, "Full config"),
            ("run/training/metrics.jsonl", "metrics.jsonl", "Losses of all epochs"),
            ("run/training/learning_curve.png", "learning_curve.png", "Picture of the training"),
        )

    def film(self, folder: Path) -> Film | None:
        path = folder / "run" / "motion.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as kept:
            learned, true, edge = kept["learned"], kept["true"], float(kept["box"])
        if not np.isfinite(learned).all():
            return None
        told = "a run that was left out, as the integrator moves it"
        if learned.shape[-1] < 3:
            return _beside(learned, true, f"{told}, and as it was")
        cell = edge * np.eye(3) if edge else None
        periodic = bool(edge)
        return PointFilm(learned, told, None, cell, (periodic, periodic, periodic))

    def summary(self, config: Mapping[str, Any]) -> str:
        model, runs = config.get("model"), config.get("runs")
        kind = model.get("kind", "?") if isinstance(model, Mapping) else "?"
        system = runs.get("system", "?") if isinstance(runs, Mapping) else "uploaded runs"
        return f"{kind} of {system}"


def _beside(learned: Any, true: Any, told: str) -> PointFilm:
    """Two motions in one or two dimensions, the true one a bit beside the other."""
    steps = min(len(learned), len(true))
    both = [
        np.pad(one[:steps], ((0, 0), (0, 0), (0, 3 - one.shape[-1]))) for one in (learned, true)
    ]
    both[1][..., 2 if learned.shape[-1] == 2 else 1] += 0.12 * float(np.ptp(true)) or 1.0
    names = ("learned",) * learned.shape[1] + ("true",) * true.shape[1]
    return PointFilm(np.concatenate(both, axis=1), told, names=names)


def _taken(config: Mapping[str, Any], place: Place) -> tuple[dict[str, Any], Inputs]:
    """A config whose file is that in the folder of its task, and this."""
    inputs, told = Inputs(place), dict(config)
    fit, data = config.get("fit", {}), told.pop("data", None)
    if isinstance(fit, Mapping) and (data is not None or fit.get("data") is not None):
        at, reference = ("fit.data", fit["data"]) if data is None else ("data", data)
        told["fit"] = {**fit, "data": inputs.take(at, reference, _READ)}
    if inputs.beside:
        inputs.problems.append(
            Problem("data", "holds runs of carbon; nets of cells learn from them")
        )
    return told, inputs


def _once(found: list[Problem]) -> list[Problem]:
    """Values of parameters are numbers or ranges: one is told of what is neither, at its own place."""
    told: dict[str, Problem] = {}
    for one in found:
        at = one.field
        if at.startswith("runs.over."):
            at = re.sub(r"\.(float|Range)(?=\.|$)", "", at)
        told.setdefault(at, Problem(at, one.message))
    return [one for at, one in told.items() if not any(o.startswith(f"{at}.") for o in told)]


def _twice(config: Mapping[str, Any]) -> list[Problem]:
    """Runs are told in one place: made here, of a data set, or as the command line takes them."""
    fit = config.get("fit")
    told = {
        "data": config.get("data"),
        "runs": config.get("runs"),
        "fit.data": fit.get("data") if isinstance(fit, Mapping) else None,
    }
    given = [name for name, value in told.items() if value is not None]
    if len(given) > 1:
        return [Problem(given[0], f"and {given[1]} are both given; one of them tells the runs")]
    return []


def _several(inputs: Inputs) -> list[Problem]:
    at = next(("data" for name in inputs.links if name.startswith("inputs/data/")), "fit.data")
    if len(inputs.links) > 1:
        return [Problem(at, "there are several files of runs: say upload:ID/name")]
    return [Problem(at, "the name of the file must be without *, ? and []")
            for name in inputs.links if set(name) & set("*?[]")]  # fmt: skip


def _vast(runs: Any) -> list[Problem]:
    """A sweep of more runs than a server should make, before its numbers are written out."""
    if not isinstance(runs, Mapping):
        return []
    over = runs.get("over")
    count = 1.0
    for told in over.values() if isinstance(over, Mapping) else ():
        some = told if isinstance(told, list) else [told]
        count *= sum(_count(one) for one in some)
    steps = count * _quotient(runs.get("time"), runs.get("dt"))
    if count > _RUNS or steps > _STEPS:
        return [Problem("runs", f"is too much: at most {_RUNS} runs of {_STEPS:g} steps in all")]
    return []


def _count(told: Any) -> float:
    return _number(told.get("count", 1)) if isinstance(told, Mapping) else 1.0


def _quotient(time: Any, dt: Any) -> float:
    long, short = _number(time), _number(dt)
    return long / short if short > 0 else 0.0


def _number(told: Any) -> float:
    """Of what is told, as configs take it: text of digits is a number too."""
    try:
        return float(told)
    except (TypeError, ValueError, OverflowError):
        return math.inf if isinstance(told, int) else 0.0


def _unmade(config: Any) -> list[Problem]:
    """What an integrator's own arguments are refused for; nothing of its size is allocated."""
    import torch

    try:
        with torch.device("meta"):
            config.model.make()
    except (Error, TypeError, ValueError, OverflowError, RuntimeError) as error:
        return [Problem("model", " ".join(str(error).split())[:300])]
    return []


def _epochs(folder: Path) -> int | None:
    epochs = read_config(folder).get("fit", {}).get("epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else None


def _figures(report: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Curves of all columns, by what they tell, and bars of single numbers."""
    columns = report.get("columns", [])
    for name, (title, what, logarithmic) in _CURVES.items():
        traces = [
            lines(*_positive(one["curves"][name], logarithmic), one["name"], tone=_tone(one),
                  dotted=one["baseline"])
            for one in columns
            if name in one["curves"]
        ]  # fmt: skip
        if traces:
            across = "distance" if name == "g" else "time"
            yield figure(name, title, traces, x=across, y=what, log_y=logarithmic, section="Report")
    for name, title in _BARS.items():
        known = [
            (one["name"], one["values"][name]["value"])
            for one in columns
            if one["values"].get(name, {}).get("value") is not None
        ]
        if known:
            made = bars([one for one, _ in known], [value for _, value in known])
            yield figure(f"bars-{name}", title, [made], x=title, section="Report")


def _tone(column: Mapping[str, Any]) -> Tone:
    if column["name"] == "truth":
        return "ink"
    return "quiet" if column["baseline"] else "accent"


def _positive(curve: Sequence[Sequence[Any]], wanted: bool) -> tuple[list[Any], list[Any]]:
    values = [
        math.nan if v is None or (wanted and v <= 0) else v for v in curve[1]
    ]  # a logarithmic axis has no zero
    return list(curve[0]), values


def _tables(report: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    columns = report.get("columns", [])
    if not columns:
        return
    rows = [
        [label, *(one["values"].get(key, {}).get("text", "") for one in columns)]
        for key, label in _ROWS.items()
    ]
    told = [row for row in rows if any(cell not in ("", "-") for cell in row[1:])]
    names = [one["name"] for one in columns]
    yield table("numbers", "What it is worth", ["", *names], told, section="Report")
    gates = [
        [one["name"], gate["name"], {True: "held", False: "FAILED"}.get(gate["held"], "not told"),
         gate["detail"]]
        for one in columns
        for gate in one["gates"]
    ]  # fmt: skip
    if gates:
        yield table("gates", "Honesty", ["integrator", "gate", "", "seen"], gates, section="Report")
    facts = report.get("facts", {})
    yield table("facts", "What was compared", ["", ""], list(facts.items()), section="Report")
