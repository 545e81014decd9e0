"""Functions travel by name: workers import them, nothing of their code is sent."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from mlcore.errors import InvalidArgument

__all__ = ["find", "name_of"]

_HOW = (
    "workers import functions by name, so it has to be defined at the top level of a module that "
    "can be imported (no lambda, no inner function, no partial, not in a script or notebook: put "
    "it into a file beside and import it; what it needs besides the item goes into prepared)"
)


def name_of(function: Callable[..., Any], argument: str) -> str:
    """``module:qualified.name`` of a function, class or class method.

    Raises:
        InvalidArgument: it cannot be found again under its name.
    """
    module = getattr(function, "__module__", None)
    path = getattr(function, "__qualname__", None)
    if not callable(function) or not isinstance(module, str) or not isinstance(path, str):
        raise InvalidArgument(f"{argument} = {function!r}: {_HOW}")
    if module == "__main__":
        module = _name_of_main(argument, path)
    name = f"{module}:{path}"
    try:
        found = find(name)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(f"{argument} = {name} is not found again: {error}; {_HOW}") from None
    if found != function and function.__module__ != "__main__":
        raise InvalidArgument(f"{argument}: {name} is another function by now; {_HOW}")
    return name


def _name_of_main(argument: str, path: str) -> str:
    """A program started by ``python -m package.module`` can be imported under that name."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        raise InvalidArgument(f"{argument} = {path} stands in the script that runs: {_HOW}")
    return str(spec.name)


def find(name: str) -> Callable[..., Any]:
    """The function of a name that `name_of` gave."""
    module, _, path = name.partition(":")
    found: Callable[..., Any] = attrgetter(path)(importlib.import_module(module))
    return found
