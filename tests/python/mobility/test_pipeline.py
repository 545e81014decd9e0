"""The demo's own command finds a known mobility again, keeps its stages, and names mistakes."""

import json
import re

import mlcore
import numpy as np
import pytest
from mlcore import cli, dynamics
from mlcore.data import Trajectory, write_trajectory
from mlcore.export import load_bundle
from mlcore.mobility.estimators import MobilityEstimate
from mlcore.mobility.tensors import RPY

pytestmark = pytest.mark.slow

BOX, PARTICLES, FRAME, SEGMENT = 24.0, 12, 2.0, 40.0
TRUTH = RPY(1.3 * 2.0, 0.7 * 2.497)
OTHER = RPY(2.0, 2.497)

CONFIG = """
title = "Known mobility"
seed = 3
[system]
kBT = 1.0
[data.active]
files = "active_*.dump.gz"
lag = 2.0
settle = 0.0
[estimate]
edges = [2.0, 4.0, 5.2, 7.0, 9.0, 12.0, 16.0, 20.8]
[train]
models = ["neural"]
losses = ["regression"]
cutoff = 12.0
epochs = 1500
[train.background]
radius = 2.0
viscosity = 2.5
[theory]
radius = 2.6
viscosity = 1.7479
[[simulate]]
name = "small"
particles = 12
box = 24.0
time_step = 0.5
duration = 2000.0
frame = 2.0
runs = 2
compare = "theory"
window = [0.0, 2.0]
lags = [2.0, 10.0, 50.0]
"""


def driven(seed, segments=40, spread=8.0):
    """Brownian particles without solvent inertia, pushed by forces that change every segment."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, BOX, (PARTICLES, 3))
    positions, forces = [x], [np.zeros((PARTICLES, 3))]
    for segment in range(segments):
        push = spread * rng.normal(size=(PARTICLES, 3))
        frames = dynamics.brownian(
            TRUTH,
            positions[-1],
            forces=dynamics.Constant(push),
            dt=0.5,
            kT=1.0,
            steps=round(SEGMENT / 0.5),
            every=round(FRAME / 0.5),
            cell=BOX * np.eye(3),
            seed=seed,
            stream=segment,
        )
        positions += list(frames[1:])
        forces += [push] * (len(frames) - 1)
    times = FRAME * np.arange(len(positions))
    return Trajectory(times, np.array(positions), BOX * np.eye(3), forces=np.array(forces))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("known")
    for seed in range(6):
        write_trajectory(place / f"active_{seed}.dump.gz", driven(seed))
    (place / "run.toml").write_text(CONFIG)
    return place


@pytest.fixture(scope="module")
def out(folder):
    assert (
        cli.main(["mobility", "demo", str(folder / "run.toml"), "--out", str(folder / "out")]) == 0
    )
    return folder / "out"


def test_the_estimate_is_the_known_mobility(out):
    estimate = MobilityEstimate.load(out / "estimate" / "active.npz")
    truth = estimate.theory(TRUTH)
    scale, error = estimate.scale(truth)
    assert abs(scale - 1) < 3 * error < 0.15
    assert abs(estimate.self_mobility - truth.self_mobility) < 3 * estimate.self_error
    assert estimate.chi2(truth).reduced < 1.8
    assert estimate.chi2(estimate.theory(OTHER)).reduced > 5


def test_the_learned_mobility_is_the_known_one_within_error_bars(out):
    estimate = MobilityEstimate.load(out / "estimate" / "active.npz")
    learned = load_bundle(out / "export" / "bundle").mobility
    found, truth = estimate.theory(learned), estimate.theory(TRUTH)
    for part in ("par", "perp"):
        deviation = getattr(found, part) - getattr(truth, part)
        assert np.all(np.abs(deviation) < 2.5 * getattr(estimate, f"{part}_error"))
    assert abs(found.self_mobility - truth.self_mobility) < 3 * estimate.self_error
    assert estimate.chi2(found).reduced < 1.8


def test_the_learned_mobility_holds_in_a_box_it_has_not_seen(out):
    learned = load_bundle(out / "export" / "bundle").mobility
    x = np.array([[0.0, 0, 0], [9.0, 0, 0]])
    cell = 61.3 * np.eye(3)
    found, truth = learned.matrix(x, cell), TRUTH.matrix(x, cell)
    assert np.abs(found - truth).max() < 0.1 * truth[0, 0]


def test_the_motion_in_lammps_is_the_known_one(out):
    result = json.loads((out / "simulate-small" / "stage.json").read_text())["result"]
    learned, truth = result["learned"]["spectrum"], result["reference"]["spectrum"]
    difference = np.array(learned["value"]) - truth["value"]
    assert np.all(np.abs(difference) < 4 * np.hypot(learned["error"], truth["error"]))
    assert np.all(np.array(learned["error"]) < 0.1 * np.array(learned["value"]))


def test_the_report_is_complete(out):
    text = (out / "report.html").read_text()
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == ["learning.png", "motion_small.png", "pair_active.png"]
    assert text.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r'(src|href)="(?!data:)', text)
    for told in ("Known mobility", mlcore.__version__, "active_3.dump.gz", "seed 3", "kBT = 1.0"):
        assert told in text


def test_finished_stages_are_kept_until_the_configuration_changes(folder, out, capfd):
    words = ["mobility", "train", str(folder / "run.toml"), "--out", str(out)]
    assert cli.main(words) == 0
    assert "estimate         kept" in capfd.readouterr().err.replace("\n", " ")
    changed = folder / "changed.toml"
    changed.write_text(CONFIG.replace("cutoff = 12.0", "cutoff = 11.0"))
    copy = folder / "copy"
    for path in (out / "estimate").iterdir():
        (copy / "estimate").mkdir(parents=True, exist_ok=True)
        (copy / "estimate" / path.name).write_bytes(path.read_bytes())
    assert cli.main(["mobility", "train", str(changed), "--out", str(copy)]) == 0
    told = capfd.readouterr().err
    assert "estimate         kept" in told and not re.search("train +kept", told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("lag = 2.0", "lag = 3.0"), "not a multiple"),
        (('"active_*.dump.gz"', '"nothing_*.gz"'), "no file matches"),
        (('"active_*.dump.gz"', '"active_0.dump.gz"'), "data.active.files"),
        (('"active_*.dump.gz"', '"broken_*.gz"'), "broken_1.dump.gz"),
        (("kBT = 1.0", "kBT = 0"), "system.kBT"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(folder, tmp_path, capfd, change, told):
    whole = (folder / "active_0.dump.gz").read_bytes()
    (folder / "broken_2.dump.gz").write_bytes(whole)
    (folder / "broken_1.dump.gz").write_bytes(whole[: len(whole) // 2])
    path = folder / "wrong.toml"
    path.write_text(CONFIG.replace(*change))
    assert cli.main(["mobility", "estimate", str(path), "--out", str(tmp_path / "out")]) == 1
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and told in error
