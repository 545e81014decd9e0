"""``python -m mlcore.forcefield.parallel``: the engines, and whether they work here."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcore.cli.forcefield.say import AsJson, say

__all__ = ["app"]

app = typer.Typer(
    help="Engines that run candidates: here, in MPI ranks, on many nodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_engines(as_json: AsJson = False) -> None:
    """List the engines and their options."""
    from mlcore.parallel import ENGINES, options_of

    found = {name: options_of(name).model_json_schema() for name in ENGINES}
    lines = [f"{name:<12} {' '.join(told.get('properties', {}))}" for name, told in found.items()]
    say(found, "\n".join(lines), as_json)


@app.command()
def check(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="Name of an engine.")],
    workers: Annotated[int, typer.Option("--workers", min=1, help="How many.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Start an engine, let its workers count, end it; mpi as mpiexec -n N python -m ..."""
    from mlcore import parallel
    from mlcore.errors import Error

    with parallel.engine(engine, None if engine == "mpi" else workers) as made:  # type: ignore[arg-type]
        results = list(made.map(abs, range(-100, 0), timeout=60.0))
        count = made.workers
    failed = [str(result.error) for result in results if result.error is not None]
    if failed:
        raise Error(f"{engine}: {len(failed)} of 100 items failed: {failed[0]}")
    content = {"engine": engine, "workers": count, "items": len(results)}
    say(content, f"{engine}: {count} workers answered 100 items", as_json)
