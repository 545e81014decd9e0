"""Rounds of learning: stages that are done are not done again, and the error falls."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlcore.errors import Error, InvalidArgument

pytest.importorskip("torch")

import ase
import ase.io
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from mlcore import forces
from mlcore.export import load_model

CUTOFF = 2.0


def shaken(width: float, seed: int) -> ase.Atoms:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) * 1.1
    x = grid + rng.uniform(-width, width, grid.shape)
    return ase.Atoms("X64", positions=x, cell=4.4 * np.eye(3), pbc=True)


def label(frames: list[ase.Atoms]) -> list[ase.Atoms]:
    known = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = MorsePotential(rcut1=1.5, rcut2=CUTOFF, rho0=3.0)
        told = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}
        copy.calc = SinglePointCalculator(copy, **told)
        known.append(copy)
    return known


class Explorer:
    """Records frames that are further and further from the lattice."""

    def __init__(self, count: int = 5) -> None:
        self.count, self.tasks = count, []

    def __call__(self, task: forces.Exploration) -> None:
        self.tasks.append(task)
        assert forces.load(task.model).contract().cutoff == CUTOFF
        assert not any(task.folder.iterdir()) and task.spread > 0
        width = 0.06 * (task.number + 2)
        found = [shaken(width, 100 * task.number + k) for k in range(self.count)]
        if found:
            ase.io.write(task.frames, found, format="extxyz")


def committee() -> forces.Committee:
    return forces.Committee(forces.PairForce(cutoff=CUTOFF, intervals=12), members=3)


FIRST = label([shaken(0.04, 1), shaken(0.04, 2)])
TEST = label([shaken(0.2, 3), shaken(0.2, 4)])


def learn(folder: Path, explore: Any, **changed: Any) -> list[forces.Round]:
    options: dict[str, Any] = {"fit": {"validation": None}, "test": TEST, "most": 3, **changed}
    return forces.active_rounds(committee(), FIRST, explore, label, folder=folder, **options)


@dataclass
class Whole:
    """Rounds that nothing stopped."""

    folder: Path
    explorer: Explorer
    rounds: list[forces.Round]
    said: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, explorer, said = tmp_path_factory.mktemp("whole") / "al", Explorer(), io.StringIO()
    with contextlib.redirect_stderr(said):
        rounds = learn(folder, explorer, progress=True)
    return Whole(folder, explorer, rounds, said.getvalue())


def test_the_error_falls(whole: Whole) -> None:
    rounds = whole.rounds
    assert [r.known for r in rounds] == [2, 5, 8, 11]
    assert [(r.recorded, r.added) for r in rounds] == [(5, 3)] * 3 + [(0, 0)]
    assert rounds[-1].force_error < rounds[0].force_error / 3
    assert "round 3: learning from 11 frames" in whole.said
    last = forces.load(rounds[-1].bundle)
    errors = [last.forces(atoms) - atoms.get_forces() for atoms in TEST]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(rounds[-1].force_error, rel=1e-6)
    assert learn(whole.folder, whole.explorer) == rounds
    assert len(whole.explorer.tasks) == 3


def test_frames_labelled_are_spread_over_those_recorded(tmp_path: Path) -> None:
    learn(tmp_path / "al", Explorer(), rounds=1)
    recorded = ase.io.read(tmp_path / "al/round_0/explore/frames.xyz", index=":")
    labelled = ase.io.read(tmp_path / "al/round_0/labelled.xyz", index=":")
    for atoms, k in zip(labelled, (0, 2, 4), strict=True):
        np.testing.assert_allclose(atoms.positions, recorded[k].positions, atol=1e-7)
        assert np.isfinite(atoms.get_potential_energy())


@pytest.mark.parametrize("stage", ["explore", "label"])
def test_goes_on_after_a_stop(tmp_path: Path, stage: str, whole: Whole) -> None:
    """Killed in the second round; the first one is not done again."""
    calls = {"explore": 0, "label": 0}

    def stopping(name: str, function: Any) -> Any:
        def call(argument: Any) -> Any:
            calls[name] += 1
            if name == stage and calls[name] == 2:
                raise KeyboardInterrupt
            return function(argument)

        return call

    explore, mark = stopping("explore", Explorer()), stopping("label", label)
    told: dict[str, Any] = {"folder": tmp_path / "part", "fit": {"validation": None}}
    told |= {"test": TEST, "most": 3}
    with pytest.raises(KeyboardInterrupt):
        forces.active_rounds(committee(), FIRST, explore, mark, **told)
    rounds = forces.active_rounds(committee(), FIRST, explore, mark, **told)
    assert calls == (
        {"explore": 4, "label": 3} if stage == "explore" else {"explore": 4, "label": 4}
    )
    assert [r.force_error for r in rounds] == [r.force_error for r in whole.rounds]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    learn(tmp_path / "al", Explorer(), rounds=0)
    with pytest.raises(Error, match=r"holds rounds of other settings \(most\); remove it"):
        learn(tmp_path / "al", Explorer(), rounds=0, most=4)
    with pytest.raises(Error, match=r"other settings \(frames\)"):
        forces.active_rounds(
            committee(),
            TEST,
            Explorer(),
            label,
            folder=tmp_path / "al",
            fit={"validation": None},
            test=TEST,
            most=3,
        )
    assert len(learn(tmp_path / "al", Explorer(), rounds=1)) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("inputs", ("x", "v")), ("hidden", (4,)), ("activation", "silu"), ("seed", 7)],
)
def test_every_setting_of_a_model_counts(name: str, value: Any, tmp_path: Path) -> None:
    known = [shaken(0.04, k) for k in range(2)]
    for atoms in known:
        atoms.arrays["forces"] = -atoms.positions
        atoms.arrays["velo"] = 0.1 * atoms.positions

    def claimed(**settings: Any) -> None:
        model = forces.Committee(forces.ExternalForce(**settings), members=2)
        forces.active_rounds(
            model, known, Explorer(0), label, folder=tmp_path, rounds=0, fit={"epochs": 1}
        )

    first: dict[str, Any] = {"inputs": ("x",), "hidden": (), "activation": "tanh", "seed": 0}
    claimed(**first)
    claimed(**first)
    with pytest.raises(Error, match=r"other settings \(model\)"):
        claimed(**{**first, name: value})


def test_frames_to_test_and_to_validate_on_count(tmp_path: Path) -> None:
    told: dict[str, Any] = {"rounds": 0, "fit": {"validation": TEST}}
    learn(tmp_path / "al", Explorer(), **told)
    learn(tmp_path / "al", Explorer(), **told)
    with pytest.raises(Error, match=r"other settings \(test\)"):
        learn(tmp_path / "al", Explorer(), **told, test=TEST[:1])
    with pytest.raises(Error, match=r"other settings \(fit\)"):
        learn(tmp_path / "al", Explorer(), rounds=0, fit={"validation": TEST[::-1]})


def test_ends_when_nothing_is_unknown(tmp_path: Path) -> None:
    (only,) = learn(tmp_path / "al", Explorer(0))
    assert only.recorded == only.added == 0


def test_frames_beyond_the_limit_are_left_out(tmp_path: Path) -> None:
    largest = [np.abs(a.get_forces()).max() for a in label([shaken(0.12, k) for k in (0, 2, 4)])]
    limit = 1.001 * float(np.sort(largest)[1])
    rounds = learn(tmp_path / "al", Explorer(), rounds=1, force_limit=limit)
    assert [r.known for r in rounds] == [2, 4]


def test_bundles_have_the_units_of_the_model(tmp_path: Path) -> None:
    known = [shaken(0.04, k) for k in range(2)]
    for atoms in known:
        atoms.arrays["forces"] = -atoms.positions
    force = forces.ExternalForce(("x",), hidden=(), units="metal")
    told: dict[str, Any] = {"folder": tmp_path, "rounds": 0, "fit": {"validation": None}}
    model = forces.Committee(force, members=2)
    with pytest.raises(InvalidArgument, match="units must be those of the model, 'metal'"):
        forces.active_rounds(model, known, Explorer(0), label, units="real", **told)
    assert not list(tmp_path.iterdir())
    (only,) = forces.active_rounds(model, known, Explorer(0), label, **told)
    assert set(load_model(only.bundle).units.values()) == {"metal"}


@pytest.mark.parametrize("forces_of", [None, np.nan])
def test_labels_are_checked_before_they_are_kept(forces_of: Any, tmp_path: Path) -> None:
    """Else rounds would go on with nothing new, or stop at the same place for ever."""

    def wrong(frames: list[ase.Atoms]) -> list[ase.Atoms]:
        for atoms in frames:
            if forces_of is not None:
                atoms.arrays["forces"] = np.full((64, 3), forces_of)
        return frames

    told: dict[str, Any] = {"folder": tmp_path / "al", "fit": {"validation": None}, "test": TEST}
    told |= {"most": 3, "rounds": 1}
    with pytest.raises(InvalidArgument, match="label must give frames with|forces must be finite"):
        forces.active_rounds(committee(), FIRST, Explorer(), wrong, **told)
    assert [r.known for r in learn(tmp_path / "al", Explorer(), rounds=1)] == [2, 5]


def test_wrong_arguments(tmp_path: Path) -> None:
    for change in ({"rounds": -1}, {"most": 0}):
        with pytest.raises(InvalidArgument, match="rounds and most"):
            learn(tmp_path / "al", Explorer(), **change)
    with pytest.raises(InvalidArgument, match="no such file"):
        learn(tmp_path / "al", tmp_path / "absent.lmp")
    bare = [shaken(0.1, 1)]
    with pytest.raises(InvalidArgument, match="test: a frame has no forces"):
        learn(tmp_path / "b", Explorer(), test=bare)
