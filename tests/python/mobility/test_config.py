"""Configuration of a run: every mistake is named with file and field."""

from pathlib import Path

import mlcore
import pytest
from mlcore.mobility.config import load_config

SMALLEST = """
[system]
kBT = 1.0
[data.active]
files = "a*.dump"
lag = 1.0
[estimate]
edges = [1.0, 2.0]
[train]
cutoff = 5.0
"""

SIMULATION = """
[[simulate]]
name = "small"
particles = 4
box = 20.0
time_step = 0.1
duration = 100.0
frame = 1.0
compare = "data"
window = [1.0, 5.0]
lags = [1.0]
"""


def write(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_the_smallest_configuration_has_sensible_defaults(tmp_path):
    config = load_config(write(tmp_path, SMALLEST))
    assert config.train.run == ("neural", "regression")
    assert config.folder == tmp_path
    assert config.simulate == [] and config.cost is None and config.theory is None


def test_the_demo_is_valid():
    demo = Path(__file__).parents[3] / "examples" / "colloids" / "demo.toml"
    config = load_config(demo)
    assert [run.name for run in config.simulate] == ["N12", "N200"]
    assert config.simulate[1].box == pytest.approx(24 * (200 / 12) ** (1 / 3), rel=1e-3)
    assert (demo.parent / config.cost.script).is_file()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kBT = 1.0", "kBT = -1.0", r"system\.kBT: .*greater than 0, got -1"),
        ("kBT = 1.0", "kBT = nan", r"system\.kBT"),
        ("kBT = 1.0", "", r"system\.kBT: Field required"),
        ("lag = 1.0", 'lag = "long"', r"data\.active\.lag: .*number.*got 'long'"),
        ("lag = 1.0", "lag = 1.0\nlagg = 2", r"data\.active\.lagg: no such field"),
        ("edges = [1.0, 2.0]", "edges = [2.0, 1.0]", r"estimate\.edges: must ascend"),
        ("cutoff = 5.0", 'cutoff = 5.0\nmodels = ["nn"]', r"train\.models\.0: .*'neural'.*'nn'"),
        ("cutoff = 5.0", 'cutoff = 5.0\nrun = ["kernel-ridge", "regression"]', r"train: run = "),
        ("cutoff = 5.0", 'cutoff = 5.0\ndata = "passive"', r"needs a section data\.passive"),
        (
            "cutoff = 5.0",
            'cutoff = 5.0\nlosses = ["regression", "likelihood"]',
            "background.radius",
        ),
        ("[data.active]", "[data.other]", r"data\.other: no such field"),
        ("[system]", "[system", "not a TOML file"),
    ],
)
def test_mistakes_name_file_and_field(tmp_path, old, new, told):
    path = write(tmp_path, SMALLEST.replace(old, new))
    with pytest.raises(mlcore.FileFormatError, match=told) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("duration = 100.0", "duration = 100.03", "duration must be a multiple of time_step"),
        ("lags = [1.0]", "lags = [1.5]", "multiples of frame, 1.5"),
        ("lags = [1.0]", "lags = [80.0]", "half of duration"),
        ("window = [1.0, 5.0]", "window = [5.0, 1.0]", "two ascending lags"),
        ('name = "small"', 'name = "../x"', r"simulate\.0\.name"),
        ('compare = "data"', 'compare = "data"', r"add data\.passive"),
        ('compare = "data"', 'compare = "theory"', "add a section theory"),
    ],
)
def test_mistakes_in_simulations(tmp_path, old, new, told):
    path = write(tmp_path, SMALLEST + SIMULATION.replace(old, new))
    with pytest.raises(mlcore.FileFormatError, match=told):
        load_config(path)


def test_absent_file_and_absent_data(tmp_path):
    with pytest.raises(mlcore.FileFormatError, match=r"absent\.toml: No such file"):
        load_config(tmp_path / "absent.toml")
    config = load_config(write(tmp_path, SMALLEST))
    with pytest.raises(mlcore.FileFormatError, match=r"no file matches .*a\*\.dump"):
        config.data.active.paths(config.folder)


def test_data_from_another_folder(tmp_path):
    """Only the trajectories move: the names stay, and so does what else is beside the TOML file."""
    other = tmp_path / "other [1]"
    other.mkdir()
    (other / "a1.dump").touch()
    path = write(tmp_path, SMALLEST.replace("a*.dump", "data/a*.dump"))
    config = load_config(path).with_data(other)
    assert config.data.active.paths(config.folder) == [other / "a1.dump"]
    assert config.folder == tmp_path and config.source == str(path)
    assert config.data.passive is None
    with pytest.raises(mlcore.FileFormatError, match="no file matches"):
        missing = load_config(path).with_data(tmp_path / "none")
        missing.data.active.paths(missing.folder)
