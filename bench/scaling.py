"""What threads bring."""

from __future__ import annotations

from collections.abc import Sequence

from harness import OURS, Row, seconds_text


def speed_ups(rows: Sequence[Row]) -> list[tuple[str, str, int, int, float, float]]:
    """(bench, workload, fewest threads, threads, seconds with the fewest, speed-up) of ours."""
    times: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row.call == OURS and row.wall:
            times.setdefault((row.bench, row.workload), {})[row.threads] = row.wall
    return [
        (bench, workload, least, threads, found[least], found[least] / found[threads])
        for (bench, workload), found in times.items()
        for least in [min(found)]
        for threads in sorted(found)
        if threads > least
    ]


def print_scaling(rows: Sequence[Row]) -> None:
    """Wall times, so only a quiet machine tells the truth."""
    found = speed_ups(rows)
    if not found:
        return
    print(
        f"\n{'speed-up of mlcore by threads (wall time)':46} {'thr':>6} {'from':>9} {'speed-up':>9}"
    )
    for bench, workload, least, threads, seconds, gain in found:
        name = f"{bench}: {workload}"
        print(f"{name:46} {least:>3}->{threads:<2} {seconds_text(seconds):>9} {gain:9.2f}")
