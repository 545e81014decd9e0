"""``mlcore forcefield``: forms, data, fits and what follows from them; every command has ``--json``."""

from __future__ import annotations

import typer

from mlcore.cli.forcefield import active, data, fits, forms, judge, library

__all__ = ["app", "learn"]

_KEYS = {"no_args_is_help": True, "pretty_exceptions_enable": False}

learn = typer.Typer(help="Fit potentials, judge and export them.", **_KEYS)  # type: ignore[arg-type]
app = typer.Typer(help="Fit force fields that LAMMPS runs.", **_KEYS)  # type: ignore[arg-type]
app.add_typer(forms.app, name="model")
app.add_typer(data.app, name="data")
app.add_typer(library.app, name="library")
for part in (learn, app):
    for command in (*fits.COMMANDS, *judge.COMMANDS, *active.COMMANDS):
        part.command(command.__name__.strip("_"))(command)
