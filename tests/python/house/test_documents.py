"""The Python of the documents runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


NAMES = ["README.md", "docs/core.md", "docs/learning.md", "docs/integrators.md"]
NAMES += [
    f"docs/integrators/{page}.md" for page in ("evaluator", "nbody", "one_dimension", "symplectic")
]
NAMES += [
    f"docs/forcefield/{page}.md"
    for page in ("data", "fit", "forms", "library", "parallel", "search", "targets")
]
NAMES += ["docs/forcefield.md", "docs/sagesnet.md"]


@pytest.mark.parametrize("name", NAMES)
def test_python_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {"__name__": "document"})
