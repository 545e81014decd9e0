"""Input files of other programs, from Jinja2 templates.

A template is looked for in the folder of the argument, then in that of the setting `templates` of
this machine (`mlcore.forcefield.settings`), then among those that come with mlcore. Templates run in
a sandbox: they see the values they are given and nothing else. A name that has no value is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.errors import InvalidArgument
from mlcore.forcefield.settings import Settings

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["folders", "names", "render"]

_OWN = Path(__file__).resolve().parents[1] / "templates"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_MOST_CHARACTERS = 64 << 20


def folders(user: str | os.PathLike[str] | None = None) -> list[Path]:
    """Where templates are looked for, first the ones that win.

    Raises:
        InvalidArgument: a folder that was told is not there.
    """
    machine = Settings.load()
    told = [("templates", user), (machine.origin("templates"), machine.templates)]
    found = []
    for name, folder in told:
        if folder is not None:
            if not Path(folder).is_dir():
                raise InvalidArgument(f"{name}: no folder {os.fspath(folder)}")
            found.append(Path(folder).resolve())
    return [*found, _OWN]


def names(user: str | os.PathLike[str] | None = None) -> list[str]:
    """All templates that can be named, such as `vasp/INCAR.j2`."""
    return sorted(
        {
            path.relative_to(folder).as_posix()
            for folder in folders(user)
            for path in folder.rglob("*.j2")
        }
    )


@lru_cache(maxsize=16)
def _environment(places: tuple[Path, ...]) -> SandboxedEnvironment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(list(places)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["number"] = _number
    environment.filters["one_line"] = _one_line
    return environment


def _number(value: Any) -> str:
    """All digits of a number, and nothing of NumPy's."""
    item = value.item() if hasattr(value, "item") else value
    return repr(float(item)) if isinstance(item, float) else str(item)


def _one_line(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).strip()


def render(name: str, values: Mapping[str, Any], user: str | os.PathLike[str] | None = None) -> str:
    """The text of a template.

    Args:
        name: such as `vasp/INCAR.j2`.
        values: by name.
        user: a folder whose templates go before others of the same name.

    Raises:
        InvalidArgument: no such template, or it is wrong; with its name and line.
    """
    from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError

    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"template: {name!r} is no name of one")
    places = tuple(folders(user))
    try:
        text = _environment(places).get_template(name).render(dict(values))
    except TemplateNotFound as error:
        looked = ", ".join(map(str, places))
        raise InvalidArgument(f"template: no {error.name} in {looked}") from error
    except TemplateSyntaxError as error:
        raise InvalidArgument(f"template {name}, line {error.lineno}: {error.message}") from error
    except TemplateError as error:
        raise InvalidArgument(f"template {name}: {error}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise InvalidArgument(f"template {name}: {type(error).__name__}: {error}") from error
    if len(text) > _MOST_CHARACTERS:
        raise InvalidArgument(f"template {name}: gives {len(text)} characters")
    return text
