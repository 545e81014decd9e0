"""Cellular automata: rules learned exactly, and the rules that rule blocks of cells.

python examples/automata/automata.py [--quick] [--workers 2] [--out DIR]

Every part is kept in DIR/parts/*.json and not done again; DIR/results.json holds the bars.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from automata_parts import IRREDUCIBLE, REDUCIBLE, done, parts
from mlcore import parallel
from mlcore.io.atomic import write_text
from mlcore.mobility.plots import canvas, save

Answer = dict[str, Any]
Bar = dict[str, Any]
HIDDEN = ("frames", "picture", "names")
COLOURS = np.array([[255, 255, 255], [0, 114, 178], [230, 159, 0], [213, 94, 0]]) / 255
"""Of nothing, still lifes, oscillators and spaceships."""


# -- bars ------------------------------------------------------------------------------------------
def bar(
    case: str, what: str, value: float, *, most: float | None = None, least: float | None = None
) -> Bar:
    """A figure beside its bar; without one it is only told."""
    held = (most is None or value <= most) and (least is None or value >= least)
    told = None if most is None and least is None else bool(held)
    return {"case": case, "what": what, "value": value, "most": most, "least": least, "held": told}


def bars(answers: dict[str, Answer]) -> list[Bar]:
    """All that the parts there are allow."""
    found = [*of_rules(answers), *of_pairs(answers), *of_scales(answers)]
    if life := answers.get("life"):
        for level in (0, 1):
            value = life[f"adjusted Rand, level {level}"]
            found.append(bar("L1", f"adjusted Rand of things, level {level}", value, least=0.9))
    return found


def of_rules(answers: dict[str, Answer]) -> list[Bar]:
    """CA1 to CA3."""
    trained = [one for name, one in answers.items() if name.startswith("rule_")]
    if not trained:
        return []
    bad = [one["wrong of probe"] + one["wrong of soups"] for one in trained]
    seconds = [one["CPU seconds of training"] for one in trained]
    told = [one for one in trained if "wrong far" in one]
    count = len(trained)
    return [
        bar("CA1", f"trainings of {count} that are exact", bad.count(0), least=count),
        bar("CA1", "CPU seconds of the longest training", max(seconds), most=5),
        bar("CA1", "CPU seconds of the median training", float(np.median(seconds)), most=5),
        bar("CA2", f"wrong cells, {told[0]['far']}", sum(x["wrong far"] for x in told), most=0),
        *(
            bar("CA3", f"wrong cells, {what}", sum(sum(x[key].values()) for x in told), most=0)
            for what, key in (("other boxes", "wrong elsewhere"), ("in tiles", "wrong in tiles"))
        ),
    ]


def of_pairs(answers: dict[str, Answer]) -> list[Bar]:
    """CA4 and CA5."""
    found = []
    for number in REDUCIBLE + IRREDUCIBLE:
        told = [one for name, one in answers.items() if name.startswith(f"pairs_{number}_")]
        claims = sum(one["exact"] for one in told)
        proven = sum(one["exact"] and one["known"] for one in told)
        if not told:
            continue
        if number in IRREDUCIBLE:
            found.append(bar("CA5", f"rule {number}, claims in {len(told)}", claims, most=0))
            continue
        least = min(len(told), 3 if number == 128 else 5)
        found.append(bar("CA4", f"rule {number}, exact in {len(told)}", proven, least=least))
    return found


def of_scales(answers: dict[str, Answer]) -> list[Bar]:
    """CA6, in two and three dimensions."""
    found = []
    for dimensions in (2, 3):
        told = answers.get(f"scales_{dimensions}", {})
        for level in (level for level in (1, 2) if f"level {level}" in told):
            one, seconds = told[f"level {level}"], told["CPU seconds"]
            name = f"{dimensions}D, level {level}"
            for what in ("codes", "decoded"):
                value = min(one[what])
                found.append(bar("CA6", f"{name}: right blocks, {what}", value, least=0.999))
            part = seconds[level] / seconds[0]
            found.append(bar("CA6", f"{name}: cost over the fine net's", part, most=0.25))
            found.append(bar("CA6", f"{name}: right if nothing changed", one["if nothing changed"]))
    if told := answers.get("majority"):
        last = list(told["cells right"].values())[-1]
        still = told["cells right if nothing changed"]
        found.append(bar("CA6", "majority: cells right after 64 steps", last))
        found.append(bar("CA6", "majority: right if nothing changed", still))
    return found


def table(found: list[Bar]) -> str:
    """Lines of case, figure, bar and verdict."""
    lines = []
    for one in found:
        limit = f"<= {one['most']:g}" if one["most"] is not None else ""
        limit = f">= {one['least']:g}" if one["least"] is not None else limit
        word = {True: "met", False: "MISSED", None: ""}[one["held"]]
        text = f"{one['case']:<4} {one['what']:<46} {one['value']:>10.5g} {limit:>9}  {word}"
        lines.append(text.rstrip())
    return "\n".join(lines)


# -- pictures --------------------------------------------------------------------------------------
def draw(rows: list[list[tuple[str, Any]]], path: Path) -> None:
    """Images in rows: grey of (X, Y), colours of (X, Y, 3)."""
    columns = len(rows[0])
    figure, places = canvas(len(rows), columns, (2.2 * columns, 2.4 * len(rows)))
    for axes, (title, values) in zip(places, [one for row in rows for one in row], strict=True):
        axes.imshow(values, cmap="gray_r", interpolation="nearest", aspect="auto", vmin=0, vmax=1)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    save(figure, path)


def pictures(answers: dict[str, Answer], out: Path) -> None:
    """What there is to draw."""
    frames = answers.get("rule_4555_0", {}).get("frames")
    if frames:
        told = [[(f"rule, step {n}", a) for n, a, _ in frames]]
        draw(told + [[(f"net, step {n}", b) for n, _, b in frames]], out / "frames.png")
    both = {name: one["picture"] for name, one in answers.items() if "picture" in one}
    if both:
        fine = [(name.replace("_", " ")[:-2], one[0]) for name, one in both.items()]
        coarse = [("pairs, coarse net", one[1]) for one in both.values()]
        draw([fine, coarse], out / "reductions.png")
    if told := answers.get("scales_2"):
        draw(scale_rows(told), out / "scales.png")
    if told := answers.get("life"):
        draw(life_rows(told), out / "clusters.png")


def scale_rows(told: Answer) -> list[list[tuple[str, Any]]]:
    """Cells, and blocks of the rule and by coarse steps, of both levels."""
    rows = []
    for level in (1, 2):
        for what in ("rule", "blocks of the rule", "blocks by coarse steps"):
            if what == "rule" and level == 2:
                continue
            name = what if what == "rule" else f"{what}, level {level}"
            rows.append(
                [(f"{name}, {one['step']}", one[what]) for one in told[f"level {level}"]["frames"]]
            )
    return rows


def life_rows(told: Answer) -> list[list[tuple[str, Any]]]:
    """Things, and for each level their kinds and clusters in colours."""
    things = list(zip(told["names"], told["frames"], strict=True))
    rows = [[(name, one["cells"]) for name, one in things]]
    for what in (f"{kind}, level {level}" for level in (0, 1) for kind in ("kinds", "clusters")):
        rows.append([(what, COLOURS[np.array(one[what])]) for _, one in things])
    return rows


# -- all of it -------------------------------------------------------------------------------------
def run(names: list[str], out: Path, quick: bool, workers: int) -> list[str]:
    """Do the parts; what went wrong."""
    wrong = []
    items = [(name, str(out / "parts"), quick) for name in names]
    with parallel.engine("processes" if workers > 1 else "serial", workers=workers) as engine:
        for name, result in zip(names, engine.map(done, items, chunk=1), strict=True):
            if result.error is not None:
                wrong.append(f"{name}: {result.error.message}")
                continue
            answer = read(out, name)
            told = {k: v for k, v in answer.items() if k not in HIDDEN and not isinstance(v, dict)}
            print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in told.items()), flush=True)
    return wrong


def read(out: Path, name: str) -> Answer:
    """A part's answer."""
    answer: Answer = json.loads((out / "parts" / f"{name}.json").read_text())
    return answer


def main(out: Path, quick: bool = False, workers: int = 1) -> tuple[dict[str, Answer], list[Bar]]:
    """Everything, one file of answers for each part; the answers and the bars.

    Raises:
        SystemExit: a part could not be done; the others are kept.
    """
    began = time.monotonic()
    names = list(parts(quick))
    if wrong := run(names, out, quick, workers):
        raise SystemExit("\n".join(wrong))
    answers = {name: read(out, name) for name in names}
    found = bars(answers)
    seconds = round(sum(one["part CPU seconds"] for one in answers.values()), 1)
    results = {"bars": found, "CPU seconds of all parts": seconds}
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    pictures(answers, out)
    print(table(found))
    print(f"{seconds:.0f} CPU s for all parts, {time.monotonic() - began:.0f} s now")
    return answers, found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one rule and one reduction")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each")
    parser.add_argument("--out", type=Path, default=Path("out/automata"))
    told = parser.parse_args()
    _, judged = main(told.out, told.quick, told.workers)
    sys.exit(any(one["held"] is False for one in judged))
