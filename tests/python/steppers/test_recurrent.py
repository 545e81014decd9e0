"""Steps with a memory against systems whose next step does not follow from what is seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from mlcore import export
from mlcore.cli import main
from mlcore.data import Trajectory
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.steppers import OneStep, RecurrentStep
from mlcore.training import TrainingOptions
from stopping import stopped_after

DT = 0.5


def springs(frames: int, count: int, seed: int) -> Trajectory:
    """Free oscillators of frequency 1, x and v of each independent: x tells nothing of v."""
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(2, count, 3))
    t = DT * np.arange(frames)[:, None, None]
    places = x * np.cos(t) + v * np.sin(t)
    return Trajectory(t[:, 0, 0], places, velocities=v * np.cos(t) - x * np.sin(t))


def blind(t: Trajectory) -> Trajectory:
    return dataclasses.replace(t, velocities=None)


FEW = TrainingOptions(epochs=2, batch_size=64)


@pytest.fixture(scope="module")
def fitted() -> RecurrentStep:
    """Sees positions alone."""
    model = RecurrentStep("atoms", ("x",), hidden=24)
    options = TrainingOptions(epochs=40, batch_size=64, learning_rate=2e-2, patience=40)
    model.fit(springs(60, 200, 0), stretch=20, warm=5, training=options)
    return model


def test_what_velocities_would_tell_is_remembered(fitted: RecurrentStep) -> None:
    """dx = (cos dt - 1) x + sin dt v: whoever sees x alone is off by sin(dt) rms(v) at least."""
    known = springs(40, 40, 1)
    bound = np.sin(DT) * np.sqrt((known.velocities[20:-1] ** 2).mean())  # type: ignore[index]
    forgetful = OneStep("atoms", ("x",), hidden=(16,))
    forgetful.fit(blind(springs(70, 30, 0)), training=TrainingOptions(epochs=20, batch_size=256))
    errors: dict[str, list[np.ndarray]] = {"memory": [], "none": []}
    memory = None
    for x, v, after in zip(known.positions, known.velocities, known.positions[1:], strict=False):  # type: ignore[arg-type]
        found, _, memory = fitted.step(x, v, memory)
        errors["memory"].append(found - after)
        errors["none"].append(forgetful.step(x, v)[0] - after)
    rms = {name: np.sqrt((np.array(e)[20:] ** 2).mean()) for name, e in errors.items()}
    assert rms["none"] > 0.9 * bound
    assert rms["memory"] < 0.1 * bound


def test_velocities_of_the_data_are_learned_unseen(fitted: RecurrentStep) -> None:
    known = springs(30, 40, 2)
    memory = fitted.warm_up(known)
    _, after, _ = fitted.step(known.positions[-1], np.zeros((40, 3)), memory)
    t = 30 * DT
    x, v = known.positions[0], known.velocities[0]  # type: ignore[index]
    exact = v * np.cos(t) - x * np.sin(t)
    assert np.sqrt(((after - exact) ** 2).mean()) < 0.2 * np.sqrt((exact**2).mean())


def test_warmed_roll_outs_follow(fitted: RecurrentStep) -> None:
    """Five steps on their own after twenty seen: the phase is known, from zeros it is not."""
    known = springs(26, 40, 3)
    start = dataclasses.replace(
        known,
        times=known.times[:21],
        positions=known.positions[:21],
        velocities=known.velocities[:21],  # type: ignore[index]
    )
    x, v = start.positions[-1], start.velocities[-1]  # type: ignore[index]

    def error(memory: np.ndarray | None) -> float:
        found = fitted.rollout(x, v, 5, memory)
        return float(np.sqrt(((found.positions - known.positions[20:]) ** 2).mean()))

    assert error(fitted.warm_up(start)) < 0.3 * error(None)


def test_training_lowers_the_error_of_held_out_data(fitted: RecurrentStep) -> None:
    short = RecurrentStep("atoms", ("x",), hidden=24)
    first = short.fit(springs(70, 30, 0), stretch=20, warm=5, training=FEW)
    longer = RecurrentStep("atoms", ("x",), hidden=24)
    options = dataclasses.replace(FEW, epochs=12, schedule="constant")
    assert longer.fit(springs(70, 30, 0), stretch=20, warm=5, training=options).best < first.best


def test_steps_are_those_of_the_whole_stretch(fitted: RecurrentStep) -> None:
    """What training sees in one go is what single steps give."""
    network = fitted.network
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 9, 3)))
    with torch.no_grad():
        whole = network.stretch(rows)
        memory = torch.zeros(7, network.memory, dtype=torch.float64)
        for k in range(9):
            out, memory = network.advance(rows[:, k], memory)
            assert out.numpy() == pytest.approx(whole[:, k].numpy(), abs=1e-13)


def everything(frames: int, seed: int) -> Trajectory:
    t = springs(frames, 4, seed)
    forces = np.random.default_rng(seed).normal(size=t.positions.shape)
    types = np.array([1, 2, 1, 2])
    cell = 20 * np.eye(3)
    return dataclasses.replace(
        t, forces=forces, types=types, cell=cell, pbc=np.ones(3, bool), positions=t.positions + 10
    )


@pytest.mark.parametrize(
    ("sees", "inputs", "relative", "layers"),
    [
        ("atoms", ("x", "v", "f", "types", "time"), True, 2),
        ("atoms", ("f",), True, 1),
        ("configuration", ("x", "v", "types", "time"), False, 2),
        ("configuration", ("x", "v", "f"), True, 1),
        ("configuration", ("v",), True, 3),
    ],
)
def test_bundles(
    sees: str, inputs: tuple[str, ...], relative: bool, layers: int, tmp_path: Path
) -> None:
    model = RecurrentStep(sees, inputs, 6, layers, relative)  # type: ignore[arg-type]
    model.fit([everything(40, 0), everything(50, 1)], stretch=12, warm=3, training=FEW)
    bundle = model.export(tmp_path / "b")
    contract = bundle.contract
    assert contract.memory == bundle.manifest["model"]["memory"] == 12 * layers
    assert contract.timestep == model.dt
    assert bundle.engines == (("torchscript",) if model.relative else ("native", "torchscript"))
    found = export.verify(tmp_path / "b")
    assert found.get("native", "4e-16 relative error").endswith("relative error")
    (network,) = bundle.networks()
    t = everything(4, 2)
    assert t.forces is not None and t.velocities is not None and t.types is not None
    given = {"x": t.positions[0], "v": t.velocities[0], "f": t.forces[0], "types": t.types - 1}
    given |= {"time": np.array(0.7), "cell": np.asarray(t.cell)}
    memory = np.random.default_rng(3).normal(size=(4 if sees == "atoms" else 1, 12 * layers))
    out = network(*(torch.from_numpy(given[n]) for n in contract.inputs), torch.from_numpy(memory))
    wanted = model.step(
        given["x"], given["v"], memory, f=given["f"], types=t.types, time=0.7
    )  # fmt: skip
    assert given["x"] + out[0].numpy() == pytest.approx(wanted[0], abs=1e-12)
    for got, want in zip(out[1:], wanted[1:], strict=True):
        assert got.numpy() == pytest.approx(want, abs=1e-12)


def test_the_core_gives_what_the_bundle_says(tmp_path: Path) -> None:
    """The numbers of the manifest, handed to the recurrent operation of the core."""
    from mlcore import LSTM

    model = RecurrentStep("atoms", ("x", "v"), 5, 2)
    model.fit(springs(40, 6, 0), stretch=12, warm=3, training=FEW)
    bundle = model.export(tmp_path / "b", torchscript=False)
    assert bundle.native is not None
    (native,) = bundle.native
    assert isinstance(native, export.Lstm)
    weights = {"out.weight": native.head, "out.bias": native.head_bias}
    for k, (ih, hh, b) in enumerate(zip(native.w_ih, native.w_hh, native.biases, strict=True)):
        weights |= {f"weight_ih_l{k}": ih, f"weight_hh_l{k}": hh, f"bias_ih_l{k}": b}
    core, state, memory = LSTM(weights), None, None
    x, v = np.random.default_rng(1).normal(size=(2, 6, 3))
    for _ in range(3):
        rows = (np.hstack([x, v]) - native.in_shift) / native.in_scale
        y, state = core.advance(rows[:, None], state)
        out = y[:, 0] * native.out_scale + native.out_shift
        x, v, memory = model.step(x, v, memory)
        assert out[:, 3:] == pytest.approx(v, abs=1e-12)


def test_bundles_are_rebuilt_and_verified(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = RecurrentStep("atoms", ("x",), 4)
    model.fit(springs(40, 4, 0), stretch=12, warm=3, training=FEW)
    model.export(tmp_path / "b")
    (tmp_path / "b" / "model_0.pt").write_bytes(b"broken")
    with pytest.raises(FileFormatError, match="model_0.pt"):
        export.verify(tmp_path / "b")
    assert main(["export", "rebuild", str(tmp_path / "b"), "--no-compiled"]) == 0
    assert main(["export", "verify", str(tmp_path / "b")]) == 0
    assert "native" in capfd.readouterr().out


def test_compiled_steps_keep_the_memory(tmp_path: Path) -> None:
    model = RecurrentStep("atoms", ("x",), 4)
    model.fit(springs(40, 4, 0), stretch=12, warm=3, training=FEW)
    bundle = model.export(tmp_path / "b", compiled=True)
    assert bundle.manifest["verified"]["compiled"] < 1e-12


def test_a_committee_in_one_bundle(tmp_path: Path) -> None:
    networks, contract = [], None
    for seed in range(2):
        model = RecurrentStep("atoms", ("x",), 4, seed=seed)
        model.fit(springs(40, 4, 0), stretch=12, warm=3, training=FEW)
        contract = model.export(tmp_path / "one").contract
        networks.append(model.network)
    assert contract is not None
    native = [export.Lstm(**network.native()) for network in networks]
    bundle = export.write_model(tmp_path / "both", contract, networks, native=native)
    assert bundle.members == 2
    export.verify(tmp_path / "both")


def test_boundaries_do_not_matter(tmp_path: Path) -> None:
    """Atoms are seen in the cell, configurations whole, wherever their images are."""
    for sees in ("atoms", "configuration"):
        model = RecurrentStep(sees, ("x", "v"), 6)  # type: ignore[arg-type]
        model.fit(everything(40, 0), stretch=12, warm=3, training=FEW)
        x, v = 10 + np.random.default_rng(1).normal(size=(2, 4, 3))
        shift = 20.0 * np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, 2]])
        near, far = model.step(x, v), model.step(x + shift, v)
        assert far[0] - shift == pytest.approx(near[0], abs=1e-11)
        assert far[2] == pytest.approx(near[2], abs=1e-11)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def history(folder: str) -> list[dict[str, float]]:
        options = TrainingOptions(
            epochs=6, schedule="constant", batch_size=8, directory=tmp_path / folder,
            resume=True, checkpoint_every=1,
        )  # fmt: skip
        model = RecurrentStep("atoms", ("x",), 4)
        return model.fit(springs(40, 4, 0), stretch=12, warm=3, training=options).history

    whole = history("whole")
    with stopped_after(3):
        history("part")
    assert history("part") == whole and len(whole) == 6
    with pytest.raises(Error, match="other settings"):
        options = TrainingOptions(epochs=6, batch_size=8, directory=tmp_path / "part", resume=True)
        RecurrentStep("atoms", ("x",), 5).fit(springs(40, 4, 0), training=options, warm=0)


def test_roll_outs_with_forces_and_time() -> None:
    model = RecurrentStep("atoms", ("x", "f", "types", "time"), 4)
    model.fit([everything(40, 0)], stretch=12, warm=3, training=FEW)
    types, x, v = [1, 2, 1, 1], *np.random.default_rng(0).normal(size=(2, 4, 3))
    found = model.rollout(x, v, 3, forces=lambda x: -x, types=types, time=0.5)
    state, memory = x, None
    for k in range(3):
        state, _, memory = model.step(
            state, v, memory, f=-state, types=types, time=0.5 + k * model.dt
        )
        assert found.positions[k + 1] == pytest.approx(state, abs=1e-13)
    assert found.times == pytest.approx(0.5 + DT * np.arange(4))


def small(sees: str = "atoms", inputs: tuple[str, ...] = ("x",)) -> RecurrentStep:
    model = RecurrentStep(sees, inputs, 4)  # type: ignore[arg-type]
    model.fit(everything(30, 0), stretch=12, warm=2, training=FEW)
    return model


ZEROS = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RecurrentStep("group"), "sees"),  # type: ignore[arg-type]
        (lambda: RecurrentStep("atoms", ("v", "x")), "inputs"),
        (lambda: RecurrentStep("atoms", ("types",)), "inputs"),
        (lambda: RecurrentStep("atoms", ("x", "cell")), "inputs"),
        (lambda: RecurrentStep("atoms", None), "inputs"),  # type: ignore[arg-type]
        (lambda: RecurrentStep("atoms", hidden=0), "hidden"),
        (lambda: RecurrentStep("atoms", layers=1.5), "layers"),  # type: ignore[arg-type]
        (lambda: RecurrentStep().fit([]), "data holds no trajectory"),
        (lambda: RecurrentStep().fit(["run.dump"]), "data must be a Trajectory"),  # type: ignore[list-item]
        (lambda: RecurrentStep().fit(springs(60, 3, 0), validation=True), "validation"),
        (
            lambda: small("atoms", ("x", "types")).step(ZEROS, ZEROS, types=[1.9] * 4),
            "whole numbers",
        ),
        (lambda: small().step(ZEROS, ZEROS, types=[0] * 4), "whole numbers in 1"),
        (lambda: RecurrentStep().fit(springs(60, 3, 0), validation=0.0), "validation"),
        (lambda: RecurrentStep().fit(springs(60, 3, 0), warm=-1), "warm"),
        (lambda: RecurrentStep().fit(springs(60, 3, 0), warm=None), "warm"),  # type: ignore[arg-type]
        (lambda: RecurrentStep().fit(springs(60, 3, 0), training=3), "training must be"),  # type: ignore[arg-type]
        (lambda: small().warm_up(ZEROS), "data must be a Trajectory"),  # type: ignore[arg-type]
        (lambda: small().step(ZEROS, ZEROS, "a"), "memory must be numbers"),  # type: ignore[arg-type]
        (lambda: RecurrentStep().fit(springs(60, 3, 0), stretch=10, warm=10), "stretch"),
        (lambda: RecurrentStep().fit(springs(11, 3, 0), warm=10), "too few"),
        (lambda: RecurrentStep().fit(blind(springs(60, 3, 0))), "velocities"),
        (lambda: RecurrentStep("atoms", ("f",)).fit(springs(60, 3, 0)), "forces"),
        (lambda: RecurrentStep("atoms", ("x", "types")).fit(springs(60, 3, 0)), "types"),
        (lambda: RecurrentStep().fit([springs(60, 3, 0), everything(60, 0)]), "data"),
        (lambda: small().step(np.zeros(3), np.zeros(3)), "x and v"),
        (lambda: small().step(ZEROS, ZEROS, np.zeros((3, 8))), "memory"),
        (lambda: small("configuration").step(ZEROS, ZEROS, np.zeros((4, 8))), "memory"),
        (lambda: small("configuration").step(ZEROS[:3], ZEROS[:3]), "x holds 3"),
        (lambda: small("atoms", ("f",)).step(ZEROS, ZEROS), "f must be given"),
        (lambda: small("atoms", ("f",)).step(ZEROS, ZEROS, f=np.zeros(3)), "f must have"),
        (lambda: small("atoms", ("x", "types")).step(ZEROS, ZEROS, types=[1, 2, 3, 1]), "types"),
        (lambda: small().rollout(ZEROS, ZEROS, 0), "steps"),
    ],
)
def test_errors(make: object, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        make()  # type: ignore[operator]


def test_unfitted() -> None:
    with pytest.raises(Error, match="fit"):
        RecurrentStep().step(ZEROS, ZEROS)


def test_contracts() -> None:
    told = {"sees": "atoms", "inputs": ("x",), "memory": 4}
    with pytest.raises(InvalidArgument, match="keeps no state"):
        export.Contract("force", gives="forces", **told)  # type: ignore[arg-type]
    for wrong in (-1, 2.5, True):
        with pytest.raises(InvalidArgument, match="memory"):
            export.Contract("dynamics", gives="step", **told | {"memory": wrong})  # type: ignore[arg-type]


def test_native_numbers_must_fit(tmp_path: Path) -> None:
    model = small()
    network = model.network
    parts = network.native()
    for name in ("w_ih", "w_hh", "biases", "head", "head_bias", "in_scale", "out_shift"):
        value = parts[name]
        wrong = [v[:-1] for v in value] if isinstance(value, list) else value[:-1]
        with pytest.raises(InvalidArgument):
            export.Lstm(**parts | {name: wrong})
    bundle = model.export(tmp_path / "b")
    other = dataclasses.replace(bundle.contract, memory=6)
    with pytest.raises(InvalidArgument, match="memory of 8, the contract 6"):
        export.write_model(tmp_path / "c", other, network, native=export.Lstm(**parts))
    off = export.Lstm(**parts | {"head_bias": parts["head_bias"] + 1e-6})
    with pytest.raises(Error, match="native"):
        export.write_model(tmp_path / "c", bundle.contract, network, native=off)
    assert not (tmp_path / "c").exists()
