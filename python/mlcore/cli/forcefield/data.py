"""``mlcore forcefield data``: training data in, looked at, changed and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcore.cli.forcefield.say import AsJson, numbers, pairs, say

if TYPE_CHECKING:
    from mlcore.forcefield.structures import Dataset

__all__ = ["app"]

app = typer.Typer(
    help="Training data: structures with energies, forces and stresses.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Folder = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set, or a file.")]
Out = Annotated[
    Path, typer.Option("--out", help="Folder of the data set; added to if it is there.")
]


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of structures.")],
    out: Out,
    group: Annotated[
        str | None, typer.Option("--group", help="Name of the group; of each file's own otherwise.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="Of the files; told by their names otherwise.")
    ] = None,
    units: Annotated[
        str | None, typer.Option("--units", help="metal or real, of files of LAMMPS.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="energy=NAME in the files; may be repeated.")
    ] = None,
    element: Annotated[
        list[str] | None, typer.Option("--element", help="Of LAMMPS' types, in order; repeat it.")
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Each n-th structure.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Read structures of many formats into a data set on disk."""
    from mlcore.forcefield.structures import Dataset, read_group

    found = _known(out)
    for file in files:
        one = read_group(
            file,
            kind,
            key_map=pairs(key, "--key") if key else None,
            units=units,
            elements=element,
            every=every,
        )
        name = group or file.name.partition(".")[0]
        if group and name in found.groups:
            found = found.joined(name, one)
        else:
            found = found.merge(Dataset({name: one}))
    _save(found, out, as_json)


@app.command()
def check(
    data: Folder,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also a picture.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is usually wrong with data; exit code 1 where something certainly is."""
    import json

    from mlcore.forcefield.structures import check as look

    found = look(_loaded(data))
    if plot is not None:
        found.plot(plot)
    say(json.loads(found.json()), str(found), as_json)
    if found.errors:
        raise typer.Exit(1)


@app.command()
def show(data: Folder, as_json: AsJson = False) -> None:
    """Tell groups, structures, labels and provenance."""
    found = _loaded(data)
    say(_told(found), found.table(), as_json)


@app.command()
def pull(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="mp: the Materials Project.")],
    out: Out,
    ids: Annotated[list[str], typer.Option("--ids", help="Such as mp-149; may be repeated.")],
    group: Annotated[str, typer.Option("--group", help="Name of the group.")] = "materials project",
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Energies with the project's corrections.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Get structures of a database; its key is a setting, or the environment variable MP_API_KEY."""
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.structures import Dataset, fetch

    if source != "mp":
        raise InvalidArgument(f"SOURCE: {source!r}; mp is the one there is")
    wanted = [one.strip() for word in ids for one in word.split(",")]
    found = _known(out)
    found = found.merge(Dataset({group: fetch(wanted, corrected=corrected)}))
    _save(found, out, as_json)


@app.command("map")
def map_(
    data: Folder,
    out: Out,
    bead: Annotated[
        list[str], typer.Option("--bead", help="NAME=FORMULA, such as W=H2O; may be repeated.")
    ],
    center: Annotated[
        str, typer.Option("--center", help="mass, or the symbol of the atom a bead sits on.")
    ] = "mass",
    rest: Annotated[str, typer.Option("--rest", help="Other molecules: error or drop.")] = "error",
    reference: Annotated[
        list[str] | None,
        typer.Option("--reference", help="NAME=eV taken off each bead; or fit, for all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make beads of molecules, for coarse graining."""
    from mlcore.forcefield.structures import ByFormula, coarse_grained

    told = reference or []
    references: Any = "fit" if told == ["fit"] else numbers(told, "--reference")
    rule = ByFormula(pairs(bead, "--bead"), center=center, rest=rest)
    found, taken = coarse_grained(_loaded(data), rule, references or None)
    lost = found.save(out)
    content = _told(found) | {"references": taken, "left behind": lost}
    say(content, f"{out}: {found!r}\nenergies less {taken} eV of each bead", as_json)


@app.command()
def export(
    data: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="extxyz, or another by its name.")],
    group: Annotated[
        list[str] | None, typer.Option("--group", help="These groups alone; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the structures of a data set to a file."""
    from mlcore.forcefield.structures import write_structures

    found = _loaded(data)
    chosen = found.only(*group) if group else found
    lost = write_structures(file, chosen.structures)
    content = {"file": file, "structures": len(chosen), "left behind": lost}
    say(content, "\n".join([f"{file}: {len(chosen)} structures", *lost]), as_json)


def _loaded(path: Path) -> Dataset:
    from mlcore.forcefield.structures import Dataset, read_group

    if path.is_dir():
        return Dataset.load(path)
    return Dataset({path.name.partition(".")[0]: read_group(path)})


def _known(out: Path) -> Dataset:
    """What is to be added to; nothing where the folder is not there, or empty."""
    from mlcore.forcefield.structures import Dataset

    return Dataset.load(out) if out.is_dir() and any(out.iterdir()) else Dataset()


def _save(data: Dataset, out: Path, as_json: bool) -> None:
    lost = data.save(out)
    content = _told(data) | {"folder": out, "left behind": lost}
    say(content, "\n".join([f"{out}: {data!r}", data.table(), *lost]), as_json)


def _told(data: Dataset) -> dict[str, Any]:
    return {
        "name": data.name,
        "structures": len(data),
        "species": list(data.species),
        "hash": data.hash,
        "groups": {
            name: {
                "structures": len(group.structures),
                "provenance": group.provenance.model_dump(mode="json"),
            }
            for name, group in data.groups.items()
        },
    }
