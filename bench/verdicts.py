"""Which bars are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import OURS, Row, best_peer, by_workload


@dataclass(frozen=True)
class Verdict:
    """One workload of ours beside its best peer."""

    bench: str
    workload: str
    threads: int
    seconds: float
    peer: str = ""
    ratio: float | None = None
    must: float | None = None
    distance: float | None = None  # time over the limit's

    @property
    def missed(self) -> bool:
        return self.must is not None and self.ratio is not None and self.ratio < self.must


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Of every workload "mlcore" did, in the order of the rows."""
    found = []
    for (bench, workload, threads), group in by_workload(rows).items():
        ours = next((r for r in group if r.call == OURS and r.seconds), None)
        if ours is None or not ours.seconds:
            continue
        best = best_peer(group)
        found.append(
            Verdict(
                bench,
                workload,
                threads,
                ours.seconds,
                best.call if best else "",
                best.seconds / ours.seconds if best and best.seconds else None,
                ours.must,
                ours.seconds / ours.limit if ours.limit else None,
            )
        )
    return found


def print_verdicts(rows: Sequence[Row]) -> None:
    """The bars that hold and those that do not."""
    judged = [v for v in verdicts(rows) if v.must is not None and v.ratio is not None]
    missed = [v for v in judged if v.missed]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} bars met" + (":" if missed else "."))
    for v in missed:
        far = f", {v.distance:.1f}x its limit" if v.distance else ""
        print(
            f"  MISSED {v.bench} {v.workload} ({v.threads} thr): {v.ratio:.2f}x {v.peer}, "
            f"must {v.must:g}x{far}"
        )
