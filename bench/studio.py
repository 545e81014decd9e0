"""Bars of the studio: what pages cost, what a long live job costs, and the same page by a peer.

    python bench/studio.py [--only TEXT] [--list]

Each bar has a server in a process of its own, as people start it. MLCORE_STUDIO_MINUTES is how long the
live job lasts (30).
"""

from __future__ import annotations

import os
import signal
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import studio_bars  # noqa: E402
from bars import main  # noqa: E402

if __name__ == "__main__":
    # what it started is ended also where it is asked to end
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    raise SystemExit(main(studio_bars, __doc__))
