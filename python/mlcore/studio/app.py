"""The server: every page and every endpoint, assembled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic_core import PydanticSerializationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from mlcore import __version__
from mlcore.errors import Error, InvalidArgument
from mlcore.studio import scratch, supervisor
from mlcore.studio.accounts import Accounts
from mlcore.studio.api import router as api
from mlcore.studio.api.access import somebody
from mlcore.studio.pages import router as pages
from mlcore.studio.pages.shown import shown
from mlcore.studio.security import Guard
from mlcore.studio.settings import Settings
from mlcore.studio.store import Store
from mlcore.studio.studio import Studio

__all__ = ["create"]

_HERE = Path(__file__).parent
_BEAT = 5.0  # seconds between looks whether there is a supervisor


def create(folder: Path, settings: Settings | None = None, supervised: bool = True) -> FastAPI:
    """The application.

    Args:
        folder: of the studio.
        settings: its own where left out.
        supervised: whether it sees to it that a supervisor runs its tasks.
    """
    settings = settings or Settings.load(folder)
    store = Store(folder)
    for home in (store.scratch, *store.folder.glob("users/*/uploads")):
        scratch.tidied(home)
    studio = Studio(store, settings, Accounts(store, settings.limits))
    if not settings.users:
        studio.accounts.local()
        studio.key = secrets.token_urlsafe(24)

    @contextlib.asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        beat = asyncio.create_task(_beating(store.folder)) if supervised else None
        # what is there from the start stays: without it Python looks for what requests left more often
        gc.collect()
        gc.freeze()
        yield
        if beat is not None:
            beat.cancel()
        store.close()

    app = FastAPI(
        title="mlcore studio",
        version=__version__,
        summary="Everything the pages do.",
        lifespan=living,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.studio = studio
    app.include_router(api, prefix="/api")
    app.include_router(pages)
    app.mount("/static", _Static(directory=_HERE / "static"), name="static")
    app.add_middleware(Guard, settings=settings)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(Error, _failed)
    app.add_exception_handler(OSError, _full)
    app.add_exception_handler(OperationalError, _full)
    for kind in (RecursionError, PydanticSerializationError, UnicodeError):
        app.add_exception_handler(kind, _strange)
    return app


class _Static(StaticFiles):
    """Files that browsers may keep, after asking whether they changed."""

    def file_response(self, *given: object, **named: object) -> Response:
        answer = super().file_response(*given, **named)  # type: ignore[arg-type]
        answer.headers.setdefault("cache-control", "no-cache")
        return answer


async def _beating(folder: Path) -> None:
    """A supervisor is started where there is none, now and later."""
    while True:
        with contextlib.suppress(OSError):
            (folder / supervisor.HEARTBEAT).touch()
            await asyncio.to_thread(supervisor.ensure, folder)
        await asyncio.sleep(_BEAT)


def _for_people(request: Request) -> bool:
    return not request.url.path.startswith("/api") and "text/html" in request.headers.get(
        "accept", ""
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 401 and _for_people(request):
        return RedirectResponse("/login", status_code=303)
    if _for_people(request):
        studio: Studio = request.app.state.studio
        words = "There is no such page." if error.detail == "Not Found" else error.detail
        told = {"status": error.status_code, "detail": words}
        page = shown(request, studio, "error.html", somebody(request, studio), **told)
        page.status_code = error.status_code
        return page
    detail: object = error.detail
    told = dict(detail) if isinstance(detail, dict) else {"detail": detail}
    return JSONResponse(told, error.status_code, headers=error.headers)


async def _wrong(request: Request, error: Exception) -> Response:
    """Fields that are wrong, in the form in which configs' are told."""
    assert isinstance(error, RequestValidationError)
    problems = [
        {"field": ".".join(map(str, one["loc"][1:])), "message": one["msg"]}
        for one in error.errors()
    ]
    return JSONResponse({"detail": "some fields are wrong", "problems": problems}, 422)


async def _failed(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, InvalidArgument) else 409
    return JSONResponse({"detail": str(error)}, status)


async def _full(request: Request, error: Exception) -> Response:
    """The disk is full, or does not answer: nothing was changed."""
    return JSONResponse({"detail": f"the server cannot write: {error}"[:300]}, 507)


async def _strange(request: Request, error: Exception) -> Response:
    """Something that was sent is nested too deep, or is text that cannot be told again."""
    told = "something in it is nested too deep, or is no text"
    return JSONResponse({"detail": f"the request cannot be answered: {told}"}, 400)
