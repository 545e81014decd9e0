"""One operation, one stem: every seat of every operation is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OPERATIONS = (
    "neighbors",
    "mobility",
    "noise",
    "dynamics",
    "recurrent",
    "pair_potential",
    "potentials",
    "bonds",
    "mlp",
    "splitting",
    "stencil",
    "stencil_active",
    "voxels",
)
# The Python face of mobility is a room of its own; random and linalg serve the others.
FACES = {"mobility": "python/mlcore/mobility/tensors.py"}
CUDA_OPERATIONS = (
    "neighbors",
    "mobility",
    "noise",
    "dynamics",
    "recurrent",
    "pair_potential",
    "potentials",
    "bonds",
    "mlp",
    "splitting",
    "stencil",
    "stencil_active",
    "voxels",
)
SEATS = (
    "cpp/include/mlcore/{op}.hpp",
    "cpp/include/mlcore/reference/{op}.hpp",
    "cpp/src/{op}.cpp",
    "cpp/src/reference/{op}.cpp",
    "bindings/python/export_{op}.cpp",
    "tests/cpp/unit/{op}.cpp",
    "bench/{op}.py",
)


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("seat", SEATS)
def test_seat_is_taken(op: str, seat: str) -> None:
    path = ROOT / seat.format(op=op)
    assert path.is_file() and path.stat().st_size > 0, f"{path.relative_to(ROOT)} is missing"


@pytest.mark.parametrize("op", OPERATIONS)
def test_python_face_and_tests(op: str) -> None:
    assert (ROOT / FACES.get(op, f"python/mlcore/{op}.py")).is_file()
    assert list((ROOT / "tests/python" / op).glob("test_*.py"))


@pytest.mark.parametrize("op", CUDA_OPERATIONS)
def test_cuda_mirror(op: str) -> None:
    assert (ROOT / "cuda" / f"{op}.cu").is_file()
