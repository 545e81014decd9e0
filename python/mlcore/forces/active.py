"""Rounds of learning: run with a committee, label what it was not sure of, learn again."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np

from mlcore.errors import Error, InvalidArgument
from mlcore.forces.committee import Committee
from mlcore.forces.frames import Configuration, digest, read_frames
from mlcore.forces.model import ForceModel
from mlcore.io.atomic import atomic_path, write_text
from mlcore.lammps.run import run

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Exploration", "Round", "active_rounds"]


@dataclass(frozen=True)
class Exploration:
    """What a run that looks for unknown frames is given.

    Args:
        number: of the round, from 0.
        folder: new and empty, where it runs.
        model: bundle of the committee.
        frames: file to record to, by ``fix mlcore record``.
        spread: of the committee where it knows: `Round.spread`.
    """

    number: int
    folder: Path
    model: Path
    frames: Path
    spread: float


@dataclass(frozen=True)
class Round:
    """One round.

    Args:
        number: 0 is the model of the frames given.
        bundle: the committee of this round.
        known: frames learned from.
        spread: largest spread of the committee in a frame, the median over them.
        force_error: root mean square error of a force component on the test frames; nan without.
        recorded, added: frames recorded by the run with this committee, and those of them that were
            labelled for the next; 0 after the last round.
        seconds: wall time of both.
    """

    number: int
    bundle: Path
    known: int
    spread: float
    force_error: float
    recorded: int = 0
    added: int = 0
    seconds: float = 0.0


def active_rounds(
    model: Committee,
    frames: Sequence[Atoms],
    explore: str | Path | Callable[[Exploration], None],
    label: Callable[[list[Atoms]], list[Atoms]],
    *,
    folder: str | Path,
    rounds: int = 3,
    most: int = 20,
    test: Sequence[Atoms] | None = None,
    fit: Mapping[str, Any] | None = None,
    force_limit: float | None = None,
    units: str | None = None,
    ranks: int = 1,
    progress: bool = False,
) -> list[Round]:
    """Learn, run LAMMPS with what was learned, label what the committee did not know, learn again.

    Every stage leaves its result in `folder`; the same call goes on where the last one was killed,
    and returns at once when all is done.

    Args:
        model: the committee, whose settings are used in every round.
        frames: with energies and forces, for the first round.
        explore: LAMMPS script that runs ``fix mlcore force`` and ``fix mlcore record``. It is run in
            a folder of its own with the variables ``model`` (bundle), ``frames`` (file to record
            to), ``spread`` (`Exploration.spread`), ``round``, and ``home`` (the script's folder).
            Or a function that records frames in another way.
        label: gives frames their forces, and energies where there are some, e.g. by
            `mlcore.lammps.label`.
        folder: of the rounds.
        rounds: how often the model is explored; there is one model more.
        most: frames labelled in each round, evenly out of those recorded.
        test: frames with forces to measure the error on; not learned from.
        fit: arguments of the committee's fit.
        force_limit: frames with a larger force than this, which no sane run meets, are left out.
        units: of the bundles; None: the model's, or "lj".
        ranks: MPI ranks of the exploring runs.
        progress: tell on stderr what is done.

    Returns:
        The rounds; fewer than asked for when nothing unknown was found any more.

    Raises:
        InvalidArgument: naming the argument.
        Error: the folder holds rounds of other settings, or LAMMPS stopped.
    """
    if rounds < 0 or most < 1:
        raise InvalidArgument(f"rounds and most must be at least 0 and 1, not {rounds}, {most}")
    own = model.kinds.units
    if None not in (own, units) and units != own:
        raise InvalidArgument(f"units must be those of the model, {own!r}, not {units!r}")
    units = units or own or "lj"
    tested = None if test is None else read_frames(test, model.kinds, "test")
    told = {
        "frames": digest(read_frames(frames, model.kinds)),
        "test": None if tested is None else digest(tested),
        "model": [_settings(member) for member in model.members],
        "fit": _fit_settings(fit or {}, model),
        "explore": _script_digest(explore),
        "most": most,
        "force_limit": force_limit,
        "units": units,
    }
    work = _Work(model, Path(folder), units, fit or {}, progress)
    work.claim(told)
    known, done = list(frames), []
    for number in range(rounds + 1):
        here = work.learned(number, known, tested)
        if number < rounds:
            found = work.unknown(here, explore, label, most, force_limit, ranks)
            here = replace(work.stored(number), added=len(found))
            known += found
        done.append(here)
        if number < rounds and here.added == 0:
            work.tell(number, "the committee met nothing unknown")
            break
    return done


def _settings(member: Any) -> str:
    return f"{type(member).__name__} {sorted(member.settings.items())!r}"


def _fit_settings(fit: Mapping[str, Any], model: ForceModel) -> str:
    told = dict(fit)
    held_out = told.get("validation")
    if held_out is not None and not isinstance(held_out, (int, float)):
        told["validation"] = digest(read_frames(held_out, model.kinds, "validation"))
    return repr(sorted(told.items()))


def _script_digest(explore: str | Path | Callable[[Exploration], None]) -> str | None:
    """Of the script that explores; functions cannot be compared."""
    if callable(explore) or not Path(explore).is_file():
        return None
    return hashlib.sha256(Path(explore).read_bytes()).hexdigest()


class _Work:
    """The stages, each of which is either in the folder or is done."""

    def __init__(
        self, model: Committee, folder: Path, units: str, fit: Mapping[str, Any], progress: bool
    ) -> None:
        self.model, self.folder, self.units, self.fit = model, folder, units, fit
        self.progress = progress

    def tell(self, number: int, text: str) -> None:
        if not self.progress:
            return
        from rich.console import Console

        Console(stderr=True, highlight=False).print(f"round {number}: {text}")

    def claim(self, settings: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path, text = self.folder / "settings.json", json.dumps(settings, indent=1)
        if not path.exists():
            write_text(path, text)
        elif path.read_text() != text:
            before = json.loads(path.read_text())
            changed = ", ".join(k for k in settings if before.get(k) != settings[k])
            raise Error(f"{self.folder} holds rounds of other settings ({changed}); remove it")

    def place(self, number: int) -> Path:
        return self.folder / f"round_{number}"

    def store(self, found: Round) -> None:
        told = {**asdict(found), "bundle": found.bundle.name}
        write_text(self.place(found.number) / "round.json", json.dumps(told, indent=1))

    def stored(self, number: int) -> Round:
        told = json.loads((self.place(number) / "round.json").read_text())
        return Round(**{**told, "bundle": self.place(number) / told["bundle"]})

    def learned(self, number: int, known: list[Atoms], test: list[Configuration] | None) -> Round:
        """The committee of a round, fitted and exported."""
        place = self.place(number)
        if (place / "round.json").exists():
            return self.stored(number)
        begin = time.perf_counter()
        self.tell(number, f"learning from {len(known)} frames")
        place.mkdir(exist_ok=True)
        found = read_frames(known, self.model.kinds)
        options = {"checkpoint": place / "fit", "progress": self.progress, **self.fit}
        self.model.fit(found, **options)
        self.model.export(place / "bundle", units=self.units)
        spreads = [self.model.of_configuration(frame).spread.max() for frame in found]
        spread = float(np.median(spreads))
        here = Round(
            number,
            place / "bundle",
            len(known),
            spread,
            _force_error(self.model, test),
            seconds=time.perf_counter() - begin,
        )
        self.tell(number, f"error {here.force_error:.3g}, spread {spread:.3g}")
        self.store(here)
        return here

    def unknown(
        self,
        here: Round,
        explore: str | Path | Callable[[Exploration], None],
        label: Callable[[list[Atoms]], list[Atoms]],
        most: int,
        force_limit: float | None,
        ranks: int,
    ) -> list[Atoms]:
        """Labelled frames which the committee did not know."""
        path = self.place(here.number) / "labelled.xyz"
        if path.exists():
            return _read(path)
        begin = time.perf_counter()
        recorded = self.recorded(here, explore, ranks)
        places = np.unique(np.linspace(0, len(recorded) - 1, min(most, len(recorded))).round())
        chosen = [recorded[int(k)] for k in places]
        self.tell(here.number, f"{len(recorded)} frames recorded, {len(chosen)} to label")
        found = label(chosen) if chosen else []
        sane = self.sane(found, force_limit)
        if len(sane) < len(found):
            self.tell(here.number, f"{len(found) - len(sane)} frames beyond the limit of forces")
        seconds = here.seconds + time.perf_counter() - begin
        self.store(replace(here, recorded=len(recorded), added=len(sane), seconds=seconds))
        with atomic_path(path) as part:
            if sane:
                ase.io.write(part, sane, format="extxyz")
            else:
                part.touch()
        return _read(path)

    def sane(self, labelled: list[Atoms], limit: float | None) -> list[Atoms]:
        """Those whose forces are within the limit; InvalidArgument where label gave none."""
        if not labelled:
            return []
        kept = []
        for frame, atoms in zip(
            read_frames(labelled, self.model.kinds, "label"), labelled, strict=True
        ):
            if frame.forces is None:
                raise InvalidArgument("label must give frames with forces: one of them has none")
            if limit is None or np.abs(frame.forces).max() <= limit:
                kept.append(atoms)
        return kept

    def recorded(
        self, here: Round, explore: str | Path | Callable[[Exploration], None], ranks: int
    ) -> list[Atoms]:
        folder = self.place(here.number) / "explore"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        task = Exploration(here.number, folder, here.bundle, folder / "frames.xyz", here.spread)
        self.tell(here.number, "exploring")
        if callable(explore):
            explore(task)
        else:
            _lammps(Path(explore), task, ranks)
        return _read(task.frames)


def _lammps(script: Path, task: Exploration, ranks: int) -> None:
    variables = {
        "home": script.resolve().parent,
        "model": "../bundle",
        "frames": task.frames.name,
        "spread": repr(task.spread),
        "round": task.number,
    }
    words = ["-log", "log.lammps", "-screen", "none"]
    for name, value in variables.items():
        words += ["-var", name, str(value)]
    if run(script.resolve(), ranks, words, folder=task.folder) != 0:
        log = task.folder / "log.lammps"
        tail = log.read_text().splitlines()[-8:] if log.exists() else []
        raise Error(f"{script} stopped in round {task.number}, see {log}:\n" + "\n".join(tail))


def _read(path: Path) -> list[Atoms]:
    if not path.exists() or path.stat().st_size == 0:
        return []
    return list(ase.io.read(path, index=":", format="extxyz"))


def _force_error(model: ForceModel, test: list[Configuration] | None) -> float:
    if not test:
        return float("nan")
    squares = []
    for frame in test:
        if frame.forces is None:
            raise InvalidArgument("test: a frame has no forces")
        squares.append(np.square(model.of_configuration(frame).forces - frame.forces).ravel())
    return float(np.sqrt(np.concatenate(squares).mean()))
