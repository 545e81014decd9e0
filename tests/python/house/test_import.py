"""`import mlcore` is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlcore


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_is_fast() -> None:
    code = "import time; t = time.perf_counter(); import mlcore; print(time.perf_counter() - t)"
    assert min(float(python(code)) for _ in range(3)) < 0.3


def test_import_leaves_heavy_packages_alone() -> None:
    heavy = ("torch", "numpy", "scipy", "ase", "matplotlib")
    code = f"import sys, mlcore; print(*(m for m in {heavy} if m in sys.modules))"
    assert python(code).split() == []


def test_every_name_is_there() -> None:
    code = "import mlcore; print(*(n for n in mlcore.__all__ if not hasattr(mlcore, n)))"
    assert python(code).split() == []


def test_every_room_is_there() -> None:
    rooms = {p.parent.name for p in Path(mlcore.__file__).parent.glob("*/__init__.py")}
    assert rooms - set(dir(mlcore)) == {"cli"}


def test_unknown_name_is_an_attribute_error() -> None:
    code = "import mlcore\ntry:\n  mlcore.no_such_thing\nexcept AttributeError as e:\n  print(e)"
    assert "no_such_thing" in python(code)
