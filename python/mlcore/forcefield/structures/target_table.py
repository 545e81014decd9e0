"""Tables of properties to be met: CSV files, one property a row, checked row by row.

property,value,unit,tolerance,structure,temperature
lattice constant,5.431,Angstrom,0.01,diamond,
C11,166,GPa,5,diamond,
density,0.9965,g/cm^3,0.005,liquid water,300
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlcore.errors import FileFormatError
from mlcore.io.atomic import write_text
from mlcore.io.tensors import read_bytes
from mlcore.io.toml import wrong_fields

__all__ = ["TargetRow", "read_targets", "target_units", "write_targets"]

MOST_BYTES = 32 << 20
MOST_ROWS = 100_000

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Word = Annotated[str, Field(max_length=200)]

_UNITS: dict[str, tuple[str, float]] = {
    "": ("", 1.0),
    "1": ("", 1.0),
    "%": ("", 0.01),
    "Angstrom": ("Angstrom", 1.0),
    "A": ("Angstrom", 1.0),
    "nm": ("Angstrom", 10.0),
    "pm": ("Angstrom", 0.01),
    "bohr": ("Angstrom", 0.529177210544),
    "degree": ("degree", 1.0),
    "Angstrom^3": ("Angstrom^3", 1.0),
    "Angstrom^3/atom": ("Angstrom^3/atom", 1.0),
    "eV": ("eV", 1.0),
    "meV": ("eV", 1e-3),
    "kcal/mol": ("eV", 0.043364104241),
    "kJ/mol": ("eV", 0.0103642696555),
    "hartree": ("eV", 27.211386245981),
    "eV/atom": ("eV/atom", 1.0),
    "meV/atom": ("eV/atom", 1e-3),
    "eV/Angstrom": ("eV/Angstrom", 1.0),
    "meV/Angstrom": ("eV/Angstrom", 1e-3),
    "J/m^2": ("J/m^2", 1.0),
    "mJ/m^2": ("J/m^2", 1e-3),
    "eV/Angstrom^2": ("J/m^2", 16.02176634),
    "GPa": ("GPa", 1.0),
    "MPa": ("GPa", 1e-3),
    "kbar": ("GPa", 0.1),
    "bar": ("GPa", 1e-4),
    "atm": ("GPa", 1.01325e-4),
    "Pa": ("GPa", 1e-9),
    "eV/Angstrom^3": ("GPa", 160.2176634),
    "K": ("K", 1.0),
    "g/cm^3": ("g/cm^3", 1.0),
    "kg/m^3": ("g/cm^3", 1e-3),
    "THz": ("THz", 1.0),
    "cm^-1": ("THz", 0.0299792458),
    "1e-5 cm^2/s": ("1e-5 cm^2/s", 1.0),
    "cm^2/s": ("1e-5 cm^2/s", 1e5),
    "Angstrom^2/ps": ("1e-5 cm^2/s", 10.0),
    "W/m/K": ("W/m/K", 1.0),
    "kB/atom": ("kB/atom", 1.0),
    "J/mol/K": ("J/mol/K", 1.0),
    "cal/mol/K": ("J/mol/K", 4.184),
    "1/K": ("1/K", 1.0),
}


def target_units() -> dict[str, tuple[str, float]]:
    """Unit read -> (unit kept, factor)."""
    return dict(_UNITS)


class TargetRow(BaseModel):
    """One property that a potential should have.

    `value` and `tolerance` are in `unit`; `standard` gives them in the unit that is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    property: Annotated[str, Field(min_length=1, max_length=200)]
    value: Finite
    unit: Word = ""
    tolerance: Positive
    """What the property may be off by: a residual is (value found - value) / tolerance."""
    structure: Word = ""
    """Name of a structure or phase."""
    species: Word = ""
    temperature: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None
    """K."""
    pressure: Finite | None = None
    """GPa."""
    group: Word = ""
    level: Annotated[int, Field(ge=0, le=1000)] = 0
    """Of a hierarchical objective: lower ones come first."""
    weight: Positive = 1.0
    source: Annotated[str, Field(max_length=2000)] = ""
    note: Annotated[str, Field(max_length=2000)] = ""

    @field_validator("unit")
    @classmethod
    def _known(cls, unit: str) -> str:
        if unit not in _UNITS:
            raise ValueError(f"unit is none of {', '.join(u for u in _UNITS if u)}")
        return unit

    def standard(self) -> TargetRow:
        """The same in the unit that is kept (GPa, eV, Angstrom, ..)."""
        unit, factor = _UNITS[self.unit]
        return self.model_copy(
            update={
                "unit": unit,
                "value": self.value * factor,
                "tolerance": self.tolerance * factor,
            }
        )


def read_targets(path: str | os.PathLike[str]) -> list[TargetRow]:
    """The rows of a table, as they stand there.

    Args:
        path: a CSV file in UTF-8 with names of columns in its first row: property, value and
            tolerance, and whichever other fields of `TargetRow`. Commas, semicolons or tabs; lines
            with # in front and empty ones are skipped.

    Raises:
        FileFormatError: naming every wrong row by its line, field by field.
    """
    where = Path(path)
    text = _text(where)
    head, rows = _table(where, text)
    good: list[TargetRow] = []
    wrong: list[str] = []
    seen: dict[tuple[object, ...], int] = {}
    for line, cells in rows:
        if len(cells) != len(head):
            wrong.append(f"line {line}: {len(cells)} cells, but {len(head)} columns")
            continue
        given = {k: v.strip() for k, v in zip(head, cells, strict=True) if v.strip()}
        try:
            row = TargetRow.model_validate(given)
        except ValidationError as error:
            wrong.append(f"line {line}: {wrong_fields(error)}")
            continue
        key = (row.property, row.structure, row.species, row.temperature, row.pressure)
        if key in seen:
            wrong.append(f"line {line}: the same property as line {seen[key]}")
        seen.setdefault(key, line)
        good.append(row)
    if wrong:
        more = f"\nand {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise FileFormatError(f"{where}: " + "\n".join(wrong[:20]) + more)
    if not good:
        raise FileFormatError(f"{where}: holds no row")
    return good


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MOST_BYTES, "table").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: is not UTF-8 text (byte {error.start})") from error


def _table(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    first = next((s for s in text.splitlines() if s.strip() and not s.startswith("#")), "")
    comma = max(",;\t", key=first.count)
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text), delimiter=comma, strict=True)
    try:
        for cells in reader:
            if any(c.strip() for c in cells) and not cells[0].startswith("#"):
                rows.append((reader.line_num, cells))
            if len(rows) > MOST_ROWS + 1:
                raise FileFormatError(f"{path}: more than {MOST_ROWS} rows")
    except csv.Error as error:
        raise FileFormatError(f"{path}: line {reader.line_num}: {error}") from error
    if not rows:
        raise FileFormatError(f"{path}: is empty")
    line, cells = rows[0]
    head = [c.strip() for c in cells]
    known = set(TargetRow.model_fields)
    strange = [name for name in head if name not in known]
    twice = sorted({name for name in head if head.count(name) > 1})
    missing = [name for name in ("property", "value", "tolerance") if name not in head]
    for what, names in (("no such column:", strange), ("twice:", twice), ("missing:", missing)):
        if names:
            told = ", ".join(map(repr, names))
            raise FileFormatError(
                f"{path}: line {line}: {what} {told}; columns are {', '.join(sorted(known))}"
            )
    return head, rows[1:]


def write_targets(path: str | os.PathLike[str], rows: Sequence[TargetRow]) -> None:
    """Writes a table; columns that no row uses are left out, numbers keep all digits."""
    tables: list[dict[str, Any]] = [row.model_dump(exclude_defaults=True) for row in rows]
    used = [name for name in TargetRow.model_fields if any(name in t for t in tables)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(used)
    for table in tables:
        cells = (table.get(name, "") for name in used)
        writer.writerow([repr(c) if isinstance(c, float) else c for c in cells])
    write_text(path, out.getvalue())
