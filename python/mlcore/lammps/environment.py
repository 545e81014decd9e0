"""Where this environment keeps what the plugin is compiled and linked against."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mlcore.errors import BackendUnavailable

__all__ = ["Environment", "find_environment", "mpi_launcher"]

_HOW = "install it with: pip install 'mlcore[lammps,train]'"


@dataclass(frozen=True)
class Environment:
    """Folders, libraries and programs, each found and there."""

    lammps: Path
    lammps_version: str
    torch: Path | None
    torch_version: str
    mpi_include: Path
    mpi_library: Path
    json_include: Path
    tinyxml2_prefix: Path | None
    mlcore_cmake: Path
    mlcore_library: Path
    mlcore_include: Path
    mlcore_version: str
    cmake: Path
    ninja: Path

    @property
    def lammps_number(self) -> int:
        """LAMMPS' own number of its version, 20250722 for the wheel 2025.7.22.4.0."""
        year, month, day = (int(part) for part in self.lammps_version.split(".")[:3])
        return (100 * year + month) * 100 + day

    def record(self) -> dict[str, str]:
        """What makes a plugin built here unusable when it changes."""
        return {
            "lammps": f"{self.lammps_version} {self.lammps}",
            "torch": f"{self.torch_version} {self.torch}" if self.torch else "none",
            "mpi": str(self.mpi_library),
            "mlcore": f"{self.mlcore_version} {self.mlcore_library}",
        }


def find_environment(torch: bool = True) -> Environment:
    """Everything the build needs.

    Args:
        torch: find torch too; the plugin can do without.

    Raises:
        BackendUnavailable: naming what is missing and how to install it.
    """
    from mlcore import __version__
    from mlcore.paths import get_cmake_dir, get_include, get_library

    mpi_library, mpi_include = _mpi()
    return Environment(
        lammps=_package("lammps", "lammps"),
        lammps_version=importlib.metadata.version("lammps"),
        torch=_package("torch", "torch") if torch else None,
        torch_version=importlib.metadata.version("torch") if torch else "",
        mpi_include=mpi_include,
        mpi_library=mpi_library,
        json_include=_json_include(),
        tinyxml2_prefix=_tinyxml2_prefix(),
        mlcore_cmake=_existing(get_cmake_dir(), "the CMake files of libmlcore"),
        mlcore_library=_existing(get_library(), "libmlcore"),
        mlcore_include=_existing(get_include(), "the headers of libmlcore"),
        mlcore_version=__version__,
        cmake=_program("cmake"),
        ninja=_program("ninja"),
    )


def mpi_launcher() -> Path:
    """``mpirun`` of the environment's MPI, the one LAMMPS is linked to.

    Raises:
        BackendUnavailable: there is none.
    """
    return _program("mpirun", "mpich")


def _existing(path: Path, what: str) -> Path:
    if not path.exists():
        raise BackendUnavailable(f"{what} is not at {path}; install mlcore again")
    return path


def _package(module: str, wheel: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BackendUnavailable(f"the Python package {wheel} is not installed; {_HOW}")
    return Path(next(iter(spec.submodule_search_locations)))


def _program(name: str, wheel: str | None = None) -> Path:
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name)
    if found is None:
        raise BackendUnavailable(f"the program {name} ({wheel or name}) is not installed; {_HOW}")
    return Path(found)


def _mpi() -> tuple[Path, Path]:
    """libmpi and the folder of mpi.h as the mpich wheel installed them."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        raise BackendUnavailable(f"the Python package mpich is not installed; {_HOW}") from None
    paths = {Path(file).name: Path(str(file.locate())).resolve() for file in files}
    if "libmpi.so.12" not in paths or "mpi.h" not in paths:
        raise BackendUnavailable("the installed mpich wheel lacks libmpi.so.12 or mpi.h")
    return paths["libmpi.so.12"], paths["mpi.h"].parent


def _json_include() -> Path:
    spec = importlib.util.find_spec("nlohmann_json")
    roots = list(spec.submodule_search_locations or []) if spec else []
    for root in [Path(path) / "include" for path in roots] + [Path("/usr/include")]:
        if (root / "nlohmann" / "json.hpp").is_file():
            return root
    raise BackendUnavailable(f"nlohmann/json.hpp (nlohmann-json) is not installed; {_HOW}")


def _tinyxml2_prefix() -> Path | None:
    """Prefix of the cmeel wheel; None: the system's, which CMake finds by itself."""
    spec = importlib.util.find_spec("cmeel")
    roots = list(spec.submodule_search_locations or []) if spec else []
    for root in roots:
        prefix = Path(root).parent / "cmeel.prefix"
        if (prefix / "include" / "tinyxml2.h").is_file():
            return prefix
    if Path("/usr/include/tinyxml2.h").is_file():
        return None
    raise BackendUnavailable(f"tinyxml2 (cmeel-tinyxml2) is not installed; {_HOW}")
