"""Config files: YAML or JSON, read without surprises; paths in them start at their folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, SerializationInfo, ValidationInfo
from pydantic_core import PydanticSerializationUnexpectedValue

from mlcore.errors import FileFormatError

__all__ = ["Location", "read_tree"]

_BYTES = 16 << 20


def read_tree(path: str | os.PathLike[str]) -> Any:
    """What a YAML or JSON file holds.

    Numbers are what they look like (``1e-3`` too) and words stay words (``no``, ``on``): the core
    schema of YAML 1.2.

    Raises:
        FileFormatError: the file is absent or too large, no YAML or JSON, or names a field twice.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _BYTES:
            raise FileFormatError(f"{file}: is no config: larger than {_BYTES >> 20} MiB")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file}: not text in UTF-8: {error}") from error
    return _json(file, text) if file.suffix == ".json" else _yaml(file, text)


def _json(file: Path, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                raise FileFormatError(f"{file}: field {name} is there twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{file}: no JSON: {error}") from error


def _yaml(file: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise FileFormatError(f"{file}: no YAML: {' '.join(str(error).split())}") from error


def _loader() -> Any:
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        """Safe, with the scalars of YAML 1.2."""

        yaml_implicit_resolvers: Any = {}  # noqa: RUF012

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            for name, count in Counter(n for n in names if isinstance(n, Hashable)).items():
                if count > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"field {name} is there twice", node.start_mark
                    )
            found: dict[Hashable, Any] = super().construct_mapping(node, deep)
            return found

    for tag, pattern, first in (
        ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
        ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
        ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
        (
            "float",
            r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
            list("-+.0123456789"),
        ),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)
    Loader.add_constructor("tag:yaml.org,2002:float", _float)
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
    return Loader


def _float(loader: Any, node: Any) -> float:
    return float(node.value)


def _absolute(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return path if base is None else Path(base, path.expanduser()).resolve()


def _relative(path: Path, info: SerializationInfo) -> str:
    if not isinstance(path, Path):
        # a field that may be something else too is asked as each of them
        raise PydanticSerializationUnexpectedValue(f"no path: {path!r}")
    base = (info.context or {}).get("base") if isinstance(info.context, dict) else None
    return str(path) if base is None else os.path.relpath(path, base)


Location = Annotated[Path, AfterValidator(_absolute), PlainSerializer(_relative)]
"""A path, seen from the folder of the config that names it."""
