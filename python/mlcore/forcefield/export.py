"""A fitted potential as a folder that stock LAMMPS runs, and that says what it is."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms import Interaction, Model
from mlcore.io.atomic import atomic_directory

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CARD", "SNIPPET", "STRUCTURE", "Bounds", "Card", "Provenance", "Validity", "export",
           "load", "validity"]  # fmt: skip

CARD = "card.json"
SNIPPET = "in.lammps"
STRUCTURE = "structure.data"
LARGEST = 64 * 2**20

Number = Annotated[float, Field(allow_inf_nan=False)]
Range = tuple[Number, Number]
_Kind = TypeVar("_Kind", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bounds(_Part):
    """Where a parameter could go in the fit."""

    lower: Number
    upper: Number
    scale: Literal["linear", "log"] = "linear"
    unit: str = ""
    free: bool = False


class Provenance(_Part):
    """Where a potential comes from.

    Attributes:
        authors: who made it.
        method: how it was fitted.
        data: what it was fitted to; names, hashes, addresses.
        notes: anything else that JSON can hold.
    """

    authors: tuple[str, ...] = ()
    method: str = ""
    data: tuple[str, ...] = ()
    notes: dict[str, Any] = {}


class Validity(_Part):
    """What the training data covered; beyond it the potential is a guess.

    Attributes:
        distances: closest distance of two species (``"Si-C"``), A.
        densities: lowest and highest, g/cm^3.
        temperatures: lowest and highest, K.
        text: in words.
    """

    distances: dict[str, Number] = {}
    densities: Range | None = None
    temperatures: Range | None = None
    text: str = ""


class FileOf(_Part):
    """Hash and size of a file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Told(_Part):
    """What whoever exports says of the potential."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")
    title: str = ""
    license: str = ""
    citation: tuple[str, ...] = ()
    provenance: Provenance = Provenance()
    errors: dict[str, dict[str, Number | str | None]] = {}
    validity: Validity = Validity()
    bounds: dict[str, Bounds] = {}


class Card(Told):
    """``card.json``: what a potential is, where it is from, how good it is and where.

    Attributes:
        model: record of the form and its species, as `Model.record`.
        form, species, units: the same for readers.
        values: all parameters.
        bounds: of the fit; of the form where nothing was told.
        errors: target -> numbers, such as ``{"rmse": 0.01, "unit": "eV/A"}``.
        files: all others of the folder.
        versions: of the programs.
        created: UTC, ISO 8601.
    """

    format: Literal["mlcore.forcefield.potential"] = "mlcore.forcefield.potential"
    version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")
    form: str
    species: tuple[str, ...]
    units: str
    model: dict[str, Any]
    values: dict[str, Number]
    files: dict[str, FileOf]
    versions: dict[str, str]
    created: str

    def missing(self) -> list[str]:
        """What a potential others may use should say and this card does not."""
        told = {
            "title (what it is, in a line)": self.title,
            "license (such as CC-BY-4.0)": self.license,
            "citation (what users should cite)": self.citation,
            "provenance.authors (who made it)": self.provenance.authors,
            "provenance.method (how it was fitted)": self.provenance.method,
            "provenance.data (what it was fitted to)": self.provenance.data,
            "errors (of each target)": self.errors,
            "validity.distances (closest in the training data, A)": self.validity.distances,
            "validity.densities (of the training data, g/cm^3)": self.validity.densities,
            "validity.temperatures (of the training data, K)": self.validity.temperatures,
        }
        return [what for what, value in told.items() if not value]


def export(
    model: Model,
    values: Mapping[str, float],
    folder: str | Path,
    *,
    card: Mapping[str, Any] | None = None,
    structure: Atoms | None = None,
) -> Card:
    """Writes a folder that stock LAMMPS runs, whole or not at all.

    It holds the potential's files, ``in.lammps``, ``structure.data`` and ``card.json``.
    ``lmp -in in.lammps`` in the folder prints the energy of the structure; in an input of one's
    own, after the box is made::

        variable folder index PATH
        include ${folder}/in.lammps

    Args:
        model: the form.
        values: of its parameters; defaults for those left out, auxiliary numbers are left away.
        folder: to be made; one that is there is replaced.
        card: what is known of the potential: ``name``, ``title``, ``license``, ``citation``,
            ``provenance``, ``errors``, ``validity``, ``bounds`` (see `Card`).
        structure: an example; otherwise a small crystal of all species.

    Returns:
        The card.

    Raises:
        InvalidArgument: values or card are wrong; the message names the field.
        Error: the folder cannot be written.
    """
    own = model.complete({name: v for name, v in values.items() if name in model.names})
    told = _validated(Told, dict(card or {}), InvalidArgument, "card")
    interaction = model.render(own)
    if not interaction.cutoff > 0:
        raise InvalidArgument(f"values: the cutoff is {interaction.cutoff}")
    now = datetime.datetime.now(datetime.UTC)
    files = {name: _dated(text, now) for name, text in interaction.files.items()}
    title = told.title or f"{model.form.title} for {' '.join(s.label for s in model.species)}"
    files[SNIPPET] = snippet(model, interaction, title)
    files[STRUCTURE] = _data_file(structure, model, interaction)
    made = _card(model, own, told, files, now)
    with atomic_directory(folder) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text)
        (temporary / CARD).write_text(_json(made))
    return made


def load(folder: str | Path) -> tuple[Model, dict[str, float], Card]:
    """The model, the values and the card of an exported folder.

    Raises:
        FileFormatError: a file is missing, changed, or not what the card's values give.
    """
    folder = Path(folder)
    card = read_card(folder / CARD)
    try:
        model = Model.from_record(card.model)
        values = model.complete(card.values)
        interaction = model.render(values)
    except InvalidArgument as error:
        raise FileFormatError(f"{folder / CARD}: {error}") from None
    if set(card.values) != set(model.names):
        odd = sorted(set(card.values) ^ set(model.names))
        raise FileFormatError(f"{folder / CARD}: values: {odd[0]} is missing or too many")
    for name, expected in card.files.items():
        _check_file(folder / name, expected)
    for name, text in interaction.files.items():
        if name not in card.files:
            raise FileFormatError(f"{folder / CARD}: files: {name} is missing")
        if _words((folder / name).read_text()) != _words(text):
            raise FileFormatError(f"{folder / name}: is not what the card's values give")
    _check_snippet(folder / SNIPPET, snippet(model, interaction, ""))
    return model, values, card


def read_card(path: Path) -> Card:
    """The card in a file.

    Raises:
        FileFormatError: it cannot be read or is none.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FileFormatError(f"{path}: is larger than {LARGEST} bytes")
        told = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None
    card = _validated(Card, told, FileFormatError, str(path))
    for name in card.files:
        if not re.match(r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", name) or name == CARD:
            raise FileFormatError(f"{path}: files: {name!r} is no plain name of a file")
    return card


def validity(
    structures: Iterable[Atoms],
    model: Model,
    temperatures: Range | None = None,
    text: str = "",
    reach: float = 5.0,
) -> Validity:
    """What ``structures`` cover.

    Args:
        structures: the training data; species as the model's, by ``arrays["species"]`` or by
            chemical symbols.
        model: whose masses give the densities.
        temperatures: lowest and highest, K.
        text: in words.
        reach: pairs further apart, A, are not looked for.
    """
    from mlcore.neighbors import neighbor_list

    masses = {s.name: s.mass for s in model.species}
    closest: dict[str, float] = {}
    densities = []
    for atoms in structures:
        names = np.array(_names(atoms))
        i, j, d = neighbor_list("ijd", atoms, reach)
        for a, first in enumerate(masses):
            for second in list(masses)[a:]:
                own = d[(names[i] == first) & (names[j] == second)]
                if own.size:
                    key = f"{first}-{second}"
                    closest[key] = min(closest.get(key, np.inf), float(own.min()))
        if atoms.pbc.all():
            # g/mol per A^3
            densities.append(1.66053906660 * sum(masses[n] for n in names) / atoms.get_volume())
    return Validity(
        distances={key: round(value, 4) for key, value in closest.items()},
        densities=(round(min(densities), 4), round(max(densities), 4)) if densities else None,
        temperatures=temperatures,
        text=text,
    )


def snippet(model: Model, interaction: Interaction, title: str) -> str:
    """``in.lammps``: runs alone, and can be included once there is a box."""
    folder = "${folder}"

    def placed(line: str) -> str:
        return " ".join(f"{folder}/{w}" if w in interaction.files else w for w in line.split())

    lines = [
        f"# {' '.join(title.replace('&', 'and').split())}",
        "# alone: lmp -in in.lammps",
        "# in an input of your own, once there is a box: variable folder index PATH",
        "#                                               include ${folder}/in.lammps",
        f"# units {interaction.units}, atom_style {interaction.atom_style} (or one that has more);",
        "# atom types: " + ", ".join(f"{k + 1} {s.label}" for k, s in enumerate(model.species)),
        "variable folder index .",
        'if "$(extract_setting(box_exist)) == 0" then &',
        '  "variable alone index yes" &',
        f'  "units {interaction.units}" &',
        f'  "atom_style {interaction.atom_style}" &',
        f'  "read_data {folder}/{STRUCTURE}"',
        *(f"mass {k + 1} {s.mass!r}" for k, s in enumerate(model.species)),
        placed(f"pair_style {interaction.pair_style}"),
        *map(placed, interaction.pair_coeff),
        *map(placed, interaction.commands),
        'if "$(is_defined(variable,alone)) == 1" then &',
        '  "thermo_modify format float %.16g" &',
        '  "run 0"',
    ]
    return "\n".join(lines) + "\n"


def _card(
    model: Model,
    values: dict[str, float],
    told: Told,
    files: Mapping[str, str],
    now: datetime.datetime,
) -> Card:
    for name in told.bounds:
        if name not in values:
            raise InvalidArgument(f"card: bounds: {model.form.name} has no parameter {name}")
    bounds = {
        p.name: Bounds(lower=p.lower, upper=p.upper, scale=p.scale, unit=p.unit)
        for p in model.parameters
    }
    species = [s.label for s in model.species]
    plain = "-".join([model.form.name.replace("/", "-"), *(s.name for s in model.species)])
    said = {name: getattr(told, name) for name in Told.model_fields}
    said["name"] = told.name or plain[:100]
    said["citation"] = told.citation or ((model.form.citation,) if model.form.citation else ())
    said["bounds"] = bounds | told.bounds
    return Card(
        **said,
        form=model.form.name,
        species=tuple(species),
        units=model.form.units,
        model=model.record(),
        values=values,
        files={name: _hashed(text.encode()) for name, text in files.items()},
        versions=_versions(),
        created=now.isoformat(timespec="seconds"),
    )


def _hashed(data: bytes) -> FileOf:
    return FileOf(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _check_file(path: Path, expected: FileOf) -> None:
    try:
        size = path.stat().st_size
        found = _hashed(path.read_bytes()) if size == expected.bytes else None
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from None
    if found != expected:
        raise FileFormatError(f"{path}: was changed: its hash is not that of the card")


def _check_snippet(path: Path, expected: str) -> None:
    """An input of somebody else could do anything: it must be the very one we would write."""
    try:
        first, _, rest = path.read_text().partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None
    if not re.match(r"^#[^&]*$", first) or rest != expected.partition("\n")[2]:
        raise FileFormatError(f"{path}: is not the input of this potential")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("mlcore", "lammps", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _validated(
    kind: type[_Kind], told: Any, error: type[InvalidArgument | FileFormatError], where: str
) -> _Kind:
    try:
        return kind.model_validate(told)
    except ValidationError as found:
        first = found.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise error(f"{where}: {field}{': ' if field else ''}{first['msg']}") from None


def _json(card: Card) -> str:
    return json.dumps(card.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def _dated(text: str, now: datetime.datetime) -> str:
    """With the date where LAMMPS looks for it, in the first line."""
    first, end, rest = text.partition("\n")
    return f"{first.replace('UNITS:', f'DATE: {now:%Y-%m-%d} UNITS:', 1)}{end}{rest}"


def _words(text: str) -> list[str]:
    """Words of a potential file but for comments and its first line, which has the date."""
    first, _, rest = text.partition("\n")
    lines = rest.splitlines() if "UNITS:" in first else text.splitlines()
    return [word for line in lines for word in line.partition("#")[0].split()]


def _names(atoms: Atoms) -> list[str]:
    told = atoms.arrays.get("species")
    return [str(name) for name in told] if told is not None else atoms.get_chemical_symbols()


def _data_file(structure: Atoms | None, model: Model, interaction: Interaction) -> str:
    import io

    from ase.data import chemical_symbols
    from ase.io.lammpsdata import write_lammps_data

    atoms = structure if structure is not None else _crystal(model, interaction.cutoff)
    types = {s.name: k for k, s in enumerate(model.species)}
    try:
        kinds = [types[name] for name in _names(atoms)]
    except KeyError as error:
        raise InvalidArgument(f"structure: has {error.args[0]}, which the model lacks") from None
    if not atoms.cell.rank == 3:
        raise InvalidArgument("structure: needs a cell")
    # LAMMPS knows types alone; any symbols will do for them
    symbols = chemical_symbols[1 : len(types) + 1]
    plain = atoms.copy()
    plain.set_constraint()
    for name in set(plain.arrays) - {"numbers", "positions"}:
        del plain.arrays[name]
    plain.set_chemical_symbols([symbols[k] for k in kinds])
    plain.pbc = True
    plain.wrap()
    file = io.StringIO()
    write_lammps_data(
        file, plain, specorder=list(symbols), atom_style=interaction.atom_style, masses=False
    )
    return file.getvalue()


def _crystal(model: Model, cutoff: float) -> Atoms:
    """A simple cubic crystal of all species, an example and no more."""
    from ase import Atoms
    from ase.data import covalent_radii

    from mlcore.forcefield.forms.species import atomic_number

    elements = [s for s in model.species if not s.bead]
    radii = [float(covalent_radii[atomic_number(s.name)]) for s in elements] or [0.35 * cutoff]
    spacing = 2.2 * max(radii)
    side = 2 * max(1, -(-len(model.species) // 2))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    atoms = Atoms(f"H{len(grid)}", spacing * grid, cell=[spacing * side] * 3, pbc=True)
    names: Sequence[str] = [s.name for s in model.species]
    kinds = np.array(names)[grid.sum(axis=1) % len(names)]
    atoms.set_array("species", kinds)
    return atoms
