"""Rules of single cells, learned exactly; judged where the nets were not trained."""

from __future__ import annotations

import time
from typing import Any

import torch
from mlcore.sagesnet import AutomatonCells, Level, Run, SagesNet
from mlcore.sagesnet.automata.rules import CountRule, Rule
from mlcore.sagesnet.automata.soups import probe, soups
from mlcore.training.options import TrainingOptions
from torch import Tensor

Net = SagesNet[Tensor]
Answer = dict[str, Any]
Box = tuple[int, int, int]

OTHERS: dict[Box, tuple[Any, ...]] = {
    (16, 16, 16): (2, (2, 1, 2)),
    (17, 23, 40): (3, ([9, 8], [1, 22], [13, 27])),
    (64, 64, 64): (4, (2, 2, 2)),
}
"""Boxes of other extents than those of the training, and the tiles each is cut into."""
SMALL: dict[Box, tuple[Any, ...]] = {(17, 9, 20): (2, ([16, 1], [4, 5], 1))}


def learn_rule(rule: Rule, seed: int, epochs: int = 25) -> Net:
    """A net trained on one and two steps of small soups."""
    torch.manual_seed(seed)
    net: Net = SagesNet(AutomatonCells(2, 8), [Level(width=16, messages=1, residual=False)])
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
    """Train, then count wrong cells."""
    rule = CountRule.of(name)
    began = time.process_time()
    net = learn_rule(rule, seed)
    seconds = time.process_time() - began
    fresh = soups((24, 24, 24), 2 if quick else 6, density=(0.1, 0.9), seed=seed)
    answer: Answer = {
        "CPU seconds of training": round(seconds, 1),
        "wrong of probe": probe_wrong(net, rule),
        "wrong of soups": wrong(net, rule, fresh) + wrong(net, rule, rule.step(fresh)),
    }
    if seed == 0:
        answer |= far(net, rule, 8 if quick else 32, 20 if quick else 200)
        answer |= elsewhere(net, rule, SMALL if quick else OTHERS)
    return answer


def far(net: Net, rule: Rule, box: int, steps: int) -> Answer:
    """Many steps of three boxes; what is wrong after each is summed."""
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
    return {"wrong far": bad, "far": f"{steps} steps of 3 boxes of {box}^3", "frames": shown}


def elsewhere(net: Net, rule: Rule, boxes: dict[Box, tuple[Any, ...]], steps: int = 4) -> Answer:
    """The same weights on other boxes, whole and in tiles."""
    whole, parted = {}, {}
    for box, cuts in boxes.items():
        name = "x".join(map(str, box))
        start = soups(box, density=0.25, seed=6)
        truth = rule.run(start, steps)[-1]
        whole[name] = int((net.rollout(start, steps).states[-1] != truth).sum())
        runs = [net.tile(cut).rollout(start, steps, record=steps) for cut in cuts]
        parted[name] = sum(int((run.states[-1] != truth).sum()) for run in runs)
    return {"wrong elsewhere": whole, "wrong in tiles": parted}
