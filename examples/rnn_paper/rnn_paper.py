"""All experiments of arXiv:2004.06493, made again: recurrent networks as integrators of large steps.

python rnn_paper.py [--quick | --full] [--out FOLDER] [--only NAME]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import one_dimension
import page
import particles
from settings import FULL, QUICK, TINY, Work

Experiment = Callable[[Work], Mapping[str, Any]]


def _line(name: str) -> Experiment:
    return lambda work: one_dimension.experiment(name, work)


def _cluster(n: int, place: str) -> Experiment:
    return lambda work: particles.experiment(n, place, work)


EXPERIMENTS: dict[str, Experiment] = {
    **{name: _line(name) for name in one_dimension.CASES},
    "perturbation": one_dimension.perturbation,
    **{f"{n}_{place}": _cluster(n, place) for place in ("box", "sphere") for n in (3, 8, 16)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_true", help="ten minutes (default)")
    form.add_argument("--full", action="store_true", help="the paper's sizes: about six hours")
    form.add_argument("--tiny", action="store_true", help="seconds: whether it runs at all")
    parser.add_argument("--out", type=Path, help="folder; default out/rnn_paper/FORM")
    parser.add_argument(
        "--only", action="append", choices=EXPERIMENTS, help="an experiment; may be repeated"
    )
    given = parser.parse_args()
    size = FULL if given.full else TINY if given.tiny else QUICK
    work = Work((given.out or Path("out/rnn_paper") / size.name).resolve(), size)
    names = given.only or list(EXPERIMENTS)
    for place, name in enumerate(names, 1):
        done = (work.folder / "results" / f"{name}.json").exists()
        work.tell(f"[{place}/{len(names)}] {name}{': done before' if done else ''}")
        work.result(name, lambda name=name: EXPERIMENTS[name](work))  # type: ignore[misc]
    print(page.write(work, page.results(work, list(EXPERIMENTS))), end="")
    work.tell(f"the page is {work.folder / 'rnn_paper.html'}")


if __name__ == "__main__":
    main()
