"""Bodies pulled apart, kept in a folder.

    folder/manifest.json          what all have in common: settings, design, format
    folder/<pattern>-<seed>.json  what made a run, its label, hashes and seconds
    folder/<pattern>-<seed>.h5    its frames and stress curve

Every file is written whole or not at all, the record of a run last: what has a record is finished
and not run again. Several processes may fill one folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.units import fs
from numpy.typing import NDArray

from mlcore.errors import BackendUnavailable, Error, FileFormatError, InvalidArgument
from mlcore.io import atomic_path, write_text
from mlcore.sagesnet.carbon.cuts import cut
from mlcore.sagesnet.carbon.labels import Yield, yield_point
from mlcore.sagesnet.carbon.sheets import REDUCED, Design
from mlcore.sagesnet.carbon.stretch import CURVE, Pull, Stretch, stretch

__all__ = ["Dataset", "Report", "Sample", "Window"]

FORMAT = 1
_log = logging.getLogger("mlcore")


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive frames of one run.

    Attributes:
        sample: the run.
        steps: (m,) time steps of the pull.
        strains: (m,).
        positions: (m, n, 3) float32, A, in the box of the run.
        velocities: (m, n, 3) float32, A/fs.
    """

    sample: Sample
    steps: NDArray[np.int64]
    strains: NDArray[np.float64]
    positions: NDArray[np.float32]
    velocities: NDArray[np.float32]

    def atoms(self) -> list[Atoms]:
        """The frames with cell, velocities, and the arrays ``id`` and ``grip``."""
        made = []
        for x, v, strain in zip(self.positions, self.velocities, self.strains, strict=True):
            atoms: Atoms = self.sample.start.copy()
            atoms.positions = x
            atoms.set_velocities(v.astype(float) / fs)
            atoms.info["strain"] = float(strain)
            made.append(atoms)
        return made


class Sample:
    """A finished run in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.file = folder / f"{name}.h5"
        self.record: dict[str, Any] = _read(folder / f"{name}.json")

    @property
    def pattern(self) -> str:
        """Of the cuts; the name of the body where it has none."""
        return str(self.record["pattern"])

    @property
    def seed(self) -> int:
        """Of its velocities."""
        return int(self.record["seed"])

    @property
    def label(self) -> Yield:
        """Where it yields."""
        return Yield(**self.record["label"])

    def __len__(self) -> int:
        return int(self.record["frames"])

    @cached_property
    def start(self) -> Atoms:
        """The body at rest, in the box of the run."""
        with self._open() as file:
            made = Atoms(file["numbers"][:], file["start"][:], cell=file["cell"][:], pbc=False)
            made.set_array("grip", file["grip"][:])
            made.set_array("id", file["id"][:])
        made.info = {"section": self.record["section"]}
        return made

    @cached_property
    def curve(self) -> NDArray[np.float64]:
        """(c, 7) the stress curve; columns as in `stretch.CURVE`."""
        with self._open() as file:
            return np.asarray(file["curve"][:])

    def window(self, first: int = 0, length: int | None = None, stride: int = 1) -> Window:
        """``length`` frames from ``first`` on, every ``stride``-th; all that are left by default.

        Raises:
            InvalidArgument: the run has no such frames.
        """
        if stride < 1 or first < 0:
            raise InvalidArgument(f"first and stride must not go back, got {first}, {stride}")
        last = len(self) if length is None else first + (length - 1) * stride + 1
        if not first < last <= len(self):
            raise InvalidArgument(f"{self.name} has {len(self)} frames, not {first} to {last - 1}")
        chosen = slice(first, last, stride)
        with self._open() as file:
            velocities = file["velocities"][chosen]
            if first == 0 and len(self) > 1:
                # LAMMPS tells no velocity of what is moved along before its first step
                held = self.start.arrays["grip"] != 0
                velocities[0, held] = file["velocities"][1][held]
            return Window(
                self,
                file["steps"][chosen],
                file["strains"][chosen],
                file["positions"][chosen],
                velocities,
            )

    def intact(self) -> bool:
        """Whether the file of frames is, to the bit, the one that was written."""
        return self.file.is_file() and _hash(self.file) == self.record["sha256"]

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with h5py.File(self.file) as file:
                yield file
        except (OSError, KeyError) as problem:
            raise FileFormatError(f"{self.file} cannot be read: {problem}") from problem


@dataclass(frozen=True)
class Report:
    """What `Dataset.generate` did: names of runs made, found finished, and failed with a reason."""

    made: tuple[str, ...]
    found: tuple[str, ...]
    failed: dict[str, str]


class Dataset:
    """A folder of runs with the same settings.

    Args:
        folder: where it is, or is to be with ``pull`` given.
        pull: settings of a new one; an old one must have the same.
        design: of the sheets, likewise.

    Raises:
        InvalidArgument: there is none and no settings are given, or it has other settings.
        FileFormatError: it cannot be read.
    """

    def __init__(
        self, folder: str | Path, pull: Pull | None = None, design: Design | None = None
    ) -> None:
        self.folder = Path(folder)
        manifest = self.folder / "manifest.json"
        if not manifest.is_file():
            if pull is None:
                raise InvalidArgument(f"folder: no data set in {folder}; give pull to begin one")
            self.folder.mkdir(parents=True, exist_ok=True)
            common = {"pull": pull.record(), "design": dataclasses.asdict(design or REDUCED)}
            about = {"format": FORMAT, "kind": "carbon pulled apart", **common}
            units = {"positions": "A", "velocities": "A/fs", "curve": list(CURVE)}
            write_text(manifest, json.dumps(about | {"units": units}, indent=1) + "\n")
        kept = _read(manifest)
        if kept.get("format") != FORMAT:
            raise FileFormatError(f"{manifest}: format {kept.get('format')}, not {FORMAT}")
        self.pull = Pull(**kept["pull"])
        self.design = Design(**kept["design"])
        for name, given, has in (("pull", pull, self.pull), ("design", design, self.design)):
            if given is not None and given != has:
                raise InvalidArgument(f"{name}: {folder} was begun with {has}, not {given}")

    def names(self) -> list[str]:
        """Of the finished runs, sorted."""
        made = (path.stem for path in self.folder.glob("*.json") if path.stem != "manifest")
        return sorted(name for name in made if not name.startswith("."))

    def __len__(self) -> int:
        return len(self.names())

    def __iter__(self) -> Iterator[Sample]:
        return (self[name] for name in self.names())

    def __getitem__(self, name: str) -> Sample:
        if name not in self.names():
            raise InvalidArgument(f"{self.folder} holds no finished run {name!r}")
        return Sample(self.folder, name)

    def generate(
        self, patterns: Iterable[str], seeds: Sequence[int] = (1,), timeout: float = 7200.0
    ) -> Report:
        """Pulls sheets with these cuts, with every seed; finished ones are not run again.

        A run that fails is told in the report and in the log, and the next one begins.

        Raises:
            InvalidArgument: a pattern falls apart or is none of the design; nothing was run then.
            BackendUnavailable: LAMMPS is not installed.
        """
        bodies = {pattern: cut(pattern, self.design) for pattern in patterns}
        many = [(f"{p}-{seed}", body, seed) for seed in seeds for p, body in bodies.items()]
        return self.add(many, timeout)

    def add(self, runs: Iterable[tuple[str, Atoms, int]], timeout: float = 7200.0) -> Report:
        """Pulls any bodies, each with a name of its own and a seed, as `generate` does."""
        made, found, failed = [], [], {}
        for name, body, seed in runs:
            if (self.folder / f"{name}.json").is_file():
                found.append(name)
                continue
            try:
                self.keep(name, stretch(body, self.pull, seed, timeout, self.folder))
            except (BackendUnavailable, InvalidArgument):
                raise
            except Error as problem:
                _log.error("%s: %s", name, problem)
                failed[name] = str(problem)
                continue
            made.append(name)
            _log.info("%s: yields at strain %.3f", name, self[name].label.strain)
        return Report(tuple(made), tuple(found), failed)

    def keep(self, name: str, run: Stretch) -> Sample:
        """Writes a run to the folder; one of that name is replaced."""
        if not name or name.startswith(".") or name == "manifest" or set(name) & set('/\\*?"'):
            raise InvalidArgument(f"name must be one of a file, got {name!r}")
        path = self.folder / f"{name}.h5"
        record = {"name": name, "pattern": name, **run.provenance, "frames": len(run.steps)}
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        with atomic_path(path) as temporary:
            _write(temporary, run, record)
        least = run.provenance["pull"]["least"]
        label = yield_point(run.curve[:, 1], run.curve[:, 2], least=least)
        record |= {"label": dataclasses.asdict(label), "sha256": _hash(path)}
        record |= {"bytes": path.stat().st_size}
        write_text(self.folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
        return self[name]

    def split(
        self, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
    ) -> tuple[list[str], ...]:
        """Names of runs in parts; runs of one pattern are in the same part.

        Raises:
            InvalidArgument: the fractions are negative or do not add up to 1.
        """
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
            raise InvalidArgument(f"fractions must add up to 1, got {list(fractions)}")
        runs: dict[str, list[str]] = {}
        for sample in self:
            runs.setdefault(sample.pattern, []).append(sample.name)
        patterns = sorted(runs)
        order = np.random.default_rng(seed).permutation(len(patterns))
        ends = np.round(np.cumsum(fractions) * len(patterns)).astype(int)
        parts = np.split(order, ends[:-1])
        return tuple([name for k in part for name in runs[patterns[k]]] for part in parts)

    def windows(
        self,
        length: int,
        stride: int = 1,
        every: int = 1,
        names: Iterable[str] | None = None,
        until: float | None = None,
    ) -> Iterator[Window]:
        """All windows of ``length`` frames, ``stride`` frames apart, run after run.

        Args:
            length: frames of a window.
            stride: frames between its frames.
            every: frames between the begins of windows.
            names: of the runs; all by default.
            until: strain that no window passes; None: the end of the run.
        """
        if min(length, stride, every) < 1:
            raise InvalidArgument("length, stride and every must be at least 1")
        for name in self.names() if names is None else names:
            sample = self[name]
            frames = len(sample)
            if until is not None:
                per_frame = self.pull.rate * self.pull.timestep * self.pull.frame
                frames = min(frames, int(until / per_frame + 1e-9) + 1)
            for first in range(0, frames - (length - 1) * stride, every):
                yield sample.window(first, length, stride)


def _write(path: Path, run: Stretch, record: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        file["numbers"] = run.start.numbers
        file["grip"] = run.start.arrays["grip"]
        file["id"] = run.start.arrays["id"]
        file["start"] = run.start.positions
        file["cell"] = np.asarray(run.start.cell)
        file["steps"], file["strains"] = run.steps, run.strains
        file["positions"], file["velocities"] = run.positions, run.velocities
        file["curve"] = run.curve
        file.attrs["record"] = json.dumps(record)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"{os.fspath(path)} cannot be read: {problem}") from problem
    if not isinstance(found, dict):
        raise FileFormatError(f"{os.fspath(path)}: not a record of a run")
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
