"""Any program that reads text files and writes numbers: templates in, patterns or JSON out.

For free-energy codes, property calculators, other electronic-structure programs: what is asked is a
table of values, which templates turn into input files; what comes back is a table of numbers.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.codes.code import Code
from mlcore.forcefield.codes.process import execute
from mlcore.forcefield.codes.templates import render
from mlcore.forcefield.structures.dataset import species
from mlcore.forcefield.structures.labels import labelled
from mlcore.forcefield.structures.units import UNITS, factor
from mlcore.io.atomic import write_text
from mlcore.io.tensors import parse_json, read_bytes

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Command", "Json", "Output", "Pattern"]

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LABELS = {"energy": "energy", "forces": "forces", "stress": "stress"}


@dataclass(frozen=True)
class Output(ABC):
    """Where a number, or a list of them, stands.

    Attributes:
        file: of the folder; `code.out` is what the program wrote on the screen.
        unit: of energy, forces or stress (see `structures.units`), else a word that is kept.
        most: largest file read, bytes.
    """

    file: str
    unit: str = ""
    most: int = 64 << 20

    @abstractmethod
    def find(self, folder: Path) -> Any:
        """A number, or nested lists of numbers.

        Raises:
            FileFormatError: it is not there, or is no number.
        """

    def bytes(self, folder: Path) -> bytes:
        """The file."""
        if not _FILE.fullmatch(self.file):
            raise InvalidArgument(f"outputs: {self.file!r} is no bare name of a file")
        return read_bytes(folder / self.file, self.most, "output")


@dataclass(frozen=True)
class Pattern(Output):
    """What a regular expression captures.

    Attributes:
        regex: its groups are numbers; one group gives a number, more give a list.
        take: which of several matches: "last", "first", or "all" for a list.
    """

    regex: str = ""
    take: Literal["last", "first", "all"] = "last"

    def find(self, folder: Path) -> Any:
        """See `Output`."""
        try:
            pattern = re.compile(self.regex, re.MULTILINE)
        except re.error as error:
            raise InvalidArgument(f"outputs: regex {self.regex!r}: {error}") from error
        if not pattern.groups:
            raise InvalidArgument(
                f"outputs: regex {self.regex!r} has no group to take a number from"
            )
        text = self.bytes(folder).decode("utf-8", "replace")
        rows = [self._row(m.groups()) for m in pattern.finditer(text)]
        if not rows:
            raise FileFormatError(f"{self.file}: nothing fits {self.regex!r}")
        if self.take == "all":
            return rows
        return rows[-1 if self.take == "last" else 0]

    def _row(self, texts: Sequence[str | None]) -> Any:
        try:
            # Fortran writes 1.0D-03
            numbers = [float((t or "").replace("D", "e").replace("d", "e")) for t in texts]
        except ValueError:
            raise FileFormatError(f"{self.file}: {texts} are no numbers") from None
        return numbers[0] if len(numbers) == 1 else numbers


@dataclass(frozen=True)
class Json(Output):
    """What stands at a place of a JSON file.

    Attributes:
        path: keys and indices with points between, such as `results.0.energy`.
    """

    path: str = ""

    def find(self, folder: Path) -> Any:
        """See `Output`."""
        value = parse_json(self.bytes(folder), self.file)
        for word in self.path.split(".") if self.path else []:
            try:
                value = value[int(word)] if isinstance(value, list) else value[word]
            except (KeyError, IndexError, ValueError, TypeError):
                raise FileFormatError(f"{self.file}: has no {self.path}") from None
        return value


@dataclass(frozen=True)
class Command(Code):
    """A program described by its files.

    Attributes:
        command: list of words.
        inputs: name of file -> name of template; a template sees `values`, and of a structure
            `symbols`, `positions`, `cell`, `pbc`, `masses` and `title`.
        outputs: what to read, by name; `energy`, `forces` and `stress` become labels.
        values: what templates see.
        ok: a regular expression that must fit in `code.out`, else the program failed.
        templates: folder of templates that go before others.
        timeout: s.
    """

    command: Sequence[str]
    inputs: Mapping[str, str]
    outputs: Mapping[str, Output]
    values: Mapping[str, Any] = field(default_factory=dict)
    ok: str = ""
    templates: str | os.PathLike[str] | None = None
    timeout: float = 3600.0
    name: str = "command"
    tails: tuple[str, ...] = ()

    @property
    def words(self) -> Sequence[str]:
        """See `Code`."""
        return self.command

    def record(self) -> dict[str, Any]:
        """See `Code`; templates by what they say."""
        return {
            "command": list(self.command),
            "inputs": dict(self.inputs),
            "outputs": {k: {"kind": type(o).__name__, **vars(o)} for k, o in self.outputs.items()},
            "values": dict(self.values),
            "ok": self.ok,
            "templates": None if self.templates is None else os.fspath(self.templates),
        }

    def measure(
        self, folder: str | os.PathLike[str], values: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Runs the program without a structure.

        Args:
            folder: where; made where it is not there.
            values: on top of the record's.

        Returns:
            the outputs: numbers, or nested lists of them.

        Raises:
            InvalidArgument: a wrong template or output.
            CodeFailed: it stopped, hung, or an output is not there.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        self._fill(place, {**self.values, **(values or {})})
        execute(self.name, self.words, place, self.timeout, self.environment(), self.tails)
        try:
            return self._found(place)
        except FileFormatError as error:
            raise self.failed(place, str(error)) from error

    def write(self, atoms: Atoms, folder: Path) -> None:
        """See `Code`."""
        seen = {
            "title": atoms.get_chemical_formula(),
            "symbols": species(atoms),
            "positions": atoms.positions.tolist(),
            "cell": np.asarray(atoms.cell).tolist(),
            "pbc": [bool(p) for p in atoms.pbc],
            "masses": atoms.get_masses().tolist(),
        }
        self._fill(folder, {**self.values, **seen})

    def _fill(self, folder: Path, values: Mapping[str, Any]) -> None:
        for output in self.outputs.values():
            if output.file not in self.inputs and _FILE.fullmatch(output.file):
                (folder / output.file).unlink(missing_ok=True)
        for name, template in self.inputs.items():
            if not _FILE.fullmatch(name):
                raise InvalidArgument(f"inputs: {name!r} is no bare name of a file")
            write_text(folder / name, render(template, values, self.templates))

    def read(self, atoms: Atoms, folder: Path) -> Atoms:
        """See `Code`."""
        found = self._found(folder)
        try:
            done = labelled(atoms, *(found.get(name) for name in _LABELS))
        except InvalidArgument as error:
            raise FileFormatError(str(error)) from error
        for name, value in found.items():
            if name not in _LABELS:
                done.info[name] = value
        done.info["code"] = self.name
        return done

    def _found(self, folder: Path) -> dict[str, Any]:
        if self.ok:
            text = read_bytes(folder / "code.out", 64 << 20, "code.out").decode("utf-8", "replace")
            if not re.search(self.ok, text):
                raise FileFormatError(f"code.out: nothing fits {self.ok!r}, the sign of success")
        return {name: self._value(name, output, folder) for name, output in self.outputs.items()}

    def _value(self, name: str, output: Output, folder: Path) -> Any:
        value = output.find(folder)
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise FileFormatError(f"{output.file}: {name} is no number: {value!r:.60}") from None
        if not np.isfinite(array).all():
            raise FileFormatError(f"{output.file}: {name} is not finite")
        if name in UNITS and output.unit:
            array = array * factor(name, output.unit)
        return array.tolist()
