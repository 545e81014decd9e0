"""Many-body forces: symmetries, gradients, and what no pair potential can say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from known_potentials import bond_frames, check_symmetries, forces_by_differences
from mlcore import export, forces
from mlcore.errors import Error

CUTOFF = 1.9


@pytest.fixture(scope="module")
def known() -> list[Atoms]:
    return bond_frames(16)


@pytest.fixture(scope="module")
def model(known: list[Atoms]) -> forces.ManyBodyForce:
    found = forces.ManyBodyForce(CUTOFF, intervals=8, channels=4, centres=6, hidden=(16, 16))
    found.fit(known, epochs=60, learning_rate=1e-2, batch_size=3, validation=0.2)
    return found


def test_learns_what_pairs_cannot(model: forces.ManyBodyForce, known: list[Atoms]) -> None:
    pairs = forces.PairForce(CUTOFF).fit(known, validation=0.2)
    assert model.result is not None
    assert model.result.held_out_force_error < 0.7 * pairs.held_out_force_error


def test_energies_and_forces_belong_together(model: forces.ManyBodyForce) -> None:
    (atoms,) = bond_frames(1, seed=8)
    np.testing.assert_allclose(
        model.forces(atoms)[:3], forces_by_differences(model, atoms), rtol=1e-5, atol=1e-6
    )
    check_symmetries(model, atoms)


def test_an_atom_alone_has_no_energy(model: forces.ManyBodyForce) -> None:
    assert model.energy([[0.0, 0, 0]]) == 0
    apart = [[0.0, 0, 0], [CUTOFF, 0, 0], [0, 3 * CUTOFF, 0]]
    assert abs(model.energy(apart)) < 1e-12 and np.abs(model.forces(apart)).max() < 1e-12


def test_smooth_at_the_cutoff(model: forces.ManyBodyForce) -> None:
    r = CUTOFF - np.array([1e-2, 1e-3, 1e-4])
    pushed = [np.abs(model.forces([[0.0, 0, 0], [x, 0, 0]])).max() for x in r]
    assert pushed[0] > pushed[1] > pushed[2] and pushed[2] < 1e-5


def test_export(model: forces.ManyBodyForce, tmp_path: Path) -> None:
    bundle = model.export(tmp_path / "b", units="metal", dtype="float32")
    assert bundle.engines == ("torchscript",) and bundle.native is None
    assert bundle.units["length"] == "metal"
    (atoms,) = bond_frames(1, seed=4)
    np.testing.assert_array_equal(forces.load(tmp_path / "b").forces(atoms), model.forces(atoms))
    assert "relative error" in export.verify(tmp_path / "b")["torchscript"]


def test_a_failed_fit_changes_nothing(known: list[Atoms], tmp_path: Path) -> None:
    for kind in (forces.PairForce, forces.ManyBodyForce):
        model = kind(CUTOFF, intervals=4, hidden=(4,))
        result = model.fit(known[:2], validation=None, epochs=1)
        before = model.forces(known[0])
        with pytest.raises(Error, match="loss is"):
            model.fit(known[2:4], validation=None, epochs=5, learning_rate=1e30)
        assert model.result is result
        model.export(tmp_path / kind.__name__)
        loaded = forces.load(tmp_path / kind.__name__)
        for force in (model.forces(known[0]), loaded.forces(known[0])):
            np.testing.assert_array_equal(force, before)


@pytest.mark.parametrize("changed", [{"smooth": 0.3}, {"activation": "tanh"}, {"hidden": (5,)}])
@pytest.mark.parametrize("kind", [forces.PairForce, forces.ManyBodyForce])
def test_a_checkpoint_of_other_settings_is_refused(
    kind: type, changed: dict[str, Any], known: list[Atoms], tmp_path: Path
) -> None:
    settings = {"intervals": 4, "hidden": (4,)}
    told = {"validation": None, "epochs": 1, "checkpoint": tmp_path}
    kind(CUTOFF, **settings).fit(known[:1], **told)
    kind(CUTOFF, **settings).fit(known[:1], **told)
    with pytest.raises(Error, match="other settings or data"):
        kind(CUTOFF, **{**settings, **changed}).fit(known[:1], **told)
