"""The documented endpoints do what their documentation says, whatever they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from mlcore.studio.app import create
from mlcore.studio.settings import Settings
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
# they end the rights of who asks, or never end
LEFT_OUT = r"^/api/(logout|login|me|tokens.*|users.*|tasks/\{task\}/live)$"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder: Path = tmp_path_factory.mktemp("api") / "studio"
    made = create(folder, Settings.load(folder), supervised=False)
    accounts = made.state.studio.accounts
    made.state.token = accounts.make_token(accounts.local(), "test")[1]
    yield made
    made.state.studio.store.close()


def test_endpoints_keep_their_word(app: FastAPI) -> None:
    """Whatever is asked, answers are those that the documentation tells, and no endpoint breaks."""
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers={"Host": HOST})
    headers = {"Authorization": f"Bearer {app.state.token}", "Host": HOST}
    wrong, asked = [], 0
    for found in schema.exclude(path_regex=LEFT_OUT).get_all_operations():
        operation = found.ok()
        try:
            _tried(operation, headers)
        except BaseException as problem:
            wrong.append(f"{operation.label}: {problem}"[:1500])
        asked += 1
    assert asked > 20
    assert not wrong, "\n\n".join(wrong)


def _tried(operation: Any, headers: dict[str, str]) -> None:
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
        case.validate_response(case.call(headers=headers), checks=CHECKS)

    one()


def test_documentation_names_every_refusal(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, told in methods.items():
            assert told.get("description") or told.get("summary"), (path, method)
            if path != "/api/login":
                assert {"401", "403"} <= told["responses"].keys(), (path, method)
