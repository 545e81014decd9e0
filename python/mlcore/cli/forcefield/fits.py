"""``mlcore forcefield init, fit, resume, status, cancel, export, report, schema``."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcore.cli.forcefield.say import AsJson, plain, say
from mlcore.cli.remote import remotely

if TYPE_CHECKING:
    from mlcore.forcefield.config import Config
    from mlcore.forcefield.run.result import Result

__all__ = ["COMMANDS"]

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML or JSON; see mlcore forcefield init.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a fit.")]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="serial, processes, mpi, parsl, dask, or here: no workers."),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Of the engine.")]
Html = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html at the end.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No bar.")]


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a commented config that runs as it is (silicon), and its data."""
    from mlcore.forcefield.config.begin import begin

    config = begin(folder)
    say({"config": config}, f"{config}: run it by  mlcore forcefield fit {config}", as_json)


@remotely("forcefield")
def fit(
    config: ConfigFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the fit; CONFIG without its ending.")
    ] = None,
    budget: Annotated[int | None, typer.Option("--budget", min=1, help="Evaluations.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the search.")] = None,
    engine: EngineOption = None,
    workers: Workers = None,
    report: Html = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fit what CONFIG asks for; with --json every event and the result, one line each."""
    from mlcore.forcefield.config import load

    told = load(config)
    folder = out or config.with_suffix("")
    if folder == config:
        folder = config.with_name(config.name + ".fit")
    changes = {"budget": budget, "seed": seed}
    told = _changed(told, changes, engine, workers)
    _drive(told, folder, report, quiet, as_json, resume=False)


def resume(
    folder: Folder,
    engine: EngineOption = None,
    workers: Workers = None,
    report: Html = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a fit that was cancelled, failed or killed."""
    from mlcore.forcefield.config import load

    told = _changed(load(folder), {}, engine, workers)
    _drive(told, folder, report, quiet, as_json, resume=True)


def status(folder: Folder, as_json: AsJson = False) -> None:
    """Tell where a fit stands."""
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.run.events import read_state

    told = read_state(folder)
    if told is None:
        raise InvalidArgument(f"DIR: {folder} holds no fit")
    say(told, ", ".join(f"{name} {value}" for name, value in told.items()), as_json)


def cancel(folder: Folder, as_json: AsJson = False) -> None:
    """Ask the driver of a fit to stop; the fit can be resumed."""
    from mlcore.forcefield.run import cancel as ask

    state = ask(folder)
    say({"state": state}, f"{folder}: {state}", as_json)


def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the potential.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the potential.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="What it is, in a line.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Such as CC-BY-4.0; for a library.")
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option("--author", help="May be repeated; for a library.")
    ] = None,
    citation: Annotated[
        list[str] | None, typer.Option("--citation", help="May be repeated; for a library.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the potential of a fit as LAMMPS reads it, with its card."""
    from mlcore.forcefield.config import load
    from mlcore.forcefield.export import CARD
    from mlcore.forcefield.run.card import export_fit
    from mlcore.forcefield.run.finish import read_measured
    from mlcore.forcefield.run.result import Result

    told = {"name": name, "title": title, "license": license_, "citation": citation,
            "provenance": {"authors": author} if author else None}  # fmt: skip
    card = export_fit(
        load(folder).setup(folder),
        Result.load(folder),
        out,
        measured=read_measured(folder),
        card={key: value for key, value in told.items() if value},
    )
    files = [*card.files, CARD]
    say({"folder": out, "files": files}, "\n".join(str(out / file) for file in files), as_json)


def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file; report.html in DIR otherwise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a fit: one HTML file, pictures inside."""
    from mlcore.forcefield.report import write

    file = write(folder, out)
    say({"report": file}, str(file), as_json)


def schema(
    search: Annotated[
        str | None, typer.Option("--search", help="Options of this search instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the JSON schema of a config (it is JSON with and without --json)."""
    from mlcore.forcefield.config import schema as whole
    from mlcore.forcefield.search import describe

    content = whole() if search is None else describe(search)
    say(content, json.dumps(content, indent=1), as_json)


def settings(as_json: AsJson = False) -> None:
    """Show the settings of this machine, and where each is from."""
    from mlcore.forcefield.settings import Settings

    found = Settings.load()
    say(found.record(), found.show(), as_json)


COMMANDS = (init, fit, resume, status, cancel, export, report, schema, settings)


def _changed(
    told: Config, changes: Mapping[str, Any], engine: str | None, workers: int | None
) -> Config:
    """The config with what this machine, and above it the command line, say.

    A file of settings says what the config leaves out; the environment goes before both.
    """
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.settings import Settings
    from mlcore.parallel import ENGINES, EngineSettings

    if engine is not None and engine not in (*ENGINES, "here"):
        raise InvalidArgument(f"--engine: {engine!r}; one of {', '.join(ENGINES)}, here")
    machine = Settings.load()
    names = {"engine": "engine", "workers": "workers", "timeout": "evaluation_timeout"}
    found: dict[str, Any] = {}
    for name, other in names.items():
        origin = machine.origin(other)
        stronger = origin.startswith("environment") or name not in told.run.model_fields_set
        if origin != "default" and stronger:
            found[name] = getattr(machine, other)
    for name, value in {**changes, "engine": engine, "workers": workers}.items():
        if value is not None:
            found[name] = value
    asked = told.run.engine
    if isinstance(asked, EngineSettings) and found.get("engine") == asked.name:
        # its options are for this engine
        found["engine"] = asked
    return told.model_copy(update={"run": told.run.model_copy(update=found)})


def _drive(
    told: Config, folder: Path, report: bool, quiet: bool, as_json: bool, resume: bool
) -> None:
    from mlcore.errors import Error
    from mlcore.forcefield.run import Fit, ranks_apart

    ranks_apart(told.run.settings())
    progress: Any = _line if as_json else not quiet and sys.stderr.isatty()
    task = Fit(told.setup(folder), folder, resume=resume, progress=progress)
    try:
        with _terminated():
            found = task.run()
    except KeyboardInterrupt:
        typer.echo(f"resume it by  mlcore forcefield resume {folder}", err=True)
        raise
    if found.state == "done" and report:
        from mlcore.forcefield.report import write

        write(folder)
    if as_json:
        _line({"event": "result", **plain(found.record())})
    else:
        typer.echo(str(found))
    _judged(found)
    if found.state == "cancelled":
        typer.echo(f"resume it by  mlcore forcefield resume {folder}", err=True)
        raise typer.Exit(130)
    if found.total is None:
        raise Error(f"no candidate could be evaluated: {_most(found)}")
    if not found.verified.agrees:
        raise Error(f"the score of {folder} was NOT REPRODUCED: {found.verified.words}")


def _judged(found: Result) -> None:
    for name in found.at_bounds:
        typer.echo(f"warning: {name} is at a bound", err=True)


def _most(found: Result) -> str:
    """The words most candidates failed with."""
    told = sorted(found.failures.items(), key=lambda one: -one[1])
    return f"{told[0][1]} times {told[0][0]}" if told else "no word of it"


def _line(event: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(event, allow_nan=False))


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """A wish to end, of a batch system too, is taken as Ctrl-C is: the fit can be resumed."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
