"""Structures and energies of the Materials Project (https://materialsproject.org), by their ids.

One request to the public REST API, `GET /materials/summary/`, for a page of ids; the key is sent in
the header `X-API-KEY` and goes into no file and no message. The data are under CC BY 4.0.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator

from mlcore.errors import BackendUnavailable, Error, FileFormatError, InvalidArgument
from mlcore.forcefield.structures.dataset import Group
from mlcore.forcefield.structures.labels import labelled
from mlcore.forcefield.structures.manifest import Provenance
from mlcore.io.tensors import parse_json
from mlcore.io.toml import wrong_fields

if TYPE_CHECKING:
    import httpx
    from ase import Atoms

__all__ = ["ENDPOINT", "FIELDS", "fetch"]

ENDPOINT = "https://api.materialsproject.org"
FIELDS = (
    "material_id",
    "formula_pretty",
    "structure",
    "energy_per_atom",
    "uncorrected_energy_per_atom",
    "energy_above_hull",
    "symmetry",
    "deprecated",
    "last_updated",
)
CITATION = "A. Jain et al., APL Materials 1, 011002 (2013), doi:10.1063/1.4812323"

_PAGE = 100
_MOST_BYTES = 64 << 20
_ID = re.compile(r"(mp|mvc)-\d{1,12}")
_AGAIN = (429, 500, 502, 503, 504)

Vector = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Species(BaseModel):
    element: str
    occu: float


class _Site(BaseModel):
    species: Annotated[list[_Species], Field(min_length=1)]
    abc: Vector
    properties: dict[str, Any] | None = None


class _Lattice(BaseModel):
    matrix: Annotated[list[Vector], Field(min_length=3, max_length=3)]
    pbc: tuple[bool, bool, bool] = (True, True, True)


class _Structure(BaseModel):
    lattice: _Lattice
    sites: Annotated[list[_Site], Field(min_length=1, max_length=100_000)]


class _Document(BaseModel):
    """What is taken of an answer; other fields are left alone."""

    material_id: str
    formula_pretty: str = ""
    structure: _Structure
    energy_per_atom: float | None = None
    uncorrected_energy_per_atom: float | None = None
    energy_above_hull: float | None = None
    symmetry: dict[str, Any] | None = None
    deprecated: bool = False
    last_updated: str = ""

    @field_validator("last_updated", mode="before")
    @classmethod
    def _date(cls, value: Any) -> Any:
        # written as text, or as {"$date": text} by older versions of the service
        return value.get("$date", "") if isinstance(value, dict) else value or ""


def fetch(
    ids: str | Iterable[str],
    *,
    key: str | None = None,
    corrected: bool = False,
    endpoint: str = ENDPOINT,
    transport: httpx.BaseTransport | None = None,
    timeout: float = 30.0,
    retries: int = 4,
    sleep: Callable[[float], None] = time.sleep,
) -> Group:
    """Structures with their energies as a group, in the order of the ids.

    Args:
        ids: such as "mp-149".
        key: of the API; left out, the setting `mp_api_key` of this machine, else the environment
            variable MP_API_KEY.
        corrected: take the energies with the Materials Project's corrections (for mixing GGA and
            GGA+U, and for anions), not those of the calculation.
        endpoint: address of the service.
        transport: what carries the requests; for tests without a network.
        timeout: of a request, s.
        retries: how often a request is made anew that met a busy service or a dropped connection.
        sleep: how to wait between them.

    Returns:
        labelled structures, eV and Angstrom; the id and what else was told stands in info.

    Raises:
        InvalidArgument: no key, the key was refused, a wrong id, or one that is not known.
        FileFormatError: the answer is not what the API promises.
        BackendUnavailable: the service cannot be reached, or stays busy; or httpx is missing.
    """
    wanted = _checked([ids] if isinstance(ids, str) else list(ids))
    found: dict[str, _Document] = {}
    with _client(_key(key), endpoint, transport, timeout) as client:
        for at in range(0, len(wanted), _PAGE):
            page = wanted[at : at + _PAGE]
            for document in _page(client, page, retries, sleep):
                found[document.material_id] = document
    missing = [i for i in wanted if i not in found]
    if missing:
        raise InvalidArgument(f"ids: the Materials Project knows no {', '.join(missing)}")
    documents = [found[i] for i in wanted]
    return Group(tuple(_atoms(d, corrected) for d in documents), _record(documents, corrected))


def _checked(ids: Sequence[str]) -> list[str]:
    wrong = [i for i in ids if not isinstance(i, str) or not _ID.fullmatch(i)]
    if wrong or not ids:
        raise InvalidArgument(f"ids must be such as 'mp-149', not {wrong or ids!r}")
    return list(dict.fromkeys(ids))


def _key(key: str | None) -> str:
    from mlcore.forcefield.settings import Settings

    told = None if key else Settings.load().mp_api_key
    found = key or (told and told.get_secret_value()) or os.environ.get("MP_API_KEY", "")
    if not re.fullmatch(r"[!-~]{1,200}", found):
        raise InvalidArgument(
            "key: the Materials Project needs one: make it at "
            "https://next-gen.materialsproject.org/api and set MP_API_KEY"
        )
    return found


def _client(
    key: str, endpoint: str, transport: httpx.BaseTransport | None, timeout: float
) -> httpx.Client:
    try:
        import httpx
    except ImportError:
        raise BackendUnavailable(
            "httpx is not installed; install it with: pip install 'mlcore[forcefield]'"
        ) from None
    if not endpoint.startswith("https://"):
        raise InvalidArgument(f"endpoint must start with https://, not {endpoint!r}")
    headers = {"X-API-KEY": key, "Accept": "application/json", "User-Agent": "mlcore"}
    return httpx.Client(base_url=endpoint, headers=headers, transport=transport, timeout=timeout)


def _page(
    client: httpx.Client, ids: Sequence[str], retries: int, sleep: Callable[[float], None]
) -> list[_Document]:
    asked = {"material_ids": ",".join(ids), "_fields": ",".join(FIELDS), "_limit": str(_PAGE)}
    answer = _answer(client, asked, retries, sleep)
    if len(answer.content) > _MOST_BYTES:
        raise FileFormatError(f"Materials Project: an answer of {len(answer.content)} bytes")
    table = parse_json(answer.content, "Materials Project")
    data = table.get("data") if isinstance(table, dict) else None
    if not isinstance(data, list):
        raise FileFormatError("Materials Project: the answer has no list `data`")
    try:
        return [_Document.model_validate(entry) for entry in data]
    except ValidationError as error:
        raise FileFormatError(f"Materials Project: {wrong_fields(error)}") from None


def _answer(
    client: httpx.Client,
    asked: Mapping[str, str],
    retries: int,
    sleep: Callable[[float], None],
) -> httpx.Response:
    import httpx

    for attempt in range(retries + 1):
        try:
            answer = client.get("/materials/summary/", params=asked)
        except httpx.TransportError as error:
            problem = f"cannot be reached: {type(error).__name__}: {error}"
            wait = 2.0**attempt
        else:
            if answer.status_code == 200:
                return answer
            if answer.status_code not in _AGAIN:
                raise _refused(answer)
            problem = f"is busy: status {answer.status_code} {_detail(answer)}".rstrip()
            wait = _wait(answer, attempt)
        if attempt < retries:
            sleep(min(wait, 60.0))
    raise BackendUnavailable(f"Materials Project {problem} ({retries + 1} attempts)")


def _wait(answer: httpx.Response, attempt: int) -> float:
    told = answer.headers.get("Retry-After", "")
    return float(told) if re.fullmatch(r"\d{1,4}", told) else 2.0**attempt


def _refused(answer: httpx.Response) -> Error:
    status, told = answer.status_code, _detail(answer)
    if status in (401, 403):
        return InvalidArgument(f"key: the Materials Project refuses it (status {status}): {told}")
    if status == 404:
        return BackendUnavailable(
            f"Materials Project: nothing is at {answer.url.path} (404): {told}"
        )
    if status == 422:
        return InvalidArgument(f"ids: the Materials Project refuses them (422): {told}")
    return BackendUnavailable(f"Materials Project: status {status}: {told}")


def _detail(answer: httpx.Response) -> str:
    """What the service says; on one line, without control characters."""
    try:
        table = answer.json()
        told = table.get("detail", table.get("message", "")) if isinstance(table, dict) else ""
    except ValueError:
        told = answer.text
    if isinstance(told, list):
        told = "; ".join(str(t.get("msg", t)) if isinstance(t, dict) else str(t) for t in told)
    return re.sub(r"\s+", " ", "".join(c for c in str(told) if c.isprintable() or c.isspace()))[
        :300
    ]


def _atoms(document: _Document, corrected: bool) -> Atoms:
    from ase import Atoms
    from ase.data import atomic_numbers

    where = f"Materials Project, {document.material_id}"
    symbols = []
    for site in document.structure.sites:
        (first, *others) = site.species
        if others or abs(first.occu - 1) > 1e-6:
            raise FileFormatError(f"{where}: a site is shared or partly filled")
        if first.element not in atomic_numbers:
            raise FileFormatError(f"{where}: {first.element!r:.20} is no element")
        symbols.append(first.element)
    lattice = document.structure.lattice
    scaled = np.array([site.abc for site in document.structure.sites])
    cell = np.array(lattice.matrix)
    sound = np.isfinite(scaled).all() and np.isfinite(cell).all()
    if not sound or not abs(np.linalg.det(cell)) > 0:
        raise FileFormatError(f"{where}: the cell has no volume, or numbers are not finite")
    atoms = Atoms(symbols, scaled_positions=scaled, cell=cell, pbc=lattice.pbc)
    plain, mixed = document.uncorrected_energy_per_atom, document.energy_per_atom
    energy = mixed if corrected else plain
    atoms.info["material_id"] = document.material_id
    for name, value in (("mp_energy_per_atom", mixed), ("mp_uncorrected_energy_per_atom", plain)):
        if value is not None:
            atoms.info[name] = value
    if document.energy_above_hull is not None:
        atoms.info["energy_above_hull"] = document.energy_above_hull
    symbol = (document.symmetry or {}).get("symbol")
    if isinstance(symbol, str):
        atoms.info["spacegroup"] = symbol[:40]
    if document.deprecated:
        atoms.info["deprecated"] = True
    return labelled(atoms, None if energy is None else energy * len(atoms))


def _record(documents: Sequence[_Document], corrected: bool) -> Provenance:
    notes = [
        "energies: " + ("with the Materials Project's corrections" if corrected else "uncorrected")
    ]
    notes += [f"{d.material_id} is deprecated" for d in documents if d.deprecated]
    name = "energy_per_atom" if corrected else "uncorrected_energy_per_atom"
    ids = ", ".join(d.material_id for d in documents)
    return Provenance(
        source=f"Materials Project: {ids}",
        method="DFT (VASP; functional as the Materials Project tells by id)",
        date=max((d.last_updated[:10] for d in documents), default=""),
        citation=CITATION,
        license="CC BY 4.0",
        key_map={"energy": name},
        units={"energy": "eV per atom"},
        notes=tuple(notes),
    )
