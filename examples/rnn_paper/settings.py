"""What is run: sizes, systems, and where results are kept."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import mlcore
import numpy as np
from mlcore.io.atomic import write_text
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALL = 1e-3  # the paper's Verlet step, and its ground truth
WINDOW = 5  # frames an LSTM reads
LIMIT = 0.1  # error at which a trajectory counts as lost
BOX = 6.7949  # edge of the paper's periodic cube
RADIUS = round(BOX * (3 / (4 * math.pi)) ** (1 / 3), 4)  # of a sphere of the same volume
EPSILON = 2.0


@dataclass(frozen=True)
class Size:
    """How much is learned and simulated.

    Attributes:
        name: of the form.
        steps: of the LSTMs.
        seconds: of training an LSTM in one dimension.
        seconds_best: of the LSTM with the easiest task.
        seconds_particles: of training an LSTM of many particles.
        masses, starts: of the paper's sweeps in one dimension.
        frames: of a run that an LSTM learns from.
        runs, longest, simulated: of many particles that an LSTM learns from, at most: runs, the time
            of one, and that of all for one step.
        tests: unseen starts.
        end: of roll-outs in one dimension.
        end_particles: of roll-outs of many particles.
        far: time to which energies of many particles are followed.
        taught, taught_time, iterations: runs, their length, and iterations of the N-body fit.
        exponent: time over which Lyapunov exponents are averaged.
    """

    name: str
    steps: tuple[float, ...] = (0.1, 0.4, 1.0, 4.0)
    seconds: float = 6.0
    seconds_best: float = 20.0
    seconds_particles: float = 6.0
    masses: int = 4
    starts: int = 20
    frames: int = 200
    runs: int = 400
    longest: float = 400.0
    simulated: float = 16000.0
    tests: int = 6
    end: float = 1e4
    end_particles: float = 200.0
    far: float = 2000.0
    taught: int = 30
    taught_time: float = 20.0
    iterations: int = 60
    exponent: float = 200.0


QUICK = Size("quick")
FULL = Size(
    "full",
    seconds=150.0,
    seconds_best=300.0,
    seconds_particles=600.0,
    masses=10,
    starts=50,
    frames=400,
    longest=2000.0,
    simulated=400_000.0,
    tests=10,
    end_particles=1000.0,
    far=1e6,
    taught=40,
    taught_time=40.0,
    exponent=1000.0,
)
TINY = Size(
    "tiny",
    steps=(0.4,),
    seconds=1.0,
    seconds_best=1.0,
    seconds_particles=1.0,
    masses=1,
    starts=10,
    frames=50,
    runs=8,
    tests=3,
    end=400.0,
    end_particles=20.0,
    far=40.0,
    taught=6,
    taught_time=5.0,
    iterations=3,
    exponent=5.0,
)


class Savable(Protocol):
    """An integrator that can be kept."""

    def save(self, path: Path) -> None: ...


M = TypeVar("M", bound=Savable)


@dataclass
class Work:
    """A folder of results: what is there is not made again."""

    folder: Path
    size: Size
    begun: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        for name in ("runs", "models", "results", "pictures", "reports"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        path, told = self.folder / "settings.json", json.dumps(asdict(self.size), indent=1)
        if not path.exists():
            write_text(path, told)
        elif path.read_text() != told:
            raise SystemExit(f"{self.folder} holds a study of other settings: choose another --out")

    @property
    def watched(self) -> bool:
        """Whether somebody sees bars of progress."""
        return sys.stderr.isatty()

    def tell(self, text: str) -> None:
        """One line of progress."""
        passed = time.perf_counter() - self.begun
        print(f"{passed:7.0f} s  {text}", file=sys.stderr, flush=True)

    def runs(self, name: str) -> Path:
        """Where the runs of that name are kept."""
        return self.folder / "runs" / f"{name}.h5"

    def model(self, name: str, load: Callable[[Path], M], make: Callable[[], M]) -> M:
        """A learned integrator, made once."""
        path = self.folder / "models" / f"{name}.safetensors"
        if path.exists():
            return load(path)
        self.tell(f"learning {name}")
        made = make()
        made.save(path)
        return made

    def result(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The numbers of an experiment, made once; with the time they took."""
        path = self.folder / "results" / f"{name}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        wall, used = time.perf_counter(), time.process_time()
        found = clean(dict(make()))
        found["seconds"] = round(time.perf_counter() - wall, 1)
        found["cpu_seconds"] = round(time.process_time() - used, 1)
        found["mlcore"] = mlcore.__version__
        write_text(path, json.dumps(found, indent=1, allow_nan=False))
        return found


def clean(value: Any) -> Any:
    """What JSON can hold: five digits, None for what is no number."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return clean(value.tolist())
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def seed_of(name: str) -> int:
    """A seed for each name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
