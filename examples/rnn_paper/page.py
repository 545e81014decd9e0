"""The paper's claims beside what was measured: tables, pictures, one HTML file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlcore
import one_dimension
import pictures
import speed
from mlcore.io.atomic import write_text
from mlcore.mobility import report
from settings import BOX, EPSILON, RADIUS, Work, clean

Results = Mapping[str, Any]
NAMES = {"oscillator": "SHO", "lennard_jones": "LJ", "double_well": "DW", "rugged": "rugged"}
LEAD = (
    "Large time steps by recurrent networks (arXiv:2004.06493): all experiments made again. "
    "An LSTM is judged twice. From true frames: every prediction begins at five true frames, "
    "so its errors cannot add up; this is no integrator. From its own frames: it reads five "
    "true frames and then only what it has predicted. Only the second is a simulation. Truth "
    "is velocity Verlet with dt = 0.001."
)


def results(work: Work, names: Sequence[str]) -> dict[str, Any]:
    """What there is, by experiment."""
    paths = {name: work.folder / "results" / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def write(work: Work, found: Results) -> str:
    """rnn_paper.html, summary.md and results/table_1.json; the summary."""
    rows = clean(speed.table(found))
    write_text(work.folder / "results" / "table_1.json", json.dumps({"rows": rows}, indent=1))
    tables = list(_tables(found, rows))
    text = "".join(_markdown(title, table) for title, _, table in tables)
    write_text(work.folder / "summary.md", text)
    drawn = _drawn(work, found, rows)
    sections = [
        report.Section(title, _prose(table), (), ())
        if title == "Claims"
        else report.Section(title, about, drawn.get(title, ()), [table])
        for title, about, table in tables
    ]
    made = report.Report(
        title="Recurrent networks as integrators of large steps",
        lead=LEAD,
        numbers=list(_numbers(found)),
        sections=sections,
        provenance=_provenance(work, found),
        files=(),
        configuration=(work.folder / "settings.json").read_text(),
    )
    report.write_report(made, work.folder / "rnn_paper.html")
    return text


def _provenance(work: Work, found: Results) -> dict[str, str]:
    wall, used = (sum(one[key] for one in found.values()) for key in ("seconds", "cpu_seconds"))
    return {
        "form": work.size.name,
        "experiments": ", ".join(found),
        "time": f"{wall:.0f} s, {used:.0f} s of CPU",
        "mlcore": mlcore.__version__,
    }


def _markdown(title: str, table: report.Table) -> str:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"### {title}", "", *lines, ""]) + "\n"


def _prose(table: report.Table) -> str:
    """Long rows as paragraphs."""
    told = []
    for row in table.rows:
        cells = zip(table.header[1:], row[1:], strict=True)
        told.append(". ".join([row[0], *(f"{name}: {cell}" for name, cell in cells if cell)]) + ".")
    return "\n\n".join([CLAIMS, *told])


def _e(value: float | None) -> str:
    """Two digits."""
    if value is None:
        return "-"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.2g}" if abs(value) < 99.5 else f"{value:.0f}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def _time(told: Results) -> str:
    when = told["horizon"]
    return f"> {told['end']:.4g}" if when is None else f"{when:.3g}"


# --------------------------------------------------------------------------------------------- tables
def _tables(found: Results, rows: Sequence[Results]) -> Iterator[tuple[str, str, report.Table]]:
    yield (
        "Claims",
        CLAIMS,
        report.Table(
            ["", "The paper", "LSTM, true frames", "LSTM, own frames", "Others"],
            list(_claims(found, rows)),
        ),
    )
    lines = [name for name in one_dimension.CASES if name in found]
    if lines:
        yield "Fig 3", FIG_3, _fig_3(found, lines)
        yield "Fig 3 A", FIG_3A, _fig_3a(found, lines)
    if "lennard_jones" in found and found["lennard_jones"]["fig_8"]["spans"]:
        yield "Fig 8", FIG_8, _fig_8(found["lennard_jones"]["fig_8"])
    if "perturbation" in found:
        yield "Fig 4", FIG_4, _fig_4(found["perturbation"])
    clusters = [one for one in found.values() if "n" in one]
    if clusters:
        yield "Figs 5 and 9", FIG_9, _fig_9(clusters)
        yield "How far a trajectory means something", CHAOS, _chaos(clusters)
    if rows:
        yield "Table I", TABLE_I, _speed(rows)
    yield "Honesty", HONESTY, _honesty(found)
    yield "Choices", CHOICES, report.Table(["", "the paper", "here"], CHOSEN)


CLAIMS = (
    "Numbers of LSTMs are those of the steps in order; in one dimension mean errors of the start "
    "that the paper names."
)


def _claims(found: Results, rows: Sequence[Results]) -> Iterator[list[str]]:
    for name, short in NAMES.items():
        if name in found:
            yield _claim_3(short, found[name])
    if any(name in found for name in NAMES):
        growth = [
            told["growth"][1] for name in NAMES if name in found for told in _regular(found[name])
        ]
        span = f"t^{min(growth):.2f} to t^{max(growth):.2f}" if growth else "not told"
        yield [
            "Fig 3 A",
            "Verlet's error grows exponentially with t",
            "",
            "",
            f"Verlet's error grows as {span}",
        ]
    if "perturbation" in found:
        apart = found["perturbation"]["apart"]
        cells = [" / ".join(_e(v) for v in apart[k][:2]) for k in apart]
        claim = "Lyapunov instability: dp = 1e-3 / 1e-4 end 0.149 / 0.0153 apart (Verlet 0.148 / 0.0152)"
        yield [
            "Fig 4",
            claim,
            cells[1],
            cells[2],
            f"Verlet {cells[0]}; splitting {cells[3]}: linear in dp",
        ]
    if "16_box" in found:
        yield from _claims_16(found["16_box"])
    for row in rows:
        if row["name"] == "16_box" and row["step"] == 4.0:
            text = (
                f"{_e(row['lstm'])} with compiled Verlet of 0.001, {_e(row['lstm_best'])} of 0.005"
            )
            told = f"Eq 3 with the paper's times: {row['paper']:.0f}"
            yield ["Table I, 16", "net speed-up 32000 at step 4", "", text, told]


def _regular(one: Results) -> list[Results]:
    """Verlet's errors at steps at which it keeps the energy, where their growth can be told."""
    told = one["truth"]["verlet"].items()
    return [r for dt, r in told if r.get("growth") and float(dt) <= one["cost"]["acceptable"]]


def _claim_3(short: str, one: Results) -> list[str]:
    told = one["lstm"].values()
    own = [r["named"].get("10000", list(r["named"].values())[-1]) for r in told]
    works = max(r["named_largest"] or 0 for k, r in one["works"].items() if k.startswith("action"))
    claim = "error 1e-3 to 4e-3, not growing to t = 1e4, steps 0.1 to 4"
    forced = " / ".join(_e(r["forced_named"]) for r in told)
    return [
        f"Fig 3, {short}",
        claim,
        forced,
        " / ".join(map(_e, own)),
        f"action-angle, largest error, any step: {_e(works)}; periodic continuation, learns nothing: "
        f"{_e(one['works']['periodic']['named_largest'])}",
    ]


def _claims_16(one: Results) -> Iterator[list[str]]:
    told, verlet = one["lstm"].values(), one["parted"]["half the step"]
    nbody = one["nbody"]["0.05"]
    yield [
        "Fig 9, 16 particles",
        "error 1e-3 for all times to t = 1e6, steps 0.1 to 4",
        "mean " + " / ".join(_e(r["forced"]) for r in told) + f"; none of 32 units can be below "
        f"{_e(one['floor'])}",
        "above 0.1 from t = " + " / ".join(_time(r) for r in told),
        f"above 0.1 from t: N-body, step 0.05, {_time(nbody)}; Verlet 0.001 beside 0.0005 "
        f"{_e(verlet['0.1'])}; nothing can past {_e(one['lyapunov']['cut'])}",
    ]
    yield [
        "Fig 5, 16 particles",
        "energy kept to 1e-3 to t = 1e6",
        " / ".join(_e(r["energy_forced"]) for r in told),
        " / ".join(_e(r["energy"]) for r in told),
        f"largest change: N-body, step 0.05, {_e(nbody['energy'])}, step 0.1 rescaled "
        f"{_e(one['nbody']['0.1, rescaled']['energy'])}; Verlet, "
        + ", ".join(f"dt {dt}: {_grown(r)}" for dt, r in one["verlet"].items()),
    ]


FIG_3 = (
    "Mean errors of the named start. Networks learn the paper's sweep of masses and starts "
    "(of k, too), one network to a step, for the seconds told below; their loss still falls "
    "with more. The action-angle map reads the same five frames, the learned splitting one. "
    "Periodic continuation learns nothing and knows no force: it goes on with the period of "
    "the small steps that the kick-start makes anyway."
)


def _fig_3(found: Results, lines: Sequence[str]) -> report.Table:
    header = ["", "straight flight", "true frames, mean", "largest", "own: t <= 10", "<= 100"]
    header += ["<= 1000", "<= 1e4"]
    header += ["0.1 exceeded at t (median)", "energy"]
    rows = []
    for name in lines:
        one, short = found[name], NAMES[name]
        several = {f"{short}, LSTM, {step}": told for step, told in one["lstm"].items()}
        if "best" in one:
            several[f"{short}, LSTM taught m = 1 alone, 0.4"] = one["best"]
        several |= {f"{short}, {key}": told for key, told in one["works"].items()}
        for label, told in several.items():
            own = [_e(told["named"].get(end)) for end in ("10", "100", "1000", "10000")]
            forced = [_e(told.get("forced_named")), _e(told.get("forced_largest"))]
            flown = _e(told["straight"]["named"]) if "straight" in told else "-"
            rows.append([label, flown, *forced, *own, _time(told), _e(told["energy"])])
    return report.Table(header, rows)


FIG_3A = (
    "Velocity Verlet with larger steps: its error grows as a power of t near 1, because its "
    "frequency is off by a constant; in one dimension nothing grows exponentially. Powers are "
    "told up to the largest step that keeps the energy within 2 %; beyond it the particle is on "
    "another orbit, or escapes. Last column: how far the truth itself is from the differential "
    "equation at the end."
)


def _fig_3a(found: Results, lines: Sequence[str]) -> report.Table:
    steps = list(found[lines[0]]["truth"]["verlet"])
    rows = []
    for name in lines:
        told = found[name]["truth"]
        regular = _regular(found[name])
        cells = [
            _e(r.get("at_1000")) + (f" (t^{r['growth'][1]:.2f})" if r in regular else "")
            for r in told["verlet"].values()
        ]
        rows.append([NAMES[name], *cells, _e(told["off_the_equation"])])
    header = ["error at t = 1000 (growth)", *(f"dt {s}" for s in steps), "truth off the equation"]
    return report.Table(header, rows)


FIG_8 = (
    "The Lennard-Jones particle from x0 = 2.5: largest distances from the truth within the "
    "first and the 75th period, and of the energy from its first value. Crosses: from true "
    "frames."
)


def _fig_8(told: Results) -> report.Table:
    header = [""]
    for a, b in told["spans"]:
        header += [f"x, t = {a:g} to {b:g}", f"energy, t = {a:g} to {b:g}"]
    rows = []
    for name in told:
        if name in ("spans", "truth"):
            continue
        cells = []
        for true, made in zip(told["truth"], told[name], strict=True):
            at = dict(zip((round(t, 6) for t in true["t"]), true["x"], strict=True))
            both = [
                (at[round(t, 6)], x)
                for t, x in zip(made["t"], made["x"], strict=True)
                if round(t, 6) in at
            ]
            off = max((abs(p - q) for p, q in both if q is not None), default=None)
            energy = max((abs(e) for e in made["energy"] if e is not None), default=None)
            cells += [_e(off), _e(energy)]
        label = name.replace("forced", "LSTM, true frames,").replace("own", "LSTM, own frames,")
        rows.append([label, *cells])
    return report.Table(header, rows)


FIG_4 = (
    "A particle at rest at x0 = 5.1 gets a momentum dp; mean distance from the run with dp = "
    "0 over t <= 200, one bounce. The distance is proportional to dp: starting with dp is, "
    "to first order, starting dp / |F| later on the same orbit. Over many periods "
    "neighbouring orbits part as a power of t near 1 (last picture): in one dimension the "
    "Lyapunov exponent is zero, and this is shear, no instability. From true frames a "
    "network shows whatever the truth does. The start lies outside of the ranges of the "
    "training; by default LSTMIntegrator refuses it."
)


def _fig_4(told: Results) -> report.Table:
    kicks = told["kicks"][1:]
    header = ["", *(f"dp = {k:g}" for k in kicks), "largest error of x"]
    rows = [["the paper: Verlet", "0.148", "0.0152", *["-"] * (len(kicks) - 2), "-"]]
    rows.append(["the paper: RNN", "0.149", "0.0153", *["-"] * (len(kicks) - 2), "-"])
    for name, apart in told["apart"].items():
        worst = told["error"].get(name)
        rows.append([name, *map(_e, apart), _e(max(worst)) if worst else "0"])
    verlet = told["apart"]["Verlet"]
    note = (
        f"Response at dp = 1e-4 over that at 1e-5: {verlet[1] / verlet[2]:.3g}. "
        f"Power of t over many periods: {told['long']['power']:.2f}. Refusal: {told['refused_at_margin']}."
    )
    return report.Table(header, rows, note)


FIG_9 = (
    f"Lennard-Jones particles, epsilon = {EPSILON:g}, m = 1, from rest at random places; box "
    f"{BOX}, sphere of the same volume (radius {RADIUS}, specular wall). Networks learn the "
    "coordinates as they are, not wrapped. Errors by Eq 17 to the cut; straight flight: of one "
    "step without any force, which a network must beat. All that two layers of 32 can predict "
    "lies in a plane of 32 dimensions, since the last layer is linear; 16 particles have 48 "
    "coordinates and as many velocities. NBodyIntegrator learns pair kicks from states a step "
    "apart, never a force; rescaled: one evaluation of the energy a step puts velocities right. "
    "It is shown in the box; the sphere has the LSTM alone. Energies: median over runs of the "
    "largest |E - E0| / |E0|."
)


def _fig_9(clusters: Sequence[Results]) -> report.Table:
    header = [
        "",
        "straight flight",
        "true frames, mean",
        "own: t <= 10",
        "0.1 exceeded at t",
        "to t",
        "energy, true frames",
    ]
    header += ["energy, own", "us a step"]
    rows = []
    for one in clusters:
        place = f"{one['n']}, {one['place']}"
        several = {f"{place}: LSTM, {step}": r for step, r in one["lstm"].items()}
        several |= {f"{place}: N-body, {step}": r for step, r in one["nbody"].items()}
        for label, told in several.items():
            own, seconds = told["own"].get("10"), told["step_seconds"]
            flown = _e(told["straight"]["all"])
            row = [label, flown, _e(told["forced"]), _e(own), _time(told), f"{told['end']:.4g}"]
            rows.append(
                [*row, _e(told.get("energy_forced")), _e(told["energy"]), f"{1e6 * seconds:.2g}"]
            )
        for dt, told in one["verlet"].items():
            lost = "" if told["lost"] is None else f", blew up by t = {told['lost'] + 2:.3g}"
            row = [f"{place}: Verlet, {dt}{lost}", "-", "-", "-", _e(told.get("horizon")), "-", "-"]
            rows.append([*row, _grown(told), "-"])
    return report.Table(header, rows)


def _grown(told: Results) -> str:
    """Change of Verlet's energy."""
    return "infinite" if told.get("energy", 0.0) is None else _e(told.get("energy"))


CHAOS = (
    "Largest Lyapunov exponents (Benettin), and the time at which two runs of Verlet that "
    "differ by next to nothing are 0.001 and 0.1 apart. A difference in the last digit of "
    "double precision has grown to 0.1 at the cut: no method can follow the trajectory of 16 "
    "particles past t of about 10, whatever its step. Errors after the cut are not told. "
    "What remains are averages: see the reports in the folder reports/."
)


def _chaos(clusters: Sequence[Results]) -> report.Table:
    names = list(clusters[0]["parted"])
    rows = []
    for one in clusters:
        told = one["lyapunov"]
        parted = [f"{_e(one['parted'][k]['0.001'])} / {_e(one['parted'][k]['0.1'])}" for k in names]
        low, high = min(told["runs"]), max(told["runs"])
        value = f"{told['value']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([f"{one['n']}, {one['place']}", value, _e(told["cut"]), *parted])
    return report.Table(["", "exponent (starts)", "cut", *names], rows)


TABLE_I = (
    "Eq 3 for a run of t = 1e6. With the times the paper gives for 16 particles (0.04392 s a "
    "Verlet step, 0.0026 s a network's) Eq 3 gives its 32000 at step 4, but not its other "
    "rows. A compiled Verlet step takes what is told below; the large step must then be "
    "compared with the largest step at which Verlet keeps the energy within 2 % "
    "(Lennard-Jones particles: 0.005). A speed-up means something only where the step is "
    "right: see above for which it is. Other integrators: action-angle in one dimension, "
    "N-body (steps to 0.1) in the box. Their force costs next to nothing here; large steps "
    "pay where one evaluation of the force takes long."
)


def _speed(rows: Sequence[Results]) -> report.Table:
    header = [
        "",
        "step",
        "the paper",
        "Eq 3, its times",
        "LSTM, Verlet 0.001",
        "LSTM, Verlet at its largest step",
    ]
    header += [
        "other integrators, the same",
        "us: Verlet step",
        "LSTM step",
        "other",
        "largest Verlet step",
    ]
    told = []
    for row in rows:
        if row["step"] not in (0.1, 1.0, 4.0) and row["claimed"] is None:
            continue
        cells = [row["claimed"], row["paper"], row["lstm"], row["lstm_best"], row.get("other")]
        numbers = ["-" if c is None else f"{c:.3g}" if c < 1e3 else f"{c:.0f}" for c in cells]
        times = [row["small"], row["large"], row.get("other_seconds")]
        micro = ["-" if t is None else f"{1e6 * t:.2g}" for t in times]
        name = NAMES.get(row["name"], row["name"].replace("_", ", "))
        told.append([name, f"{row['step']:g}", *numbers, *micro, f"{row['acceptable']:g}"])
    return report.Table(header, told)


HONESTY = (
    "What predictions had to pass. The last row is a demonstration: the truth plus one "
    "number in every frame (mean 0.0025, standard deviation 0.00021), the same for all "
    "coordinates, has a flat error by Eq 17 of about 0.004 at all times, looks like a "
    "perfect integrator of any step, and fails the gate. Ask this of any published "
    "trajectory."
)


def _honesty(found: Results) -> report.Table:
    rows, failed = [], 0
    for name, one in found.items():
        for who, gates in one.get("gates", {}).items():
            wrong = [gate[0] for gate in gates if gate[1] is False]
            failed += len(wrong)
            text = "FAILED: " + "; ".join(wrong) if wrong else "held"
            rows.append([f"{name}, {who}", f"{len(gates)} gates", text])
    for one in found.values():
        if "scalar" in one and (
            one["n"] == 16 or not any(o.get("n") == 16 for o in found.values())
        ):
            told = one["scalar"]
            text = f"error {told['least']:.2g} to {told['largest']:.2g}, mean {told['mean']:.2g}; "
            rows.append(
                [
                    f"truth plus a scalar, {one['n']} particles",
                    text + told["detail"],
                    "FAILED, as it must",
                ]
            )
            break
    return report.Table(["", "seen", "gates"], rows)


CHOICES = "Where the paper leaves something open, or contradicts itself."
CHOSEN = [
    ["frames an LSTM reads", "not told; its Eq 3 gives its 32000 for five", "5"],
    ["length of runs in one dimension", "t = 50, 100 and 200", "at most 200"],
    ["one network for all steps, or one each", "the step is no input of the network", "one each"],
    ["dropout", "0.15", "0: it costs accuracy here"],
    [
        "batch, rate",
        "256, 0.0005, 2500 epochs",
        "64, 0.005 falling to 0.00005, by time",
    ],
    ["windows held out", "a fifth, at random: neighbours of those learned from", "whole runs"],
    ["start of the oscillator", "not told", "x0 = -1, m = 10, k = 1"],
    ["Lennard-Jones starts", "from x0 = 1, which escapes", "from 1.03"],
    ["edge of the box", "not told", f"{BOX}; force cut at 2.5, energy shifted"],
    ["random starts in 3-D", "each coordinate in -3 to 3", "no pair closer than 0.95, E < -0.5"],
    ["sphere", "radius not told; reflective", f"{RADIUS}, specular"],
    ["positions in the box", "not told whether wrapped", "not wrapped"],
]


# ------------------------------------------------------------------------------------------- pictures
def _drawn(work: Work, found: Results, rows: list[Results]) -> dict[str, list[report.Picture]]:
    drawn: dict[str, list[report.Picture]] = {}

    def add(title: str, name: str, caption: str, path: Path) -> None:
        work.tell(f"picture {name}")
        drawn.setdefault(title, []).append(report.Picture(path, caption))

    folder = work.folder / "pictures"
    for name, one in found.items():
        path = folder / f"{name}.png"
        if name in NAMES:
            text = "Errors of the named start; grey line: the paper's 0.001."
            add("Fig 3", name, f"{one['title']}. {text}", pictures.line(name, one, path))
        elif "n" in one:
            text = "Grey: after the cut no trajectory means anything. Grey line: the paper's 0.001."
            add(
                "Figs 5 and 9",
                name,
                f"{one['n']}, {one['place']}. {text}",
                pictures.cluster(one, path),
            )
        elif name == "perturbation":
            add(
                "Fig 4",
                name,
                "One bounce from x0 = 5.1, and many periods.",
                pictures.fig_4(one, path),
            )
    if "lennard_jones" in found and found["lennard_jones"]["fig_8"]["spans"]:
        path = pictures.fig_8(found["lennard_jones"]["fig_8"], folder / "fig_8.png")
        add(
            "Fig 8",
            "fig_8",
            "Lines: truth. Crosses: LSTM from true frames; filled: from its own.",
            path,
        )
    if rows:
        path = pictures.speed(rows, folder / "table_1.png")
        add("Table I", "table_1", "Net speed-ups against the large step.", path)
    return drawn


def _numbers(found: Results) -> Iterator[report.Number]:
    lines = [found[name] for name in NAMES if name in found]
    if lines:
        best = min(
            (t for one in lines for t in one["lstm"].values()), key=lambda t: t["forced_named"]
        )
        meaning = f"the same network, own frames: 0.1 exceeded at t = {_time(best)}"
        yield report.Number("best LSTM, from true frames", _e(best["forced_named"]), meaning)
        works = max(
            told["named_largest"] or 0
            for one in lines
            for key, told in one["works"].items()
            if key.startswith("action")
        )
        meaning = "largest error, all potentials and steps, named starts"
        yield report.Number("action-angle map, own motion to the end", _e(works), meaning)
    if "16_box" in found:
        told = found["16_box"]["lyapunov"]
        meaning = f"rounding has grown to 0.1 at t = {_e(told['cut'])}"
        yield report.Number("Lyapunov exponent, 16 particles", f"{told['value']:.2f}", meaning)
        nbody = found["16_box"]["nbody"]["0.05"]
        beside = found["16_box"]["parted"]["half the step"]["0.1"]
        meaning = f"Verlet 0.001 leaves Verlet 0.0005 at {_e(beside)}"
        yield report.Number("N-body, step 0.05: right to t =", _time(nbody), meaning)
