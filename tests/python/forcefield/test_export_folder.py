"""Exported folders run in stock LAMMPS as they are, and come back as they were."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from interactions import POTENTIALS, rendered_energy
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.export import Card, export, load, validity
from mlcore.forcefield.forms import Model, model

LMP = Path(sys.executable).parent / "lmp"

CARD = {
    "name": "Si-test",
    "title": "Silicon for tests",
    "license": "CC0-1.0",
    "citation": ["Nobody, Journal of Tests 1, 1 (2026)"],
    "provenance": {"authors": ["N. Body"], "method": "by hand", "data": ["sha256 of nothing"]},
    "errors": {"energies": {"rmse": 0.01, "unit": "eV/atom"}},
    "validity": {
        "distances": {"Si-Si": 2.1},
        "densities": [2.0, 2.6],
        "temperatures": [0, 300],
    },
}


def run(folder: Path, script: str = "in.lammps") -> str:
    told = subprocess.run(
        [LMP, "-in", script, "-log", "none"], cwd=folder, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout[-2000:]
    return told.stdout


def energy_of(output: str) -> float:
    row = re.search(r"^\s+Step .*\n\s*(.*)$", output, re.MULTILINE)
    assert row is not None, output[-2000:]
    names = re.search(r"^\s+(Step .*)$", output, re.MULTILINE)
    assert names is not None
    return float(row[1].split()[names[1].split().index("E_pair")])


def silicon(n: int = 2) -> Atoms:
    atoms = bulk("Si", cubic=True).repeat((n, 1, 1))
    atoms.rattle(0.08, seed=1)
    return atoms


CASES = [
    ("sw", ["Si"], {}),
    ("tersoff", ["Si", "C"], {}),
    ("ml-bop", ["bead:W"], {"masses": {"W": 18.0153}}),
    ("buck/coul/long", ["Si", "O"], {}),
    ("eam/gupta", ["Cu"], {}),
    ("mliap/nn", ["Ta"], {"options": {"twojmax": 2}}),
    ("reaxff", ["C", "H", "O"], {}),
    ("meam", ["Si", "C"], {"options": {"parameters": str(POTENTIALS / "SiC.meam")}}),
    ("hybrid/overlay", ["Si"], {"options": {"parts": {"a": "sw", "b": "zbl"}}}),
]


@pytest.mark.parametrize(("name", "species", "more"), CASES, ids=[c[0] for c in CASES])
def test_a_fresh_lammps_gives_the_same_energy(
    name: str, species: list[str], more: dict[str, object], tmp_path: Path
) -> None:
    potential = model(name, species, **more)  # type: ignore[arg-type]
    lattice = bulk("Ar", "fcc", a=4.6, cubic=True).repeat((2, 1, 1))
    lattice.rattle(0.05, seed=2)
    names = [s.name for s in potential.species]
    kinds = np.arange(len(lattice)) % len(names)
    lattice.set_array("species", np.array(names)[kinds])
    lattice.set_array("kind", kinds + 1)
    lattice.wrap()
    folder = tmp_path / "folder"
    export(potential, potential.defaults, folder, structure=lattice)
    again, values, card = load(folder)
    assert values == potential.defaults
    expected, _ = rendered_energy(lattice, again, again.render(values), tmp_path)
    assert energy_of(run(folder)) == pytest.approx(expected, rel=1e-12)
    assert card.units == potential.form.units


def test_in_an_input_of_ones_own(tmp_path: Path) -> None:
    potential = model("sw", ["Si"])
    folder = tmp_path / "far" / "away"
    folder.parent.mkdir()
    export(potential, potential.defaults, folder)
    (tmp_path / "own.lammps").write_text(
        "units metal\nlattice diamond 5.431\nregion box block 0 2 0 2 0 2\n"
        "create_box 1 box\ncreate_atoms 1 box\n"
        "variable folder index far/away\ninclude ${folder}/in.lammps\nrun 0\n"
    )
    output = run(tmp_path, "own.lammps")
    assert output.count("Loop time") == 1
    assert energy_of(output) / 64 == pytest.approx(-4.3366, abs=1e-4)


def test_the_card(tmp_path: Path) -> None:
    potential = model("sw", ["Si"])
    bounds = {"sigma": {"lower": 1.5, "upper": 2.5, "unit": "A", "free": True}}
    values = potential.defaults | {"sigma": 2.1, "an_auxiliary": 3.0}
    made = export(potential, values, tmp_path / "p", card=CARD | {"bounds": bounds})
    told = json.loads((tmp_path / "p/card.json").read_text())
    assert Card.model_validate(told) == made
    assert made.values["sigma"] == 2.1
    assert "an_auxiliary" not in made.values
    assert made.bounds["sigma"].free
    assert made.bounds["epsilon"].unit == "eV"
    assert not made.missing()
    assert {"mlcore", "lammps", "python"} <= made.versions.keys()
    assert {"model.sw", "in.lammps", "structure.data"} == made.files.keys()
    first = (tmp_path / "p/model.sw").read_text().splitlines()[0]
    assert re.match(r"# DATE: \d{4}-\d\d-\d\d UNITS: metal CITATION: ", first)
    assert Card.model_json_schema()["properties"]["values"]


def test_a_form_of_ones_own_travels_with_the_card(tmp_path: Path) -> None:
    made = model("sw", ["Si"]).form.model_copy(update={"name": "mine"})
    export(Model(made, ["Si"]), {}, tmp_path / "p")
    assert load(tmp_path / "p")[0].form == made


@pytest.mark.parametrize(
    ("card", "word"),
    [
        ({"name": "../up"}, "name"),
        ({"name": ""}, "name"),
        ({"tittle": "x"}, "tittle"),
        ({"errors": {"a": {"rmse": float("nan")}}}, "errors.a.rmse"),
        ({"validity": {"densities": [1.0]}}, "validity.densities"),
        ({"bounds": {"nothing": {"lower": 0, "upper": 1}}}, "no parameter nothing"),
        ({"provenance": {"author": "x"}}, "provenance.author"),
    ],
)
def test_wrong_cards(card: dict[str, object], word: str, tmp_path: Path) -> None:
    potential = model("sw", ["Si"])
    with pytest.raises(InvalidArgument, match=word):
        export(potential, potential.defaults, tmp_path / "p", card=card)
    assert not list(tmp_path.iterdir())


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    potential = model("sw", ["Si"])
    export(potential, potential.defaults, tmp_path / "p", card={"title": "first"})
    with pytest.raises(InvalidArgument, match="finite"):
        export(potential, {"sigma": float("nan")}, tmp_path / "p")
    with pytest.raises(InvalidArgument, match="structure: has Ge"):
        export(potential, {}, tmp_path / "p", structure=bulk("Ge"))
    with pytest.raises(InvalidArgument, match="needs a cell"):
        export(potential, {}, tmp_path / "p", structure=Atoms("Si"))
    with pytest.raises(InvalidArgument, match="cutoff"):
        export(potential, {"sigma": -1.0}, tmp_path / "p")
    assert load(tmp_path / "p")[2].title == "first"
    with pytest.raises(Error, match="does not exist"):
        export(potential, {}, tmp_path / "none" / "p")
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_what_was_changed_is_found(tmp_path: Path) -> None:
    potential = model("tersoff", ["Si"])
    folder = tmp_path / "p"
    for name in ("model.tersoff", "in.lammps", "structure.data"):
        export(potential, {}, folder)
        with (folder / name).open("a") as file:
            file.write("\n")
        with pytest.raises(FileFormatError, match=f"{name}: was changed"):
            load(folder)
        (folder / name).unlink()
        with pytest.raises(FileFormatError, match=f"{name}: cannot be read"):
            load(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"values": {"A": 1.0}}, "values"),
        ({"format": "other"}, "format"),
        ({"version": 2}, "version"),
        ({"model": {}}, "is no model"),
        ({"files": {}}, "model.tersoff is missing"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_cards_that_do_not_fit(change: dict[str, object], word: str, tmp_path: Path) -> None:
    potential = model("tersoff", ["Si"])
    folder = tmp_path / "p"
    export(potential, {}, folder)
    told = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(told | change))
    with pytest.raises(FileFormatError, match=word):
        load(folder)


def test_values_that_are_not_those_of_the_file(tmp_path: Path) -> None:
    potential = model("tersoff", ["Si"])
    folder = tmp_path / "p"
    export(potential, {}, folder)
    told = json.loads((folder / "card.json").read_text())
    told["values"]["A"] = 1830.9
    (folder / "card.json").write_text(json.dumps(told))
    with pytest.raises(FileFormatError, match="is not what the card's values give"):
        load(folder)


def test_a_file_that_leads_away(tmp_path: Path) -> None:
    potential = model("tersoff", ["Si"])
    folder = tmp_path / "p"
    export(potential, {}, folder)
    told = json.loads((folder / "card.json").read_text())
    told["files"]["../../etc/passwd"] = told["files"]["in.lammps"]
    (folder / "card.json").write_text(json.dumps(told))
    with pytest.raises(FileFormatError, match="plain name"):
        load(folder)
    for broken in ("", "[]", "{", "nan"):
        (folder / "card.json").write_text(broken)
        with pytest.raises(FileFormatError, match=r"card\.json"):
            load(folder)


def test_what_the_data_covered() -> None:
    potential = model("tersoff", ["Si", "C"])
    close = bulk("Si", cubic=True)
    close.set_cell(0.95 * close.cell, scale_atoms=True)
    found = validity([bulk("Si", cubic=True), close], potential, temperatures=(0, 600), text="x")
    assert found.distances == {"Si-Si": pytest.approx(0.95 * 5.43 * 3**0.5 / 4, abs=1e-3)}
    assert found.densities == pytest.approx((2.33, 2.33 / 0.95**3), rel=1e-2)
    assert found.temperatures == (0, 600)
    mixed = bulk("SiC", "zincblende", a=4.36)
    assert validity([mixed], potential).distances["Si-C"] == pytest.approx(1.888, abs=1e-3)
    water = Atoms("O", cell=[3, 3, 3], pbc=True)
    water.set_array("species", np.array(["W"]))
    bead = model("ml-bop", ["bead:W"], {"W": 18.0153})
    assert validity([water], bead).densities == pytest.approx([1.108, 1.108], abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "shell touch harm\n",
        lambda text: "shell touch harm\n" + text,
        lambda text: text.replace("mass 1", "shell touch harm # mass 1"),
        lambda text: text.replace("run 0", "shell touch harm"),
        lambda text: "# a &" + text[text.index("\n") :],
        lambda text: "",
    ],
)
def test_an_input_that_does_more(change: Callable[[str], str], tmp_path: Path) -> None:
    """Even where card and hashes are made to fit."""
    folder = tmp_path / "p"
    export(model("tersoff", ["Si"]), {}, folder)
    told = json.loads((folder / "card.json").read_text())
    data = change((folder / "in.lammps").read_text()).encode()
    (folder / "in.lammps").write_bytes(data)
    told["files"]["in.lammps"] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    (folder / "card.json").write_text(json.dumps(told))
    with pytest.raises(FileFormatError, match="is not the input of this potential"):
        load(folder)
