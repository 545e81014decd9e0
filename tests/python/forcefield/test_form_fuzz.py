"""Records, cards and files that are broken anywhere: told so, and nothing else happens."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from interactions import POTENTIALS
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.export import export, load
from mlcore.forcefield.forms import Model, form, model

JUNK: list[Any] = [
    None, True, 3, -1, 1e400, float("nan"), "", "x", "{{ a }}", "{% for", "\x00", [], {}, [[]],
    {"a": 1}, "../x", "a" * 5000, 10**30, "pair_coeff * * x",
]  # fmt: skip
FORMS = ["sw", "lj/cut", "eam/gupta", "buck/coul/long", "hybrid/overlay", "ml-bop", "zbl"]


def places(record: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    if isinstance(record, dict):
        for key in record:
            yield from places(record[key], (*at, key))
    elif isinstance(record, list):
        for k in range(len(record)):
            yield from places(record[k], (*at, k))


def broken(record: Any, draw: random.Random) -> Any:
    """The record with something else, or nothing, in one place."""
    record = copy.deepcopy(record)
    *way, last = draw.choice(list(places(record))[1:])
    inner = record
    for key in way:
        inner = inner[key]
    if draw.random() < 0.2:
        del inner[last]
    else:
        inner[last] = draw.choice(JUNK)
    return record


@pytest.mark.parametrize("name", FORMS)
def test_records_of_models(name: str) -> None:
    draw = random.Random(name)
    own = form(name)
    bead = own.elements == ("bead:W",)
    made = Model(own, list(own.elements) or ["Si", "Ge"], {"W": 18.0} if bead else None)
    record = made.record()
    refused = 0
    for _ in range(120):
        try:
            again = Model.from_record(broken(record, draw))
            again.render(again.defaults)
        except InvalidArgument:
            refused += 1
    assert 20 < refused < 120


def test_cards(tmp_path: Path) -> None:
    draw = random.Random(5)
    folder = tmp_path / "p"
    export(model("sw", ["Si"]), {}, folder)
    text = (folder / "card.json").read_text()
    refused = 0
    for _ in range(120):
        (folder / "card.json").write_text(json.dumps(broken(json.loads(text), draw)))
        try:
            load(folder)
        except FileFormatError:
            refused += 1
    assert 40 < refused < 120


FILES = [
    ("sw", ["Si"], ["Si.sw"], {}),
    ("tersoff", ["Si", "C"], ["SiC.tersoff"], {}),
    ("meam", ["Si", "C"], ["library.meam", "SiC.meam"], {"parameters": "SiC.meam"}),
    ("reaxff", ["C", "H"], ["ffield.reax.cho"], {"source": "ffield.reax.cho"}),
    ("snap", ["Ta"], ["Ta06A.snapcoeff", "Ta06A.snapparam"], {}),
    ("mliap/nn", ["Ta"], ["Ta06A.nn.mliap.model", "Ta06A.mliap.descriptor"], {"layers": [1]}),
]


@pytest.mark.parametrize(("name", "species", "files", "options"), FILES, ids=[f[0] for f in FILES])
def test_files(
    name: str, species: list[str], files: list[str], options: dict[str, Any], tmp_path: Path
) -> None:
    draw = random.Random(name)
    told = {
        key: str(POTENTIALS / value) if isinstance(value, str) else value
        for key, value in options.items()
    }
    potential = model(name, species, options=told or None)
    paths = [tmp_path / file for file in files]
    texts = [(POTENTIALS / file).read_text() for file in files]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    assert potential.read(*paths).keys() == potential.defaults.keys()
    failed = 0
    for _ in range(40):
        k = draw.randrange(len(files))
        words = texts[k].split(" ")
        at = draw.randrange(len(words))
        match draw.randrange(4):
            case 0:
                words = words[:at]
            case 1:
                words[at] = draw.choice(["x", "nan", "1e999", "-", "99999999999999999999", "\x00"])
            case 2:
                del words[at]
            case 3:
                words.insert(at, draw.choice(["1", "Si", "\n", "0 0 0"]))
        paths[k].write_text(" ".join(words))
        try:
            potential.read(*paths)
        except Error:
            failed += 1
        finally:
            paths[k].write_text(texts[k])
    assert failed > 0


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("sw", "Si.sw", "2.1683", "nan"),
        ("meam", "library.meam", "5.10570729", "nan"),
        ("snap", "Ta06A.snapcoeff", "-2.92477", "inf"),
        ("snap", "Ta06A.snapcoeff", "-0.01137", ""),
        ("mliap/linear", "Ta06A.mliap.model", "-0.01137", ""),
        ("mliap/nn", "Ta06A.nn.mliap.model", "-0.01137", ""),
        ("mliap/nn", "Ta06A.nn.mliap.model", "NET 30 1", "NET 29 1"),
        ("mliap/nn", "Ta06A.nn.mliap.model", "NET 30 1", "NET 99999999999 1"),
        ("mliap/nn", "Ta06A.nn.mliap.model", "linear 1", "linear 99999999999"),
    ],
)
def test_numbers_that_are_none_or_missing(
    name: str, file: str, old: str, new: str, tmp_path: Path
) -> None:
    text = (POTENTIALS / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    species = {"sw": ["Si"], "meam": ["Cu"]}.get(name, ["Ta"])
    potential = model(name, species, options={"layers": [1]} if name == "mliap/nn" else None)
    second = {"snap": ["Ta06A.snapparam"], "mliap/linear": ["Ta06A.mliap.descriptor"]}
    second["mliap/nn"] = ["Ta06A.mliap.descriptor"]
    with pytest.raises(FileFormatError):
        potential.read(tmp_path / file, *(POTENTIALS / other for other in second.get(name, [])))
