"""examples/graphene/search.py: patterns are proposed, pulled by a net, and the best by AIREBO."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlcore import parallel
from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet import SagesNet
from mlcore.sagesnet.carbon import REDUCED, TINY, Dataset, Design, all_patterns
from mlcore.sagesnet.carbon.observables import bond_lengths, kinetic_temperature

EXAMPLE = Path(__file__).parents[3] / "examples" / "graphene"
MODULES = ("frames", "generate", "judge", "measures", "search", "search_pictures", "searcher")
OTHERS = ("settings", "steppers")
NET_AND_DATA = ("data", "net")


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The modules of the example, whose plain names are forgotten behind it."""
    kept = {name: sys.modules.pop(name, None) for name in (*MODULES, *OTHERS)}
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield type("Example", (), {name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(EXAMPLE))
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def command(out: Path, *words: str) -> list[str]:
    return [sys.executable, str(EXAMPLE / "search.py"), "--quick", "--out", str(out), *words]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    done = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return folder


# -- patterns --------------------------------------------------------------------------------------
def test_mirror_images_count_as_one(example: Any) -> None:
    searcher = example.searcher
    assert searcher.twins("110100", (2, 3)) == ("001011", "011001", "100110", "110100")
    assert searcher.twins("101111", (2, 3)) == ("101111", "111101")
    found = searcher.candidates(REDUCED)
    every = [twin for pattern in found for twin in searcher.twins(pattern, REDUCED.grid)]
    assert len(every) == len(set(every)) and set(every) == set(all_patterns(REDUCED))
    images = [p for p in every if p in searcher.twins("111010000110000", (3, 5))]
    assert len(images) == 4
    told = searcher.told_of(images, REDUCED).numbers
    assert np.ptp(told, axis=0).max() == 0.0
    with pytest.raises(InvalidArgument, match="design"):
        searcher.candidates(Design(grid=(4, 5)))


def test_the_way_through_a_sheet(example: Any) -> None:
    way = example.searcher.way
    assert way("111111111111111", (3, 5)) == 0.0
    assert way("111010000110000", (3, 5)) == 4.0
    assert way("100000000110000", (3, 5)) == 8.0
    assert way("100011000100001", (3, 5)) == 0.0
    assert way("100000000110000", (3, 5), lambda cells: cells**2 / 2) == 16.0


def test_sheets_by_chance_hold_together_and_vary(example: Any) -> None:
    found = example.searcher.by_chance(REDUCED, 200, np.random.default_rng(0))
    assert len(set(found)) == 200 and set(found) <= set(example.searcher.candidates(REDUCED))
    cuts = np.array([p.count("0") for p in found])
    assert cuts.min() == 1 and cuts.max() == 12
    again = example.searcher.by_chance(REDUCED, 5, np.random.default_rng(0))
    assert again == found[:5]


# -- what to pull next -----------------------------------------------------------------------------
def formula(told: Any) -> dict[str, float]:
    """Strains that no line tells in full."""
    rng = np.random.default_rng(7)
    weights = rng.normal(0, 0.06, told.numbers.shape[1])
    bent = 0.1 * np.sin(3 * told.numbers[:, 5] * told.numbers[:, 9])
    strains = 0.2 * np.exp(told.numbers @ weights + bent)
    return dict(zip(told.patterns, strains.tolist(), strict=True))


def searched(example: Any, told: Any, truth: dict[str, float], target: float | None) -> list[str]:
    chance = example.searcher.by_chance(REDUCED, 10, np.random.default_rng(1))
    known = {p: truth[p] for p in chance}
    for number in (2, 3, 4):
        bold = (4 - number) / 2
        rng = np.random.default_rng([0, number])
        new = example.searcher.proposed(told, known, 10, rng, bold, target)
        assert len(new) == 10 and known.keys().isdisjoint(new)
        known |= {p: truth[p] for p in new}
    return list(known)


def test_few_pulls_find_what_stretches_far_and_what_meets_a_target(example: Any) -> None:
    told = example.searcher.told_of(example.searcher.candidates(REDUCED), REDUCED)
    truth = formula(told)
    every = np.sort(list(truth.values()))
    furthest = searched(example, told, truth, None)
    assert len(set(furthest)) == 40 and furthest == searched(example, told, truth, None)
    # of 7,828 the best 40: by chance, 40 pulls find one with a probability of a fifth
    assert max(truth[p] for p in furthest) >= every[-40]
    assert np.mean([truth[p] for p in furthest[-10:]]) > 2 * np.mean(every)
    target = float(np.quantile(every, 0.97))
    meeting = np.array([truth[p] for p in searched(example, told, truth, target)])
    assert (
        np.abs(meeting[-10:] / target - 1).mean() < 0.5 * np.abs(meeting[:10] / target - 1).mean()
    )
    assert np.abs(meeting / target - 1).min() < 0.02


def test_a_line_finds_its_weights_and_doubts_them_where_little_is_known(example: Any) -> None:
    rng = np.random.default_rng(2)
    numbers = np.column_stack([np.ones(80), rng.normal(size=(80, 3))])
    weights = np.array([-1.5, 0.3, -0.2, 0.1])
    variance = np.array([100.0, 0.1, 0.1, 0.1])
    line = example.searcher.fitted(numbers, np.exp(numbers @ weights), variance)
    np.testing.assert_allclose(line.mean, weights, atol=0.01)
    few = example.searcher.fitted(numbers[:5], np.exp(numbers[:5] @ weights), variance)
    # R R^T is the inverse of the precision, whose doubts fall with what is known
    drawn = np.array([few.drawn(rng, 1.0) for _ in range(4000)])
    np.testing.assert_allclose(np.cov(drawn.T), few.root @ few.root.T, atol=3e-3)
    assert np.trace(few.root @ few.root.T) > 5 * np.trace(line.root @ line.root.T)
    assert np.array_equal(few.drawn(rng, 0.0), few.mean)


# -- the judge -------------------------------------------------------------------------------------
def test_sheets_begin_as_those_of_a_data_set(example: Any, out: Path) -> None:
    data = Dataset(out / "data")
    sample = data["101011-1"]
    net = SagesNet.load(out / "net")
    state, body = example.judge.start_of("101011", data.design, data.pull, net)
    frame = sample.window(0, 1)
    grip = sample.start.arrays["grip"]
    assert np.array_equal(body.arrays["grip"], grip)
    assert np.array_equal(state.ids.numpy(), np.arange(len(body)))
    v, true = state.velocity.numpy().astype(float), frame.velocities[0].astype(float)
    np.testing.assert_allclose(v[grip != 0], true[grip != 0], rtol=1e-4, atol=1e-9)
    x = state.positions().numpy()
    place = frame.positions[0].astype(float)
    apart = np.linalg.norm((x - x.mean(0)) - (place - place.mean(0)), axis=1)
    assert apart.max() < 0.5
    lengths = [edges[:-1] @ h / h.sum() for edges, h in map(bond_lengths, (x[None], place[None]))]
    assert lengths[0] == pytest.approx(lengths[1], abs=0.02)
    # 4.2 K; what moves along takes no part in that
    masses = body.get_masses()
    speed = np.interp(place[:, 0], *_ends(place, grip, true))
    heat = kinetic_temperature(v - np.c_[speed, 0 * v[:, 1:]], masses, grip == 0)
    assert 1.0 < float(heat[0]) < 60.0
    other, _ = example.judge.start_of("101011", data.design, data.pull, net, seed=2)
    assert not np.array_equal(other.velocity.numpy(), state.velocity.numpy())


def _ends(x: np.ndarray, grip: np.ndarray, v: np.ndarray) -> tuple[list[float], list[float]]:
    ends = [x[grip < 0, 0].max(), x[grip > 0, 0].min()]
    return ends, [v[grip < 0, 0].mean(), v[grip > 0, 0].mean()]


# -- all of it -------------------------------------------------------------------------------------
def test_all_of_it_in_its_small_form(example: Any, out: Path) -> None:
    found = json.loads((out / "furthest" / "results.json").read_text())
    judged = {one["pattern"]: one["strain"] for one in found["judged"]}
    assert len(judged) == found["sheets"] == 6 and found["of"] == 18
    assert set(judged) <= set(example.searcher.candidates(example.search.SMALL))
    best = [row for row in found["rows"] if row["kind"] == "best"]
    assert sorted(judged.values())[-2:] == sorted(row["predicted"] for row in best)
    (control,) = (row for row in found["rows"] if row["kind"] == "by chance")
    assert control["round"] == 1
    places = {"checked": Dataset(out / "checked"), "data": Dataset(out / "data")}
    for row in found["rows"]:
        folder, run = row["run"].split("/")
        sample = places[folder][run]
        assert row["checked"] == sample.label.strain and row["before"] == (folder == "data")
        assert row["pattern"] in example.searcher.twins(sample.pattern, (2, 3))
    assert found["best"]["checked"] == max(row["checked"] for row in best)
    known = {sample.pattern: sample.label.strain for sample in places["data"]}
    assert found["best_known"]["strain"] == max(known.values())
    assert found["best_learned"] == found["best_known"] and found["known"] == 2
    cost = found["cpu_seconds"]
    assert all(value > 0 for value in cost.values()) and cost["net_share"] < 1
    for name in ("search", "checked", "best"):
        assert (out / "furthest" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def begun(out: Path, folder: Path) -> None:
    """A folder with the net and its data, nothing searched yet."""
    for name in NET_AND_DATA:
        shutil.copytree(out / name, folder / name)


def answer(folder: Path) -> dict[str, Any]:
    """What was found, but for times."""
    found: dict[str, Any] = json.loads((folder / "furthest" / "results.json").read_text())
    del found["cpu_seconds"]
    for row in found["rows"]:
        for name in [name for name in row if name.endswith("_seconds")]:
            del row[name]
    return found


def test_killed_and_begun_again_with_other_workers_it_finds_the_same(
    out: Path, tmp_path: Path
) -> None:
    begun(out, tmp_path)
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = (line for line in process.stdout if line.startswith("round 2"))
    assert next(lines)
    process.kill()
    process.wait()
    process.stdout.close()
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "judged").glob("*.json")}
    assert len(kept) >= 4 and not (tmp_path / "furthest" / "results.json").exists()
    again = command(tmp_path, "--workers", "2")
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert answer(tmp_path) == answer(out)
    assert all(path.stat().st_mtime_ns == moment for path, moment in kept.items())


def test_sheets_that_are_known_are_not_pulled_again(
    example: Any, out: Path, tmp_path: Path
) -> None:
    data = Dataset(out / "data")
    options = example.search.Options(rounds=1, size=2, check=1, control=0)
    search = example.search.Search(out / "net", data, data.pull, data.design, tmp_path, options)
    for twin in example.searcher.twins("101011", (2, 3)):
        sample, before = search.label(twin)
        assert sample.name == "101011-1" and before
    assert search.label("111011") is None
    answers = [[{"pattern": "011101", "strain": 0.3}, {"pattern": "010010", "strain": 0.1}]]
    winners, controls = search.chosen(answers)
    assert winners == ["011101"] and controls == []
    with parallel.engine("serial") as workers:
        search._check(workers, winners)
    assert len(search.checks) == 0
    nearest = dataclasses.replace(options, target=0.12)
    aimed = example.search.Search(out / "net", data, data.pull, data.design, tmp_path, nearest)
    assert aimed.chosen(answers)[0] == ["010010"]
    # a pull that goes further asks again about what had not yielded
    further = dataclasses.replace(data.pull, until=9.0)
    long = example.search.Search(
        out / "net", data, further, data.design, tmp_path / "long", options
    )
    sample = data["101011-1"]
    assert (long.label("101011") is not None) == sample.label.fallen


def test_a_folder_of_another_search_is_refused(example: Any, out: Path, tmp_path: Path) -> None:
    data = Dataset(out / "data")
    given = (out / "net", data, data.pull, data.design, tmp_path)
    options = example.search.Options(rounds=2)
    example.search.Search(*given, options)
    example.search.Search(*given, dataclasses.replace(options, rounds=9, workers=2))
    aimed = example.search.Search(*given, dataclasses.replace(options, target=0.2))
    assert aimed.place == tmp_path / "target-0.2"
    with pytest.raises(Error, match="round, seed"):
        example.search.Search(*given, dataclasses.replace(options, size=3, seed=5))
    with pytest.raises(Error, match="design"):
        example.search.Search(out / "net", data, data.pull, TINY, tmp_path, options)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"rounds": 0}, "rounds"),
        ({"size": 0}, "size"),
        ({"check": 0}, "check"),
        ({"control": -1}, "control"),
        ({"target": 0.0}, "target"),
        ({"workers": 0}, "workers"),
    ],
)
def test_options_out_of_range_are_named(example: Any, wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        example.search.Options(**wrong)


def test_the_readme_tells_the_search() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    assert "## Search" in readme and "python search.py" in readme
