"""The labelled set: 28,561 MoS2 sheets and the strain at which each failed in molecular dynamics.

The files are not part of mlcore (GPL v3): `dataset/` of github.com/rajak7/RL_kirigami, commit
83c60c8, the data behind P. Rajak et al., npj Computational Materials (2021).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import FileFormatError
from mlcore.io.tensors import read_bytes
from mlcore.sagesnet.kirigami.sheet import KINDS, LENGTHS, PLACES, ROWS, all_patterns

__all__ = ["FILES", "Labelled", "read_labelled"]

PATTERNS = "n_4_training_data_structure_info.txt"
STRAINS = "n_4_structure_MD_strain_stress_info.txt"
FILES = {
    PATTERNS: "c4ac43619e408ac34becfe45f743190303b2c71fcb6e2b26c90c87e9ec291567",
    STRAINS: "09297278b5e59080120e6b27513459e33faec331e0d431f5187ad4e94b21e6c8",
}
"""What the folder must hold, and its SHA-256."""

_LIMIT = 1 << 24
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_CUTS = ",".join([rf"\s*\({_NUMBER},{_NUMBER}\)\s*"] * ROWS)
_PATTERN = re.compile(rf"\s*(\d+)\s*,\s*\({_CUTS}\)\s*")


@dataclass(frozen=True)
class Labelled:
    """Patterns and what became of them.

    Attributes:
        cuts: (n, 4), see `mlcore.sagesnet.kirigami.sheet`; row i is the pattern of id i + 1.
        strain: (n,) strain at failure, %.
        stress: (n,) largest stress, GPa.
    """

    cuts: NDArray[np.int64]
    strain: NDArray[np.float64]
    stress: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cuts)


def read_labelled(folder: str | Path, *, known: bool = True) -> Labelled:
    """Read the two files of the set.

    Args:
        folder: that holds them.
        known: whether they must be, byte for byte, the files that mlcore was measured with.

    Raises:
        Error: a file cannot be read.
        FileFormatError: naming file and line of what is wrong.
    """
    text = {name: _text(Path(folder) / name, known) for name in FILES}
    cuts = _patterns(Path(folder) / PATTERNS, text[PATTERNS])
    strain, stress = _strains(Path(folder) / STRAINS, text[STRAINS])
    if len(cuts) != len(strain):
        raise FileFormatError(f"{folder}: {len(cuts)} patterns but {len(strain)} strains")
    expected = all_patterns()
    if len(cuts) != len(expected) or (cuts != expected).any():
        raise FileFormatError(
            f"{Path(folder) / PATTERNS}: must hold all {len(expected)} patterns in order"
        )
    return Labelled(cuts, strain, stress)


def _text(path: Path, known: bool) -> str:
    data = read_bytes(path, _LIMIT, "labelled set")
    if known and (found := hashlib.sha256(data).hexdigest()) != FILES[path.name]:
        raise FileFormatError(
            f"{path}: SHA-256 is {found}, not {FILES[path.name]}: another file than mlcore knows"
        )
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not a text file: {error}") from error


def _lines(path: Path, text: str) -> list[tuple[str, str]]:
    """Place and content of the lines that say something."""
    told = [(f"{path}: line {n}", line) for n, line in enumerate(text.splitlines(), 1)]
    return [(where, line) for where, line in told if line.strip() and not line.startswith("#")]


def _patterns(path: Path, text: str) -> NDArray[np.int64]:
    rows = []
    for number, (where, line) in enumerate(_lines(path, text), 1):
        match = _PATTERN.fullmatch(line)
        if match is None:
            raise FileFormatError(f"{where}: not an id and {ROWS} cuts: {line!r:.80}")
        _check_id(where, match[1], number)
        values = [float(value) for value in match.groups()[1:]]
        rows.append([_kind(where, *values[k : k + 2]) for k in range(0, 2 * ROWS, 2)])
    return np.array(rows, dtype=np.int64).reshape(-1, ROWS)


def _kind(where: str, begin: float, length: float) -> int:
    if (begin, length) == (0.0, 0.0):
        return 0
    if begin not in PLACES or length not in LENGTHS:
        raise FileFormatError(f"{where}: no cut of this set: begin {begin} A, length {length} A")
    kind = 1 + len(LENGTHS) * PLACES.index(begin) + LENGTHS.index(length)
    assert 0 < kind < KINDS
    return kind


def _strains(path: Path, text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = []
    for number, (where, line) in enumerate(_lines(path, text), 1):
        parts = line.split()
        try:
            values = [float(part) for part in parts[1:]]
        except ValueError as error:
            raise FileFormatError(f"{where}: {error}") from error
        if len(values) != 3 or not np.isfinite(values).all():
            raise FileFormatError(f"{where}: not an id and three numbers: {line!r:.80}")
        _check_id(where, parts[0], number)
        initial, broken, stress = values
        if not (initial > 0 and broken >= initial):
            raise FileFormatError(f"{where}: lengths must be 0 < initial <= broken: {line!r:.80}")
        rows.append((100.0 * (broken / initial - 1.0), stress))
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def _check_id(where: str, told: str, expected: int) -> None:
    if told != str(expected):
        raise FileFormatError(f"{where}: id must be {expected}, got {told!r:.20}")
