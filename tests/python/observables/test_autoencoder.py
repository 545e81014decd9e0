"""Autoencoders against principal components, on configurations of which one number tells all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from mlcore import export
from mlcore.data import Trajectory
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.networks.values import aligned
from mlcore.observables import Autoencoder, LinearProjection, RadiusOfGyration
from scipy.spatial.transform import Rotation
from stopping import stopped_after

INVARIANCES = ("none", "translation", "rotation")


def arcs(count: int, seed: int, turned: bool) -> np.ndarray:
    """Chains of 8 atoms, bent and twisted by one number each; turned and moved at will."""
    rng = np.random.default_rng(seed)
    k = rng.uniform(-0.6, 0.6, count)
    angle = k[:, None] * (np.arange(7) - 3)
    bonds = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    x = np.concatenate([np.zeros((count, 1, 3)), np.cumsum(bonds, 1)], 1)
    x[:, :, 2] += 0.3 * np.sin(3 * k)[:, None] * np.arange(8) ** 2 / 8
    if not turned:
        return np.asarray(x)
    turns = Rotation.random(count, random_state=seed)
    moved = [turn.apply(chain) for turn, chain in zip(turns, x, strict=True)]
    return np.asarray(np.stack(moved) + 5 * rng.normal(size=(count, 1, 3)))


def fitted(invariance: Any, size: int = 1, epochs: int = 150, **options: Any) -> Autoencoder:
    model = Autoencoder(size, invariance, **{"hidden": (24, 24), **options})
    model.fit(arcs(400, 1, invariance == "rotation"), epochs=epochs)
    return model


MODELS: dict[str, Autoencoder] = {}


def known(invariance: str) -> Autoencoder:
    if invariance not in MODELS:
        MODELS[invariance] = fitted(invariance)
    return MODELS[invariance]


@pytest.mark.parametrize("invariance", INVARIANCES)
def test_a_curved_line_of_configurations(invariance: str) -> None:
    """One number is enough, but not for a linear map, nor for three modes of three numbers."""
    result = known(invariance).result
    assert result is not None
    assert result.held_out_error < 0.1 * result.pca_error
    assert result.held_out_error < 0.1 * result.projection_error
    fresh = arcs(200, 9, turned=False)
    found = known(invariance)
    again = found.decode(found.encode(fresh))
    about = fresh - (0 if invariance == "none" else fresh.mean(1, keepdims=True))
    if invariance == "rotation":
        reference = found.network().encoder.reference
        about = aligned(torch.from_numpy(about), reference).numpy()
    error = np.sqrt(((again - about) ** 2).sum(-1).mean())
    assert error == pytest.approx(result.held_out_error, rel=0.5)


def test_without_layers_it_is_principal_components() -> None:
    x = arcs(300, 2, turned=False)
    model = Autoencoder(2, "translation", hidden=())
    result = model.fit(x, validation=None)
    about = (x - x.mean(1, keepdims=True)).reshape(300, -1)
    _, s, _ = np.linalg.svd(about - about.mean(0), full_matrices=False)
    left = np.sqrt((s[2:] ** 2).sum() / (300 * 8))
    assert result.error == pytest.approx(left, rel=1e-10)
    assert result.pca_error == pytest.approx(left, rel=1e-10)
    z = model.encode(x)
    assert z.mean(0) == pytest.approx(0, abs=1e-10)
    assert np.cov(z.T, bias=True) == pytest.approx(np.eye(2), abs=1e-10)
    modes = LinearProjection(3).fit(x)
    lifted = np.sqrt(((modes.lift(modes.project(x)) - x) ** 2).sum(-1).mean())
    assert result.projection_error == pytest.approx(lifted, rel=1e-10)


def test_coordinates_have_unit_variance() -> None:
    z = known("rotation").encode(arcs(400, 1, turned=True))
    assert z.shape == (400, 1)
    assert abs(z.mean()) < 0.05 and abs(z.std() - 1) < 0.05


@pytest.mark.parametrize("invariance", INVARIANCES)
def test_invariance(invariance: str) -> None:
    model, x = known(invariance), arcs(6, 5, turned=False)
    z = model.encode(x)
    moved, turned = x + [3.0, -1, 2], Rotation.from_rotvec([0.4, -1.3, 0.8]).apply(x.reshape(-1, 3))
    same = {"none": 0, "translation": 1, "rotation": 2}[invariance]
    for needed, other in ((1, moved), (2, turned.reshape(x.shape) + 1.0)):
        if same >= needed:
            assert model.encode(other) == pytest.approx(z, abs=1e-6)
        else:
            assert np.abs(model.encode(other) - z).max() > 1e-2
    mirrored = x * [1, 1, -1]
    assert np.abs(model.encode(mirrored) - z).max() > 1e-2


def test_across_boundaries() -> None:
    model, x = known("rotation"), arcs(1, 5, turned=True)[0]
    inside = Atoms("Ar8", positions=x - 9 * np.floor(x / 9), cell=[9] * 3, pbc=True)
    assert model.encode([inside]) == pytest.approx(model.encode([x]), abs=1e-9)
    assert model(inside) == pytest.approx(model.encode([x])[0], abs=1e-9)


def test_alignment_is_the_best_rotation() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 7):
        x, y = rng.normal(size=(2, n, 3))
        x, y = x - x.mean(0), y - y.mean(0)
        best, _ = Rotation.align_vectors(y, x) if n > 2 else (None, None)
        found = aligned(torch.from_numpy(x), torch.from_numpy(y)).numpy()
        if best is not None:
            assert found == pytest.approx(best.apply(x), abs=1e-9)
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.linalg.norm(x, axis=1))


def test_alignment_is_differentiable() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: aligned(a - a.mean(0), reference), x)


@pytest.mark.parametrize("invariance", INVARIANCES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(invariance: str, dtype: Any, tmp_path: Path) -> None:
    model, x = known(invariance), arcs(5, 5, turned=False)
    bundle = model.export(tmp_path / "b", dtype=dtype, units="lj")
    native = ("native",) if invariance == "none" else ()
    assert bundle.engines == (*native, "torchscript")
    assert bundle.manifest["training"]["pca_error"] > 0
    export.verify(tmp_path / "b")
    export.rebuild(tmp_path / "b", compiled=False)
    again = Autoencoder.load(tmp_path / "b")
    assert again.encode(x) == pytest.approx(model.encode(x), abs=1e-12)
    assert again.decode([[0.3]]) == pytest.approx(model.decode([[0.3]]), abs=1e-12)
    again.export(tmp_path / "c")


@pytest.mark.parametrize("activation", ["silu", "relu", "softplus", "tanh"])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 5)])
def test_native_form(activation: str, hidden: tuple[int, ...]) -> None:
    """The linear map beside the layers goes through them."""
    model = fitted("none", 2, epochs=2, hidden=hidden, activation=activation)
    native = model.native()
    assert (native is None) == (activation == "tanh" and bool(hidden))
    if native is not None:
        x = arcs(9, 5, turned=False)
        assert native(x.reshape(9, -1)) == pytest.approx(model.encode(x), abs=1e-12)


def test_mlmod_files(tmp_path: Path) -> None:
    model, x = known("rotation"), arcs(1, 5, turned=True)
    column = export.Column(model.network(), model.contract(), 8, cell=np.zeros(3))
    export.write_mlmod(
        tmp_path / "q.xml", "QoI_ML1", {"qoi_filename": column}, particles=8,
        mask_fix="FINAL_INTEGRATE",
    )  # fmt: skip
    script = torch.jit.load(str(tmp_path / "q_qoi.pt"))
    found = script(torch.from_numpy(x).float().reshape(-1, 1))
    assert found.numpy() == pytest.approx(model.encode(x), abs=1e-5)


def test_resume(tmp_path: Path) -> None:
    x = arcs(60, 1, turned=False)
    whole, part = (Autoencoder(1, "translation", hidden=(6,)) for _ in range(2))
    wanted = whole.fit(x, epochs=15)
    with stopped_after(12):
        part.fit(x, epochs=15, checkpoint=tmp_path)
    result = part.fit(x, epochs=15, checkpoint=tmp_path)
    assert result.training is not None and wanted.training is not None
    assert result.training.history == wanted.training.history
    np.testing.assert_array_equal(part.encode(x), whole.encode(x))
    with pytest.raises(Error, match="other settings"):
        Autoencoder(1, "none", hidden=(6,)).fit(x, epochs=15, checkpoint=tmp_path)


def test_trajectories() -> None:
    x = arcs(50, 1, turned=False)
    model = Autoencoder(1, hidden=())
    model.fit([Trajectory(np.arange(25.0), x[:25]), Trajectory(np.arange(25.0), x[25:])])
    assert model.encode(x).shape == (50, 1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Autoencoder(0), "size"),
        (lambda: Autoencoder(1, "mirror"), "invariance"),  # type: ignore[arg-type]
        (lambda: Autoencoder(1, activation="sine"), "activation"),
        (lambda: Autoencoder(1, hidden=8), "hidden must be widths"),  # type: ignore[arg-type]
        (lambda: Autoencoder(1).fit([]), "frames must hold at least one"),
        (lambda: Autoencoder(1).fit([np.eye(3)]), "at least two"),
        (lambda: Autoencoder(1).fit([np.eye(3), np.zeros((4, 3))]), "3, 4 atoms"),
        (lambda: Autoencoder(1).fit([np.zeros((0, 3))] * 3), "number 0: atoms must hold"),
        (lambda: Autoencoder(1).fit([np.full((3, 3), np.nan)] * 3), "number 0: atoms must be"),
        (lambda: Autoencoder(10).fit([np.eye(3)] * 3), "too few"),
        (lambda: Autoencoder(1).fit(arcs(9, 0, turned=False), validation=2.0), "validation"),
        (lambda: known("none").encode([np.eye(3)]), "frames hold 3 atoms, made for 8"),
        (lambda: known("none").decode(np.zeros((2, 2))), "z must be"),
        (lambda: known("none").decode("x"), "z must be numbers"),
        (lambda: known("none").encode(arcs(2, 0, turned=False), dtype="x"), "dtype"),  # type: ignore[arg-type]
        (lambda: known("none").decode([[np.nan]]), "z must be"),
        (lambda: known("none")(np.eye(3)), "made for 8"),
    ],
)
def test_errors(make: Any, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        make()


def test_unfitted_and_foreign(tmp_path: Path) -> None:
    with pytest.raises(Error, match="fit"):
        Autoencoder(1).encode([np.eye(3)])
    RadiusOfGyration().export(tmp_path / "b")
    with pytest.raises(FileFormatError, match="no autoencoder"):
        Autoencoder.load(tmp_path / "b")


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("model", "members"), 2),
        (("model", "shape"), [2]),
        (("model", "particles"), 9),
        (("model", "inputs"), ["x"]),
        (("network", "arguments", "invariance"), "none"),
        (("network", "arguments"), {}),
        (("network", "arguments", "hidden"), "wide"),
    ],
)
def test_manifests_that_do_not_fit_are_named(
    names: tuple[str, ...], value: Any, tmp_path: Path
) -> None:
    known("rotation").export(tmp_path / "b", torchscript=True)
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["training"]["seed"] = "none of a number"
    path.write_text(json.dumps(manifest))
    assert Autoencoder.load(tmp_path / "b").seed == 0
    inner = manifest
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(FileFormatError, match=str(tmp_path)):
        Autoencoder.load(tmp_path / "b")
