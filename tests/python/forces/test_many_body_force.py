"""Many-body forces: symmetries, gradients, and what no pair potential can say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from known_potentials import (
    bond_frames,
    check_symmetries,
    copper_frames,
    forces_by_differences,
)
from mlcore import export, forces
from mlcore.errors import Error, InvalidArgument
from mlcore.training import TrainingOptions, read_metrics
from stopping import stopped_after

CUTOFF = 1.9


@pytest.fixture(scope="module")
def known() -> list[Atoms]:
    return bond_frames(16)


@pytest.fixture(scope="module")
def model(known: list[Atoms]) -> forces.ManyBodyForce:
    found = forces.ManyBodyForce(CUTOFF, intervals=8, channels=4, centres=6, hidden=(16, 16))
    found.fit(known, epochs=40, learning_rate=1e-2, batch_size=3, validation=0.2)
    return found


def test_learns_what_pairs_cannot(model: forces.ManyBodyForce, known: list[Atoms]) -> None:
    pairs = forces.PairForce(CUTOFF).fit(known, validation=0.2)
    assert model.result is not None
    assert model.result.held_out_force_error < 0.7 * pairs.held_out_force_error


def test_copper_is_no_sum_over_pairs() -> None:
    """Vacancies, surfaces, strain, heat: the density around an atom decides how it binds."""
    learned, held_out = copper_frames(36), copper_frames(9, seed=1)
    pairs = forces.PairForce(5.4).fit(learned, validation=held_out)
    found = forces.ManyBodyForce(5.4).fit(learned, validation=held_out, epochs=24)
    assert found.force_error < 0.5 * pairs.force_error
    assert found.held_out_force_error < 0.5 * pairs.held_out_force_error
    assert found.held_out_energy_error < 0.5 * pairs.held_out_energy_error


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
    model = forces.ManyBodyForce(CUTOFF, intervals=4, hidden=(4,))
    result = model.fit(known[:2], validation=None, epochs=1)
    before = model.forces(known[0])
    with pytest.raises(Error, match="loss is"):
        model.fit(known[2:4], validation=None, epochs=5, learning_rate=1e30)
    assert model.result is result
    model.export(tmp_path / "b")
    for force in (model.forces(known[0]), forces.load(tmp_path / "b").forces(known[0])):
        np.testing.assert_array_equal(force, before)


@pytest.mark.parametrize("changed", [{"smooth": 0.3}, {"activation": "tanh"}, {"hidden": (5,)}])
def test_a_checkpoint_of_other_settings_is_refused(
    changed: dict[str, Any], known: list[Atoms], tmp_path: Path
) -> None:
    kind = forces.ManyBodyForce
    settings: dict[str, Any] = {"intervals": 4, "hidden": (4,)}
    told: dict[str, Any] = {"validation": None, "epochs": 1, "checkpoint": tmp_path}
    kind(CUTOFF, **settings).fit(known[:1], **told)
    kind(CUTOFF, **settings).fit(known[:1], **told)
    with pytest.raises(Error, match="other settings or data"):
        kind(CUTOFF, **{**settings, **changed}).fit(known[:1], **told)


def small() -> forces.ManyBodyForce:
    return forces.ManyBodyForce(CUTOFF, intervals=4, channels=4, hidden=(8,), seed=1)


def test_training_is_resumed(known: list[Atoms], tmp_path: Path) -> None:
    def run(folder: Path) -> forces.ManyBodyForce:
        found = small()
        options = TrainingOptions(
            epochs=6, learning_rate=3e-2, schedule="constant", batch_size=2,
            directory=folder, resume=True, checkpoint_every=1,
        )  # fmt: skip
        found.fit(known[:4], validation=0.25, training=options)
        return found

    whole = run(tmp_path / "whole")
    assert whole.result is not None and whole.result.training is not None
    history = whole.result.training.history
    assert min(h["loss"] for h in history) < 0.7 * history[0]["loss"]
    with stopped_after(3):
        run(tmp_path / "cut")
    assert len(read_metrics(tmp_path / "cut" / "metrics.jsonl")) == 4
    again = run(tmp_path / "cut")
    assert again.result is not None and again.result.training is not None
    assert again.result.training.history == history
    (atoms,) = bond_frames(1, seed=2)
    np.testing.assert_array_equal(again.forces(atoms), whole.forces(atoms))
    with pytest.raises(Error, match="other settings or data"):
        small().fit(known[4:], validation=0.25, checkpoint=tmp_path / "cut")


def bare(atoms: Atoms) -> Atoms:
    found: Atoms = atoms.copy()
    return found


def test_frames_without_labels_teach_nothing(known: list[Atoms]) -> None:
    """Whole batches of them are passed over; to validate on them would keep the first epoch."""
    options: dict[str, Any] = {"epochs": 4, "batch_size": 1, "validation": known[3:4]}
    result = small().fit([known[0], bare(known[4]), known[1], bare(known[5])], **options)
    assert result.training is not None and np.isfinite(result.held_out_force_error)
    losses = [record["loss"] for record in result.training.history]
    assert 0 < losses[-1] < losses[0]
    lone = Atoms("Cu", positions=[[0.0, 0, 0]])
    lone.arrays["forces"] = np.zeros((1, 3))
    assert small().fit(known[:2], **{**options, "validation": [lone]}).held_out_force_error == 0
    with pytest.raises(InvalidArgument, match="validation: the frames held out have no forces and"):
        small().fit(known[:2], **{**options, "validation": [bare(known[3])]})


def test_settings_may_come_all_at_once(known: list[Atoms], tmp_path: Path) -> None:
    once = TrainingOptions(epochs=2, batch_size=2)
    result = small().fit(known[:3], validation=None, training=once, checkpoint=tmp_path / "run")
    again = small().fit(known[:3], validation=None, training=once, checkpoint=tmp_path / "run")
    assert result.training is not None and again.training is not None
    assert again.training.history == result.training.history
    assert (tmp_path / "run" / "learning_curve.png").is_file()
    for told, match in (
        ({"training": {"epochs": 2}}, "training must be TrainingOptions, not {'epochs': 2}"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        (
            {"training": replace(once, directory=tmp_path), "checkpoint": tmp_path},
            "checkpoint must be None where the settings name a directory",
        ),
    ):
        with pytest.raises(InvalidArgument, match=match):
            small().fit(known[:3], validation=None, **told)
