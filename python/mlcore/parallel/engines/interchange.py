"""Parsl's interchange that ends with its driver.

Parsl starts it as a process of its own and lets it live when the driver is killed; its workers would
then wait for ever too. Without it they leave after their heartbeat.
"""

from __future__ import annotations

import os
import runpy
import threading
import time

__all__ = ["main"]

_LOOK = 1.0  # seconds


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def main() -> None:
    """Be the interchange of the process that started this one."""
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


if __name__ == "__main__":
    main()
