"""Fits side by side: figures over each other, tables with a column for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlcore.studio.figures import bars, figure, lines, table
from mlcore.studio.kinds.fit_view import (
    Standing,
    best_lines,
    counted,
    parameter_rows,
    rate,
    standing,
)
from mlcore.studio.words import signed

__all__ = ["fits_compared"]

_TERMS = 12
_SAME = 1e-6  # relative, of values that do not differ


def fits_compared(fits: Mapping[str, Path]) -> dict[str, list[Any]]:
    """Figures, tables, and rows of the table of facts, of fits by title."""
    told = {title: standing(run) for title, run in fits.items()}
    tables = [*_parameters(told), *_terms(told)]
    return {"figures": list(_figures(told)), "tables": tables, "facts": list(_facts(told))}


def _figures(told: Mapping[str, Standing]) -> Iterator[dict[str, Any]]:
    positive = all(total > 0 for one in told.values() for _, total, _ in one.improvements)
    yield counted(figure(
        "convergence", "Convergence", [best_lines(one, title) for title, one in told.items()],
        "evaluations", "best score so far", positive, section="Convergence",
    ))  # fmt: skip
    clocks = []
    for title, one in told.items():
        rows = [(at, best) for at, _, best in one.times if best is not None]
        clocks.append(lines([at for at, _ in rows], [best for _, best in rows], title, steps=True))
    yield figure(
        "clock", "Best against the clock", clocks, "time, s", "best score so far", positive,
        section="Convergence",
    )  # fmt: skip
    groups = {title: one.groups() for title, one in told.items()}
    names = list(dict.fromkeys(name for one in groups.values() for name in one))
    for k, part in enumerate(("seen by the search", "held out")):
        sizes = {t: [own.get(n, (None, None))[k] for n in names] for t, own in groups.items()}
        if any(size is not None for own in sizes.values() for size in own):
            yield figure(
                f"groups-{k}", f"Residuals by group, {part}",
                [bars(names, own, title) for title, own in sizes.items()],
                "root mean square, tolerances", section="Quality of the fits",
            )  # fmt: skip
    for name, title, axis, of in (
        ("contributions", "What the scores are made of", "part of the score",
         {t: one.contributions for t, one in told.items()}),
        ("terms", "Residuals by term", "off by, tolerances",
         {t: {k: abs(v) for k, v in one.terms.items()} for t, one in told.items()}),
    ):  # fmt: skip
        largest = _largest(list(of.values()))[:_TERMS]
        if largest:
            drawn = [bars(largest, [own.get(k) for k in largest], t) for t, own in of.items()]
            yield figure(
                name, f"{title}, the largest", drawn, axis, section="Quality of the fits"
            )  # fmt: skip


def _largest(parts: Sequence[Mapping[str, float]]) -> list[str]:
    most: dict[str, float] = {}
    for own in parts:
        for name, size in own.items():
            most[name] = max(most.get(name, -math.inf), size)
    return sorted(most, key=lambda name: -most[name])


def _parameters(told: Mapping[str, Standing]) -> Iterator[dict[str, Any]]:
    rows = {title: {row[0]: row for row in parameter_rows(one)} for title, one in told.items()}
    names = list(dict.fromkeys(name for own in rows.values() for name in own))
    made, marked = [], []
    for k, name in enumerate(names):
        known = [own.get(name) for own in rows.values()]
        values = [None if row is None else row[1] for row in known]
        how = list(dict.fromkeys(row[3] for row in known if row is not None))
        unit = next(row[2] for row in known if row is not None)
        made.append([name, *values, unit, ", ".join(how)])
        if _differ(values):
            marked.append(k)
    if made:
        title = f"Parameters: {len(marked)} of {len(made)} differ"
        yield table("parameters", title, ["parameter", *told, "unit", ""], made,
                    section="Parameters", marked=marked)  # fmt: skip


def _differ(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    apart = max(known) - min(known) > _SAME * max(map(abs, known))
    return apart or len(known) < len(values)


def _terms(told: Mapping[str, Standing]) -> Iterator[dict[str, Any]]:
    names = _largest([{k: abs(v) for k, v in one.terms.items()} for one in told.values()])
    rows = [
        [
            name,
            *(one.terms.get(name) for one in told.values()),
            *(one.contributions.get(name) for one in told.values()),
        ]
        for name in names
    ]
    if rows:
        columns = ["term", *(f"{t}: off by" for t in told), *(f"{t}: part" for t in told)]
        yield table("terms", "Terms, in tolerances, and their parts of the score", columns, rows,
                    section="Quality of the fits", most=100)  # fmt: skip


def _facts(told: Mapping[str, Standing]) -> Iterator[list[Any]]:
    fits = list(told.values())
    yield ["score", *(one.best for one in fits)]
    yield ["reproduced", *(_reproduced(one) for one in fits)]
    yield ["evaluations", *(one.following.count for one in fits)]
    yield ["seconds of the fit", *(round(one.elapsed, 1) for one in fits)]
    yield ["evaluations a second", *(rate(one.times) for one in fits)]
    yield ["failed candidates", *(one.following.failed for one in fits)]
    yield ["parameters fitted", *(len(one.free) for one in fits)]
    yield ["at a bound", *(", ".join(one.result.get("at_bounds", ())) for one in fits)]
    errors = [{row[0]: row for row in one.measured.get("errors", ())} for one in fits]
    for target in dict.fromkeys(name for own in errors for name in own):
        known = [own.get(target) for own in errors]
        unit = next(row[1] for row in known if row is not None)
        for k, part in ((2, "seen"), (5, "held out")):
            sizes = [None if row is None else row[k] for row in known]
            if unit and any(size is not None for size in sizes):
                yield [f"error of {target}, {part}, {signed(unit)}", *sizes]


def _reproduced(one: Standing) -> str:
    verified = one.result.get("verified")
    return "" if verified is None else "yes" if verified["agrees"] else "NO"
