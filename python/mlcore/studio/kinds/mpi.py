"""Commands as MPI jobs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from mlcore.errors import BackendUnavailable

__all__ = ["launched"]


def launched(ranks: int, module: str) -> list[str]:
    """Words that run a module of this Python on so many ranks.

    Raises:
        BackendUnavailable: there is no mpiexec.
    """
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if mpiexec is None:
        raise BackendUnavailable("engine mpi needs mpiexec; pip install 'mlcore[cluster]' mpich")
    return [mpiexec, "-n", str(ranks), sys.executable, "-m", module]
