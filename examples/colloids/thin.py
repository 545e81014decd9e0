"""Make examples/colloids/data from the full data set.

    python thin.py FULL_DATA_SET [DESTINATION]

Keeps the text of every number as it is. Velocities are dropped, and of the passive runs the first
eight are kept with a frame every 2 t0. Run again, it gives the same files.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from mlcore.io import write_bytes

VELOCITIES = {"vx", "vy", "vz"}
PASSIVE_RUNS = 8
STEPS_BETWEEN_FRAMES = 20


def thinned(text: str) -> str:
    """The dump without velocities and without frames between multiples of the interval."""
    out: list[str] = []
    for frame in text.split("ITEM: TIMESTEP\n")[1:]:
        lines = frame.splitlines()
        if int(lines[0]) % STEPS_BETWEEN_FRAMES:
            continue
        head = next(k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS"))
        names = lines[head].split()[2:]
        kept = [k for k, name in enumerate(names) if name not in VELOCITIES]
        out += ["ITEM: TIMESTEP", *lines[:head]]
        out.append("ITEM: ATOMS " + " ".join(names[k] for k in kept))
        for line in lines[head + 1 :]:
            words = line.split()
            out.append(" ".join(words[k] for k in kept))
    return "\n".join(out) + "\n"


def chosen(source: Path) -> list[Path]:
    """The runs that are shipped."""
    passive = [source / f"passive_s{seed}.dump.gz" for seed in range(1, PASSIVE_RUNS + 1)]
    return sorted(source.glob("active_*.dump.gz")) + passive


def main() -> None:
    """Thin every chosen run into the destination."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    destination = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "data"
    destination.mkdir(exist_ok=True)
    total = 0
    for path in chosen(source):
        with gzip.open(path, "rt") as file:
            data = gzip.compress(thinned(file.read()).encode(), 9, mtime=0)
        write_bytes(destination / path.name, data)
        total += len(data)
    print(f"{len(chosen(source))} files, {total / 1e6:.2f} MB in {destination}")


if __name__ == "__main__":
    main()
