"""Bundles of forces, dynamics and observables: what is written comes back, damage is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlcore import cli, export, forces, networks
from mlcore.errors import BackendUnavailable, Error, FileFormatError, InvalidArgument
from mlcore.export import Contract, PairTable, Perceptron, load_model, write_model

torch = pytest.importorskip("torch")

from mlcore.export import compiled  # noqa: E402

PAIR = Contract("force", "neighbors", "energy", cutoff=2.0, types=2)
CASES: dict[str, tuple[Contract, str, dict[str, Any]]] = {
    "pair": (PAIR, "pair", {"cutoff": 2.0, "types": 2, "intervals": 6}),
    "many-body": (PAIR, "many-body", {"cutoff": 2.0, "types": 2, "hidden": [4]}),
}
for _sees, _name in (("atoms", "atom-rows"), ("configuration", "configuration-rows")):
    _fixed = {"particles": 3} if _sees == "configuration" else {}
    for _kind, _gives in (
        ("force", "energy"),
        ("force", "forces"),
        ("dynamics", "step"),
        ("qoi", "values"),
    ):
        _inputs = ("x", "v", "types", "time", "cell")
        _told: dict[str, Any] = {
            "inputs": list(_inputs),
            "gives": _gives,
            "types": 2,
            "hidden": [5],
        }
        _more: dict[str, Any] = {}
        if _kind == "qoi":
            _more = {"shape": (2,), "reduce": "mean" if _sees == "atoms" else None}
            _told |= {"outputs": 2} if _sees == "atoms" else {"shape": [2]}
        CASES[f"{_sees} {_gives}"] = (
            Contract(_kind, _sees, _gives, _inputs, types=2, **_fixed, **_more),  # type: ignore[arg-type]
            _name,
            {**_told, **_fixed},
        )


def member(name: str, arguments: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    return networks.make(name, {**arguments, "seed": seed})


def table(seed: int = 0) -> PairTable:
    rng = np.random.default_rng(seed)
    values, slopes = rng.normal(size=(2, 3, 9))
    values[:, -1] = slopes[:, -1] = 0
    return PairTable(0.5, 2.0, values, slopes)


def fitting(module: Any, knots: int = 1537) -> PairTable:
    """The table of a pair network; its knots hold those of the splines."""
    r = torch.linspace(0.5, 2.0, knots, dtype=torch.float64, requires_grad=True)
    found = []
    for pair in range(3):
        u = copy.deepcopy(module).double().radial(r, torch.full((knots,), pair))
        found.append((u.detach().numpy(), torch.autograd.grad(u.sum(), r)[0].numpy()))
    values, slopes = (np.stack(parts) for parts in zip(*found, strict=True))
    values[:, -1] = slopes[:, -1] = 0
    return PairTable(0.5, 2.0, values, slopes)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_round_trip(case: str, dtype: Any, tmp_path: Path) -> None:
    contract, name, arguments = CASES[case]
    contract = Contract(**{**vars(contract), "dtype": dtype})
    members = [member(name, arguments, seed) for seed in (0, 1)]
    native = None
    if contract.gives != "energy":
        native = [Perceptron(**m.native()) for m in members]
    written = write_model(
        tmp_path / "b", contract, members, units="lj", training={"note": 3}, native=native
    )
    bundle = load_model(tmp_path / "b")
    assert bundle.contract == contract and bundle.members == 2
    assert bundle.manifest == written.manifest and bundle.manifest["training"] == {"note": 3}
    assert bundle.engines == (("torchscript",) if native is None else ("native", "torchscript"))
    for again, module in zip(bundle.networks("float64"), members, strict=True):
        for key, value in module.state_dict().items():
            np.testing.assert_array_equal(again.state_dict()[key], value.double())
    rebuilt = export.rebuild(tmp_path / "b", compiled=False)
    assert rebuilt.manifest["model"] == bundle.manifest["model"]
    for key, value in bundle.tensors.items():
        np.testing.assert_array_equal(rebuilt.tensors[key], value)
        assert rebuilt.tensors[key].dtype == value.dtype
    assert set(export.verify(tmp_path / "b")) >= {"kind", "files", "members", *bundle.engines}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_torchscript_takes_any_number_of_atoms(tmp_path: Path) -> None:
    contract, name, arguments = CASES["many-body"]
    module = member(name, arguments).double()
    bundle = write_model(tmp_path / "b", contract, module)
    script = torch.jit.load(str(bundle.files("torchscript")[0]))
    for n, edges in ((1, 0), (2, 1), (30, 300)):
        given = (
            torch.randn(edges, 3, dtype=torch.float64),
            torch.randint(0, n, (edges,)),
            torch.randint(0, n, (edges,)),
            torch.randint(0, 2, (n,)),
        )
        torch.testing.assert_close(script(*given), module(*given))
        assert script(*given).shape == (n,)


def test_table_is_a_hermite_polynomial() -> None:
    given = table()
    r = np.linspace(0.5, 2.0, 200)[:-1]
    for pair in range(3):
        value, slope = given(r, np.full(len(r), pair))
        np.testing.assert_allclose(given(given.knots, np.full(9, pair))[0], given.values[pair])
        numeric = np.gradient(value, r)
        assert np.abs(slope - numeric)[1:-1].max() < 0.05 * np.abs(slope).max()
    low, push = given(np.array([0.1, 0.5]), np.array([1, 1]))
    assert push[0] == push[1] and np.isclose(low[0], low[1] - 0.4 * push[1])
    assert not np.any(given(np.array([2.0, 7.0]), np.array([0, 2])))


class _Wrong(torch.nn.Module):
    arguments: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, kind: str = "shape") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, D: Any, i: Any, j: Any, types: Any) -> Any:
        energy = torch.zeros_like(types, dtype=D.dtype).index_add(0, i, D[:, 0])
        if self.kind == "shape":
            return energy[:, None]
        if self.kind == "dtype":
            return energy.float()
        return energy / 0


networks.register("test-wrong")(_Wrong)


@pytest.mark.parametrize(
    ("kind", "match"), [("shape", r"must give \[\(40"), ("dtype", "float64"), ("nan", "NaN")]
)
def test_wrong_networks_are_not_put_in_place(kind: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(Error, match=match):
        write_model(tmp_path / "b", PAIR, _Wrong(kind))
    assert list(tmp_path.iterdir()) == []


def test_wrong_native_numbers_are_not_put_in_place(tmp_path: Path) -> None:
    contract, name, arguments = CASES["pair"]
    module = member(name, arguments)
    with pytest.raises(Error, match="native: differs"):
        write_model(tmp_path / "b", contract, module, native=table())
    for wrong, match in (
        (PairTable(0.5, 1.9, *np.zeros((2, 3, 4))), "up to the cutoff"),
        (PairTable(0.5, 2.0, *np.zeros((2, 1, 4))), "needs 3 pairs"),
        ([table(), table()], "needs 1 members"),
        (Perceptron([np.eye(3)], [np.zeros(3)], "tanh", *np.ones((4, 3))), "rows"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            write_model(tmp_path / "b", contract, module, native=wrong)
    assert list(tmp_path.iterdir()) == []


def test_networks_need_a_name_and_arguments(tmp_path: Path) -> None:
    class Nameless(_Wrong):
        pass

    with pytest.raises(InvalidArgument, match="has no name"):
        write_model(tmp_path / "b", PAIR, Nameless())
    with pytest.raises(InvalidArgument, match="taken"):
        networks.register("pair")(Nameless)
    with pytest.raises(InvalidArgument, match="one class and size"):
        pair = [networks.make("pair", {"cutoff": 2.0, "types": 2, "intervals": k}) for k in (4, 5)]
        write_model(tmp_path / "b", PAIR, pair)
    with pytest.raises(InvalidArgument, match="at least one engine"):
        write_model(tmp_path / "b", PAIR, _Wrong(), torchscript=False)
    with pytest.raises(Error, match="is not known here"):
        networks.make("nobody", {})
    with pytest.raises(InvalidArgument, match="cannot be made"):
        networks.make("pair", {"no": 1})


CONTRACTS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "mobility"}, "kind"),
    ({"sees": "pairs"}, "sees"),
    ({"gives": "step"}, "gives"),
    ({"dtype": "float16"}, "dtype"),
    ({"cutoff": None}, "cutoff"),
    ({"cutoff": -1.0}, "cutoff"),
    ({"types": 0}, "types"),
    ({"inputs": ("x",)}, "inputs"),
    ({"particles": 3}, "particles"),
    ({"shape": (1,)}, "shape"),
    ({"sees": "atoms", "inputs": ("v", "x")}, "order"),
    ({"sees": "atoms", "inputs": ("time",)}, "at least one"),
    ({"sees": "atoms", "inputs": ("v",)}, "name x"),
    ({"gives": "forces"}, "neighbors"),
    ({"kind": "qoi", "gives": "values"}, "shape"),
    ({"kind": "qoi", "gives": "values", "shape": (2, 2), "reduce": "mean"}, "shape"),
    ({"kind": "qoi", "gives": "values", "shape": (2,), "reduce": "max"}, "reduce"),
    ({"kind": "qoi", "gives": "values", "shape": (0,), "reduce": "sum"}, "shape"),
]


@pytest.mark.parametrize(("change", "match"), CONTRACTS)
def test_contracts_are_checked(change: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        Contract(**{**vars(PAIR), **change})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contract, name, arguments = CASES["pair"]
    folder: Path = tmp_path_factory.mktemp("bundle") / "b"
    module = member(name, arguments)
    write_model(folder, contract, module, native=fitting(module))
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(written, tmp_path / "b"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def put(*names: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        for name in names[:-1]:
            manifest = manifest[name]
        manifest[names[-1]] = value

    return change


MANIFESTS = [
    (put("kind", value="mobility"), "kind"),
    (put("model", value=3), "model must be an object"),
    (put("model", "sees", value="all"), "sees"),
    (put("model", "sees", value=None), "sees"),
    (put("model", "dtype", value="half"), "dtype"),
    (put("model", "cutoff", value="far"), "cutoff"),
    (put("model", "types", value=1.5), "types"),
    (put("model", "members", value=0), "members"),
    (put("model", "members", value=2), "2 files"),
    (put("model", "inputs", value="x"), "inputs must be a list"),
    (put("network", value=[]), "network must be an object"),
    (put("network", "arguments", value=3), "arguments"),
    (put("engines", value={}), "at least one of"),
    (put("engines", value={"native": 3}), "native must be an object"),
    (put("engines", "native", "kind", value="lookup"), "kind"),
    (put("engines", "native", "knots", value=7), "7 knots"),
    (put("engines", "native", "first", value=3.0), "first"),
    (put("engines", "native", "first", value=-1), "first must be positive"),
    (put("engines", "native", value={"kind": "mlp", "layers": 1, "activation": "tanh"}), "w0"),
    (put("engines", "torchscript", "files", value=["model_0.pt2"]), "not among files"),
    (put("engines", "torchscript", "files", value=["../model_0.pt"]), "not among files"),
    (put("engines", "torchscript", "files", value=[3]), "not among files"),
    (put("engines", "compiled", value={"files": ["model_0.pt"]}), "not among files"),
    (put("files", "model_0.pt", "sha256", value="0" * 64), "sha256"),
]


@pytest.mark.parametrize(("change", "match"), MANIFESTS, ids=[m for _, m in MANIFESTS])
def test_wrong_manifests(folder: Path, change: Any, match: str) -> None:
    edit(folder, change)
    with pytest.raises(FileFormatError, match=match) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


_JUNK: list[object] = [
    None, True, -1, 0, 0.5, 3, 10**400, 10**12, 1e308, -1e308, 1e-308, "", "x", "../x", "a" * 9999,
    [], [[]], [None], {}, {"": {}}, [{"x": [[1]]}],
]  # fmt: skip
_FREE = ("created_with", "training")


def _places(value: object, names: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All fields and list items of a manifest, those inside what anything may stand in left out."""
    found = [names] if names else []
    if names and names[0] in _FREE:
        return found
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    return found + [p for k, v in inside for p in _places(v, (*names, k))]


def _take(folder: Path) -> None:
    """Everything the Python side reads of a bundle, short of running its code."""
    if json.loads((folder / "manifest.json").read_text()).get("kind") == "mobility":
        found = export.load_bundle(folder)
        found.model()
        found.mobility.pair(np.array([1.0]))
        return
    bundle = load_model(folder)
    bundle.networks("float64")
    if bundle.native is not None:
        allowed = bundle.verified.get("native", 0.0)
        assert allowed >= 0
    assert all(bundle.files(e) for e in bundle.engines if e != "native")
    assert {*bundle.units} >= {"length", "energy", "time"}


@pytest.fixture(scope="module")
def bundles(written: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from mlcore.mobility import models
    from mlcore.mobility.models.base import PairParameters

    root = tmp_path_factory.mktemp("kinds")
    contract, name, arguments = CASES["configuration values"]
    module = member(name, arguments)
    write_model(root / "qoi", contract, module, native=Perceptron(**module.native()))
    model = models.KernelRidgePairModel("rpy", 8.0, shells=4, radius=1.5, viscosity=2.0)
    model.set_parameters(PairParameters(1.5, 2.0, 3e-3, np.full(4, 1e-4)))
    export.export(model, root / "mobility", mlmod=False)
    return [written, root / "qoi", root / "mobility"]


@pytest.mark.parametrize("number", range(3), ids=["force", "qoi", "mobility"])
def test_any_junk_in_a_manifest_is_named(number: int, bundles: list[Path], tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(bundles[number], tmp_path / "b"))
    path = folder / "manifest.json"
    whole = path.read_text()
    refused, unnamed = 0, []
    for names in _places(json.loads(whole)):
        for junk in [*_JUNK, KeyError]:
            manifest = json.loads(whole)
            inner = manifest
            for name in names[:-1]:
                inner = inner[name]
            if junk is KeyError:
                del inner[names[-1]]
            else:
                inner[names[-1]] = junk
            path.write_text(json.dumps(manifest))
            try:
                _take(folder)
            except FileFormatError as error:
                refused += 1
                told = str(error)
                assert str(folder) in told and len(told) < 2000, (names, junk)
                if not any(str(n) in told for n in names if n != 0):
                    unnamed.append((names, junk, told))
            except Error as error:  # a network nobody registered; a mobility without its model
                assert names[0] in ("network", "model"), (names, junk, error)
    assert refused > 300 and not unnamed
    path.write_text(whole)
    _take(folder)


def test_numbers_of_too_many_digits(folder: Path) -> None:
    path = folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"cutoff": 2.0', '"cutoff": 1' + "0" * 5000, 1))
    with pytest.raises(FileFormatError, match="digits"):
        load_model(folder)


@pytest.mark.parametrize("value", ["small", None, [], {}, True, -1e-9, 10**400])
def test_what_was_measured_must_be_a_number(value: object, folder: Path) -> None:
    edit(folder, put("verified", "native", value=value))
    with pytest.raises(FileFormatError, match=r"manifest.json: field verified.native"):
        export.verify(folder)


def test_verify_puts_nothing_in_place_and_says_nothing_of_it(folder: Path) -> None:
    edit(folder, put("engines", "native", "first", value=0.51))
    with pytest.raises(Error, match="native: differs from the networks by") as caught:
        export.verify(folder)
    assert "in place" not in str(caught.value)


def test_wrong_weights(folder: Path) -> None:
    edit(folder, put("network", "arguments", "intervals", value=7))
    with pytest.raises(FileFormatError, match="has shape"):
        load_model(folder).networks()
    edit(folder, put("network", "arguments", "types", value=3))
    with pytest.raises(FileFormatError, match="is missing|has shape"):
        load_model(folder).networks()
    edit(folder, put("network", "arguments", "hidden", value=[3]))
    with pytest.raises(FileFormatError, match=r"network.arguments: .*hidden") as caught:
        load_model(folder).networks()
    assert str(folder / "manifest.json") in str(caught.value)
    edit(folder, put("network", "class", value="os.system"))
    with pytest.raises(Error, match="is not known here"):
        load_model(folder).networks()
    edit(folder, lambda m: m["files"].pop("weights.safetensors"))
    with pytest.raises(FileFormatError, match="must list"):
        load_model(folder)


def test_damaged_code_is_refused_and_rebuilt(folder: Path, capfd: Any) -> None:
    (folder / "model_0.pt").write_bytes(b"damaged")
    assert cli.main(["export", "verify", str(folder)]) == 1
    assert "sha256" in capfd.readouterr().err
    assert cli.main(["export", "rebuild", "--no-compiled", str(folder)]) == 0
    assert "native, torchscript" in capfd.readouterr().out
    assert cli.main(["export", "verify", str(folder)]) == 0
    assert "torchscript:" in capfd.readouterr().out
    (folder / "model_0.pt").unlink()
    export.rebuild(folder, compiled=False)
    assert load_model(folder).engines == ("native", "torchscript")


def test_compiling_needs_a_compiler(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    before = (folder / "manifest.json").read_bytes()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cli.main(["export", "rebuild", str(folder)]) == 1
    assert "needs a C++ compiler, and no-such-compiler is not found" in capfd.readouterr().err
    assert (folder / "manifest.json").read_bytes() == before
    with pytest.raises(InvalidArgument, match="instruction_set"):
        export.rebuild(folder, instruction_set="sse9")


def test_packages_of_other_machines_name_the_rebuild_command(folder: Path) -> None:
    told = {"torch": compiled.torch_version(), "instruction_set": "baseline", "device": "cpu"}
    assert compiled.misfit(told) is None
    for change, match in (
        ({"torch": "1.0.0"}, "compiled for torch 1.0.0"),
        ({"instruction_set": "avx1024"}, "compiled for avx1024"),
        ({"device": "cuda"}, "compiled for cuda"),
    ):
        with pytest.raises(BackendUnavailable, match=match) as caught:
            compiled.load_compiled(folder / "model_0.pt2", {**told, **change}, folder)
        assert f"mlcore export rebuild {folder}" in str(caught.value)
    (folder / "model_0.pt2").write_bytes(b"not a package")
    with pytest.raises(BackendUnavailable, match="mlcore export rebuild"):
        compiled.load_compiled(folder / "model_0.pt2", told, folder)


def test_wrong_tables_are_neither_verified_nor_rebuilt(tmp_path: Path) -> None:
    contract, name, arguments = CASES["pair"]
    module, path = member(name, arguments), tmp_path / "b"
    write_model(path, contract, module, native=table(), tolerance=np.inf)
    before = (path / "manifest.json").read_bytes()
    for attempt in (export.verify, lambda p: export.rebuild(p, compiled=False)):
        with pytest.raises(Error, match="native: differs .* more than 1e-03"):
            attempt(path)
    assert (path / "manifest.json").read_bytes() == before


def test_loaded_forces_keep_their_native_engine(folder: Path, tmp_path: Path) -> None:
    loaded = forces.load(folder)
    again = loaded.export(tmp_path / "again")
    assert again.engines == ("native", "torchscript")
    for key, value in loaded.bundle.tensors.items():
        np.testing.assert_array_equal(again.tensors[key], value)
