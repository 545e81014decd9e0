"""``python -m mlcore.parallel``: which engines there are, and a try of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from mlcore.errors import Error, InvalidArgument
from mlcore.parallel import EngineSettings, engine
from mlcore.parallel.available import availability, mpi_launcher
from mlcore.parallel.selftest import Verdict, try_out

app = typer.Typer(
    add_completion=False,
    help="Engines that run a map over workers.",
    pretty_exceptions_enable=False,
)

_JOB = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback(invoke_without_command=True)
def engines(context: typer.Context, as_json: Json = False) -> None:
    """List the engines and whether they can be used here."""
    if context.invoked_subcommand is not None:
        return
    found = availability()
    if as_json:
        print(json.dumps([asdict(entry) for entry in found]))
        return
    for entry in found:
        state = "ready  " if entry.available else "missing"
        print(f"{entry.name:10} {state}  {entry.about}")
        if entry.reason:
            print(f"{'':20} {entry.reason}")
    print("\nTry one: python -m mlcore.parallel run processes --workers 2")


@app.command()
def run(
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="Name of an engine.")],
    workers: Annotated[int | None, typer.Option(min=1, help="How many run at once.")] = None,
    options: Annotated[str, typer.Option(help="The engine's options, a JSON object.")] = "{}",
    file: Annotated[
        Path | None, typer.Option(help="A fit's YAML or JSON file: its `run: engine:` is tried.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute pi by map and reduce; fails when an item is lost or a bit is wrong."""
    if name == "mpi" and not any(variable in os.environ for variable in _JOB):
        raise typer.Exit(_as_mpi_job(workers or 2, as_json))
    try:
        settings = _settings(name, file)
        with engine(settings, workers=workers, **_checked(options)) as started:
            count, verdict = started.workers, try_out(started)
    except Error as error:
        _fail(name, error, as_json)
    _tell(name, count, verdict, as_json)
    if not verdict.passed:
        raise typer.Exit(1)


def _settings(name: str, file: Path | None) -> EngineSettings:
    """Those of a file, for two workers where there is none."""
    found: dict[str, Any] = {"workers": 2} if file is None else _section(file)
    try:
        return EngineSettings.model_validate(found | {"name": name})
    except ValidationError as error:
        raise InvalidArgument(f"engine: {error.errors()[0]['msg']}") from None


def _section(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InvalidArgument(f"--file {file}: {error}") from None
    run = content.get("run", content) if isinstance(content, dict) else None
    section = run.get("engine") if isinstance(run, dict) else None
    if not isinstance(section, dict):
        raise InvalidArgument(f"--file {file}: it has no section `run: engine:`")
    return section


def _checked(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"--options: {error}") from None
    if not isinstance(options, dict):
        raise InvalidArgument("--options: a JSON object is needed")
    return options


def _as_mpi_job(workers: int, as_json: bool) -> int:
    """A program cannot become an MPI job; it can start one."""
    try:
        launcher: Path = mpi_launcher()
    except Error as error:
        _fail("mpi", error, as_json)
    command = [str(launcher), "-n", str(workers + 1), sys.executable, "-m", "mlcore.parallel"]
    return subprocess.run([*command, "run", "mpi", *(["--json"] if as_json else [])]).returncode


def _fail(name: str, error: Error, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"engine": name, "passed": False, "error": str(error)}))
    else:
        print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(1)


def _tell(name: str, workers: int, verdict: Verdict, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"engine": name, "workers": workers, **asdict(verdict)}))
    elif verdict.passed:
        print(f"{name}, {workers} workers: pi = {verdict.value:.6f}, the bits as they must be")
        print(f"{verdict.seconds:.1f} s in all, {verdict.rate:.0f} items/s that do nothing")
    else:
        print(f"{name}: FAILED: {verdict.error}", file=sys.stderr)


if __name__ == "__main__":
    app(prog_name="python -m mlcore.parallel")
