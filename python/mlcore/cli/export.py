"""``mlcore export``: check bundles, make their code anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Check bundles, make their code anew.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")]


@app.command()
def verify(bundle: Bundle) -> None:
    """Check hashes and shapes of BUNDLE, and that all its engines give the same.

    The TorchScript and .pt2 files in it are code and are run, after their hashes have been checked.
    """
    import mlcore.export

    for name, found in mlcore.export.verify(bundle).items():
        typer.echo(f"{name + ':':<13}{found}")


@app.command()
def rebuild(
    bundle: Bundle,
    compiled: Annotated[
        bool, typer.Option("--compiled/--no-compiled", help="Compile .pt2 files (AOTInductor).")
    ] = True,
    instruction_set: Annotated[
        str | None,
        typer.Option("--instruction-set", help="baseline, avx2 or avx512; default: this machine."),
    ] = None,
) -> None:
    """Make the TorchScript and .pt2 files of BUNDLE anew from its weights, for this machine."""
    import mlcore.export

    made = mlcore.export.rebuild(bundle, compiled=compiled, instruction_set=instruction_set)
    errors = ", ".join(f"{n} {e:.1e}" for n, e in made.manifest["verified"].items())
    typer.echo(f"{bundle}: engines {', '.join(made.engines)}; relative errors {errors}")
