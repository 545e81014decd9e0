"""What a rank or a worker on another host runs: it has children of its own and watches them."""

from __future__ import annotations

import atexit

from mlcore.parallel.supervised import Children
from mlcore.parallel.task import Answer, Task

__all__ = ["close", "run"]

_children: Children | None = None


def run(task: Task) -> Answer:
    """Answer a chunk in a supervised child of this process."""
    global _children
    if _children is None:
        _children = Children()
        atexit.register(close)
    return _children.run(task)


def close() -> None:
    """End the children of this process; the next task starts new ones."""
    global _children
    if _children is not None:
        _children.close()
        _children = None
