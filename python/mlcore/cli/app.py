"""The tree of commands; the commands of a domain live in that domain's ``cli`` module."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from mlcore import __version__
from mlcore.cli import DEBUG, doctor, export, forcefield, integrators, lammps, sagesnet, studio
from mlcore.cli.remote import remotely
from mlcore.mobility.cli import app as mobility_app

__all__ = ["app"]

app = typer.Typer(
    name="mlcore",
    help="Learns how particles move and runs what it learned at full speed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor")(doctor.show)
app.add_typer(export.app, name="export")
app.add_typer(forcefield.app, name="forcefield")
app.add_typer(integrators.app, name="integrators")
app.add_typer(lammps.app, name="lammps")
for one in mobility_app.registered_commands:
    if one.callback is not None and one.callback.__name__ == "demo":
        # studios are above the mobility's own commands
        one.callback = remotely("mobility")(one.callback)
app.add_typer(mobility_app, name="mobility")
app.add_typer(sagesnet.app, name="sagesnet")
app.add_typer(studio.app, name="studio")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlcore {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Tell the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"
        logging.basicConfig(level=logging.DEBUG)
        logging.getLogger("mlcore").setLevel(logging.DEBUG)
        for noisy in ("matplotlib", "PIL"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
