"""What every request must fulfil before anybody looks at it, and what every answer carries."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from mlcore.studio.settings import Settings

__all__ = ["UPLOADS", "Guard", "owner"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOADS = "/api/uploads"
_SAFE = ("GET", "HEAD", "OPTIONS")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# a name or an address, and a port; nothing else that a browser would send
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)", re.IGNORECASE)
# plots set styles of single elements; everything else comes from files of this server
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Guard:
    """Refuses requests for other hosts, from other sites, or too large ones."""

    def __init__(self, app: Application, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._hosts = {*_LOOPBACK, *(host.lower() for host in settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self._app(scope, _counted(receive, self._most(scope)), guarded)

    def _most(self, scope: Scope) -> int:
        limits = self._settings.limits
        # beside the file a form has some words
        whole = scope["path"].rstrip("/") == UPLOADS
        return limits.upload + 65536 if whole else limits.request

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = _text(headers.get(b"host"))
        if _name(host) not in self._hosts:
            return 421, "no such host here; the administrator may add it to hosts in studio.toml"
        if scope["path"] == "/login" and not self._settings.users and _of_others(scope):
            # the command line of a browser, which everybody can look at, holds the key
            return 403, "this studio is that of another account of this machine"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return 400, "Content-Length is no number"
        if int(length) > self._most(scope):
            return 413, "the request is too large"
        if scope["method"] in _SAFE:
            return None
        if not self._own(_text(headers.get(b"origin")), host):
            return 403, "the request comes from another site"
        site = _text(headers.get(b"sec-fetch-site"))
        if site not in ("", "same-origin", "none"):
            return 403, "the request comes from another site"
        return None

    def _own(self, origin: str, host: str) -> bool:
        """Whether a request that tells where it comes from comes from a page of this server."""
        found = _ORIGIN.fullmatch(origin)
        if not origin or found is None:
            return not origin
        secure = found[1].lower() == "https" or not self._settings.secure
        return secure and found[2].lower() == host.lower()


def _of_others(scope: Scope) -> bool:
    """Whether another account of this machine asks; root may."""
    uid = owner(scope.get("client"), scope.get("server"))
    return uid is not None and uid not in (0, os.getuid())


def owner(client: tuple[str, int] | None, server: tuple[str, int] | None) -> int | None:
    """The account whose process has the other end of a connection on this machine; None: not known."""
    try:
        ends = [_end(*end) for end in (client, server) if end is not None]
        version = ipaddress.ip_address(client[0] if client else "").version
        rows = Path("/proc/net/tcp6" if version == 6 else "/proc/net/tcp").read_text().splitlines()
    except (OSError, ValueError, TypeError):
        return None
    for row in rows[1:]:
        words = row.split()
        if words[1:3] == ends:
            return int(words[7])
    return None


def _end(host: str, port: int) -> str:
    """Of a connection, as the system lists it: words of four bytes, the last byte first."""
    packed = ipaddress.ip_address(host).packed
    words = [packed[k : k + 4][::-1] for k in range(0, len(packed), 4)]
    return f"{b''.join(words).hex().upper()}:{port:04X}"


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1")


def _name(host: str) -> str:
    """Of a host, without its port; empty: it is none."""
    found = _HOST.fullmatch(host)
    return "" if found is None else (found[1] or found[2]).lower()


def _counted(receive: Receive, most: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            # the one error that whoever reads a body hands on
            raise HTTPException(413, "the request is too large")
        return message

    return counted


async def _answer(send: Send, status: int, text: str) -> None:
    import json

    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
