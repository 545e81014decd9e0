"""Forces on single atoms, conservative or not; committees of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from known_potentials import CUTOFF, lj_frames
from mlcore import data, export, forces, observables, steppers
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.training import TrainingOptions


def trajectory(force: Any, frames: int = 12, n: int = 40, **options: Any) -> data.Trajectory:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (frames, n, 3))
    v = rng.normal(size=x.shape)
    times = np.arange(float(frames))
    return data.Trajectory(times, x, velocities=v, forces=force(x, v), **options)


def test_linear_drag_is_exact(tmp_path: Path) -> None:
    model = forces.ExternalForce(("v",), hidden=())
    result = model.fit(trajectory(lambda x, v: 0.25 - 0.7 * v))
    assert result.held_out_force_error < 1e-12
    v = np.array([[1.0, 2.0, -3.0]])
    np.testing.assert_allclose(model.forces(0 * v, velocities=v), 0.25 - 0.7 * v, rtol=1e-12)
    with pytest.raises(Error, match="not conservative"):
        model.energy(0 * v, velocities=v)
    with pytest.raises(InvalidArgument, match="velocities"):
        model.forces(0 * v)
    bundle = model.export(tmp_path / "b")
    assert bundle.engines == ("native", "torchscript")
    assert bundle.contract.gives == "forces" and bundle.contract.inputs == ("v",)


def test_drag_of_every_type() -> None:
    types = np.array([1, 2] * 20)
    drag = np.where(types == 1, 0.2, 1.4)[:, None]
    known = trajectory(lambda x, v: -drag * v, types=types)
    model = forces.ExternalForce(("v", "types"), 2, hidden=(24,), activation="silu")
    result = model.fit(known, epochs=150)
    assert result.held_out_force_error < 0.1
    v = np.ones((2, 3))
    got = model.forces(0 * v, velocities=v, types=[1, 2])
    np.testing.assert_allclose(got, -np.array([[0.2] * 3, [1.4] * 3]), atol=0.1)


def test_trap_has_an_energy() -> None:
    model = forces.ExternalForce(("x",), conservative=True, hidden=(24, 24))
    result = model.fit(trajectory(lambda x, v: -x), epochs=150)
    assert result.held_out_force_error < 0.1
    x = np.array([[0.5, -1.0, 0.2]])
    h = 1e-5
    for k in range(3):
        step = h * np.eye(3)[k]
        slope = (model.energy(x + step) - model.energy(x - step)) / (2 * h)
        np.testing.assert_allclose(-slope, model.forces(x)[0, k], rtol=1e-6, atol=1e-8)


def test_positions_are_taken_inside_the_box() -> None:
    model = forces.ExternalForce(("x",), hidden=(8,))
    model.fit(trajectory(lambda x, v: np.sin(x), cell=4 * np.eye(3)), epochs=5)
    x = np.array([[0.5, 1.0, 3.0]])
    box: dict[str, Any] = {"cell": 4 * np.eye(3), "pbc": (True, False, True)}
    again = model.forces(x + [8.0, 0, -4.0], **box)
    np.testing.assert_allclose(again, model.forces(x, **box), rtol=1e-12)


def test_a_failed_fit_changes_nothing(tmp_path: Path) -> None:
    model = forces.ExternalForce(("x",), hidden=(4,))
    result = model.fit(trajectory(lambda x, v: -x, frames=3), epochs=3)
    x = np.array([[0.5, -1.0, 0.2]])
    before = model.forces(x)
    with pytest.raises(Error, match="loss is"):
        model.fit(trajectory(lambda x, v: 9 - x), epochs=5, learning_rate=1e30)
    assert model.result is result
    model.export(tmp_path / "b", torchscript=False)
    for force in (model.forces(x), forces.load(tmp_path / "b").forces(x)):
        np.testing.assert_array_equal(force, before)
    np.testing.assert_allclose(model.evaluate(x, dtype="float32").forces, before, rtol=1e-5)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    known = trajectory(lambda x, v: -x, frames=3)
    forces.ExternalForce(("x",), hidden=(4,)).fit(known, epochs=3, checkpoint=tmp_path)
    result = forces.ExternalForce(("x",), hidden=(4,)).fit(known, epochs=3, checkpoint=tmp_path)
    assert result.training is not None and result.training.epochs == 3
    with pytest.raises(Error, match="other settings or data"):
        forces.ExternalForce(("x",), hidden=(4,), activation="silu").fit(
            known, epochs=3, checkpoint=tmp_path
        )


def test_calculator_follows_velocities_types_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    types = np.array([1, 2] * 20)
    push = 0.5 * types[:, None]
    known = trajectory(lambda x, v: push - 0.7 * v, types=types)
    model = forces.ExternalForce(("v", "types", "time"), 2, hidden=(), units="lj")
    model.fit(known)
    evaluate, calls = model.evaluate, []
    monkeypatch.setattr(model, "evaluate", lambda *a, **k: calls.append(a) or evaluate(*a, **k))
    atoms = Atoms("X2", positions=np.zeros((2, 3)), calculator=model.calculator())
    atoms.set_masses([1.0, 1.0])
    atoms.arrays["type"] = np.array([1, 2])
    for v in (1.0, -2.0):
        atoms.set_velocities(np.full((2, 3), v))
        want = np.array([[0.5] * 3, [1.0] * 3]) - 0.7 * v
        np.testing.assert_allclose(atoms.get_forces(), want, rtol=1e-9)
    atoms.arrays["type"] = np.array([2, 2])
    np.testing.assert_allclose(atoms.get_forces(), 2.4, rtol=1e-9)
    atoms.get_forces()
    assert len(calls) == 3
    atoms.info["time"] = 1.0
    atoms.get_forces()
    assert len(calls) == 4


def test_calculator_keeps_what_does_not_depend_on_velocities() -> None:
    model = forces.ExternalForce(("x",), hidden=())
    model.fit(trajectory(lambda x, v: -x))
    atoms = Atoms("X", positions=[[1.0, 2, 3]], calculator=model.calculator())
    np.testing.assert_allclose(atoms.get_forces(), -atoms.positions, rtol=1e-9)
    atoms.set_momenta([[1.0, 0, 0]])
    assert not atoms.calc.check_state(atoms)
    atoms.positions += 1
    assert atoms.calc.check_state(atoms) == ["positions"]


def test_bad_arguments() -> None:
    for inputs in ((), ("x", "cell"), "x", ("q",), None, 3):
        with pytest.raises(InvalidArgument, match="inputs"):
            forces.ExternalForce(inputs)
    with pytest.raises(InvalidArgument, match="potential"):
        forces.ExternalForce(("x", "v"), conservative=True)
    with pytest.raises(InvalidArgument, match="frames must have forces"):
        forces.ExternalForce(("x",)).fit([Atoms("Ar")])


def test_committee_of_pairs_is_unsure_where_it_saw_nothing(tmp_path: Path) -> None:
    committee = forces.Committee(forces.PairForce(CUTOFF, intervals=24), members=3)
    results = committee.fit(lj_frames(5), validation=0.2)
    assert len(results) == 3
    (atoms,) = lj_frames(1, seed=6)
    found = committee.evaluate(atoms)
    each = np.stack([m.forces(atoms) for m in committee.members])
    np.testing.assert_allclose(found.forces, each.mean(0), atol=1e-12)
    apart = np.sqrt(((each - each.mean(0)) ** 2).sum(-1).mean(0))
    np.testing.assert_allclose(found.spread, apart, atol=1e-12)
    squeezed = atoms.copy()
    squeezed.set_cell(0.85 * atoms.cell.array, scale_atoms=True)
    assert committee.spread(squeezed).mean() > 2 * found.spread.mean()
    bundle = committee.export(tmp_path / "b")
    assert bundle.members == 3 and bundle.native is not None and len(bundle.native) == 3
    assert "Committee of 3" in bundle.manifest["training"]["model"]
    loaded = forces.load(tmp_path / "b")
    np.testing.assert_allclose(loaded.spread(atoms), found.spread, atol=1e-12)
    assert set(export.verify(tmp_path / "b")) >= {"native", "torchscript"}


def test_committee_keeps_a_checkpoint_of_every_member(tmp_path: Path) -> None:
    known = trajectory(lambda x, v: -x - v, frames=4)
    committee = forces.Committee(forces.ExternalForce(("x", "v"), hidden=(4,)), members=2)
    committee.fit(known, epochs=3, checkpoint=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["member_0", "member_1"]
    assert (tmp_path / "run/member_1/checkpoint.safetensors").is_file()
    for members in (1, 2.5, True):
        with pytest.raises(InvalidArgument, match="members"):
            forces.Committee(forces.PairForce(2.5), members=members)  # type: ignore[arg-type]


def test_a_committee_with_settings_of_its_own(tmp_path: Path) -> None:
    """Every member has a folder, and goes on from what is there."""
    known = trajectory(lambda x, v: -x - v, frames=4)
    kept = TrainingOptions(epochs=3, batch_size=16, directory=tmp_path / "run", resume=True)

    def fitted() -> forces.Committee:
        found = forces.Committee(forces.ExternalForce(("x", "v"), hidden=(4,)), members=2)
        found.fit(known, training=kept)
        return found

    first, again = fitted(), fitted()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["member_0", "member_1"]
    x = np.array([[0.5, -1.0, 0.2]])
    np.testing.assert_array_equal(first.forces(x, velocities=x), again.forces(x, velocities=x))
    assert first.spread(x, velocities=x) > 0


@pytest.mark.parametrize("seed", [-1, 0.5, "a", None, True, 1 << 63])
def test_seeds_are_whole_numbers(seed: Any) -> None:
    for make in (
        lambda: forces.PairForce(2.0, seed=seed),
        lambda: forces.ManyBodyForce(2.0, seed=seed),
        lambda: forces.ExternalForce(seed=seed),
        lambda: observables.LearnedObservable("atoms", seed=seed),
        lambda: observables.Autoencoder(1, seed=seed),
        lambda: steppers.OneStep(seed=seed),
        lambda: steppers.RecurrentStep(seed=seed),
        lambda: TrainingOptions(seed=seed),
    ):
        with pytest.raises(InvalidArgument, match="seed must be a whole number from 0 on, not"):
            make()


def test_a_committee_learns_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second of three members: all stay as they were, and the first is not repeated."""
    known, other = trajectory(lambda x, v: -x, frames=3), trajectory(lambda x, v: x, frames=3)
    committee = forces.Committee(forces.ExternalForce(("x",), hidden=(4,)), members=3)
    committee.fit(known, epochs=2)
    x = np.array([[0.5, -1.0, 0.2]])
    before, members = committee.evaluate(x), committee.members
    each = [m.forces(x) for m in members]
    fit, calls = forces.ExternalForce.fit, []

    def stopping(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(self.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(self, *arguments, **options)

    monkeypatch.setattr(forces.ExternalForce, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        committee.fit(other, epochs=3, checkpoint=tmp_path)
    assert calls == [0, 1]
    for m, force in zip(committee.members, each, strict=True):
        np.testing.assert_array_equal(m.forces(x), force)
    np.testing.assert_array_equal(committee.forces(x), before.forces)
    results = committee.fit(other, epochs=3, checkpoint=tmp_path)
    monkeypatch.undo()
    whole = forces.Committee(forces.ExternalForce(("x",), hidden=(4,)), members=3)
    whole.fit(other, epochs=3)
    np.testing.assert_array_equal(committee.forces(x), whole.forces(x))
    history = results[0].training
    stopped = (tmp_path / "member_0/metrics.jsonl").read_text().splitlines()
    assert history is not None and len(stopped) == len(history.history) == 3


def test_other_bundles_are_not_forces(tmp_path: Path) -> None:
    from mlcore import networks

    contract = export.Contract("qoi", "atoms", "values", ("x",), shape=(1,), reduce="mean")
    network = networks.make("atom-rows", {"inputs": ["x"], "gives": "values"})
    export.write_model(tmp_path / "b", contract, network)
    with pytest.raises(FileFormatError, match="holds qoi of atoms"):
        forces.load(tmp_path / "b")
