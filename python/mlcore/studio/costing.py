"""What an evaluation of a fit costs, measured: a few candidates, in a process of its own.

`python -m mlcore.studio.costing FOLDER` reads the ``config.json`` of the folder and prints JSON.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from mlcore.errors import Error
from mlcore.studio.kinds.face import CONFIG
from mlcore.studio.processes import confine, machine_bytes

__all__ = ["Cost", "cost", "measured"]

_CANDIDATES, _BATCH = 48, 8
_SECONDS = 12.0  # of evaluations; those begun are ended
_LONGEST = 90.0  # of the process
_SHARE = 4  # part of the machine's memory that each of its processes may take


class Cost(BaseModel):
    seconds: float | None = None
    """Of one evaluation by one worker; None where not one was measured."""
    evaluations: int = 0
    """That were measured."""
    failed: int = 0
    """Of these."""
    failures: dict[str, int] = {}
    """Why, and how many."""
    startup: float = 0.0
    """Seconds until a worker is ready: data read, lists of neighbors made."""
    targets: int = 0
    """Numbers compared with references."""
    words: str = ""
    """Why nothing was measured."""

    def expected(self, budget: int, workers: int) -> float | None:
        """Seconds of a fit of ``budget`` evaluations."""
        if self.seconds is None:
            return None
        return self.startup + budget * self.seconds / max(workers, 1)


def cost(folder: Path) -> Cost:
    """Measure what the ``config.json`` of a folder costs, in another process with a limit of time."""
    words = [sys.executable, "-m", "mlcore.studio.costing", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        told, said = process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Cost(words=f"not one evaluation within {_LONGEST:.0f} s")
    try:
        return Cost.model_validate_json(told.strip().rpartition("\n")[2])
    except ValueError:
        last = said.strip().rpartition("\n")[2] or f"ended with {process.returncode}"
        return Cost(words=last[:500])


def measured(folder: Path) -> Cost:
    """As `cost`, in this process.

    The first candidate is where the search begins; others are spread over what is free.
    """
    from mlcore.forcefield.config import load

    begun = time.perf_counter()
    setup = load(folder / CONFIG).setup()
    space = setup.space
    points = np.random.default_rng(0).random((_CANDIDATES, space.size))
    points[0] = np.clip(space.initial, 0.0, 1.0)
    failures: Counter[str] = Counter()
    done = 0
    with setup.recipe.make() as evaluator:
        first = evaluator([space.values(points[0])])[0]
        startup = time.perf_counter() - begun
        if first.failed is not None:
            failures[first.failed[:200]] += 1
        begun = time.perf_counter()
        while done < _CANDIDATES and time.perf_counter() - begun < _SECONDS:
            # workers are handed several at once where the core does the work
            size = _BATCH if not done or time.perf_counter() - begun < 1.0 else 1
            found = evaluator([space.values(point) for point in points[done : done + size]])
            failures.update(one.failed[:200] for one in found if one.failed is not None)
            done += len(found)
        seconds = (time.perf_counter() - begun) / done
    return Cost(
        seconds=seconds,
        evaluations=done,
        failed=sum(failures.values()) - (first.failed is not None),
        failures=dict(failures.most_common(5)),
        startup=startup,
        targets=sum(len(target.reference) for target in setup.targets),
    )


if __name__ == "__main__":
    confine(machine_bytes() // _SHARE)
    try:
        print(measured(Path(sys.argv[1])).model_dump_json())
    except Error as error:
        print(Cost(words=str(error)[:500]).model_dump_json())
