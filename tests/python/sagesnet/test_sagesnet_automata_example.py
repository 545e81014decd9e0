"""examples/automata in its small form: a rule and a reduction, learned exactly."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "automata" / "automata.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("automata_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def out(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("automata")
    example.main(folder, quick=True)
    return folder


def test_what_was_learned_is_exact(example: Any, out: Path) -> None:
    again = example.main(out, quick=True)  # reads what is there
    rule, pairs = again["rule_4555_0"], again["pairs_150_0"]
    assert {value for name, value in rule.items() if name.startswith("wrong")} == {0}
    assert len([name for name in rule if name.startswith("wrong")]) == 4
    assert pairs["exact"] and pairs["known"] and not pairs["collapsed"]
    assert pairs["effective rank"] == pytest.approx(1.0)
    assert 0.3 < pairs["deviation of codes"] < 1.0


def test_there_are_pictures(out: Path) -> None:
    for name in ("frames.png", "reductions.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_the_readme_tells_the_command() -> None:
    readme = (EXAMPLE.parent / "README.md").read_text()
    assert "python examples/automata/automata.py" in readme
