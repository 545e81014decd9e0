"""What the page of a fit shows: read from the fit's own files, nothing evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlcore.studio.figures import bars, figure, lines, number, points, table, view
from mlcore.studio.following import FOLLOWED, PARAMETERS, Following, read_json
from mlcore.studio.words import duration, signed

__all__ = ["Standing", "fit_view", "standing"]

_BARS = 12
_WINDOWS = 120  # of time, in which evaluations are counted
_SNIPPET = 1 << 16  # bytes
_PARTS: tuple[tuple[str, str, Any, Any], ...] = (
    ("seen", "seen by the search", "accent", "circle"),
    ("held_out", "held out", "other", "x"),
)
_STAGES: tuple[Any, ...] = ("quiet", "accent", "other", "good")


def fit_view(run: Path) -> dict[str, Any]:
    """Of a fit in a folder, running or done."""
    following = FOLLOWED.of(run)
    with following.lock:
        following.look()
        now = Standing(following)
        return view(
            [
                *_convergence(now),
                *_quality(now),
                *_parameters(now),
                *_front(now),
                *_throughput(now),
            ],
            list(_tables(now)),
            numbers=list(_numbers(now)),
            warnings=list(_warnings(now)),
            snippet=_snippet(run),
            behind=following.behind,
        )


def standing(run: Path) -> Standing:
    """Where a fit stands, all of its history read; not to be kept."""
    following = FOLLOWED.of(run)
    with following.lock:
        following.look()
        while following.behind:
            following.look()
        return Standing(following)


class Standing:
    """A fit as its files tell it at this moment.

    Attributes:
        following: its history.
        result: result.json of a fit that is done, else empty.
        known: versions.json: what is free, names of terms and objectives.
        values: of the best, by parameter.
        terms: of the best, in tolerances.
        contributions: term -> part of the score; empty while it runs.
        rows: of the history as it was when this was made.
    """

    def __init__(self, following: Following) -> None:
        from mlcore.forcefield.run.parity import PREDICTED

        self.following = following
        self.result: Mapping[str, Any] = read_json(following, "result.json") or {}
        self.known: Mapping[str, Any] = read_json(following, "versions.json") or {}
        last = read_json(following, "measured.json", _measured) if self.done else None
        self.measured: Mapping[str, Any] = last or read_json(following, PREDICTED, _compared) or {}
        best = read_json(following, "best.json") or {}
        self.values: Mapping[str, float] = self.result.get("values") or best.get("values") or {}
        self.terms = self.result.get("terms") or self._terms()
        self.contributions: Mapping[str, float] = self.result.get("contributions") or {}
        self.improvements = following.improvements
        self.times = following.times
        self.best = None if following.best is None else _finite(following.best.total)

    @property
    def done(self) -> bool:
        return bool(self.result)

    @property
    def budget(self) -> int:
        return int((self.following.last or {}).get("budget", 0))

    @property
    def elapsed(self) -> float:
        """Seconds that drivers worked on it."""
        return float(self.times[-1][0]) if self.times else 0.0

    @property
    def rate(self) -> float | None:
        """Evaluations a second, of late."""
        return rate(self.times[-40:])

    @property
    def space(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.known.get("space", {})
        return found

    @property
    def free(self) -> list[str]:
        """Names of what is fitted."""
        return list(self.space.get("free", {}))

    @property
    def at_bounds(self) -> list[str]:
        """Names of what lies at an end of its range."""
        if self.done:
            return list(self.result.get("at_bounds") or ())
        best = self.following.best
        places = zip(self.free, () if best is None else best.point, strict=False)
        return [name for name, x in places if not 1e-3 < x < 1 - 1e-3]

    def group(self, term: str) -> str:
        return str(self.known.get("terms", {}).get(term, {}).get("group", ""))

    def groups(self) -> dict[str, tuple[float | None, float | None]]:
        """Group -> root mean square of its terms, in tolerances, seen and held out."""
        if self.done and self.measured:
            found: dict[str, tuple[float | None, float | None]] = self.measured["groups"]
            return found
        squares: dict[str, list[float]] = {}
        for term, size in self.terms.items():
            squares.setdefault(self.group(term), []).append(size * size)
        return {name: (math.sqrt(sum(own) / len(own)), None) for name, own in squares.items()}

    @property
    def held_out(self) -> bool:
        """Whether it is judged by what the search does not see."""
        return any(row[-1] is not None for row in self.measured.get("errors", ()))

    def _terms(self) -> dict[str, float]:
        best = self.following.best
        if best is None:
            return {}
        pairs = zip(self.known.get("terms", {}), best.terms, strict=False)
        return {term: size for term, size in pairs if size is not None}


def rate(times: Sequence[tuple[float, int, float | None]]) -> float | None:
    """Evaluations a second between the first and the last of some times."""
    while len(times) > 1 and times[-1][1] == times[-2][1]:
        times = times[:-1]  # the end of a fit writes and measures
    if len(times) < 2 or times[-1][0] <= times[0][0]:
        return None
    return (times[-1][1] - times[0][1]) / (times[-1][0] - times[0][0])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# ---------------------------------------------------------------------------------------- convergence
def best_lines(now: Standing, name: str, tone: Any = None) -> dict[str, Any]:
    """The best score so far against evaluations."""
    told = now.improvements
    numbers, totals = [n + 1 for n, _, _ in told], [total for _, total, _ in told]
    return lines(numbers, totals, name, tone=tone, steps=True)


def _convergence(now: Standing) -> Iterator[dict[str, Any]]:
    seen = now.following
    traces = []
    for k, stage in enumerate(seen.stages):
        own = [(n + 1, total) for n, total, of in seen.totals.rows if of == k]
        name = f"one candidate in {seen.totals.stride}" if seen.totals.stride > 1 else "candidates"
        name = f"{name}, {stage.replace('_', ' ')}" if stage else name
        tone = _STAGES[k % len(_STAGES)]
        traces.append(points([n for n, _ in own], [t for _, t in own], name, tone=tone, size=3.5))
    traces.append(best_lines(now, "best so far", "ink"))
    yield counted(figure(
        "convergence", "Convergence", traces, "evaluations", "score",
        _positive(now), wide=True, section="Convergence",
    ))  # fmt: skip
    told = [(at, best) for at, _, best in now.times if best is not None]
    clock = lines(
        [at for at, _ in told], [best for _, best in told], "best so far", tone="ink", steps=True
    )
    yield figure(
        "clock", "Best against the clock", [clock], "time, s", "score",
        _positive(now), section="Convergence",
    )  # fmt: skip


def counted(told: dict[str, Any]) -> dict[str, Any]:
    """A figure whose x are whole numbers, written out."""
    told["layout"]["xaxis"] |= {"exponentformat": "none", "separatethousands": True}
    return told


def _positive(now: Standing) -> bool:
    """Whether scores can be shown on a logarithmic axis."""
    return all(total > 0 for _, total, _ in now.improvements)


def _throughput(now: Standing) -> Iterator[dict[str, Any]]:
    told = [(at, count) for at, count, _ in now.times if count < now.times[-1][1]]
    if len(told) < 3:
        return
    at, count = np.array(told, dtype=np.float64).T
    windows = np.linspace(at[0], at[-1], min(_WINDOWS, len(told)) + 1)
    width = windows[1] - windows[0]
    if width <= 0:
        return
    speeds = np.diff(np.interp(windows, at, count)) / width
    drawn = lines(
        windows[1:], np.round(speeds, 3), "evaluations a second", tone="accent", steps=True
    )
    yield figure(
        "throughput", "Throughput", [drawn], "time, s", "evaluations / s", section="Run"
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- quality
def _quality(now: Standing) -> Iterator[dict[str, Any]]:
    yield from now.measured.get("figures", ())
    if now.terms:
        yield _off(now)
    groups = now.groups()
    if groups:
        seen, held = ([both[k] for both in groups.values()] for k in (0, 1))
        traces = [bars(list(groups), seen, "seen by the search", tone="accent")]
        if now.held_out:
            traces.append(bars(list(groups), held, "held out", tone="other"))
        yield figure(
            "groups", "Residuals by group", traces, "root mean square, tolerances",
            section="Quality of the fit",
        )  # fmt: skip
    parts = now.contributions
    if parts:
        names = sorted(parts, key=lambda term: -parts[term])[:_BARS]
        drawn = bars(
            [_short(term) for term in names], [parts[term] for term in names], tone="accent"
        )
        title = "What the score is made of" + (", the largest" if len(parts) > _BARS else "")
        yield figure(
            "contributions", title, [drawn], "part of the score", section="Quality of the fit"
        )  # fmt: skip


def _off(now: Standing) -> dict[str, Any]:
    """Every term of the best, in tolerances, by group."""
    groups: dict[str, list[tuple[int, float, str]]] = {}
    for k, (term, size) in enumerate(now.terms.items()):
        groups.setdefault(now.group(term), []).append((k + 1, size, term))
    traces = [
        points([k for k, _, _ in own], [size for _, size, _ in own], group,
               text=[term for _, _, term in own], most=max(50, 2000 // len(groups)))
        for group, own in list(groups.items())[:12]
    ]  # fmt: skip
    ends = [1, max(2, len(now.terms))]
    traces += [lines(ends, [side, side], tone="quiet", dotted=True) for side in (1.0, -1.0)]
    return figure(
        "terms", "Terms of the best candidate", traces, "number of the term",
        "off by, tolerances", section="Quality of the fit",
        text=f"{len(now.terms)} terms, {sum(abs(size) <= 1 for size in now.terms.values())} of them "
        "within their tolerance",
    )  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:13]}…{name[-13:]}"


# ------------------------------------------------------------------------- values beside references
def _compared(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of values beside references: parity plots, groups, root mean squares, a table."""
    return {
        "figures": list(_parity(told["series"])),
        "groups": told["groups"],
        "errors": told["errors"],
        "tables": list(_properties(told["properties"])),
    }


def _measured(told: Any) -> dict[str, Any]:
    from mlcore.forcefield.run.parity import parity

    return _compared(parity(told["targets"]))


def _parity(series: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in series:
        units = [other["unit"] for other in series if other["type"] == one["type"]]
        several = len(units) > 1
        ends = [math.inf, -math.inf]
        traces: list[dict[str, Any]] = []
        for part, name, tone, symbol in _PARTS:
            if (own := one[part]) is None:
                continue
            x, y = own["reference"], np.array(own["value"], dtype=np.float64)
            ends = [min(ends[0], *x), max(ends[1], *x)]
            traces.append(points(x, y, name, tone=tone, symbol=symbol, text=own["names"]))
        unit = signed(one["unit"])
        yield figure(
            "-".join(["parity", one["type"].lower(), *([str(units.index(unit))] if several else [])]),
            f"{_words(one['type'])}{f' in {unit}' if several else ''}: fit and reference",
            [lines(ends, ends, "the same", tone="quiet"), *traces],
            f"reference, {unit}", f"fit, {unit}", square=True,
            section="Quality of the fit", text=_parity_words(one),
        )  # fmt: skip


def _words(kind: str) -> str:
    """CubicCrystal: Cubic crystal."""
    return "".join(f" {c.lower()}" if c.isupper() and k else c for k, c in enumerate(kind))


def _parity_words(series: Mapping[str, Any]) -> str:
    told = []
    for part, name, *_ in _PARTS:
        if (own := series[part]) is None:
            continue
        off = "none known yet"
        if own["rms"] is not None:
            off = f"off by {own['rms']:.4g} {signed(series['unit'])}, root mean square"
        drawn = len(own["value"])
        some = f", of which {drawn} are drawn" if drawn < own["count"] else ""
        told.append(f"{name}: {own['count']} values{some}, {off}")
    return "; ".join(told)


def _properties(rows: Sequence[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    if rows:
        columns = ["property", "reference", "fit", "unit", "off by, tolerances", ""]
        told = [[*row[:3], signed(row[3]), *row[4:]] for row in rows]
        yield table("properties", "Properties", columns, told, section="Quality of the fit")


# ----------------------------------------------------------------------------------------- parameters
def _parameters(now: Standing) -> Iterator[dict[str, Any]]:
    names = now.free[:PARAMETERS]
    some = f" (the first {PARAMETERS} of {len(now.free)})" if len(now.free) > PARAMETERS else ""
    told = now.improvements
    if not names or not told:
        return
    numbers = [n + 1 for n, _, _ in told]
    traces = [
        lines(numbers, [point[k] for _, _, point in told], name, steps=True, most=300)
        for k, name in enumerate(names)
    ]
    ends = [1, max(2, now.following.count)]
    bounds = [lines(ends, [side, side], tone="quiet", dotted=True) for side in (0.0, 1.0)]
    yield counted(figure(
        "traces", f"Parameters of the best candidate{some}", [*traces, *bounds], "evaluations",
        "place between the bounds, 0 to 1", section="Parameters",
    ))  # fmt: skip
    tried = now.following.tried.rows
    traces = [
        points([n + 1 for n, _ in tried], [point[k] for _, point in tried], name, size=3.5)
        for k, name in enumerate(names)
    ]
    yield counted(figure(
        "tried", f"Parameters that were tried{some}", traces, "evaluations",
        "place between the bounds, 0 to 1", section="Parameters",
    ))  # fmt: skip


# --------------------------------------------------------------------------------------------- pareto
def _front(now: Standing) -> Iterator[dict[str, Any]]:
    names, members = _members(now)
    if len(names) < 2 or len(members) < 2:
        return
    best = _knee(now, members)
    for k, name in enumerate(names[1:4], start=1):
        cloud = now.following.aims.rows
        top = 30 * max(max(one[0] for one in members), max(one[k] for one in members))
        near = [one for one in cloud if one[0] <= top and one[k] <= top]
        traces = [
            points([one[0] for one in near], [one[k] for one in near], "candidates",
                   tone="quiet", size=3, most=500),
            points([one[0] for one in members], [one[k] for one in members], "front",
                   tone="accent", joined=len(names) == 2, most=500),
            points([members[best][0]], [members[best][k]], "knee", tone="other",
                   symbol="circle-open", size=14),
        ]  # fmt: skip
        positive = all(one[0] > 0 and one[k] > 0 for one in members)
        yield figure(
            f"front-{k}", f"Pareto front: {names[0]} and {name}", traces,
            f"mean square of {names[0]}, tolerances²", f"mean square of {name}, tolerances²",
            positive, log_x=positive, section="Pareto front",
            text=f"{len(members)} points that no other dominates; at the knee "
            f"{members[best][0]:.4g} and {members[best][k]:.4g}",
        )  # fmt: skip


def _members(now: Standing) -> tuple[list[str], list[tuple[float, ...]]]:
    """Names of the objectives, and the points of their front."""
    front = now.result.get("front") or ()
    if front:
        names = list(front[0]["objectives"])
        return names, [tuple(row["objectives"][name] for name in names) for row in front]
    return list(now.known.get("objectives", ())), now.following.front


def _knee(now: Standing, members: Sequence[tuple[float, ...]]) -> int:
    told = [k for k, row in enumerate(now.result.get("front") or ()) if row["knee"]]
    if told:
        return told[0]
    from mlcore.forcefield.search.pareto import knee

    return knee(members)


# ------------------------------------------------------------------------------------- numbers, tables
def _numbers(now: Standing) -> Iterator[dict[str, Any]]:
    """As many while it runs as in the end: what lies below them must not move."""
    seen = now.following
    yield number(
        "score", "none yet" if now.best is None else f"{now.best:.4g}", "best, to be small"
    )
    of = f"of at most {now.budget}" if now.budget else ""
    yield number("evaluations", str(seen.count), of)
    fast = rate(now.times) if now.done else now.rate
    each = f"{1e3 * seen.seconds / seen.count:.3g} ms each" if seen.count else ""
    yield number("throughput", "" if fast is None else f"{fast:.3g} / s", each)
    if now.done:
        agrees = now.result["verified"]["agrees"]
        note = "by a fresh process with the written potential"
        yield number("reproduced", "yes" if agrees else "NO", note, "good" if agrees else "bad")
    else:
        left = duration((now.budget - seen.count) / fast) if fast else ""
        yield number("left", left, "at this rate, at most", going=True)
    part = f"{100 * seen.failed / seen.count:.3g} % of candidates" if seen.count else ""
    yield number("failed", str(seen.failed), part)
    yield number("at a bound", ", ".join(now.at_bounds) or "none", f"of {len(now.free)} parameters")
    for target, unit, *sizes in now.measured.get("errors", ())[:6]:
        if unit in ("eV/atom", "eV/A"):
            scale, shown = (1e3, "meV/atom") if unit == "eV/atom" else (1.0, signed(unit))
            held = "" if sizes[3] is None else f"held out {_brief(scale * sizes[3])}"
            if sizes[2] is not None:
                known = "none yet" if sizes[0] is None else f"{_brief(scale * sizes[0])} {shown}"
                yield number(target, known, held)


def _brief(size: float) -> str:
    """With as many digits as there is room for."""
    return f"{size:.3g}" if size >= 1e-3 else f"{size:.1e}".replace("e-0", "e-")


def _warnings(now: Standing) -> Iterator[str]:
    verified = now.result.get("verified")
    if verified is not None and not verified["agrees"]:
        yield f"The score was not reproduced: {verified['words']}"
    if now.done and now.at_bounds:
        yield f"At a bound: {', '.join(now.at_bounds)}. A wider range may do better."
    seen = now.following
    if seen.count >= 20 and seen.failed > 0.5 * seen.count:
        yield f"{seen.failed} of {seen.count} candidates could not be evaluated; see Failures."


def _point(now: Standing) -> tuple[float, ...]:
    best = now.following.best
    return () if best is None else best.point


def _tables(now: Standing) -> Iterator[dict[str, Any]]:
    yield from now.measured.get("tables", ())
    errors = now.measured.get("errors")
    if errors:
        columns = ["target", "unit", "seen", "in tolerances", "n", "held out", "in tolerances", "n"]
        title = "Errors, root mean square"
        rows = [[target, signed(unit), *sizes] for target, unit, *sizes in errors]
        yield table("errors", title, columns, rows, section="Quality of the fit")
    if now.terms:
        parts = now.contributions
        ordered = sorted(now.terms, key=lambda t: -(parts.get(t, abs(now.terms[t]))))
        rows = [[term, now.group(term), now.terms[term], parts.get(term)] for term in ordered]
        columns = ["term", "group", "off by, tolerances", "part of the score"]
        yield table("terms", "Terms of the best candidate", columns, rows,
                    section="Quality of the fit", most=100)  # fmt: skip
    rows = list(parameter_rows(now))
    if rows:
        columns = ["parameter", "value", "unit", "", "lower", "upper", "place"]
        at = [k for k, row in enumerate(rows) if row[3] == "at a bound"]
        yield table("parameters", "Parameters", columns, rows, section="Parameters", marked=at)
    names, members = _members(now)
    if len(names) > 1 and len(members) > 1:
        best = _knee(now, members)
        rows = [["knee" if k == best else str(k + 1), *one] for k, one in enumerate(members)]
        # the knee first: it may be beyond the rows that travel
        rows = [rows[best], *rows[:best], *rows[best + 1 :]]
        yield table("front", "Pareto front", ["point", *names], rows,
                    section="Pareto front", most=50, marked=[0])  # fmt: skip
    if now.following.failures:
        rows = [[words, count] for words, count in now.following.failures.most_common(20)]
        yield table("failures", "Failures", ["what was said", "times"], rows, section="Run")


def parameter_rows(now: Standing) -> Iterator[list[Any]]:
    """Name, value, unit, how, bounds, and place between them."""
    units = {p["name"]: signed(p.get("unit", "")) for p in now.space.get("parameters", ())}
    free: Mapping[str, Mapping[str, float]] = now.space.get("free", {})
    places = dict(zip(free, _point(now), strict=False))
    at = set(now.result.get("at_bounds") or ())
    for name, value in now.values.items():
        how = "free" if name in free else "tied" if name in now.space.get("ties", {}) else "fixed"
        how = "at a bound" if name in at else how
        span = (free[name]["lower"], free[name]["upper"]) if name in free else (None, None)
        yield [name, value, units.get(name, ""), how, *span, places.get(name)]


def _snippet(run: Path) -> str:
    path = run / "model" / "in.lammps"
    try:
        return path.read_text(encoding="utf-8")[:_SNIPPET]
    except (OSError, UnicodeDecodeError):
        return ""
