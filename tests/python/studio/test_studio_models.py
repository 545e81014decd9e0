"""Functional forms: records, curves held against the core, and suggestions that can be run."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write
from mlcore.errors import InvalidArgument
from mlcore.forcefield.config.begin import silicon_data
from mlcore.forcefield.evaluate.lammps import LammpsEngine
from mlcore.forcefield.forms import forms, model
from mlcore.forcefield.structures import Dataset, labelled, labels
from mlcore.neighbors import neighbor_list
from mlcore.parallel import EngineSettings
from mlcore.studio import frames
from mlcore.studio.curves import curves
from mlcore.studio.kinds import Place, kind_of
from mlcore.studio.kinds.outline import Outline, outline
from mlcore.studio.kinds.suggested import suggested


def test_every_form_is_listed_with_what_it_is_for(browser: httpx.Client) -> None:
    told = browser.get("/api/forms").json()
    assert {one["name"] for one in told} == set(forms())
    assert all(one["use"] and one["title"] for one in told)


def test_a_form_tells_the_parameters_of_its_species(browser: httpx.Client) -> None:
    told = browser.get("/api/forms/tersoff", params={"species": ["Si", "C"]}).json()
    made = model("tersoff", ["Si", "C"])
    assert [one["name"] for one in told["table"]] == list(made.names)
    assert {one["name"]: one["default"] for one in told["table"]} == made.defaults
    assert "SiC 1989" in [one["name"] for one in told["sets"]]
    bead = browser.get("/api/forms/mw", params={"species": ["bead:W"]}).json()
    assert bead["made_for"] == ["bead:W"]


@pytest.mark.parametrize(
    ("name", "query", "status"),
    [
        ("nothing", {"species": ["Si"]}, 404),
        ("/etc/passwd", {"species": ["Si"]}, 404),
        ("tersoff", {"species": ["Xx"]}, 400),
        ("tersoff", {}, 422),
        ("tersoff", {"species": ["Si"], "known": "no such"}, 400),
        ("eam/table", {"species": ["Cu"], "options": '{"source": "/etc/passwd"}'}, 400),
        ("hybrid/overlay", {"species": ["Cu"], "options": '{"parts": {"a": "x.py", "b": "zbl"}}'}, 400),
        ("lj/cut", {"species": ["Ar"], "options": "["}, 400),
        ("snap", {"species": ["Ta"], "options": '{"twojmax": 20, "chem": true}'}, 400),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(
    browser: httpx.Client, name: str, query: dict[str, Any], status: int
) -> None:
    assert browser.get(f"/api/forms/{name}", params=query).status_code == status


def test_curves_are_those_of_lennard_jones() -> None:
    made = model("lj/cut", ["Ar"])
    values = made.defaults
    (pair,) = curves(made, values).pairs
    reference = LennardJones(
        epsilon=values["epsilon"], sigma=values["sigma"], rc=values["cutoff"] * 1.001
    )
    for r, energy in list(zip(pair.x, pair.energy, strict=True))[20:100:10]:
        atoms = Atoms("Ar2", [[0, 0, 0], [r, 0, 0]])
        atoms.calc = reference
        # ASE shifts the energy to zero at the cutoff, LAMMPS does not
        here = 4 * values["epsilon"] * ((values["sigma"] / r) ** 12 - (values["sigma"] / r) ** 6)
        assert energy == pytest.approx(here, rel=1e-9)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-3)


def test_curves_of_the_core_and_of_lammps_agree() -> None:
    made = model("tersoff", ["Si", "C"])
    values = made.defaults
    found = curves(made, values)
    engine = LammpsEngine(made, 12.0)
    try:
        engine.use(values)
        for one in found.pairs:
            r = one.x[45]
            energy = engine.at_rest(Atoms(one.name.split("-"), [[0, 0, 0], [r, 0, 0]])).energy[0]
            assert one.energy[45] == pytest.approx(energy, rel=1e-9), one.name
    finally:
        engine.close()
    assert [one.name for one in found.pairs] == ["Si-Si", "Si-C", "C-C"]
    bonds = {one.name: one.x[int(np.argmin(np.array(one.energy, float)))] for one in found.pairs}
    assert bonds["C-C"] < bonds["Si-C"] < bonds["Si-Si"]
    angle = next(one for one in found.angles if one.name == "Si-Si-Si")
    best = angle.x[int(np.argmin(np.array(angle.energy, float)))]
    # cos0 of silicon is -0.59825
    assert best == pytest.approx(math.degrees(math.acos(-0.59825)), abs=5)


def test_a_form_the_core_does_not_know_is_asked_of_lammps_elsewhere() -> None:
    made = model("edip", ["Si"])
    found = curves(made, made.defaults)
    assert not found.words
    assert min(one for one in found.pairs[0].energy if one is not None) < -1


def test_curves_follow_values_and_ties(browser: httpx.Client) -> None:
    def deepest(**asked: Any) -> float:
        answer = browser.post("/api/forms/morse/curve", json={"species": ["Cu"], **asked})
        assert answer.status_code == 200, answer.text
        return min(answer.json()["pairs"][0]["energy"])

    assert deepest(values={"D0": 0.5}) == pytest.approx(-0.5, rel=1e-2)
    assert deepest(values={"well": 0.25}, ties={"D0": "2*well"}) == pytest.approx(-0.5, rel=1e-2)
    assert browser.post("/api/forms/morse/curve", json={"species": ["Cu"]}).json()["angles"] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"values": {"nothing": 1.0}},
        {"ties": {"D0": "nothing"}},
        {"ties": {"nothing": "D0"}},
        {"ties": {"D0": "alpha", "alpha": "D0"}},
        {"ties": {"D0": "1/0"}},
        {"ties": {"D0": "__import__('os')"}},
    ],
)
def test_values_and_ties_that_cannot_be_are_told(
    browser: httpx.Client, asked: dict[str, Any]
) -> None:
    answer = browser.post("/api/forms/morse/curve", json={"species": ["Cu"], **asked})
    assert answer.status_code == 400, answer.text


def test_a_cutoff_beyond_all_bounds_has_words_instead_of_curves(browser: httpx.Client) -> None:
    asked = {"species": ["Cu"], "values": {"cutoff": 1e6}}
    told = browser.post("/api/forms/morse/curve", json=asked).json()
    assert told["pairs"] == []
    assert "cutoff" in told["words"]


def test_pages_of_models(browser: httpx.Client) -> None:
    assert "Tersoff bond order" in browser.get("/models").text
    page = browser.get("/models/eam/gupta").text
    assert 'data-form="eam/gupta"' in page
    assert browser.get("/models/nothing").status_code == 404


# -- suggestions -----------------------------------------------------------------------------------
def crystals(name: str, kind: str, a: float, energy: float) -> Dataset:
    rng = np.random.default_rng(0)
    found = []
    for k in range(12):
        atoms = bulk(name, kind, a * (0.96 + 0.01 * k), cubic=True)
        atoms.rattle(0.03, seed=k)
        forces = rng.normal(0, 0.3, (len(atoms), 3))
        found.append(labelled(atoms, len(atoms) * (energy + 0.02 * (k - 4) ** 2), forces))
    return Dataset({"crystals": found})


def kept(data: Dataset, folder: Path) -> Outline:
    """What is kept of a data set when it is uploaded."""
    folder.mkdir()
    data.save(folder / "data")
    frames.write(folder / frames.FOLDER, data, {})
    found = outline(folder / "data")
    assert found is not None
    return found


DATA = {
    "Si": ("tersoff", lambda: silicon_data()),
    "Cu": ("eam/gupta", lambda: crystals("Cu", "fcc", 3.61, -3.54)),
    "Ar": ("lj/cut", lambda: crystals("Ar", "fcc", 5.26, -0.08)),
    "SiC": ("tersoff", lambda: crystals("SiC", "zincblende", 4.36, -6.3)),
    "MgO": ("buck/coul/long", lambda: crystals("MgO", "rocksalt", 4.21, -5.0)),
    "CH": ("morse", lambda: crystals("CH", "rocksalt", 3.2, -3.0)),
}


@pytest.mark.parametrize("name", DATA)
def test_what_is_suggested_can_be_run(name: str, tmp_path: Path) -> None:
    form, made = DATA[name]
    found = suggested(kept(made(), tmp_path / "up"), "upload:up/data")
    assert found.config["model"]["form"] == form
    assert all(sum(one.values()) > 0 for one in found.config["data"]["groups"].values())
    place = Place({"up": tmp_path / "up"}, EngineSettings(name="serial"))
    assert kind_of("forcefield").problems(found.config, place) == []


def test_distances_and_depths_come_from_the_data(tmp_path: Path) -> None:
    data = kept(crystals("Ar", "fcc", 5.26, -0.08), tmp_path / "up")
    free = suggested(data, "upload:x/data").config["parameters"]["free"]
    # 5.26/sqrt(2) is 3.72 A; Rahman's sigma is 3.4 A, his well 0.0104 eV
    assert free["sigma"]["lower"] < 3.4 < free["sigma"]["upper"]
    assert free["epsilon"]["initial"] == pytest.approx(0.0104, rel=0.2)


def test_energies_that_are_not_cohesive_are_left_out_and_told(tmp_path: Path) -> None:
    data = kept(crystals("Si", "diamond", 5.43, -210.0), tmp_path / "up")
    found = suggested(data, "upload:x/data")
    assert found.config["data"]["groups"]["crystals"]["energy"] == 0
    assert any("-210" in one for one in found.notes)


def test_data_without_labels_are_told(tmp_path: Path) -> None:
    found = suggested(kept(Dataset({"a": [bulk("Si")]}), tmp_path / "up"), "upload:x/data")
    assert any("targets" in one for one in found.notes)
    with pytest.raises(InvalidArgument, match="label"):
        from mlcore.forcefield.config.data import Data

        Data.model_validate({"folder": "x"}).targets(Dataset({"a": [bulk("Si")]}))


def mixed() -> Dataset:
    """Structures of several kinds, sizes and labels."""
    made = [
        bulk("Si", cubic=True),
        bulk("SiC", "zincblende", 4.36),
        Atoms("C2", [[0, 0, 0], [0, 0, 1.3]]),
    ]
    for k, atoms in enumerate(made):
        atoms.rattle(0.05, seed=k)
    rows = [np.full((len(atoms), 3), 0.2) for atoms in made]
    return Dataset({
        "a": [labelled(made[0], -37.0, rows[0], np.zeros(6)), made[1]],
        "b": [labelled(made[2], -9.0), labelled(made[1], None, rows[1])],
        "still": [labelled(made[0], -36.0, 0 * rows[0])],
    })  # fmt: skip


def test_an_outline_is_what_the_structures_are(tmp_path: Path) -> None:
    data = mixed()
    found = kept(data, tmp_path / "up")
    known = [labels(atoms) for atoms in data]
    assert len(found) == 5 and found.names == data.species
    assert list(found.groups) == list(data.groups)
    for bit, name in ((1, "energy"), (2, "forces"), (4, "stress")):
        assert [bool(x & bit) for x in found.labels] == [name in one.known() for one in known]
    assert found.periodic.tolist() == [bool(atoms.pbc.all()) for atoms in data]
    energies = [
        math.nan if one.energy is None else one.energy / len(a)
        for one, a in zip(known, data, strict=True)
    ]
    assert found.energies() == pytest.approx(energies, nan_ok=True)
    assert found.composition(1) == {"Si": 1, "C": 1} and found.composition(2) == {"C": 2}
    # forces that vanish say nothing
    assert [found.has(group, "forces") for group in ("a", "b", "still")] == [True, True, False]
    whole = [neighbor_list("d", atoms, 6.0).min() for atoms in data]
    assert found.distances(np.array([0]))["Si", "Si"] == pytest.approx(whole[0])
    first = found.distances(np.array([2, 1, 0]))
    assert first["C", "C"] == pytest.approx(whole[2])
    assert first["C", "Si"] == pytest.approx(whole[1]) and first["Si", "Si"] < 3.2


def test_suggestions_read_no_structures(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.StringIO()
    write(text, list(silicon_data()), format="extxyz")
    files = {"files": ("silicon.extxyz", text.getvalue().encode())}
    upload = browser.post("/api/uploads", files=files).json()["id"]

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a data set was read")

    monkeypatch.setattr(Dataset, "load", refuse)
    told = browser.post("/api/suggestions", json={"upload": upload})
    assert told.status_code == 200, told.text
    asked = {"config": told.json()["config"]}
    assert browser.post("/api/kinds/forcefield/check", json=asked).json() == []
