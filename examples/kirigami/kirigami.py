"""Which cuts let a sheet stretch furthest? A scalar head on a SAGESnet's coarse level, and a search.

python kirigami.py --data FOLDER [--quick] [--seeds 3] [--out FOLDER]

FOLDER holds the two files of the labelled set of MoS2 sheets (see README.md). Without --data a formula
of our own labels the patterns: the program runs, and says nothing about matter.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mlcore.sagesnet.kirigami.head import MANY, OPTIONS, Ensemble, fit_strain, scores
from mlcore.sagesnet.kirigami.labelled import read_labelled
from mlcore.sagesnet.kirigami.search import (
    History,
    SearchOptions,
    Surrogate,
    ensemble_surrogate,
    plot,
    search,
)
from mlcore.sagesnet.kirigami.sheet import KINDS, ROWS, all_patterns, canonical, coverage
from mlcore.training import TrainingOptions
from numpy.typing import NDArray

TEST_SEED = 0
"""Of the split; seeds of weights and of which labels are drawn are others."""


def formula(cuts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Labels where there are none: cuts that overlap those of the next row count most."""
    covered = coverage(cuts).astype(float)
    overlap = (covered * np.roll(covered, 1, axis=1)).mean(axis=(1, 2))
    noise = np.random.default_rng(0).normal(0, 0.3, len(cuts))
    return 5 + 25 * overlap + 10 * covered[:, :, :5].mean(axis=(1, 2)) ** 2 + noise


def split(cuts: NDArray[np.int64], by_sheet: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and a fifth to test on; by sheet: partners are never parted."""
    rng = np.random.default_rng(TEST_SEED)
    keys = canonical(cuts) if by_sheet else np.arange(len(cuts))
    sheets = np.unique(keys)
    test = np.isin(keys, rng.choice(sheets, round(len(sheets) / 5), replace=False))
    return np.flatnonzero(~test), np.flatnonzero(test)


def learn(
    cuts: NDArray[np.int64],
    strain: NDArray[np.float64],
    rows: NDArray[np.int64],
    test: NDArray[np.int64],
    options: TrainingOptions = OPTIONS,
    **settings: int,
) -> dict[str, float]:
    """Train on some rows; errors on the test rows, which nothing was chosen by."""
    epochs = settings.pop("epochs")
    start = time.process_time()
    options = dataclasses.replace(options, epochs=epochs)
    made: Ensemble = fit_strain(cuts[rows], strain[rows], options=options, **settings)
    seconds = time.process_time() - start
    found = scores(made.predict(cuts[test])[0], strain[test])
    told = settings | {"labels": len(rows), "epochs": epochs}
    return told | {"rmse": found.rmse, "r2": found.r2, "cpu_seconds": seconds}


def contest(
    cuts: NDArray[np.int64],
    strain: NDArray[np.float64],
    out: Path,
    seeds: int,
    members: int,
    epochs: int,
    options: SearchOptions,
) -> dict[str, list[History]]:
    """The search by an ensemble and by chance, from several starts."""
    digits = KINDS ** np.arange(ROWS - 1, -1, -1)

    def by_chance(
        known: object, labels: object, asked: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.random.default_rng(seed).random(len(asked)), np.zeros(len(asked))

    training = dataclasses.replace(OPTIONS, epochs=epochs)
    heads = ensemble_surrogate(members, training, folder=out / "ensembles")
    ways: dict[str, Surrogate] = {"ensemble": heads, "chance": by_chance}
    found: dict[str, list[History]] = {}
    for name, surrogate in ways.items():
        for seed in range(seeds):
            start = time.process_time()
            run = search(
                cuts,
                lambda asked: strain[asked @ digits],
                out / f"{name}_{seed}",
                options=dataclasses.replace(options, seed=seed),
                surrogate=surrogate,
            )
            found.setdefault(name, []).append(run)
            print(
                f"search by {name}, seed {seed}: best {run.best()[-1]:.2f} %,"
                f" {run.found(strain)[-1]} of the top 100,"
                f" {time.process_time() - start:.0f} CPU s",
                flush=True,
            )
    return found


def summary(results: Sequence[Mapping[str, float | str]]) -> str:
    """Mean, and lowest to highest, over the seeds: a line for each split or search and its labels."""
    groups: dict[tuple[str, float], list[Mapping[str, float | str]]] = {}
    for one in results:
        groups.setdefault((str(one["split"]), float(one["labels"])), []).append(one)
    lines = []
    for (split, labels), runs in groups.items():
        told = [f"{split}, {labels:.0f} labels, {len(runs)} seeds"]
        for name in ("rmse", "r2", "best", "found", "cpu_seconds"):
            values = [float(run[name]) for run in runs if name in run]
            if values:
                told.append(
                    f"{name} {np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
                )
        lines.append(", ".join(told))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the labelled set")
    parser.add_argument("--quick", action="store_true", help="small trainings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.data is None:
        print("no --data: labels are a formula's, not those of sheets")
        cuts, strain = all_patterns(), formula(all_patterns())
    else:
        read = read_labelled(given.data)
        cuts, strain = read.cuts, read.strain
    seeds = 1 if given.quick else given.seeds

    results: list[dict[str, float | str]] = []
    for by_sheet in (False, True):
        train, test = split(cuts, by_sheet)
        kind = "sheets" if by_sheet else "rows"
        for seed in range(seeds):
            some = np.random.default_rng([seed, 1]).choice(train, 1000, replace=False)
            few = {"members": 1, "epochs": 5} if given.quick else {"members": 4, "epochs": 30}
            runs = [learn(cuts, strain, some, test, seed=seed, **few)]
            if not given.quick:
                runs.append(learn(cuts, strain, train, test, MANY, seed=seed, members=1, epochs=40))
            for run in runs:
                print(
                    f"test {kind}: {run['labels']} labels, seed {seed}: RMSE {run['rmse']:.3f} %,"
                    f" R2 {run['r2']:.3f}, {run['cpu_seconds']:.0f} CPU s",
                    flush=True,
                )
                results.append({"split": kind} | run)
    settings = SearchOptions(rounds=3, per_round=50) if given.quick else SearchOptions()
    members, epochs = (1, 5) if given.quick else (3, 20)
    found = contest(cuts, strain, given.out, seeds, members, epochs, settings)
    plot(found, strain, given.out / "kirigami.png")
    for name, runs in found.items():
        for seed, run in enumerate(runs):
            ends = {"best": float(run.best()[-1]), "found": float(run.found(strain)[-1])}
            results.append(
                {"split": f"search by {name}", "labels": len(run.chosen), "seed": seed} | ends
            )
    print(summary(results))
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
