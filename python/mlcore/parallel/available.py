"""Which engines can be used here, and what the others lack."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mlcore.errors import BackendUnavailable
from mlcore.parallel.settings import ENGINES, EngineName

__all__ = ["Availability", "availability", "mpi_launcher"]

_PACKAGES: dict[EngineName, tuple[str, ...]] = {
    "serial": (),
    "processes": (),
    "mpi": ("mpi4py",),
    "parsl": ("parsl",),
    "dask": ("dask", "distributed"),
}
_ABOUT: dict[EngineName, str] = {
    "serial": "one item after the other in this process",
    "processes": "worker processes on this machine (the default)",
    "mpi": "the ranks of an MPI job: mpiexec -n N python -m ...",
    "parsl": "many nodes by ZeroMQ; Slurm, PBS, Kubernetes start the workers",
    "dask": "a Dask cluster that runs already, or one of our own",
}


@dataclass(frozen=True)
class Availability:
    """Whether an engine can be used here.

    Attributes:
        name: of the engine.
        available: whether all it needs is installed.
        about: what it is.
        needs: versions of the packages it is made of.
        reason: what is missing and how to get it.
    """

    name: EngineName
    available: bool
    about: str
    needs: dict[str, str | None]
    reason: str


def availability() -> tuple[Availability, ...]:
    """All engines; nothing is imported or started for it."""
    return tuple(_of(name) for name in ENGINES)


def _of(name: EngineName) -> Availability:
    needs = {package: _version(package) for package in _PACKAGES[name]}
    missing = [package for package, version in needs.items() if version is None]
    reason = ""
    if missing:
        reason = f"{' and '.join(missing)} not installed: pip install 'mlcore[cluster]'"
    elif name == "mpi":
        reason = _launcher_missing()
    return Availability(name, not reason, _ABOUT[name], needs, reason)


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    return importlib.metadata.version(package)


def _launcher_missing() -> str:
    try:
        mpi_launcher()
    except BackendUnavailable as error:
        return str(error)
    return ""


def mpi_launcher() -> Path:
    """``mpiexec`` beside the interpreter, or on the path.

    Raises:
        BackendUnavailable: there is none.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")
    if found is None:
        raise BackendUnavailable(
            "there is no mpiexec: pip install mpich, or load the cluster's MPI"
        )
    return Path(found)
