"""Coarse-grained water: ice at rest, and examples/water_refit in its small form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlcore.errors import InvalidArgument
from mlcore.forcefield import forms, water
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.targets import Crystal, CubicCrystal
from mlcore.neighbors import neighbor_list

EXAMPLE = Path(__file__).parents[3] / "examples" / "water_refit" / "water_refit.py"


@pytest.mark.parametrize("kind", ["cubic", "hexagonal"])
def test_ice_is_tetrahedral(kind: str) -> None:
    made = water.ice(kind, 6.3 if kind == "cubic" else 4.4548)  # type: ignore[arg-type]
    i, vectors, d = neighbor_list("iDd", made.positions, 3.2, made.cell[:], True)
    assert len(made) == 8 and (np.bincount(i) == 4).all()
    np.testing.assert_allclose(d, 6.3 * np.sqrt(3) / 4, rtol=2e-4)
    for atom in range(8):
        own = vectors[i == atom] / d[i == atom, None]
        np.testing.assert_allclose((own @ own.T)[np.triu_indices(4, 1)], -1 / 3, atol=1e-10)


def test_hexagonal_ice_is_no_cubic_one() -> None:
    made = water.ice("hexagonal", 4.4548)
    d = neighbor_list("d", made.positions, 4.7, made.cell[:], True)
    # the third shell of hexagonal ice begins at 5/3 bonds, that of cubic ice at 1.91
    assert np.sum((d > 4.5) & (d < 4.6)) == 8


@pytest.mark.parametrize(
    ("form", "energy", "cubic", "hexagonal"),
    [
        ("ml-bop", -0.464192, 6.3015, (4.4558, 7.2764)),
        ("mw", -0.536761, 6.2019, (4.3854, 7.1613)),
    ],
)
def test_ice_at_rest(
    form: str, energy: float, cubic: float, hexagonal: tuple[float, float]
) -> None:
    model = forms.model(form, ["bead:W"], {"W": water.MASS})
    a, c = hexagonal
    targets = [
        CubicCrystal(water.ice("cubic", 6.3), {"a": cubic, "energy": energy}, name="cubic"),
        Crystal(
            water.ice("hexagonal", 4.44, 7.2), {"a": a, "c": c, "energy": energy}, name="hexagonal"
        ),
    ]
    with Evaluator(model, targets) as evaluator:
        found = evaluator([model.defaults])[0].values
    np.testing.assert_allclose(found["cubic"], [cubic, energy], atol=1e-4)
    np.testing.assert_allclose(found["hexagonal"], [a, c, energy], atol=1e-4)


def test_forms_and_kinds_that_are_not_there() -> None:
    with pytest.raises(InvalidArgument, match="form"):
        water.refit("lj/cut")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="kind"):
        water.ice("wet", 6.3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_example_finds_densities_within_a_percent(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    text = (tmp_path / "table.md").read_text()
    rows = {
        words[1]: [float(word) for word in words[4:6]]
        for line in text.splitlines()
        if (words := [word.strip() for word in line.split("|")])[1:2]
        and words[1].startswith("density of")
    }
    assert set(rows) == {"density of ice at 200 K", "density of liquid at 300 K"}
    assert all(abs(size) <= 1 for _, size in rows.values())
    counts = [int(line.split()[-2]) for line in text.splitlines() if line.endswith("candidates")]
    assert counts[0] > 20 * counts[1] >= 20 * counts[2] > 0
