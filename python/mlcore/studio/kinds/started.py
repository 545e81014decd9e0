"""The process of a task's command: `python -m mlcore.studio.kinds.started WORDS...` in its folder.

`start.json` there tells how many threads it may take, and which trajectories are cut into consecutive
parts before the command looks for them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mlcore.errors import Error, InvalidArgument
from mlcore.io import write_text

__all__ = ["START", "main", "started", "threads_of", "write_start"]

START = "start.json"
# of torch and BLAS: on the matrices of these nets their threads wait for each other
_ONE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def write_start(folder: Path, threads: int, parts: Mapping[str, int] | None = None) -> None:
    """Note how a command of a task is started.

    Args:
        folder: of the task.
        threads: of the core, which does the work of cells, runs and estimates.
        parts: file of a trajectory in the folder -> how many it is cut into.
    """
    write_text(
        folder / START,
        json.dumps({"threads": threads, "parts": dict(parts or {})}, indent=1) + "\n",
    )


def threads_of(folder: Path) -> int:
    """How many were noted."""
    try:
        told: dict[str, Any] = json.loads((folder / START).read_text(encoding="utf-8"))
        return int(told["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def started(words: Sequence[str]) -> list[str]:
    """Words of ``mlcore`` as a command that starts as `write_start` has noted."""
    return [sys.executable, "-m", "mlcore.studio.kinds.started", *words[1:]]


def main(words: Sequence[str]) -> int:
    """Run ``mlcore`` with these words in the current folder; its exit code."""
    told = json.loads(Path(START).read_text(encoding="utf-8"))
    # read once, when NumPy and torch are imported
    os.environ.update(dict.fromkeys(_ONE, "1"), MLCORE_NUM_THREADS=str(told["threads"]))
    try:
        for file, count in told["parts"].items():
            _cut(Path(file), count)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # the command that a shell would find by this name
    (command,) = entry_points(group="console_scripts", name="mlcore")
    return int(command.load()(list(words)))


def _cut(file: Path, count: int) -> None:
    """Put consecutive parts of a trajectory in its place; all of them, or it stays."""
    from mlcore.data import read_trajectory, write_trajectory

    if not file.is_file():
        return  # a task that goes on has done it
    whole = read_trajectory(file)
    frames = len(whole)
    if frames < 2 * count:
        raise InvalidArgument(
            f"{file.name}: {frames} frames cannot be cut into {count} parts; some are held out"
        )
    # steps of a dump are whole numbers, times of extxyz are not
    dump = ".dump" in file.name or ".lammpstrj" in file.name
    for k in range(count):
        part = whole[slice(k * frames // count, (k + 1) * frames // count)]
        name = f"part{k + 1}.{'dump' if dump else 'extxyz'}.gz"
        write_trajectory(file.with_name(name), part)
    file.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
