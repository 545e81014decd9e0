"""Search for the sheet that stretches furthest, with few labels: rounds of choosing and labelling.

DIR/search.json      pool and settings, which a search that goes on must share
DIR/round_001.json   what was chosen and its labels; written once a round's labels are all known
DIR/ensembles        what chose, where no other surrogate is given: a stopped round trains no second time

The first round is drawn by chance. Each later one trains an ensemble on all labels so far and takes
the patterns of the highest mean + boldness * spread; partners, which the ensemble cannot tell
apart, are taken a few at a time, so that a round asks about many sheets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.io.atomic import atomic_path, write_text
from mlcore.io.tensors import parse_json, read_bytes
from mlcore.sagesnet.kirigami.sheet import canonical, checked_cuts
from mlcore.training.options import TrainingOptions, checked_seed

__all__ = ["History", "SearchOptions", "Surrogate", "ensemble_surrogate", "plot", "search"]

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]
Label = Callable[[Rows], ArrayLike]
"""(n, 4) patterns -> (n,) their strains."""
Surrogate = Callable[[Rows, Numbers, Rows, int], tuple[ArrayLike, ArrayLike]]
"""Patterns, their labels, patterns without labels, seed -> mean and spread for the latter."""

_LIMIT = 1 << 26


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search.

    Args:
        rounds: how many, the first one by chance included.
        per_round: labels in each.
        boldness: how much spread counts in the second round; it falls to 0 in the last.
        per_sheet: most patterns that are partners of each other in a round; in the last: all.
        seed: of the first round and of trainings.

    Raises:
        InvalidArgument: naming the setting.
    """

    rounds: int = 10
    per_round: int = 100
    boldness: float = 1.0
    per_sheet: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "per_round", "per_sheet"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgument(f"{name} must be a whole number from 1 on, got {value!r}")
        if not 0 <= self.boldness < float("inf"):
            raise InvalidArgument(f"boldness must not be negative, got {self.boldness!r}")
        checked_seed(self.seed)


@dataclass(frozen=True)
class History:
    """What was labelled, in order.

    Attributes:
        chosen: (n,) places in the pool.
        strain: (n,) their labels.
        per_round: labels of a round.
    """

    chosen: Rows
    strain: Numbers
    per_round: int

    def best(self) -> Numbers:
        """(n,) highest strain among the first 1, 2, .. labels."""
        return np.maximum.accumulate(self.strain)

    def found(self, truth: ArrayLike, top: int = 100) -> Rows:
        """(n,) how many of the pool's true ``top`` are among the first 1, 2, .. labels.

        Args:
            truth: labels of the whole pool, which a search does not see.
        """
        highest = np.argsort(-np.asarray(truth, dtype=float), kind="stable")[:top]
        return np.cumsum(np.isin(self.chosen, highest)).astype(np.int64)


def ensemble_surrogate(
    members: int = 3,
    options: TrainingOptions | None = None,
    head: dict[str, int] | None = None,
    folder: str | Path | None = None,
) -> Surrogate:
    """`fit_strain` as a search's surrogate.

    Args:
        members, options, head: see `fit_strain`.
        folder: where ensembles are kept, one for each seed. What is there of the same labels and
            settings is not trained again; else it is replaced. None: none are kept.
    """
    from mlcore.sagesnet.kirigami.head import OPTIONS, Ensemble, fit_strain
    from mlcore.sagesnet.kirigami.saved import training_of

    def surrogate(cuts: Rows, strain: Numbers, asked: Rows, seed: int) -> tuple[Numbers, Numbers]:
        labels = hashlib.sha256(cuts.tobytes() + strain.tobytes()).hexdigest()
        told = {"labels": labels, "members": members, "head": head or {}, "seed": seed}
        told |= {"options": (options or OPTIONS).identity()}
        place = None if folder is None else Path(folder) / f"ensemble_{seed}"
        if place is not None and place.exists() and training_of(place) == told:
            return Ensemble.load(place).predict(asked)
        made = fit_strain(cuts, strain, members=members, options=options, head=head, seed=seed)
        if place is not None:
            _make(place.parent)
            made.save(place, training=told)
        return made.predict(asked)

    return surrogate


def search(
    pool: ArrayLike,
    label: Label,
    folder: str | Path | None = None,
    *,
    options: SearchOptions | None = None,
    surrogate: Surrogate | None = None,
    watch: Callable[[int, History], None] | None = None,
) -> History:
    """Label the pool's most promising patterns, round by round.

    Args:
        pool: (n, 4) patterns.
        label: the expensive calculation, or what stands for it.
        folder: of the history; rounds that are there already are not repeated. None: none is kept.
        options: settings.
        surrogate: None: `ensemble_surrogate`, kept in the folder.
        watch: told the number of each new round and the history so far.

    Raises:
        InvalidArgument: the pool is too small, or labels are no finite numbers.
        Error: the folder is of another search.
        FileFormatError: a damaged file in it.
    """
    options = options or SearchOptions()
    patterns = checked_cuts(pool)
    if len(patterns) < options.rounds * options.per_round:
        raise InvalidArgument(
            f"pool has {len(patterns)} patterns, fewer than {options.rounds} rounds of"
            f" {options.per_round}"
        )
    place = None if folder is None else Path(folder)
    if place is not None:
        _claim(place, patterns, options)
    ask = surrogate or ensemble_surrogate(folder=place and place / "ensembles")
    chosen = np.zeros(0, dtype=np.int64)
    strain = np.zeros(0)
    for number in range(1, options.rounds + 1):
        known = None if place is None else _read_round(place, number, chosen, patterns, options)
        if known is None:
            new = _choose(patterns, chosen, strain, number, options, ask)
            known = new, _labels(label, patterns[new])
            if place is not None:
                _write_round(place, number, *known)
        chosen, strain = np.append(chosen, known[0]), np.append(strain, known[1])
        if watch is not None:
            watch(number, History(chosen, strain, options.per_round))
    return History(chosen, strain, options.per_round)


def plot(
    histories: dict[str, Sequence[History]], truth: ArrayLike, path: str | Path, top: int = 100
) -> None:
    """Best found, and part of the true best found, against labels; a line for each search.

    Args:
        histories: searches of the same pool by the name of their way of choosing.
        truth: labels of the whole pool.
        path: PNG, SVG or PDF.
        top: how many count as the best.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for number, (name, runs) in enumerate(histories.items()):
        for run in runs:
            used = np.arange(1, len(run.chosen) + 1)
            own = {"color": f"C{number}", "label": name if run is runs[0] else None}
            left.plot(used, run.best(), **own)
            right.plot(used, run.found(truth, top), **own)
    left.axhline(float(np.max(np.asarray(truth))), color="grey", linestyle=":")
    left.set_ylabel("highest strain found, %")
    right.set_ylabel(f"found of the true top {top}")
    for axes in (left, right):
        axes.set_xlabel("labels")
        axes.grid(alpha=0.3)
    right.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _choose(
    pool: Rows,
    chosen: Rows,
    strain: Numbers,
    number: int,
    options: SearchOptions,
    ask: Surrogate,
) -> Rows:
    """Places in the pool of the patterns to label next."""
    free = np.setdiff1d(np.arange(len(pool)), chosen)
    rng = np.random.default_rng([options.seed, number])
    if number == 1:
        return rng.choice(free, options.per_round, replace=False)
    seed = 1000 * options.seed + number
    mean, spread = (np.asarray(x) for x in ask(pool[chosen], strain, pool[free], seed))
    last = number == options.rounds
    bold = options.boldness * (options.rounds - number) / max(options.rounds - 2, 1)
    order = free[np.argsort(-(mean + bold * spread), kind="stable")]
    most = len(pool) if last else options.per_sheet
    return _spaced(order, canonical(pool[order]), options.per_round, most)


def _spaced(order: Rows, sheets: Rows, wanted: int, most: int) -> Rows:
    """The first of an order, no more than so many of a sheet, unless too few are left."""
    rank = np.zeros(len(order), dtype=np.int64)
    by_sheet = np.argsort(sheets, kind="stable")
    begins = np.flatnonzero(np.diff(sheets[by_sheet], prepend=-1))
    sizes = np.diff(np.append(begins, len(order)))
    rank[by_sheet] = np.arange(len(order)) - np.repeat(begins, sizes)
    first = np.flatnonzero(rank < most)[:wanted]
    rest = np.setdiff1d(np.arange(len(order)), first)[: wanted - len(first)]
    return order[np.append(first, rest)]


def _labels(label: Label, cuts: Rows) -> Numbers:
    given = np.asarray(label(cuts), dtype=np.float64)
    if given.shape != (len(cuts),) or not np.isfinite(given).all():
        raise InvalidArgument(f"label must give ({len(cuts)},) finite numbers, got {given.shape}")
    return given


def _claim(folder: Path, pool: Rows, options: SearchOptions) -> None:
    """Make the folder of a new search, or see that it is of this one."""
    told = {"pool": hashlib.sha256(pool.tobytes()).hexdigest(), "options": asdict(options)}
    path = folder / "search.json"
    if path.exists():
        if parse_json(read_bytes(path, _LIMIT, "search"), str(path)) != told:
            raise Error(f"{path}: of another pool or other settings; choose another folder")
        return
    _make(folder)
    write_text(path, json.dumps(told, indent=1) + "\n")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Error(f"folder {folder}: cannot be made: {error.strerror}") from error


def _round_path(folder: Path, number: int) -> Path:
    return folder / f"round_{number:03d}.json"


def _write_round(folder: Path, number: int, chosen: Rows, strain: Numbers) -> None:
    told = {"chosen": chosen.tolist(), "strain": strain.tolist()}
    write_text(_round_path(folder, number), json.dumps(told) + "\n")


def _read_round(
    folder: Path, number: int, before: Rows, pool: Rows, options: SearchOptions
) -> tuple[Rows, Numbers] | None:
    path = _round_path(folder, number)
    if not path.exists():
        return None
    told: Any = parse_json(read_bytes(path, _LIMIT, "round"), str(path))
    try:
        chosen = np.array(told["chosen"], dtype=np.int64)
        strain = np.array(told["strain"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a round of a search: {error!r}") from error
    n = options.per_round
    if chosen.shape != (n,) or strain.shape != (n,) or not np.isfinite(strain).all():
        raise FileFormatError(f"{path}: must hold {n} places and {n} finite strains")
    every = np.append(before, chosen)
    if len(np.unique(every)) != len(every) or not ((every >= 0) & (every < len(pool))).all():
        raise FileFormatError(f"{path}: places must be in the pool and chosen once")
    return chosen, strain
