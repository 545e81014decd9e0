"""A studio on another machine: data sets sent there, tasks submitted, followed and taken home."""

from __future__ import annotations

import ipaddress
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from mlcore.errors import Error, InvalidArgument
from mlcore.io import atomic_path

__all__ = ["Refused", "Remote"]

_PAUSE = 1.0  # seconds between two looks at a task
_PATIENCE = 300.0  # seconds a studio may be away while a task is followed
_LONGEST = httpx.Timeout(30.0, read=600.0, write=600.0)  # large files are read before the answer
ENDED = ("done", "failed", "cancelled", "paused")


class Refused(Error):
    """A studio has said no.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Remote:
    """A studio.

    Args:
        address: such as http://127.0.0.1:8750 or https://studio.example.org.
        token: of the user there.
        insecure: send the token even where others on the way can read it.

    Raises:
        InvalidArgument: the address is none, or others could read the token.
    """

    def __init__(self, address: str, token: str, *, insecure: bool = False) -> None:
        self.address = _checked(address, insecure)
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise InvalidArgument("the token must be a word of plain letters")
        self._client = httpx.Client(
            base_url=self.address,
            headers={"authorization": f"Bearer {token}", "accept": "application/json"},
            timeout=_LONGEST,
            # a proxy would read what is sent without https
            trust_env=self.address.startswith("https:"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    # -- requests ----------------------------------------------------------------------------------
    def _ask(self, method: str, path: str, **told: Any) -> Any:
        try:
            answer = self._client.request(method, f"/api{path}", **told)
        except httpx.HTTPError as error:
            raise Error(f"{self.address}: {_reason(error)}") from None
        if answer.is_success:
            return self._json(answer) if answer.content else None
        raise self._refusal(answer)

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise Error(f"{self.address}: does not answer as a studio does") from None

    def _refusal(self, answer: httpx.Response) -> Refused:
        try:
            told = answer.json()
        except ValueError:
            told = {}
        told = told if isinstance(told, dict) else {}
        detail = str(told.get("detail") or f"answers {answer.status_code}")
        if answer.status_code == 401:
            detail += "; make a token on the page of your account there and set MLCORE_TOKEN"
        fields = [
            f"{one.get('field') or 'config'}: {one.get('message')}"
            for one in told.get("problems") or ()
            if isinstance(one, dict)
        ]
        text = "; ".join(fields) if fields else detail
        return Refused(f"{self.address}: {text}", answer.status_code)

    # -- data sets ---------------------------------------------------------------------------------
    def upload(self, files: Mapping[str, Path], title: str) -> dict[str, Any]:
        """Send files as one data set; what the studio found in it.

        Args:
            files: names there -> files here.
            title: for people.

        Raises:
            Error: a file cannot be read, or the studio does not want it.
        """
        with ExitStack() as stack:
            parts = []
            for name, path in files.items():
                try:
                    stream = stack.enter_context(path.open("rb"))
                except OSError as error:
                    raise Error(f"{path}: {error.strerror or error}") from None
                parts.append(("files", (name, stream, "application/octet-stream")))
            told = self._ask("POST", "/uploads", files=parts, data={"title": title[:200]})
        found: dict[str, Any] = told
        return found

    def discard(self, upload: str) -> None:
        """Throw a data set away."""
        self._ask("DELETE", f"/uploads/{upload}")

    # -- tasks -------------------------------------------------------------------------------------
    def submit(
        self,
        kind: str,
        config: Mapping[str, Any],
        title: str,
        engine: str | None = None,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Submit a task.

        Raises:
            Refused: with the fields that are wrong.
        """
        draft: dict[str, Any] = {"kind": kind, "title": title[:200], "config": config}
        draft |= {"engine": engine} if engine else {}
        draft |= {"workers": workers} if workers else {}
        made: dict[str, Any] = self._ask("POST", "/tasks", json=draft)
        try:
            submitted: dict[str, Any] = self._ask("POST", f"/tasks/{made['id']}/submit")
        except Error:
            self._ask("DELETE", f"/tasks/{made['id']}")
            raise
        return submitted

    def page(self, task: str) -> str:
        """The address of the page of a task."""
        return f"{self.address}/tasks/{task}"

    def follow(self, task: str, tell: Callable[[str], None]) -> dict[str, Any]:
        """Wait until a task has ended, telling where it stands; the studio may be away in between."""
        said, answered = "", time.monotonic()
        while True:
            try:
                told: dict[str, Any] = self._ask("GET", f"/tasks/{task}")
                answered = time.monotonic()
            except Refused:
                raise
            except Error:
                if time.monotonic() - answered > _PATIENCE:
                    raise
                time.sleep(_PAUSE)
                continue
            line = f"{told['state']} {told['progress']:4.0%}  {told['line']}".rstrip()
            if line != said:
                tell(line)
                said = line
            if told["state"] in ENDED:
                return told
            time.sleep(_PAUSE)

    def fetch(self, task: str, folder: Path) -> list[Path]:
        """Bring all that a task made here; folders come as they are there.

        Raises:
            Error: something cannot be written, or has no plain name.
        """
        made = []
        for one in self._ask("GET", f"/tasks/{task}/downloads"):
            name = str(one["name"])
            if Path(name).name != name or name.startswith("."):
                raise Error(f"{self.address}: offers a file of the name {name!r}")
            folder.mkdir(parents=True, exist_ok=True)
            self._bring(f"/api/tasks/{task}/downloads/{name}", folder / name)
            made.append(_unpacked(folder / name) if one["size"] is None else folder / name)
        return made

    def _bring(self, path: str, place: Path) -> None:
        try:
            with self._client.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refusal(answer)
                with atomic_path(place) as temporary, temporary.open("wb") as file:
                    for chunk in answer.iter_bytes(1 << 20):
                        file.write(chunk)
        except httpx.HTTPError as error:
            raise Error(f"{self.address}: {_reason(error)}") from None


def _checked(address: str, insecure: bool) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidArgument(f"--remote must be http://HOST:PORT or https://HOST, got {address!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidArgument("--remote must be an address alone, without words of a login")
    if parts.scheme == "http" and not insecure and not _here(host):
        raise InvalidArgument(
            f"--remote {address}: others on the way could read the token; use https, an SSH tunnel "
            "to 127.0.0.1, or --insecure"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "does not answer in time"
    return f"cannot be reached: {' '.join(str(error).split()) or type(error).__name__}"


def _unpacked(archive: Path) -> Path:
    """The folder of an archive, beside it; the archive goes."""
    folder = archive.with_suffix("")
    try:
        with zipfile.ZipFile(archive) as packed:
            _inside(packed.namelist(), archive)
            packed.extractall(folder)
    except zipfile.BadZipFile:
        raise Error(f"{archive}: is no archive") from None
    archive.unlink()
    return folder


def _inside(names: Sequence[str], archive: Path) -> None:
    for name in names:
        if name.startswith("/") or ".." in Path(name).parts or "\\" in name:
            raise Error(f"{archive}: holds a file of the name {name!r}")
