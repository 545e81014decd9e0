"""What a fit found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.errors import FileFormatError
from mlcore.forcefield.run.events import State, read_state, write_json

if TYPE_CHECKING:
    from mlcore.forcefield.run.history import Entry
    from mlcore.forcefield.run.setup import Setup

__all__ = ["RESULT", "Result", "Verified"]

RESULT = "result.json"


@dataclass(frozen=True)
class Verified:
    """Whether a fresh process with the written potential found what the search was told.

    Attributes:
        agrees: it did.
        total: what it found.
        largest: largest difference of a term, in tolerances.
        words: what was compared, or why it could not be.
    """

    agrees: bool
    total: float | None = None
    largest: float | None = None
    words: str = "not compared"


@dataclass(frozen=True)
class Result:
    """The best candidate of a fit and what is known of it.

    Attributes:
        folder: of the fit.
        state: ``done``, or ``cancelled``: then what follows is of the best so far.
        total: its score, to be small; None where no candidate could be evaluated.
        values: every parameter.
        terms: term -> size in tolerances.
        contributions: term -> part of the mean square of terms, which they add up to exactly.
        evaluations: how many there were.
        seconds: they took, as a clock counts.
        evaluation: number of the best.
        at_bounds: free parameters that lie at a bound, so that a wider range may do better.
        verified: by a fresh process.
        front: points no other dominates: ``evaluation``, ``objectives``, ``values``, and ``knee``.
        test: target -> root mean square of the residuals of held-out targets, in tolerances.
        failures: words of failed candidates -> how many there were.
        model: files of the potential.
    """

    folder: Path
    state: State
    total: float | None
    values: Mapping[str, float]
    terms: Mapping[str, float]
    contributions: Mapping[str, float]
    evaluations: int
    seconds: float = 0.0
    evaluation: int | None = None
    at_bounds: tuple[str, ...] = ()
    verified: Verified = field(default_factory=lambda: Verified(False))
    front: tuple[Mapping[str, Any], ...] = ()
    test: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    model: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = "no candidate could be evaluated" if self.total is None else f"{self.total:.6g}"
        lines = [
            f"{self.folder}: {self.state}, score {total} after {self.evaluations} evaluations "
            f"in {self.seconds:.1f} s"
        ]
        if self.state == "done":
            said = "reproduced" if self.verified.agrees else "NOT REPRODUCED"
            lines.append(f"score {said}: {self.verified.words}")
        if self.at_bounds:
            lines.append(f"at a bound: {', '.join(self.at_bounds)}; a wider range may do better")
        if self.model:
            lines.append(f"potential: {', '.join(self.model)}")
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {**asdict(self), "folder": str(self.folder)}

    def save(self) -> None:
        """Write `result.json` in the folder."""
        write_json(self.folder / RESULT, {k: v for k, v in self.record().items() if k != "folder"})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Result:
        """The result in the folder of a fit that is done.

        Raises:
            FileFormatError: there is none, or it is none.
        """
        path = Path(folder) / RESULT
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            verified = Verified(**told.pop("verified"))
            told |= {k: tuple(told[k]) for k in ("at_bounds", "front", "model")}
            return cls(folder=Path(folder), verified=verified, **told)
        except FileNotFoundError:
            state = (read_state(folder) or {"state": "not begun"})["state"]
            raise FileFormatError(f"{path}: is not there; the fit is {state}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise FileFormatError(f"{path}: {error!r}") from None

    @classmethod
    def unfinished(
        cls, setup: Setup, folder: Path, best: Entry | None, evaluations: int, state: State
    ) -> Result:
        """The best so far."""
        from mlcore.forcefield.evaluate import Evaluation

        found = {} if best is None else dict(zip(setup.terms, best.terms, strict=False))
        terms = {name: value for name, value in found.items() if value is not None}
        failed = best is None or best.score.error is not None
        return cls(
            folder=folder,
            state=state,
            total=None if failed or best is None else best.score.total,
            values={} if best is None else setup.space.values(best.point),
            terms=terms,
            contributions=setup.objective.contributions(Evaluation(terms=terms)) if terms else {},
            evaluations=evaluations,
            evaluation=None if best is None else best.number,
        )
