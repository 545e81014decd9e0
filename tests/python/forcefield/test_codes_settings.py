"""Settings: precedence, origins, wrong ones told by name, secrets unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.settings import PREFIX, Settings, read_table

FILES = {
    "toml": 'workers = 3\nengine = "serial"\nvasp_command = ["mpirun", "vasp"]\n',
    "json": '{"workers": 3, "engine": "serial", "vasp_command": ["mpirun", "vasp"]}',
    "yaml": "workers: 3\nengine: serial\nvasp_command: [mpirun, vasp]\n",
    "yml": "workers: 3\nengine: serial\nvasp_command:\n- mpirun\n- vasp\n",
}


def written(folder: Path, suffix: str, text: str | None = None) -> Path:
    path = folder / f"forcefield.{suffix}"
    path.write_text(FILES[suffix] if text is None else text)
    return path


@pytest.mark.parametrize("suffix", FILES)
def test_precedence(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    variables = {
        "MLCORE_FORCEFIELD_WORKERS": "5",
        "MLCORE_FORCEFIELD_LAMMPS_COMMAND": "mpirun -n 2 'my lmp'",
        "MLCORE_FORCEFIELD_SCRATCH": "",
        "OTHER": "x",
    }
    found = Settings.load(path, variables, workers=7, library=None)
    assert found.workers == 7
    assert found.engine == "serial"
    assert found.vasp_command == ("mpirun", "vasp")
    assert found.lammps_command == ("mpirun", "-n", "2", "my lmp")
    assert found.evaluation_timeout is None
    assert {name: found.origin(name) for name in ("workers", "engine", "library", "scratch")} == {
        "workers": "argument",
        "engine": f"file {path}",
        "library": "default",
        "scratch": "default",
    }
    assert found.origin("lammps_command") == "environment MLCORE_FORCEFIELD_LAMMPS_COMMAND"
    assert Settings.load(path, variables).workers == 5
    assert Settings.load(path, {}).workers == 3
    assert Settings.load(environment={}).workers is None


def test_which_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "mlcore").mkdir()
    written(tmp_path / "mlcore", "yaml")
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert Settings.load(environment=home).workers == 3
    other = written(tmp_path, "toml", "workers = 9\n")
    assert Settings.load(environment={**home, PREFIX + "SETTINGS": str(other)}).workers == 9
    last = written(tmp_path, "json", '{"workers": 11}')
    assert Settings.load(last, {**home, PREFIX + "SETTINGS": str(other)}).workers == 11
    (tmp_path / "home" / ".config" / "mlcore").mkdir(parents=True)
    written(tmp_path / "home" / ".config" / "mlcore", "toml")
    assert Settings.load(environment={"HOME": str(tmp_path / "home")}).workers == 3


def test_a_folder_one_happens_to_be_in_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".config" / "mlcore").mkdir(parents=True)
    written(tmp_path / ".config" / "mlcore", "yaml")
    monkeypatch.chdir(tmp_path)
    assert Settings.load(environment={}).workers is None
    assert Settings.load(environment={"XDG_CONFIG_HOME": ".config"}).workers is None


def test_lammps_is_started_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcore.forcefield.codes import LammpsCommand

    monkeypatch.setenv("MLCORE_FORCEFIELD_LAMMPS_COMMAND", "mpirun -n 2 lmp")
    code = LammpsCommand("lj/cut 7.0", ("pair_coeff 1 1 0.0104 3.4",), ("Ar",))
    assert code.words[:4] == ["mpirun", "-n", "2", "lmp"]


def test_the_key_of_the_settings_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcore.forcefield.structures.materials_project import _key

    monkeypatch.setenv("MP_API_KEY", "outer")
    assert _key(None) == "outer"
    monkeypatch.setenv("MLCORE_FORCEFIELD_MP_API_KEY", "inner")
    assert (_key(None), _key("own")) == ("inner", "own")


def test_show_tells_values_and_origins() -> None:
    told = {"MLCORE_FORCEFIELD_MP_API_KEY": "hidden", "MLCORE_FORCEFIELD_VASP_COMMAND": "a 'b c'"}
    found = Settings.load(environment=told, workers=2)
    lines = {line.split()[0]: line for line in found.show().splitlines()}
    assert set(lines) == set(Settings.model_fields)
    assert lines["workers"].split() == ["workers", "2", "argument"]
    assert lines["engine"].split() == ["engine", "processes", "default"]
    assert "a 'b c'" in lines["vasp_command"]
    assert lines["library"].split()[1] == "-"
    record = json.loads(found.json_text())
    assert record["workers"] == {"value": 2, "origin": "argument"}
    assert record["mp_api_key"]["origin"] == "environment MLCORE_FORCEFIELD_MP_API_KEY"
    for text in (found.show(), found.json_text(), repr(found)):
        assert "hidden" not in text
    assert found.mp_api_key is not None
    assert found.mp_api_key.get_secret_value() == "hidden"


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({"MLCORE_FORCEFIELD_WORKRES": "2"}, {}, "MLCORE_FORCEFIELD_WORKRES: is no setting"),
        ({"MLCORE_FORCEFIELD_WORKERS": "two"}, {}, "MLCORE_FORCEFIELD_WORKERS: workers: "),
        ({"MLCORE_FORCEFIELD_WORKERS": "0"}, {}, "greater than or equal to 1"),
        ({"MLCORE_FORCEFIELD_CODE_TIMEOUT": "nan"}, {}, "code_timeout"),
        ({"MLCORE_FORCEFIELD_VASP_COMMAND": "'a"}, {}, "VASP_COMMAND: No closing quotation"),
        ({}, {"workres": 2}, "workres: is no setting; they are engine, workers"),
        ({}, {"workers": -1}, "workers: "),
        ({}, {"engine": "clouds"}, "engine: "),
        ({}, {"vasp_command": []}, "vasp_command: "),
    ],
)
def test_wrong_settings(variables: dict, arguments: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Settings.load(environment=variables, **arguments)


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        ("toml", "workers = ", "not a TOML file"),
        ("json", "{", "not valid JSON at line 1"),
        ("json", "[1]", "a table of names"),
        ("yaml", "workers: [", "not a YAML file"),
        ("yaml", "!!python/object/apply:os.system ['id']", "not a YAML file"),
        ("yaml", "1: 2", "a table of names"),
        ("toml", "wrokers = 2", "wrokers: no such field; they are engine"),
        ("toml", "workers = 'many'", "forcefield.toml: workers: "),
        ("ini", "[a]", "should end in .toml"),
        ("toml", "x = '" + "a" * (1 << 20) + "'", "larger than 1048576 bytes"),
    ],
)
def test_wrong_files(tmp_path: Path, suffix: str, text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        Settings.load(written(tmp_path, suffix, text), {})


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="No such file"):
        Settings.load(tmp_path / "none.toml", {})
    with pytest.raises(InvalidArgument, match="no setting"):
        Settings().origin("colour")
    assert Settings(workers=2).origin("workers") == "argument"


def test_tables_of_three_kinds_are_one(tmp_path: Path) -> None:
    tables = [read_table(written(tmp_path, suffix)) for suffix in FILES]
    assert all(table == tables[0] for table in tables)
