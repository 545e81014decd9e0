"""``--remote URL``: what a command would do here is done by a studio on another machine."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mlcore.studio.remote import Remote

__all__ = ["remotely"]

Address = Annotated[
    str | None,
    typer.Option("--remote", metavar="URL", help="Submit it to a studio; token: MLCORE_TOKEN."),
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Wait for it there, and bring what it made to OUT.")
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Holds the token.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Send the token where others can read it.")
]
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "remote": (Address, None),
    "follow": (Follow, False),
    "token_file": (TokenFile, None),
    "insecure": (Insecure, False),
}
_TOKEN = "MLCORE_TOKEN"
_PROGRAMS = (".py", ".pt", ".pth", ".pkl", ".so")
Prepared = tuple[dict[str, Any], dict[str, Any]]


def remotely(kind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command on a config, that also submits it as a task of this kind.

    The command has arguments ``config`` and ``out``.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=hints.get(p.name, p.annotation))
            for p in inspect.signature(command).parameters.values()
        ]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=of)
            for name, (of, value) in _OPTIONS.items()
        ]

        @functools.wraps(command)
        def either(**given: Any) -> None:
            told = {name: given.pop(name) for name in _OPTIONS}
            if told["remote"] is None:
                for name in ("follow", "token_file", "insecure"):
                    if told[name]:
                        raise typer.BadParameter(f"--{name.replace('_', '-')} is of --remote")
                command(**given)
            else:
                _sent(kind, given, **told)

        either.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        either.__annotations__ = {p.name: p.annotation for p in (*own, *more)} | {"return": None}
        return either

    return decorated


def _sent(
    kind: str,
    given: Mapping[str, Any],
    remote: str,
    follow: bool,
    token_file: Path | None,
    insecure: bool,
) -> None:
    from mlcore.errors import Error, InvalidArgument
    from mlcore.studio.remote import Remote

    config = given["config"]
    if config is None:
        raise InvalidArgument("CONFIG: name the file that is to be submitted")
    with Remote(remote, _token(token_file), insecure=insecure) as studio:
        sending = _Sending(studio)
        try:
            told, choice = _KINDS[kind](config, given, sending)
            task = studio.submit(kind, told, config.stem, **choice)
        except (Error, OSError):
            sending.withdraw()
            raise
        typer.echo(studio.page(task["id"]))
        if follow:
            _followed(studio, task["id"], _folder(given, config))


def _followed(studio: Remote, task: str, folder: Path) -> None:
    from mlcore.errors import Error

    try:
        ended = studio.follow(task, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        print(f"it goes on there: {studio.page(task)}", file=sys.stderr)
        raise
    for path in studio.fetch(task, folder):
        typer.echo(path)
    if ended["state"] == "failed":
        raise Error(f"{studio.page(task)}: {ended['error'] or 'failed'}")
    if ended["state"] != "done":
        typer.echo(f"{ended['state']}; go on with it at {studio.page(task)}", err=True)
        raise typer.Exit(130)


def _folder(given: Mapping[str, Any], config: Path) -> Path:
    """Where a command leaves what it makes."""
    if given.get("out") is not None:
        return Path(given["out"])
    folder = config.with_suffix("")
    return config.with_name(config.name + ".fit") if folder == config else folder


def _token(file: Path | None) -> str:
    from mlcore.errors import Error, InvalidArgument

    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Error(f"--token-file {file}: cannot be read: {error}") from None
    told = os.environ.get(_TOKEN, "").strip()
    if not told:
        raise InvalidArgument(f"--remote needs a token: set {_TOKEN}, or say --token-file FILE")
    return told


class _Sending:
    """Files that are sent, each once.

    Args:
        studio: they are sent to.
    """

    def __init__(self, studio: Remote) -> None:
        self._studio = studio
        self._made: list[str] = []
        self._known: dict[Path, str] = {}

    def file(self, path: Path) -> str:
        """The reference of a file."""
        from mlcore.errors import InvalidArgument

        path = path.resolve()
        if path.suffix.lower() in _PROGRAMS:
            raise InvalidArgument(f"{path}: files that hold programs are not sent")
        if path not in self._known:
            (self._known[path],) = self.files({path.name: path}, path.name).values()
        return self._known[path]

    def files(self, files: Mapping[str, Path], title: str) -> dict[str, str]:
        """References of files that make one data set, by the names they are given."""
        from mlcore.errors import Error

        told = self._studio.upload(files, title)
        self._made.append(told["id"])
        there = {one["name"] for one in told["summary"].get("files", ())}
        odd = sorted(set(files) - there)
        if odd:
            raise Error(f"{odd[0]}: the studio calls it otherwise; name it in plain letters")
        return {name: f"upload:{told['id']}/raw/{name}" for name in files}

    def several(self, paths: list[Path], title: str) -> str:
        """The reference of a data set of some files."""
        made = self.files({path.name: path for path in paths}, title)
        return next(iter(made.values())).partition("/")[0]

    def withdraw(self) -> None:
        """Throw away what was sent for nothing."""
        from mlcore.errors import Error

        for one in self._made:
            try:
                self._studio.discard(one)
            except Error as error:
                typer.echo(f"warning: {error}", err=True)


# -- configs whose files are data sets -------------------------------------------------------------
def _forcefield(config: Path, given: Mapping[str, Any], sending: _Sending) -> Prepared:
    from mlcore.forcefield.config import load
    from mlcore.forcefield.structures.dataset import read_manifest

    made = load(config)
    changes = {name: given[name] for name in ("budget", "seed") if given.get(name) is not None}
    told = made.record(config.parent)
    told["run"] = {**told.get("run", {}), **changes}
    start = made.parameters.start
    if not isinstance(start, dict):
        # files of potentials are read here: a fit begins with values
        files = start if isinstance(start, list) else [start]
        told["parameters"]["start"] = made.model.build().read(*files)
    if made.data is not None and made.data.folder is not None:
        folder = made.data.folder
        groups = read_manifest(folder).groups
        sent = sending.files({one.file: folder / one.file for one in groups}, folder.name)
        del told["data"]["folder"]
        more = {one.name: sent[one.file] for one in groups}
        told["data"]["files"] = {**told["data"].get("files", {}), **more}
    _named(made, told, sending)
    choice = {name: given[name] for name in ("engine", "workers") if given.get(name) is not None}
    return told, choice


def _named(made: BaseModel, told: Any, sending: _Sending) -> None:
    """Replace paths in the record of a config by what is sent."""
    names = type(made).model_fields if hasattr(type(made), "model_fields") else ()
    for name in names:
        if isinstance(told, dict) and name in told:
            told[name] = _value(getattr(made, name), told[name], sending)


def _value(value: Any, told: Any, sending: _Sending) -> Any:
    from pydantic import BaseModel

    if isinstance(value, Path):
        sent = not isinstance(told, str) or told.startswith("upload:")
        return told if sent else sending.file(value)
    if isinstance(value, BaseModel):
        _named(value, told, sending)
    elif isinstance(value, Mapping) and isinstance(told, dict):
        return {k: _value(value[k], v, sending) if k in value else v for k, v in told.items()}
    elif isinstance(value, list | tuple) and isinstance(told, list):
        return [_value(a, b, sending) for a, b in zip(value, told, strict=True)]
    return told


def _table(config: Path) -> dict[str, Any]:
    """A TOML file as it stands."""
    import tomllib

    from mlcore.errors import FileFormatError

    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError(f"{config}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{config}: not a TOML file: {error}") from None


def _mobility(config: Path, given: Mapping[str, Any], sending: _Sending) -> Prepared:
    from mlcore.mobility.config import load_config

    made, told = load_config(config), _table(config)
    if given.get("data") is not None:
        made = made.with_data(given["data"])
    if made.cost is not None:
        typer.echo("warning: cost: scripts are not run there; it is left out", err=True)
        del told["cost"]
    for name, section in made.data:
        if section is not None:
            told["data"][name]["files"] = sending.several(section.paths(made.folder), name)
    return told, {}


def _integrators(config: Path, given: Mapping[str, Any], sending: _Sending) -> Prepared:
    from mlcore.integrators.config import load_config

    made, told = load_config(config), _table(config)
    if made.fit.data is not None:
        told["fit"]["data"] = sending.file(config.resolve().parent / made.fit.data)
    return told, {}


def _sagesnet(config: Path, given: Mapping[str, Any], sending: _Sending) -> Prepared:
    from mlcore.sagesnet.config import load_config
    from mlcore.sagesnet.files import found

    made, told = load_config(config), _table(config)
    for section, own in zip(made.runs, told["runs"], strict=True):
        paths = found(section.files, config.resolve().parent)
        own["files"] = [sending.file(path) for path in paths]
    return told, {}


_KINDS: dict[str, Callable[[Path, Mapping[str, Any], _Sending], Prepared]] = {
    "forcefield": _forcefield,
    "mobility": _mobility,
    "integrators": _integrators,
    "sagesnet": _sagesnet,
}
