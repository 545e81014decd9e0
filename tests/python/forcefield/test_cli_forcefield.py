"""The command line of force-field fitting: every command answers in JSON and fails with a word."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from ase.build import bulk
from ase.io import write
from mlcore.cli import main
from mlcore.cli.forcefield import app, engines
from mlcore.forcefield.entry import ENTRIES

TINY = """
model: {form: tersoff, species: [Si]}
parameters: {free: {A: {within: 0.2}, B: {within: 0.2}}, start: {A: 2000.0}}
targets:
  - {type: cubic_crystal, name: crystal, structure: {crystal: diamond, a: 5.43},
     values: {a: 5.432, energy: -4.63, bulk: 97.7}}
  - {type: energies, name: volumes, energies: [-9.15, -9.2],
     structures: [{crystal: diamond, a: 5.3}, {crystal: diamond, a: 5.5, name: large}]}
run: {budget: 30, engine: here}
"""


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words, command


COMMANDS = dict(leaves(typer.main.get_command(app), ("forcefield",)))


def run(capsys: Any, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small fit that is done."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(TINY)
    assert main(["forcefield", "fit", str(folder / "tiny.yaml"), "--no-report", "--quiet"]) == 0
    return folder / "tiny"


def test_there_are_the_commands_that_were_promised() -> None:
    names = {" ".join(words[1:]) for words in COMMANDS}
    assert {"model list", "model show", "model read", "data import", "data check", "data pull",
            "data map", "data export", "fit", "resume", "validate", "uq", "export", "report",
            "init", "schema", "status", "cancel", "active", "library publish", "library search",
            "library download"} <= names  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(words: tuple[str, ...], capsys: Any) -> None:
    command = COMMANDS[words]
    options = {name for p in command.params for name in p.opts}
    assert "--json" in options
    assert command.help and len(command.help) > 20
    assert all(getattr(p, "help", None) for p in command.params)
    code, out, _ = run(capsys, *words, "--help")
    assert code == 0 and "--json" in out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_fails_with_a_word(
    words: tuple[str, ...], capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLCORE_FORCEFIELD_WORKERS", "none")
    (tmp_path / "data").mkdir()
    given: list[str] = []
    for p in COMMANDS[words].params:
        if p.required:
            named = p.param_type_name == "option"
            given += [p.opts[0], "/no/such/place"] if named else ["/no/such/thing"]
    if words[-2:] == ("model", "list"):
        monkeypatch.setenv("MLCORE_FORMS", "/no/such/folder")
    if words[-1] == "schema":
        given = ["--search", "no such"]
    if words[-1] == "init":
        given = [str(tmp_path)]
    code, out, error = run(capsys, *words, *given, "--json")
    assert code not in (0, None), (out, error)
    assert "error: " in error and "defect of mlcore" not in error, error


def test_forms_are_told_as_records(capsys: Any, tmp_path: Path) -> None:
    from mlcore.forcefield.forms import form_of, model

    code, out, _ = run(capsys, "forcefield", "model", "list", "--json")
    records = json.loads(out)
    assert code == 0 and "tersoff" in [form_of(record).name for record in records]
    code, out, _ = run(
        capsys,
        "forcefield",
        "model",
        "show",
        "sw",
        "--species",
        "bead:W",
        "--mass",
        "W=18",
        "--json",
    )
    assert code == 0 and {p["name"] for p in json.loads(out)["made out"]} >= {"epsilon", "sigma"}
    made = model("tersoff", ["Si"])
    ((name, text),) = made.render({**made.defaults, "A": 1234.5}).files.items()
    (tmp_path / name).write_text(text)
    words = ("forcefield", "model", "read", "tersoff", tmp_path / name, "--species", "Si")
    assert json.loads(run(capsys, *words, "--json")[1])["A"] == 1234.5
    assert "1234.5" in run(capsys, *words)[1]


def test_data_goes_in_and_out(capsys: Any, tmp_path: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for a in (5.3, 5.4, 5.5):
        atoms = bulk("Si", "diamond", a)
        atoms.calc = SinglePointCalculator(atoms, energy=-9.0 - a / 10, forces=np.zeros((2, 3)))
        frames.append(atoms)
    write(tmp_path / "si.xyz", frames, format="extxyz")
    data = tmp_path / "data"
    code, out, _ = run(
        capsys, "forcefield", "data", "import", tmp_path / "si.xyz", "--out", data, "--json"
    )
    assert code == 0 and json.loads(out)["structures"] == 3
    code, out, _ = run(capsys, "forcefield", "data", "import", tmp_path / "si.xyz", "--out", data,
                       "--group", "again")  # fmt: skip
    assert code == 0 and "6 structures" in out
    code, out, _ = run(capsys, "forcefield", "data", "check", data, "--json")
    assert {f["kind"] for f in json.loads(out)["findings"]} >= {"duplicate"}
    assert code == (1 if "error" in out else 0)
    code, out, _ = run(
        capsys,
        "forcefield",
        "data",
        "export",
        data,
        tmp_path / "out.xyz",
        "--group",
        "si",
        "--json",
    )
    assert code == 0 and json.loads(out)["structures"] == 3
    assert json.loads(run(capsys, "forcefield", "data", "show", data, "--json")[1])["species"] == [
        "Si"
    ]


def test_molecules_become_beads(capsys: Any, tmp_path: Path) -> None:
    from ase.build import molecule

    water = molecule("H2O")
    water.set_cell([8, 8, 8])
    water.pbc = True
    write(tmp_path / "w.xyz", water, format="extxyz")
    code, out, _ = run(capsys, "forcefield", "data", "map", tmp_path / "w.xyz", "--bead", "W=H2O",
                       "--out", tmp_path / "beads", "--json")  # fmt: skip
    assert code == 0 and json.loads(out)["species"] == ["W"]


def test_a_fit_streams_its_events(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    code, out, _ = run(capsys, "forcefield", "fit", tmp_path / "tiny.yaml", "--budget", 25, "--seed",
                       2, "--out", tmp_path / "fit", "--json", "--no-report")  # fmt: skip
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert events[0]["event"] == "started" and events[-1]["event"] == "result"
    assert events[-1]["verified"]["agrees"] and events[-1]["evaluations"] == 25


def test_a_fit_is_looked_at_resumed_and_exported(tiny: Path, capsys: Any, tmp_path: Path) -> None:
    told = json.loads(run(capsys, "forcefield", "status", tiny, "--json")[1])
    assert told["state"] == "done" and told["evaluations"] == 30
    assert "state done" in run(capsys, "forcefield", "status", tiny)[1]
    code, _, error = run(capsys, "forcefield", "cancel", tiny)
    assert code == 1 and "done already" in error
    code, _, error = run(capsys, "forcefield", "fit", tiny.with_suffix(".yaml"))
    assert code == 1 and "holds a fit" in error
    code, out, _ = run(capsys, "forcefield", "resume", tiny, "--no-report")
    assert code == 0 and "reproduced" in out
    code, out, _ = run(capsys, "forcefield", "export", tiny, tmp_path / "potential", "--json")
    files = json.loads(out)["files"]
    assert code == 0 and all((tmp_path / "potential" / name).is_file() for name in files)


def test_a_potential_is_published_and_brought_back(tiny: Path, capsys: Any, tmp_path: Path) -> None:
    potential, library = tmp_path / "potential", tmp_path / "library"
    told = ["--name", "si-tiny", "--title", "Silicon, tiny", "--license", "CC0-1.0", "--author",
            "A. Tester", "--citation", "none yet"]  # fmt: skip
    assert run(capsys, "forcefield", "export", tiny, potential, *told)[0] == 0
    words = ("--library", library, "--json")
    code, out, error = run(capsys, "forcefield", "library", "publish", potential, *words)
    assert code == 0, error
    code, out, _ = run(capsys, "forcefield", "library", "search", "--species", "Si", *words)
    assert [one["name"] for one in json.loads(out)] == ["si-tiny"]
    code, _, _ = run(
        capsys, "forcefield", "library", "download", "si-tiny", tmp_path / "mine", *words
    )
    mine = (tmp_path / "mine" / "model.tersoff").read_text()
    assert code == 0 and mine == (potential / "model.tersoff").read_text()


def test_labels_are_asked_for_where_the_fit_knows_least(capsys: Any, tmp_path: Path) -> None:
    from mlcore.forcefield.active import potential_label
    from mlcore.forcefield.forms import model
    from mlcore.forcefield.structures import Dataset

    made = model("tersoff", ["Si"])
    label = potential_label(made, made.defaults)
    known = [label(bulk("Si", "diamond", a)) for a in (5.3, 5.4, 5.5, 5.6)]
    Dataset({"start": known[:1]}).save(tmp_path / "start")
    Dataset({"pool": known[1:]}).save(tmp_path / "pool")
    (tmp_path / "a.yaml").write_text(
        "model: {form: tersoff, species: [Si]}\n"
        "parameters: {free: {A: {within: 0.2}, B: {within: 0.2}}}\ndata: {folder: start}\n"
    )
    words = ("forcefield", "active", tmp_path / "a.yaml", "--pool", tmp_path / "pool", "--rounds", 1,
             "--members", 2, "--pick", "dopt")  # fmt: skip
    code, out, error = run(capsys, *words, "--json")
    assert code == 0, error
    rounds = json.loads(out)["rounds"]
    assert [r["labelled"] for r in rounds] == [1, 3] and len(rounds[0]["picked"]) == 2
    assert run(capsys, *words)[0] == 0


def test_a_fit_is_judged(tiny: Path, capsys: Any) -> None:
    code, out, error = run(capsys, "forcefield", "validate", tiny, "--hold-out", "large", "--json")
    assert code == 0, error
    assert json.loads(out)["refits"][0]["held_out"] == ["volumes of large"]
    code, out, error = run(capsys, "forcefield", "uq", tiny, "--json")
    assert code == 0, error
    low, high = json.loads(out)["intervals"]["A"]
    assert low < json.loads((tiny / "result.json").read_text())["values"]["A"] < high
    code, _, error = run(capsys, "forcefield", "validate", tiny, "--groups", "--folds", 3)
    assert code == 1 and "one of --folds" in error


def test_the_environment_goes_before_the_config(tmp_path: Path, monkeypatch: Any) -> None:
    from mlcore.cli.forcefield.fits import _changed
    from mlcore.forcefield.config import load

    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config = load(tmp_path / "tiny.yaml")
    assert _changed(config, {}, None, None).run.engine == "here"
    (tmp_path / "mlcore").mkdir()
    (tmp_path / "mlcore" / "forcefield.toml").write_text('engine = "dask"\nworkers = 3\n')
    told = _changed(config, {}, None, None).run
    assert (told.engine, told.workers) == ("here", 3)
    monkeypatch.setenv("MLCORE_FORCEFIELD_ENGINE", "serial")
    assert _changed(config, {}, None, None).run.engine == "serial"
    told = _changed(config, {"budget": 7, "seed": None}, "processes", 2).run
    assert (told.engine, told.workers, told.budget, told.seed) == ("processes", 2, 7, 0)


def test_a_fit_is_judged_with_the_cutoffs_it_was_allowed(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(
        "model: {form: lj/cut, species: [Ar]}\n"
        "parameters: {free: [epsilon], start: {cutoff: 13.0}}\n"
        "targets:\n"
        "  - {type: energies, name: volumes, energies: [-0.08, -0.085, -0.08],\n"
        "     structures: [{crystal: fcc, a: 5.1}, {crystal: fcc, a: 5.3}, {crystal: fcc, a: 5.5}]}\n"
        "run: {budget: 10, engine: here, cutoff_cap: 14}\n"
    )
    code, _, error = run(capsys, "forcefield", "validate", tmp_path / "long.yaml", "--folds", 3)
    assert code == 0, error


def test_options_of_an_engine_stay_when_it_is_named_again(tmp_path: Path, monkeypatch: Any) -> None:
    from mlcore.cli.forcefield.fits import _changed
    from mlcore.forcefield.config import load

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = "engine: {name: parsl, options: {provider: {kind: slurm}}}"
    (tmp_path / "tiny.yaml").write_text(TINY.replace("engine: here", own))
    config = load(tmp_path / "tiny.yaml")
    asked = config.run.engine
    assert _changed(config, {}, "parsl", None).run.engine == asked
    assert _changed(config, {}, "serial", None).run.engine == "serial"
    monkeypatch.setenv("MLCORE_FORCEFIELD_ENGINE", "parsl")
    assert _changed(config, {}, None, 3).run.engine == asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model", "show", "tersoff", "--species", "Si", "--mass", "Si=heavy"), "--mass must be"),
        (("data", "map", "DATA", "--out", "x", "--bead", "W=H2O", "--reference", "W=low"),
         "--reference must be"),
        (("active", "CONFIG", "--pool", "DATA", "--label", "vasp", "--vasp", '{"encut": 1}'),
         "encut: no such option"),
        (("active", "CONFIG", "--pool", "DATA", "--label", "vasp", "--vasp", "[1]"), "no table"),
        (("active", "CONFIG", "--pool", "DATA", "--label", "vasp"), "no vasp_potcars"),
    ],
    ids=["mass", "reference", "option", "table", "potcars"],
)  # fmt: skip
def test_wrong_words_are_named(
    words: tuple[str, ...], message: str, capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from mlcore.forcefield.config.begin import silicon_data

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLCORE_FORCEFIELD_VASP_COMMAND", "vasp_std")
    silicon_data().only("diamond").save("DATA")
    Path("CONFIG").write_text(TINY + "data: {folder: DATA}\n")
    code, _, error = run(capsys, "forcefield", *words)
    assert code == 1 and message in error and "defect" not in error, error


def test_vasp_labels_by_the_settings_of_a_machine(tmp_path: Path, monkeypatch: Any) -> None:
    import fake_vasp
    from mlcore.cli.forcefield.active import _by_vasp
    from mlcore.forcefield.structures import labels

    program = tmp_path / "vasp_std"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(fake_vasp.__file__).parent)!r})\n"
        "from pathlib import Path\nfrom fake_vasp import main\nsys.exit(main(Path.cwd()))\n"
    )
    program.chmod(0o755)
    (tmp_path / "potcars" / "Ar").mkdir(parents=True)
    (tmp_path / "potcars" / "Ar" / "POTCAR").write_text("  PAW_PBE Ar\n   VRHFIN =Ar: s2p6\n")
    monkeypatch.setenv("MLCORE_FORCEFIELD_VASP_COMMAND", str(program))
    monkeypatch.setenv("MLCORE_FORCEFIELD_VASP_POTCARS", str(tmp_path / "potcars"))
    monkeypatch.setenv("MLCORE_FORCEFIELD_SCRATCH", str(tmp_path / "scratch"))
    label = _by_vasp('{"settings": {"ENCUT": 400}}', ("Ar",), tmp_path / "rounds")
    atoms = bulk("Ar", "fcc", a=5.3) * (2, 2, 2)
    assert labels(label(atoms)).known() == ("energy", "forces", "stress")
    assert len(list((tmp_path / "scratch" / "vasp").iterdir())) == 1


def test_files_that_join_a_group_are_told(capsys: Any, tmp_path: Path) -> None:
    from mlcore.forcefield.structures import Dataset

    for k, a in enumerate((5.4, 5.5)):
        (tmp_path / f"run{k}").mkdir()
        write(tmp_path / f"run{k}" / "si.extxyz", bulk("Si", "diamond", a))
    (tmp_path / "set").mkdir()
    for k in (0, 1):
        file = tmp_path / f"run{k}" / "si.extxyz"
        words = ("data", "import", file, "--out", tmp_path / "set", "--group", "si")
        code, _, error = run(capsys, "forcefield", *words)
        assert code == 0, error
    found = Dataset.load(tmp_path / "set").groups["si"]
    assert len(found.structures) == 2
    assert set(found.provenance.sha256) == {"si.extxyz", "si.extxyz (2)"}
    assert len(set(found.provenance.sha256.values())) == 2


def test_modules_are_entry_points(capsys: Any) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "mlcore.forcefield", "--json"], capture_output=True, check=True
    )
    assert json.loads(listed.stdout) == ENTRIES
    for name in list(ENTRIES)[1:]:
        done = subprocess.run(
            [sys.executable, "-m", name, "no such command"], capture_output=True, check=False
        )
        assert done.returncode == 2 and b"No such command" in done.stderr
    made = subprocess.run(
        [sys.executable, "-m", "mlcore.forcefield.parallel", "check", "serial", "--json"],
        capture_output=True,
        check=True,
    )
    assert json.loads(made.stdout) == {"engine": "serial", "workers": 1, "items": 100}
    assert {words[-1] for words, _ in leaves(typer.main.get_command(engines.app), ())} == {
        "list", "check"
    }  # fmt: skip


def test_the_function_stays_what_the_package_calls_model() -> None:
    import importlib

    import mlcore.forcefield as ff

    importlib.import_module("mlcore.forcefield.model")
    assert ff.model("tersoff", ["Si"]).names
