"""``mlcore forcefield library``: potentials others may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlcore.cli.forcefield.say import AsJson, say

__all__ = ["app"]

app = typer.Typer(
    help="A library of potentials: publish, search, download.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Where = Annotated[
    str | None,
    typer.Option("--library", help="Folder, or address; that of the settings where left out."),
]


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of an exported potential.")],
    library: Where = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Instead of one of the same name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put an exported potential into a library; its card must be complete."""
    from mlcore.forcefield.library import publish as put

    found = put(folder, _place(library), replace=replace)
    say(found.model_dump(mode="json"), f"{found.name} in {_place(library)}", as_json)


@app.command()
def search(
    library: Where = None,
    species: Annotated[
        list[str] | None, typer.Option("--species", help="It must know; may be repeated.")
    ] = None,
    form: Annotated[str | None, typer.Option("--form", help="Name of its form.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Words it must hold.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for potentials in a library."""
    from mlcore.forcefield.library import search as look

    found = look(_place(library), species=species, form=form, text=text)
    lines = [f"{one.name:<28} {one.title}" for one in found] or ["nothing found"]
    say([one.model_dump(mode="json") for one in found], "\n".join(lines), as_json)


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="In the library.")],
    to: Annotated[Path, typer.Argument(metavar="TO", help="Folder to be made.")],
    library: Where = None,
    as_json: AsJson = False,
) -> None:
    """Bring a potential here, whole and checked."""
    from mlcore.forcefield.library import download as bring

    found = bring(name, _place(library), to)
    say({"folder": found}, str(found), as_json)


def _place(library: str | None) -> str:
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.settings import Settings

    place = library or Settings.load().library
    if place is None:
        raise InvalidArgument("--library: name a folder or an address, here or in the settings")
    return str(place)
