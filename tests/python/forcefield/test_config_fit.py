"""Configs: what they hold is built, what is wrong in them is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.config import load, parse, schema
from mlcore.forcefield.config.begin import begin
from mlcore.forcefield.config.files import read_tree
from mlcore.forcefield.config.structures import Sources, Structure
from mlcore.forcefield.config.targets import classes, sections
from mlcore.forcefield.structures import Dataset, labelled

CRYSTAL = {
    "type": "cubic_crystal",
    "structure": {"crystal": "diamond", "a": 5.43},
    "values": {"a": 5.43},
}
SMALL: dict[str, Any] = {
    "model": {"form": "tersoff", "species": ["Si"]},
    "parameters": {"free": ["A", "B"]},
    "targets": [CRYSTAL],
}


def changed(**sections: Any) -> dict[str, Any]:
    return {**SMALL, **sections}


def test_a_config_becomes_a_setup() -> None:
    setup = parse(SMALL).setup()
    assert setup.space.names == ("A", "B")
    assert setup.targets[0].name == "Si diamond"
    assert setup.search == "default" and setup.budget == 2000
    assert setup.engine is not None and setup.engine.name == "processes"


WRONG: list[tuple[dict[str, Any], str]] = [
    (changed(modle={}), "modle: no such field"),
    ({k: v for k, v in SMALL.items() if k != "parameters"}, "parameters: Field required"),
    (changed(targets=[]), "a fit needs data or targets"),
    (changed(targets=[{**CRYSTAL, "values": {"a": "big"}}]), "targets.0.cubic_crystal.values.a"),
    (changed(targets=[{**CRYSTAL, "type": "hardness"}]), "'cubic_crystal'"),
    (changed(targets=[{**CRYSTAL, "structure": {"crystal": "diamond"}}]), "lattice constant a"),
    (changed(targets=[{**CRYSTAL, "structure": {}}]), "one of crystal, file, data and use"),
    (changed(run={"budget": 0}), "run.budget: Input should be greater than or equal to 1"),
    (changed(run={"engine": "cloud"}), "run.engine"),
    (changed(search={"name": "annealing"}), "search.name: no search 'annealing'; there are"),
    (changed(search={"name": "cma", "options": {"sgima": 1}}), "search: options of cma: sgima"),
    (changed(search={"stages": [{"name": "cma"}, {"name": "x"}]}), "no search 'x'"),
    (changed(data={}), "data: name a folder or files"),
    (changed(parameters={"free": {"A": {"within": 0.1, "factor": 2}}}), "or within, or factor"),
    (changed(version=2), "version"),
]


@pytest.mark.parametrize(("tree", "words"), WRONG)
def test_what_is_wrong_is_named_with_its_place(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        parse(tree, what="fit.yaml")
    assert str(caught.value).startswith("fit.yaml: ") and words in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (changed(parameters={"free": {"A": {"factor": 0.5}, "B": {}}}),
         "fit.yaml: parameters.free.A.factor: Input should be greater than 1, got 0.5"),
        (changed(parameters={"free": ["A"], "start": {"A": "much"}}),
         "fit.yaml: parameters.start.A: Input should be a valid number, unable to parse string as a "
         "number, got 'much'"),
        (changed(run={"engine": {"name": "parsl", "workers": 0}}),
         "fit.yaml: run.engine.workers: Input should be greater than or equal to 1, got 0"),
    ],
)  # fmt: skip
def test_of_several_kinds_that_is_judged_which_was_meant(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        parse(tree, what="fit.yaml")
    assert str(caught.value) == words


LATE: list[tuple[dict[str, Any], str]] = [
    (changed(model={"form": "lego", "species": ["Si"]}), "lego"),
    (changed(parameters={"free": ["Q"]}), "parameters.free.Q: tersoff has no such parameter"),
    (changed(parameters={"free": {"A": {"lower": 9.0, "upper": 1.0}}}), "parameters.free.A"),
    (changed(parameters={"free": ["A"], "start": {"Z": 1.0}}), "parameters.start: tersoff has no Z"),
    (changed(parameters={"free": ["A"], "ties": {"B": "2*"}}), "parameters: "),
    (changed(objective={"kind": "diamond + 2"}), "objective"),
    (changed(objective={"pareto": ["price"]}), "objective: pareto: no target or group price"),
    (changed(targets=[{**CRYSTAL, "values": {"C99": 1.0}}]), "targets.0: "),
    (changed(targets=[{**CRYSTAL, "structure": {"use": "ice"}}]), "nothing is called 'ice'"),
    (changed(targets=[{**CRYSTAL, "structure": {"data": "x"}}]), "the config has no data"),
    (changed(targets=[{**CRYSTAL, "held_out": True}]), "all of them are held out"),
    (changed(data={"folder": "nowhere"}), "nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "words"), LATE)
def test_what_does_not_fit_together_is_named(tree: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidArgument, FileFormatError)) as caught:
        parse(tree).setup()
    assert words in str(caught.value)


def test_yaml_holds_what_it_looks_like(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: 1e-3\nb: no\nc: 007\nd: [on, 1_0, 0x1]\ne: .5\nf:\ng: true\nh: 12:30:00\n")
    assert read_tree(file) == {
        "a": 1e-3, "b": "no", "c": 7, "d": ["on", "1_0", "0x1"], "e": 0.5, "f": None, "g": True,
        "h": "12:30:00",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.yaml", "a: 1\nb: 2\na: 3\n", "a is there twice"),
        ("x.json", '{"a": 1, "a": 2}', "a is there twice"),
        ("x.yaml", "a: [1\n", "no YAML"),
        ("x.yaml", "a: !!python/object/apply:os.system [ls]\n", "no YAML"),
        ("x.json", "{", "no JSON"),
        ("x.yaml", "- 1\n", "must hold fields by name"),
    ],
)
def test_files_that_are_no_configs(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match=words):
        load(tmp_path / name)
    with pytest.raises(FileFormatError, match="holds no fit"):
        load(tmp_path)
    with pytest.raises(FileFormatError, match="No such file"):
        load(tmp_path / "absent.yaml")


def test_the_first_config_loads_and_is_seen_from_elsewhere(tmp_path: Path) -> None:
    config = load(begin(tmp_path / "si"))
    setup = config.setup(tmp_path / "fits" / "one")
    assert setup.space.size == 9 and [t.group for t in setup.held_out] == ["vacancy", "vacancy"]
    assert setup.config is not None and setup.config["data"]["folder"] == "../../si/data"
    (tmp_path / "fits" / "one").mkdir(parents=True)
    (tmp_path / "fits" / "one" / "config.json").write_text(json.dumps(setup.config))
    again = load(tmp_path / "fits" / "one")
    assert again.setup().terms == setup.terms
    assert again.model == config.model and again.search == config.search
    with pytest.raises(InvalidArgument, match="there already"):
        begin(tmp_path / "si")


def test_every_class_of_targets_can_be_named() -> None:
    known = classes()
    assert {"energies", "forces", "stress", "cubic_crystal"} <= set(known) == set(sections())
    text = json.dumps(schema())
    for name, section in sections().items():
        assert f'"{name}"' in text
        told = section.model_json_schema()["properties"]
        assert all("description" in told[k] for k in told if k not in ("type", "structure"))


def test_ranges_come_from_where_they_are_told() -> None:
    tree = changed(
        parameters={
            "start": {"A": 1000.0},
            "free": {"A": {"within": 0.1}, "B": {"factor": 3}, "c": {"initial": 9e4}, "chi":
                     {"lower": 0.0, "upper": 2.0, "initial": 1.0}},
            "fixed": {"R": 2.9},
            "ties": {"lam1": "chi*lam2"},
        }
    )  # fmt: skip
    space = parse(tree).setup().space
    assert (space.free["A"].lower, space.free["A"].upper) == pytest.approx((900.0, 1100.0))
    assert space.free["B"].scale == "log" and space.free["c"].initial == 9e4
    assert space.values(space.initial)["R"] == 2.9
    assert space.values(space.initial)["lam1"] == space.values(space.initial)["lam2"]


def test_start_may_be_a_potential_file(tmp_path: Path) -> None:
    from mlcore.forcefield.forms import model

    made = model("tersoff", ["Si"])
    told = made.render({**made.defaults, "A": 1777.0, "R": 2.8})
    (name,) = told.files
    (tmp_path / name).write_text(told.files[name])
    space = parse(changed(parameters={"free": ["A"], "start": name}), tmp_path).setup().space
    assert space.free["A"].initial == 1777.0 and space.values(space.initial)["R"] == 2.8


def test_structures_by_recipe() -> None:
    sources = Sources(("Si",), known={"x": Structure(crystal="diamond", a=5.43, cubic=True)})

    def made(**told: Any) -> Any:
        return Structure(**told).one(sources)

    assert len(made(use="x", repeat=(2, 2, 2), remove=(0,))) == 63
    rattled = made(use="x", rattle=0.1, seed=5)
    assert np.abs(rattled.positions - made(use="x").positions).max() > 0.05
    np.testing.assert_array_equal(rattled.positions, made(use="x", rattle=0.1, seed=5).positions)
    assert made(use="x", scale=1.1).cell[0, 0] == pytest.approx(1.1 * 5.43)
    slab = made(use="x", surface=(1, 0, 0), layers=3, vacuum=10.0)
    assert slab.pbc.all() and slab.cell[2, 2] > 20
    bead = Structure(crystal="diamond", a=6.3).one(Sources(("W1",)))
    assert bead.arrays["species"].tolist() == ["W1", "W1"]
    with pytest.raises(InvalidArgument, match="say of what"):
        Structure(crystal="diamond", a=6.3).one(Sources(("Si", "C")))


def data_set(folder: Path) -> None:
    atoms = [bulk("Si", "diamond", a) for a in (5.3, 5.4, 5.5, 5.6)]
    known = [labelled(a, -9.0 - k, np.zeros((2, 3)), np.zeros(6)) for k, a in enumerate(atoms)]
    Dataset({"one": known[:3], "two": known[3:]}).save(folder)


def test_groups_count_what_is_said_of_them(tmp_path: Path) -> None:
    data_set(tmp_path / "data")
    tree = changed(
        data={
            "folder": "data",
            "groups": {"one": {"energy": 2.0, "forces": 0.0, "stress": 0.5}},
            "held_out": {"fraction": 0.34},
        },
        targets=[
            {"type": "energies", "name": "again", "structures": [{"data": "one"}, {"data": "two"}]}
        ],
    )
    setup = parse(tree, tmp_path).setup()
    found = {t.name: (t.weight, len(t.terms)) for t in setup.targets}
    assert found == {
        "energy of one": (2.0, 2), "stress of one": (0.5, 2), "energy of two": (1.0, 1),
        "forces of two": (1.0, 1), "again": (1.0, 4),
    }  # fmt: skip
    assert {t.name for t in setup.held_out} == {"energy of one", "stress of one"}
    train, test = ({n for t in part for n in t.terms} for part in (setup.targets, setup.held_out))
    assert not train & test
    with pytest.raises(InvalidArgument, match=r"data.groups: no group 'three'"):
        parse(changed(data={"folder": "data", "groups": {"three": {}}}), tmp_path).setup()


def test_two_stages_are_one_search() -> None:
    stages = [
        {"name": "cma", "evaluations": 50, "options": {"sigma": 0.2}},
        {"name": "least_squares", "best": 3},
    ]
    setup = parse(changed(search={"stages": stages})).setup()
    assert setup.search == "two_stage"
    assert setup.options["hand_over"] == 3 and setup.options["first_options"] == {"sigma": 0.2}
    search = setup.new_search()
    assert search.ask().shape[1] == 2
    search.close()


@pytest.mark.parametrize("start", [{"A": 1800.0}, "si.tersoff", ["one.tersoff", "two.tersoff"]])
def test_records_keep_what_a_field_is(start: object) -> None:
    """Where paths may be something else too, that stays what it is, whether or not paths are moved."""
    told = {
        "model": {"form": "tersoff", "species": ["Si"]},
        "parameters": {"free": ["A"], "start": start},
        "targets": [
            {
                "type": "cubic_crystal",
                "name": "diamond",
                "structure": {"crystal": "diamond", "a": 5.43},
                "values": {"a": 5.43},
            }
        ],
    }
    made = parse(told)
    for kept in (made.record(), made.record("/")):
        found = kept["parameters"]["start"]
        assert type(found) is type(start)
        assert isinstance(start, (str, list)) or found == start
