"""All that a fit is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlcore.forcefield.objective import Objective
from mlcore.forcefield.run.candidates import Recipe
from mlcore.forcefield.search.face import ASKED, Search, slope_cost

if TYPE_CHECKING:
    from mlcore.forcefield.forms import Model
    from mlcore.forcefield.parameters import Space
    from mlcore.forcefield.search import Strategy
    from mlcore.forcefield.targets import Target
    from mlcore.parallel import EngineSettings

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """All a fit needs.

    Attributes:
        model, space: the form, and what is free in it.
        targets: what is wanted.
        objective: how good a candidate is.
        search: name of a strategy (see `mlcore.forcefield.search.names`), or a function of the
            number of parameters and ``start``, ``seed``, ``budget`` that makes one.
        options: of the strategy.
        budget: most evaluations.
        seed: of all random numbers.
        engine: who evaluates; None: this process, without supervision.
        timeout: seconds for one candidate; None: as long as it takes.
        evaluator: ``auto``, ``native`` or ``lammps``.
        cutoff_cap: largest cutoff of a candidate, A.
        held_out: targets the fit is judged by and never sees.
        config: what the folder keeps of all this, where it was made from a file.
    """

    model: Model
    space: Space
    targets: tuple[Target, ...]
    objective: Objective
    search: str | Callable[..., Strategy] = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: int = 2000
    seed: int = 0
    engine: EngineSettings | None = None
    timeout: float | None = None
    evaluator: Literal["auto", "native", "lammps"] = "auto"
    cutoff_cap: float = 12.0
    held_out: tuple[Target, ...] = ()
    config: Mapping[str, Any] | None = None

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of all terms, in the order histories hold them."""
        return tuple(term for target in self.targets for term in target.terms)

    @property
    def recipe(self) -> Recipe:
        """Of the evaluator that candidates are scored by."""
        gate = None
        if self.objective.tolerances:
            # levels know no formula: what the objective does with terms need not travel
            gate = Objective(self.targets, tolerances=self.objective.tolerances).passes
        return Recipe(self.model, self.targets, self.evaluator, self.cutoff_cap, gate)

    def new_search(self) -> Search:
        """The search at its beginning."""
        from mlcore.forcefield.search import make

        start = np.clip(self.space.initial, 0.0, 1.0)
        if callable(self.search):
            made = self.search(self.space.size, start=start, seed=self.seed, budget=self.budget)
            return Search(made, self.budget)
        return make(
            self.search,
            self.space.size,
            start=start,
            seed=self.seed,
            budget=self.budget,
            options=self.options,
            jacobian=ASKED if self.exact else None,
            shares=self.objective.shares(),
        )

    @property
    def exact(self) -> bool:
        """Whether scores can tell derivatives of all residuals, for less than differences cost."""
        from mlcore.forcefield.evaluate.native import is_native

        return (
            not callable(self.search)
            and self.objective.kind in ("sse", "huber")
            and self.evaluator != "lammps"
            and is_native(self.model)
            and all(target.exact for target in self.targets)
            and slope_cost(self.space.size) < self.space.size
        )

    @property
    def wants_residuals(self) -> bool:
        """Whether the search may look at single residuals."""
        if callable(self.search):
            return True
        from mlcore.forcefield.search import describe

        return bool(describe(self.search)["takes_jacobian"])
