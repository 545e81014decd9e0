"""``mlcore forcefield model``: the functional forms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcore.cli.forcefield.say import AsJson, numbers, say

if TYPE_CHECKING:
    from mlcore.forcefield.forms import Model

__all__ = ["app"]

app = typer.Typer(
    help="Functional forms: what there is, their parameters, values in files.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Name = Annotated[
    str, typer.Argument(metavar="FORM", help="Name of a form, or a file that holds one.")
]
SpeciesOption = Annotated[
    list[str] | None,
    typer.Option("--species", help="Element, or bead as bead:W; repeat it, in LAMMPS' order."),
]
Masses = Annotated[
    list[str] | None, typer.Option("--mass", help="NAME=g/mol, of beads; may be repeated.")
]


@app.command("list")
def list_forms(as_json: AsJson = False) -> None:
    """List all forms; with --json their whole records."""
    from mlcore.forcefield.forms import forms

    found = forms()
    lines = [f"{name:<20} {form.title}" for name, form in found.items()]
    records = [form.model_dump(mode="json") for form in found.values()]
    say(records, "\n".join(lines), as_json)


@app.command()
def show(
    form: Name, species: SpeciesOption = None, mass: Masses = None, as_json: AsJson = False
) -> None:
    """Show a form: its parameters, made out for species where they are given."""
    from mlcore.forcefield.forms import form as find

    if species:
        made = _made(form, species, mass)
        parameters = [p.model_dump(mode="json") for p in made.parameters]
        record = made.form.model_dump(mode="json") | {"made out": parameters}
    else:
        found = find(form)
        parameters = [p.model_dump(mode="json") for p in found.parameters]
        record = found.model_dump(mode="json")
    lines = [f"{record['name']}: {record['title']}", record["citation"], ""]
    for p in parameters:
        span = f"{p['lower']:g} to {p['upper']:g}{', log' if p['scale'] == 'log' else ''}"
        lines.append(f"{p['name']:<16} {p['default']:<14g} {span:<28} {p['unit']:<8} {p['text']}")
    say(record, "\n".join(lines), as_json)


@app.command()
def read(
    form: Name,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="As LAMMPS reads them.")],
    species: SpeciesOption = None,
    mass: Masses = None,
    as_json: AsJson = False,
) -> None:
    """Tell the values of a form's parameters in potential files."""
    values = _made(form, species or [], mass).read(*files)
    say(values, "\n".join(f"{name:<20} {value!r}" for name, value in values.items()), as_json)


def _made(form: str, species: list[str], mass: list[str] | None) -> Model:
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.forms import model

    if not species:
        raise InvalidArgument("--species: name at least one")
    return model(form, species, numbers(mass or [], "--mass"))
