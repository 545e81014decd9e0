"""A studio on an address of this machine, until Ctrl-C."""

from __future__ import annotations

import socket
import webbrowser
from pathlib import Path

import typer

from mlcore.errors import InvalidArgument

__all__ = ["served"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def served(folder: Path, host: str, port: int, browser: bool) -> None:
    """Serve until Ctrl-C.

    Raises:
        InvalidArgument: others could reach it and nobody has to log in, or the port is taken.
    """
    import uvicorn

    from mlcore.studio.app import create
    from mlcore.studio.connections import Impatient, many_files
    from mlcore.studio.settings import Settings
    from mlcore.studio.store import Store
    from mlcore.studio.supervisor import waiting

    settings = Settings.load(folder)
    settings = settings.model_copy(update={"users": settings.users or _has_users(folder)})
    if host not in _LOOPBACK:
        if not settings.users:
            raise InvalidArgument(
                f"--host {host}: others can reach it, so people must log in; first: "
                "mlcore studio user add NAME"
            )
        settings = settings.model_copy(update={"hosts": (*settings.hosts, host)})
    many_files()
    app = create(folder, settings)
    listening = _listening(host, port)
    named = f"[{host}]" if ":" in host else host
    address = f"http://{named}:{listening.getsockname()[1]}/"
    key = app.state.studio.key
    typer.echo(f"mlcore studio: {address}{f'login?key={key}' if key else ''}   (Ctrl-C ends it)")
    if browser:
        webbrowser.open(f"{address}login?key={key}" if key else address)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=Impatient,
            log_level="warning",
            timeout_graceful_shutdown=2,
            server_header=False,
            # without a proxy anybody could say they came from elsewhere
            proxy_headers=settings.secure,
        )
    )
    server.run([listening])
    left = waiting(Store(folder))
    if left:
        typer.echo(f"{left} tasks go on without the server; it finds them when it is started again")


def _has_users(folder: Path) -> bool:
    from mlcore.studio.accounts import LOCAL, Accounts
    from mlcore.studio.settings import Limits
    from mlcore.studio.store import Store

    return any(one.name != LOCAL for one in Accounts(Store(folder), Limits()).everybody())


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # told to be TCP, else the server's event loop leaves small answers waiting for others
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise InvalidArgument(
            f"--port {port}: {error.strerror or error}; --port 0 takes a free one"
        ) from None
    return made
