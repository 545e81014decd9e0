"""Bars of map over workers: what an engine costs, what a second worker brings.

    python bench/parallel.py [--only no_op|scaling|fit] [--engines processes,mpi,parsl,dask]

Engines run in turn, round by round, so that other load meets all of them; the figures are medians.
The MPI engine is measured in a job of its own, beside the process engine on its rank 0. Scaling wants
two idle cores. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse  # noqa: E402
import json  # noqa: E402
import pickle  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import ExitStack  # noqa: E402

from bars import Measured  # noqa: E402
from mlcore import parallel  # noqa: E402
from mlcore.parallel.available import mpi_launcher  # noqa: E402
from mlcore.parallel.selftest import leibniz, same  # noqa: E402

ROUNDS = 3
NO_OPS = 20_000
BUSY = 12_000
GENERATION, GENERATIONS = 64, 2
Side = Callable[[], int]


def rates(sides: dict[str, Side]) -> dict[str, float]:
    """Items per second of each side; medians of alternating rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    items = {}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            start = time.perf_counter()
            items[name] = side()
            seconds[name].append(time.perf_counter() - start)
    return {name: items[name] / statistics.median(seconds[name]) for name in sides}


def no_op(engine: parallel.Engine) -> Side:
    """Items that do nothing."""
    return lambda: _count(engine.map(same, range(NO_OPS)))


def busy(engine: parallel.Engine) -> Side:
    """Items that compute and need no data."""
    return lambda: _count(engine.map(leibniz, range(BUSY)))


def fit(engine: parallel.Engine) -> Side:
    """Generations of candidates of the reference problem, by LAMMPS objects that stay."""
    import numpy as np
    from mlcore.forcefield.problems import silicon
    from mlcore.forcefield.run.candidates import Recipe, worker

    problem = silicon("tersoff")
    points = np.random.default_rng(0).uniform(0.45, 0.55, (GENERATION, problem.space.size))
    values = [problem.space.values(point) for point in points]
    recipe = pickle.dumps(Recipe(problem.model, tuple(problem.targets), "lammps"))
    prepared = (worker, (recipe, True, False))

    def generations() -> int:
        return sum(
            _count(engine.map(None, values, timeout=60.0, prepared=prepared))
            for _ in range(GENERATIONS)
        )

    return generations


def _count(results: Iterator[parallel.Result]) -> int:
    found = list(results)
    errors = [result.error for result in found if result.error is not None]
    if errors:
        raise SystemExit(f"{errors[0]}\n{errors[0].traceback}")
    return len(found)


WORK = {"no_op": no_op, "busy": busy, "fit": fit}


def session(names: list[str], what: str, workers: int) -> dict[str, float]:
    """The rates of engines that are open at once."""
    with ExitStack() as stack:
        engines = {n: stack.enter_context(parallel.engine(n, workers=workers)) for n in names}
        return rates({name: WORK[what](engine) for name, engine in engines.items()})


def mpi_session(what: str, workers: int) -> dict[str, float]:
    """The rates in an MPI job, of its ranks and of processes beside them."""
    command = [str(mpi_launcher()), "-n", str(workers + 1), sys.executable, __file__]
    command += ["--session", what, "--workers", str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(names: list[str], what: str, workers: int) -> dict[str, float]:
    """Rates of the engines; that of mpi in the measure of the process engine of the others."""
    here = [name for name in names if name != "mpi"]
    found = session(["processes", *(name for name in here if name != "processes")], what, workers)
    if "mpi" in names:
        job = mpi_session(what, workers)
        found["mpi"] = found["processes"] * job["mpi"] / job["processes"]
    return found


def bars(only: str, names: list[str]) -> Iterator[Measured]:
    """Everything asked for, line by line."""
    if only in "no_op":
        for name, rate in measured(names, "no_op", 2).items():
            least = 3000 if name == "processes" else None
            yield Measured(f"{name}: items/s that do nothing", rate, least=least)
    if only in "scaling":
        one, two = (measured(names, "busy", workers) for workers in (1, 2))
        for name, rate in two.items():
            yield Measured(f"{name}: two workers times one, busy", rate / one[name], least=1.6)
    if only in "fit":
        one, two = (measured(names, "fit", workers) for workers in (1, 2))
        for name, rate in two.items():
            yield Measured(f"{name}: candidates/s, two workers", rate)
            yield Measured(f"{name}: two workers times one, fit", rate / one[name], least=1.6)
            if name != "processes":
                ratio = rate / two["processes"]
                yield Measured(f"{name}: times the process engine, fit", ratio, least=0.85)


def main() -> int:
    """Print all bars; 1 where one is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", choices=["", "no_op", "scaling", "fit"])
    parser.add_argument("--engines", default="processes,mpi,parsl,dask")
    parser.add_argument("--session", default="", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        print(json.dumps(session(["mpi", "processes"], options.session, options.workers)))
        return 0
    missed = 0
    for one in bars(options.only, options.engines.split(",")):
        missed += one.held is False
        print(one, flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
