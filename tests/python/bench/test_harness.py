"""The machinery of the benchmarks: timing, tables, verdicts, a script from start to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import Case, Row, best_peer, enough, load, print_table, save, spread, timed
from scaling import print_scaling, speed_ups
from verdicts import print_verdicts, verdicts

ROOT = Path(__file__).parents[3]


def row(call: str, seconds: float | None, workload: str = "w", threads: int = 1, **more) -> Row:
    return Row("b", workload, call, threads, seconds=seconds, wall=seconds, **more)


def sleeper(milliseconds: float):
    def call() -> None:  # busy: CPU time is what counts
        end = time.process_time() + milliseconds * 1e-3
        while time.process_time() < end:
            pass

    return call


def test_times_are_medians_of_cpu_time() -> None:
    case = Case("w", {"mlcore": sleeper(2), "peer": sleeper(6)}, must=2, limit=1e-3)
    rows = timed(case, 1, 0.05)
    assert 2e-3 <= rows["mlcore"].seconds < 2.5e-3
    assert 6e-3 <= rows["peer"].seconds < 7e-3
    assert rows["mlcore"].runs >= 7 and rows["mlcore"].must == 2


def test_scale_and_inner_divide() -> None:
    case = Case("w", {"mlcore": sleeper(2)}, scale=10, inner=3)
    assert 2e-4 <= timed(case, 1, 0.02)["mlcore"].seconds < 3e-4


def test_a_peer_that_fails_is_told_and_ours_is_not_forgiven() -> None:
    def broken() -> None:
        raise RuntimeError("no such kernel")

    rows = timed(Case("w", {"mlcore": sleeper(1), "peer": broken}), 1, 0.01)
    assert rows["peer"].seconds is None and "no such kernel" in rows["peer"].error
    with pytest.raises(RuntimeError):
        timed(Case("w", {"mlcore": broken}), 1, 0.01)


def test_slow_calls_are_run_less_often() -> None:
    assert not enough([(0.01, 0.01)] * 6, 0.05, 1)
    assert enough([(0.01, 0.01)] * 7, 0.05, 1)
    assert enough([(0.2, 0.2)] * 3, 0.05, 1) and not enough([(0.2, 0.2)] * 2, 0.05, 1)
    assert enough([(2.0, 2.0)] * 2, 0.05, 1)


def test_spread_is_the_middle_half_over_the_median() -> None:
    assert spread([4, 1, 2, 3, 5]) == pytest.approx((4 - 2) / 3)
    assert spread([1]) == 0


def test_best_peer_leaves_out_ours_references_and_those_not_named() -> None:
    rows = [
        row("mlcore", 1),
        row("mlcore float32", 0.5),
        row("mlcore, carried", 0.4),
        row("(limit)", 0.1),
        row("slow", 9),
    ]
    rows += [row("fast", 3), row("broken", None)]
    assert best_peer(rows).call == "fast"
    rows[0].against = ("slow",)
    assert best_peer(rows).call == "slow"
    assert best_peer(rows[:4]) is None


def test_verdicts() -> None:
    rows = [row("mlcore", 1.0, must=4, limit=0.5), row("peer", 3.0)]
    rows += [row("mlcore", 1.0, "v", must=2), row("peer", 3.0, "v"), row("mlcore", 1.0, "alone")]
    found = verdicts(rows)
    assert [v.missed for v in found] == [True, False, False]
    assert (found[0].ratio, found[0].distance, found[0].peer) == (3.0, 2.0, "peer")
    assert found[2].ratio is None


def test_tables_tell_what_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("mlcore", 1.0, must=4), row("peer", 3.0), row("absent", None, error="no module")]
    print_table(rows)
    print_verdicts(rows)
    text = capsys.readouterr().out
    assert "MISSED (must 4x)" in text and "no module" in text and "0 of 1 bars met" in text


def test_scaling_compares_with_the_fewest_threads(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("mlcore", 4.0), row("mlcore", 2.0, threads=2), row("mlcore", 1.0, threads=4)]
    rows += [row("peer", 4.0), row("peer", 4.0, threads=2)]
    assert [(r[2], r[3], r[5]) for r in speed_ups(rows)] == [(1, 2, 2.0), (1, 4, 4.0)]
    print_scaling(rows)
    assert "1->2" in capsys.readouterr().out
    print_scaling([row("mlcore", 4.0)])
    assert capsys.readouterr().out == ""


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [row("mlcore", 1.0, must=4), row("peer", None, error="gone")]
    save(rows, tmp_path / "deep" / "rows.json")
    assert [vars(r) for r in load(tmp_path / "deep" / "rows.json")] == [
        vars(r) | {"against": []} for r in rows
    ]
    whole = {"machine": {}, "rows": json.loads((tmp_path / "deep" / "rows.json").read_text())}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    assert len(load(tmp_path / "whole.json")) == 2


SCRIPT = '''
"""A benchmark."""
import sys
sys.path.insert(0, {folder!r})
import limits
limits.measured = lambda threads: {{"fma64": 1e9}}
from harness import Case, main

def cases(setup):
    yield Case("sum", {{"mlcore": lambda: sum(range(1000)), "peer": lambda: sum(range(9000))}},
               must=2, limit=1000 / setup.limits["fma64"], missing={{"other": "not installed"}})

if __name__ == "__main__":
    main(cases, __doc__)
'''


def test_a_script_from_start_to_end(tmp_path: Path) -> None:
    script = tmp_path / "tiny.py"
    script.write_text(SCRIPT.format(folder=str(ROOT / "bench")))
    command = [sys.executable, str(script), "--threads", "1,2", "--budget", "0.01"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert "met (must 2x)" in done.stdout and "not installed" in done.stdout
    rows = load(tmp_path / "rows.json")
    assert {(r.bench, r.call, r.threads) for r in rows} == {
        ("tiny", call, threads) for call in ("mlcore", "peer", "other") for threads in (1, 2)
    }
