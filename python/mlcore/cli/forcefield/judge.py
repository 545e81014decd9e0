"""``mlcore forcefield validate, uq``: what a fit is worth."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcore.cli.forcefield.say import AsJson, say

if TYPE_CHECKING:
    from mlcore.forcefield.evaluate import Evaluator
    from mlcore.forcefield.forms import Model
    from mlcore.forcefield.run import Setup
    from mlcore.forcefield.targets import Target

__all__ = ["COMMANDS"]

Place = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a fit, or a config: YAML or JSON.")
]


def validate(
    place: Place,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="k of k-fold.")] = None,
    groups: Annotated[bool, typer.Option("--groups", help="Leave each group out in turn.")] = False,
    hold_out: Annotated[
        list[str] | None,
        typer.Option("--hold-out", help="Term, target, group or structure; may be repeated."),
    ] = None,
    starts: Annotated[int, typer.Option("--starts", min=1, help="Fits of each split.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and starts.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Refit without some of the data, and tell errors on what was seen and what not."""
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.uncertainty.cross_validation import (
        cross_validate,
        k_fold,
        leave_group_out,
    )
    from mlcore.forcefield.uncertainty.cross_validation import hold_out as without

    if sum((folds is not None, groups, bool(hold_out))) > 1:
        raise InvalidArgument("say one of --folds, --groups and --hold-out")
    setup = _setup(place)
    if hold_out:
        splits = without(setup.targets, hold_out)
    elif groups:
        splits = leave_group_out(setup.targets)
    else:
        splits = k_fold(setup.targets, folds or 5, seed)
    found = cross_validate(
        setup.model,
        setup.space,
        setup.targets,
        splits,
        starts=starts,
        seed=seed,
        evaluator=functools.partial(_evaluator, setup),
    )
    if place.is_dir():
        found.save(place / "validation.json")
    say(found.record(), found.table(), as_json)


def uq(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a fit that is done.")],
    level: Annotated[
        float, typer.Option("--level", min=0.01, max=0.999, help="Part of fits that are right.")
    ] = 0.9,
    scaled: Annotated[
        bool, typer.Option("--scaled", help="Tolerances scaled to what the fit leaves over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Intervals of the parameters and the directions the data say little of."""
    from mlcore.forcefield.run.result import Result
    from mlcore.forcefield.uncertainty.fisher_information import fisher
    from mlcore.forcefield.uncertainty.misfit import Misfit

    setup, result = _setup(folder), Result.load(folder)
    point = setup.space.unit(result.values).clip(0.0, 1.0)
    with _evaluator(setup, setup.model, setup.targets) as evaluator:
        found = fisher(Misfit(evaluator, setup.space, setup.targets), setup.space, point)
    found.save(folder / "fisher.json")
    intervals = found.intervals(level, scaled=scaled, prior=True)
    content = {"level": level, "intervals": intervals, **found.record()}
    say(content, found.table(scaled=scaled), as_json)


COMMANDS = (validate, uq)


def _evaluator(setup: Setup, model: Model, targets: Sequence[Target]) -> Evaluator:
    """As the fit evaluates."""
    from mlcore.forcefield.evaluate import Evaluator

    return Evaluator(model, targets, engine=setup.evaluator, cutoff_cap=setup.cutoff_cap)


def _setup(place: Path) -> Setup:
    from mlcore.forcefield.config import load

    return load(place).setup(place if place.is_dir() else None)
