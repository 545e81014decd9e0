"""AOTInductor packages: one is compiled, and gives what its network gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlcore import export, networks
from mlcore.export import Contract

torch = pytest.importorskip("torch")

from mlcore.export import compiled  # noqa: E402
from mlcore.export.evaluation import outputs  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> export.ModelBundle:
    contract = Contract("force", "neighbors", "energy", cutoff=2.0, types=2)
    network = networks.make("many-body", {"cutoff": 2.0, "types": 2, "hidden": [4], "channels": 2})
    folder = tmp_path_factory.mktemp("compiled") / "b"
    return export.write_model(folder, contract, network.double(), compiled=True, torchscript=False)


def test_energies_and_gradients_of_any_size(bundle: export.ModelBundle) -> None:
    assert bundle.engines == ("compiled",)
    assert bundle.manifest["verified"]["compiled"] < 1e-12
    told = bundle.compiled_for()
    assert told["torch"] == compiled.torch_version()
    assert told["instruction_set"] == compiled.instruction_set()
    package = compiled.load_compiled(bundle.files("compiled")[0], told, bundle.path)
    (network,) = bundle.networks()
    generator = torch.Generator().manual_seed(0)
    for n, edges in ((1, 0), (1, 1), (2, 1), (50, 700)):
        i, j = torch.randint(0, n, (2, edges), generator=generator)
        D = torch.randn(edges, 3, dtype=torch.float64, generator=generator)
        given = (D, i, j, torch.randint(0, 2, (n,), generator=generator))
        for got, want in zip(
            package(*given), outputs(network, bundle.contract, given), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_verify_tells_what_does_not_fit(bundle: export.ModelBundle, tmp_path: Path) -> None:
    assert "relative error" in export.verify(bundle.path)["compiled"]
    other = Path(shutil.copytree(bundle.path, tmp_path / "b"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["engines"]["compiled"]["torch"] = "2.0.0"
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert f"mlcore export rebuild {other}" in export.verify(other)["compiled"]
