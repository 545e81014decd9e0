"""The cube a fit searches in: scales, ties, constraints, and that it begins where it was told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms import model
from mlcore.forcefield.parameters import Free, Parameter, Space

P = (
    Parameter(name="A", default=10.0, lower=1.0, upper=100.0, scale="log"),
    Parameter(name="R", default=3.0, lower=2.0, upper=5.0),
    Parameter(name="D", default=0.2, lower=0.1, upper=1.0),
    Parameter(name="m", default=3.0, lower=1.0, upper=3.0, whole=True),
)


def test_linear_and_logarithmic() -> None:
    space = Space(P, ["A", "R"])
    assert space.names == ("A", "R")
    assert space.size == 2
    assert space.values([0.5, 0.5]) == pytest.approx({"A": 10.0, "R": 3.5, "D": 0.2, "m": 3.0})
    assert space.values([0.0, 1.0]) == {"A": 1.0, "R": 5.0, "D": 0.2, "m": 3.0}
    np.testing.assert_allclose(space.unit({"A": 10.0, "R": 3.5}), [0.5, 0.5])


def test_outside_is_moved_to_the_bound() -> None:
    space = Space(P, ["A", "R"])
    assert space.values([-1.0, 7.0]) == space.values([0.0, 1.0])
    assert space.unit({"A": 1000.0, "R": 2.0})[0] == pytest.approx(1.5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.floats(1e-8, 1e8),
    st.floats(1.001, 1e6),
    st.floats(0, 1),
    st.sampled_from(["linear", "log"]),
)
def test_begins_exactly_where_it_was_told(low: float, ratio: float, u: float, scale: str) -> None:
    high = low * ratio
    initial = min(max(low + u * (high - low), low), high)
    free = Free.model_validate({"lower": low, "upper": high, "initial": initial, "scale": scale})
    space = Space(P, {"R": free})
    assert space.values(space.initial)["R"] == initial
    table = space.table(np.stack([space.initial, [0.0], [1.0]]), ["R"])
    assert table[0, 0] == initial
    assert low <= table.min() <= table.max() <= high


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0, 1), st.floats(0, 1))
def test_there_and_back(u: float, v: float) -> None:
    space = Space(P, ["A", "R"])
    np.testing.assert_allclose(space.unit(space.values([u, v])), [u, v], atol=1e-12)


def test_ties_of_a_mixture() -> None:
    potential = model("tersoff", ["Si", "C"])
    space = Space(
        potential.parameters,
        free={
            "B_Si_Si_Si": Free(lower=400, upper=500, initial=471.18),
            "chi": Free(lower=0.9, upper=1.1, initial=0.9776),
        },
        ties={
            "B_Si_C_C": "chi*sqrt(B_Si_Si_Si*B_C_C_C)",
            "B_C_Si_Si": "B_Si_C_C",
            "lam1_Si_C_C": "(lam1_Si_Si_Si + lam1_C_C_C)/2",
        },
    )
    values = space.values(space.initial)
    assert values["B_C_Si_Si"] == pytest.approx(0.9776 * math.sqrt(471.18 * 346.74))
    assert values["lam1_Si_C_C"] == pytest.approx((2.4799 + 3.4879) / 2)
    # the model takes what the space gives, auxiliary numbers and all
    assert potential.render(values).cutoff == 3.0


def test_ties_in_any_order_and_of_auxiliaries() -> None:
    space = Space(P, ["A"], fixed={"k": 2.0}, ties={"R": "D*10", "D": "k/A"})
    assert space.values([0.5])["R"] == pytest.approx(2.0)
    assert space.values([0.5])["k"] == 2.0


def test_constraints_count_what_is_missing() -> None:
    space = Space(P, ["R", "D"], constraints=["R - D > 4", "D >= 0.5"])
    assert space.violation([1.0, 1.0]) == pytest.approx(0.0)
    # R 2, D 0.1
    assert space.violation([0.0, 0.0]) == pytest.approx(2.1 + 0.4)
    broken = Space(P, ["R"], constraints=["log(R - 10) > 0"])
    assert broken.violation([0.5]) == math.inf


def test_constraints_see_ties() -> None:
    space = Space(P, ["A"], ties={"R": "A/10"}, constraints=["R <= 5"])
    assert space.violation([0.0]) == 0.0
    assert space.violation([1.0]) == pytest.approx(5.0)


def test_many_points_at_once() -> None:
    space = Space(P, ["A", "R"], ties={"D": "R/10"})
    points = np.random.default_rng(0).uniform(-0.1, 1.1, size=(20, 2))
    table = space.table(points, ["D", "m", "A", "R"])
    for row, point in zip(table, points, strict=True):
        values = space.values(point)
        np.testing.assert_allclose(row, [values[n] for n in ("D", "m", "A", "R")], rtol=1e-15)


def test_records() -> None:
    space = Space(
        P,
        {
            "A": Free(lower=2, upper=50, initial=7.0, scale="log"),
            "q": {"lower": 0, "upper": 1, "initial": 0.3},
        },
        fixed={"D": 0.3},
        ties={"R": "q + 2"},
        constraints=["R > D"],
    )
    again = Space.from_record(json.loads(json.dumps(space.record())))
    assert again.record() == space.record()
    assert again.values([0.2, 0.9]) == space.values([0.2, 0.9])
    np.testing.assert_array_equal(again.initial, space.initial)
    for broken in ({}, {**space.record(), "more": 1}, {**space.record(), "parameters": [{}]}):
        with pytest.raises(InvalidArgument, match="record"):
            Space.from_record(broken)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"free": []}, "at least one"),
        ({"free": "A"}, "list of names"),
        ({"free": ["B"]}, "nothing is called B"),
        ({"free": ["m"]}, "whole number"),
        ({"free": {"m": {"lower": 1, "upper": 3, "initial": 2}}}, "whole number"),
        ({"free": {"A": {"lower": 3, "upper": 2, "initial": 2}}}, "A: .*below"),
        ({"free": {"A": {"lower": 1, "upper": 2, "initial": 5}}}, "outside"),
        ({"free": {"A": {"lower": 0, "upper": 2, "initial": 1, "scale": "log"}}}, "lower > 0"),
        ({"free": {"A": {"lower": 0, "upper": 2, "initial": float("nan")}}}, "A: "),
        ({"free": {"A": {"lower": 0, "upper": 2, "initial": 1, "start": 1}}}, "start"),
        ({"free": {"z": {"lower": 0, "upper": 2, "initial": 1}}}, "nothing is called z"),
        ({"free": ["A"], "fixed": {"A": 1.0}}, "free already"),
        ({"free": ["A"], "fixed": {"R": float("inf")}}, "finite"),
        ({"free": ["A"], "fixed": {"R": "3"}}, "must be a number"),
        ({"free": ["A"], "fixed": {"z": 1.0}}, "nothing is called z"),
        ({"free": ["A"], "ties": {"A": "R"}}, "free already"),
        ({"free": ["A"], "fixed": {"R": 3.0}, "ties": {"R": "A"}}, "fixed already"),
        ({"free": ["A"], "ties": {"z": "A"}}, "nothing is called z"),
        ({"free": ["A"], "ties": {"R": "z"}}, "nothing is called z"),
        ({"free": ["A"], "ties": {"R": "D", "D": "R"}}, "circle"),
        ({"free": ["A"], "ties": {"R": "R + 1"}}, "circle"),
        ({"free": ["A"], "ties": {"R": "A > 3"}}, "comparison"),
        ({"free": ["A"], "ties": {"m": "A"}}, "whole number"),
        ({"free": ["A"], "constraints": ["A + 3"]}, "comparison"),
        ({"free": ["A"], "constraints": ["A > z"]}, "nothing is called z"),
    ],
)
def test_what_is_refused(told: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        Space(P, **told)  # type: ignore[arg-type]


def test_points_are_checked() -> None:
    space = Space(P, ["A", "R"])
    for point in ([0.1], [[0.1, 0.2, 0.3]], [math.nan, 0.1]):
        with pytest.raises(InvalidArgument, match="point"):
            space.values(point)
    with pytest.raises(InvalidArgument, match="shape"):
        space.values([[0.1, 0.2]])
    with pytest.raises(InvalidArgument, match="R is missing"):
        space.unit({"A": 1.0})


@pytest.mark.parametrize(
    "told",
    [
        {"name": "1a"},
        {"name": "a b"},
        {"lower": 3.0},
        {"default": 9.0},
        {"scale": "log", "lower": 0.0},
        {"upper": math.inf},
        {"words": "x"},
    ],
)
def test_parameters_are_checked(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Parameter"):
        Parameter(**({"name": "a", "default": 1.0, "lower": 0.5, "upper": 2.0} | told))


def test_what_has_no_place_in_the_space_is_said_in_words() -> None:
    number = Parameter(name="a", default=1.0, lower=0.1, upper=10.0, scale="log")
    with pytest.raises(InvalidArgument, match="a is on a logarithmic scale"):
        Space([number], ["a"]).unit({"a": -1.0})
    wide = {"lower": -1e308, "upper": 1e308, "initial": 0.0}
    with pytest.raises(InvalidArgument, match="too wide"):
        Space([number], {"a": wide})
    for text in ("1" + "0" * 400, "1e400"):
        with pytest.raises(InvalidArgument, match="not allowed"):
            Space([number], ["a"], constraints=[f"a < {text}"])
