"""What `manifest.json` of a data set on disk holds, version 1; the JSON schema of it is published."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["NOWHERE", "SCHEMA_VERSION", "GroupRecord", "Manifest", "Provenance", "schema"]

SCHEMA_VERSION: Literal[1] = 1

_FILE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}\.extxyz$"
_GROUP = r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}$"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
GroupName = Annotated[str, Field(pattern=_GROUP)]
GROUP_NAME = re.compile(_GROUP)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(_Section):
    """Where structures and labels come from."""

    source: str = ""
    """File, web address or program."""
    method: str = ""
    """How the labels were computed, such as `PBE, 520 eV` or `LAMMPS, SW`."""
    date: str = Field(default="", pattern=r"^(\d{4}(-\d{2}){0,2}(T[0-9:.+Z-]+)?)?$")
    citation: str = ""
    license: str = ""
    key_map: dict[str, str] = Field(default_factory=dict)
    """Names the labels had in the source."""
    units: dict[str, str] = Field(default_factory=dict)
    """Units the labels had in the source; what is stored is in eV and Angstrom."""
    notes: tuple[str, ...] = ()
    """What was converted or left behind on the way in."""
    sha256: dict[str, Sha256] = Field(default_factory=dict)
    """Hashes of the files read, by name."""

    def joined(self, other: Provenance) -> Provenance:
        """Of structures from both; where they differ in a word, both words."""
        if other in (self, NOWHERE):
            return self
        if self == NOWHERE:
            return other
        words = {
            name: "; ".join(
                dict.fromkeys(w for w in (getattr(self, name), getattr(other, name)) if w)
            )
            for name in ("source", "method", "citation", "license")
        }
        hashes = dict(self.sha256)
        for name, value in other.sha256.items():
            hashes[_free(name, value, hashes)] = value
        return Provenance(
            **words,
            date=max(self.date, other.date),
            key_map={**self.key_map, **other.key_map},
            units={**self.units, **other.units},
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
            sha256=hashes,
        )


def _free(name: str, value: str, taken: dict[str, str]) -> str:
    """The name, numbered where another file has it: each folder of VASP has its OUTCAR."""
    found, k = name, 1
    while taken.get(found, value) != value:
        k += 1
        found = f"{name} ({k})"
    return found


NOWHERE = Provenance()


class Counts(_Section):
    """How many structures hold each label."""

    energy: int = Field(default=0, ge=0)
    forces: int = Field(default=0, ge=0)
    stress: int = Field(default=0, ge=0)


class GroupRecord(_Section):
    """One group: one extxyz file."""

    name: GroupName
    file: str = Field(pattern=_FILE)
    sha256: Sha256
    structures: int = Field(ge=1)
    atoms: int = Field(ge=1)
    species: tuple[str, ...]
    labels: Counts
    provenance: Provenance = NOWHERE


class Manifest(_Section):
    """A data set on disk."""

    format: Literal["mlcore forcefield dataset"] = "mlcore forcefield dataset"
    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field("", max_length=200)
    description: str = ""
    units: dict[str, str] = Field(
        default={
            "length": "Angstrom",
            "energy": "eV",
            "forces": "eV/Angstrom",
            "stress": "eV/Angstrom^3",
        }
    )
    groups: tuple[GroupRecord, ...] = Field(max_length=10_000)
    hash: Sha256
    """Of names and contents of the groups, whatever their order."""

    @model_validator(mode="after")
    def _checked(self) -> Manifest:
        if self.units != Manifest.model_fields["units"].default:
            raise ValueError("units: a data set on disk is in Angstrom, eV and what follows")
        for field in ("name", "file"):
            values = [getattr(g, field).lower() for g in self.groups]
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(f"groups: {field} {', '.join(twice)} occurs twice")
        return self


def schema() -> dict[str, Any]:
    """The JSON schema of `manifest.json`."""
    found = Manifest.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "mlcore forcefield dataset, version 1",
    }
