"""What the study is made of: parts that are done once each, in any order, by any process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from exact_blocks import majority, reduction, scales
from exact_rules import exactness
from life_things import clusters_of_life
from mlcore.io.atomic import write_text

Answer = dict[str, Any]
RULES = ("4555", "5766")
REDUCIBLE, IRREDUCIBLE = (150, 90, 60, 128), (30, 110)


def parts(quick: bool) -> dict[str, Callable[[], Answer]]:
    """By name, the longest first."""
    if quick:
        return {
            "rule_4555_0": partial(exactness, "4555", 0, True),
            "pairs_150_0": partial(reduction, 150, 0, True),
        }
    known: dict[str, Callable[[], Answer]] = {
        "scales_2": partial(scales, 2),
        "scales_3": partial(scales, 3),
        "majority": majority,
        "life": clusters_of_life,
    }
    for seed in range(5):
        known |= {f"rule_{name}_{seed}": partial(exactness, name, seed, False) for name in RULES}
    for seed in range(6):
        for number in REDUCIBLE + IRREDUCIBLE:
            known[f"pairs_{number}_{seed}"] = partial(reduction, number, seed, False)
    return known


def done(item: tuple[str, str, bool]) -> str:
    """Do a part, given its name, the folder and whether in small form, unless its file is there."""
    name, folder, quick = item
    path = Path(folder) / f"{name}.json"
    if not path.exists():
        torch.set_num_threads(1)
        cpu, wall = time.process_time(), time.monotonic()
        answer = parts(quick)[name]()
        answer["part CPU seconds"] = round(time.process_time() - cpu, 1)
        answer["part seconds"] = round(time.monotonic() - wall, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(answer))
    return name
