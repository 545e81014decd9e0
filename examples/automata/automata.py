"""Cellular automata: rules learned exactly, and the rules that rule blocks of cells.

python examples/automata/automata.py [--quick] [--out DIR]

What is done is in DIR/*.json and is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mlcore.io.atomic import write_text
from mlcore.mobility.plots import canvas, save
from mlcore.sagesnet import AutomatonCells, Level, LiftSchedule, Run, SagesNet
from mlcore.sagesnet.automata.reductions import Learned, learned
from mlcore.sagesnet.automata.rules import CountRule, ElementaryRule, Rule
from mlcore.sagesnet.automata.soups import probe, soups
from mlcore.sagesnet.fit import fit_level
from mlcore.training.options import TrainingOptions, TrainingResult
from torch import Tensor

Net = SagesNet[Tensor]
Answer = dict[str, Any]


# -- rules of cells --------------------------------------------------------------------------------
def learn_rule(rule: Rule, seed: int, epochs: int = 25) -> Net:
    """A net trained on one and two steps of small soups."""
    torch.manual_seed(seed)
    net: Net = SagesNet(AutomatonCells(2, 16), [Level(width=32, messages=2, residual=False)])
    start = soups((10, 10, 10), 64, density=(0.1, 0.6), seed=1000 + seed)
    runs = [Run(rule.run(soup, 2)) for soup in start.split(1)]
    options = TrainingOptions(
        epochs=epochs, learning_rate=2e-2, batch_size=4, patience=None, seed=seed
    )
    net.fit(runs, options=options)
    return net


def wrong(net: Net, rule: Rule, states: Tensor) -> int:
    """Cells that the net gets wrong in one step."""
    with torch.no_grad():
        return int((net.step(states) != rule.step(states)).sum())


def probe_wrong(net: Net, rule: Rule, copies: int = 200) -> int:
    """Patches, of all classes alike, whose middle the net gets wrong."""
    patches = probe(copies, seed=7)
    with torch.no_grad():
        return int((net.step(patches) != rule.step(patches))[:, 1, 1, 1].sum())


def exactness(name: str, seed: int, quick: bool) -> Answer:
    """Train, then count wrong cells where the net was not trained."""
    rule = CountRule.of(name)
    began = time.process_time()
    net = learn_rule(rule, seed)
    seconds = time.process_time() - began
    fresh = soups((24, 24, 24), 2 if quick else 6, density=(0.1, 0.9), seed=seed)
    answer: Answer = {
        "CPU seconds": round(seconds, 1),
        "wrong of probe": probe_wrong(net, rule),
        "wrong of soups": wrong(net, rule, fresh) + wrong(net, rule, rule.step(fresh)),
    }
    if seed == 0:
        answer |= far(net, rule, 8 if quick else 32, 20 if quick else 200)
    return answer


def far(net: Net, rule: Rule, box: int, steps: int) -> Answer:
    """Many steps, and boxes of other extents."""
    bad = 0
    truth = soups((box, box, box), 3, density=0.2, seed=5)
    shown = []

    def judge(step: int, state: Tensor) -> None:
        nonlocal truth, bad
        truth = rule.step(truth) if step else truth
        bad += int((state != truth).sum())
        if step in (0, 10, 50, 200):
            shown.append(
                [step, truth[0, :, :, box // 2].tolist(), state[0, :, :, box // 2].tolist()]
            )

    net.rollout(truth, steps, watch=judge)
    sizes = ((17, 9, 20),) if box < 32 else ((16, 16, 16), (17, 23, 40), (64, 64, 64))
    others = {
        f"wrong in {'x'.join(map(str, size))}": wrong(net, rule, soups(size, density=0.25, seed=6))
        for size in sizes
    }
    return {f"wrong in {steps} steps of 3 boxes of {box}^3": bad, **others, "frames": shown}


# -- rules of blocks -------------------------------------------------------------------------------
def signed(levels: list[Level]) -> Net:
    """A net of cells whose vectors are -1 and 1."""
    net: Net = SagesNet(AutomatonCells(2, 1), levels)
    with torch.no_grad():
        net.cells.code.weight.copy_(torch.tensor([[-1.0], [1.0]]))  # type: ignore[operator]
        net.cells.logits.weight.copy_(torch.tensor([[-4.0], [4.0]]))  # type: ignore[operator]
        net.cells.logits.bias.zero_()  # type: ignore[operator]
    return net


def learn_blocks(number: int, seed: int, epochs: int = 500) -> tuple[Net, TrainingResult]:
    """Lift pairs of cells and steps of an elementary rule, and learn what rules the pairs."""
    torch.manual_seed(seed)
    pairs = Level(width=16, space=(1, 1, 2), time=2, frames=1, lift_width=16, residual=False)
    net = signed([Level(width=4), pairs])
    run = Run(ElementaryRule(number).run(soups((1, 1, 48), 32, density=(0.5, 0.9), seed=seed), 2))
    result = fit_level(
        net,
        [run],
        1,
        options=TrainingOptions(epochs=epochs, learning_rate=1e-2, patience=None, seed=seed),
        schedule=LiftSchedule(steps=epochs, noise=0.5, prediction=4.0),
    )
    return net, result


def reduce(
    number: int, seed: int, tries: int = 3, epochs: int = 500
) -> tuple[Net, Learned, TrainingResult]:
    """The best of some trainings by what is wrong in all windows; none says it is exact if not."""
    best: tuple[Net, Learned, TrainingResult] | None = None
    for attempt in range(tries):
        net, result = learn_blocks(number, 100 * seed + attempt, epochs)
        told = learned(net, number)
        if best is None or _badness(told) < _badness(best[1]):
            best = (net, told, result)
        if told.exact:
            break
    assert best is not None
    return best


def _badness(told: Learned) -> tuple[bool, int]:
    return (told.collapsed or not told.changes, told.wrong)


def reduction(number: int, seed: int, quick: bool) -> Answer:
    """Learn a reduction and judge it against all there are."""
    net, told, result = reduce(number, seed, tries=1 if quick else 3)
    answer: Answer = {
        "exact": told.exact,
        "known": told.known,
        "collapsed": told.collapsed,
        "wrong windows": told.wrong,
        "projection": list(told.projection),
        "effective rank": result.history[-1]["effective_rank"],
        "deviation of codes": round(result.history[-1]["code_deviation"], 3),
    }
    if seed == 0:
        answer["picture"] = both_scales(net, number)
    return answer


def both_scales(net: Net, number: int, steps: int = 64) -> list[Any]:
    """Rows of the rule over time, and those of blocks, by the coarse net alone."""
    start = torch.zeros((1, 1, 1, 128), dtype=torch.int64)
    start[..., [64, 67]] = 1  # the first of a pair, and the second of another
    if number == 128:
        start = soups((1, 1, 128), density=0.97, seed=3)
    fine = ElementaryRule(number).run(start, steps)
    roll = net.rollout(fine[:2], steps, level=1)
    coarse = [((grid.h[0, 0, 0, :, 0] + 1) / 2).round(decimals=2).tolist() for grid in roll.grids]
    return [[state[0, 0, 0].tolist() for state in fine], coarse]


# -- many steps by coarse ones ---------------------------------------------------------------------
def learn_scales(seed: int = 0, epochs: int = 200) -> Net:
    """Blocks of 2 x 2 cells and 2 steps of the rule that only keeps cells alive among live ones."""
    torch.manual_seed(seed)
    blocks = Level(
        width=16, messages=4, space=(1, 2, 2), time=2, frames=1, lift_width=16, residual=False
    )
    net = signed([Level(width=16, messages=4), blocks])
    rule = CountRule.unanimous(2)
    run = Run(rule.run(soups((1, 32, 32), 32, density=(0.9, 1.0), seed=100 + seed), 4))
    fit_level(
        net,
        [run],
        1,
        options=TrainingOptions(
            epochs=epochs, learning_rate=1e-2, batch_size=1, patience=None, seed=seed
        ),
        schedule=LiftSchedule(steps=3 * epochs, noise=0.1, prediction=10.0, begin=0.02),
    )
    return net


def followed(net: Net, start: Tensor, steps: int = 64) -> tuple[list[float], list[Answer]]:
    """Part of the blocks that are right after every 8 steps by coarse ones, and some to show."""
    truth = CountRule.unanimous(2).run(start, steps + 1)
    roll = net.rollout(truth[:2], steps, level=1, record=4)
    right, shown = [], []
    with torch.no_grad():
        live = float(net.encode([torch.ones_like(start)] * 2, 1).h.mean().sign())
    for step, grid in zip(roll.steps, roll.grids, strict=True):
        with torch.no_grad():
            wanted = net.encode(truth[step : step + 2], 1).h > 0
        right.append(round(float(((grid.h > 0) == wanted).float().mean()), 5))
        if step in (0, 16, 32, 64):
            shown.append(
                {
                    "step": step,
                    "live": round(float(truth[step].float().mean()), 4),
                    "live blocks": round(float((wanted == (live > 0)).float().mean()), 4),
                    "cells": truth[step][0, 0].tolist(),
                    "blocks": ((live * grid.h[0, 0, ..., 0] + 1) / 2).round(decimals=2).tolist(),
                }
            )
    return right, shown


def scales(tries: int = 3) -> Answer:
    """64 steps by 32 coarse ones, against the rule; cost against the fine net of the same width.

    Of some trainings, the one that follows another box best is taken.
    """
    chosen = soups((1, 128, 128), density=0.9997, seed=9)
    best: tuple[float, Net] | None = None
    for seed in range(tries):
        net = learn_scales(seed)
        part = min(followed(net, chosen)[0])
        if best is None or part > best[0]:
            best = (part, net)
        if part >= 0.9995:
            break
    assert best is not None
    net = best[1]
    start = soups((1, 256, 256), density=0.9999, seed=5)
    right, shown = followed(net, start)
    seconds = []
    for level in (0, 1):
        began = time.process_time()
        net.rollout([start, start], 64, level=level, record=64)
        seconds.append(round(time.process_time() - began, 3))
    return {
        "right on average": sum(right) / len(right),
        "right": right,
        "right in the box they were chosen by": best[0],
        "CPU seconds, fine": seconds[0],
        "CPU seconds, coarse": seconds[1],
        "frames": shown,
    }


# -- pictures --------------------------------------------------------------------------------------
def draw(rows: list[list[tuple[str, Any]]], path: Path) -> None:
    """Images in rows."""
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
    frames = answers.get("scales", {}).get("frames")
    if frames:
        told = [
            [(f"{what}, step {frame['step']}", frame[what]) for frame in frames]
            for what in ("cells", "blocks")
        ]
        draw(told, out / "scales.png")


# -- all of it -------------------------------------------------------------------------------------
def kept(path: Path, do: Callable[[], Answer]) -> Answer:
    """What was done before, or is done now."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(do()))
    answer: Answer = json.loads(path.read_text())
    told = {k: v for k, v in answer.items() if k not in ("frames", "picture")}
    print(f"{path.stem}: " + ", ".join(f"{k} {v}" for k, v in told.items()), flush=True)
    return answer


def main(out: Path, quick: bool = False) -> dict[str, Answer]:
    """Everything, one file of answers for each part."""
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Answer]] = {}
    if not quick:
        parts["scales"] = scales
    for seed in range(1 if quick else 6):
        for number in (150,) if quick else (150, 90, 60, 128, 30, 110):
            parts[f"pairs_{number}_{seed}"] = lambda n=number, s=seed: reduction(n, s, quick)
        for name in ("4555",) if quick else ("4555", "5766") if seed < 5 else ():
            parts[f"rule_{name}_{seed}"] = lambda n=name, s=seed: exactness(n, s, quick)
    answers = {name: kept(out / f"{name}.json", do) for name, do in parts.items()}
    pictures(answers, out)
    return answers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one rule and one reduction")
    parser.add_argument("--out", type=Path, default=Path("out/automata"))
    told = parser.parse_args()
    main(told.out, told.quick)
