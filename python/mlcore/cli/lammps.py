"""``mlcore lammps``: build the plugin, tell where it is, run stock LAMMPS with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Build and use the LAMMPS plugin (fix mlmod, fix mlcore).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def build(
    force: Annotated[bool, typer.Option("--force", help="Compile even when up to date.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the compiler's output.")] = False,
    no_torch: Annotated[
        bool, typer.Option("--no-torch", help="Native engine alone, no .pt and .pt2 files.")
    ] = False,
    lammps_source: Annotated[
        Path | None,
        typer.Option(
            "--lammps-source", metavar="DIR", help="LAMMPS' source tree to build against."
        ),
    ] = None,
) -> None:
    """Compile the plugin against the LAMMPS and torch of this environment (about a minute)."""
    import mlcore.lammps

    typer.echo(mlcore.lammps.build(force, verbose, not no_torch, lammps_source))


@app.command()
def path() -> None:
    """Print where the plugin is."""
    import mlcore.lammps

    typer.echo(mlcore.lammps.plugin_path())


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    script: Annotated[Path, typer.Argument(metavar="IN.FILE", help="LAMMPS input script.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Further words for lmp.")
    ] = None,
    ranks: Annotated[int, typer.Option("-n", "--ranks", min=1, help="MPI ranks.")] = 1,
) -> None:
    """Run stock `lmp` on IN.FILE with the plugin loaded."""
    import mlcore.lammps

    raise typer.Exit(mlcore.lammps.run(script, ranks, arguments or ()))
