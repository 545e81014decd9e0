"""The documented endpoints do what their documentation says, whatever they are asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from mlcore.studio.api.access import COOKIE
from mlcore.studio.app import create
from mlcore.studio.settings import Limits, Settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

HOST = "127.0.0.1"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PASSWORD = "correct horse battery"
OF_PEOPLE = r"^/api/(logout|login|me|tokens.*|users.*)$"
"""They end the rights of who asks, or of others."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder: Path = tmp_path_factory.mktemp("api") / "studio"
    made = create(folder, Settings.load(folder), supervised=False)
    accounts = made.state.studio.accounts
    made.state.token = accounts.make_token(accounts.local(), "test")[1]
    yield made
    made.state.studio.store.close()


@pytest.fixture
def peopled(tmp_path: Path) -> Iterator[FastAPI]:
    """Where people log in, and may do so wrongly as often as they like."""
    asked = Settings(users=True, limits=Limits(logins=100_000))
    made = create(tmp_path / "studio", asked, supervised=False)
    made.state.studio.accounts.add("ada", PASSWORD, admin=True)
    yield made
    made.state.studio.store.close()


def test_endpoints_keep_their_word(app: FastAPI) -> None:
    """Whatever is asked, answers are those that the documentation tells, and no endpoint breaks.

    Of the stream of a task only refusals: no id that is tried is that of a task, whose stream goes
    on for as long as somebody looks.
    """
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers={"Host": HOST})
    headers = {"Authorization": f"Bearer {app.state.token}", "Host": HOST}
    _all_tried(schema.exclude(path_regex=OF_PEOPLE), lambda case: headers, 20)


def test_endpoints_of_people_keep_their_word(peopled: FastAPI) -> None:
    """Each time in a browser of its own, of an administrator, which may be logged out by it.

    Every other time what is to be thrown away is there, and the password that of the user.
    """
    accounts = peopled.state.studio.accounts
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", peopled, headers={"Host": HOST})
    ada = accounts.named("ada")
    count = itertools.count()

    def prepared(case: schemathesis.Case) -> dict[str, str]:
        n = next(count)
        if n % 2 and "token" in case.path_parameters:
            case.path_parameters["token"] = accounts.make_token(ada, "test")[0].id
        if n % 2 and "user" in case.path_parameters:
            case.path_parameters["user"] = accounts.add(f"user{n}", PASSWORD).id
        if n % 2 and case.operation.label == "POST /api/login":
            case.body = {"name": "ada", "password": PASSWORD}
        cookie = accounts.log_in(ada)
        csrf = accounts.of_cookie(cookie)[1].csrf
        return {"Cookie": f"{COOKIE}={cookie}", "X-CSRF-Token": csrf, "Host": HOST}

    codes = _all_tried(schema.include(path_regex=OF_PEOPLE), prepared, 9)
    for label in ("DELETE /api/tokens/{token}", "DELETE /api/users/{user}"):
        assert {204, 404} <= codes[label], codes
    assert {200, 401} <= codes["POST /api/login"], codes
    assert 204 in codes["POST /api/logout"]
    assert accounts.of_cookie(accounts.log_in(ada)) is not None


Headers = Callable[[schemathesis.Case], dict[str, str]]


def _all_tried(schema: Any, headers: Headers, least: int) -> dict[str, set[int]]:
    """What each operation answered; at least so many operations are there."""
    wrong, codes = [], {}
    for found in schema.get_all_operations():
        operation = found.ok()
        codes[operation.label] = set[int]()
        try:
            _tried(operation, headers, codes[operation.label])
        except BaseException as problem:
            wrong.append(f"{operation.label}: {problem}"[:1500])
    assert not wrong, "\n\n".join(wrong)
    assert len(codes) >= least, list(codes)
    return codes


def _tried(operation: Any, headers: Headers, codes: set[int]) -> None:
    @given(
        case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    )
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: schemathesis.Case) -> None:
        answer = case.call(headers=headers(case))
        codes.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    one()


def test_documentation_names_every_refusal(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, told in methods.items():
            assert told.get("description") or told.get("summary"), (path, method)
            if path != "/api/login":
                assert {"401", "403"} <= told["responses"].keys(), (path, method)
