"""Runs stock LAMMPS with the plugin loaded by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.errors import Error, InvalidArgument
from mlcore.lammps.build import plugin_path
from mlcore.lammps.environment import find_environment, mpi_launcher

if TYPE_CHECKING:
    from lammps.formats import LogFile

__all__ = ["command", "environment_variables", "logged", "run"]


def run(
    input_file: str | Path,
    ranks: int = 1,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    folder: str | Path = ".",
) -> int:
    """Runs ``lmp -in input_file`` on ``ranks`` MPI ranks.

    Args:
        input_file: LAMMPS input script.
        ranks: number of MPI ranks; each uses one thread unless OMP_NUM_THREADS says otherwise.
        args: further words for ``lmp``.
        env: environment variables set on top of the present ones.
        folder: where it runs; ``input_file`` and all files it names are seen from there.

    Returns:
        The exit status of LAMMPS.

    Raises:
        InvalidArgument: the input file is not there, or ranks < 1.
        BackendUnavailable: the plugin is not built, or LAMMPS or MPI is not installed.
    """
    if not (Path(folder) / input_file).is_file():
        raise InvalidArgument(f"input_file: no such file: {input_file}")
    words = command(ranks) + ["-in", str(input_file), *args]
    return subprocess.run(words, cwd=folder, env=environment_variables(env), check=False).returncode


def logged(
    input_file: str | Path,
    log: str | Path,
    variables: Mapping[str, object] | None = None,
    ranks: int = 1,
) -> LogFile:
    """Runs LAMMPS without a word on the screen and reads its log.

    Args:
        input_file: LAMMPS input script.
        log: file LAMMPS writes.
        variables: name -> value of the script's index variables.
        ranks: number of MPI ranks.

    Returns:
        The log: `runs` holds the thermo output of every run by column.

    Raises:
        InvalidArgument, BackendUnavailable: as `run`.
        Error: LAMMPS stopped; with its own words, and where the log is.
    """
    from lammps.formats import LogFile

    words = ["-log", str(log), "-screen", "none"]
    for name, value in (variables or {}).items():
        words += ["-var", name, str(value)]
    if run(input_file, ranks, words) != 0:
        lines = Path(log).read_text(errors="replace").splitlines() if Path(log).is_file() else []
        told = next((line for line in lines if line.startswith("ERROR")), "no word of it")
        raise Error(f"LAMMPS stopped in {input_file}: {told} (log: {Path(log).resolve()})")
    return LogFile(str(log))


def command(ranks: int = 1) -> list[str]:
    """Words that start ``lmp`` on ``ranks`` ranks."""
    if ranks < 1:
        raise InvalidArgument(f"ranks must be at least 1, got {ranks}")
    lmp = [str(find_environment(torch=False).lammps / "lmp")]
    return lmp if ranks == 1 else [str(mpi_launcher()), "-n", str(ranks), *lmp]


def environment_variables(
    extra: Mapping[str, str] | None = None, plugin: bool = True
) -> dict[str, str]:
    """Environment of a LAMMPS that finds its MPI and, if so asked, the plugin."""
    values = {"OMP_NUM_THREADS": "1", **os.environ, **(extra or {})}
    if plugin:
        _prepend(values, "LAMMPS_PLUGIN_PATH", plugin_path().parent)
    _prepend(values, "LD_LIBRARY_PATH", find_environment(torch=False).mpi_library.parent)
    return values


def _prepend(values: dict[str, str], name: str, folder: Path) -> None:
    before = values.get(name)
    values[name] = f"{folder}:{before}" if before else str(folder)
