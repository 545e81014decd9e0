"""``mlcore studio``: the web face, its users and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlcore.studio.accounts import Accounts
    from mlcore.studio.store import User

__all__ = ["app"]

app = typer.Typer(
    help="Work in a browser: set up, watch and compare long jobs.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
user = typer.Typer(help="Who may log in.", no_args_is_help=True)
app.add_typer(user, name="user")

Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Of the studio; MLCORE_STUDIO, or in your data folder."),
]
Name = Annotated[str, typer.Argument(metavar="NAME")]
_MISSING = "this command needs more packages: pip install 'mlcore[studio]'"


@app.callback()
def serve(
    context: typer.Context,
    folder: Folder = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than loopback need logins.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 8750,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Serve the studio on this machine and open a browser. Ctrl-C ends the server; tasks go on."""
    if context.invoked_subcommand is not None:
        return
    from mlcore.cli.served import served

    served(_place(folder), host, port, browser)


@user.command()
def add(
    name: Name,
    folder: Folder = None,
    admin: Annotated[bool, typer.Option("--admin", help="May add others.")] = False,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="Its first line is the password.")
    ] = None,
) -> None:
    """Add somebody; from then on people log in by name and password."""
    accounts = _accounts(folder)
    accounts.add(name, _password(password_file), admin)
    typer.echo(f"{name} may log in")


@user.command()
def password(
    name: Name,
    folder: Folder = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="Its first line is the password.")
    ] = None,
) -> None:
    """Set another password; browsers of theirs are logged out."""
    accounts = _accounts(folder)
    accounts.change_password(_named(accounts, name), _password(password_file))


@user.command("list")
def everybody(folder: Folder = None) -> None:
    """Tell who there is."""
    for one in _accounts(folder).everybody():
        typer.echo(one.name + (" (administrator)" if one.admin else ""))


@user.command()
def token(
    name: Name,
    title: Annotated[str, typer.Option("--title", help="What it is for.")] = "command line",
    folder: Folder = None,
) -> None:
    """Make a token for programs of somebody and show it, once."""
    accounts = _accounts(folder)
    typer.echo(accounts.make_token(_named(accounts, name), title)[1])


def _place(folder: Path | None) -> Path:
    from mlcore.errors import Error

    try:
        from mlcore.studio.settings import default_folder
        from mlcore.studio.store import Store  # noqa: F401
    except ModuleNotFoundError:
        raise Error(_MISSING) from None
    return folder or default_folder()


def _accounts(folder: Path | None) -> Accounts:
    place = _place(folder)
    from mlcore.studio.accounts import Accounts
    from mlcore.studio.settings import Settings
    from mlcore.studio.store import Store

    return Accounts(Store(place), Settings.load(place).limits)


def _named(accounts: Accounts, name: str) -> User:
    from mlcore.errors import InvalidArgument

    found = accounts.named(name)
    if found is None:
        raise InvalidArgument(f"NAME: there is no user {name}")
    return found


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").split("\n")[0]
    told: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return told
