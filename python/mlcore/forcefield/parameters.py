"""Parameters of a force field, and the space a fit searches in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlcore.errors import InvalidArgument
from mlcore.forcefield.expressions import Expression

__all__ = ["Free", "Parameter", "Space"]

Number = Annotated[float, Field(allow_inf_nan=False)]
Scale = Literal["linear", "log"]
Vector = npt.NDArray[np.float64]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_range(lower: float, upper: float, inside: float, scale: Scale) -> None:
    if not math.isfinite(upper - lower):
        raise ValueError(f"{lower:g} to {upper:g} is too wide")
    if not lower < upper:
        raise ValueError(f"lower {lower:g} must be below upper {upper:g}")
    if not lower <= inside <= upper:
        raise ValueError(f"{inside:g} lies outside of {lower:g} to {upper:g}")
    if scale == "log" and lower <= 0:
        raise ValueError(f"a logarithmic scale needs lower > 0, got {lower:g}")


class Parameter(_Record):
    """One number of a functional form.

    Attributes:
        name: as ties and files call it.
        default: value where nothing else is said.
        lower, upper: range of a fit where nothing else is said.
        unit: in LAMMPS' ``metal`` units; "" for a pure number.
        scale: whether a fit moves in the number or in its logarithm.
        whole: it is one of few whole numbers and never fitted.
        text: what it does.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    default: Number
    lower: Number
    upper: Number
    unit: str = ""
    scale: Scale = "linear"
    whole: bool = False
    text: str = ""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        _check_range(self.lower, self.upper, self.default, self.scale)
        return self


class Free(_Record):
    """Where a free parameter may go, and where it starts."""

    lower: Number
    upper: Number
    initial: Number
    scale: Scale = "linear"

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        _check_range(self.lower, self.upper, self.initial, self.scale)
        return self

    def value(self, unit: Any) -> Any:
        """The value at ``unit`` of the way from lower to upper."""
        return _Cube([self]).values(np.asarray(unit, dtype=np.float64)[..., None])[..., 0]

    def unit(self, value: float) -> float:
        """Part of the way from lower to upper where ``value`` lies."""
        if self.scale == "log":
            return math.log(value / self.lower) / math.log(self.upper / self.lower)
        return (value - self.lower) / (self.upper - self.lower)


class _Cube:
    """Ranges of several free parameters, side by side."""

    def __init__(self, free: Sequence[Free]) -> None:
        self.lower = np.array([f.lower for f in free])
        self.upper = np.array([f.upper for f in free])
        self.initial = np.array([f.initial for f in free])
        self.start = np.array([f.unit(f.initial) for f in free])
        self.log = np.array([f.scale == "log" for f in free])
        ends = np.stack([self.lower, self.upper])
        ends[:, self.log] = np.log(ends[:, self.log])
        self.first, self.width = ends[0], ends[1] - ends[0]

    def values(self, units: Vector) -> Vector:
        """(..., n) values at ``units`` of the way from lower to upper."""
        found = self.first + units * self.width
        found[..., self.log] = np.exp(found[..., self.log])
        # a fit that stays where it began must not move its parameters by a rounding
        found = np.where(units == self.start, self.initial, found)
        return np.clip(found, self.lower, self.upper)

    def slopes(self, units: Vector) -> Vector:
        """(n,) derivatives of the values by the units."""
        found: Vector = self.width * np.where(self.log, self.values(units), 1.0)
        return found


class Space:
    """What a fit may change: a cube of the free parameters, each from 0 to 1.

    Args:
        parameters: all parameters of the model, as `Model.parameters`.
        free: names of those to be fitted (in the ranges of their records), or name -> `Free`.
        fixed: values of others; a name that is no parameter of the model is an auxiliary number
            that ties may use (it may be free too, with a `Free` of its own).
        ties: name -> arithmetic of other names, such as ``{"B_Si_C": "chi*sqrt(B_Si*B_C)"}``.
        constraints: comparisons such as ``"R > D"``, which candidates must fulfil.

    Attributes:
        names: the free parameters, in order.
        size: their number.
        initial: (size,) point the fit starts from.

    Raises:
        InvalidArgument: an unknown name, a parameter both free and fixed or tied, ties in a
            circle, arithmetic that cannot be read.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        free: Iterable[str] | Mapping[str, Free | Mapping[str, Any]],
        fixed: Mapping[str, float] | None = None,
        ties: Mapping[str, str] | None = None,
        constraints: Sequence[str] = (),
    ) -> None:
        self.parameters = tuple(parameters)
        known = {p.name: p for p in self.parameters}
        self.free = _free(known, free)
        self.names = tuple(self.free)
        self.size = len(self.names)
        if not self.size:
            raise InvalidArgument("free: name at least one parameter to be fitted")
        self._cube = _Cube(list(self.free.values()))
        self.fixed = {name: _number(name, value) for name, value in (fixed or {}).items()}
        self.ties = {
            name: Expression(text, f"tie of {name}") for name, text in (ties or {}).items()
        }
        self.constraints = tuple(Expression(text, "constraint") for text in constraints)
        self._check_names(known)
        self._order = _in_order(self.ties)
        self._constants = {
            p.name: p.default for p in self.parameters if p.name not in self.free
        } | self.fixed
        self._check_uses()

    @property
    def initial(self) -> Vector:
        return self._cube.start.copy()

    def values(self, point: npt.ArrayLike) -> dict[str, float]:
        """Every parameter of the model at one point.

        Args:
            point: (size,), each from 0 to 1; what lies outside is moved to the bound.

        Returns:
            name -> value, auxiliary numbers included.

        Raises:
            InvalidArgument: wrong shape, or a number that is not finite.
        """
        row = self._points(point)
        if row.ndim != 1:
            raise InvalidArgument(f"point must have shape ({self.size},), got {row.shape}")
        return {name: float(value) for name, value in self._values(row).items()}

    def directions(self, point: npt.ArrayLike) -> dict[str, Vector]:
        """Derivatives of every parameter that changes, through scales and ties, by the point.

        Args:
            point: (size,), each from 0 to 1.

        Returns:
            name -> (size,) d value / d unit of each free parameter.
        """
        row = self._points(point)
        values = self.values(row)
        found: dict[str, Vector] = dict(
            zip(self.names, np.diag(self._cube.slopes(row)), strict=True)
        )
        for name in self._order:
            slopes = self.ties[name].slopes(values, found)
            found[name] = np.broadcast_to(np.asarray(slopes, np.float64), row.shape).copy()
        return found

    def table(self, points: npt.ArrayLike, names: Sequence[str]) -> Vector:
        """Values of the parameters called ``names`` at many points.

        Args:
            points: (m, size), each from 0 to 1.
            names: of parameters, in the order wanted.

        Returns:
            (m, len(names)) float64.
        """
        rows = np.atleast_2d(self._points(points))
        found = self._values(rows)
        return np.stack([np.broadcast_to(found[name], len(rows)) for name in names], axis=1)

    def unit(self, values: Mapping[str, float]) -> Vector:
        """The point of the free parameters' ``values``; outside of [0, 1] where they are outside."""
        for name, free in self.free.items():
            if name not in values:
                raise InvalidArgument(f"values: {name} is missing")
            if free.scale == "log" and not values[name] > 0:
                raise InvalidArgument(
                    f"values: {name} is on a logarithmic scale and must be above 0, got "
                    f"{values[name]}"
                )
        return np.array([free.unit(values[name]) for name, free in self.free.items()])

    def violation(self, point: npt.ArrayLike) -> float:
        """Sum of what is missing until every constraint holds; 0 where all do."""
        if not self.constraints:
            return 0.0
        found = self._values(self._points(point))
        missing = [float(np.max(constraint(found))) for constraint in self.constraints]
        return sum(missing) if np.all(np.isfinite(missing)) else math.inf

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it; `from_record` makes it anew."""
        return {
            "parameters": [p.model_dump() for p in self.parameters],
            "free": {name: free.model_dump() for name, free in self.free.items()},
            "fixed": dict(self.fixed),
            "ties": {name: tie.text for name, tie in self.ties.items()},
            "constraints": [constraint.text for constraint in self.constraints],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Space:
        """The space `record` was made of.

        Raises:
            InvalidArgument: it is no such record.
        """
        told = dict(record)
        if set(told) != {"parameters", "free", "fixed", "ties", "constraints"}:
            raise InvalidArgument(f"record: wrong entries {sorted(told)}")
        try:
            told["parameters"] = [Parameter.model_validate(p) for p in told["parameters"]]
        except ValidationError as error:
            raise InvalidArgument(f"record: parameters: {error}") from None
        return cls(**told)

    def _points(self, points: npt.ArrayLike) -> Vector:
        rows = np.asarray(points, dtype=np.float64)
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.size:
            raise InvalidArgument(f"point must have {self.size} numbers, got shape {rows.shape}")
        if not np.all(np.isfinite(rows)):
            raise InvalidArgument("point must be finite")
        return np.clip(rows, 0.0, 1.0)

    def _values(self, rows: Vector) -> dict[str, Any]:
        found: dict[str, Any] = dict(self._constants)
        found |= zip(self.names, np.moveaxis(self._cube.values(rows), -1, 0), strict=True)
        for name in self._order:
            found[name] = self.ties[name](found)
        return found

    def _check_names(self, known: Mapping[str, Parameter]) -> None:
        for what, names in (("fixed", self.fixed), ("ties", self.ties)):
            for name in names:
                if name in self.free:
                    raise InvalidArgument(f"{what}: {name} is free already")
        for name in self.ties:
            if name in self.fixed:
                raise InvalidArgument(f"ties: {name} is fixed already")
            if name not in known:
                raise InvalidArgument(_unknown("ties", name, known))
            if known[name].whole:
                raise InvalidArgument(f"ties: {name} is a whole number and cannot be tied")

    def _check_uses(self) -> None:
        for name, tie in self.ties.items():
            if tie.compares:
                raise InvalidArgument(f"ties: {name}: {tie.text!r} is a comparison")
        for constraint in self.constraints:
            if not constraint.compares:
                raise InvalidArgument(f"constraints: {constraint.text!r} is no comparison")
        used = {name for e in (*self.ties.values(), *self.constraints) for name in e.names}
        there = self._constants.keys() | self.free.keys() | self.ties.keys()
        for name in sorted(used - there):
            raise InvalidArgument(_unknown("ties and constraints", name, there))
        known = {p.name for p in self.parameters}
        for name in (*self.fixed, *self.free):
            if name not in known and name not in used:
                raise InvalidArgument(_unknown("free and fixed", name, known))


def _free(
    known: Mapping[str, Parameter], free: Iterable[str] | Mapping[str, Free | Mapping[str, Any]]
) -> dict[str, Free]:
    if isinstance(free, str):
        raise InvalidArgument(f"free must be a list of names, got the text {free!r}")
    if isinstance(free, Mapping):
        for name in free:
            _check_free(name, known)
        return {name: _one_free(name, told) for name, told in free.items()}
    found = {}
    for name in free:
        if name not in known:
            raise InvalidArgument(_unknown("free", name, known))
        _check_free(name, known)
        record = known[name]
        found[name] = Free(
            lower=record.lower, upper=record.upper, initial=record.default, scale=record.scale
        )
    return found


def _check_free(name: str, known: Mapping[str, Parameter]) -> None:
    if name in known and known[name].whole:
        raise InvalidArgument(f"free: {name} is a whole number and cannot be fitted")


def _one_free(name: str, told: Free | Mapping[str, Any]) -> Free:
    if isinstance(told, Free):
        return told
    try:
        return Free.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(
            f"free: {name}: {'.'.join(map(str, first['loc']))} {first['msg']}"
        ) from None


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidArgument(f"fixed: {name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise InvalidArgument(f"fixed: {name} must be finite, got {value}")
    return float(value)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    shown = sorted(known)
    return f"{what}: nothing is called {name}; there are {', '.join(shown[:40])}"


def _in_order(ties: Mapping[str, Expression]) -> list[str]:
    """Names of the ties, each after those it needs."""
    order: list[str] = []
    left = dict(ties)
    while left:
        ready = [name for name, tie in left.items() if not set(tie.names) & left.keys()]
        if not ready:
            raise InvalidArgument(f"ties: {', '.join(sorted(left))} need each other in a circle")
        order += ready
        for name in ready:
            del left[name]
    return order
