"""Forms of the user: records in JSON and YAML, Python files, entry points; hostile records."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from interactions import crystal, rendered_energy
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms import Form, Model, form, form_of, forms, model, registry

RECORD = {
    "name": "born",
    "title": "Born, Mayer and Huggins",
    "parameters": [
        {"name": "A", "default": 1.0, "lower": 0.1, "upper": 9, "unit": "eV", "slot": "pair"},
        {"name": "rho", "default": 0.3, "lower": 0.1, "upper": 1, "unit": "A", "slot": "pair"},
        {"name": "size", "default": 1.5, "lower": 0.5, "upper": 3, "slot": "element"},
        {"name": "cutoff", "default": 8.0, "lower": 4, "upper": 12, "unit": "A"},
    ],
    "pair_style": "born {{ form.cutoff }}",
    "pair_coeff": [
        "{% for p in pairs %}\n"
        "pair_coeff {{ p.i }} {{ p.j }} {{ p.A }} {{ p.rho }} "
        "{{ elements[p.i - 1].size + elements[p.j - 1].size }} 0.0 0.0\n"
        "{% endfor %}"
    ],
    "cutoff": "cutoff",
}
PYTHON = """
from mlcore.forcefield.forms import form

FORMS = [form("sw").model_copy(update={"name": "sw/mine"})]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLCORE_FORMS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_record_in_the_folder_is_a_form(suffix: str, folder: Path, tmp_path: Path) -> None:
    write = json.dumps if suffix == "json" else yaml.safe_dump
    (folder / f"mine.{suffix}").write_text(write(RECORD))
    assert "born" in forms()
    potential = model("born", ["Na", "Cl"])
    assert "size_Cl" in potential.names
    interaction = potential.render(potential.defaults | {"size_Na": 1.25})
    assert interaction.pair_coeff[1] == "pair_coeff 1 2 1.0 0.3 2.75 0.0 0.0"
    assert rendered_energy(crystal(["Na", "Cl"]), potential, interaction, tmp_path)[0] > 0


def test_a_changed_file_is_read_again(folder: Path) -> None:
    file = folder / "mine.json"
    file.write_text(json.dumps(RECORD))
    assert form("born").title == RECORD["title"]
    file.write_text(json.dumps(RECORD | {"title": "Another title"}))
    assert form("born").title == "Another title"
    file.unlink()
    assert "born" not in forms()


def test_a_record_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(RECORD))
    assert model(str(tmp_path / "one.json"), ["Ar"]).form.name == "born"
    (tmp_path / "two.yaml").write_text(yaml.safe_dump([RECORD, RECORD | {"name": "b2"}]))
    assert form(f"{tmp_path}/two.yaml:b2").name == "b2"
    with pytest.raises(InvalidArgument, match="holds born, b2"):
        form(str(tmp_path / "two.yaml"))
    with pytest.raises(FileFormatError, match="cannot be read"):
        form(str(tmp_path / "three.yaml"))


def test_python_is_run_only_when_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "code.py").write_text("raise SystemExit('was run')")
    assert "sw" in forms()
    file = folder / "mine.py"
    file.write_text(PYTHON)
    assert "sw/mine" not in forms()
    assert model(str(file), ["Si"]).form.name == "sw/mine"
    monkeypatch.setenv("MLCORE_FORMS", str(file))
    assert "sw/mine" in forms()
    assert model("sw/mine", ["Si"]).names == model("sw", ["Si"]).names


def test_a_new_process_sees_the_form_too(folder: Path) -> None:
    (folder / "mine.json").write_text(json.dumps(RECORD))
    code = "from mlcore.forcefield.forms import forms; print('born' in forms())"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert told.stdout.strip() == "True"


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", "[1]", "must be a record"),
        ("a.json", json.dumps(RECORD | {"cutoff": "cut"}), "no parameter cut"),
        ("a.json", json.dumps(RECORD | {"surprise": 1}), "surprise"),
        ("a.json", json.dumps(RECORD | {"name": "sw"}), "is there already"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "cannot be read"),
        ("a.yaml", "a: &a [*a]", "form"),
        ("a.py", "FORMS = 3", "must set FORMS"),
        ("a.py", "1/0", "ZeroDivisionError"),
    ],
)
def test_broken_files_are_named(
    name: str, text: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("MLCORE_FORMS", str(tmp_path / name))
    with pytest.raises((FileFormatError, InvalidArgument), match=word) as caught:
        forms()
    assert name in str(caught.value)


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCORE_FORMS", "/nowhere/at/all")
    with pytest.raises(InvalidArgument, match="does not exist"):
        forms()


class Entry:
    def __init__(self, name: str, told: object) -> None:
        self.name, self.value, self.told = name, f"package:{name}", told

    def load(self) -> object:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    born = form_of(RECORD)
    second = born.model_copy(update={"name": "second"})
    third = born.model_copy(update={"name": "third"})
    told = [Entry("one", born), Entry("two", [second]), Entry("three", lambda: third)]
    told += [Entry("broken", ImportError("no such module")), Entry("odd", 3)]

    def entry_points(group: str) -> list[Entry]:
        assert group == "mlcore.forms"
        return told

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry._of_packages.cache_clear()
    try:
        with pytest.warns(UserWarning, match="left out") as caught:
            assert {"born", "second", "third", "sw"} <= forms().keys()
        assert {"broken", "odd"} <= {str(w.message).split()[2] for w in caught}
    finally:
        registry._of_packages.cache_clear()


HOSTILE = [
    {"commands": ["shell rm -rf /tmp/x"]},
    {"commands": ["include other.lammps"]},
    {"commands": ["fix 1 all ave/time 1 1 1 c_1 file out"]},
    {"commands": ["set type 1 charge $(1+1)"]},
    {"commands": ['print "x" file y']},
    {"pair_style": "python 8.0"},
    {"pair_style": "mliap model mliappy x.pt"},
    {"pair_style": "hybrid/overlay mliap unified x.pkl"},
    {"pair_style": "lj/cut 8 ; shell ls"},
    {"pair_coeff": ["pair_coeff * * /etc/passwd"]},
    {"pair_coeff": ["pair_coeff * * ../x"]},
    {"pair_coeff": ["pair_coeff * * a/../../x"]},
    {"pair_coeff": ["shell ls"]},
    {"pair_coeff": ["pair_coeff * * ${HOME}"]},
    {"files": {"../x": "a"}},
    {"files": {"/etc/x": "a"}},
    {"files": {"a": "{{ ''.__class__.__mro__ }}"}},
    {"files": {"a": "{{ species.append(1) }}"}},
    {"files": {"a": "{{ 'a' * 10000000000 }}"}},
    {"files": {"a": "{{ [1] * 10000000000 }}"}},
    {"files": {"a": "{{ 10.0 ** 10000000 }}"}},
    {"files": {"a": "{{ '%999999999d' % 1 }}"}},
    {"files": {"a": "{{ 'a'.ljust(1000000000) }}"}},
    {"files": {"a": "{{ 'a'|center(1000000000) }}"}},
    {"files": {"a": "{% for i in range(1000000000) %}x{% endfor %}"}},
    {"files": {"a": "{% include '/etc/passwd' %}"}},
    {"files": {"a": "{% import 'os' as os %}{{ os }}"}},
    {"files": {"a": "{{ cycler.__init__.__globals__ }}"}},
    {"files": {"a": "{{ form.items() }}"}},
    {"files": {"a": "{{ nothing }}"}},
    {"files": {"a": "{{ form.nothing }}"}},
    {"files": {"a": "{% broken"}},
    {"cutoff": "open('x')"},
]


@pytest.mark.parametrize("change", HOSTILE, ids=[str(h)[:60] for h in HOSTILE])
def test_records_can_do_nothing_else(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        made = form_of(RECORD | change)
        potential = Model(made, ["Ar"])
        potential.render(potential.defaults)


def test_parameters_may_be_called_what_dictionaries_have() -> None:
    parameters = [
        {"name": name, "default": 1, "lower": 0, "upper": 2, "slot": "form"}
        for name in ("items", "keys", "get", "copy")
    ]
    text = "{% if true %}{{ form.items }} {{ form.get + form.copy }}{% endif %}"
    made = form_of(
        RECORD
        | {"parameters": parameters, "files": {"a": text}, "cutoff": "2", "pair_coeff": []}
        | {"pair_style": "zero 2"}
    )
    potential = Model(made, ["Ar"])
    assert potential.render(potential.defaults).files["a"] == "1.0 2.0"


def test_numbers_keep_their_digits() -> None:
    made = form_of(RECORD)
    assert isinstance(made, Form)
    potential = Model(made, ["Ar"])
    third = potential.render(potential.defaults | {"A": 1 / 3}).pair_coeff[0]
    assert float(third.split()[3]) == 1 / 3
