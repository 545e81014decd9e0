"""Learned observables: known values found again, invariances, what is wrong with the data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from mlcore import export, observables
from mlcore.data import Trajectory
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.observables import LearnedObservable
from mlcore.training import TrainingOptions, read_metrics
from scipy.spatial.transform import Rotation
from stopping import stopped_after

SIDE = 4.2


def crystal(seed: int, count: int = 27) -> Atoms:
    """A shaken lattice in a periodic box."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    x = 1.4 * grid + rng.uniform(-0.3, 0.3, (27, 3)) * rng.uniform()
    return Atoms(f"Ar{count}", positions=x[:count], cell=[SIDE] * 3, pbc=True)


FRAMES = [crystal(seed) for seed in range(40)]
TRUTH = observables.CoordinationNumber(1.8, 1.3)


def counted(**options: Any) -> LearnedObservable:
    model = LearnedObservable(cutoff=2.0, hidden=(), **options)
    reduce = model.reduce or "mean"
    known = observables.CoordinationNumber(1.8, 1.3, reduce=reduce)
    model.fit(FRAMES, [known(atoms) for atoms in FRAMES], validation=0.2)
    return model


@pytest.mark.parametrize("reduce", ["mean", "sum", "none"])
def test_a_count_is_found_again(reduce: Any) -> None:
    model = counted(reduce=reduce)
    known = observables.CoordinationNumber(1.8, 1.3, reduce=reduce)
    fresh = [crystal(seed) for seed in range(100, 110)]
    labels = np.array([known(atoms) for atoms in fresh])
    away = np.array([model(atoms) for atoms in fresh]) - labels
    assert np.sqrt((away**2).mean()) < 0.02 * labels.std()
    (result,) = model.results
    assert result.held_out_error[0] < 0.02 * labels.std()


def test_layers_learn_what_a_sum_over_neighbors_cannot() -> None:
    """q2 depends on the angles between neighbors."""
    known = observables.LocalOrder(1.8, 2, 1.3, reduce="none")
    labels = [known(atoms) for atoms in FRAMES]
    plain = LearnedObservable(cutoff=1.8, reduce="none", hidden=())
    deep = LearnedObservable(cutoff=1.8, reduce="none", hidden=(32,))
    first = plain.fit(FRAMES, labels, validation=0.2).held_out_error
    result = deep.fit(FRAMES, labels, validation=0.2, epochs=80)
    assert result.held_out_error < 0.6 * first
    assert result.training is not None
    assert result.training.history[-1]["validation"] > 0


def two_types() -> LearnedObservable:
    """Neighbors of the second type, counted by atoms of the first alone."""
    frames, labels = [], []
    for seed in range(30):
        atoms = crystal(seed)
        atoms.arrays["type"] = np.random.default_rng(seed).integers(1, 3, 27)
        second = np.flatnonzero(atoms.arrays["type"] == 2)
        each = observables.CoordinationNumber(1.8, 1.3, reduce="none")
        with_others = np.zeros(27)
        for k in range(27):
            chosen = [k, *second[second != k]]
            with_others[k] = each(atoms[chosen])[0, 0]
        frames.append(atoms)
        labels.append(np.stack([with_others, np.ones(27)], 1))
    model = LearnedObservable("neighbors", 2, cutoff=1.9, types=2, reduce="none", hidden=(8,))
    error = model.fit(frames, labels, epochs=5, validation=0.2).held_out_error
    assert error[0] < 0.1 and error[1] < 0.05
    return model


def test_types_and_several_values() -> None:
    model = two_types()
    atoms = crystal(7)
    with pytest.raises(InvalidArgument, match="types"):
        model(atoms)
    found = model(atoms.positions, cell=atoms.cell.array, pbc=True, types=[1] * 26 + [2])
    assert found.shape == (27, 2)


def deep(**options: Any) -> LearnedObservable:
    model = LearnedObservable(cutoff=2.0, hidden=(8,), activation="tanh", **options)
    known = observables.CoordinationNumber(1.8, 1.3, reduce=model.reduce or "mean")
    model.fit(FRAMES, [known(atoms) for atoms in FRAMES], epochs=3)
    return model


def test_neighbors_are_invariant() -> None:
    """Moved, turned, mirrored, and atoms in another order."""
    model = deep(reduce="none")
    x = np.random.default_rng(1).normal(scale=1.2, size=(15, 3))
    values = model(x)
    turn = Rotation.from_rotvec([0.3, -1.2, 0.7])
    order = np.random.default_rng(2).permutation(15)
    for moved in (x + [3.0, -2, 1], turn.apply(x), x * [1, 1, -1]):
        assert model(moved) == pytest.approx(values, abs=1e-6, rel=1e-6)
    assert model(x[order]) == pytest.approx(values[order], abs=1e-6, rel=1e-6)


def test_smooth_at_the_cutoff() -> None:
    """Value and slope go to those of an atom alone as its neighbor leaves."""
    model = deep(reduce="none")
    alone = model(np.array([[0.0, 0, 0], [9.0, 0, 0]]))

    def away(r: float) -> float:
        return float((model(np.array([[0.0, 0, 0], [r, 0, 0]])) - alone)[0, 0])

    step = [away(2.0 - h) for h in (4e-3, 2e-3)]
    assert away(1.2) != pytest.approx(0, abs=1e-3)
    assert away(2.0 + 1e-9) == 0
    # third order: a half of the distance leaves an eighth
    assert abs(step[1]) < 0.2 * abs(step[0]) < 1e-4


def chains(count: int, seed: int, n: int = 6) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(count, n, 3)), 1)


def size_of(x: np.ndarray) -> float:
    return float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean()))


@pytest.mark.parametrize("invariance", ["none", "translation", "rotation"])
def test_configurations(invariance: Any, tmp_path: Path) -> None:
    frames = chains(400, 0)
    model = LearnedObservable("configuration", invariance=invariance)
    labels = [size_of(x) for x in frames]
    result = model.fit(frames, labels, epochs=60, learning_rate=1e-2)
    assert result.held_out_error[0] < (0.9 if invariance == "none" else 0.5) * np.std(labels)
    x = chains(1, 5)[0]
    turned = Rotation.from_rotvec([0.3, -1.2, 0.7]).apply(x)
    moved, known = {"none": (x, x), "translation": (x + 7, x), "rotation": (turned - 3, x)}[
        invariance
    ]
    assert model(moved) == pytest.approx(model(known), abs=1e-6)
    if invariance != "none":
        inside = x - 12 * np.floor(x / 12)
        assert model(inside, cell=[12] * 3, pbc=True) == pytest.approx(model(x), abs=1e-9)
    bundle = model.export(tmp_path / "b")
    assert ("native" in bundle.engines) == (invariance == "none")


def test_linear_functions_of_atoms_are_exact() -> None:
    rng = np.random.default_rng(0)
    t = Trajectory(
        np.arange(20.0), rng.normal(size=(20, 5, 3)), velocities=rng.normal(size=(20, 5, 3))
    )
    model = LearnedObservable("atoms", 2, inputs=("x", "v"), reduce="mean", hidden=())
    labels = np.stack([t.positions[:, :, 0].mean(1) + 3, t.velocities[:, :, 1].mean(1)], 1)
    assert model.fit(t, labels).held_out_error.max() < 1e-10
    x, v = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    found = model(x, velocities=v)
    assert found == pytest.approx([x[:, 0].mean() + 3, v[:, 1].mean()], abs=1e-9)
    with pytest.raises(InvalidArgument, match="velocities"):
        model(x)


def test_velocities_of_ase_are_converted(tmp_path: Path) -> None:
    """The mean velocity, told by momenta of ASE: sqrt(eV/u) is 98.2269 Angstrom/ps."""
    frames = [crystal(k) for k in range(4)]
    rng = np.random.default_rng(0)
    for atoms in frames:
        atoms.set_momenta(rng.normal(size=(27, 3)) * atoms.get_masses()[:, None])
    labels = np.stack([98.22694788 * atoms.get_velocities()[:, 0].mean() for atoms in frames])
    told: dict[str, Any] = {"inputs": ("v",), "hidden": ()}
    model = LearnedObservable("atoms", **told, units="metal")
    model.fit(frames, labels[:, None])
    v = np.array([[2.0, 3, 4], [6, 7, 8]])
    assert model(0 * v, velocities=v) == pytest.approx([4.0], rel=1e-6)
    model.export(tmp_path / "b")
    again = LearnedObservable.load(tmp_path / "b")
    assert again(frames[0]) == pytest.approx(labels[:1], rel=1e-6)
    with pytest.raises(InvalidArgument, match="units must be those of the model"):
        model.export(tmp_path / "c", units="lj")
    with pytest.raises(InvalidArgument, match="momenta of ase.Atoms need a model with units="):
        LearnedObservable("atoms", **told).fit(frames, labels[:, None])


def test_symbols_of_a_trajectory_are_its_types() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4, 3))
    t = Trajectory(np.arange(8.0), x, symbols=np.array(["Na", "Cl", "Cl", "Na"]))
    labels = x[:, [0, 3], 0].sum(1)
    types = ("Cl", "Na")
    model = LearnedObservable(
        "atoms", inputs=("x", "types"), types=types, reduce="sum", hidden=(16,)
    )
    read = observables.frames.read_frames(t, model.kinds)
    assert [f.types.tolist() for f in read] == [[1, 0, 0, 1]] * 8
    assert model.fit(t, labels[:, None], epochs=2).seconds > 0
    with pytest.raises(InvalidArgument, match="atoms hold Cl, the types are Na, K"):
        LearnedObservable("atoms", inputs=("x",), types=("Na", "K")).fit(t, labels[:, None])


def test_layers_of_atoms() -> None:
    rng = np.random.default_rng(0)
    t = Trajectory(
        np.arange(100.0),
        rng.normal(size=(100, 20, 3)),
        velocities=rng.normal(size=(100, 20, 3)),
    )
    labels = 0.5 * (t.velocities**2).sum((1, 2))
    model = LearnedObservable("atoms", inputs=("v",), reduce="sum")
    result = model.fit(t, labels, epochs=300, batch_size=20, learning_rate=1e-2)
    assert result.held_out_error[0] < 0.2 * labels.std()


def of_rows(sees: Any, **options: Any) -> LearnedObservable:
    model = LearnedObservable(sees, hidden=(8,), **options)
    model.fit(FRAMES, [TRUTH(atoms) for atoms in FRAMES], epochs=2)
    return model


MODELS = {
    "atoms": lambda: of_rows("atoms", activation="tanh"),
    "configuration": lambda: of_rows("configuration", invariance="none", members=2),
    "shape": lambda: of_rows("configuration"),
    "neighbors": lambda: deep(),
    "table": lambda: counted(reduce="sum"),
    "committee": lambda: deep(members=2, reduce="none"),
    "two types": two_types,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(name: str, dtype: Any, tmp_path: Path) -> None:
    model, atoms = MODELS[name](), crystal(50)
    atoms.arrays["type"] = np.arange(27) % 2 + 1
    bundle = model.export(tmp_path / "b", dtype=dtype)
    native = ("native",) if name in ("atoms", "configuration", "table") else ()
    assert bundle.engines == (*native, "torchscript")
    again = LearnedObservable.load(tmp_path / "b")
    assert again(atoms) == pytest.approx(model(atoms), abs=1e-12)
    assert again.spread(atoms) == pytest.approx(model.spread(atoms), abs=1e-12)
    assert (again.sees, again.reduce, again.hidden) == (model.sees, model.reduce, model.hidden)
    export.verify(tmp_path / "b")
    export.rebuild(tmp_path / "b", compiled=False)
    rebuilt = LearnedObservable.load(tmp_path / "b")
    assert rebuilt(atoms) == pytest.approx(model(atoms), abs=1e-12)
    rebuilt.export(tmp_path / "c")


def test_mlmod_files(tmp_path: Path) -> None:
    model = counted(reduce="mean")
    column = export.Column(model.network(), model.contract(), 27, cell=[SIDE] * 3)
    export.write_mlmod(
        tmp_path / "q.xml", "QoI_ML1", {"qoi_filename": column}, particles=27,
        mask_fix="FINAL_INTEGRATE",
    )  # fmt: skip
    atoms = crystal(50)
    script = torch.jit.load(str(tmp_path / "q_qoi.pt"))
    found = script(torch.from_numpy(atoms.positions).float().reshape(-1, 1))
    assert found.numpy().ravel() == pytest.approx(model(atoms), rel=1e-5)


def test_a_committee_is_apart_where_it_has_not_been() -> None:
    model = deep(members=3, reduce="none")
    assert len(model.results) == 3
    squeezed = crystal(3)
    squeezed.set_cell([0.6 * SIDE] * 3, scale_atoms=True)
    assert model.spread(squeezed).mean() > 3 * model.spread(crystal(3)).mean()
    assert model.spread(crystal(3)).shape == (27,)


def test_resume(tmp_path: Path) -> None:
    labels = [TRUTH(atoms) for atoms in FRAMES]
    options = TrainingOptions(epochs=6, batch_size=10, checkpoint_every=1)
    kept = dataclasses.replace(options, directory=tmp_path, resume=True)

    def fitted(settings: TrainingOptions, width: int = 8) -> LearnedObservable:
        model = LearnedObservable(cutoff=2.0, hidden=(width,))
        model.fit(FRAMES, labels, training=settings)
        return model

    whole = fitted(options)
    with stopped_after(3):
        fitted(kept)
    part = fitted(kept)
    assert part(FRAMES[0]) == pytest.approx(whole(FRAMES[0]), abs=1e-12)
    assert part.results[0].training is not None and whole.results[0].training is not None
    assert part.results[0].training.history == whole.results[0].training.history
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 6
    with pytest.raises(Error, match="other settings"):
        fitted(kept, 9)


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("model", "types"), 2),
        (("model", "cutoff"), 1.5),
        (("model", "shape"), [3]),
        (("model", "sees"), "configuration"),
        (("network", "arguments", "hidden"), [3]),
    ],
)
def test_manifests_that_do_not_fit_are_named(
    names: tuple[str, ...], value: Any, tmp_path: Path
) -> None:
    deep().export(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["training"] |= {"seed": -3, "species": ["Ar", "Kr"]}
    path.write_text(json.dumps(manifest))
    again = LearnedObservable.load(tmp_path / "b")
    assert again.seed == 0 and again.kinds.symbols is None
    inner = manifest
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(FileFormatError, match=str(tmp_path)):
        LearnedObservable.load(tmp_path / "b")


def test_values_of_two_axes_are_not_learned_ones(tmp_path: Path) -> None:
    model = LearnedObservable("configuration", 6, invariance="none", hidden=())
    model.fit(chains(20, 0), np.zeros((20, 6)))
    model.export(tmp_path / "b", torchscript=False)
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["model"]["shape"] = [2, 3]
    path.write_text(json.dumps(manifest))
    with pytest.raises(FileFormatError, match="field model does not fit its network"):
        LearnedObservable.load(tmp_path / "b")


def fit(labels: Any, frames: Any = FRAMES, **options: Any) -> Any:
    given = {"cutoff": 2.0, **options} if options.get("sees") is None else options
    return LearnedObservable(**given).fit(frames, labels, epochs=1)


MEANS = [1.0] * 40


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: fit(MEANS[:-1]), "labels must hold one for each of the 40 frames, not 39"),
        (lambda: fit(3.0), "labels must hold one"),
        (lambda: fit([[1.0, 2.0]] * 40), r"labels: number 0 must have the shape \(1,\)"),
        (lambda: fit([np.ones(26)] * 40, reduce="none"), "labels: number 0 must have the shape"),
        (lambda: fit([*MEANS[:-1], np.nan]), "labels: number 39 holds NaN"),
        (lambda: fit(["a"] * 40), "labels: number 0 is no array"),
        (lambda: fit([], []), "frames must hold at least one"),
        (lambda: fit([1.0], [np.zeros((0, 3))]), "frames: number 0: atoms must hold at least one"),
        (lambda: fit([1.0], [np.full((2, 3), np.nan)]), "frames: number 0: atoms must be finite"),
        (lambda: fit([1.0], "melt.dump"), "frames must be configurations"),
        (
            lambda: fit([1.0, 2.0], [np.eye(3), np.zeros((4, 3))], sees="configuration"),
            "3, 4 atoms",
        ),
        (lambda: fit(MEANS, sees="atoms", inputs=("v",)), "velocities"),
        (lambda: fit(MEANS, types=2), "types of the atoms"),
        (lambda: LearnedObservable(), "cutoff"),
        (lambda: counted()(FRAMES[0], dtype="float16"), "dtype must be one of float32, float64"),  # type: ignore[arg-type]
        (lambda: LearnedObservable("configuration", cutoff=1.0, reduce="mean"), "reduce"),
        (lambda: LearnedObservable("all"), "sees"),  # type: ignore[arg-type]
        (lambda: LearnedObservable(cutoff=1.0, members=0), "members"),
        (lambda: LearnedObservable(cutoff=1.0, values=0), "values must be"),
        (lambda: LearnedObservable(cutoff=1.0, values=1.5), "values must be"),  # type: ignore[arg-type]
        (lambda: LearnedObservable(cutoff=1.0, hidden=8), "hidden must be widths"),  # type: ignore[arg-type]
        (lambda: LearnedObservable(cutoff=1.0, centres=1), "centres must be"),
        (lambda: LearnedObservable(cutoff=1.0, smooth="x"), "smooth must be"),  # type: ignore[arg-type]
        (lambda: LearnedObservable(cutoff=1.0, types=["Ar", "Ar"]), "types"),
        (lambda: LearnedObservable("atoms", inputs=("time",)), "inputs"),
        (lambda: LearnedObservable(cutoff=1.0).fit(FRAMES, MEANS, validation=1.0), "validation"),
        (lambda: LearnedObservable(cutoff=1.0).fit(FRAMES, MEANS, validation=0.999), "validation"),
    ],
)
def test_errors(make: Any, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        make()


def test_atoms_far_from_each_other() -> None:
    """No pair within the cutoff: the mean is all that can be learned."""
    frames = [9.0 * np.arange(12).reshape(4, 3)] * 3
    model = LearnedObservable(cutoff=1.0)
    model.fit(frames, [1.0, 2.0, 3.0], validation=None, epochs=50)
    assert model(frames[0]) == pytest.approx([2.0], abs=0.1)


def test_a_fit_that_fails_leaves_the_model_as_it_was() -> None:
    model = counted()
    before = model(FRAMES[0])
    with pytest.raises(InvalidArgument):
        model.fit(FRAMES, [np.nan] * 40)
    assert model(FRAMES[0]) == pytest.approx(before)


def test_unfitted_and_foreign(tmp_path: Path) -> None:
    with pytest.raises(Error, match="fit"):
        LearnedObservable(cutoff=1.0)(np.eye(3))
    observables.RadiusOfGyration().export(tmp_path / "b")
    with pytest.raises(FileFormatError, match="no learned observable"):
        LearnedObservable.load(tmp_path / "b")
