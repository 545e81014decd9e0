"""The chart: one bar per workload, coloured by its verdict."""

from __future__ import annotations

from pathlib import Path

from chart import columns, draw
from harness import Row
from matplotlib.image import imread
from verdicts import verdicts


def rows(benches: dict[str, int], threads: int = 1) -> list[Row]:
    found = []
    for bench, count in benches.items():
        for k in range(count):
            must = (None, 2.0, 40.0)[k % 3]
            found.append(Row(bench, f"workload {k}", "mlcore", threads, seconds=0.1, must=must))
            found.append(Row(bench, f"workload {k}", "peer", threads, seconds=0.07 * (k + 1)))
    return found


def test_every_workload_has_a_bar_in_a_picture(tmp_path: Path) -> None:
    few, many = tmp_path / "few.png", tmp_path / "deep" / "many.png"
    assert draw(rows({"one": 3}), few)
    assert draw(rows({"one": 20, "two": 12, "three": 9}) + rows({"one": 20}, 2), many, "a CPU")
    small, large = imread(few), imread(many)
    assert large.shape[0] > small.shape[0] and large.shape[1] > small.shape[1]
    assert small[..., :3].std() > 0.05


def test_nothing_to_compare_draws_nothing(tmp_path: Path) -> None:
    assert not draw([Row("b", "w", "mlcore", 1, seconds=1.0)], tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def test_columns_keep_the_order_and_balance() -> None:
    found = verdicts(rows({"a": 10, "b": 10, "c": 20}))
    assert columns(found) == [["a", "b"], ["c"]]
    assert columns(found[:12]) == [["a", "b"]]
