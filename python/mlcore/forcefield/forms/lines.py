"""Lines of LAMMPS input: what a record may say, and what is read from others' inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlcore.errors import FileFormatError, InvalidArgument

__all__ = ["check_lines", "read_lines", "read_text", "type_range"]

LARGEST = 64 * 2**20

# variables, quotes, continued lines and pipes are how an input could do something else
_ODD = re.compile(r"[$&\"'`;|<>\\{}\n]")
_COMMANDS = {
    "dielectric", "fix", "kspace_modify", "kspace_style", "neigh_modify", "pair_modify", "set",
    "special_bonds",
}  # fmt: skip
_FIXES = re.compile(r"^(qeq|acks2)/[a-z]+$|^(qtpie/reaxff)$")
# styles that run code of files they are given
_CODE = {"python", "mliappy", "unified", "kim", "mdi"}


def check_lines(pair_style: str, pair_coeff: Sequence[str], commands: Sequence[str]) -> None:
    """That a record tells LAMMPS about an interaction and nothing else.

    Raises:
        InvalidArgument: another command, a path out of the folder, or a style that runs code.
    """
    for line in (pair_style, *pair_coeff, *commands):
        if _ODD.search(line):
            raise InvalidArgument(f"line {line!r}: has {_ODD.search(line)[0]!r}")  # type: ignore[index]
        for word in line.split():
            if word.startswith(("/", "~", "..")) or "/../" in word:
                raise InvalidArgument(f"line {line!r}: files are named without a folder")
    for word in pair_style.split():
        if word in _CODE:
            raise InvalidArgument(f"pair_style {pair_style!r}: {word} would run code of a file")
    for line in pair_coeff:
        if line.split()[:1] != ["pair_coeff"]:
            raise InvalidArgument(f"pair_coeff: {line!r} must begin with pair_coeff")
    for line in commands:
        words = line.split()
        if words[0] not in _COMMANDS:
            raise InvalidArgument(
                f"commands: {words[0]!r} is not allowed, only {', '.join(sorted(_COMMANDS))}"
            )
        if words[0] == "fix" and not (len(words) > 3 and _FIXES.match(words[3])):
            raise InvalidArgument(f"commands: {line!r}: only charges may be fixed (qeq/...)")


def read_text(path: Path) -> str:
    """What stands in a file of at most 64 MiB.

    Raises:
        FileFormatError: it cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FileFormatError(f"{path}: is larger than {LARGEST} bytes")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None


def read_lines(path: Path) -> Iterable[list[str]]:
    """Words of each command of an input, comments taken out and continued lines joined."""
    text = re.sub(r"&\s*\n", " ", read_text(path))
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if any("$" in word for word in words):
            raise FileFormatError(f"{path}: variables are not followed: {line.strip()!r}")
        if words:
            yield words


def type_range(word: str, types: int) -> range:
    """Types (from 1) that LAMMPS' ``3``, ``*``, ``2*`` or ``1*2`` mean."""
    first, star, last = word.partition("*")
    try:
        low = int(first) if first else 1
        high = (int(last) if last else types) if star else low
    except ValueError:
        raise FileFormatError(f"atom types cannot be read from {word!r}") from None
    return range(low, min(high, types) + 1)
