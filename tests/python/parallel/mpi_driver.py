"""Run under mpiexec by the tests: prints one line of JSON from rank 0."""

from __future__ import annotations

import json
import sys
import time

import parallel_work as work
from mlcore import parallel


def told(results: object) -> list[object]:
    return [r.value if r.error is None else r.error.type for r in results]


def main(mode: str, folder: str) -> None:
    with parallel.engine("mpi") as engine:
        if mode == "raise":
            results = engine.map(work.wait, [0.0, 600.0, 600.0], chunk=1)
            next(results)
            time.sleep(1.0)  # a rank is busy
            raise RuntimeError("the driver fails")
        prepared = (work.Counter, (0,))
        said = {"workers": engine.workers}
        said["pids"] = told(engine.map(None, range(20), chunk=1, prepared=prepared))
        said["hang"] = told(engine.map(work.hang_on, range(8), timeout=2.0, chunk=4))
        said["die"] = told(engine.map(work.die_on, range(6), chunk=3))
        said["once"] = told(engine.map(work.die_once, [(folder, x) for x in range(4)], chunk=2))
        said["failed"] = told(engine.map(work.fail_on_odd, range(4)))
        said["sum"] = engine.reduce(work.add, [0.1 * i for i in range(1001)]).value
    with parallel.engine("mpi") as engine:  # the ranks are there for a second one
        said["lammps"] = told(
            engine.map(work.crystal_energy, [5.0, 5.26, 5.5, 5.26], timeout=300.0)
        )
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
