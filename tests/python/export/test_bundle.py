"""Bundles: what is written comes back exactly; anything damaged is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlcore import export
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.export import load_bundle, write_bundle
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.mobility.models.base import PairModel
from mlcore.mobility.tensors import RPY, Oseen, PairMobility

UNITS = {"length": "a0", "energy": "kBT", "time": "t0"}


@pytest.fixture
def folder(model: PairModel, tmp_path: Path) -> Path:
    export.export(model, tmp_path / "bundle", units=UNITS, mlmod=False)
    return tmp_path / "bundle"


def test_round_trip_is_exact(model: PairModel, folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.units == UNITS
    x = np.random.default_rng(0).uniform(0, 9, (11, 3))
    cell = 12.0 * np.eye(3)
    want = np.asarray(model.mobility().matrix(x, cell))
    assert np.array_equal(np.asarray(bundle.mobility.matrix(x, cell)), want)
    again = bundle.model()
    assert type(again) is type(model)
    assert np.array_equal(again.parameters.weights, model.parameters.weights)
    assert bundle.manifest["mobility"]["background"]["radius"] == model.parameters.radius
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "weights.safetensors"]


def test_other_libraries_read_the_weights(folder: Path) -> None:
    from safetensors.numpy import load_file

    found = load_file(folder / "weights.safetensors")
    mine, _ = read_tensors(folder / "weights.safetensors")
    assert set(found) == set(mine)
    for name, array in found.items():
        assert np.array_equal(array, mine[name])


def test_bare_mobility_without_background(tmp_path: Path) -> None:
    r = np.linspace(0, 3, 50)
    mobility = PairMobility(0.9, 3.0, *([np.exp(-r) * (1 - r / 3) ** 2] * 4))
    bundle = write_bundle(tmp_path / "b", mobility, units="lj", training={"note": "by hand"})
    x = np.random.default_rng(1).uniform(0, 3, (6, 3))
    want = np.asarray(mobility.matrix(x))
    assert np.array_equal(np.asarray(bundle.mobility.matrix(x)), want)
    assert bundle.manifest["training"] == {"note": "by hand"}
    with pytest.raises(Error, match="'model' is missing"):
        bundle.model()
    with pytest.raises(InvalidArgument, match="background"):
        other = PairMobility(0.9, 3.0, *([np.zeros(5)] * 4), background=Oseen(1.0, 1.0))
        write_bundle(tmp_path / "c", other)
    assert not (tmp_path / "c").exists()


def test_arguments_are_checked_before_anything_is_written(model: PairModel, tmp_path: Path) -> None:
    target = tmp_path / "b"
    for options, name in (
        ({"units": {"length": "m"}}, "units"),
        ({"kT": -1.0}, "kT"),
        ({"verify_sizes": ()}, "verify_sizes"),
        ({"training": {"x": float("nan")}}, "training"),
        ({"training": {"x": object()}}, "training"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            export.export(model, target, mlmod=False, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_model_is_not_put_in_place(
    model: PairModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "manifest.json").read_bytes()
    from mlcore.export.bundle import PairTableData

    right = PairTableData.of_model

    def wrong(given: PairModel) -> PairTableData:
        table = right(given)
        table.par[100] *= 1.0001
        return table

    monkeypatch.setattr(PairTableData, "of_model", wrong)
    with pytest.raises(Error, match="differs from the model"):
        export.export(model, folder, units=UNITS, mlmod=False, verify_sizes=(40, 90))
    assert (folder / "manifest.json").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["bundle"]


def test_foreign_folders_are_not_replaced(model: PairModel, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("x")
    with pytest.raises(Error, match="other content"):
        export.export(model, tmp_path / "home", mlmod=False)
    assert (tmp_path / "home/thesis.tex").read_text() == "x"


def test_full_disk_leaves_nothing(
    model: PairModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlcore.io.atomic as atomic

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(Error, match="No space left"):
        export.export(model, tmp_path / "b", mlmod=False)
    assert list(tmp_path.iterdir()) == []


# -- damage ----------------------------------------------------------------------------------------
def _edit(folder: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _rehash(folder: Path) -> None:
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    _edit(folder, lambda m: m["files"]["weights.safetensors"].update(sha256=digest))


def _put(*names: str, value: object) -> Callable[[dict], None]:  # type: ignore[type-arg]
    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        for name in names[:-1]:
            manifest = manifest[name]
        manifest[names[-1]] = value

    return change


def _drop(*names: str) -> Callable[[dict], None]:  # type: ignore[type-arg]
    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        for name in names[:-1]:
            manifest = manifest[name]
        del manifest[names[-1]]

    return change


HASH = "0" * 64
MANIFESTS = [
    (_drop("format"), "format is missing"),
    (_put("format", value="other"), "format must be"),
    (_put("format_version", value=2), "format_version"),
    (_put("format_version", value=True), "format_version"),
    (_put("format_version", value="1"), "format_version"),
    (_put("kind", value="force"), "kind"),
    (_drop("units"), "units is missing"),
    (_put("units", value={"length": 3}), "units"),
    (_drop("mobility"), "mobility is missing"),
    (_put("mobility", value=[1]), "mobility must be an object"),
    (_drop("mobility", "background", "radius"), "radius is missing"),
    (_put("mobility", "background", "radius", value=-1), "radius must be positive"),
    (_put("mobility", "background", "radius", value="2"), "radius must be a finite number"),
    (_put("mobility", "background", "viscosity", value=True), "viscosity"),
    (_put("mobility", "background", "kernel", value="oseen"), "kernel"),
    (_put("mobility", "self_mobility", value=None), "self_mobility"),
    (_put("mobility", "self_mobility", value=-0.1), "self_mobility"),
    (_put("mobility", "cutoff", value=0), "cutoff"),
    (_put("mobility", "knots", value=7), "shape"),
    (_put("mobility", "knots", value=2048.0), "knots"),
    (_put("files", value={}), "files must list"),
    (_put("files", "weights.safetensors", value=3), "must be an object"),
    (_put("files", "weights.safetensors", "sha256", value="xyz"), "sha256"),
    (_put("files", "weights.safetensors", "sha256", value=HASH), "sha256"),
    (_put("files", "../outside.pt", value={"sha256": HASH}), "plain name"),
    (_put("files", "/etc/passwd", value={"sha256": HASH}), "plain name"),
    (_put("files", "..", value={"sha256": HASH}), "plain name"),
    (_put("files", "absent.pt", value={"sha256": HASH}), "absent.pt"),
]


@pytest.mark.parametrize("change, match", MANIFESTS, ids=[m for _, m in MANIFESTS])
def test_wrong_manifests(folder: Path, change: Callable[[dict], None], match: str) -> None:  # type: ignore[type-arg]
    _edit(folder, change)
    with pytest.raises(FileFormatError, match=match) as caught:
        load_bundle(folder)
    assert str(folder) in str(caught.value)


def test_manifests_that_are_not_json(folder: Path) -> None:
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for content, match in (
        (b"", "empty"),
        (whole[: len(whole) // 2], "not valid JSON"),
        (b"[" * 100_000, "deeper than"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "deeper than"),
        (whole.replace(b'"cutoff": 8.0', b'"cutoff": NaN'), "NaN"),
        (whole.replace(b'"cutoff": 8.0', b'"cutoff": 8.0, "cutoff": 9.0'), "twice"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[1, 2]", "JSON object"),
        (b" " * (1 << 20) + whole, "larger than"),
        (whole.replace(b'"cutoff": 8.0', b'"cutoff": 1e999'), "cutoff"),
    ):
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=match):
            load_bundle(folder)
    path.unlink()
    with pytest.raises(FileFormatError, match=r"manifest.json: manifest cannot be read"):
        load_bundle(folder)
    with pytest.raises(FileFormatError, match="not a bundle folder"):
        load_bundle(folder / "nowhere")


def _header(raw: bytes, change: Callable[[dict], object]) -> bytes:  # type: ignore[type-arg]
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]


def _offsets(first: int, last: int) -> Callable[[dict], object]:  # type: ignore[type-arg]
    return lambda h: h["par"].update(data_offsets=[first, last])


WEIGHTS: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda raw: raw[: len(raw) // 2], "truncated"),
    (lambda raw: raw[:5], "truncated"),
    (lambda raw: b"\x00" * 8 + raw[8:], "header"),
    (lambda raw: struct.pack("<Q", 1 << 62) + raw[8:], "header of .* larger than"),
    (lambda raw: struct.pack("<Q", 1 << 20) + raw[8:], "truncated"),
    (lambda raw: raw + b"\x00" * 8, "exactly once"),
    (lambda raw: _header(raw, lambda h: h.pop("par")), "exactly once"),
    (lambda raw: _header(raw, lambda h: h["par"].update(dtype="F16")), "dtype"),
    (lambda raw: _header(raw, lambda h: h["par"].update(dtype=3)), "dtype"),
    (lambda raw: _header(raw, lambda h: h["par"].update(shape=[-1])), "shape"),
    (lambda raw: _header(raw, lambda h: h["par"].update(shape=[3])), "shape"),
    (lambda raw: _header(raw, lambda h: h["par"].update(shape=[1 << 40, 1 << 40])), "shape"),
    (lambda raw: _header(raw, _offsets(-8, 8)), "data_offsets"),
    (lambda raw: _header(raw, _offsets(8, 0)), "data_offsets"),
    (lambda raw: _header(raw, _offsets(0, 1 << 40)), "data_offsets"),
    (lambda raw: _header(raw, lambda h: h["par"].update(extra=1)), "exactly dtype"),
    (lambda raw: _header(raw, lambda h: h.update(__metadata__={"a": 1})), "__metadata__"),
    (lambda raw: _header(raw, lambda h: h.update(par=h["dpar"])), "exactly once"),
]


@pytest.mark.parametrize("index", range(len(WEIGHTS)), ids=lambda i: WEIGHTS[i][1] + str(i))
def test_damaged_weights_even_with_a_right_hash(folder: Path, index: int) -> None:
    damage, match = WEIGHTS[index]
    path = folder / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match="sha256"):
        load_bundle(folder)
    _rehash(folder)
    with pytest.raises(FileFormatError, match=match) as caught:
        load_bundle(folder)
    assert "weights.safetensors" in str(caught.value)


def test_wrong_tensors(folder: Path) -> None:
    path = folder / "weights.safetensors"
    tensors, _ = read_tensors(path)
    bad = tensors["perp"].copy()
    bad[7] = np.inf
    for change, match in (
        ({"perp": bad}, "'perp' holds NaN or infinite"),
        ({"perp": tensors["perp"][:-1]}, "'perp' must have shape"),
        ({"perp": tensors["perp"][:, None]}, "'perp' must have shape"),
        ({"perp": tensors["perp"].astype(np.float32)}, "'perp' must be F64"),
        ({"perp": None}, "'perp' is missing"),
    ):
        out = {k: v for k, v in {**tensors, **change}.items() if v is not None}
        write_tensors(path, out)
        _rehash(folder)
        with pytest.raises(FileFormatError, match=match):
            load_bundle(folder)


def test_links_out_of_the_folder_and_permissions(folder: Path) -> None:
    path = folder / "weights.safetensors"
    outside = folder.parent / "elsewhere"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(FileFormatError, match="outside"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_bundle(folder)
    path.mkdir()
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_bundle(folder)


def test_no_read_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "manifest.json"
    if os.geteuid() == 0:
        # root reads everything: let the system call say what it says to others
        real = Path.open

        def refuse(self: Path, *args: object, **options: object) -> object:
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.chmod(0)
    with pytest.raises(FileFormatError, match="Permission denied"):
        load_bundle(folder)


def test_model_metadata_is_checked(folder: Path) -> None:
    _edit(folder, _put("model", "options", "shells", value=5))
    with pytest.raises(FileFormatError, match="weights"):
        load_bundle(folder).model()
    _edit(folder, _put("model", "kind", value="os.system"))
    with pytest.raises(FileFormatError, match="kind"):
        load_bundle(folder).model()


def test_background_is_added_by_the_run_in_its_own_box(model: PairModel, folder: Path) -> None:
    mobility = load_bundle(folder).mobility
    assert isinstance(mobility.background, RPY)
    x = np.array([[0.0, 0, 0], [9.0, 0, 0]])
    for box in (20.0, 60.0):
        cell = box * np.eye(3)
        got = np.asarray(mobility.matrix(x, cell))[:3, 3:]
        np.testing.assert_allclose(got, np.asarray(RPY(1.5, 2.0).matrix(x, cell))[:3, 3:])
