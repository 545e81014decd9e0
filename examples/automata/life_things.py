"""Things of Life, told apart by what vectors of a trained net do in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlcore.sagesnet import AutomatonCells, Grid, Level, LiftSchedule, Run, SagesNet
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import LIFE, placed, soups
from mlcore.sagesnet.patterns import adjusted_rand, cluster, components, features
from mlcore.training.options import TrainingOptions
from torch import Tensor

Net = SagesNet[Tensor]
Answer = dict[str, Any]

RULE = CountRule.of("B3/S23")
KINDS = ("empty", "still life", "oscillator", "spaceship")
SHOWN = ("block", "loaf", "blinker", "beacon", "glider", "lightweight spaceship")
BOX, COPIES, STEPS = 16, 6, 16


def learn_life(seed: int = 0) -> Net:
    """A net of cells, and of blocks of 2 x 2 of them and two steps."""
    torch.manual_seed(seed)
    levels = [Level(width=16, residual=False), Level(space=(1, 2, 2), time=2, frames=1)]
    net: Net = SagesNet(AutomatonCells(channels=16), levels)
    starts = soups((1, 24, 24), 32, density=(0.1, 0.6), seed=1)
    runs = [Run(RULE.run(start[None], 3)) for start in starts]
    options = TrainingOptions(epochs=45, batch_size=8, learning_rate=1e-2)
    net.fit(runs, levels=[0], options=options)
    lift = TrainingOptions(epochs=20, batch_size=8, learning_rate=5e-3, patience=None)
    net.fit(runs, levels=[1], options=lift, schedule=LiftSchedule(steps=160, noise=0.1))
    return net


def kinds_near(states: list[Tensor], kinds: np.ndarray, reach: int, space: int) -> np.ndarray:
    """Number of the kind within reach of each block of space^2 cells at any time; 0: nothing is."""
    live = torch.stack(states).amax(dim=0).float()
    blocks = torch.nn.functional.max_pool2d(live, space)
    for _ in range(reach):
        rolled = [blocks.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        blocks = torch.stack(rolled).amax(dim=0)
    return np.where(blocks.numpy() > 0, kinds[:, None, None, None], 0)


def named(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Clusters by the kind that most of each is of, for the eye alone."""
    kind = [np.bincount(truth[labels == k], minlength=len(KINDS)).argmax() for k in range(4)]
    return np.array(kind)[labels]


def clusters_of_life() -> Answer:
    """Every thing of Life some times, alone in a box: four clusters against the four kinds."""
    net = learn_life()
    things = [thing for thing in LIFE for _ in range(COPIES)]
    start = torch.cat([placed(thing, BOX, seed) for seed, thing in enumerate(things)])
    kinds = np.array([KINDS.index(thing.kind) for thing in things])
    states = net.rollout(start, STEPS).states
    first = [[thing.name for thing in things].index(name) for name in SHOWN]
    answer: Answer = {"wrong of rollout": int((states[-1] != RULE.run(start, STEPS)[-1]).sum())}
    shown = [{"cells": states[0][k, 0].tolist()} for k in first]
    for level, reach, count in ((0, 2, 9), (1, 1, STEPS)):
        window = _window(net, states, level, count)
        seen = features(window, reach=reach)
        found = cluster(seen, len(KINDS))
        truth = kinds_near(states[:count], kinds, reach, 1 + level)
        flat = truth.reshape(-1)
        answer[f"adjusted Rand, level {level}"] = adjusted_rand(found.labels, flat)
        explained = components(window[0].h, 3).explained
        answer[f"variance in 3 components, level {level}"] = float(explained.sum())
        told = named(found.labels, flat).reshape(truth.shape)
        for one, k in zip(shown, first, strict=True):
            one[f"kinds, level {level}"] = truth[k, 0].tolist()
            one[f"clusters, level {level}"] = told[k, 0].tolist()
    return answer | {"frames": shown, "names": list(SHOWN)}


def _window(net: Net, states: list[Tensor], level: int, count: int) -> list[Grid]:
    span = net.span(level)
    with torch.no_grad():
        return [net.encode(states[t : t + span], level) for t in range(count)]
