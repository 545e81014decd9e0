"""A collection of potentials: publish, search, download, withdraw.

A library is a folder, here or behind an address: ``index.json`` and one folder of `export` for
each potential. Nothing of it is code: cards and potential files are data, hashes are compared on
the way in and on the way out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.export import CARD, Card, FileOf, load
from mlcore.io.atomic import atomic_directory, write_text

__all__ = ["Entry", "download", "publish", "search", "withdraw"]

INDEX = "index.json"
LARGEST_INDEX = 16 * 2**20
LARGEST_FILE = 64 * 2**20
LARGEST = 256 * 2**20
MOST_FILES = 64
SECONDS = 30.0

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$"


class Entry(BaseModel):
    """A potential in the index.

    Attributes:
        name, title, form, species, authors, citation, license, created: as its card has them.
        files: all of its folder, card included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    title: str
    form: str
    species: tuple[str, ...]
    authors: tuple[str, ...]
    citation: tuple[str, ...]
    license: str
    created: str
    files: dict[str, FileOf]

    @field_validator("files")
    @classmethod
    def _plain(cls, files: dict[str, FileOf]) -> dict[str, FileOf]:
        if CARD not in files or len(files) > MOST_FILES:
            raise ValueError(f"must be at most {MOST_FILES}, among them {CARD}")
        for name, told in files.items():
            if not re.match(_NAME, name):
                raise ValueError(f"{name!r} is no plain name of a file")
            if told.bytes > LARGEST_FILE:
                raise ValueError(f"{name} is larger than {LARGEST_FILE} bytes")
        if sum(told.bytes for told in files.values()) > LARGEST:
            raise ValueError(f"are larger than {LARGEST} bytes together")
        return files


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mlcore.forcefield.library"] = "mlcore.forcefield.library"
    version: Literal[1] = 1
    potentials: dict[str, Entry] = {}

    @field_validator("potentials")
    @classmethod
    def _same_names(cls, potentials: dict[str, Entry]) -> dict[str, Entry]:
        for name, entry in potentials.items():
            if name != entry.name:
                raise ValueError(f"{name} is called {entry.name} inside")
        return potentials


def publish(folder: str | Path, library: str | Path, *, replace: bool = False) -> Entry:
    """Puts an exported folder into a library on this machine, which is made where there is none.

    Args:
        folder: of `mlcore.forcefield.export`; its card must say where the potential is from, how
            good it is and for what.
        library: folder of the library.
        replace: whether a potential of the same name gives way.

    Raises:
        InvalidArgument: the card lacks what others need to know (all of it is listed), or the
            name is taken.
        FileFormatError: the folder is not what its card says.
        Error: the library cannot be written.
    """
    if "://" in str(library):
        raise InvalidArgument(f"library: publish to a folder, got the address {library}")
    folder, library = Path(folder), Path(library)
    _, _, card = load(folder)
    missing = card.missing()
    if missing:
        raise InvalidArgument(f"{folder / CARD}: is missing {'; '.join(missing)}")
    entry = _entry(folder, card)
    library.mkdir(parents=True, exist_ok=True)
    with _locked(library):
        index = _local_index(library)
        if entry.name in index.potentials and not replace:
            raise InvalidArgument(f"{library}: a potential called {entry.name} is there already")
        with atomic_directory(library / entry.name) as temporary:
            for name in entry.files:
                shutil.copyfile(folder / name, temporary / name)
            load(temporary)
        potentials = dict(sorted({**index.potentials, entry.name: entry}.items()))
        told = _Index(potentials=potentials).model_dump(mode="json")
        write_text(library / INDEX, json.dumps(told, indent=1) + "\n")
    return entry


def withdraw(name: str, library: str | Path) -> None:
    """Takes a potential out of a library on this machine.

    Raises:
        InvalidArgument: no potential of that name.
        FileFormatError: there is no library.
        Error: the library cannot be written.
    """
    library = Path(library)
    _index(library)  # says whether there is one before a lock is put there
    with _locked(library):
        potentials = _index(library).potentials
        if name not in potentials:
            raise InvalidArgument(f"name: {library} has no {name!r}")
        told = _Index(potentials={k: v for k, v in potentials.items() if k != name})
        write_text(library / INDEX, json.dumps(told.model_dump(mode="json"), indent=1) + "\n")
        shutil.rmtree(library / name, ignore_errors=True)


def search(
    library: str | Path,
    *,
    species: Sequence[str] | None = None,
    form: str | None = None,
    text: str | None = None,
) -> list[Entry]:
    """Potentials of a library, by name.

    Args:
        library: a folder, or an address (``http``, ``https``, ``file``).
        species: those the potential must know; it may know more.
        form: name of its form.
        text: words, all of which stand somewhere in name, title, form, authors or citation.

    Raises:
        InvalidArgument: an address of another kind.
        FileFormatError: there is no library.
        Error: the address does not answer.
    """
    if isinstance(species, str):
        raise InvalidArgument(f"species must be a list of names, got the text {species!r}")
    wanted = set(species or ())
    words = (text or "").casefold().split()
    return [
        entry
        for entry in _index(library).potentials.values()
        if wanted <= set(entry.species)
        and form in (None, entry.form)
        and all(word in _all_text(entry) for word in words)
    ]


def download(name: str, library: str | Path, to: str | Path) -> Path:
    """Brings a potential here, whole and checked, or not at all.

    Args:
        name: in the library.
        library: a folder, or an address (``http``, ``https``, ``file``).
        to: folder to be made.

    Returns:
        That folder, for `mlcore.forcefield.load` and LAMMPS.

    Raises:
        InvalidArgument: no potential of that name, or ``to`` is there already.
        FileFormatError: a file's hash is not that of the index, or the card does not fit.
        Error: the address does not answer, or the disk cannot be written.
    """
    to = Path(to)
    if to.exists():
        raise InvalidArgument(f"to: {to} is there already")
    index = _index(library)
    if name not in index.potentials:
        raise InvalidArgument(
            f"name: {library} has no {name!r}; it has {', '.join(index.potentials) or 'nothing'}"
        )
    entry = index.potentials[name]
    with atomic_directory(to) as temporary:
        for file, told in entry.files.items():
            data = _read(library, f"{name}/{file}", told.bytes)
            if len(data) != told.bytes or hashlib.sha256(data).hexdigest() != told.sha256:
                raise FileFormatError(f"{library}: {name}/{file}: its hash is not the index's")
            (temporary / file).write_bytes(data)
        _, _, card = load(temporary)
        if _described(card) != entry.model_dump(exclude={"files"}):
            raise FileFormatError(f"{library}: {name}: the index does not say what its card says")
    return to


def _described(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "title": card.title,
        "form": card.form,
        "species": card.species,
        "authors": card.provenance.authors,
        "citation": card.citation,
        "license": card.license,
        "created": card.created,
    }


def _entry(folder: Path, card: Card) -> Entry:
    data = (folder / CARD).read_bytes()
    own = FileOf(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    try:
        return Entry(**_described(card), files={**card.files, CARD: own})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(f"{folder}: {first['loc'][0]}: {first['msg']}") from None


def _all_text(entry: Entry) -> str:
    parts = (entry.name, entry.title, entry.form, *entry.authors, *entry.citation)
    return " ".join(parts).casefold()


@contextmanager
def _locked(library: Path) -> Iterator[None]:
    """One who publishes at a time."""
    with (library / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _local_index(library: Path) -> _Index:
    return _index(library) if (library / INDEX).exists() else _Index()


def _index(library: str | Path) -> _Index:
    data = _read(library, INDEX, LARGEST_INDEX)
    try:
        return _Index.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise FileFormatError(f"{library}: {INDEX}: {field}: {first['msg']}") from None


def _read(library: str | Path, path: str, limit: int) -> bytes:
    """At most ``limit`` bytes of a file of the library."""
    if "://" not in str(library):
        return _of_folder(Path(library), path, limit)
    address = str(library)
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme == "file":
        folder = urllib.request.url2pathname(urllib.parse.urlsplit(address).path)
        return _of_folder(Path(folder), path, limit)
    if scheme not in ("http", "https"):
        raise InvalidArgument(f"library: an address begins with http, https or file, got {address}")
    return _of_address(f"{address.rstrip('/')}/{urllib.parse.quote(path)}", limit)


def _of_folder(library: Path, path: str, limit: int) -> bytes:
    file = library / path
    try:
        # a link could lead anywhere
        if not file.resolve().is_relative_to(library.resolve()):
            raise FileFormatError(f"{file}: leads out of the library")
        with file.open("rb") as opened:
            data = opened.read(limit + 1)
    except OSError as error:
        raise FileFormatError(f"{file}: cannot be read: {error.strerror}") from None
    return _capped(data, limit, str(file))


def _of_address(address: str, limit: int) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            data: bytes = answer.read(limit + 1)
    except urllib.error.HTTPError as error:
        raise FileFormatError(f"{address}: {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise Error(f"{address}: does not answer: {error}") from None
    return _capped(data, limit, address)


def _capped(data: bytes, limit: int, where: str) -> bytes:
    if len(data) > limit:
        raise FileFormatError(f"{where}: is larger than {limit} bytes")
    return data
