"""Fits of force fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from mlcore.errors import Error
from mlcore.io import write_text
from mlcore.io.toml import field_problems
from mlcore.studio.kinds.face import CONFIG, Download, Kind, Place, Problem, Progress, Step
from mlcore.studio.kinds.paths import resolved, strangers

__all__ = ["ForceField"]

_TAIL = 65536  # bytes of the events in which the last one is


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
        from mlcore.forcefield.config import Config

        told, found = resolved(self._engined(config, place), place)
        if found:
            return found
        try:
            made = Config.model_validate(told)
        except ValidationError as error:
            return [Problem(field, text) for field, text in field_problems(error)]
        except Error as error:
            return [_placed(str(error))]
        foreign = strangers(made, place)
        if foreign:
            return foreign
        try:
            made.setup()
        except Error as error:
            return [_placed(str(error))]
        return []

    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        told, _ = resolved(self._engined(config, place), place)
        write_text(folder / CONFIG, json.dumps(told, indent=1) + "\n")

    def command(self, folder: Path, fresh: bool) -> list[str]:
        begun = (folder / "run" / "history.jsonl").is_file() and not fresh
        words = ["resume", "run"] if begun else ["fit", CONFIG, "--out", "run"]
        return ["mlcore", "forcefield", *words, "--quiet"]

    def progress(self, folder: Path) -> Progress:
        event = _last_event(folder / "run" / "events.jsonl")
        if event is None:
            return Progress(line="starting")
        budget = self._budget(folder)
        done, best = int(event.get("evaluations", 0)), event.get("best")
        facts = {
            "evaluations": done,
            "budget": budget,
            "best": best,
            "stage": event.get("stage", ""),
        }
        line = f"{done} of {budget} evaluations"
        if best is not None:
            line += f", best {best:.4g}"
        return Progress(done / budget if budget else 0.0, line, facts)

    def view(self, folder: Path) -> dict[str, Any]:
        return {"figures": {}, "tables": {}}

    def downloads(self, folder: Path) -> list[Download]:
        run = folder / "run"
        offered = (
            ("model", "potential", "Potential, as LAMMPS reads it"),
            ("report.html", "report.html", "Report"),
            ("result.json", "result.json", "Result"),
            ("config.json", "config.json", "Full config"),
            ("history.jsonl", "history.jsonl", "All evaluations"),
        )
        return [Download(n, title, run / f) for f, n, title in offered if (run / f).exists()]

    def summary(self, config: Mapping[str, Any]) -> str:
        model = config.get("model", {})
        return f"{model.get('form', '?')} for {', '.join(map(str, model.get('species', ())))}"

    def _engined(self, config: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Engines are the studio's, whatever a config says."""
        run = {k: v for k, v in dict(config.get("run") or {}).items() if k != "workers"}
        return {**config, "run": {**run, "engine": place.engine.model_dump(mode="json")}}

    def _budget(self, folder: Path) -> int:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return int(told.get("run", {}).get("budget", 2000))


def _placed(text: str) -> Problem:
    """The place in a config that the text of an error begins with."""
    place, colon, rest = text.partition(": ")
    fits = bool(colon) and " " not in place and "/" not in place
    return Problem(place, rest) if fits else Problem("", text)


def _last_event(path: Path) -> dict[str, Any] | None:
    """The last whole line that tells of evaluations."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            lines = stream.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "evaluations" in event:
            return event
    return None
