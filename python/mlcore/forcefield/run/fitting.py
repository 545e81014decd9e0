"""Fits: a search, its candidates evaluated by an engine, all of it in a folder that can be resumed.

The folder of a fit holds

    config.json     what was asked for, whole
    versions.json   of everything that was used, and a fingerprint of models, targets and settings
    history.jsonl   every evaluation: point, score, terms; residuals.f64 beside it
    events.jsonl    what happened, for those who watch
    state.json      queued, running, cancelling, cancelled, failed or done
    best.json       the best so far
    predicted.json  what it says of the targets, some seconds old; see `mlcore.forcefield.run.parity`
    result.json     the end: values, score, its parts, and whether a fresh process found the same
    model/          the potential, as LAMMPS reads it

A search is deterministic in its seed and in the scores it is told. So a fit is resumed by making the
search anew and telling it the scores of the history: it then goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.run.candidates import Along, Candidates, Whole
from mlcore.forcefield.run.events import (
    CANCEL,
    Events,
    append_events,
    read_events,
    read_state,
    write_json,
    write_state,
)
from mlcore.forcefield.run.fingerprint import fingerprint, record, versions
from mlcore.forcefield.run.history import Entry, History, read_history
from mlcore.forcefield.run.parity import PREDICTED, predicted
from mlcore.forcefield.run.setup import Setup
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Derivatives, Search, key
from mlcore.io.lock import locked

if TYPE_CHECKING:
    from mlcore.forcefield.evaluate import Evaluation
    from mlcore.forcefield.forms import Model
    from mlcore.forcefield.parameters import Space
    from mlcore.forcefield.run.result import Result
    from mlcore.forcefield.search import Strategy
    from mlcore.forcefield.targets import Target
    from mlcore.parallel import Engine, EngineSettings

__all__ = ["Fit", "Setup", "cancel", "fit", "ranks_apart", "resume"]

CONFIG, VERSIONS, BEST = "config.json", "versions.json", "best.json"
Listener = Callable[[Mapping[str, Any]], None]
_LOOK = 0.2  # seconds between looks for a wish to cancel
_TELL = 0.25  # least seconds between two events of batches
# least seconds between two looks at what the best says, and how many times what one takes
_PREDICT, _RARE = 2.0, 20.0


def fit(
    model: Model,
    space: Space,
    targets: Sequence[Target],
    *,
    objective: Objective | str | Callable[[Mapping[str, float]], float] = "sse",
    search: str | Callable[..., Strategy] = "default",
    options: Mapping[str, Any] | None = None,
    budget: int = 2000,
    seed: int = 0,
    engine: str | EngineSettings | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    evaluator: Literal["auto", "native", "lammps"] = "auto",
    cutoff_cap: float = 12.0,
    held_out: Sequence[Target] = (),
    folder: str | Path = "fit",
    resume: bool = False,
    progress: bool | Listener = False,
) -> Result:
    """Fit a potential.

    Args:
        model: the form; see `mlcore.forcefield.model`.
        space: what is free, with bounds, ties and constraints.
        targets: what is wanted; their names differ.
        objective: an `Objective`, or its ``kind``.
        search: name of a strategy, or a function (size, start=, seed=, budget=) that makes one.
        options: of the strategy, see `mlcore.forcefield.search.describe`.
        budget: most evaluations.
        seed: of the search; the same seed gives the same history in every engine.
        engine: ``serial``, ``processes``, ``mpi``, ``parsl``, ``dask`` or settings of
            `mlcore.parallel`; None: this process alone, without supervision and timeouts where no
            ``timeout`` is given.
        workers: of the engine.
        timeout: seconds for one candidate, after which its worker is replaced.
        evaluator: ``auto``: native kernels where they can, else LAMMPS.
        cutoff_cap: largest cutoff a candidate may have, A.
        held_out: targets the result is judged by and the search never sees.
        folder: of the fit; made where it is not there.
        resume: go on with a fit that is in the folder already.
        progress: True for a bar; or a function of events, called in a thread of its own.

    Returns:
        The result. After a wish to `cancel` its ``state`` is ``cancelled``.

    Raises:
        InvalidArgument: naming what is wrong, or the folder holds a fit and `resume` is False.
        Error: the folder holds another fit, or another process works on it.
        KeyboardInterrupt: after Ctrl-C; the folder can be resumed.
    """
    made = Setup(
        model,
        space,
        tuple(targets),
        objective if isinstance(objective, Objective) else Objective(targets, objective),
        search,
        options or {},
        budget,
        seed,
        _settings(engine, workers, timeout),
        timeout,
        evaluator,
        cutoff_cap,
        tuple(held_out),
    )
    return Fit(made, folder, resume=resume, progress=progress).run()


def _settings(
    engine: str | EngineSettings | None, workers: int | None, timeout: float | None
) -> EngineSettings | None:
    from mlcore.parallel import ENGINES, EngineSettings

    if engine is None:
        return None if timeout is None else EngineSettings(name="serial")
    if isinstance(engine, EngineSettings):
        return engine if workers is None else engine.model_copy(update={"workers": workers})
    if engine not in ENGINES:
        raise InvalidArgument(f"engine: {engine!r}; one of {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise InvalidArgument(f"workers: {workers}, must be at least 1")
    return EngineSettings(name=engine, workers=workers)


def resume(folder: str | Path, *, progress: bool | Listener = False) -> Result:
    """Go on with the fit in a folder that was made from a config.

    Raises:
        FileFormatError: there is none, or it was made by a Python program: run `fit` again with
            ``resume=True``.
    """
    from mlcore.forcefield.config import load

    return Fit(load(folder).setup(folder), folder, resume=True, progress=progress).run()


def ranks_apart(settings: EngineSettings | None) -> None:
    """Under ``mpiexec`` all ranks run the program: from here on rank 0 goes on alone.

    The others work for it, and their programs end with it. To be called before anything is written.
    """
    if settings is not None and settings.name == "mpi":
        from mlcore import parallel

        parallel.engine(settings).close()


def cancel(folder: str | Path) -> str:
    """Ask the driver of a fit to stop; what is done is kept, and the fit can be resumed.

    Returns:
        The state the fit is in now: ``cancelling`` until its driver has seen the wish.

    Raises:
        InvalidArgument: the folder holds no fit, or one that has ended.
    """
    path = Path(folder)
    told = read_state(path)
    if told is None:
        raise InvalidArgument(f"folder: {path} holds no fit")
    state = told["state"]
    if state in ("cancelled", "failed", "done"):
        raise InvalidArgument(f"folder: the fit in {path} is {state} already")
    if not told["alive"]:
        write_state(path, "cancelled")
        return "cancelled"
    (path / CANCEL).touch()
    return "cancelling"


class _Cancelled(Exception):
    """Somebody asked the fit to stop."""


@dataclasses.dataclass(frozen=True)
class _Looked:
    """The last look at what the best says: at which evaluation, when, and what it took in seconds."""

    number: int | None = None
    at: float = 0.0
    seconds: float = 0.0


class Fit:
    """A fit in its folder.

    Args:
        setup: all it needs.
        folder: made where it is not there.
        resume: go on with the fit that is in the folder.
        progress: True for a bar; or a function of events.

    Raises:
        InvalidArgument: the folder holds a fit and `resume` is False, or budget or timeout are no
            positive numbers.
        Error: the folder holds another fit.
    """

    def __init__(
        self,
        setup: Setup,
        folder: str | Path,
        *,
        resume: bool = False,
        progress: bool | Listener = False,
    ) -> None:
        ranks_apart(setup.engine)
        if setup.budget < 1:
            raise InvalidArgument(f"budget: {setup.budget}, must be at least 1")
        if setup.timeout is not None and not setup.timeout > 0:
            raise InvalidArgument(f"timeout: {setup.timeout:g}, must be positive seconds or None")
        setup.new_search().close()  # says at once which option is wrong
        self.setup = setup
        self.folder = Path(folder)
        self._progress = progress
        self._mark = fingerprint(setup)
        self._prepare(resume)
        self._stop = threading.Event()
        self._best: Entry | None = None
        self._failures: dict[str, int] = {}
        self._count = 0
        self._looked = _Looked()

    def cancel(self) -> None:
        """Ask a fit that runs in another thread to stop."""
        self._stop.set()

    def run(self) -> Result:
        """Run, or go on, to the end.

        Returns:
            The result, ``cancelled`` where somebody asked for it.

        Raises:
            Error: another process works on the folder, or nothing can be evaluated.
            KeyboardInterrupt: after Ctrl-C; the folder can be resumed.
        """
        with locked(self.folder):
            self._stop.clear()
            self._best, self._failures, self._count = None, {}, 0
            (self.folder / CANCEL).unlink(missing_ok=True)
            self._before = _elapsed(self.folder)
            self._start = time.monotonic()
            self._looked = _Looked(at=self._start)
            write_state(self.folder, "running", budget=self.setup.budget)
            try:
                with self._listening() as listen:
                    return self._driven(listen)
            except _Cancelled:
                return self._cancelled()
            except KeyboardInterrupt:
                self._cancelled()
                raise
            except BaseException as error:
                self._failed(error)
                raise

    # ------------------------------------------------------------------------------- the folder
    def _prepare(self, resume: bool) -> None:
        known = self.folder / VERSIONS
        if not known.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            # another driver may begin in the folder at this moment
            with locked(self.folder):
                if not known.is_file():
                    self._begin(known)
                    return
        if not resume:
            raise InvalidArgument(
                f"folder: {self.folder} holds a fit; resume it, or name another folder"
            )
        self._check_same(known)

    def _begin(self, known: Path) -> None:
        write_json(self.folder / CONFIG, record(self.setup))
        write_json(
            known,
            {
                "fingerprint": self._mark,
                "seed": self.setup.seed,
                "space": self.setup.space.record(),
                "terms": {
                    term: {"target": target.name, "group": target.group}
                    for target in self.setup.targets
                    for term in target.terms
                },
                "objectives": list(self.setup.objective.pareto),
                "versions": versions(),
            },
        )
        write_state(self.folder, "queued", budget=self.setup.budget)

    def _check_same(self, known: Path) -> None:
        import json

        try:
            told = json.loads(known.read_text(encoding="utf-8"))["fingerprint"]
            other = sorted(k for k, v in self._mark.items() if told.get(k) != v)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{known}: {error!r}") from None
        if other:
            raise Error(f"{self.folder}: holds a fit of another {', another '.join(other)}")

    def _cancelled(self) -> Result:
        from mlcore.forcefield.run.result import Result

        append_events(self.folder, [self._event("cancelled")])
        write_state(self.folder, "cancelled", **self._facts())
        (self.folder / CANCEL).unlink(missing_ok=True)
        found = Result.unfinished(self.setup, self.folder, self._best, self._count, "cancelled")
        return dataclasses.replace(found, seconds=self._facts()["elapsed"])

    def _failed(self, error: BaseException) -> None:
        message = f"{type(error).__name__}: {error}"
        where = "\n".join(getattr(error, "__notes__", ()))
        with contextlib.suppress(Exception):
            append_events(self.folder, [self._event("failed", message=message, traceback=where)])
            write_state(self.folder, "failed", message=message, **self._facts())

    def _event(self, kind: str, **facts: Any) -> dict[str, Any]:
        return {"event": kind, "time": round(time.time(), 3), **self._facts(), **facts}

    def _facts(self) -> dict[str, Any]:
        best = None if self._best is None else self._best.score
        return {
            "evaluations": self._count,
            "budget": self.setup.budget,
            "elapsed": round(self._before + time.monotonic() - self._start, 3),
            "best": None if best is None or not np.isfinite(best.total) else best.total,
        }

    # ------------------------------------------------------------------------------- the work
    def _driven(self, listen: Listener | None) -> Result:
        from mlcore.forcefield.run.finish import finish

        events = Events(self.folder, listen)
        history = History(self.folder)
        try:
            with self._engine() as engine:
                candidates = Candidates(
                    self.setup.recipe, engine, self.setup.timeout, self.setup.wants_residuals
                )
                try:
                    with self._watched(engine):
                        search = self._searched(candidates, history, events)
                except Error:
                    if self._stop.is_set():
                        raise _Cancelled from None
                    raise
                finally:
                    candidates.close()
            found = finish(
                self.setup, self.folder, self._best, self._count, search.front, self._failures
            )
            found = dataclasses.replace(found, seconds=self._facts()["elapsed"])
            found.save()
            events.tell("finished", **self._facts(), verified=found.verified.agrees)
            write_state(self.folder, "done", **self._facts())
            return found
        finally:
            history.close()
            events.close()

    def _engine(self) -> contextlib.AbstractContextManager[Engine | None]:
        if self.setup.engine is None:
            return contextlib.nullcontext()
        from mlcore import parallel

        return parallel.engine(self.setup.engine)

    @contextlib.contextmanager
    def _watched(self, engine: Engine | None) -> Iterator[None]:
        """Looks for a wish to cancel, and then ends what runs in workers."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_LOOK):
                if (self.folder / CANCEL).exists():
                    self._stop.set()
                if self._stop.is_set():
                    if engine is not None:
                        engine.close()
                    return

        watch = threading.Thread(target=look, name="mlcore-watch", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _searched(self, candidates: Candidates, history: History, events: Events) -> Search:
        search = self.setup.new_search()
        told = self._replayed(search, history.entries)
        stage = history.entries[-1].stage if history.entries else ""
        left = history.entries[told:]
        for entry in history.entries:
            self._note(entry)
        events.tell("started", **self._facts(), resumed=bool(history.entries))
        if not (self.folder / PREDICTED).is_file():
            events.keep(PREDICTED, predicted(self.setup))
        batch = history.entries[told - 1].batch + 1 if told else 0
        last = 0.0
        while not search.done:
            wish = search.wish()
            points = search.ask()
            if search.stage != stage:
                stage = search.stage
                events.tell("stage", stage=stage, **self._facts())
            scores = [entry.score for entry in left]
            self._check_points(points, left)
            for found in self._evaluated(wish[len(left) :], batch, stage, candidates):
                history.append(found)
                scores += [entry.score for entry in found]
                if self._note_all(found):
                    self._tell_best(events)
                if self._stop.is_set():
                    raise _Cancelled
            left = []
            search.tell(scores)
            batch += 1
            self._predict(candidates, events)
            if time.monotonic() - last > _TELL:
                last = time.monotonic()
                events.tell("batch", batch=batch, stage=stage, **self._facts())
        events.tell("checkpoint", batch=batch, **self._facts())
        return search

    def _replayed(self, search: Search, entries: Sequence[Entry]) -> int:
        """Tell a new search what the old one was told; returns the number of evaluations used."""
        used = 0
        while not search.done and used < len(entries):
            points = search.ask()
            known = entries[used : used + len(points)]
            self._check_points(points, known)
            if len(known) < len(points):
                break
            search.tell([entry.score for entry in known])
            used += len(points)
        return used

    def _check_points(self, points: np.ndarray, known: Sequence[Entry]) -> None:
        for point, entry in zip(points.tolist(), known, strict=False):
            if tuple(point) != entry.point:
                raise Error(
                    f"{self.folder}: evaluation {entry.number} was of another point: the history "
                    "was made by another version of the search or of a library it uses; see "
                    f"{VERSIONS}"
                )

    def _evaluated(
        self, wish: np.ndarray | Derivatives, batch: int, stage: str, candidates: Candidates
    ) -> Iterator[list[Entry]]:
        """Entries of the points, in order, in handfuls as they come."""
        if isinstance(wish, Derivatives):
            if len(wish):
                yield self._derived(wish, batch, stage, candidates)
            return
        points, space, number = wish, self.setup.space, self._count
        missing = [space.violation(p) if space.constraints else 0.0 for p in points]
        wanted = [space.values(p) for p, v in zip(points, missing, strict=True) if v <= 0]
        found = iter(candidates(wanted)) if wanted else iter(())
        ready: list[Entry] = []
        last = time.monotonic()
        for point, violation in zip(points.tolist(), missing, strict=True):
            one = None if violation > 0 else next(found)
            ready.append(self._entry(number, batch, stage, tuple(point), violation, one))
            number += 1
            if time.monotonic() - last > _LOOK or self._stop.is_set():
                yield ready
                ready, last = [], time.monotonic()
        if ready:
            yield ready

    def _derived(
        self, wish: Derivatives, batch: int, stage: str, candidates: Candidates
    ) -> list[Entry]:
        """An entry for each row, each with its part of the derivatives of the one point."""
        space, point = self.setup.space, wish.points[0]
        violation = space.violation(point) if space.constraints else 0.0
        found = None
        if violation <= 0:
            item = Along(space.values(point), space.directions(point), len(wish))
            (found,) = candidates([item])
        told = tuple(point.tolist())
        whole = self._entry(self._count, batch, stage, told, violation, found)
        entries = []
        for k, columns in enumerate(wish.columns):
            slopes = whole.score.slopes
            score = whole.score
            if slopes is not None:
                score = dataclasses.replace(score, slopes=slopes[:, columns])
            entries.append(
                dataclasses.replace(
                    whole,
                    number=whole.number + k,
                    score=score,
                    seconds=whole.seconds / len(wish),
                )
            )
        return entries

    def _entry(
        self,
        number: int,
        batch: int,
        stage: str,
        point: tuple[float, ...],
        violation: float,
        found: Evaluation | None,
    ) -> Entry:
        if found is None:
            count = len(self.setup.objective.pareto)
            score = Score.failed("a constraint does not hold", violation, count)
            return Entry(number, batch, point, score, (), 0.0, stage)
        score = self.setup.objective.score(found)
        terms = () if found.failed else tuple(map(found.terms.get, self.setup.terms))
        return Entry(number, batch, point, score, terms, found.seconds, stage, found.notes)

    # ------------------------------------------------------------------------------- the best
    def _note_all(self, entries: Sequence[Entry]) -> bool:
        best = [entry for entry in entries if self._note(entry)]
        return bool(best)

    def _note(self, entry: Entry) -> bool:
        """Count an evaluation; whether it is the best so far."""
        self._count = max(self._count, entry.number + 1)
        words = [*([entry.score.error] if entry.score.error else []), *entry.notes.values()]
        for word in words:
            self._failures[word] = self._failures.get(word, 0) + 1
        if self._best is not None and not key(entry.score) < key(self._best.score):
            return False
        self._best = entry
        return True

    def _tell_best(self, events: Events) -> None:
        best = self._best
        assert best is not None
        events.tell("best", evaluation=best.number, stage=best.stage, **self._facts())
        events.keep(BEST, best_record(self.setup, best))

    def _predict(self, candidates: Candidates, events: Events) -> None:
        """Evaluate the best once more, with its values, where it is new and that is cheap by now."""
        best, looked = self._best, self._looked
        if best is None or best.score.error is not None or best.number == looked.number:
            return
        begun = time.monotonic()
        if begun - looked.at < max(_PREDICT, _RARE * max(best.seconds, looked.seconds)):
            return
        (found,) = candidates([Whole(self.setup.space.values(best.point))])
        if found.failed is None:
            events.keep(PREDICTED, predicted(self.setup, best.number, found))
        now = time.monotonic()
        self._looked = _Looked(best.number, now, now - begun)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[Listener | None]:
        if callable(self._progress):
            yield self._progress
        elif self._progress:
            from mlcore.forcefield.run.progress import bar

            with bar(self.setup.budget) as listen:
                yield listen
        else:
            yield None


def best_record(setup: Setup, best: Entry) -> dict[str, Any]:
    """What `best.json` holds."""
    total = best.score.total
    return {
        "evaluation": best.number,
        "total": total if np.isfinite(total) else None,
        "level": best.score.level,
        "error": best.score.error,
        "point": list(best.point),
        "values": setup.space.values(best.point),
        "terms": dict(zip(setup.terms, best.terms, strict=False)),
    }


def _elapsed(folder: Path) -> float:
    """Seconds earlier drivers worked."""
    told = [event["elapsed"] for event in read_events(folder) if "elapsed" in event]
    return float(told[-1]) if told else 0.0


__all__ += ["read_history"]
