"""Searches by name, with options that a config file can give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mlcore.errors import InvalidArgument
from mlcore.forcefield.search import (
    annealing,
    covariance,
    default,
    geodesic,
    hoga,
    leastsq,
    local,
    populations,
    sampling,
    stages,
    tree,
)
from mlcore.forcefield.search.face import Jacobian, Search, Strategy, staged

__all__ = ["describe", "make", "names", "options_model", "strategy"]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "default": default.default,
    "two_stage": stages.two_stage,
    "cma": covariance.cma,
    "ga": populations.ga,
    "de": populations.de,
    "pso": populations.pso,
    "hoga": hoga.hoga,
    "tree": tree.tree,
    "nsga2": populations.nsga2,
    "nsga3": populations.nsga3,
    "dual_annealing": annealing.dual_annealing,
    "basin_hopping": annealing.basin_hopping,
    "geodesic": geodesic.geodesic,
    "least_squares": leastsq.least_squares,
    "nelder_mead": local.nelder_mead,
    "powell": local.powell,
    "lbfgsb": local.lbfgsb,
    "random": sampling.random_sampling,
    "latin_hypercube": sampling.latin_hypercube,
    "sobol": sampling.sobol,
}
GIVEN = ("size", "start", "seed", "budget", "jacobian", "shares")
"""Arguments that are no options: `make` takes them itself."""


def names() -> list[str]:
    """Names of all strategies."""
    return sorted(STRATEGIES)


def _known(name: str) -> Callable[..., Strategy]:
    if name not in STRATEGIES:
        raise InvalidArgument(f"name: no search {name!r}; there are {', '.join(names())}")
    return STRATEGIES[name]


@cache
def options_model(name: str) -> type[BaseModel]:
    """The options of a strategy as a pydantic model, read off its signature."""
    function = _known(name)
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in GIVEN
    }
    title = "".join(word.capitalize() for word in name.split("_")) + "Options"
    return create_model(
        title,
        __config__=ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False),
        **fields,
    )


def describe(name: str) -> dict[str, Any]:
    """What a strategy is and which options it takes, as JSON.

    Returns:
        name, text, takes_jacobian, and options: a JSON schema with types, defaults, texts.
    """
    function = _known(name)
    return {
        "name": name,
        "text": inspect.getdoc(function) or "",
        "takes_jacobian": "jacobian" in inspect.signature(function).parameters,
        "options": options_model(name).model_json_schema(),
    }


def strategy(
    name: str,
    size: int,
    *,
    start: npt.ArrayLike | None = None,
    seed: int = 0,
    budget: int | None = None,
    options: Mapping[str, Any] | None = None,
    jacobian: Jacobian | None = None,
    shares: npt.NDArray[np.float64] | None = None,
) -> Strategy:
    """The bare generator of a strategy; arguments as of `make`."""
    function = _known(name)
    given: dict[str, Any] = {
        "start": start,
        "seed": seed,
        "budget": budget,
        "jacobian": jacobian,
        "shares": shares,
    }
    takes = inspect.signature(function).parameters
    chosen = _options(name, {} if options is None else options)
    made = function(size, **{k: v for k, v in given.items() if k in takes}, **chosen)
    return staged(name, made)


def make(
    name: str,
    size: int,
    *,
    start: npt.ArrayLike | None = None,
    seed: int = 0,
    budget: int | None = None,
    options: Mapping[str, Any] | None = None,
    jacobian: Jacobian | None = None,
    shares: npt.ArrayLike | None = None,
) -> Search:
    """A search by name.

    Args:
        name: one of `names()`.
        size: number of free parameters, n.
        start: (n,) where to begin, in the unit cube; None leaves it to the strategy.
        seed: of all random numbers of the search.
        budget: most evaluations, those for finite differences counted; None has no limit.
        options: of this strategy, see `describe`.
        jacobian: (n,) point -> (R, n) derivatives of the residuals, for strategies that use them;
            ``"asked"``: scores tell them where `Search.wish` gives `Derivatives`.

        shares: (M, R) what the square of each residual counts in each objective, for searches for a
            front, which then begin with least squares; None where they are no sums of squares.

    Raises:
        InvalidArgument: naming what is wrong: name, size, start, seed, budget, shares or an option.
    """
    size, seed = _integer("size", size, 1), _integer("seed", seed, 0)
    budget = None if budget is None else _integer("budget", budget, 1)
    begin = None if start is None else _point(start, size)
    made = strategy(
        name,
        size,
        start=begin,
        seed=seed,
        budget=budget,
        options=options,
        jacobian=jacobian,
        shares=None if shares is None else _shares(shares),
    )
    return Search(made, budget)


def _options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        model = options_model(name).model_validate(dict(options))
    except (ValidationError, TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise InvalidArgument(f"options of search {name!r}: {error}") from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        raise InvalidArgument(f"option {where!r} of search {name!r}: {first['msg']}") from None
    return {field: getattr(model, field) for field in type(model).model_fields}


def _integer(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidArgument(f"{name}: {value!r}, takes an integer of at least {least}")
    return int(value)


def _shares(given: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        shares = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidArgument("shares: is no array of numbers") from None
    if shares.ndim != 2 or not shares.size:
        raise InvalidArgument(f"shares: shape {shares.shape}, takes (objectives, residuals)")
    if not bool((np.isfinite(shares) & (shares >= 0)).all()):
        raise InvalidArgument("shares: not all are finite numbers of at least 0")
    return shares


def _point(start: npt.ArrayLike, size: int) -> npt.NDArray[np.float64]:
    try:
        point = np.array(start, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidArgument("start: is no array of numbers") from None
    if point.shape != (size,):
        raise InvalidArgument(f"start: shape {point.shape}, takes ({size},)")
    if not bool(((point >= 0) & (point <= 1)).all()):
        raise InvalidArgument("start: lies outside the unit cube")
    return point
