"""Pulls cut sheets of graphene apart and keeps their frames and labels.

python generate.py [--quick | --full] [--folder FOLDER] [--count N] [--minutes M]
                   [--patterns P ... [--seed N]] [--lj] [--rate R] [--least S]
python generate.py --rest [--quick] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from mlcore.sagesnet.carbon import (
    PAPER,
    REDUCED,
    TINY,
    Dataset,
    Pull,
    Sample,
    first_peak,
    random_patterns,
    seed_noise,
)

QUICK = [("101", 1), ("101", 2)]
# three patterns of different kinds come first, a tenth of all is pulled again with other velocities
KNOWN = ["101101011010110", "111110000111111", "101010101010101"]
# a strain of 3e-4 in 3 ps is rest, and a damping of a microsecond no thermostat
STILL = Pull(rate=1e-4, until=3e-4, drop=1, damping=1e6)
RESTS = {
    "4": (STILL, ["111"], 4),
    "300": (replace(STILL, temperature=300.0), ["111"], 6),
    "600": (replace(STILL, temperature=600.0), ["111", "101", "011"], 2),
    "pulled": (
        Pull(rate=0.1, until=0.3, drop=1, damping=1e6, temperature=300.0),
        ["111", "101", "011"],
        2,
    ),
}
"""Small sheets beside a set: settings, patterns, and how many seeds of each."""


def runs(count: int) -> list[tuple[str, int]]:
    """(pattern, seed) of so many runs; a longer list begins with the shorter one."""
    drawn = random_patterns(min(count + len(KNOWN), 29791), 7)
    patterns = itertools.chain(KNOWN, (p for p in drawn if p not in KNOWN))
    found = []
    for k, pattern in enumerate(itertools.islice(patterns, count)):
        found += [(pattern, 1), (pattern, 2)] if k % 10 == 0 else [(pattern, 1)]
    return found[:count]


def rest(folder: Path, quick: bool = False) -> list[Dataset]:
    """Uncut sheets at rest, 4.2 K and 300 K; hotter and cut ones, and some that are pulled, to
    learn from. A folder for each, FOLDER-rest-4 and so on."""
    made = []
    for name in ("4", "300") if quick else RESTS:
        pull, patterns, seeds = RESTS[name]
        if quick:
            pull, seeds = replace(pull, until=3e-5, rest=0.3), 2
        made.append(Dataset(folder.with_name(f"{folder.name}-rest-{name}"), pull, TINY))
        report = made[-1].generate(patterns, range(1, seeds + 1))
        for run, problem in report.failed.items():
            print(f"{name} {run:20} failed: {problem}", flush=True)
    return made


def line(sample: Sample) -> str:
    """What is told of a run."""
    label, peak = sample.label, first_peak(sample.curve[:, 1], sample.curve[:, 2])
    return (
        f"{sample.name:20} {len(sample.start):6} {len(sample):6} {label.strain:7.3f} "
        f"{label.stress:6.1f} {peak.strain:7.3f} {sample.record['cpu_seconds']:8.1f} "
        f"{sample.record['bytes'] / 1e6:7.1f}"
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--quick", action="store_true", help="a tiny sheet, twice, pulled fast")
    words.add_argument("--full", action="store_true", help="sheets of 34 x 80 cells, with LJ")
    words.add_argument("--rest", action="store_true", help="small sheets at rest beside FOLDER")
    words.add_argument("--folder", type=Path, default=Path("graphene"))
    words.add_argument("--count", type=int, default=40)
    words.add_argument("--patterns", nargs="+", metavar="P", help="these and no others, each once")
    words.add_argument("--seed", type=int, default=1, help="of those patterns")
    words.add_argument("--lj", action="store_true", help="with LJ, in a folder of its own")
    words.add_argument("--rate", type=float, help="of strain, per ps, in a folder of its own")
    words.add_argument("--least", type=float, help="GPa before a fall counts, likewise")
    words.add_argument("--minutes", type=float, default=np.inf, help="begin no run after these")
    given = words.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends LAMMPS and its files too
    if given.rest:
        for data in rest(given.folder, given.quick):
            cost = sum(sample.record["cpu_seconds"] for sample in data)
            print(f"{data.folder}: {len(data)} runs, {data.pull.temperature:g} K, {cost:.0f} CPU s")
        return
    design, pull = REDUCED, Pull()
    if given.quick:
        design, pull = TINY, Pull(rate=0.1, until=0.5, rest=0.2)
    if given.full:
        design, pull = PAPER, Pull(rate=0.01, rest=50.0, lj=True)
    asked = {"rate": given.rate, "least": given.least, "lj": given.lj or None}
    pull = replace(pull, **{name: value for name, value in asked.items() if value is not None})
    wanted = QUICK if given.quick else runs(given.count)
    if given.patterns:
        wanted = [(pattern, given.seed) for pattern in given.patterns]
    data = Dataset(given.folder, pull, design)
    end = time.monotonic() + 60 * given.minutes
    print(
        f"{'run':20} {'atoms':>6} {'frames':>6} {'strain':>7} {'GPa':>6} {'first':>7} {'CPU s':>8}      MB"
    )
    for pattern, seed in wanted:
        if time.monotonic() > end:
            break
        report = data.generate([pattern], [seed], timeout=8 * 3600.0)
        for name in report.made + report.found:
            print(line(data[name]), flush=True)
        for name, problem in report.failed.items():
            print(f"{name:20} failed: {problem}", flush=True)
    strains = [sample.label.strain for sample in data]
    noise, free = seed_noise((sample.pattern, sample.label.strain) for sample in data)
    print(
        f"{len(data)} runs, yield strain {np.mean(strains):.3f} +- {np.std(strains):.3f}, "
        f"noise of seeds {noise:.3f} ({free} pairs)"
    )


if __name__ == "__main__":
    main()
