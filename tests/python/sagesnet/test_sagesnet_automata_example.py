"""examples/automata in its small form: a rule and a reduction, learned exactly."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import soups

EXAMPLE = Path(__file__).parents[3] / "examples" / "automata"


@pytest.fixture(scope="module")
def example() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield importlib.import_module("automata")


@pytest.fixture(scope="module")
def out(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("automata")
    example.main(folder, quick=True)
    return folder


def test_what_was_learned_is_exact(example: Any, out: Path) -> None:
    held = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    answers, bars = example.main(out, quick=True)  # reads what is there
    assert held == {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    rule, pairs = answers["rule_4555_0"], answers["pairs_150_0"]
    assert rule["wrong of probe"] == rule["wrong of soups"] == rule["wrong far"] == 0
    assert rule["wrong elsewhere"] == rule["wrong in tiles"] == {"17x9x20": 0}
    assert pairs["exact"] and pairs["known"] and not pairs["collapsed"]
    assert pairs["effective rank"] == pytest.approx(1.0)
    assert 0.3 < pairs["deviation of codes"] < 1.0
    assert json.loads((out / "results.json").read_text())["bars"] == bars
    assert {bar["case"] for bar in bars} == {"CA1", "CA2", "CA3", "CA4"}
    assert all(bar["held"] for bar in bars if "seconds" not in bar["what"])


def test_bars_are_missed_by_what_is_wrong(example: Any, out: Path) -> None:
    answers = {name: example.read(out, name) for name in ("rule_4555_0", "pairs_150_0")}
    answers["rule_4555_0"]["wrong in tiles"]["17x9x20"] = 1
    answers["pairs_150_0"]["known"] = False
    answers["pairs_30_0"] = answers["pairs_150_0"]
    missed = {
        (bar["case"], bar["what"])
        for bar in example.bars(answers)
        if bar["held"] is False and "seconds" not in bar["what"]
    }
    assert missed == {
        ("CA3", "wrong cells, in tiles"),
        ("CA4", "rule 150, exact in 1"),
        ("CA5", "rule 30, claims in 1"),
    }


@pytest.mark.parametrize("dimensions", [2, 3])
def test_whole_blocks_are_ruled_by_the_same_rule(example: Any, dimensions: int) -> None:
    """What scales are judged by: two steps of the rule on cells are one on blocks, exactly."""
    blocks = importlib.import_module("exact_blocks")
    rule, space = CountRule.unanimous(dimensions), blocks.block(2, dimensions)
    state = soups(blocks.block(16, dimensions), 20, density=(0.99, 1.0), seed=1)
    fine = blocks.whole_blocks(rule.run(state, 2)[-1], space).long()
    assert torch.equal(fine, rule.step(blocks.whole_blocks(state, space).long()))
    assert 0.02 < float(fine.double().mean()) < 0.98


def test_scales_of_both_dimensions_have_bars(example: Any) -> None:
    level = {"codes": [1.0, 1.0], "decoded": [1.0, 0.9995], "if nothing changed": 0.5}
    told = {"CPU seconds": [1.0, 0.1], "level 1": level}
    assert all(bar["held"] is not False for bar in example.bars({"scales_3": told}))
    told = {"CPU seconds": [1.0, 0.3], "level 1": level | {"decoded": [1.0, 0.99]}}
    missed = [bar["what"] for bar in example.bars({"scales_3": told}) if bar["held"] is False]
    assert missed == ["3D, level 1: right blocks, decoded", "3D, level 1: cost over the fine net's"]


def test_there_are_pictures(out: Path) -> None:
    for name in ("frames.png", "reductions.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_the_readme_tells_the_command() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    assert "python examples/automata/automata.py" in readme
