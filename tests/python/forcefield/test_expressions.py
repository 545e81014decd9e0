"""Arithmetic written as text: values, comparisons, and that it is nothing but arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import InvalidArgument
from mlcore.forcefield.expressions import FUNCTIONS, Expression

VALUES = {"a": 2.0, "b": 3.0, "c": -0.5, "lambda": 4.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1.0),
        (" a + b*c ", 0.5),
        ("-a**2", -4.0),
        ("+a/b", 2 / 3),
        ("2**-1", 0.5),
        ("sqrt(a*b)", math.sqrt(6)),
        ("exp(c) + log(b)", math.exp(-0.5) + math.log(3)),
        ("max(a, b, c) - min(a, c)", 3.5),
        ("max(a)", 2.0),
        ("abs(c) + tanh(0) + sin(0) + cos(0)", 1.5),
        ("lambda*a", 8.0),
        ("where(a < b, 1, 2)", 1.0),
        ("where(a >= b, 1, where(c == -0.5, 3, 4))", 3.0),
        ("where(c > 0, log(c), 7)", 7.0),
        ("1e-3", 1e-3),
    ],
)
def test_values(text: str, expected: float) -> None:
    found = Expression(text)(VALUES)
    assert found == pytest.approx(expected)
    assert np.ndim(found) == 0


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("a < b", 0.0),
        ("b < a", 1.0),
        ("a > b", 1.0),
        ("a >= 2", 0.0),
        ("a <= c", 2.5),
        ("a == b", 1.0),
        ("a == 2", 0.0),
    ],
)
def test_comparisons_say_what_is_missing(text: str, missing: float) -> None:
    told = Expression(text)
    assert told.compares
    assert told(VALUES) == missing


def test_arrays_go_through() -> None:
    x = np.linspace(0.0, 2.0, 7)
    found = Expression("where(x < a, (x - a)**2, 0) + max(x, 1)")({"x": x, "a": 1.5})
    expected = np.where(x < 1.5, (x - 1.5) ** 2, 0) + np.maximum(x, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert Expression("x > 1")({"x": x}).shape == (7,)


def test_arithmetic_without_an_answer() -> None:
    assert Expression("1/a")({"a": 0.0}) == math.inf
    assert math.isnan(Expression("log(a)")({"a": -1.0}))
    assert math.isnan(Expression("a**0.5")({"a": -1.0}))
    # whole numbers of any size are floats before they are powers
    assert Expression("10**10**10")({}) == math.inf


def test_names() -> None:
    assert Expression("chi*sqrt(B_Si*B_C) + chi").names == ("B_C", "B_Si", "chi")
    assert Expression("lambda + in").names == ("in", "lambda")
    with pytest.raises(InvalidArgument, match="tie of x 'y': nothing is called y"):
        Expression("y", "tie of x")({"x": 1.0})


HOSTILE = [
    "__import__('os').system('true')",
    "().__class__",
    "a.b",
    "a[0]",
    "[a, b]",
    "(a, b)",
    "{a}",
    "'text'",
    "f'{a}'",
    "b''",
    "None",
    "True",
    "lambda: a",
    "lambda x: x",
    "a if b else c",
    "a and b",
    "not a",
    "~a",
    "a % b",
    "a // b",
    "a @ b",
    "a & b",
    "a << 2",
    "a < b < c",
    "(a < b) + 1",
    "sqrt(a < b)",
    "a != b",
    "a is b",
    "a in b",
    "open('x')",
    "eval(a)",
    "sqrt",
    "sqrt()",
    "sqrt(a, b)",
    "sqrt(x=a)",
    "sqrt(*a)",
    "max()",
    "max(*a)",
    "where(a, b, c)",
    "where(a < b, c)",
    "where(a < b < c, a, b)",
    "(y := a)",
    "a = b",
    "a; b",
    "import os",
    "yield a",
    "await a",
    "1j",
    "a +",
    "",
    "   ",
    "\0",
    "a\nb",
    "_escaped_lambda",
    "(" * 500 + "a" + ")" * 500,
    "-" * 1999 + "a",
    "a" * 2001,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(h)[:40] for h in HOSTILE])
def test_all_else_is_refused(text: str) -> None:
    if text == "sqrt":
        # a name like any other, which nothing is called
        with pytest.raises(InvalidArgument, match="nothing is called"):
            Expression(text)({})
        return
    with pytest.raises(InvalidArgument):
        Expression(text)(VALUES | {"x": 1.0})


@pytest.mark.parametrize("text", [3, None, b"a"])
def test_what_is_no_text(text: object) -> None:
    with pytest.raises(InvalidArgument, match="must be text"):
        Expression(text)  # type: ignore[arg-type]


def test_errors_show_what_the_user_wrote() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Expression("lambda.x", "tie of B")
    assert "tie of B 'lambda.x'" in str(caught.value)
    assert "_escaped_" not in str(caught.value)


NUMBER = st.floats(-5, 5).map(lambda x: f"({x!r})")
NAMES = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    NUMBER | NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map("({0[0]}{0[1]}{0[2]})".format),
        st.tuples(st.sampled_from(["sin", "abs", "tanh"]), inner).map("{0[0]}({0[1]})".format),
        st.tuples(inner, inner).map("max({0[0]},{0[1]})".format),
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(TREES)
def test_the_same_as_python(text: str) -> None:
    """Trusted text of the same grammar, evaluated by Python itself, is the oracle."""
    names = {name: np.float64(VALUES[name]) for name in "abc"}
    functions = {"sin": np.sin, "abs": np.abs, "tanh": np.tanh, "max": np.maximum}
    with np.errstate(all="ignore"):
        try:
            expected = eval(text, {"__builtins__": {}}, {**names, **functions})
        except ZeroDivisionError:
            return
    found = Expression(text)(names)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_every_function_is_there() -> None:
    for name in FUNCTIONS:
        text = "where(a < 1, a, 2)" if name == "where" else f"{name}(a)"
        assert Expression(text).names == ("a",)
