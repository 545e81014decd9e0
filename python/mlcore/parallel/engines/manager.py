"""Parsl's manager of the workers of one node, which ends when it is cut off.

Where the driver dies while a manager connects, the manager's thread for it gives up and the manager
stays for ever (Parsl 2026.10.26); later losses it notices by itself.
"""

from __future__ import annotations

import os
import runpy
import threading
import time

__all__ = ["main"]

_LOOK = 5.0  # seconds
_LOOKS = 2  # that find it cut off before it ends


def _end_when_cut_off() -> None:
    found = 0
    while found < _LOOKS:
        time.sleep(_LOOK)
        names = {thread.name for thread in threading.enumerate()}
        cut_off = "worker-watchdog" in names and "Interchange-Communicator" not in names
        found = found + 1 if cut_off else 0
    os._exit(1)  # its workers watch it


def main() -> None:
    """Be the manager that the command line describes."""
    threading.Thread(target=_end_when_cut_off, daemon=True).start()
    pool = "parsl.executors.high_throughput.process_worker_pool"
    runpy.run_module(pool, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
