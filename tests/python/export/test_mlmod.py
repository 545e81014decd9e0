"""MLMOD's files: calling convention, agreement with the model, XML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from mlcore import export
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.mobility.models.base import PairModel

torch = pytest.importorskip("torch")

from mlcore.export import mlmod  # noqa: E402
from mlcore.export.bundle import eager_matrix  # noqa: E402


@pytest.fixture
def folder(model: PairModel, tmp_path: Path) -> Path:
    export.export(model, tmp_path / "bundle", kT=1.5)
    return tmp_path / "bundle"


def test_calling_convention(folder: Path, model: PairModel) -> None:
    own, pair = (torch.jit.load(str(folder / n)) for n in ("M_ii.pt", "M_ij.pt"))
    block = own(torch.ones(3, 1))
    assert block.shape == (9, 1) and block.dtype == torch.float32
    np.testing.assert_allclose(
        block.reshape(3, 3).numpy(), model.total_self_mobility * np.eye(3), rtol=1e-6
    )
    x = torch.tensor([[1.0], [2.0], [3.0], [-1.0], [0.5], [4.0]])
    block = pair(x)
    assert block.shape == (9, 1) and block.dtype == torch.float32 and block.is_contiguous()
    assert not any(p.requires_grad for p in pair.parameters())
    swapped = pair(torch.cat([x[3:], x[:3]]))
    assert torch.equal(block, swapped)
    assert torch.equal(block.reshape(3, 3), block.reshape(3, 3).T)


@pytest.mark.parametrize("r", [1e-3, 0.5, 2.9, 2.9999, 3.0, 3.0001, 7.9, 8.0, 8.1, 30.0])
def test_pair_blocks_at_all_distances(folder: Path, model: PairModel, r: float) -> None:
    x = np.array([[0.0, 0, 0], r * np.array([0.6, 0.48, 0.64])])
    got = mlmod.assemble(folder, x)
    np.testing.assert_allclose(got, eager_matrix(model, x), atol=2e-6 * model.total_self_mobility)


def test_coinciding_particles_give_finite_numbers(folder: Path) -> None:
    assert np.isfinite(mlmod.assemble(folder, np.zeros((2, 3)))).all()


def test_batches_exactly_under_vmap(folder: Path) -> None:
    pair = torch.jit.load(str(folder / "M_ij.pt"))
    x = 5 * torch.randn(64, 6, 1, generator=torch.Generator().manual_seed(0))
    together = torch.vmap(pair)(x)
    for one, block in zip(x, together, strict=True):
        assert torch.equal(pair(one), block)


def test_parameter_files(folder: Path) -> None:
    found = {}
    for name in ("model.mlmod_params", "bundle.mlmod_params"):
        root = ElementTree.parse(folder / name).getroot()
        data = root.find("model_data")
        assert root.tag == "MLMOD" and data is not None
        assert data.get("type") == "dX_MF_Q1_ML1_Pair"
        found[name] = {child.tag: child.get("value") for child in data}
    model, bundle = found["model.mlmod_params"], found["bundle.mlmod_params"]
    assert model["M_ii_filename"] == str(folder / "M_ii.pt")
    assert model["M_ij_filename"] == str(folder / "M_ij.pt")
    assert bundle["bundle"] == str(folder)
    for tags in (model, bundle):
        assert float(tags["KBT"]) == 1.5 and float(tags["delta"]) > 0
        assert tags["flag_stochastic"] == "1" and tags["flag_thm_drift"] == "1"


def test_names_are_escaped_in_xml(model: PairModel, tmp_path: Path) -> None:
    target = tmp_path / 'a "b" & <c>'
    export.export(model, target)
    root = ElementTree.parse(target / "bundle.mlmod_params").getroot()
    assert root[0][0].get("value") == str(target)


def test_hashes_cover_the_code(folder: Path) -> None:
    (folder / "M_ij.pt").write_bytes((folder / "M_ij.pt").read_bytes() + b"x")
    with pytest.raises(FileFormatError, match="M_ij.pt"):
        export.load_bundle(folder)


def test_wrong_torchscript_is_not_put_in_place(
    model: PairModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = mlmod.PairBlock.forward
    monkeypatch.setattr(mlmod.PairBlock, "forward", lambda self, x: 1.01 * forward(self, x))
    with pytest.raises(Error, match="MLMOD files: differs"):
        export.export(model, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_verify_compares_the_models_with_the_table(folder: Path, tmp_path: Path) -> None:
    assert set(export.verify(folder)) == {"kind", "files", "torchscript"}
    manifest = json.loads((folder / "manifest.json").read_text())

    def written(files: dict[str, Any]) -> None:
        (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files}))

    files = manifest["files"]
    table = dataclasses.replace(export.load_bundle(folder).table, radius=1.6)
    mlmod.write_files(tmp_path, table)
    for name in ("M_ii.pt", "M_ij.pt"):
        right, wrong = (folder / name).read_bytes(), (tmp_path / name).read_bytes()
        (folder / name).write_bytes(wrong)
        written({**files, name: {"sha256": hashlib.sha256(wrong).hexdigest()}})
        with pytest.raises(Error, match="differ from the table"):
            export.verify(folder)
        (folder / name).write_bytes(right)
        written({k: v for k, v in files.items() if k != name})
        with pytest.raises(FileFormatError, match=f"must list {name}"):
            export.verify(folder)
    written({"weights.safetensors": files["weights.safetensors"]})
    assert set(export.verify(folder)) == {"kind", "files"}


def test_mobilities_are_not_rebuilt(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(Error, match="holds no networks to make code from"):
        export.rebuild(folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_bad_torchscript_files(folder: Path) -> None:
    path = folder / "M_ij.pt"
    whole = path.read_bytes()
    for content, match in (
        (b"", "empty"),
        (whole[: len(whole) // 2], "TorchScript"),
        (b"not a model", "TorchScript"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=match) as caught:
            mlmod.load_script(path)
        assert "M_ij.pt" in str(caught.value)
    with pytest.raises(FileFormatError, match="cannot be read"):
        mlmod.load_script(folder / "absent.pt")


class _Wrong(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "shape":
            return torch.zeros(1, 9)
        if self.kind == "double":
            return torch.zeros(9, 1, dtype=torch.float64)
        return torch.full((9, 1), float("nan"))


@pytest.mark.parametrize("kind, match", [("shape", "9, 1"), ("double", "float32"), ("nan", "NaN")])
def test_wrong_outputs_are_named(folder: Path, kind: str, match: str) -> None:
    torch.jit.trace(_Wrong(kind), torch.zeros(6, 1), check_trace=False).save(
        str(folder / "M_ij.pt")
    )
    with pytest.raises(FileFormatError, match=match) as caught:
        mlmod.assemble(folder, np.array([[0.0, 0, 0], [3.0, 0, 0]]))
    assert "M_ij.pt" in str(caught.value)


def test_bad_arguments(model: PairModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="delta"):
        export.export(model, tmp_path / "b", delta=0.0)
    assert list(tmp_path.iterdir()) == []
