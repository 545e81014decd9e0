"""Bundles of splittings: written, read, verified; whatever is wrong with them is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlcore import export
from mlcore.cli.app import app
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.integrators.nbody_export import export as export_kicks
from mlcore.integrators.pair_kicks import PairKicks
from mlcore.splitting import PairSplitting
from typer.testing import CliRunner

STEP, MASSES = 0.05, (1.0, 2.5)


def kicks(types: int = 2, seed: int = 0) -> PairKicks:
    rng = np.random.default_rng(seed)
    controls = rng.normal(size=(2, types * (types + 1) // 2, 3, 11))
    return PairKicks(np.array([0.1, 0.25, 0.3, 0.25, 0.1]), controls, 2.5, 0.8, 0.007)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export_kicks(kicks(), tmp_path / "b", step=STEP, masses=MASSES, halvings=2, training={"n": 1})
    return tmp_path / "b"


def change(folder: Path, place: str, value: Any) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    *parents, last = place.split(".")
    part = manifest
    for name in parents:
        part = part[name]
    part[last] = value
    path.write_text(json.dumps(manifest))


def test_round_trip_is_exact(folder: Path) -> None:
    found, learned = export.load_splitting(folder), kicks()
    assert [one.h for one in found.steps] == [0.05, 0.025, 0.0125]
    assert found.units == {"length": "lj", "energy": "lj", "time": "lj"}
    assert found.manifest["training"] == {"n": 1}
    for one in found.steps:
        tables = learned.tables(one.h, np.array([0, 1]), np.array(MASSES))
        np.testing.assert_array_equal(one.coefficients, tables)
        np.testing.assert_array_equal(one.masses, MASSES)
        np.testing.assert_array_equal(one.drifts, learned.drifts)
        assert (one.u_lo, one.u_hi) == (1 / 2.5, 1 / 0.8)
    assert found.manifest["verified"]["native"] < 1e-12


def test_types_of_a_run(tmp_path: Path) -> None:
    """LAMMPS' types are learned ones of any mass, in any order."""
    made = export_kicks(kicks(), tmp_path / "b", step=STEP, masses=[1, 2, 3], types=[1, 1, 0])
    tables = kicks().tables(STEP, np.array([1, 1, 0]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(made.steps[0].coefficients, tables)
    assert len(made.steps) == 7
    one = export_kicks(kicks(1), tmp_path / "b", step=STEP, masses=[1, 2], halvings=0)
    assert [step.species for step in one.steps] == [2]


def test_verify(folder: Path) -> None:
    result = CliRunner().invoke(app, ["export", "verify", str(folder)])
    assert result.exit_code == 0, result.output
    assert "splitting of 4 kicks, 2 types" in result.output
    assert "0.05, 0.025, 0.0125" in result.output
    assert "relative error" in result.output
    with pytest.raises(FileFormatError, match="which load_splitting reads"):
        export.load_model(folder)


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        ("kind", "force", "kind must be one of 'dynamics'"),
        ("model.sees", "atoms", "model.sees must be one of 'neighbors'"),
        ("model.timestep", 0, "model.timestep must be positive"),
        ("model.members", 2, "model.members must be 1"),
        ("model.types", 3, "'m0.masses' must be F64 \\(3,\\)"),
        ("model.cutoff", 2.4, "u_lo must be the inverse of model.cutoff"),
        ("engines.native.kind", "mlp", "engines.native.kind must be one of 'splitting'"),
        ("engines.native.kicks", 5, "'m0.drifts' must be F64 \\(6,\\)"),
        ("engines.native.kicks", 1025, "kicks must be at most 1024"),
        ("engines.native.intervals", 9, "'m0.tables0' must be F64"),
        ("engines.native.halvings", 3, "'m0.tables3' is missing"),
        ("engines.native.u_hi", 0.3, "u_hi must lie above u_lo"),
        ("engines.native.u_hi", None, "u_hi must be a finite number"),
    ],
)
def test_wrong_manifests(folder: Path, place: str, value: Any, match: str) -> None:
    change(folder, place, value)
    with pytest.raises(FileFormatError, match=match):
        export.load_splitting(folder)


def test_damage_is_named(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    for read in (export.load_splitting, export.verify):
        with pytest.raises(FileFormatError, match="sha256"):
            read(folder)


def test_wrong_arguments(tmp_path: Path) -> None:
    for words, match in (
        ({"step": 0.0}, "step must be positive"),
        ({"masses": []}, "masses must have the shape"),
        ({"masses": [1.0, -1.0]}, "masses must be positive"),
        ({"types": [0]}, "types must be 2 integers"),
        ({"types": [0, 2]}, "types must lie in 0..1, got 0..2"),
        ({"masses": [1.0, 1.0, 1.0]}, "types must lie in 0..1, got 0..2"),
        ({"halvings": -1}, "halvings must not be negative"),
        ({"halvings": 40}, "at most 33"),
        ({"units": {"length": "a"}}, "units must name"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            export_kicks(kicks(), tmp_path / "b", **{"step": STEP, "masses": MASSES, **words})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="at least one"):
        export.write_splitting(tmp_path / "b", [])
    one, other = (export_kicks(kicks(1, s), tmp_path / "c", step=1.0, masses=[1.0]) for s in (0, 1))
    with pytest.raises(InvalidArgument, match="number 1 is 1"):
        export.write_splitting(tmp_path / "b", [one.steps[0], other.steps[0]])
    half = one.steps[1]
    narrow = PairSplitting(half.h, half.drifts, [2.0], half.coefficients, half.u_lo, half.u_hi)
    with pytest.raises(InvalidArgument, match="alike but for h and coefficients"):
        export.write_splitting(tmp_path / "b", [one.steps[0], narrow])
    assert not (tmp_path / "b").exists()
