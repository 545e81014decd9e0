"""Fits of force fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlcore.io import write_text
from mlcore.studio.kinds.face import CONFIG, Download, Kind, Place, Problem, Progress, Step
from mlcore.studio.kinds.fit_view import fit_view
from mlcore.studio.kinds.mpi import launched
from mlcore.studio.kinds.paths import resolved

__all__ = ["ForceField"]

_TAIL = 16384  # bytes of the events, the last of some seconds


class ForceField(Kind):
    name: ClassVar[str] = "forcefield"
    title: ClassVar[str] = "Fit a force field"
    blurb: ClassVar[str] = "A classical potential for LAMMPS, from structures and properties."
    steps: ClassVar[Sequence[Step]] = (
        Step("model", "Model", ("model", "parameters")),
        Step("data", "Data", ("data", "structures", "targets")),
        Step("objective", "Objective", ("objective",)),
        Step("optimisation", "Optimisation", ("search", "run")),
        Step("submit", "Submit"),
    )

    def example(self) -> dict[str, Any]:
        return {
            "format": "mlcore forcefield fit",
            "version": 1,
            "model": {"form": "tersoff", "species": ["Si"]},
            "parameters": {"free": ["A", "B", "lam1", "lam2"]},
            "search": {"name": "default"},
            "run": {"budget": 1000, "seed": 0},
        }

    def schema(self) -> dict[str, Any]:
        from mlcore.forcefield.config import schema

        return schema()

    def problems(self, config: Mapping[str, Any], place: Place) -> list[Problem]:
        from mlcore.studio.kinds.fit_check import check

        told, found = resolved(self._engined(config, place), place)
        return check(told, place, found)

    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        told, _ = resolved(self._engined(config, place), place)
        write_text(folder / CONFIG, json.dumps(told, indent=1) + "\n")

    def command(self, folder: Path, fresh: bool) -> list[str]:
        begun = (folder / "run" / "history.jsonl").is_file() and not fresh
        words = ["resume", "run"] if begun else ["fit", CONFIG, "--out", "run"]
        ranks = _ranks(folder)
        program = launched(ranks, "mlcore.forcefield") if ranks else ["mlcore", "forcefield"]
        return [*program, *words, "--quiet"]

    def progress(self, folder: Path) -> Progress:
        events = _events(folder / "run" / "events.jsonl")
        if not events:
            return Progress(line="starting")
        last, budget = events[-1], self._budget(folder)
        done, best = int(last.get("evaluations", 0)), last.get("best")
        fast = _rate(events)
        facts = {
            "evaluations": done,
            "budget": budget,
            "best": best,
            "rate": fast,
            "stage": last.get("stage", ""),
        }
        line = f"{done} of {budget} evaluations"
        if best is not None:
            line += f", best {best:.4g}"
        return Progress(done / budget if budget else 0.0, line, facts)

    def view(self, folder: Path) -> dict[str, Any]:
        return fit_view(folder / "run")

    def downloads(self, folder: Path) -> list[Download]:
        run = folder / "run"
        offered = (
            ("model", "potential", "Potential, as LAMMPS reads it"),
            ("model/in.lammps", "in.lammps", "Input of LAMMPS that uses it"),
            ("report.html", "report.html", "Report"),
            ("result.json", "result.json", "Result"),
            ("config.json", "config.json", "Full config"),
            ("history.jsonl", "history.jsonl", "All evaluations"),
        )
        return [Download(n, title, run / f) for f, n, title in offered if (run / f).exists()]

    def summary(self, config: Mapping[str, Any]) -> str:
        model = config.get("model")
        model = model if isinstance(model, Mapping) else {}
        species = model.get("species")
        named = species if isinstance(species, list | tuple) else ()
        return f"{model.get('form', '?')} for {', '.join(map(str, named))}"

    def _engined(self, config: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Engines are the studio's, whatever a config says."""
        told = config.get("run") or {}
        if not isinstance(told, Mapping):
            return dict(config)  # is refused
        run = {k: v for k, v in told.items() if k != "workers"}
        return {**config, "run": {**run, "engine": place.engine.model_dump(mode="json")}}

    def _budget(self, folder: Path) -> int:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return int(told.get("run", {}).get("budget", 2000))


def _ranks(folder: Path) -> int:
    """Of the MPI job that a fit is, the one that drives it among them; 0: it is none."""
    told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["run"]["engine"]
    return int(told["workers"]) + 1 if told["name"] == "mpi" else 0


def _events(path: Path) -> list[dict[str, Any]]:
    """The last events that tell of evaluations, of this driver."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            lines = stream.read().splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "evaluations" in event:
            found = [] if event.get("event") == "started" else found
            found.append(event)
    return found


def _rate(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Evaluations a second, of late."""
    told = [one for one in events if one.get("event") == "batch" and "elapsed" in one] or [{}]
    seconds = told[-1].get("elapsed", 0.0) - told[0].get("elapsed", 0.0)
    return (
        round((told[-1]["evaluations"] - told[0]["evaluations"]) / seconds, 4)
        if seconds > 0
        else None
    )
