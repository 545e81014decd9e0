"""Tables of targets: good rows read, wrong ones told by line and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import units
from mlcore.errors import FileFormatError
from mlcore.forcefield.structures.target_table import (
    TargetRow,
    read_targets,
    target_units,
    write_targets,
)

GOOD = """\
# silicon and water
property,value,unit,tolerance,structure,temperature,pressure,group,level,weight,source

lattice constant,5.431,Angstrom,0.01,diamond,,,static,0,,handbook
C11,1.66,kbar,0.05,diamond,,,elastic,1,2.5,"Hall, 1967"
density,996.5,kg/m^3,5,liquid,300,0.0001,md,2,,
density,0.999,g/cm^3,0.005,liquid,280,0.0001,md,2,,
"""


def table(folder: Path, text: str) -> Path:
    path = folder / "targets.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_rows(tmp_path: Path, comma: str) -> None:
    text = GOOD if comma == "," else GOOD.replace('"Hall, 1967"', "Hall 1967").replace(",", comma)
    rows = read_targets(table(tmp_path, text))
    assert [r.property for r in rows] == ["lattice constant", "C11", "density", "density"]
    first, second, third, _ = rows
    assert (first.value, first.weight, first.temperature) == (5.431, 1.0, None)
    assert (second.level, second.weight) == (1, 2.5)
    assert second.source == ("Hall, 1967" if comma == "," else "Hall 1967")
    assert second.standard() == second.model_copy(
        update={"unit": "GPa", "value": 0.1 * 1.66, "tolerance": 0.1 * 0.05}
    )
    assert third.standard().value == pytest.approx(0.9965)
    assert third.standard().unit == "g/cm^3"


def test_table_and_back(tmp_path: Path) -> None:
    rows = read_targets(table(tmp_path, GOOD))
    rows.append(TargetRow(property="x", value=0.1 + 0.2, tolerance=5e-324))
    write_targets(tmp_path / "again.csv", rows)
    assert read_targets(tmp_path / "again.csv") == rows


def test_units_are_those_of_ase() -> None:
    known = target_units()
    assert known["kcal/mol"][1] == pytest.approx(units.kcal / units.mol, rel=1e-7)
    assert known["kJ/mol"][1] == pytest.approx(units.kJ / units.mol, rel=1e-7)
    assert known["hartree"][1] == pytest.approx(units.Hartree, rel=1e-7)
    assert known["bohr"][1] == pytest.approx(units.Bohr, rel=1e-7)
    assert known["eV/Angstrom^3"][1] == pytest.approx(1 / units.GPa, rel=1e-7)
    assert known["eV/Angstrom^2"][1] == pytest.approx(units.m**2 / units.J, rel=1e-7)
    assert known["cm^-1"][1] == pytest.approx(
        units.invcm / units._hplanck * units._e / 1e12, rel=1e-6
    )
    for kept, _ in known.values():
        assert known[kept] == (kept, 1.0)


def test_every_wrong_row_is_told(tmp_path: Path) -> None:
    text = (
        "property,value,unit,tolerance,temperature\n"
        "a,one,GPa,1,\n"
        "b,1,GPa,0,\n"
        "c,1,furlong,1,\n"
        "d,1,GPa,1,-3\n"
        "e,nan,GPa,1,\n"
        "f,1,GPa\n"
        "g,1,GPa,1,300\n"
        "g,2,GPa,1,300.0\n"
        ",1,GPa,1,\n"
    )
    with pytest.raises(FileFormatError) as caught:
        read_targets(table(tmp_path, text))
    told = str(caught.value).splitlines()
    for line, message in (
        (2, "value: "),
        (3, "tolerance: "),
        (4, "unit: unit is none of"),
        (5, "temperature: "),
        (6, "value: "),
        (7, "3 cells, but 5 columns"),
        (9, "the same property as line 8"),
        (10, "property: "),
    ):
        assert any(f"line {line}: {message}" in t for t in told), (line, told)
    assert len(told) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("property,value\nx,1\n", "missing: 'tolerance'"),
        ("property,value,tolerance,colour\n", "no such column: 'colour'"),
        ("property,value,tolerance,value\n", "twice: 'value'"),
        ("property,value,tolerance\n", "holds no row"),
        ("# nothing\n", "is empty"),
        ('property,value,tolerance\nx,"1,2\n', "line"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_targets(table(tmp_path, text))


def test_no_text(tmp_path: Path) -> None:
    path = tmp_path / "targets.csv"
    path.write_bytes(b"property,value\n\xff\xfe")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        read_targets(path)
    with pytest.raises(FileFormatError, match="No such file"):
        read_targets(tmp_path / "none.csv")
