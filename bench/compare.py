"""What moved between two runs of `python -m bench`.

    python -m bench.compare OLD.json NEW.json [--noise 0.1]

A workload moved when its time changed by more than `--noise` and by more than the spread of both
runs. What all peers changed by (the machine, its load) is taken out first; a change of the machine's
speed is thus told once, not for every workload.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness import Row, load, seconds_text
from verdicts import verdicts

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Move:
    """A call of ours: new time over old time, the machine's drift taken out."""

    key: Key
    old: float
    new: float
    factor: float


def timed_rows(rows: Sequence[Row]) -> dict[Key, Row]:
    return {(r.bench, r.workload, r.call, r.threads): r for r in rows if r.seconds}


def drift(old: Sequence[Row], new: Sequence[Row]) -> float:
    """Median of the peers' new over old times; 1 without peers in both."""
    before, after = timed_rows(old), timed_rows(new)
    factors = [
        (after[key].seconds or 0) / (before[key].seconds or 1)
        for key in before
        if key in after and not before[key].ours
    ]
    return statistics.median(factors) if factors else 1.0


def moves(old: Sequence[Row], new: Sequence[Row], noise: float) -> list[Move]:
    """Calls of ours that moved by more than the noise, the largest changes first."""
    before, after, common = timed_rows(old), timed_rows(new), drift(old, new)
    found = []
    for key, a in before.items():
        b = after.get(key)
        if b is None or not a.ours or not a.seconds or not b.seconds:
            continue
        factor = b.seconds / a.seconds / common
        bar = max(noise, a.spread + b.spread)
        if abs(math.log(factor)) > math.log(1 + bar):
            found.append(Move(key, a.seconds, b.seconds, factor))
    return sorted(found, key=lambda move: -abs(math.log(move.factor)))


def changed_bars(old: Sequence[Row], new: Sequence[Row]) -> list[str]:
    """Bars that were met and are missed now, or the other way."""
    before = {(v.bench, v.workload, v.threads): v for v in verdicts(old)}
    lines = []
    for v in verdicts(new):
        was = before.get((v.bench, v.workload, v.threads))
        if was and was.ratio and v.ratio and v.must is not None and was.missed != v.missed:
            state = "now MISSED" if v.missed else "now met"
            lines.append(
                f"{v.bench} {v.workload} ({v.threads} thr): {state}, "
                f"{was.ratio:.2f}x -> {v.ratio:.2f}x of must {v.must:g}x"
            )
    return lines


def report(old: Sequence[Row], new: Sequence[Row], noise: float) -> str:
    """The comparison as text."""
    before, after = timed_rows(old), timed_rows(new)
    lines = [f"peers: new / old time {drift(old, new):.2f} (median), taken out below"]
    found = moves(old, new, noise)
    for move in found:
        bench, workload, call, threads = move.key
        kind = "slower" if move.factor > 1 else "faster"
        times = f"{seconds_text(move.old)} -> {seconds_text(move.new)}"
        gain = max(move.factor, 1 / move.factor)
        lines.append(f"{gain:6.2f}x {kind}  {bench}: {workload} ({call}, {threads} thr)  {times}")
    if not found:
        lines.append(f"nothing of ours moved by more than {noise:.0%} and the spread")
    lines += changed_bars(old, new)
    for title, names in (
        ("only in old", before.keys() - after),
        ("only in new", after.keys() - before),
    ):
        ours = sorted({f"{b}: {w}" for b, w, call, _ in names if call == "mlcore"})
        if ours:
            lines.append(f"{title}: {', '.join(ours)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--noise", type=float, default=0.1, help="relative change to ignore")
    options = parser.parse_args()
    print(report(load(options.old), load(options.new), options.noise))


if __name__ == "__main__":
    main()
