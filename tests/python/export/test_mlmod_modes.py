"""MLMOD files of every mode: all tags, and models in its calling convention."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from mlcore import networks
from mlcore.errors import Error, InvalidArgument
from mlcore.export import Contract, mlmod_params
from mlcore.export.mlmod_params import MODES, checked_tags

torch = pytest.importorskip("torch")

from mlcore.export.evaluation import outputs  # noqa: E402
from mlcore.export.mlmod_models import Column, WholeMobility, write_mlmod  # noqa: E402
from mlcore.networks.one_step import OneStepNetwork  # noqa: E402

NOISE: dict[str, Any] = {"delta": 1e-3, "KBT": 1.5, "flag_stochastic": 1, "flag_thm_drift": True}
PLACE = {"base_name": "a", "base_dir": "./out"}
FORCE = {**PLACE, "F_filename": "f.pt", "mask_fix": "POST_FORCE", "mask_input": "X Type"}
WHOLE: dict[str, dict[str, Any]] = {
    "dX_MF": {"eta": 1, "a": 0.5, "epsilon": 1e-3, "mask_fix": "FINAL_INTEGRATE", "mask_input": "X"},
    "dX_MF_ML1": {"M_ii_filename": "ii.pt", "M_ij_filename": "ij.pt"},
    "dX_MF_Q1_ML1_Pair": {"M_ii_filename": "ii.pt", "M_ij_filename": "ij.pt", **NOISE},
    "dX_MF_Q1_ML1_N2N": {"M_filename": "m.pt", **NOISE},
    **dict.fromkeys(("F_ML1", "F_X_ML1"), FORCE),
    "F_Pair_ML1": {**FORCE, "cutoff": 2.5},
    "QoI_ML1": {**PLACE, "qoi_filename": "q.pt", "mask_fix": "FINAL_INTEGRATE", "mask_input": "X",
                "skip_step": 7},
    "Dyn_ML1": {**PLACE, "dyn1_filename": "1.pt", "dyn2_filename": "2.pt",
                "mask_fix": "INITIAL_INTEGRATE FINAL_INTEGRATE", "mask_input": "X V"},
}  # fmt: skip


def read(path: Path) -> tuple[str | None, dict[str, str | None]]:
    root = ElementTree.parse(path).getroot()
    data = root.find("model_data")
    assert root.tag == "MLMOD" and data is not None
    return data.get("type"), {child.tag: child.get("value") for child in data}


def test_every_mode_is_covered() -> None:
    assert set(WHOLE) == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_tags(mode: str, tmp_path: Path) -> None:
    assert set(WHOLE[mode]) == set(MODES[mode])
    mlmod_params.write_parameters(tmp_path / "a.mlmod_params", mode, WHOLE[mode])
    kind, tags = read(tmp_path / "a.mlmod_params")
    assert kind == mode and tags == checked_tags(mode, WHOLE[mode])
    for name, tag in MODES[mode].items():
        without = {k: v for k, v in WHOLE[mode].items() if k != name}
        if tag.optional:
            assert name not in checked_tags(mode, without)
        elif tag.default is None:
            with pytest.raises(InvalidArgument, match=name):
                checked_tags(mode, without)
        else:
            assert checked_tags(mode, without)[name] == tag.write(tag.default)
    with pytest.raises(InvalidArgument, match="no tag 'colour'"):
        checked_tags(mode, {**WHOLE[mode], "colour": "red"})


@pytest.mark.parametrize(
    ("mode", "tag", "value"),
    [
        ("dX_MF", "eta", 0),
        ("dX_MF", "a", "big"),
        ("dX_MF", "epsilon", float("nan")),
        ("dX_MF", "epsilon", -1e-3),
        ("F_Pair_ML1", "cutoff", 0),
        ("dX_MF_Q1_ML1_N2N", "KBT", -1),
        ("dX_MF_Q1_ML1_N2N", "flag_stochastic", 2),
        ("dX_MF_Q1_ML1_N2N", "delta", float("inf")),
        ("dX_MF_Q1_ML1_N2N", "delta", 0),
        ("F_ML1", "mask_input", "X,V"),
        ("F_ML1", "mask_input", "X X"),
        ("F_ML1", "mask_input", ""),
        ("F_ML1", "mask_fix", "PRE_FORCE"),
        ("F_ML1", "F_filename", " "),
        ("QoI_ML1", "skip_step", 0),
        ("QoI_ML1", "skip_step", 1.5),
        ("QoI_ML1", "skip_step", True),
    ],
)
def test_wrong_values(mode: str, tag: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=tag):
        checked_tags(mode, {**WHOLE[mode], tag: value})


def test_masks_are_written_in_the_order_of_the_blocks() -> None:
    tags = checked_tags("F_ML1", {**WHOLE["F_ML1"], "mask_input": ["Time", "X"]})
    assert tags["mask_input"] == "X Time"
    with pytest.raises(InvalidArgument, match="mode must be one of"):
        checked_tags("F_ML2", {})
    native = checked_tags("dX_MF_Q1_ML1_Pair", {"bundle": "b", **NOISE})
    assert native["bundle"] == "b" and "M_ii_filename" not in native


# -- models ---------------------------------------------------------------------------------------
PAIR = Contract("force", "neighbors", "energy", cutoff=2.5, types=2)


def pair_network() -> torch.nn.Module:
    return networks.make("pair", {"cutoff": 2.5, "types": 2, "intervals": 8}).double()


def column(*blocks: Any) -> torch.Tensor:
    return torch.cat([torch.as_tensor(b).reshape(-1) for b in blocks]).float()[:, None]


def test_pair_forces(tmp_path: Path) -> None:
    network = pair_network()
    model = Column(network, PAIR, 2)
    tags = write_mlmod(tmp_path / "p.mlmod_params", "F_Pair_ML1", {"F_filename": model})
    assert tags["mask_input"] == "X Type" and tags["base_name"] == "p"
    script = torch.jit.load(tags["F_filename"])
    x = torch.tensor([[0.0, 0, 0], [0.9, -0.5, 0.6]], dtype=torch.float64)
    out = script(column(x, torch.tensor([1, 2])))
    assert out.shape == (6, 1) and out.dtype == torch.float32
    D = torch.stack([x[1] - x[0], x[0] - x[1]])
    ends = torch.tensor([0, 1]), torch.tensor([1, 0])
    slope = outputs(network, PAIR, (D, *ends, torch.tensor([0, 1])))[1]
    want = slope[0] - slope[1]
    np.testing.assert_allclose(out.reshape(2, 3).numpy(), torch.stack([want, -want]), rtol=1e-5)
    far = column(x * 10, torch.tensor([2, 2]))
    assert not script(far).any()


def test_the_network_given_stays_as_it_is() -> None:
    network = pair_network().float().train()
    model = Column(network, PAIR, 2)
    assert network.training and not model.network.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())
    assert all(p.dtype == torch.float64 for p in model.network.parameters())


class Noisy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.Dropout(0.5).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(self.inner(x)) + 1

    def modes(self) -> list[bool]:
        return [part.training for part in self.modules()]


def test_modules_given_stay_in_their_modes(tmp_path: Path) -> None:
    module = Noisy()
    tags = write_mlmod(tmp_path / "f.mlmod_params", "F_X_ML1", {"F_filename": module})
    assert module.modes() == [True, True, False]
    x = torch.rand(3, 1)
    torch.testing.assert_close(torch.jit.load(tags["F_filename"])(x), x + 1)
    with pytest.raises(Error, match="must give float32"):
        write_mlmod(tmp_path / "g.mlmod_params", "F_Pair_ML1", {"F_filename": Cut(module)})
    assert module.modes() == [True, True, False]


class Cut(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[:2]


def test_forces_of_a_group_in_a_box(tmp_path: Path) -> None:
    model = Column(pair_network(), PAIR, 6, cell=[6.0, 6, 6])
    path = tmp_path / "w.mlmod_params"
    with pytest.raises(InvalidArgument, match="particles must be given"):
        write_mlmod(path, "F_ML1", {"F_filename": model})
    tags = write_mlmod(path, "F_ML1", {"F_filename": model}, particles=6)
    script = torch.jit.load(tags["F_filename"])
    x = 6 * torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    types = torch.tensor([1, 2, 1, 2, 1, 1])
    forces = script(column(x, types)).reshape(6, 3)
    assert forces.abs().max() > 0
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-6)
    moved = script(column(x + torch.tensor([6.0, -12, 0]), types)).reshape(6, 3)
    np.testing.assert_allclose(moved, forces, atol=1e-4 * float(forces.abs().max()))


@pytest.mark.parametrize("gives", ["forces", "energy"])
def test_positions_are_taken_inside_the_box(gives: str, tmp_path: Path) -> None:
    """Wherever the lower corner of LAMMPS' box is: as a bundle gives them."""
    contract = Contract("force", "atoms", gives, ("x",))  # type: ignore[arg-type]
    network = networks.make("atom-rows", {"inputs": ["x"], "gives": gives}).double()
    model = Column(network, contract, 1, cell=np.array([[4.0, 0, 0], [1.0, 3.0, 0], [0, 0, 5.0]]))
    tags = write_mlmod(tmp_path / "x.mlmod_params", "F_X_ML1", {"F_filename": model})
    script = torch.jit.load(tags["F_filename"])
    x = torch.tensor([[2.5, 1.0, 0.5]], dtype=torch.float64)
    want = outputs(network, contract, (x,))[-1].detach()
    for away in ([0, 0, 0], [-4, 0, 0], [3, -3, -5], [1, 3, 10]):
        moved = x + torch.tensor(away)
        np.testing.assert_allclose(script(column(moved)).reshape(1, 3), want, rtol=1e-5, atol=1e-6)


def test_external_force_sees_what_its_mask_says(tmp_path: Path) -> None:
    inputs = ("x", "v", "f", "types", "time")
    arguments = {"inputs": list(inputs), "gives": "forces", "types": 3}
    network = networks.make("atom-rows", arguments).double()
    contract = Contract("force", "atoms", "forces", inputs, types=3)
    model = Column(network, contract, 1)
    path = tmp_path / "x.mlmod_params"
    with pytest.raises(InvalidArgument, match="mask_input"):
        write_mlmod(path, "F_X_ML1", {"F_filename": model}, mask_input="X")
    tags = write_mlmod(path, "F_X_ML1", {"F_filename": model})
    assert tags["mask_input"] == "X V F Type Time"
    x, v, f = torch.rand(3, 1, 3, dtype=torch.float64).float().double()
    out = torch.jit.load(tags["F_filename"])(column(x, v, f, [3], [0.25]))
    time = torch.tensor(0.25, dtype=torch.float64)
    want = network(x, v, f, torch.tensor([2]), time)
    np.testing.assert_allclose(out.reshape(1, 3), want.detach(), rtol=1e-5, atol=1e-6)


def test_steps_move_from_where_they_are(tmp_path: Path) -> None:
    contract = Contract("dynamics", "configuration", "step", ("x", "v"), particles=3)
    arguments = {"inputs": ["x", "v"], "particles": 3, "gives": "step"}
    network = networks.make("configuration-rows", arguments).double()
    model = Column(network, contract, 3)
    models = {"dyn1_filename": model, "dyn2_filename": model}
    tags = write_mlmod(
        tmp_path / "d.mlmod_params", "Dyn_ML1", models, particles=3, mask_fix="FINAL_INTEGRATE"
    )
    x, v = torch.rand(2, 3, 3, dtype=torch.float64).float().double()
    out = torch.jit.load(tags["dyn2_filename"])(column(x, v))
    dx, after = network(x, v)
    want = torch.cat([(x + dx).reshape(-1), after.reshape(-1)])[:, None].detach()
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidArgument, match="particles must be 3"):
        Column(network, contract, 4)


def test_steps_of_velocities_alone_still_get_positions() -> None:
    network = OneStepNetwork("atoms", ("v",))
    network.linear[:3] = 0.5 * torch.eye(3)
    model = Column(network, Contract("dynamics", "atoms", "step", ("v",)), 2)
    assert model.mask == ("X", "V")
    x, v = torch.arange(6.0), torch.arange(6.0) + 10
    out = model(torch.cat([x, v])[:, None])[:, 0]
    torch.testing.assert_close(out, torch.cat([x + 0.5 * v, torch.zeros(6)]))


@pytest.mark.parametrize(("shape", "rows"), [((4, 2), (4, 2)), ((5,), (5, 1))])
def test_values_keep_their_shape(
    shape: tuple[int, ...], rows: tuple[int, int], tmp_path: Path
) -> None:
    contract = Contract("qoi", "configuration", "values", ("x",), particles=3, shape=shape)
    arguments = {"inputs": ["x"], "particles": 3, "gives": "values", "shape": list(shape)}
    network = networks.make("configuration-rows", arguments)
    tags = write_mlmod(
        tmp_path / "q.mlmod_params",
        "QoI_ML1",
        {"qoi_filename": Column(network, contract, 3)},
        particles=3,
        mask_fix=["FINAL_INTEGRATE", "INITIAL_INTEGRATE"],
    )
    assert tags["mask_fix"] == "INITIAL_INTEGRATE FINAL_INTEGRATE" and tags["skip_step"] == "1"
    assert torch.jit.load(tags["qoi_filename"])(torch.rand(9, 1)).shape == rows


@pytest.mark.parametrize(("reduce", "shape"), [("mean", (2, 1)), ("sum", (2, 1)), ("none", (4, 2))])
def test_values_of_atoms_are_reduced(reduce: Any, shape: tuple[int, int]) -> None:
    contract = Contract("qoi", "atoms", "values", ("x",), shape=(2,), reduce=reduce)
    network = networks.make("atom-rows", {"inputs": ["x"], "gives": "values", "outputs": 2})
    x = torch.rand(4, 3)
    out = Column(network, contract, 4)(x.reshape(-1, 1))
    each = network.double()(x.double())
    want = {"mean": each.mean(0), "sum": each.sum(0), "none": each}[reduce]
    assert out.shape == shape
    np.testing.assert_allclose(out, want.detach().reshape(shape), rtol=1e-5)


class Own(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.eye(3).reshape(9, 1) + 0.1 * (x @ x.T).reshape(9, 1)


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = x[:3] - x[3:]
        return (d @ d.T / (1 + (d * d).sum()) ** 2).reshape(9, 1)


def test_mobilities(tmp_path: Path) -> None:
    own, pair = Own(), Pair()
    both: dict[str, Any] = {"M_ii_filename": own, "M_ij_filename": pair}
    tags = write_mlmod(tmp_path / "m.mlmod_params", "dX_MF_ML1", both)
    assert sorted(Path(v).name for v in tags.values()) == ["m_M_ii.pt", "m_M_ij.pt"]
    whole = {"M_filename": WholeMobility(own, pair, 4)}
    path = tmp_path / "n.mlmod_params"
    tags = write_mlmod(path, "dX_MF_Q1_ML1_N2N", whole, particles=4, **NOISE)
    x = torch.rand(4, 3)
    M = torch.jit.load(tags["M_filename"])(x.reshape(-1, 1)).reshape(12, 12)
    for i in range(4):
        for j in range(4):
            given = x[i][:, None] if i == j else torch.cat([x[i], x[j]])[:, None]
            want = (own if i == j else pair)(given).reshape(3, 3)
            torch.testing.assert_close(M[3 * i : 3 * i + 3, 3 * j : 3 * j + 3], want)
    with pytest.raises(Error, match=r"float32 \(9,1\), gave torch.float32 \(6, 1\)"):
        write_mlmod(path, "dX_MF_ML1", {**both, "M_ij_filename": torch.nn.Identity()})
    with pytest.raises(Error, match=r"fails on \(12,1\)"):
        write_mlmod(path, "dX_MF_Q1_ML1_N2N", {"M_filename": own}, particles=4, **NOISE)
    tags = write_mlmod(path, "dX_MF_ML1", {"M_ii_filename": "a.pt", "M_ij_filename": "b.pt"})
    assert tags["M_ij_filename"] == "b.pt"


class Forgets(torch.nn.Module):
    """What is traced, on the fourth call, is not what the first three gave."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (x[:3] @ x[3:].T).reshape(9, 1) * (1.0 if self.calls <= 3 else 2.0)


def test_wrong_models_are_not_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "m.mlmod_params"
    wrong = {"M_ii_filename": Own(), "M_ij_filename": Forgets()}
    with pytest.raises(Error, match="m_M_ij.pt: the traced model differs"):
        write_mlmod(path, "dX_MF_ML1", wrong)
    assert list(tmp_path.iterdir()) == []
    write_mlmod(path, "dX_MF_ML1", {**wrong, "M_ij_filename": Pair()})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    own = WholeMobility(Own(), Pair(), 1)
    with pytest.raises(Error, match="differs"):
        write_mlmod(path, "dX_MF_ML1", {"M_ii_filename": own, "M_ij_filename": Forgets()})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
