"""Arithmetic written as text: ties between parameters, constraints, objectives of the user's own.

The text is parsed and walked, never executed: numbers, names, + - * / **, comparisons and a few
functions are all there is. ``where(r < c, a, b)`` is a where the comparison holds, elsewhere b.
"""

from __future__ import annotations

import ast
import keyword
import operator
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlcore.errors import InvalidArgument

__all__ = ["FUNCTIONS", "Expression"]

LONGEST = 2000
DEEPEST = 100

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "cos": np.cos,
    "exp": np.exp,
    "log": np.log,
    "max": lambda *values: np.maximum.reduce(np.broadcast_arrays(*values)),
    "min": lambda *values: np.minimum.reduce(np.broadcast_arrays(*values)),
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "where": np.where,
}

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
# how much is missing until left stands to right as it should
_MISSING: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: lambda left, right: left - right,
    ast.LtE: lambda left, right: left - right,
    ast.Gt: lambda left, right: right - left,
    ast.GtE: lambda left, right: right - left,
    ast.Eq: lambda left, right: np.abs(left - right),
}
_HOLDS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}
# parameters may be called lambda, which Python's own grammar keeps for itself
_RESERVED = re.compile(rf"\b({'|'.join(keyword.kwlist)})\b")
_ESCAPE = "_escaped_"


class Expression:
    """Arithmetic over named numbers.

    Args:
        text: for example ``"chi*sqrt(B_Si*B_C)"``, or with comparison ``"R > D"``.
        what: how errors call it.

    Attributes:
        names: the names it needs, sorted.
        compares: whether it is one comparison.

    Raises:
        InvalidArgument: the text is no such arithmetic.
    """

    def __init__(self, text: str, what: str = "expression") -> None:
        self.text = text
        self.what = what
        self._tree = _parsed(text, what)
        self.compares = isinstance(self._tree, ast.Compare)
        self.names = tuple(sorted(_checked(self._tree, text, what, top=True)))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Its value; that of a comparison is what is missing until it holds, 0 where it does.

        Args:
            values: a number, or an array of any one shape, for each of `names`.

        Returns:
            float64, of the shape of the values. Where arithmetic has no answer (1/0, log(-1)) it
            is infinite or NaN, as NumPy has it.

        Raises:
            InvalidArgument: a name has no value.
        """
        for name in self.names:
            if name not in values:
                raise InvalidArgument(f"{self.what} {self.text!r}: nothing is called {name}")
        with np.errstate(all="ignore"):
            return _value(self._tree, values)

    def slopes(self, values: Mapping[str, float], directions: Mapping[str, Any]) -> Any:
        """Its derivatives along Q directions, of arithmetic that is no comparison.

        Args:
            values: a number for each of `names`.
            directions: name -> (Q,) derivatives of that number; a name left out does not change.

        Returns:
            (Q,) float64; at a kink that of one side.
        """
        with np.errstate(all="ignore"):
            return _moved(self._tree, values, directions)[1]


def _parsed(text: str, what: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgument(f"{what} must be text such as 'sqrt(a*b)', got {text!r}")
    if len(text) > LONGEST:
        raise InvalidArgument(f"{what} must be at most {LONGEST} characters, got {len(text)}")
    if _ESCAPE in text:
        raise InvalidArgument(f"{what} {text!r}: nothing may be called {_ESCAPE}...")
    escaped = _RESERVED.sub(rf"{_ESCAPE}\1", text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(escaped, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning) as error:
        # a line of no file is no place
        reason = str(getattr(error, "msg", error)).replace(_ESCAPE, "")
        raise InvalidArgument(f"{what} {text!r} cannot be read: {reason}") from None
    if _depth(tree) > DEEPEST:
        raise InvalidArgument(f"{what} is nested more than {DEEPEST} deep")
    return tree


def _depth(tree: ast.AST) -> int:
    deepest, left = 0, [(tree, 1)]
    while left:
        node, depth = left.pop()
        deepest = max(deepest, depth)
        left += [(below, depth + 1) for below in ast.iter_child_nodes(node)]
    return deepest


def _named(node: ast.Name) -> str:
    return node.id.removeprefix(_ESCAPE)


def _checked(node: ast.expr, text: str, what: str, top: bool = False) -> set[str]:
    """The names below ``node``, all of which is arithmetic."""

    def below(*nodes: ast.expr) -> set[str]:
        return set().union(*(_checked(n, text, what) for n in nodes))

    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value):
            if abs(value) <= sys.float_info.max:
                return set()
        case ast.Name():
            return {_named(node)}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            return below(node.operand)
        case ast.BinOp() if type(node.op) in _BINARY:
            return below(node.left, node.right)
        case ast.Compare(ops=[op]) if top and type(op) in _MISSING:
            return below(node.left, *node.comparators)
        case ast.Call(func=ast.Name(id="where"), args=[ast.Compare() as test, yes, no]):
            if not node.keywords:
                return _checked(test, text, what, top=True) | below(yes, no)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS and node.args:
            if name in ("max", "min") or (len(node.args) == 1 and name != "where"):
                return below(*node.args)
    shown = ast.unparse(node).replace(_ESCAPE, "")
    raise InvalidArgument(
        f"{what} {text!r}: {shown!r} is not allowed; allowed are numbers, names, "
        f"+ - * / **, {', '.join(FUNCTIONS)} and one comparison"
    )


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return float(node.value)  # type: ignore[arg-type]
        case ast.Name():
            return np.asarray(values[_named(node)], dtype=np.float64)[()]
        case ast.UnaryOp():
            inner = _value(node.operand, values)
            return -inner if isinstance(node.op, ast.USub) else inner
        case ast.BinOp():
            return _BINARY[type(node.op)](_value(node.left, values), _value(node.right, values))
        case ast.Compare():
            left, right = _value(node.left, values), _value(node.comparators[0], values)
            return np.maximum(_MISSING[type(node.ops[0])](left, right), 0.0)
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if node.func.id == "where":
        test, yes, no = node.args
        return np.where(_holds(test, values), _value(yes, values), _value(no, values))[()]
    return FUNCTIONS[node.func.id](*(_value(argument, values) for argument in node.args))


# derivatives of the functions of one argument
_SLOPES: dict[str, Callable[[Any], Any]] = {
    "abs": np.sign,
    "cos": lambda x: -np.sin(x),
    "exp": np.exp,
    "log": lambda x: 1 / x,
    "sin": np.cos,
    "sqrt": lambda x: 0.5 / np.sqrt(x),
    "tanh": lambda x: 1 - np.tanh(x) ** 2,
}


def _moved(
    node: ast.expr, values: Mapping[str, float], directions: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Value and derivatives of what is below ``node``."""
    value = _value(node, values)
    match node:
        case ast.Constant():
            return value, 0.0
        case ast.Name():
            return value, directions.get(_named(node), 0.0)
        case ast.UnaryOp():
            inner = _moved(node.operand, values, directions)[1]
            return value, -inner if isinstance(node.op, ast.USub) else inner
        case ast.BinOp():
            left, right = (_moved(n, values, directions) for n in (node.left, node.right))
            return value, _of_two(type(node.op), value, left, right)
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    name = node.func.id
    if name == "where":
        test, yes, no = node.args
        return value, _moved(yes if _holds(test, values) else no, values, directions)[1]
    told = [_moved(argument, values, directions) for argument in node.args]
    if name in ("max", "min"):
        return value, next(slope for x, slope in told if x == value or np.isnan(value))
    return value, _SLOPES[name](told[0][0]) * told[0][1]


def _of_two(
    kind: type[ast.operator], value: Any, left: tuple[Any, Any], right: tuple[Any, Any]
) -> Any:
    (a, da), (b, db) = left, right
    if kind is ast.Add:
        return da + db
    if kind is ast.Sub:
        return da - db
    if kind is ast.Mult:
        return da * b + a * db
    if kind is ast.Div:
        return np.divide(da - value * db, b)
    of_base = b * np.power(a, b - 1) * da if np.any(da) else 0.0
    # a negative base has no logarithm, and needs none while its exponent stays
    return of_base + (value * np.log(a) * db if np.any(db) else 0.0)


def _holds(test: ast.expr, values: Mapping[str, Any]) -> Any:
    assert isinstance(test, ast.Compare)
    left, right = _value(test.left, values), _value(test.comparators[0], values)
    return _HOLDS[type(test.ops[0])](left, right)
