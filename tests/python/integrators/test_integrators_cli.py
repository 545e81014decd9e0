"""`mlcore integrators sweep` and `fit`: from a TOML file to a file of an integrator, and what is said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from mlcore.cli import main
from mlcore.integrators import load
from mlcore.md import Dataset

pytest.importorskip("torch")

TOLD = """
[runs]
system = "double_well"
dt = 1e-3
time = 12.0
every = 200
over.x0 = [{from = 1.5, to = 3.0, count = 8}, -2.0, {from = -3.0, to = -2.5, count = 3}]
over.mass = 1

[model]
kind = "lstm"
hidden = [8, 8]
window = 4

[fit]
strides = [1, 2]
held_out = 0.25
horizon = 5
epochs = 2
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "told.toml"
    path.write_text(TOLD)
    return path


def test_from_a_file_to_an_integrator(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told.parent / "out"
    assert main(["integrators", "sweep", str(told), "--out", str(out)]) == 0
    assert "12 runs of double_well, 61 frames 0.2 apart" in capsys.readouterr().out
    data = Dataset.load(out / "runs.h5")
    wanted = [*np.linspace(1.5, 3.0, 8), -2.0, *np.linspace(-3.0, -2.5, 3)]
    np.testing.assert_allclose(data.parameters["x0"], wanted)
    assert main(["integrators", "fit", str(told), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for interval in ("0.2", "0.4"):  # both errors, side by side
        line = (
            rf"steps of {interval}, 3 runs left out; one step from true windows \S+; own roll-out "
        )
        assert re.search(line + r"to t = 5 \S+", shown.replace("t = 4.8", "t = 5")), shown
    model = load(out / "integrator.safetensors")
    assert model.window == 4 and model.hidden == (8, 8) and len(model.trained_on) == 9
    assert model.rollout(data.frames(slice(4)), 2).accepted.any()
    assert (out / "training" / "metrics.jsonl").read_text().count("\n") == 2
    # the runs may come from a file, too
    text = TOLD[TOLD.index("[model]") :] + '\ndata = "out/runs.h5"\nvalidation = 0\n'
    told.write_text(text)
    assert main(["integrators", "fit", str(told), "--out", str(out), "--fresh"]) == 1
    assert "runs.h5: no such file" in capsys.readouterr().err  # --fresh has removed its own
    data.save(told.parent / "kept.h5")
    told.write_text(text.replace("out/runs.h5", "kept.h5"))
    assert main(["integrators", "fit", str(told), "--out", str(out), "--fresh"]) == 0
    assert main(["integrators", "sweep", str(told), "--out", str(out)]) == 1
    assert "has no section runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dt = 1e-3", "dt = 0", "runs.dt: Input should be greater than 0"),
        ("dt = 1e-3", "", "runs.dt: Field required"),
        ("every", "evry", "runs.evry: no such field"),
        ('"double_well"', '"pendulum"', "system must be"),
        ("over.mass", "over.speed", "has no parameter 'speed'"),
        ("from = 1.5", "start = 1.5", "from: Field required"),
        ('"lstm"', '"lstn"', "kind must be one of action_angle, lstm"),
        ("hidden", "hiden", "model: hiden: no such field, there are hidden"),
        ("window = 4", "window = 0", "window must be at least 1"),
        ("epochs", "epoch", "fit.epoch: no such field, there are validation, epochs"),
        ("held_out = 0.25", "held_out = 1", "fit.held_out: Input should be less than 1"),
        ("strides = [1, 2]", "strides = []", "fit.strides: "),
        ("strides = [1, 2]", 'data = "x"', "needs either a section runs or the field fit.data"),
        ("[fit]", "[fit", "not a TOML file"),
    ],
)
def test_wrong_files(
    told: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told.write_text(TOLD.replace(old, new))
    assert main(["integrators", "fit", str(told), "--out", str(told.parent / "out")]) == 1
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
