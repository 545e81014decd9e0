"""Figures and tables as plain JSON, which pages draw with Plotly in the colours of their theme.

    figure("convergence", "Convergence", [lines(n, best, "best so far")], x="evaluations", y="score")

Traces have no colours: ``tone`` says what one is for, and the page knows which colour that is today.
Numbers are rounded to seven digits and series thinned to `MOST` points, so that what travels is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["MOST", "Tone", "bars", "figure", "histogram", "kept", "lines", "number", "plain", "points",
           "table", "view"]  # fmt: skip

MOST = 2000
"""Points of a series that travel."""
Tone = Literal["ink", "quiet", "accent", "other", "good", "bad"]
"""What a trace is for: the main thing, what lies behind it, seen and held out, good and bad."""
Numbers = Sequence[Any] | npt.NDArray[Any]


def kept(count: int, most: int = MOST) -> npt.NDArray[np.int64]:
    """Which of ``count`` points are drawn: evenly spaced ones, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def plain(values: Iterable[Any]) -> list[Any]:
    """Numbers as JSON can hold them; None where they are not finite. Words stay as they are."""
    told = values.tolist() if isinstance(values, np.ndarray) else values
    return [float(f"{v:.7g}") if type(v) is float and math.isfinite(v) else
            None if type(v) is float else _item(v) for v in told]  # fmt: skip


def _item(value: Any) -> Any:
    return plain([value.item()])[0] if isinstance(value, np.generic) else value


def _trace(
    kind: str, x: Numbers, y: Numbers, name: str, tone: Tone | None, most: int
) -> dict[str, Any]:
    if len(x) != len(y):
        raise ValueError(f"{name}: {len(x)} x and {len(y)} y")
    if len(x) > most:
        keep = kept(len(x), most)
        x, y = np.asarray(x)[keep], np.asarray(y)[keep]
    made = {"type": kind, "x": plain(x), "y": plain(y), "name": name}
    return made | ({} if tone is None else {"meta": {"tone": tone}})


def lines(
    x: Numbers,
    y: Numbers,
    name: str = "",
    *,
    tone: Tone | None = None,
    steps: bool = False,
    dotted: bool = False,
    most: int = MOST,
) -> dict[str, Any]:
    """A line through points.

    Args:
        x, y: numbers of the same count; NaN and infinity are gaps.
        name: in the legend; empty: it has no entry there.
        tone: what it is for; None: a colour of its own.
        steps: y stays what it is until the next point.
        dotted: as bounds are.
        most: points that are kept.
    """
    made = _trace("scatter", x, y, name, tone, most) | {"mode": "lines"}
    style = {"shape": "hv"} if steps else {}
    made["line"] = style | ({"dash": "dot", "width": 1.2} if dotted else {"width": 1.8})
    return made | ({} if name else {"showlegend": False})


def points(
    x: Numbers,
    y: Numbers,
    name: str = "",
    *,
    tone: Tone | None = None,
    symbol: Literal["circle", "x", "circle-open"] = "circle",
    size: float = 5.0,
    text: Sequence[str] | None = None,
    joined: bool = False,
    most: int = MOST,
) -> dict[str, Any]:
    """Single points; ``text`` is shown over each, ``joined``: with a line through them."""
    made = _trace("scatter", x, y, name, tone, most)
    made |= {"mode": "lines+markers" if joined else "markers"}
    opacity = 1.0 if len(x) < 200 else 0.55
    made["marker"] = {"symbol": symbol, "size": size, "opacity": opacity}
    if text is not None:
        made["text"] = [text[k] for k in kept(len(text), most)]
    return made | ({} if name else {"showlegend": False})


def bars(
    labels: Sequence[str],
    values: Numbers,
    name: str = "",
    *,
    tone: Tone | None = None,
    across: bool = True,
    most: int = 40,
) -> dict[str, Any]:
    """A bar for each label; ``across``: lying, the first at the top. Those after ``most`` are left out."""
    told, numbers = [str(one) for one in labels[:most]], plain(values[:most])
    made: dict[str, Any] = {"type": "bar", "name": name, "orientation": "h" if across else "v"}
    made |= {"x": numbers, "y": told} if across else {"x": told, "y": numbers}
    return made | ({} if tone is None else {"meta": {"tone": tone}})


def histogram(
    values: Numbers, name: str = "", *, tone: Tone | None = None, bins: int = 40
) -> dict[str, Any]:
    """How many values lie in each of some ranges of the same width; others than finite do not count."""
    told = np.asarray(values, dtype=np.float64)
    counts, edges = np.histogram(told[np.isfinite(told)], bins=bins)
    made: dict[str, Any] = {"type": "bar", "name": name, "orientation": "v"}
    made |= {"x": plain(0.5 * (edges[1:] + edges[:-1])), "y": counts.tolist()}
    made["width"] = float(edges[1] - edges[0])
    return made | ({} if tone is None else {"meta": {"tone": tone}})


def figure(
    name: str,
    title: str,
    traces: Sequence[Mapping[str, Any]],
    x: str = "",
    y: str = "",
    log_y: bool = False,
    live: bool = True,
    *,
    log_x: bool = False,
    square: bool = False,
    wide: bool = False,
    section: str = "",
    text: str = "",
) -> dict[str, Any]:
    """A figure.

    Args:
        name: which no other figure of the page has.
        title: for people.
        traces: of `lines`, `points`, `bars`, `histogram`, or of Plotly.
        x, y: titles of the axes, with units.
        log_y, log_x: logarithmic axes.
        live: whether it may change while the task runs.
        square: both axes have the same scale, as parity plots do.
        wide: takes two columns.
        section: of the page.
        text: what it shows, for those who do not see it; made of the traces where left out.
    """
    first = traces[0] if traces else {}
    kind = {"bar": "bars", "scatter": "line" if first.get("mode") == "lines" else "points"}
    xaxis: dict[str, Any] = {"title": {"text": x}, "type": "log" if log_x else "-"}
    yaxis: dict[str, Any] = {"title": {"text": y}, "type": "log" if log_y else "-"}
    if first.get("orientation") == "h":
        yaxis |= {"autorange": "reversed", "automargin": True, "tickfont": {"size": 10.5}}
        if max(len(trace["y"]) for trace in traces) <= 16:
            yaxis["dtick"] = 1  # every label
    if square:
        yaxis |= {"scaleanchor": "x", "scaleratio": 1}
    return {
        "name": name,
        "title": title,
        "kind": kind.get(str(first.get("type")), str(first.get("type", "line"))),
        "data": [dict(trace) for trace in traces],
        "layout": {"xaxis": xaxis, "yaxis": yaxis},
        "live": live,
        "wide": wide,
        "section": section,
        "text": text or _told(traces, x, y),
    }


def table(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    section: str = "",
    most: int = 200,
    marked: Sequence[int] = (),
) -> dict[str, Any]:
    """A table; of its rows ``most`` travel, ``count`` tells of how many; those ``marked`` stand out."""
    told = [plain(row) for row in rows]
    made = {"name": name, "title": title, "columns": list(columns), "rows": told[:most]}
    return made | {"count": len(told), "section": section, "marked": list(marked)}


def number(
    name: str, value: str, note: str = "", tone: Tone | None = None, *, going: bool = False
) -> dict[str, Any]:
    """A number that stands at the top of a page, as words with its unit.

    ``going``: its value says something only while its task runs.
    """
    return {"name": name, "value": value, "note": note, "tone": tone, "going": going}


def view(
    figures: Sequence[Mapping[str, Any]] = (),
    tables: Sequence[Mapping[str, Any]] = (),
    *,
    numbers: Sequence[Mapping[str, Any]] = (),
    warnings: Sequence[str] = (),
    snippet: str = "",
    behind: bool = False,
) -> dict[str, Any]:
    """All that the page of a task draws.

    Args:
        figures, tables: of this module; shown by their sections, in their order.
        numbers: of `number`.
        warnings: what people should know before they trust the result.
        snippet: what to write into an input of LAMMPS, to be copied.
        behind: whether another look finds more at once.
    """
    return {
        "figures": list(figures),
        "tables": list(tables),
        "numbers": list(numbers),
        "warnings": list(warnings),
        "snippet": snippet,
        "behind": behind,
    }


def _told(traces: Sequence[Mapping[str, Any]], x: str, y: str) -> str:
    """What traces show, in words."""
    across = any(trace.get("orientation") == "h" for trace in traces)
    parts = []
    for trace in traces:
        values = trace.get("x" if across else "y") or []
        numbers = [v for v in values if isinstance(v, int | float)]
        if numbers:
            span = f"{min(numbers):.4g} to {max(numbers):.4g}, last {numbers[-1]:.4g}"
            parts.append(f"{trace.get('name') or 'series'}: {len(numbers)} values from {span}")
    axes = f"{x} of each {y or 'entry'}" if across else f"{y} against {x}"
    return ". ".join([axes.strip(), *parts]) if parts else "No values yet"
