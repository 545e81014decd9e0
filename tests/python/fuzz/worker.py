"""Runs cases of one operation at the instruction set of the environment.

python worker.py OPERATION SEED COUNT SECONDS FILE: at most COUNT cases or SECONDS, results to FILE.
"""

from __future__ import annotations

import pickle
import sys
import time
import zlib
from pathlib import Path

import mlcore
import numpy as np
from cases import OPERATIONS, Operation, Results

THREADS = (2, 3, 7)


def outcome(operation: Operation, key: list[int], threads: int) -> Results:
    """What a case gives; an error is told by its kind."""
    mlcore.set_num_threads(threads)
    try:
        found = operation.run(np.random.default_rng(key))
    except mlcore.Error as error:
        return {"error": np.array(type(error).__name__)}
    return {name: np.array(value) for name, value in found.items()}


def case(name: str, seed: int, index: int) -> Results:
    """One case; the number of threads may not matter at all."""
    key = [zlib.crc32(name.encode()), seed, index]
    found = outcome(OPERATIONS[name], key, 1)
    threads = THREADS[index % len(THREADS)]
    again = outcome(OPERATIONS[name], key, threads)
    for item in found.keys() | again.keys():
        if found[item].tobytes() != again[item].tobytes():
            raise SystemExit(f"{name}, case {key}: {item} differs with {threads} threads")
    return found


def main() -> None:
    name, seed, count, seconds, file = sys.argv[1:]
    end, found = time.process_time() + float(seconds), []
    while len(found) < int(count) and time.process_time() < end:
        found.append(case(name, int(seed), len(found)))
    Path(file).write_bytes(pickle.dumps({"level": mlcore._core.simd_level(), "cases": found}))


if __name__ == "__main__":
    main()
