"""Gathers count in MPI's int: what is beyond is refused before anything overflows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "bindings" / "lammps"
PROGRAM = """
#include <cstdio>
#include <stdexcept>
#include "gather_layout.h"
int main() {
  const mlmod::GatherLayout small = mlmod::gather_layout({2, 0, 3}, 7);
  for (int k = 0; k < 3; ++k) std::printf("%d %d ", small.begins[k], small.counts[k]);
  std::printf("%zu\\n", small.total);
  const mlmod::GatherLayout most = mlmod::gather_layout({100000000, 114748364}, 10);
  std::printf("%d %d %zu\\n", most.begins[1], most.counts[1], most.total);
  for (const std::int64_t more : {114748365L, 1L << 40}) try {
    mlmod::gather_layout({100000000, more}, 10);
    std::printf("no error\\n");
  } catch (const std::runtime_error& error) {
    std::printf("%s\\n", error.what());
  }
}
"""


def test_layout_and_its_limit(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "main.cpp"
    source.write_text(PROGRAM)
    words = [
        compiler,
        "-std=c++20",
        f"-I{SOURCES}",
        str(source),
        str(SOURCES / "gather_layout.cpp"),
    ]
    subprocess.run([*words, "-o", str(tmp_path / "main")], check=True)
    lines = subprocess.run(
        [str(tmp_path / "main")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[0] == "0 14 14 0 14 21 35"
    assert lines[1] == "1000000000 1147483640 2147483640"
    for line, atoms in zip(lines[2:], (214748365, 100000000 + (1 << 40)), strict=True):
        assert f"whose {atoms} atoms with 10 numbers each are too many" in line
        assert line.endswith("at most 214748364 atoms")
