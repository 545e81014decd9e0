"""Map and reduce over workers: here, in MPI ranks, or on many nodes.

One setting chooses the engine; results, their order and their bits are the same in all of them::

    from mlcore import parallel

    with parallel.engine("processes", workers=2) as engine:
        for result in engine.map(function, items, timeout=60):
            result.value if result.error is None else result.error.message
"""

from __future__ import annotations

import importlib
from typing import Any

from pydantic import BaseModel, ValidationError

from mlcore.errors import BackendUnavailable, Error, InvalidArgument
from mlcore.parallel.face import Engine
from mlcore.parallel.payload import Failure, Result
from mlcore.parallel.settings import ENGINES, EngineName, EngineSettings

__all__ = [
    "ENGINES",
    "BackendUnavailable",
    "Engine",
    "EngineName",
    "EngineSettings",
    "Error",
    "Failure",
    "InvalidArgument",
    "Result",
    "engine",
    "options_of",
]

_CLASSES = {
    "serial": "Serial",
    "processes": "Processes",
    "mpi": "Mpi",
    "parsl": "Parsl",
    "dask": "Dask",
}


def options_of(name: EngineName) -> type[BaseModel]:
    """The pydantic model of an engine's options, for its JSON schema.

    Raises:
        InvalidArgument: there is no such engine.
    """
    options: type[BaseModel] = _module(name).Options
    return options


def engine(
    name: EngineName | EngineSettings = "processes", workers: int | None = None, **options: Any
) -> Engine:
    """Start an engine; close it by ``with``.

    Args:
        name: serial, processes, mpi, parsl or dask, or the settings of one.
        workers: how many run at once; None: what the settings say.
        options: the engine's own, over those of the settings.

    Raises:
        InvalidArgument: no such engine, or an option it does not have.
        BackendUnavailable: what it needs is not installed; the message says how to install it.
    """
    settings = name if isinstance(name, EngineSettings) else _settings(name)
    settings = settings.model_copy(
        update={"workers": workers or settings.workers, "options": settings.options | options}
    )
    if workers is not None and workers < 1:
        raise InvalidArgument(f"workers = {workers}: at least 1")
    module = _module(settings.name)
    try:
        checked = module.Options.model_validate(settings.options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(f"options of {settings.name}: {where}: {first['msg']}") from None
    made: Engine = getattr(module, _CLASSES[settings.name])(settings, checked)
    return made


def _settings(name: EngineName) -> EngineSettings:
    _known(name)
    return EngineSettings(name=name)


def _known(name: str) -> None:
    if name not in ENGINES:
        raise InvalidArgument(f"engine = {name!r}: one of {', '.join(ENGINES)}")


def _module(name: str) -> Any:
    _known(name)
    return importlib.import_module(f"mlcore.parallel.engines.{name}")
