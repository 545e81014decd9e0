"""The examples of fits, in small form."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_silicon_is_found_again(tmp_path: Path, capsys: Any) -> None:
    found = example("silicon_refit").main(300, 0, tmp_path / "fit")
    assert found.verified.agrees and found.total < 1e-2
    assert (tmp_path / "fit" / "report.html").is_file()
    assert (tmp_path / "fit" / "convergence.png").is_file()
    assert "made of" in capsys.readouterr().out


def test_a_form_that_cannot_do_it_says_where(tmp_path: Path, capsys: Any) -> None:
    found = example("silicon_misfit").main(300, 0, tmp_path / "fit")
    assert 20.0 < found.total < 40.0
    assert (tmp_path / "fit" / "parity.png").is_file()
    assert "tolerances" in capsys.readouterr().out


def test_a_front_of_two_wishes(tmp_path: Path) -> None:
    found = example("pareto").main(240, 0, tmp_path / "fit")
    values = np.array([list(row["objectives"].values()) for row in found.front])
    assert len(values) >= 3 and (tmp_path / "fit" / "front.png").is_file()
    order = np.argsort(values[:, 0])
    assert (np.diff(values[order, 1]) < 0).all()


@pytest.mark.parametrize("name", ["silicon_refit", "silicon_misfit", "pareto"])
def test_examples_tell_what_they_are(name: str) -> None:
    readme = (EXAMPLES / name / "README.md").read_text()
    assert f"python examples/{name}/{name}.py" in readme
