"""Which cuts let a sheet of graphene stretch furthest? Sheets pulled by a net, the best by AIREBO.

python search.py --net FOLDER --data FOLDER --out FOLDER [--rounds R] [--round N] [--check K]
                 [--control C] [--target STRAIN] [--until STRAIN] [--seed S] [--workers W]
python search.py --quick --out FOLDER

FOLDER of --data is what generate.py made: its settings are those of the pulls, and sheets it holds are
not pulled by AIREBO again. --target looks for a sheet that yields at a strain instead of the furthest.
What is done is not done again: give the same line again after a stop, or with more rounds.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import cached_property  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import search_pictures as pictures  # noqa: E402
import torch  # noqa: E402
from forces import match  # noqa: E402
from frames import grid_of, pairs_of  # noqa: E402
from judge import checked, judge, judged  # noqa: E402
from mlcore import parallel  # noqa: E402
from mlcore.errors import Error, InvalidArgument  # noqa: E402
from mlcore.io import write_text  # noqa: E402
from mlcore.sagesnet import AtomCells, AtomState, Level, SagesNet, Scales  # noqa: E402
from mlcore.sagesnet.carbon import Dataset, Design, Pull, Sample  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402
from searcher import Told, by_chance, candidates, gain, proposed, told_of, twins  # noqa: E402
from settings import DT  # noqa: E402

Answer = dict[str, Any]
SMALL = Design(grid=(2, 3), cells=(4, 2), grip=1, cut=1)
"""Of the quick form: 240 atoms before cuts, 49 patterns."""


@dataclass(frozen=True)
class Options:
    """Of a search.

    Attributes:
        rounds: of proposing and pulling, the first one by chance.
        size: sheets pulled by the net in a round.
        check: of the best, how many AIREBO pulls.
        control: of the first round, how many it pulls beside them.
        target: strain to yield at; None: the greatest.
        seed: of all that is drawn.
        workers: processes.
    """

    rounds: int = 5
    size: int = 10
    check: int = 6
    control: int = 4
    target: float | None = None
    seed: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("rounds", "size", "check", "workers"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.control < 0 or self.seed < 0:
            raise InvalidArgument("control and seed must not be negative")
        if self.target is not None and not 0 < self.target < np.inf:
            raise InvalidArgument(f"target must be a strain above 0, got {self.target}")

    @property
    def fixed(self) -> Answer:
        """What a search that goes on must have been begun with."""
        return {"round": self.size, "target": self.target, "seed": self.seed}


@dataclass
class Search:
    """Rounds of patterns, each pulled by the net; the best and some others by AIREBO too.

    OUT/search.json           net, pull and design
    OUT/judged/<pattern>.json what the net found; .npz: its atoms at the yield
    OUT/checked/              a data set of the sheets that AIREBO has pulled
    OUT/furthest/             or target-0.25/, searches that share all that:
        search.json           what it was begun with
        round-01.json         patterns of a round
        results.json          the outcome

    Attributes:
        net: folder of a trained net.
        known: sheets pulled by AIREBO before, which none of this changes.
        pull, design: of all sheets.
        out: folder of all that is made.
        options: see there.
        console: of what is told.
    """

    net: Path
    known: Dataset
    pull: Pull
    design: Design
    out: Path
    options: Options
    console: Console = dataclasses.field(default_factory=Console)

    def __post_init__(self) -> None:
        made = {"net": _weights(self.net), "pull": self.pull.record()}
        _claim(self.out, made | {"design": dataclasses.asdict(self.design)})
        _claim(self.place, self.options.fixed)

    @property
    def place(self) -> Path:
        """Folder of what is looked for."""
        target = self.options.target
        return self.out / ("furthest" if target is None else f"target-{target:g}")

    @cached_property
    def told(self) -> Told:
        """Numbers of all patterns."""
        return told_of(candidates(self.design), self.design)

    @cached_property
    def checks(self) -> Dataset:
        """Sheets that AIREBO has pulled here."""
        return Dataset(self.out / "checked", self.pull, self.design)

    def run(self) -> Answer:
        """All rounds, all checks, and what came out."""
        engine = "processes" if self.options.workers > 1 else "serial"
        with parallel.engine(engine, workers=self.options.workers) as workers:
            rounds = self._rounds(workers)
            winners, controls = self.chosen(rounds)
            self._check(workers, winners + controls)
        return self.outcome(rounds, winners, controls)

    # -- rounds ------------------------------------------------------------------------------------
    def patterns(self, number: int, known: dict[str, float]) -> list[str]:
        """Of a round, proposed before or now."""
        path = self.place / f"round-{number:02d}.json"
        if not path.is_file():
            options, rng = self.options, np.random.default_rng([self.options.seed, number])
            if number == 1:
                size = min(options.size, len(self.told.patterns) - 1)
                found = by_chance(self.design, size, rng)
            else:
                # doubts count in full in the second round, not at all in the last
                bold = (options.rounds - number) / max(options.rounds - 2, 1)
                found = proposed(self.told, known, options.size, rng, bold, options.target)
            write_text(path, json.dumps(found) + "\n")
        patterns: list[str] = json.loads(path.read_text())
        return patterns

    def _rounds(self, workers: parallel.Engine) -> list[list[Answer]]:
        made = (
            judge,
            (
                str(self.net.resolve()),
                self.pull.record(),
                dataclasses.asdict(self.design),
                str(self.out.resolve() / "judged"),
            ),
        )
        rounds: list[list[Answer]] = []
        known: dict[str, float] = {}
        with _bar(self.console) as bar:
            task = bar.add_task("pulled by the net", total=self.options.rounds * self.options.size)
            for number in range(1, self.options.rounds + 1):
                names = self.patterns(number, known)
                found: list[Answer] = []
                for name, result in zip(
                    names, workers.map(judged, names, chunk=1, prepared=made), strict=True
                ):
                    if result.error is not None:
                        raise Error(f"{name}: {result.error}\n{result.error.traceback}")
                    found.append(result.value)
                    known[name] = result.value["strain"]
                    bar.console.print(_line(number, result.value), highlight=False, soft_wrap=True)
                    bar.update(task, advance=1)
                rounds.append(found)
        return rounds

    # -- checks ------------------------------------------------------------------------------------
    def chosen(self, rounds: Sequence[Sequence[Answer]]) -> tuple[list[str], list[str]]:
        """Patterns of the best, and of some others of the first round, which was drawn by chance."""
        every = [one for found in rounds for one in found]
        worth = [float(gain(one["strain"], self.options.target)) for one in every]
        order = np.argsort(-np.array(worth), kind="stable")
        winners = [every[k]["pattern"] for k in order[: self.options.check]]
        others = [one["pattern"] for one in rounds[0] if one["pattern"] not in winners]
        return winners, others[: self.options.control]

    def label(self, pattern: str) -> tuple[Sample, bool] | None:
        """AIREBO's run of a pattern or of its mirror image, and whether it was made before."""
        for data in (self.known, self.checks):
            for one in twins(pattern, self.design.grid):
                if f"{one}-1" in data.names():
                    sample = data[f"{one}-1"]
                    # one that had not yielded where it ended says nothing of a longer pull
                    if sample.label.fallen or data.pull.until >= self.pull.until:
                        return sample, data is self.known
        return None

    def _check(self, workers: parallel.Engine, patterns: Sequence[str]) -> None:
        missing = [p for p in patterns if self.label(p) is None]
        items = [(str(self.checks.folder.resolve()), p) for p in missing]
        with _bar(self.console) as bar:
            task = bar.add_task("pulled by AIREBO", total=len(patterns))
            bar.update(task, completed=len(patterns) - len(missing))
            for name, result in zip(missing, workers.map(checked, items, chunk=1), strict=True):
                if result.error is not None:
                    raise Error(f"{name}: {result.error}")
                strain = self.checks[result.value["run"]].label.strain
                bar.console.print(f"AIREBO  {name}  {strain:.3f}", highlight=False)
                bar.update(task, advance=1)

    # -- what came out -----------------------------------------------------------------------------
    def outcome(
        self,
        rounds: Sequence[Sequence[Answer]],
        winners: Sequence[str],
        controls: Sequence[str],
    ) -> Answer:
        """Numbers, pictures and the table."""
        every = {
            one["pattern"]: one | {"round": number}
            for number, found in enumerate(rounds, 1)
            for one in found
        }
        rows = [
            self._row(every[name], kind)
            for kind, names in (("best", winners), ("by chance", controls))
            for name in names
        ]
        target = self.options.target
        best = max(rows[: len(winners)], key=lambda row: float(gain(row["checked"], target)))
        true = [row["checked"] for row in rows]
        found: Answer = {
            "target": target,
            "until": self.pull.until,
            "sheets": len(every),
            "of": len(self.told.patterns),
            "ended": sum(one["ended"] not in ("yield", "strain") for one in every.values()),
            "rows": rows,
            "best": {name: best[name] for name in ("pattern", "predicted", "checked")},
            **self._known(),
            "rank_correlation": _ranks([(row["predicted"], row["checked"]) for row in rows]),
            "winners": float(np.mean(true[: len(winners)])),
            "chance": float(np.mean(true[len(winners) :])) if controls else None,
            "cpu_seconds": self._cost(list(every.values()), rows),
            "judged": [
                {"pattern": one["pattern"], "round": one["round"], "strain": one["strain"]}
                for one in every.values()
            ],
        }
        write_text(self.place / "results.json", json.dumps(found, indent=1) + "\n")
        pictures.progress(found, self.place / "search.png")
        pictures.parity(rows, self.place / "checked.png")
        self._sheets(best["pattern"])
        self.console.print(table(found))
        self.console.print(summary(found), highlight=False, soft_wrap=True)
        return found

    def _row(self, one: Answer, kind: str) -> Answer:
        held = self.label(one["pattern"])
        assert held is not None
        sample, before = held
        return {
            "kind": kind,
            "pattern": one["pattern"],
            "run": f"{sample.file.parent.name}/{sample.name}",
            "before": before,
            "round": one["round"],
            "predicted": one["strain"],
            "checked": sample.label.strain,
            "fallen": sample.label.fallen,
            "net_seconds": one["cpu_seconds"],
            "relax_seconds": one["relax_seconds"],
            "airebo_seconds": float(sample.record["cpu_seconds"]),
        }

    def _known(self) -> Answer:
        """The best of the sheets that the net has learned from, and of the data set."""
        training = json.loads((self.net / "manifest.json").read_text()).get("training", {})
        learned = set(training.get("sheets", []))

        def best(samples: Sequence[Sample]) -> Answer | None:
            worth = [float(gain(s.label.strain, self.options.target)) for s in samples]
            if not worth:
                return None
            sample = samples[int(np.argmax(worth))]
            return {"pattern": sample.pattern, "strain": sample.label.strain}

        every = list(self.known)
        return {
            "best_learned": best([s for s in every if s.pattern in learned]),
            "best_known": best(every),
            "known": len({s.pattern for s in every}),
        }

    def _cost(self, every: Sequence[Answer], rows: Sequence[Answer]) -> Answer:
        net = sum(one["cpu_seconds"] for one in every)
        relaxed = sum(one["relax_seconds"] for one in every)
        mine = sum(row["net_seconds"] + row["relax_seconds"] for row in rows)
        theirs = sum(row["airebo_seconds"] for row in rows)
        checks = sum(row["airebo_seconds"] for row in rows if not row["before"])
        return {
            "net": net,
            "relaxing": relaxed,
            "checks": checks,
            "net_share": (net + relaxed) / (net + relaxed + checks),
            "net_over_airebo": mine / theirs,
        }

    def _sheets(self, pattern: str) -> None:
        """The best one at its yield, by the net and by AIREBO."""
        kept = np.load(self.out / "judged" / f"{pattern}.npz")
        held = self.label(pattern)
        assert held is not None
        sample, _ = held
        per_frame = self.pull.rate * self.pull.timestep * self.pull.frame
        k = min(round(1.02 * sample.label.strain / per_frame), len(sample) - 1)
        window = sample.window(k, 1)
        pictures.best(
            {
                f"{pattern}, net, strain {float(kept['strain']):.3f}": kept["positions"],
                f"{sample.pattern}, AIREBO, strain {window.strains[0]:.3f}": window.positions[0],
            },
            self.place / "best.png",
        )


def table(found: Answer) -> Table:
    """Sheets that AIREBO has pulled, for people."""
    made = Table("pattern", "", "net", "AIREBO", "CPU s: net", "AIREBO")
    for row in found["rows"]:
        made.add_row(
            row["pattern"],
            row["kind"] + (", known" if row["before"] else ""),
            f"{row['predicted']:.3f}",
            f"{row['checked']:.3f}" + ("" if row["fallen"] else " or more"),
            f"{row['net_seconds']:.1f}",
            f"{row['airebo_seconds']:.1f}",
        )
    return made


def summary(found: Answer) -> str:
    """The outcome in a few lines."""
    best, cost = found["best"], found["cpu_seconds"]
    lines = [f"best found: {best['pattern']}, {best['checked']:.3f}"]
    for name, text in (("best_learned", "learned from"), ("best_known", "of the data set")):
        if (one := found[name]) is not None:
            ratio = best["checked"] / one["strain"]
            lines.append(
                f"best {text}: {one['pattern']}, {one['strain']:.3f}; found over it {ratio:.2f}"
            )
    if found["chance"] is not None:
        lines.append(f"means: best {found['winners']:.3f}, by chance {found['chance']:.3f}")
    if found["rank_correlation"] is not None:
        lines.append(f"rank correlation of net and AIREBO: {found['rank_correlation']:.2f}")
    lines.append(
        f"CPU s: {cost['net']:.0f} of the net and {cost['relaxing']:.0f} of relaxing for "
        f"{found['sheets']} of {found['of']} sheets, {cost['checks']:.0f} of AIREBO; both on the sheets "
        f"above: net over AIREBO {cost['net_over_airebo']:.2f}"
    )
    lines.append(f"pulls by the net that ended before a yield was told: {found['ended']}")
    return "\n".join(lines)


def _line(number: int, one: Answer) -> str:
    held = one["ended"] if one["ended"] not in ("yield", "strain") else ""
    return f"round {number}  {one['pattern']}  {one['strain']:.3f}  {one['cpu_seconds']:6.1f} CPU s  {held}"


def _bar(console: Console) -> Progress:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _ranks(pairs: Sequence[tuple[float, float]]) -> float | None:
    mine, true = np.array(pairs).T
    if len(mine) < 3 or np.ptp(mine) == 0 or np.ptp(true) == 0:
        return None
    return float(spearmanr(mine, true).statistic)


def _claim(folder: Path, told: Answer) -> None:
    """Makes a folder of a search, or sees that it is of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search.json"
    if not path.is_file():
        write_text(path, json.dumps(told, indent=1) + "\n")
    begun = json.loads(path.read_text())
    told = json.loads(json.dumps(told))
    if other := sorted(k for k in told.keys() | begun.keys() if told.get(k) != begun.get(k)):
        raise Error(f"{path}: begun with another {', '.join(other)}; choose another --out")


def _weights(net: Path) -> str:
    return hashlib.sha256((net / "weights.safetensors").read_bytes()).hexdigest()[:16]


# -- the quick form --------------------------------------------------------------------------------
def quick(out: Path) -> tuple[Path, Dataset]:
    """A net that was matched to the forces of two small sheets, and these sheets."""
    data = Dataset(out / "data", Pull(rate=0.4, until=0.5, rest=0.05), SMALL)
    data.generate(["101011", "011110"])
    net = out / "net"
    if not (net / "manifest.json").is_file():
        samples = list(data)
        grid = grid_of(samples)
        pairs = [pair for sample in samples for pair in pairs_of(sample, grid, 4)]
        torch.manual_seed(0)
        bonds = {
            "kicks": 3,
            "correction": False,
            "even": True,
            "radial": 6,
            "order": 2,
            "turns": 1,
        }
        cells = AtomCells((6,), DT, scales=Scales.of(pairs, DT), channels=4, width=4, **bonds)
        made: SagesNet[AtomState] = SagesNet(cells, [Level()])
        match(cells, [now for now, _ in pairs], data.pull, (0.02, 0.12))
        made.save(net, training={"sheets": [sample.pattern for sample in samples]})
    return net, data


def main(
    net: Path, data: Dataset, out: Path, options: Options, until: float | None = None
) -> Answer:
    """Everything; results.json and pictures in a folder of ``out``."""
    torch.set_num_threads(1)
    pull = data.pull if until is None else dataclasses.replace(data.pull, until=until)
    return Search(net, data, pull, data.design, out, options).run()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends LAMMPS and its files too
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--net", type=Path, help="folder of a trained net")
    words.add_argument("--data", type=Path, help="folder that generate.py filled")
    words.add_argument("--out", type=Path, default=Path("out/search"))
    words.add_argument("--quick", action="store_true", help="small sheets, a net made on the spot")
    words.add_argument("--rounds", type=int)
    words.add_argument("--round", type=int, dest="size", help="sheets the net pulls in a round")
    words.add_argument("--check", type=int, help="of the best that AIREBO pulls")
    words.add_argument("--control", type=int, help="of the first round that AIREBO pulls")
    words.add_argument("--target", type=float, help="strain to yield at, instead of the greatest")
    words.add_argument("--until", type=float, help="strain of all pulls; that of the data set")
    words.add_argument("--seed", type=int)
    words.add_argument("--workers", type=int)
    given = words.parse_args()
    if not given.quick and (given.net is None or given.data is None):
        words.error("--net and --data are needed, or --quick")
    least = {"rounds": 2, "size": 3, "check": 2, "control": 1} if given.quick else {}
    names = [field.name for field in dataclasses.fields(Options)]
    chosen = {n: getattr(given, n) for n in names if getattr(given, n) is not None}
    try:
        folder, sheets = quick(given.out) if given.quick else (given.net, Dataset(given.data))
        main(folder, sheets, given.out, Options(**(least | chosen)), given.until)
    except Error as problem:
        sys.exit(f"error: {problem}")
