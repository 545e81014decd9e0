"""The report of a fit: one HTML file, pictures inside."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlcore.errors import FileFormatError
from mlcore.forcefield import pictures
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.run.events import read_events
from mlcore.forcefield.run.finish import read_measured
from mlcore.forcefield.run.history import Entry, read_history
from mlcore.forcefield.run.result import Result
from mlcore.mobility import plots
from mlcore.mobility import report as page

__all__ = ["write"]

_ROWS = 40  # of a table
_SECTIONS = ("Convergence", "Parity", "Residuals", "Parameters", "Pareto front")


@dataclass(frozen=True)
class _Fit:
    """What lies in the folder of a fit."""

    result: Result
    entries: Sequence[Entry]
    events: Sequence[Mapping[str, Any]]
    measured: Sequence[Mapping[str, Any]]
    known: Mapping[str, Any]
    config: str
    space: Space


def write(folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a fit that is done.

    Args:
        folder: of the fit.
        path: of the HTML file; `report.html` in the folder where left out.

    Raises:
        FileFormatError: the fit is not done, or a file of it is missing.
    """
    fit = _read(Path(folder))
    with tempfile.TemporaryDirectory() as place:
        shown: dict[str, list[page.Picture]] = {}
        for k, (section, caption, figure) in enumerate(_figures(fit)):
            file = plots.save(figure, Path(place) / f"{k}.png")
            shown.setdefault(section, []).append(page.Picture(file, caption))
        made = page.Report(
            title=_title(fit),
            lead=_lead(fit),
            numbers=list(_numbers(fit)),
            sections=[*_sections(fit, shown), *_judgements(fit), *_ends(fit)],
            provenance=dict(fit.known["versions"]) | {"seed": str(fit.known["seed"])},
            configuration=fit.config,
        )
        return page.write_report(made, Path(path) if path else fit.result.folder / "report.html")


def _read(folder: Path) -> _Fit:
    result = Result.load(folder)
    entries = read_history(folder)
    if not entries:
        raise FileFormatError(f"{folder}: has no history")
    known = _json(folder / "versions.json")
    config = (folder / "config.json").read_text(encoding="utf-8")
    space = Space.from_record(known["space"])
    return _Fit(
        result, entries, list(read_events(folder)), read_measured(folder), known, config, space
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: {error}") from None
    return told


def _title(fit: _Fit) -> str:
    told = json.loads(fit.config)
    form = told["model"].get("form", "")
    form = form.get("name", "") if isinstance(form, dict) else form
    return str(told.get("title") or f"{form}, {' '.join(told['model']['species'])}")


def _lead(fit: _Fit) -> str:
    result = fit.result
    if result.total is None:
        return f"No candidate could be evaluated in {result.evaluations} evaluations."
    said = "" if result.verified.agrees else "THE SCORE WAS NOT REPRODUCED: "
    return (
        f"Score {result.total:.6g} after {result.evaluations} evaluations in "
        f"{result.seconds:.1f} s. {said}{result.verified.words[:1].upper()}"
        f"{result.verified.words[1:]}."
    )


# ------------------------------------------------------------------------------------------ numbers
def _numbers(fit: _Fit) -> Iterator[page.Number]:
    result = fit.result
    total = "none" if result.total is None else f"{result.total:.4g}"
    yield page.Number("score", total, "of the best candidate, to be small")
    verified = "yes" if result.verified.agrees else "NO"
    yield page.Number("reproduced", verified, "by a fresh process with the written potential")
    rate = result.evaluations / result.seconds if result.seconds else math.nan
    each = 1e3 * float(np.median([entry.seconds for entry in fit.entries]))
    yield page.Number(
        "evaluations", str(result.evaluations), f"{rate:.3g} a second, {each:.3g} ms each"
    )
    for part, kind, unit, text in (
        ("train", "Energies", "meV/atom", "energy"),
        ("test", "Energies", "meV/atom", "energy, held out"),
        ("train", "Forces", "eV/A", "forces"),
        ("test", "Forces", "eV/A", "forces, held out"),
    ):
        error = _rms(fit, part, kind)
        if error is not None:
            scale = 1e3 if kind == "Energies" else 1.0
            yield page.Number(f"error of {text}", f"{scale * error:.3g} {unit}", "root mean square")
    failed = sum(entry.score.error is not None for entry in fit.entries)
    if failed:
        part = f"{failed} of {len(fit.entries)}"
        yield page.Number("failed candidates", part, "in LAMMPS' words below")


def _rms(fit: _Fit, part: str, kind: str) -> float | None:
    errors: list[float] = []
    for row in fit.measured:
        if row["part"] == part and row["type"] == kind:
            pairs = zip(row["value"], row["reference"], strict=True)
            errors += [math.inf if value is None else value - ref for value, ref in pairs]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None


# ------------------------------------------------------------------------------------------ pictures
def _figures(fit: _Fit) -> Iterator[tuple[str, str, Any]]:
    """Section, caption and picture."""
    caption = "Left: every candidate by the stage that asked for it, and the best so far. "
    yield (
        "Convergence",
        caption + "Right: the best against the clock.",
        pictures.convergence(fit.entries, fit.events),
    )
    if fit.measured:
        caption = "Blue: seen by the search. Red crosses: held out."
        yield "Parity", caption, pictures.parity(fit.measured)
        caption = "Dotted: as far off as is still good."
        yield "Residuals", caption, pictures.residuals(_groups(fit))
    caption = "Light: every candidate. Black: the best so far. Dotted: bounds."
    if fit.space.size > 12:
        caption += " The first twelve."
    yield "Parameters", caption, pictures.traces(fit.entries, fit.space)
    if len(fit.result.front) > 1:
        caption = "No point is better than another in all; the knee is ringed."
        yield "Pareto front", caption, pictures.front(fit.result.front)


def _groups(fit: _Fit) -> dict[str, tuple[float | None, float | None]]:
    """Group -> root mean square of its terms, in tolerances, seen and held out."""
    squares: dict[str, dict[str, list[float]]] = {}
    for row in fit.measured:
        own = squares.setdefault(row["group"], {"train": [], "test": []})[row["part"]]
        values = [math.nan if v is None else v for v in row["value"]]
        residuals = (np.array(values) - row["reference"]) / np.array(row["sigma"])
        own += np.bincount(row["term_of"], weights=residuals**2).tolist()
    return {
        group: tuple(  # type: ignore[misc]
            float(np.sqrt(np.nanmean(parts[part]))) if parts[part] else None
            for part in ("train", "test")
        )
        for group, parts in squares.items()
    }


# ------------------------------------------------------------------------------------------ sections
def _sections(fit: _Fit, shown: Mapping[str, Sequence[page.Picture]]) -> Iterator[page.Section]:
    tables = {"Parity": _property_tables, "Residuals": _residual_tables, "Parameters": _parameter_tables,
              "Pareto front": _front_tables}  # fmt: skip
    texts = {
        "Residuals": "Errors are in tolerances: 1 is as far off as is still good. The parts of the "
        "table add up to the mean square of all terms.",
        "Parameters": _bounds(fit),
    }
    for name in _SECTIONS:
        made = list(tables[name](fit)) if name in tables else []
        if shown.get(name) or made:
            yield page.Section(name, texts.get(name, ""), shown.get(name, ()), made)


def _bounds(fit: _Fit) -> str:
    names = fit.result.at_bounds
    if not names:
        return ""
    return f"At a bound: {', '.join(names)}. A wider range may do better."


def _property_tables(fit: _Fit) -> Iterator[page.Table]:
    rows = []
    for row in fit.measured:
        if row["type"] in ("Energies", "Forces", "Stress"):
            continue
        for k, of in enumerate(row["term_of"][:_ROWS]):
            value, reference, sigma = (row[name][k] for name in ("value", "reference", "sigma"))
            error = "" if row["error"] is None or row["error"][k] is None else row["error"][k]
            off = "" if value is None else f"{(value - reference) / sigma:.3g}"
            told = row["note"] or "none" if value is None else f"{value:.8g}"
            told += f" ± {error:.2g}" if error else ""
            part = "held out" if row["part"] == "test" else ""
            rows.append([row["terms"][of], f"{reference:.8g}", told, off, part])
    if rows:
        yield page.Table(["property", "reference", "fit", "tolerances off", ""], rows)


def _residual_tables(fit: _Fit) -> Iterator[page.Table]:
    groups = [
        [group, *("" if x is None else f"{x:.4g}" for x in both)]
        for group, both in _groups(fit).items()
    ]
    if groups:
        yield page.Table(["group", "seen", "held out"], groups, "root mean square, tolerances")
    parts = fit.result.contributions
    if not parts:
        return
    rows = [
        [term, f"{fit.result.terms[term]:.6g}", f"{part:.6g}"]
        for term, part in sorted(parts.items(), key=lambda one: -one[1])
    ]
    if len(rows) > _ROWS:
        rest = math.fsum(sorted(parts.values())[: len(rows) - _ROWS])
        rows = [*rows[:_ROWS], [f"{len(rows) - _ROWS} others", "", f"{rest:.6g}"]]
    rows.append(["sum of all parts", "", f"{math.fsum(parts.values()):.12g}"])
    header = ["term", "tolerances off", "part of the mean square"]
    yield page.Table(header, rows, marked=len(rows) - 1)


def _parameter_tables(fit: _Fit) -> Iterator[page.Table]:
    rows = []
    units = {p.name: p.unit for p in fit.space.parameters}
    intervals = _intervals(fit)
    for name, value in fit.result.values.items():
        free = fit.space.free.get(name)
        span = f"{free.lower:.6g} to {free.upper:.6g}" if free else ""
        how = "free" if free else "tied" if name in fit.space.ties else "fixed"
        how = "AT A BOUND" if name in fit.result.at_bounds else how
        rows.append(
            [name, f"{value:.10g}", units.get(name, ""), how, span, intervals.get(name, "")]
        )
    header = ["parameter", "value", "unit", "", "bounds", "90 % interval" if intervals else ""]
    if rows:
        yield page.Table(header, rows)


def _intervals(fit: _Fit) -> dict[str, str]:
    """Linear 90 % intervals, where the uncertainty was asked for."""
    found = _fisher(fit.result.folder)
    if found is None:
        return {}
    return {n: f"{a:.6g} to {b:.6g}" for n, (a, b) in found.intervals(0.9, prior=True).items()}


def _fisher(folder: Path) -> Any:
    from mlcore.forcefield.uncertainty.fisher_information import Fisher

    path = folder / "fisher.json"
    return Fisher.from_record(_json(path)) if path.is_file() else None


def _front_tables(fit: _Fit) -> Iterator[page.Table]:
    front = fit.result.front
    if len(front) < 2:
        return
    rows = [
        ["knee" if row["knee"] else str(k), *(f"{x:.4g}" for x in row["objectives"].values())]
        for k, row in enumerate(front)
    ]
    marked = next(k for k, row in enumerate(rows) if row[0] == "knee")
    yield page.Table(["point", *front[0]["objectives"]], rows, marked=marked)


# ------------------------------------------------------------------------------------------ judgement
def _judgements(fit: _Fit) -> Iterator[page.Section]:
    folder = fit.result.folder
    found = _fisher(folder)
    if found is not None:
        rows = [[f"{d.eigenvalue:.3g}", d.text] for d in found.directions()]
        names = found.sloppy_names()
        text = f"Not determined one by one: {', '.join(names)}." if names else ""
        table = page.Table(["eigenvalue", "direction, as powers of parameters"], rows)
        yield page.Section("What the data determine", text, (), [table])
    if (folder / "validation.json").is_file():
        told = _json(folder / "validation.json")
        rows = [[r["name"], _number(r["train"]), _number(r["test"])] for r in told["refits"]]
        rows.append(["all", _number(told["train"]), _number(told["test"])])
        verdict = "Overfit." if told["overfit"] else "No overfit."
        text = f"Refits without some of the data. {verdict}"
        table = page.Table(["left out", "error, seen", "error, held out"], rows)
        yield page.Section("Cross-validation", text, (), [table])


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4g}"


def _ends(fit: _Fit) -> Iterator[page.Section]:
    result = fit.result
    if result.failures:
        most = sorted(result.failures.items(), key=lambda one: -one[1])[:_ROWS]
        rows = [[words, str(count)] for words, count in most]
        yield page.Section("Failures", "", (), [page.Table(["what was said", "times"], rows)])
    if result.model:
        yield _how(result)


def _how(result: Result) -> page.Section:
    folder = result.folder / "model"
    files = [path for name in result.model if (path := result.folder / name).is_file()]
    rows = [[path.name, f"{path.stat().st_size} bytes"] for path in files]
    script = folder / "in.lammps"
    lines = script.read_text(encoding="utf-8").splitlines() if script.is_file() else []
    told = [line for line in lines if line.startswith(("pair_style", "pair_coeff"))]
    text = (
        "The folder model runs as it is: lmp -in in.lammps. In an input of your own, once there is "
        "a box:\n\nvariable folder index PATH\n\ninclude ${folder}/in.lammps"
    )
    tables = [
        page.Table(["what it says"], [[line] for line in told]),
        page.Table(["file", ""], rows),
    ]
    return page.Section("How to run it", text, (), tables)
