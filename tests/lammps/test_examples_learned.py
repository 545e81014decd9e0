"""The examples that learn forces and steps run as their READMEs say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
Table = dict[str, list[float]]


def run(example: str, folder: Path) -> list[Table]:
    """Tables of `--quick`: numbers of each line by its name."""
    words = [
        sys.executable,
        str(EXAMPLES / example / f"{example}.py"),
        "--quick",
        "--out",
        str(folder),
    ]
    result = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (folder / "table.md").read_text() == result.stdout
    assert (folder / f"{example}.png").read_bytes()[:4] == b"\x89PNG"
    tables: list[Table] = []
    for block in result.stdout.strip().split("\n\n"):
        rows = [line.strip("| ").split(" | ") for line in block.splitlines()[2:]]
        tables.append({name: [float(cell) for cell in cells] for name, *cells in rows})
    return tables


@pytest.mark.slow
def test_a_learned_force_replaces_the_pair_style(tmp_path: Path) -> None:
    (table,) = run("learned_force", tmp_path)
    for law, largest in (("lj", 4e-3), ("yukawa", 2e-2)):
        _, error, g_error, peak, _, drift, old_ripple, ripple = table[law]
        assert error < largest
        assert g_error < 0.15 * peak
        assert abs(drift) < 1e-4 and ripple < 3 * old_ripple


@pytest.mark.slow
def test_many_bodies_learn_what_pairs_cannot(tmp_path: Path) -> None:
    (table,) = run("silicon", tmp_path)
    original, pairs, many = (table[name] for name in ("sw", "pairs", "many_body"))
    assert many[0] < 0.75 * pairs[0]
    assert many[2] < 0.1 * original[3]  # g(r)
    assert many[4] < 3 * original[4]  # energy is kept


@pytest.mark.slow
def test_learned_drag_and_steps_follow_the_tracers(tmp_path: Path) -> None:
    (table,) = run("learned_drag", tmp_path)
    force, way, steps, mlmod, pairs = table["viscous"]
    assert max(force, way, pairs) < 1e-9
    assert max(steps, mlmod) < 3e-5
    force, way, steps, mlmod, pairs = table["vortex"]
    assert force < 0.12 and max(way, steps, pairs) < 0.35
    assert mlmod == pytest.approx(steps, rel=0.05)


@pytest.mark.slow
def test_learned_and_classical_fixes_side_by_side(tmp_path: Path) -> None:
    parts, runs = run("two_fixes", tmp_path)
    (pair,), (field,), (mobility,) = (parts[n] for n in ("pair force", "field", "mobility"))
    assert pair < 0.02 and field < 0.08 and mobility < 0.05
    ((way,),) = (v for name, v in parts.items() if name.startswith("positions"))
    assert way < 0.03
    _, fluid, warmth, diffusion = runs["classical"]
    _, new_fluid, new_warmth, new_diffusion = runs["learned"]
    assert new_fluid == pytest.approx(fluid, rel=0.2)
    assert new_warmth == pytest.approx(warmth, abs=0.1)
    assert new_diffusion == pytest.approx(diffusion, rel=0.35)


@pytest.mark.slow
def test_a_step_ten_times_as_long(tmp_path: Path) -> None:
    (table,) = run("large_steps", tmp_path)
    (kT, pressure, diffusion, _, _, _), large = table["small"], table["large"]
    assert large[0] == pytest.approx(kT, rel=0.03)
    assert abs(large[1] - pressure) < 0.2  # one small run
    assert large[2] == pytest.approx(diffusion, rel=0.4)
    assert large[3] < 0.05 and large[4] < 0.02
