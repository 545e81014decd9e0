"""Uploads on their way in: many at once, too large, cut off, on a full disk, on a server that is killed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import Browser
from fastapi import FastAPI, HTTPException
from mlcore.studio import scratch
from mlcore.studio.app import create
from mlcore.studio.settings import Limits, Settings
from mlcore.studio.store import User
from mlcore.studio.uploads import Gate
from server import Server, set_up
from upload_files import kept, left, sent

CAP = 2 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a studio whose files are small."""
    return set_up(tmp_path / "studio", f"[limits]\nupload = {CAP}\n")


def resident(pid: int) -> int:
    """The most memory a process has had, bytes."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) << 10


def parts(folder: Path) -> list[Path]:
    """What uploads that are not done have on the disk."""
    return [one for one in folder.glob("users/*/uploads/.*/**/*") if one.is_file()]


def test_five_hundred_uploads_at_once_are_taken_or_put_off(served: Server) -> None:
    with served.browser() as browser:
        first = browser.post("/api/uploads", files={"files": ("a.json", b"{}")})
        assert first.status_code == 201, first.text
        before = resident(served.process.pid)
        body = b'{"note": "' + b"x" * 100_000 + b'"}'

        def send(k: int) -> httpx.Response:
            if k % 10 == 9:  # others are answered meanwhile
                return browser.get("/api/me")
            return browser.post("/api/uploads", files={"files": (f"{k}.json", body)})

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(send, range(550)))
        codes = {k: answer.status_code for k, answer in enumerate(answers)}
        assert {codes[k] for k in range(9, 550, 10)} == {200}
        handed = [answers[k] for k in range(550) if k % 10 != 9]
        assert {one.status_code for one in handed} <= {201, 429}
        assert all(one.headers["retry-after"] for one in handed if one.status_code == 429)
        taken = sum(one.status_code == 201 for one in handed)
        assert taken >= 8
        assert len(browser.get("/api/uploads").json()) == taken + 1
        assert resident(served.process.pid) - before < 100 << 20
    assert parts(served.folder) == []


def test_one_user_does_not_keep_others_out() -> None:
    gate, limits = Gate(), Limits(uploads_at_once=2)
    people = [User(id=f"{k}") for k in range(6)]
    with gate.passed(people[0], limits), gate.passed(people[0], limits):
        with pytest.raises(HTTPException) as refused, gate.passed(people[0], limits):
            pass
        assert refused.value.status_code == 429
        with gate.passed(people[1], limits):
            pass
        inside = [gate.passed(people[k], limits) for k in (1, 1, 2, 2, 3, 3)]
        for one in inside:
            one.__enter__()
        with pytest.raises(HTTPException) as full, gate.passed(people[4], limits):
            pass
        assert full.value.status_code == 503
        for one in inside:
            one.__exit__(None, None, None)
    with gate.passed(people[0], limits):
        pass


# -- on a socket -----------------------------------------------------------------------------------
@pytest.fixture
def opened(served: Server) -> Iterator[Callable[..., socket.socket]]:
    """Connections on which an upload has begun."""
    kept: list[socket.socket] = []
    with served.browser() as browser:
        cookie = "; ".join(f"{n}={v}" for n, v in browser.cookies.items())
        token = browser.headers["X-CSRF-Token"]

    def made(*headers: str) -> socket.socket:
        host, port = served.address.removeprefix("http://").split(":")
        line = socket.create_connection((host, int(port)), timeout=30)
        kept.append(line)
        head = (
            "POST /api/uploads HTTP/1.1", f"Host: {host}:{port}", f"Cookie: {cookie}",
            f"X-CSRF-Token: {token}", "Content-Type: multipart/form-data; boundary=edge", *headers,
        )  # fmt: skip
        line.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
        return line

    yield made
    for line in kept:
        line.close()


HEAD = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.json"\r\n\r\n'


def half(served: Server, opened: Callable[..., socket.socket]) -> socket.socket:
    """A connection on which half of a file has come, as it lies on the disk."""
    line = opened(f"Content-Length: {CAP}")
    line.sendall(HEAD + b"x" * (CAP // 2))
    assert wait(lambda: len(parts(served.folder)) == 1)
    return line


def wait(what: Callable[[], bool]) -> bool:
    """Until this is so; False: it does not become so."""
    end = time.monotonic() + 60
    while not what() and time.monotonic() < end:
        time.sleep(0.05)
    return what()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_stream_without_end_is_cut_off_at_the_limit(
    served: Server, opened: Callable[..., socket.socket]
) -> None:
    line, seen, given = opened("Transfer-Encoding: chunked"), 0, 0
    line.sendall(chunk(HEAD))
    line.setblocking(False)
    data, answer = chunk(b"x" * 65536), b""
    end = time.monotonic() + 60
    while not answer and time.monotonic() < end:
        try:
            given += line.send(data)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            break
        with contextlib.suppress(BlockingIOError):
            answer = line.recv(4096)
        # what is there may be gone when it is looked at
        with contextlib.suppress(FileNotFoundError):
            seen = max([seen, *(one.stat().st_size for one in parts(served.folder))])
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert seen <= CAP
    assert given < 16 * CAP
    assert parts(served.folder) == []


def test_what_a_killed_server_was_handed_is_thrown_away(
    served: Server, opened: Callable[..., socket.socket]
) -> None:
    half(served, opened)
    served.kill()
    assert len(parts(served.folder)) == 1
    served.start()
    assert list(served.folder.glob("users/*/uploads/.*")) == []
    with served.browser() as browser:
        assert browser.get("/api/uploads").json() == []


def test_a_connection_that_ends_leaves_nothing(
    served: Server, opened: Callable[..., socket.socket]
) -> None:
    half(served, opened).close()
    assert wait(lambda: list(served.folder.glob("users/*/uploads/.*")) == [])


def test_a_full_disk_met_by_an_upload_leaves_nothing_half_written(folder: Path) -> None:
    """Files of the server may not grow beyond some size, as on a disk that is full."""
    server = Server(folder, largest=400_000)
    try:
        with server.browser() as browser:
            for size in (450_000, 1_500_000):
                files = {"files": ("a.json", b'{"note": "' + b"x" * size + b'"}')}
                answer = browser.post("/api/uploads", files=files)
                assert answer.status_code == 507, answer.text
            assert list(folder.glob("users/*/uploads/*")) == []
            assert browser.get("/api/uploads").json() == []
            answer = browser.post("/api/uploads", files={"files": ("a.json", b"{}")})
            assert answer.status_code == 201, answer.text
    finally:
        server.close()


# -- in this process -------------------------------------------------------------------------------
def test_uploads_lie_on_the_disk_of_the_studio_alone(
    app: FastAPI, browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    np.save(tmp_path / "grid.npy", np.zeros((60, 60, 60)))
    upload = kept(browser, tmp_path / "grid.npy")["id"]
    answer = browser.get(f"/api/uploads/{upload}/download")
    assert (answer.status_code, answer.content[:2]) == (200, b"PK")
    assert list(app.state.studio.store.scratch.iterdir()) == []


def test_uploads_leave_the_server_some_of_its_disk(folder: Path) -> None:
    settings = Settings.load(folder).model_copy(update={"spare": 1 << 60})
    app = create(folder, settings, supervised=False)
    with Browser(app) as browser:
        answer = sent(browser, ("a.json", b"{}"))
    assert (answer.status_code, "disk" in answer.json()["detail"]) == (507, True)
    assert left(app) == []


FORMS: dict[str, tuple[bytes, int]] = {
    "no end": (HEAD + b"{}", 400),
    "no end of the last part": (HEAD + b"{}\r\n--edge", 400),
    "no name": (b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--", 400),
    "other field": (HEAD.replace(b'"files"', b'"other"') + b"{}\r\n--edge--", 400),
    "long field": (
        HEAD.replace(b'; filename="a.json"', b"") + b"x" * 70_000 + b"\r\n--edge--", 400,
    ),
    "long header": (b"--edge\r\nX: " + b"x" * 70_000 + b"\r\n\r\n\r\n--edge--", 400),
    "no files": (b"--edge--\r\n", 422),
    "too many": ((HEAD + b"{}\r\n") * 1001 + b"--edge--", 400),
}  # fmt: skip


@pytest.mark.parametrize("what", FORMS)
def test_forms_that_are_cut_off_or_wrong_leave_nothing(
    app: FastAPI, browser: Browser, what: str
) -> None:
    body, status = FORMS[what]
    head = {"content-type": "multipart/form-data; boundary=edge"}
    answer = browser.post("/api/uploads", content=body, headers=head)
    assert answer.status_code == status, answer.text
    assert left(app) == []


def test_files_of_one_name_and_empty_ones(browser: Browser) -> None:
    answer = sent(browser, ("a.json", b""))
    assert answer.status_code == 400 and "empty" in answer.json()["detail"]
    same = sent(browser, ("a.xyz", b"1\n\nCu 0 0 0\n"), ("A.xyz", b"1\n\nCu 0 0 0\n"))
    assert same.status_code == 201, same.text
    assert [one["name"] for one in same.json()["summary"]["files"]] == ["A-2.xyz", "a.xyz"]


def test_folders_of_processes_that_live_stay(tmp_path: Path) -> None:
    own = scratch.made(tmp_path)
    code = "import sys, pathlib; from mlcore.studio import scratch; "
    words = [sys.executable, "-c", code + "print(scratch.made(pathlib.Path(sys.argv[1])))"]
    told = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True)
    other = Path(told.stdout.strip())
    assert other.is_dir() and other.stat().st_mode & 0o077 == 0
    scratch.tidied(tmp_path)
    assert list(tmp_path.iterdir()) == [own]
