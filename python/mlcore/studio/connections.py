"""Connections on which nobody says anything are closed, so that there are always some for others."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Impatient", "many_files"]


class Impatient(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with clients that shall go on talking.

    One who has begun a request, or none yet, and sends nothing for a while is left; so is one whose
    headers do not end. Who waits for an answer may wait.
    """

    PATIENCE: ClassVar[float] = 30.0
    """Seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self._heard = self.loop.time()
        self._look = self.loop.call_later(self.PATIENCE, self._looked)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        self._heard = self.loop.time()
        if self.cycle is not before:
            self._begun = self._heard

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._begun = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def _looked(self) -> None:
        now = self.loop.time()
        idle = self.cycle is None or self.cycle.response_complete
        talks = idle or (self.cycle.more_body and not self.flow.read_paused)
        since = self._begun if idle else self._heard
        if talks and now - since >= self.PATIENCE:
            self.transport.abort()
        else:
            self._look = self.loop.call_later(self.PATIENCE / 2, self._looked)


def many_files() -> None:
    """Let this process have as many connections and files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
