"""What moved between two runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from compare import changed_bars, drift, moves, report
from harness import Row, save

ROOT = Path(__file__).parents[3]


def run(ours: dict[str, float], peer: float = 8.0, spread: float = 0.0) -> list[Row]:
    """Workloads of ours by seconds, each with one peer."""
    rows = []
    for workload, seconds in ours.items():
        rows.append(Row("b", workload, "mlcore", 1, seconds=seconds, must=4.0, spread=spread))
        rows.append(Row("b", workload, "peer", 1, seconds=peer))
    return rows


def test_only_what_moved_is_told_largest_first() -> None:
    old, new = run({"a": 1.0, "b": 1.0, "c": 1.0}), run({"a": 1.05, "b": 1.3, "c": 0.5})
    found = moves(old, new, 0.1)
    assert [(m.key[1], round(m.factor, 6)) for m in found] == [("c", 0.5), ("b", 1.3)]
    text = report(old, new, 0.1)
    assert "2.00x faster  b: c" in text and "1.30x slower  b: b" in text


def test_a_slower_machine_is_not_a_slower_library() -> None:
    old, new = run({"a": 1.0}), run({"a": 2.0}, peer=16.0)
    assert drift(old, new) == 2.0
    assert moves(old, new, 0.1) == []
    assert moves(old, run({"a": 2.0}), 0.1)


def test_noisy_timings_need_more() -> None:
    assert moves(run({"a": 1.0}, spread=0.2), run({"a": 1.3}, spread=0.2), 0.1) == []
    assert moves(run({"a": 1.0}, spread=0.2), run({"a": 1.5}, spread=0.2), 0.1)


def test_bars_that_change_sides() -> None:
    old, new = run({"a": 1.9, "b": 3.0}), run({"a": 2.1, "b": 1.0})
    first, second = changed_bars(old, new)
    assert "a (1 thr): now MISSED" in first and "b (1 thr): now met" in second


def test_the_command_exits_0(tmp_path: Path) -> None:
    save(run({"a": 1.0, "gone": 1.0}), tmp_path / "old.json")
    save(run({"a": 3.0, "fresh": 1.0}), tmp_path / "new.json")
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare", tmp_path / "old.json", tmp_path / "new.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "3.00x slower" in done.stdout
    assert "only in old: b: gone" in done.stdout and "only in new: b: fresh" in done.stdout
