"""Problems of the config of a fit: all of them at once, without reading data sets again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from mlcore.errors import Error
from mlcore.forcefield.config import Config
from mlcore.forcefield.config.data import Data
from mlcore.forcefield.structures import Dataset, labelled
from mlcore.parallel import EngineSettings
from mlcore.studio import frames
from mlcore.studio.kinds import Place, kind_of
from mlcore.studio.kinds.fit_check import _stand_ins
from mlcore.studio.kinds.outline import outline
from studio_fits import DIAMOND, SILICON


def data_set() -> Dataset:
    """Three groups: all labels, energies of some, and germanium."""
    boxes = [bulk("Si", "diamond", 5.4 + 0.01 * k, cubic=True) for k in range(9)]
    pull = np.full((8, 3), 0.1)
    return Dataset({
        "whole": [labelled(box, -37.0, pull, np.zeros(6)) for box in boxes],
        "some": [*[labelled(box, -36.0) for box in boxes[:2]], *boxes[2:4],
                 labelled(Atoms("Si2", [[0, 0, 0], [2, 0, 0]]), -4.0, pull[:2], np.zeros(6))],
        "other": [labelled(bulk("Ge"), -8.0)],
    })  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One user's data set, as it is kept when it was uploaded."""
    folder = tmp_path_factory.mktemp("upload")
    data = data_set()
    data.save(folder / "data")
    frames.write(folder / frames.FOLDER, data, {})
    return Place({"up": folder}, EngineSettings(name="serial"))


def config(**parts: Any) -> dict[str, Any]:
    weights = {"other": {"energy": 0, "forces": 0}}
    data = {"folder": "upload:up/data", "groups": weights}
    return SILICON | {"data": data, "targets": [DIAMOND]} | parts


def told(config: dict[str, Any], place: Place) -> dict[str, str]:
    found = kind_of("forcefield").problems(config, place)
    assert len({one.field for one in found}) == len(found), found
    return {one.field: one.message for one in found}


def test_what_is_right_has_none(place: Place) -> None:
    assert told(config(), place) == {}


def test_all_that_is_wrong_is_told_at_once(place: Place) -> None:
    free = {
        "A": {"lower": 3000.0, "upper": 100.0},
        "B": {"lower": "low"},
        "lam1": {"lower": 5.0, "upper": 6.0},
        "nothing": {},
        "lam2": {"within": 0.2},
    }
    ties = {"n": "2*(", "c": "__import__('os')", "d": "16.2"}
    wrong = config(
        parameters={"free": free, "ties": ties, "constraints": ["R >"], "fixed": {"h": "x"}},
        data={"folder": "upload:up/data", "groups": {"none": {}}, "weights": {"energy": -1}},
        targets=[
            {"type": "cubic_crystal"},
            DIAMOND | {"structure": {"crystal": "diamond", "of": "Xx", "a": 5.0}},
            {"type": "nothing"},
            DIAMOND,
        ],
        objective={"delta": -1},
        run={"budget": 0, "seed": 1},
        search={"name": "oracle"},
    )
    found = told(wrong, place)
    assert found.keys() >= {
        "parameters.free.A", "parameters.free.B.lower", "parameters.free.lam1",
        "parameters.free.nothing", "parameters.ties.n", "parameters.ties.c", "parameters.constraints.0",
        "parameters.fixed.h", "data.weights.energy", "targets.1", "objective.delta", "run.budget",
        "search.name",
    }  # fmt: skip
    assert any(field.startswith("targets.0.cubic_crystal") for field in found)
    assert any(field.startswith("targets.2") for field in found)
    assert not any(
        field.startswith(("parameters.free.lam2", "parameters.ties.d", "targets.3", "model"))
        for field in found
    )
    assert "below upper" in found["parameters.free.A"]


@pytest.mark.parametrize(
    ("parts", "field", "words"),
    [
        ({"objective": {"pareto": ["what"]}}, "objective.pareto", "no target or group what"),
        ({"objective": {"tolerances": {"3": 1.0}}}, "objective.tolerances", "level 3"),
        ({"targets": [DIAMOND, DIAMOND]}, "targets", "'diamond' is the name of two"),
        ({"targets": [DIAMOND | {"values": {"what": 1.0}}]}, "targets.0", "what"),
        ({"data": {"folder": "upload:up/data"}}, "data", "holds Ge"),
        ({"data": {"folder": "upload:no/data"}}, "data.folder", "none of your data sets"),
        ({"data": {"folder": "/etc"}}, "data.folder", "say upload:ID"),
        ({"data": {"folder": "upload:up/data", "groups": {"x": {}}}}, "data.groups", "whole, some"),
        ({"model": {"form": "sw", "species": ["Xx"]}}, "model", "Xx"),
        ({"parameters": {"free": ["A"], "ties": {"A": "B"}}}, "parameters.ties.A", "free already"),
        ({"parameters": {"free": ["A"], "ties": {"B": "what"}}}, "parameters", "called what"),
        ({"parameters": {"free": []}}, "parameters.free", "at least one"),
        ({"data": None, "targets": []}, "", "data or targets"),
        ({"data": None, "targets": [DIAMOND | {"held_out": True}]}, "targets", "held out"),
    ],
)  # fmt: skip
def test_what_is_wrong_beyond_fields_is_told_beside_wrong_fields(
    place: Place, parts: dict[str, Any], field: str, words: str
) -> None:
    alone = told(config(**parts), place)
    assert alone.keys() == {field} and words in alone[field]
    both = told(config(**parts, run={"budget": 0}), place)
    if field:  # what holds for the whole is looked at when its fields are right
        assert both[field] == alone[field]
    assert "run.budget" in both


SECTIONS: list[dict[str, Any]] = [
    {},
    {"held_out": {"fraction": 0.4, "seed": 3}},
    {"weights": {"forces": 0, "stress": 2.0, "level": 1}},
    {"groups": {"some": {"held_out": True}, "other": {"energy": 0.5, "level": 2}}},
    {"groups": {"whole": {"energy": 0, "forces": 0}, "some": {"energy": 0, "stress": 1.0}}},
    {"groups": {"whole": {"held_out": True}}, "held_out": {"fraction": 0.6}},
]


@pytest.mark.parametrize("section", SECTIONS)
def test_stand_ins_make_the_targets_that_structures_make(
    place: Place, section: dict[str, Any]
) -> None:
    folder = place.uploads["up"] / "data"
    data = Data.model_validate({"folder": folder} | section)
    kept = outline(folder)
    assert kept is not None
    parts = zip(data.targets(data.load()), data.targets_of(*_stand_ins(data, kept)), strict=True)
    for real, stood in parts:
        names = [[(t.name, t.group, t.level, t.weight) for t in own] for own in (real, stood)]
        assert names[0] == names[1]


def test_labels_that_are_all_held_out_are_missed(place: Place) -> None:
    groups = {
        "whole": {"held_out": True},
        "some": {"energy": 0, "forces": 0},
        "other": {"energy": 0},
    }
    asked = config(data={"folder": "upload:up/data", "groups": groups}, targets=[])
    assert "no structure of the search" in told(asked, place)["data"]


def test_data_sets_are_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a data set was read")

    monkeypatch.setattr(Dataset, "load", refuse)
    assert told(config(), place) == {}
    assert told(config(objective={"pareto": ["x"]}), place)


def test_structures_that_a_target_takes_of_the_data_are_there(place: Place) -> None:
    taken = DIAMOND | {"structure": {"data": "whole", "index": 3}}
    assert told(config(targets=[taken]), place) == {}
    beyond = DIAMOND | {"structure": {"data": "whole", "index": 30}}
    assert "holds 9" in told(config(targets=[beyond]), place)["targets.0"]


def test_a_data_set_of_which_nothing_was_kept_is_read(tmp_path: Path) -> None:
    data_set().only("whole").save(tmp_path / "data")
    place = Place({"up": tmp_path}, EngineSettings(name="serial"))
    asked = config(data={"folder": "upload:up/data"})
    assert told(asked, place) == {}
    asked = config(data={"folder": "upload:up/data", "groups": {"x": {}}})
    assert "no group" in told(asked, place)["data.groups"]


@pytest.mark.parametrize("parts", [
    {}, {"data": None}, {"targets": []}, {"objective": {"kind": "huber"}},
    {"data": {"folder": "upload:up/data", "held_out": {"fraction": 0.3}, "groups": {"other": {"energy": 0}}}},
    {"objective": {"kind": "diamond + 2"}}, {"objective": {"kind": "dimond"}},
    {"parameters": {"free": ["A"], "fixed": {"x": 1.0}}},
    {"parameters": {"free": ["A"], "ties": {"B": "lam1", "lam1": "B"}}},
    {"parameters": {"free": ["A"], "start": {"what": 1.0}}},
    {"structures": {"x": {"use": "x"}}, "targets": [DIAMOND | {"structure": {"use": "x"}}]},
])  # fmt: skip
def test_a_config_without_problems_is_one_that_can_be_made(
    place: Place, parts: dict[str, Any]
) -> None:
    asked = config(**parts)
    found = told(asked, place)
    folder = str(place.uploads["up"] / "data")
    whole = asked | ({"data": asked["data"] | {"folder": folder}} if asked["data"] else {})
    try:
        Config.model_validate(whole).setup()
    except (Error, RecursionError):
        assert found
    else:
        assert not found
