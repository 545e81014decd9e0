"""What a rank or a worker on another host runs: it has children of its own and watches them."""

from __future__ import annotations

import atexit

from mlcore.parallel.supervised import Children
from mlcore.parallel.task import Answer, Task

__all__ = ["close", "reopen", "run"]

_children = Children()


def run(task: Task) -> Answer:
    """Answer a chunk in a supervised child of this process."""
    return _children.run(task)


def close() -> None:
    """End the children of this process; what comes now is refused."""
    _children.close()


def reopen() -> None:
    """Take tasks again after `close`."""
    global _children
    _children.close()
    _children = Children()


atexit.register(close)
