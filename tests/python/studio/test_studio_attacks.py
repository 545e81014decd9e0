"""What somebody who means harm sends to a server that runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from conftest import PASSWORD, Browser
from fastapi.testclient import TestClient
from mlcore.studio.accounts import Accounts, _network
from mlcore.studio.app import create
from mlcore.studio.connections import Impatient
from mlcore.studio.security import owner
from mlcore.studio.settings import Limits, Settings
from mlcore.studio.store import Store
from server import Server, set_up
from upload_files import kept

WRONG = "not the right words"


def peopled(folder: Path) -> Path:
    """A studio of two people, made beforehand by somebody who lets others look into it."""
    folder.mkdir(mode=0o755)
    set_up(folder, "users = true\n")
    accounts = Accounts(Store(folder), Limits())
    accounts.add("ada", PASSWORD, admin=True)
    accounts.add("ben", PASSWORD)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return peopled(tmp_path / "studio")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody has guessed passwords of."""
    made = Server(peopled(tmp_path_factory.mktemp("standing") / "studio"))
    yield made
    made.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Of the one user of a studio."""
    with Browser(create(tmp_path / "alone", Settings(), supervised=False)) as made:
        yield made


Raw = Callable[..., bytes]


@pytest.fixture
def raw(standing: Server) -> Raw:
    """Send bytes as they are and return the beginning of what is answered."""

    def sent(*lines: str, body: bytes = b"") -> bytes:
        host, port = standing.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as line:
            line.sendall("\r\n".join((*lines, "Connection: close")).encode("latin-1"))
            line.sendall(b"\r\n\r\n" + body)
            found = b""
            while part := line.recv(65536):
                found += part
            return found

    return sent


def status(answer: bytes) -> int:
    return int(answer.split()[1])


# -- hosts and origins -----------------------------------------------------------------------------
HOSTS = (
    "127.0.0.1/evil.example", "127.0.0.1#x", "127.0.0.1?x", "evil@127.0.0.1", "127.0.0.1\\evil",
    "127.0.0.1:evil", "127.0.0.1:999999", "[::1", "[::1]evil", "[::1]:", "::1", "127.0.0.1:", "127.1",
    "127.0.0.1 evil", "evil.example", "127.0.0.1.evil.example", "[::ffff:7f00:1]", "localhost.",
)  # fmt: skip


def test_hosts_are_those_a_browser_would_send(raw: Raw) -> None:
    for host in HOSTS:
        assert status(raw("GET /login HTTP/1.1", f"Host: {host}")) in (400, 421), host
    for host in ("127.0.0.1", "127.0.0.1:1", "[::1]:8750", "[::1]", "LocalHost:80"):
        assert status(raw("GET /login HTTP/1.1", f"Host: {host}")) == 200, host
    two = raw("GET /login HTTP/1.1", "Host: 127.0.0.1", "Host: evil.example")
    assert status(two) == 400


def test_nothing_leads_to_another_site(raw: Raw) -> None:
    told = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Original-URL: /x")
    paths = (
        "//evil.example/",
        "/login/",
        "/\\evil.example/",
        "/api/tasks/",
        "/tasks//evil.example/",
    )
    for path in paths:
        answer = raw(f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *told).decode("latin-1")
        for place in re.findall(r"(?i)\r\nlocation: ([^\r]+)", answer):
            assert re.match(r"http://127\.0\.0\.1/[a-z]|/[a-z]", place), (path, place)


ORIGINS = (
    "http://[", "http://[::1", "http://[::1]evil", "http://127.0.0.1:1", "null", "x", "http://", "\xff",
    "{own}@evil.example", "http://evil@{host}", "{own}.evil.example", "{own}/x", "{own} x", "file://",
    "ws://{host}", "http://127.0.0.1:bad", "{own}, http://evil.example",
)  # fmt: skip


def test_origins_are_this_server_or_refused(standing: Server) -> None:
    host = standing.address.removeprefix("http://")
    with standing.browser("ben", PASSWORD) as browser:
        for told in ORIGINS:
            origin = told.format(own=standing.address, host=host).encode("latin-1")
            answer = browser.post("/api/logout", headers={b"Origin": origin})
            assert answer.status_code == 403, told
        assert browser.post("/api/tasks", json={"kind": "forcefield"},
                            headers={"Origin": standing.address}).status_code == 201  # fmt: skip


def test_where_there_is_https_pages_without_it_are_another_site(folder: Path) -> None:
    settings = Settings.load(folder).model_copy(update={"secure": True, "hosts": ("lab.example",)})
    client = TestClient(create(folder, settings, supervised=False), base_url="https://lab.example")
    asked = {"json": {"name": "ada", "password": PASSWORD}}
    plain = client.post("/api/login", headers={"Origin": "http://lab.example"}, **asked)
    assert plain.status_code == 403
    answer = client.post("/api/login", headers={"Origin": "https://lab.example"}, **asked)
    assert answer.status_code == 200
    assert "; secure" in answer.headers["set-cookie"].lower()


def test_methods_are_what_they_are(standing: Server) -> None:
    with standing.browser("ada", PASSWORD) as browser:
        task = browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            assert browser.get(
                f"/api/tasks/{task}?_method=DELETE", headers={name: "DELETE"}
            ).is_success
        assert browser.get(f"/api/tasks/{task}").status_code == 200


def test_there_are_no_other_ways_in(raw: Raw) -> None:
    words = (
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 22 + "==",
    )
    for path in ("/", "/ws", "/api/tasks/" + "0" * 24 + "/live"):
        assert status(raw(f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *words)) in (401, 404)
        assert status(raw(f"GET {path} HTTP/1.1", "Host: evil.example", *words)) == 421


# -- logins ----------------------------------------------------------------------------------------
def guessed(address: str, name: str, **headers: str) -> int:
    asked = {"name": name, "password": WRONG}
    return httpx.post(f"{address}/api/login", json=asked, headers=headers, timeout=60).status_code


def test_who_guesses_cannot_say_they_are_elsewhere(served: Server) -> None:
    codes = [
        guessed(served.address, f"nobody{k}", **{"X-Forwarded-For": f"10.0.0.{k}"})
        for k in range(12)
    ]
    assert codes == [401] * 10 + [429] * 2


def test_guesses_at_once_are_counted_too(served: Server) -> None:
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(lambda k: guessed(served.address, "ada"), range(40)))
    assert set(codes) == {401, 429}
    assert codes.count(401) <= 11  # two hashes are made at once


def test_one_address_locks_nobody_out(folder: Path) -> None:
    accounts = Accounts(Store(folder), Limits(logins=2))
    for k in range(2):
        assert accounts.check("ada", WRONG, f"192.0.2.{k}") is None
    found = accounts.check("ada", PASSWORD, "192.0.2.9")
    assert found is not None and found.name == "ada"


def test_a_network_is_one_place_to_guess_from() -> None:
    assert (
        _network("2001:db8:1:2:3::4") == _network("2001:db8:1:2::9") != _network("2001:db8:1:3::9")
    )
    assert _network("::ffff:192.0.2.1") == _network("192.0.2.1") != _network("192.0.2.2")
    assert _network("?") == "?"


def test_a_browser_that_logs_in_anew_is_another(standing: Server) -> None:
    with standing.browser("ada", PASSWORD) as browser:
        before = dict(browser.cookies)
        assert browser.post("/api/login", json={"name": "ben", "password": PASSWORD}).is_success
        assert browser.get("/api/me").json()["name"] == "ben"
        assert dict(browser.cookies) != before
    assert httpx.get(f"{standing.address}/api/me", cookies=before).status_code == 401
    # a cookie that somebody has planted is never taken over
    planted = {"mlcore_studio": "A" * 43}
    asked = {"name": "ada", "password": PASSWORD}
    answer = httpx.post(f"{standing.address}/api/login", json=asked, cookies=planted)
    assert answer.cookies["mlcore_studio"] != planted["mlcore_studio"]
    assert httpx.get(f"{standing.address}/api/me", cookies=planted).status_code == 401


def test_a_login_is_no_form_of_another_site(standing: Server) -> None:
    text = json.dumps({"name": "ada", "password": PASSWORD})
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        answer = httpx.post(
            f"{standing.address}/api/login", content=text, headers={"Content-Type": kind}
        )
        assert answer.status_code == 422, kind
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_system_tells_whose_a_connection_is(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip("no such address here")
        listening.listen()
        with socket.create_connection(listening.getsockname()[:2]) as line:
            client, server = line.getsockname()[:2], listening.getsockname()[:2]
            assert owner(client, server) == os.getuid()
            assert owner((host, 1), server) is None
    assert owner(None, None) is None
    assert owner(("testclient", 50000), ("testserver", 80)) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another account")
def test_the_key_lets_no_other_account_of_the_machine_in(tmp_path: Path) -> None:
    server = Server(tmp_path / "one")
    try:
        address = f"{server.address}/login?key={server.key}"
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            os.write(writing, str(httpx.get(address).status_code).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 10) == b"403"
        with server.browser() as browser:  # by the same key
            assert browser.get("/api/me").json()["name"] == "local"
    finally:
        server.close()


# -- connections ---------------------------------------------------------------------------------
@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Address of a server that waits a second; it echoes bodies, after two seconds at /slow."""
    monkeypatch.setattr(Impatient, "PATIENCE", 1.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] == "/slow":
            await asyncio.sleep(2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(app, http=Impatient, lifespan="off", log_level="error")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        made = uvicorn.Server(config)
        thread = threading.Thread(target=made.run, args=([listening],))
        thread.start()
        yield listening.getsockname()
        made.should_exit = True
        thread.join()


SILENT = {
    "nothing": b"",
    "half a line": b"POST / HT",
    "half of its headers": b"POST / HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nxx",
    "half of a second request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
}


@pytest.mark.parametrize("what", SILENT)
def test_who_says_nothing_is_left(impatient: tuple[str, int], what: str) -> None:
    with socket.create_connection(impatient, timeout=30) as line:
        line.sendall(SILENT[what])
        with contextlib.suppress(ConnectionResetError):
            while line.recv(65536):
                pass


def test_headers_without_end_are_left(impatient: tuple[str, int]) -> None:
    end = time.monotonic() + 30
    with socket.create_connection(impatient, timeout=30) as line, contextlib.suppress(OSError):
        line.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() < end:
            line.sendall(b"X: x\r\n")
            time.sleep(0.1)
    assert time.monotonic() < end


def test_who_goes_on_or_waits_is_not_left(impatient: tuple[str, int]) -> None:
    head = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nConnection: close\r\n\r\n"
    with socket.create_connection(impatient, timeout=30) as line:
        line.sendall(head)
        for _ in range(20):
            line.sendall(b"x")
            time.sleep(0.1)
        answer = b""
        while part := line.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and b"x" * 20 in answer


def test_a_server_takes_as_many_connections_as_the_system_allows(standing: Server) -> None:
    limits = Path(f"/proc/{standing.process.pid}/limits").read_text()
    ((soft, hard),) = re.findall(r"Max open files +(\d+) +(\d+)", limits)
    assert soft == hard


# -- streams ---------------------------------------------------------------------------------------
@pytest.fixture
def watched(standing: Server) -> Iterator[tuple[httpx.Client, str]]:
    with standing.browser("ada", PASSWORD) as browser:
        yield browser, browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]


@pytest.mark.parametrize("how", ["token", "logout", "password"])
def test_streams_end_with_what_let_them_in(
    standing: Server, watched: tuple[httpx.Client, str], how: str
) -> None:
    browser, task = watched
    client = httpx.Client(base_url=standing.address, timeout=60)
    if how == "token":
        words = browser.post("/api/tokens", json={"title": "t"}).json()["token"]
        client.headers["Authorization"] = f"Bearer {words}"
    else:
        asked = {"name": "ada", "password": PASSWORD}
        assert client.post("/api/login", json=asked).is_success
    with client.stream("GET", f"/api/tasks/{task}/live") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: task"
        if how == "token":
            (token,) = browser.get("/api/tokens").json()
            browser.delete(f"/api/tokens/{token['id']}")
        elif how == "password":
            new = {"old_password": PASSWORD, "new_password": "another long word"}
            assert browser.patch("/api/me", json=new).is_success
        else:
            page = client.get("/").text
            csrf = page.split('name="csrf" content="')[1].split('"')[0]
            assert client.post("/api/logout", headers={"X-CSRF-Token": csrf}).is_success
        # it ends by itself, whatever happens to the task
        for _ in lines:
            browser.patch(f"/api/tasks/{task}", json={"title": f"at {time.monotonic()}"})
    if how == "password":
        back = {"old_password": new["new_password"], "new_password": PASSWORD}
        assert browser.patch("/api/me", json=back).is_success


def test_one_user_does_not_watch_without_end(
    standing: Server, watched: tuple[httpx.Client, str]
) -> None:
    browser, task = watched
    limits = httpx.Limits(max_connections=100)
    many = httpx.Client(
        base_url=standing.address, cookies=browser.cookies, limits=limits, timeout=20
    )
    with many, ExitStack() as stack:
        asked = [many.stream("GET", f"/api/tasks/{task}/live") for _ in range(40)]
        answers = [stack.enter_context(one) for one in asked]
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429} and codes.count(200) <= 40 - 6
        assert browser.get("/api/me").status_code == 200
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with browser.stream("GET", f"/api/tasks/{task}/live") as answer:
            if answer.status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("streams that ended are counted still")


# -- what is sent ----------------------------------------------------------------------------------
def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


CONFIGS = {
    "half a letter": '{"a": "\\ud800"}',
    "half a letter as a name": '{"a": {"\\udfff": 1}}',
    "no number": '{"a": [NaN]}',
    "endless": '{"a": -Infinity}',
    "deep": nested(200),
    "deeper": nested(900),
    "deepest": nested(100_000),
    "long number": '{"a": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("what", CONFIGS)
def test_configs_that_could_not_be_told_again_are_not_kept(browser: Browser, what: str) -> None:
    head = {"Content-Type": "application/json"}
    text = '{"kind": "forcefield", "config": ' + CONFIGS[what] + "}"
    assert browser.post("/api/tasks", content=text, headers=head).status_code in (400, 422)
    assert browser.get("/api/tasks").json()["total"] == 0
    task = browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
    text = '{"config": ' + CONFIGS[what] + "}"
    answer = browser.patch(f"/api/tasks/{task}", content=text, headers=head)
    assert answer.status_code in (400, 422), answer.text
    checked = browser.post("/api/kinds/forcefield/check", content=text, headers=head)
    assert checked.status_code < 500, checked.text
    assert browser.get(f"/api/tasks/{task}").status_code == 200


HOLES = (
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "-" * 50_000 + "1 }}",
    "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
)


@pytest.mark.parametrize("hole", HOLES, ids=["brackets", "signs", "conditions"])
def test_templates_that_are_nested_too_deep_are_told(
    browser: Browser, silicon: Any, hole: str
) -> None:
    form = {
        "name": "deep", "title": "deep", "pair_style": "lj/cut 5.0", "cutoff": "reach",
        "parameters": [{"name": "reach", "default": 5.0, "lower": 4.0, "upper": 6.0}],
        "pair_coeff": ["pair_coeff * * 0.1 2.0 " + hole],
    }  # fmt: skip
    upload = kept(browser, ("deep.json", json.dumps(form).encode()))["id"]
    told = {"form": "deep", "species": ["Si"], "file": f"upload:{upload}/raw/deep.json"}
    answer = browser.post("/api/kinds/forcefield/check", json={"config": silicon | {"model": told}})
    assert answer.status_code == 400 or (answer.status_code == 200 and answer.json()), answer.text


# -- files of the server ---------------------------------------------------------------------------
def test_other_accounts_of_the_machine_read_nothing_of_users(standing: Server) -> None:
    with standing.browser("ada", PASSWORD) as browser:
        assert browser.post("/api/uploads", files={"files": ("a.json", b"{}")}).status_code == 201
    closed = [standing.folder / "users", standing.folder / "scratch"]
    closed += list(standing.folder.glob("studio.db*"))
    assert len(closed) >= 4
    for path in closed:
        assert path.stat().st_mode & 0o077 == 0, path


def test_words_that_let_somebody_in_are_not_written_down(standing: Server) -> None:
    with standing.browser("ada", PASSWORD) as browser:
        token = browser.post("/api/tokens", json={"title": "t"}).json()["token"]
        httpx.get(f"{standing.address}/api/me", headers={"Authorization": f"Bearer {token}"})
        cookie = browser.cookies["mlcore_studio"]
        browser.get("/login", params={"key": "a-wrong-key"})
    secrets = [word.encode() for word in (token, cookie, PASSWORD, "a-wrong-key")]
    files = [one for one in standing.folder.rglob("*") if one.is_file()]
    assert len(files) > 3
    for file in files:
        content = file.read_bytes()
        assert not any(word in content for word in secrets), file
