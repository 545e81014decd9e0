"""The face of a program that computes energies, forces and stresses of structures.

A code writes its inputs into a folder, runs a command there, and reads what came out. What it reads
is checked: a program that ends well but did not converge, or moved the atoms, has failed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlcore.errors import Error, FileFormatError
from mlcore.forcefield.codes.process import CodeFailed, execute, last_lines
from mlcore.forcefield.structures.extxyz import frame_text, read_frames
from mlcore.forcefield.structures.labels import labelled, labels, take_labels
from mlcore.io.atomic import write_text

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.parallel import Engine

__all__ = ["Code", "label"]

RESULT = "labelled.extxyz"
ASKED = "asked.json"


class Code(ABC):
    """A program that labels structures; codes are small frozen records, so workers can be sent them.

    Attributes:
        name: for messages and provenance.
        timeout: s, for one structure.
        tails: files whose last lines are told when it fails.
    """

    name: str = "code"
    timeout: float = 3600.0
    tails: tuple[str, ...] = ()

    @property
    @abstractmethod
    def words(self) -> Sequence[str]:
        """The command, a list of words; it runs in the folder."""

    @abstractmethod
    def write(self, atoms: Atoms, folder: Path) -> None:
        """Writes the inputs for a structure."""

    @abstractmethod
    def read(self, atoms: Atoms, folder: Path) -> Atoms:
        """The labelled structure, atoms in the order of `atoms`.

        Raises:
            FileFormatError: an output is absent, cut or wrong.
            CodeFailed: the program did not converge.
        """

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """All that its answers depend on, JSON."""

    def environment(self) -> dict[str, str]:
        """Variables on top of the present ones."""
        return {}

    def label(self, atoms: Atoms, folder: str | os.PathLike[str]) -> Atoms:
        """Runs the program on one structure.

        Args:
            atoms: the structure.
            folder: where it runs; made where it is not there. When it holds the answer to the same
                question already, that is taken.

        Returns:
            a labelled copy of `atoms`: eV, eV/Angstrom, eV/Angstrom^3.

        Raises:
            InvalidArgument: a structure, setting or command that cannot be.
            CodeFailed: it stopped, hung, did not converge, or its output cannot be read; with the
                last lines it wrote.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        asked = self._asked(atoms)
        known = _answered(place, asked)
        if known is not None:
            return known
        for name in (RESULT, ASKED):
            (place / name).unlink(missing_ok=True)
        self.write(atoms, place)
        execute(self.name, self.words, place, self.timeout, self.environment(), self.tails)
        try:
            found = self.read(atoms, place)
        except FileFormatError as error:
            raise self.failed(place, str(error)) from error
        self._check(atoms, found, place)
        found = _onto(atoms, found)
        write_text(place / RESULT, frame_text(found)[0])
        write_text(place / ASKED, json.dumps(asked, indent=1) + "\n")
        return found

    def failed(self, folder: Path, why: str) -> CodeFailed:
        """The error, with what the program said."""
        return CodeFailed(
            self.name, folder, why, last_lines(folder, ("code.out", "code.err", *self.tails))
        )

    def _asked(self, atoms: Atoms) -> dict[str, Any]:
        """The question: settings, structure, and every input file as it would be written now."""
        bare = atoms.copy()
        bare.info = {}
        bare.calc = None
        bare.set_constraint()
        with tempfile.TemporaryDirectory() as there:
            self.write(atoms, Path(there))
            files = {p.name: _digest(p.read_bytes()) for p in sorted(Path(there).iterdir())}
        asked = {
            "code": self.name,
            "record": self.record(),
            "structure": _digest(frame_text(bare)[0].encode()),
            "inputs": files,
        }
        return cast("dict[str, Any]", json.loads(json.dumps(asked)))

    def _check(self, atoms: Atoms, found: Atoms, folder: Path) -> None:
        from ase.geometry import find_mic

        if len(found) != len(atoms) or (found.numbers != atoms.numbers).any():
            raise self.failed(folder, "the atoms of its output are others than those it was given")
        off, _ = find_mic(found.positions - atoms.positions, atoms.cell, atoms.pbc)
        cell = np.abs(np.asarray(found.cell) - np.asarray(atoms.cell)).max()
        if max(np.abs(off).max(), cell) > 1e-4:
            raise self.failed(folder, "it moved the atoms or changed the cell")
        results = found.calc.results if found.calc is not None else {}
        if not results:
            raise self.failed(folder, "it gave no energy, forces or stress")
        if not all(np.isfinite(value).all() for value in results.values()):
            raise self.failed(folder, "it gave numbers that are not finite")


def _onto(atoms: Atoms, found: Atoms) -> Atoms:
    """The labels on the structure as it was asked about, whatever images a code took."""
    known = labels(found)
    done = labelled(atoms, known.energy, known.forces, known.stress)
    done.info.update(found.info)
    return done


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _answered(folder: Path, asked: dict[str, Any]) -> Atoms | None:
    """The answer that the folder holds, if it is to this question."""
    try:
        if json.loads((folder / ASKED).read_text(encoding="utf-8")) != asked:
            return None
        (atoms,) = read_frames(folder / RESULT)
    except (OSError, ValueError):
        return None
    return take_labels(atoms)[0]


def label(
    code: Code,
    structures: Iterable[Atoms],
    folder: str | os.PathLike[str],
    engine: Engine | None = None,
) -> Iterator[Atoms | CodeFailed]:
    """Labels many structures, each in a folder of its own, named by its number.

    Folders that hold their answer already are not run again, so a run that was stopped goes on.

    Args:
        code: the program.
        structures: what to label.
        folder: what the folders are made in.
        engine: of `mlcore.parallel`; left out, one structure after the other in this process.

    Returns:
        of each structure the labelled one, or the error: one that fails does not stop the others.
    """
    place = Path(folder)
    tasks = ((code, atoms, place / f"{k:06d}") for k, atoms in enumerate(structures))
    if engine is None:
        yield from map(_one, tasks)
        return
    # the code's own clock ends its program, so it must strike first
    results = engine.map(_one, tasks, timeout=code.timeout + 60.0, chunk=1)
    for k, result in enumerate(results):
        if result.error is None:
            yield cast("Atoms | CodeFailed", result.value)
        else:
            yield CodeFailed(code.name, place / f"{k:06d}", f"its worker: {result.error.message}")


def _one(task: tuple[Code, Atoms, Path]) -> Atoms | CodeFailed:
    code, atoms, folder = task
    try:
        return code.label(atoms, folder)
    except CodeFailed as error:
        return error
    except Error as error:
        return CodeFailed(code.name, folder, str(error))
