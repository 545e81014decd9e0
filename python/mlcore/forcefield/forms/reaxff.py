"""ReaxFF: the force field file of van Duin, each of its numbers a parameter.

van Duin et al., J. Phys. Chem. A 105, 9396 (2001), doi:10.1021/jp004368u. LAMMPS reads such files
in ``real`` units alone (kcal/mol, A, fs), and so the records are in these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms.documents import Document, around
from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.lines import read_text
from mlcore.forcefield.forms.potentials import shipped_potential
from mlcore.forcefield.forms.record import Form, FormParameter

__all__ = ["REAXFF"]

# "-" is not used, or a flag
_GENERAL = [
    "boc1", "boc2", "coa2", "trip4", "trip3", "kc2", "ovun6", "trip2", "ovun7", "ovun8", "trip1",
    "swa", "swb", "-", "val7", "lp1", "val9", "val10", "-", "pen2", "pen3", "pen4", "-", "tor2",
    "tor3", "tor4", "-", "cot2", "vdw1", "cutoff", "coa4", "ovun4", "ovun3", "val8", "-", "-",
    "-", "-", "coa3",
]  # fmt: skip
_ATOM = [
    ["ro_s", "valence", "-", "rvdw", "D", "gamma", "ro_p", "val_e"],
    ["alpha", "gamma_w", "val_angle", "ovun5", "-", "chi", "eta", "-"],
    ["ro_pp", "lp2", "heat", "boc4", "boc3", "boc5", "-", "-"],
    ["ovun2", "val3", "-", "val_boc", "val5", "rcore", "ecore", "acore"],
    ["lg_c", "lg_r"],
]
_BOND = [
    ["De_s", "De_p", "De_pp", "be1", "bo5", "-", "bo6", "ovun1"],
    ["be2", "bo3", "bo4", "-", "bo1", "bo2", "-", "-"],
]
_OFFDIAGONAL = [["D", "rvdw", "alpha", "ro_s", "ro_p", "ro_pp", "lg_c"]]
_ANGLE = [["theta0", "val1", "val2", "coa1", "val7", "pen1", "val4"]]
_TORSION = [["V1", "V2", "V3", "tor1", "cot1", "-", "-"]]
_HBOND = [["r", "hb1", "hb2", "hb3"]]
_UNITS = {
    "ro_s": "A", "ro_p": "A", "ro_pp": "A", "rvdw": "A", "D": "kcal/mol", "De_s": "kcal/mol",
    "De_p": "kcal/mol", "De_pp": "kcal/mol", "chi": "eV", "eta": "eV", "theta0": "degree",
    "V1": "kcal/mol", "V2": "kcal/mol", "V3": "kcal/mol", "swa": "A", "swb": "A", "r": "A",
    "hb1": "kcal/mol",
}  # fmt: skip


class _Options(Options):
    source: str | None = Field(None, description="path of a force field; LAMMPS' ffield.reax.cho")


class _ReaxFF(Family):
    def make(self, species: Sequence[str], options: Any) -> Form:
        path = Path(options.source) if options.source else shipped_potential("ffield.reax.cho")
        found = _File(path, [s.removeprefix("bead:") for s in species])
        return Document(
            name="reaxff",
            family="reaxff",
            title=f"ReaxFF, {path.name}",
            citation=found.lines[0].partition("CITATION:")[2].strip()[:500]
            or "A. C. T. van Duin et al., J. Phys. Chem. A 105, 9396 (2001)",
            parameters=tuple(found.parameters),
            pair_style="reaxff NULL safezone 1.6 mincap 100" + (" lgvdw yes" if found.lg else ""),
            pair_coeff=("pair_coeff * * model.reaxff <species>",),
            commands=("fix mlcore_charges all qeq/reaxff 1 0.0 10.0 1.0e-8 reaxff",),
            files={"model.reaxff": "\n".join(found.made) + "\n"},
            cutoff="general_swb",
            atom_style="charge",
            units="real",
            species=(len(species), len(species)),
            elements=tuple(species),
        )


class _File:
    """Goes through a force field; `made` is the file with holes, `parameters` what fits in them."""

    def __init__(self, path: Path, species: Sequence[str]) -> None:
        self.path = path
        self.species = set(species)
        self.lines = read_text(path).splitlines()
        self.made = ["# UNITS: real"]
        self.parameters: list[FormParameter] = []
        self._names: set[str] = set()
        self.elements: list[str] = []
        self.lg = False
        self._at = 1
        try:
            self._read()
        except (ValueError, IndexError) as error:
            raise FileFormatError(f"{path}: line {self._at}: cannot be read: {error}") from None
        missing = self.species - set(self.elements)
        if missing:
            raise InvalidArgument(
                f"species: {path} has {', '.join(self.elements)}, not {', '.join(sorted(missing))}"
            )

    def _read(self) -> None:
        for k in range(self._count()):
            name = _GENERAL[k] if k < len(_GENERAL) else "-"
            self._row(["general"], [name], 0, True)
        self._atoms()
        self._blocks("bond", 2, _BOND)
        self._blocks("offdiagonal", 2, _OFFDIAGONAL)
        self._blocks("angle", 3, _ANGLE)
        self._blocks("torsion", 4, _TORSION)
        if self._at < len(self.lines) and self.lines[self._at].split():
            self._blocks("hbond", 3, _HBOND)

    def _next(self) -> str:
        line = self.lines[self._at]
        self._at += 1
        return line

    def _count(self) -> int:
        line = self._next()
        self.made.append(line)
        return int(line.split()[0])

    def _atoms(self) -> None:
        count = self._count()
        self.made += [self._next() for _ in range(3)]
        # force fields with dispersion have a fifth row
        self.lg = len(self.lines[self._at + 4].partition("!")[0].split()) == 2
        for _ in range(count):
            name = self.lines[self._at].split()[0]
            self.elements.append(name)
            rows = _ATOM if self.lg else _ATOM[:4]
            for k, columns in enumerate(rows):
                self._row(["atom", name], columns, k == 0, name in self.species)

    def _blocks(self, section: str, bodies: int, rows: Sequence[Sequence[str]]) -> None:
        count = self._count()
        if len(rows) > 1:
            self.made += [self._next() for _ in range(len(rows) - 1)]
        for _ in range(count):
            indices = [int(w) for w in self.lines[self._at].split()[:bodies]]
            names = [self._element(k) for k in indices]
            ours = set(names) <= self.species | {"X"}
            key = [section, *names]
            for k, columns in enumerate(rows):
                self._row(key, columns, bodies if k == 0 else 0, ours)

    def _element(self, index: int) -> str:
        """Its name; X for any, and none where LAMMPS leaves the row out too."""
        if index == 0:
            return "X"
        return self.elements[index - 1] if index <= len(self.elements) else ""

    def _row(self, key: Sequence[str], columns: Sequence[str], skip: int, ours: bool) -> None:
        """Takes a line; words after the first ``skip`` become parameters where it is ours."""
        text, mark, comment = self._next().partition("!")
        words = text.split()
        if len(words) - skip < min(len(columns), 4 if len(columns) == 7 else len(columns)):
            raise ValueError(f"has {len(words)} words")
        for k, column in enumerate(columns):
            at = k + skip
            if ours and column != "-" and at < len(words):
                words[at] = self._hole(key, column, float(words[at]))
        self.made.append(f" {' '.join(words)} {mark}{comment}".rstrip())

    def _hole(self, key: Sequence[str], column: str, value: float) -> str:
        name = "_".join((*key, column))
        # some force fields have two rows for the same atoms
        again = 2
        while name in self._names:
            name = "_".join((*key, str(again), column))
            again += 1
        self._names.add(name)
        lower, upper = around(value)
        self.parameters.append(
            FormParameter(
                name=name,
                default=value,
                lower=lower,
                upper=upper,
                unit=_UNITS.get(column, ""),
                text=f"{column} of {key[0]} {' '.join(key[1:])}".rstrip(),
            )
        )
        return f"{{{{ form.{name} }}}}"


REAXFF = _ReaxFF("reaxff", "ReaxFF", _Options, ("C", "H", "O"))
