"""Extended XYZ without loss: what is written is read back to the last bit.

ASE's writer keeps eight decimals; this one keeps all. Files are of the same dialect, so ASE reads
them too; ASE parses the comment line here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore.data.source import TextSource
from mlcore.errors import InvalidArgument
from mlcore.forcefield.structures.labels import full_stress, labels

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["MOST_ATOMS", "MOST_BYTES", "frame_text", "read_frames"]

MOST_ATOMS = 10_000_000
"""Largest structure accepted, in atoms."""
MOST_BYTES = 4 << 30
"""Longest text accepted (after decompression), in bytes."""

BEAD = "bead"
"""Column of names of beads; in memory they are the array `species`."""

_SPECIES = ("species", "symbols", "element")
_POSITIONS = ("pos", "positions")
_OWN = ("Lattice", "Properties", "pbc", "energy", "stress")
_KINDS = {"R": float, "I": int}
_FLAGS = {"T": True, "F": False, "True": True, "False": False, "1": True, "0": False}
_NAME = re.compile(r"[^\s:=\"'{}\[\]\\,]+")


# ---------------------------------------------------------------------------------------- reading
def read_frames(path: str | os.PathLike[str]) -> Iterator[Atoms]:
    """The structures of an extxyz file, one by one; every label still under its name in the file.

    Raises:
        FileFormatError: the file is absent, cut or wrong; the message names file and line.
    """
    with TextSource(path) as source:
        used = 0
        while (line := source.next_frame()) is not None:
            n = source.integer(line, "number of atoms", least=1)
            if n > MOST_ATOMS:
                source.fail(f"number of atoms should be at most {MOST_ATOMS}, found {n}")
            comment = source.line("the comment line")
            info = _info(source, comment)
            rows = [source.line(f"row {k + 1} of {n}") for k in range(n)]
            used += len(comment) + sum(map(len, rows))
            if used > MOST_BYTES:
                source.fail(f"holds more than {MOST_BYTES} bytes of text")
            yield _atoms(source, rows, info)


def _info(source: TextSource, comment: str) -> dict[str, Any]:
    from ase.io.extxyz import key_val_str_to_dict

    try:
        return dict(key_val_str_to_dict(comment))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        source.fail(f"the comment line cannot be parsed: {error}")


def _atoms(source: TextSource, rows: list[str], info: dict[str, Any]) -> Atoms:
    from ase import Atoms

    fields = _fields(source, str(info.pop("Properties", "species:S:1:pos:R:3")))
    arrays = _columns(source, rows, fields)
    species = next((arrays.pop(s) for s in _SPECIES if s in arrays), None)
    positions = next((arrays.pop(p) for p in _POSITIONS if p in arrays), None)
    if positions is None or positions.shape != (len(rows), 3):
        source.fail("Properties should hold pos:R:3")
    if not np.isfinite(positions).all():
        source.fail("a position is not finite")
    numbers = _numbers(source, species, arrays)
    cell, pbc = _box(source, info)
    atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
    for name, array in arrays.items():
        atoms.set_array("species" if name == BEAD else name, array)
    atoms.info.update(info)
    return atoms


def _fields(source: TextSource, text: str) -> list[tuple[str, str, int]]:
    words = text.split(":")
    if len(words) % 3 or not all(words):
        source.fail(f"Properties should be NAME:TYPE:COLUMNS triples, found {text[:80]!r}")
    fields: list[tuple[str, str, int]] = []
    for name, kind, width in zip(words[::3], words[1::3], words[2::3], strict=True):
        if kind not in ("S", "R", "I", "L") or not re.fullmatch(r"[1-9]\d{0,3}", width):
            source.fail(f"Properties: {name}:{kind}:{width} is not NAME:TYPE:COLUMNS")
        if any(name == other for other, _, _ in fields):
            source.fail(f"Properties names {name} twice")
        fields.append((name, kind, int(width)))
    return fields


def _columns(
    source: TextSource, rows: list[str], fields: list[tuple[str, str, int]]
) -> dict[str, npt.NDArray[Any]]:
    width = sum(w for _, _, w in fields)
    tokens = [row.split() for row in rows]
    first = source.line_number - len(rows) + 1
    for k, words in enumerate(tokens):
        if len(words) != width:
            source.fail(f"{len(words)} columns, but {width} are announced", line=first + k)
    arrays: dict[str, npt.NDArray[Any]] = {}
    at = 0
    for name, kind, count in fields:
        block = [words[at : at + count] for words in tokens]
        at += count
        array = _array(source, block, kind, name, first)
        arrays[name] = array[:, 0] if count == 1 else array
    return arrays


def _array(
    source: TextSource, block: list[list[str]], kind: str, name: str, first: int
) -> npt.NDArray[Any]:
    try:
        if kind == "S":
            return np.array(block, dtype=str)
        if kind == "L":
            return np.array([[_FLAGS[w] for w in row] for row in block], dtype=bool)
        return np.array([list(map(_KINDS[kind], row)) for row in block])
    except (ValueError, KeyError, OverflowError):
        wanted = {"R": "numbers", "I": "integers", "L": "T or F"}[kind]
        for k, row in enumerate(block):
            if not _reads(row, kind):
                source.fail(
                    f"{name} should hold {wanted}, found {' '.join(row)[:60]!r}", line=first + k
                )
        source.fail(f"{name} should hold {wanted}")


def _reads(row: list[str], kind: str) -> bool:
    try:
        [_FLAGS[w] if kind == "L" else _KINDS[kind](w) for w in row]
    except (ValueError, KeyError):
        return False
    return True


def _numbers(
    source: TextSource, species: npt.NDArray[Any] | None, arrays: dict[str, npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    from ase.data import atomic_numbers

    if species is None:
        if "Z" not in arrays:
            source.fail("Properties should hold species:S:1 or Z:I:1")
        numbers = arrays.pop("Z")
        if numbers.dtype.kind != "i" or numbers.min() < 0 or numbers.max() > 118:
            source.fail("Z should hold atomic numbers")
        return numbers
    strange = sorted(set(map(str, species)) - set(atomic_numbers))
    if strange:
        source.fail(f"species {', '.join(strange)[:60]} is no chemical symbol (X: none)")
    return np.array([atomic_numbers[str(s)] for s in species])


def _box(source: TextSource, info: dict[str, Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    lattice, told = info.pop("Lattice", None), info.pop("pbc", None)
    cell = np.zeros((3, 3))
    if lattice is not None:
        # ASE hands back the nine numbers as a matrix whose columns are the lattice vectors
        try:
            cell = np.array(lattice, dtype=float).reshape(3, 3).T.copy()
        except (ValueError, TypeError):
            source.fail(f"Lattice should be 9 numbers, found {lattice!r:.80}")
    if not np.isfinite(cell).all():
        source.fail("Lattice is not finite")
    try:
        given = lattice is not None if told is None else told
        pbc = np.array(np.broadcast_to(np.asarray(given, dtype=bool), (3,)))
    except (ValueError, TypeError):
        source.fail(f"pbc should be one or three of T and F, found {told!r:.60}")
    if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
        source.fail(f"the lattice vectors of the periodic axes span no volume: {cell.tolist()}")
    return cell, pbc


# ---------------------------------------------------------------------------------------- writing
def frame_text(atoms: Atoms) -> tuple[str, list[str]]:
    """One structure as text, and what the format cannot hold, in words.

    Energy, forces and stress are written under these names.

    Raises:
        InvalidArgument: an info entry or array has the name of a label and no calculator holds it.
    """
    from ase.data import chemical_symbols

    lost: list[str] = []
    known = labels(atoms)
    words = []
    if np.any(np.asarray(atoms.cell)) or atoms.pbc.any():
        words.append(f'Lattice="{_floats(np.asarray(atoms.cell).ravel())}"')
    arrays: dict[str, npt.NDArray[Any]] = {"pos": np.asarray(atoms.positions)}
    for name, array in atoms.arrays.items():
        if name in ("numbers", "positions"):
            continue
        if name == "species":
            name = BEAD
        elif name in ("forces", "pos", "Z", BEAD, *_SPECIES, *_POSITIONS):
            raise InvalidArgument(f"atoms: array {name!r} has the name of a column of the format")
        if _fits(name, array):
            arrays[name] = array
        else:
            lost.append(f"array {name} ({array.dtype} {array.shape[1:]})")
    if known.forces is not None:
        arrays["forces"] = known.forces
    words.append("Properties=species:S:1" + "".join(_property(n, a) for n, a in arrays.items()))
    words.append('pbc="' + " ".join("T" if p else "F" for p in atoms.pbc) + '"')
    if known.energy is not None:
        words.append(f"energy={known.energy!r}")
    if known.stress is not None:
        words.append(f'stress="{_floats(full_stress(known.stress).ravel())}"')
    for key, value in atoms.info.items():
        if key in _OWN:
            raise InvalidArgument(f"atoms: info {key!r} has the name of a field of the format")
        text = _entry(key, value)
        if text is None:
            lost.append(f"info {key} ({type(value).__name__})")
        else:
            words.append(text)
    if atoms.constraints:
        lost.append("constraints")
    blocks = [_words(a) for a in arrays.values()]
    symbols = [chemical_symbols[z] for z in atoms.numbers]
    rows = [" ".join((s, *cells)) for s, *cells in zip(symbols, *blocks, strict=True)]
    return "\n".join([str(len(atoms)), " ".join(words), *rows]) + "\n", lost


def _floats(values: Sequence[float] | npt.NDArray[Any]) -> str:
    return " ".join(repr(float(v)) for v in values)


def _fits(name: str, array: npt.NDArray[Any]) -> bool:
    if not _NAME.fullmatch(name) or array.ndim not in (1, 2) or 0 in array.shape:
        return False
    if array.dtype.kind in "US":
        words = array.ravel().tolist()
        return array.dtype.kind == "U" and all(
            re.fullmatch(r"\S+", w) and _is_text(w) for w in words
        )
    return array.dtype.kind in "bi" or array.dtype in (np.float64, np.float32)


def _property(name: str, array: npt.NDArray[Any]) -> str:
    letter = {"f": "R", "i": "I", "b": "L", "U": "S"}[array.dtype.kind]
    return f":{name}:{letter}:{1 if array.ndim == 1 else array.shape[1]}"


def _words(array: npt.NDArray[Any]) -> list[str]:
    forms: dict[str, Callable[[Any], str]] = {
        "f": repr,
        "i": str,
        "b": lambda v: "T" if v else "F",
        "U": str,
    }
    form = forms[array.dtype.kind]
    return [" ".join(map(form, row)) for row in array.reshape(len(array), -1).tolist()]


def _entry(key: Any, value: Any) -> str | None:
    """`key=value` that is read back as it was, or None."""
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        return None
    for form in (_plain, _json):
        text = form(value)
        if text is not None:
            word = f'{key}="{_escaped(text)}"' if not re.fullmatch(r"[\w.+-]+", text) else ""
            word = word or f"{key}={text}"
            if _survives(key, value, word):
                return word
    return None


def _escaped(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", text)


def _plain(value: Any) -> str | None:
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    if isinstance(value, int | float | np.integer | np.floating):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iuf":
        return " ".join(map(repr, value.tolist()))
    return None


def _json(value: Any) -> str | None:
    def known(item: Any) -> Any:
        if isinstance(item, np.ndarray | np.generic):
            return item.tolist()
        raise TypeError

    try:
        return "_JSON " + json.dumps(value, default=known)
    except (TypeError, ValueError, RecursionError):
        return None


def _is_text(word: str) -> bool:
    """Whether UTF-8 can hold it: half a surrogate pair it cannot."""
    return not re.search("[\ud800-\udfff]", word)


def _survives(key: str, value: Any, word: str) -> bool:
    from ase.io.extxyz import key_val_str_to_dict

    if "\n" in word or "\r" in word or not _is_text(word):
        return False
    try:
        back = key_val_str_to_dict(word)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return False
    return set(back) == {key} and _alike(value, back[key])


def _alike(a: Any, b: Any) -> bool:
    """Whether `b` is `a`; lists and arrays of the same numbers are, and so is 1 in a list of reals."""
    a, b = (v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in (a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return (
            isinstance(b, list)
            and len(a) == len(b)
            and all(_alike(x, y) for x, y in zip(a, b, strict=True))
        )
    numbers = (int, float)
    if isinstance(a, numbers) and isinstance(b, numbers):
        return isinstance(a, bool) == isinstance(b, bool) and (a == b or (a != a and b != b))
    return type(a) is type(b) and bool(a == b)
