"""Sets of pulled sheets on disk, and the example that makes them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.units import fs
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.sagesnet import AtomGrid, AtomState
from mlcore.sagesnet.carbon import TINY, Dataset, Pull, Stretch, chain, seed_noise

EXAMPLE = Path(__file__).parents[3] / "examples" / "graphene" / "generate.py"
SHORT = Pull(rate=0.5, until=0.1, rest=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    made = Dataset(tmp_path_factory.mktemp("set"), SHORT, TINY)
    report = made.generate(["110", "011"], seeds=(1, 2))
    assert sorted(report.made) == made.names() and len(made) == 4 and not report.failed
    return made


def test_what_is_finished_is_not_run_again(data: Dataset) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.folder.iterdir()}
    again = Dataset(data.folder, SHORT, TINY).generate(["110", "011"], seeds=(2, 1))
    assert not again.made and sorted(again.found) == data.names()
    assert before == {path: path.stat().st_mtime_ns for path in data.folder.iterdir()}


def test_a_run_that_failed_is_told_and_made_later(data: Dataset) -> None:
    report = data.generate(["101", "110"], timeout=0.01)
    assert set(report.failed) == {"101-1"} and "given up" in report.failed["101-1"]
    assert report.found == ("110-1",) and "101-1" not in data.names()
    # a file of frames without its record is a run that was broken off
    (data.folder / "101-1.h5").write_bytes(b"half")
    assert data.generate(["101"]).made == ("101-1",)
    assert data["101-1"].intact() and len(data["101-1"].window().steps) == 21
    for name in ("101-1.json", "101-1.h5"):
        (data.folder / name).unlink()
    assert len(data) == 4 and not list(data.folder.glob(".*")) + list(data.folder.glob("mlcore-*"))


def test_provenance_tells_all_that_made_a_run(data: Dataset) -> None:
    sample = data["110-2"]
    record = sample.record
    assert record["pattern"] == sample.pattern == "110" and record["seed"] == sample.seed == 2
    assert Pull(**record["pull"]) == SHORT and record["lammps"].startswith("20")
    assert len(record["potential"]) == len(record["body"]) == len(record["sha256"]) == 64
    assert record["cpu_seconds"] > 0 and record["length"] > 20
    assert record["body"] == data["110-1"].record["body"] != data["011-1"].record["body"]
    with h5py.File(sample.file) as file:
        kept = json.loads(file.attrs["record"])
    assert kept.items() <= record.items()
    assert sample.intact()
    altered = sample.file.read_bytes()
    sample.file.write_bytes(altered[:-1] + bytes([altered[-1] ^ 1]))
    assert not sample.intact()
    sample.file.write_bytes(altered)
    assert sample.intact()


def test_other_settings_and_broken_files_are_refused(data: Dataset, tmp_path: Path) -> None:
    assert Dataset(data.folder).pull == SHORT and Dataset(data.folder).design == TINY
    with pytest.raises(InvalidArgument, match="pull"):
        Dataset(data.folder, Pull())
    with pytest.raises(InvalidArgument, match="give pull"):
        Dataset(tmp_path / "none")
    with pytest.raises(InvalidArgument, match="falls apart"):
        data.generate(["000"])
    with pytest.raises(InvalidArgument, match="no finished run"):
        data["111-1"]
    (tmp_path / "manifest.json").write_text("[1")
    with pytest.raises(FileFormatError):
        Dataset(tmp_path)


def test_windows_as_arrays_and_as_atoms(data: Dataset) -> None:
    found = list(data.windows(3, stride=2, every=4, names=["110-1"]))
    assert [int(window.steps[0]) for window in found] == [0, 40, 80, 120, 160]
    window = found[1]
    assert window.steps.tolist() == [40, 60, 80] and window.positions.shape == (3, 228 + 12, 3)
    assert np.allclose(window.strains, window.steps * 5e-4)
    frames = window.atoms()
    assert np.allclose(frames[1].positions, window.positions[1])
    assert np.allclose(frames[1].get_velocities() * fs, window.velocities[1], rtol=1e-5)
    assert (frames[0].arrays["id"] == np.arange(240)).all() and not frames[0].pbc.any()
    state = AtomState.of(frames, AtomGrid.over(frames[0]))
    back = state.atoms()
    order = np.argsort(back[2].arrays["id"])
    assert np.abs(back[2].positions[order] - window.positions[2]).max() < 1e-5
    assert all(w.strains[-1] <= 0.05 + 1e-9 for w in data.windows(2, until=0.05))
    assert len(list(data.windows(21))) == 4 and not list(data.windows(22))
    with pytest.raises(InvalidArgument, match="frames"):
        data["110-1"].window(20, 2)


def test_grips_move_in_the_first_frame_too(data: Dataset) -> None:
    """LAMMPS itself tells that they rest before its first step."""
    sample = data["110-1"]
    window, grip = sample.window(0, 2), sample.start.arrays["grip"]
    speed = 0.5 * SHORT.rate * sample.record["length"] * 1e-3
    for frame in window.velocities:
        assert frame[grip == 1] == pytest.approx(np.tile([speed, 0, 0], ((grip == 1).sum(), 1)))
    moved = window.positions[1] - window.positions[0]
    assert moved[grip == 1, 0] == pytest.approx(10 * speed, rel=1e-2)


def test_a_split_keeps_runs_of_a_pattern_together(data: Dataset) -> None:
    train, test = data.split((0.5, 0.5), seed=1)
    assert sorted(train + test) == data.names()
    assert len({name[:3] for name in train}) == 1 and not {n[:3] for n in train} & {
        n[:3] for n in test
    }
    assert data.split((0.5, 0.5), seed=1) == (train, test)
    with pytest.raises(InvalidArgument, match="add up"):
        data.split((0.5, 0.4))


def test_a_bump_below_what_counts_is_no_yield(data: Dataset, tmp_path: Path) -> None:
    """The label of a run is told by the least stress of its own settings."""
    one, window = data["110-1"], data["110-1"].window()
    strain = np.linspace(0, 0.3, 301)
    stress = np.interp(strain, [0.01, 0.02, 0.2, 0.25], [2.0, 0.0, 20.0, 0.0])
    curve = np.zeros((301, 7))
    curve[:, 0], curve[:, 1], curve[:, 2] = np.arange(301), strain, stress
    found = {}
    for least in (1.0, 5.0):
        pull = replace(SHORT, least=least)
        told = {"pull": pull.record(), "seed": 1, "section": 1.0}
        frames = (window.steps, window.strains, window.positions, window.velocities)
        run = Stretch(one.start, *frames, curve, told)
        kept = Dataset(tmp_path / f"{least:g}", pull, TINY).keep("bump", run)
        found[least] = kept.label.strain
    assert found[1.0] < 0.03 and abs(found[5.0] - 0.2) < 0.01


def test_any_body_can_be_added(tmp_path: Path) -> None:
    kept = Dataset(tmp_path / "strands", Pull(rate=1.0, until=0.1, rest=0.01))
    assert kept.add([("dodecane", chain(), 1)]).made == ("dodecane",)
    sample = kept["dodecane"]
    assert sample.pattern == "dodecane" and set(sample.start.symbols) == {"C", "H"}
    with pytest.raises(InvalidArgument, match="name"):
        kept.keep("../x", None)  # type: ignore[arg-type]


def test_the_example_in_its_quick_form(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--quick", "--folder", str(tmp_path / "set")]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    data = Dataset(tmp_path / "set")
    assert data.names() == ["101-1", "101-2"]
    for sample in data:
        assert 0.15 < sample.label.strain < 0.6 and 40 < sample.label.stress < 110
        assert len(sample) > 200 and sample.record["bytes"] < 8e6
    noise, free = seed_noise((s.pattern, s.label.strain) for s in data)
    assert free == 1 and f"{noise:.3f}" in first.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == first.stdout


def test_the_example_pulls_what_it_is_asked_to(tmp_path: Path) -> None:
    """One pattern with LJ, another rate, seed and least stress; other settings need another folder."""
    command = [sys.executable, str(EXAMPLE), "--quick", "--folder", str(tmp_path / "set"), "--lj"]
    told = [*command, "--patterns", "110", "--seed", "3", "--rate", "0.5", "--least", "3"]
    first = subprocess.run(told, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    data = Dataset(tmp_path / "set")
    assert data.names() == ["110-3"]
    assert (data.pull.lj, data.pull.rate, data.pull.least) == (True, 0.5, 3.0)
    other = subprocess.run([*told, "--rate", "0.4"], capture_output=True, text=True, check=False)
    assert other.returncode != 0 and "was begun with" in other.stderr
