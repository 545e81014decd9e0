"""`--remote`: the same config, run by a studio in a process of its own."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.io import write
from mlcore.cli import main
from mlcore.errors import InvalidArgument
from mlcore.forcefield.config.begin import begin
from mlcore.forcefield.forms import model
from mlcore.md import sweep
from mlcore.studio.remote import Remote
from server import Server


@pytest.fixture(scope="module")
def token(client: httpx.Client) -> str:
    return str(client.post("/api/tokens", json={"title": "tests"}).json()["token"])


@pytest.fixture
def known(token: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLCORE_TOKEN", token)
    return token


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out


def error(capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    shown = capsys.readouterr().err
    if code == 1:
        assert shown.startswith("error: ") and shown.count("\n") == 1, shown
    return shown


def uploads(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/uploads").json()
    return found


# -- fits ------------------------------------------------------------------------------------------
def test_a_fit_there_is_the_fit_here(
    studio: Server, known: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = begin(tmp_path / "silicon")
    words = ("forcefield", "fit", config, "--budget", 24)
    out = tmp_path / "there"
    remote = ("--remote", studio.address, "--follow", "--engine", "serial", "--out", out)
    shown = said(capsys, *words, *remote)
    assert shown.startswith(f"{studio.address}/tasks/")
    here = tmp_path / "here"
    said(capsys, *words, "--engine", "serial", "--out", here, "--no-report", "--quiet")
    results = [json.loads((place / "result.json").read_text()) for place in (out, here)]
    assert results[0]["values"] == results[1]["values"]
    assert results[0]["total"] == results[1]["total"]
    assert (out / "report.html").is_file()
    assert "Si" in (out / "potential" / "model.tersoff").read_text()
    assert known not in (out / "config.json").read_text()


def test_all_files_of_a_config_are_sent_once(
    studio: Server,
    client: httpx.Client,
    known: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = model("tersoff", ["Si"])
    values = made.defaults | {"A": 1830.8, "B": 471.18}
    for name, text in made.render(values).files.items():
        (tmp_path / name).write_text(text)
    atoms = bulk("Si", cubic=True)
    write(tmp_path / "diamond.extxyz", atoms)
    target: dict[str, Any] = {"type": "cubic_crystal", "structure": {"file": "diamond.extxyz"}}
    target["values"] = {"energy": -4.63}
    told = {
        "model": {"form": "tersoff", "species": ["Si"]},
        "parameters": {"free": {"A": {"within": 0.1}}, "start": "model.tersoff"},
        "targets": [target | {"name": "one"}, target | {"name": "two"}],
        "run": {"budget": 3},
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(told))
    before = len(uploads(client))
    shown = said(capsys, "forcefield", "fit", tmp_path / "fit.yaml", "--remote", studio.address)
    assert len(uploads(client)) == before + 1
    task = client.get(f"/api/tasks/{shown.strip().rpartition('/')[2]}").json()
    assert task["title"] == "fit"
    assert task["config"]["parameters"]["start"]["A"] == 1830.8
    files = {one["structure"]["file"] for one in task["config"]["targets"]}
    assert files == {f"upload:{uploads(client)[0]['id']}/raw/diamond.extxyz"}


def test_refusals_are_one_line_and_leave_nothing_behind(
    studio: Server,
    client: httpx.Client,
    known: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = begin(tmp_path)
    there = ("forcefield", "fit", config, "--remote", studio.address)
    counts = (len(uploads(client)), client.get("/api/tasks").json()["total"])
    text = config.read_text()
    config.write_text(text.replace("species: [Si]", "species: [Xx]"))
    assert "Xx" in error(capsys, *there)
    config.write_text(text.replace("budget: 1500", "budget: 0"))
    assert "run.budget" in error(capsys, *there)
    config.write_text(text)
    assert "engine: 'magic'; one of " in error(capsys, *there, "--engine", "magic")
    (tmp_path / "data" / "phases.extxyz").write_text("no structures\n")
    assert "phases.extxyz" in error(capsys, *there)
    assert (len(uploads(client)), client.get("/api/tasks").json()["total"]) == counts
    monkeypatch.setenv("MLCORE_TOKEN", "wrong")
    assert "no such token" in error(capsys, *there)
    monkeypatch.delenv("MLCORE_TOKEN")
    assert "set MLCORE_TOKEN" in error(capsys, *there)
    error(capsys, "forcefield", "fit", config, "--follow", code=2)
    monkeypatch.setenv("MLCORE_TOKEN", known)
    gone = ("forcefield", "fit", config, "--remote", "http://127.0.0.1:9")
    assert "cannot be reached" in error(capsys, *gone)


def test_wrong_fields_that_the_studio_finds_are_named(
    studio: Server, client: httpx.Client, known: str
) -> None:
    with Remote(studio.address, known) as remote:
        with pytest.raises(Exception, match=r"model\.species: .*; .*parameters: ") as found:
            remote.submit("forcefield", {"model": {"form": "tersoff"}}, "wrong")
        assert getattr(found.value, "status", None) == 422
        with pytest.raises(Exception, match="no such task"):
            remote.fetch("none", Path("/nonexistent"))
    assert not [t for t in client.get("/api/tasks").json()["tasks"] if t["title"] == "wrong"]


# -- the other engines -----------------------------------------------------------------------------
def test_runs_and_grids_are_sent_with_their_configs(
    studio: Server,
    client: httpx.Client,
    known: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = tmp_path / "token"
    token.write_text(known + "\n")
    sweep("double_well", {"x0": [1.5, 2.0, 2.5]}, dt=1e-2, time=8.0, every=20,
          path=tmp_path / "runs.h5")  # fmt: skip
    lstm = '[model]\nkind = "lstm"\n[fit]\ndata = "runs.h5"\nepochs = 2\n'
    (tmp_path / "lstm.toml").write_text(lstm)
    rng = np.random.default_rng(0)
    for k in range(2):
        np.save(tmp_path / f"life{k}.npy", rng.integers(0, 2, (5, 1, 6, 6), dtype=np.int8))
    life = '[cells]\nkind = "automaton"\n[[runs]]\nfiles = "life*.npy"\n'
    (tmp_path / "life.toml").write_text(life)
    for name, config in (("integrators", "lstm"), ("sagesnet", "life")):
        words = (name, "fit", tmp_path / f"{config}.toml", "--remote", studio.address)
        shown = said(capsys, *words, "--token-file", token)
        task = shown.strip().rpartition("/")[2]
        told = client.get(f"/api/tasks/{task}").json()
        assert (told["kind"], told["title"]) == (name, config)
        client.post(f"/api/tasks/{task}/cancel")
        text = json.dumps(told["config"])
        assert text.count("upload:") == (1 if name == "integrators" else 2)
        assert str(tmp_path) not in text
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[model]\nkind = "lstm"\n[fit]\ndata = "absent.h5"\n')
    assert "absent.h5" in error(capsys, "integrators", "fit", wrong, "--remote", studio.address)
    cost = '[cost]\nscript = "in.solvent"\nparticles = 2\nbox = 5\ntime_step = 0.1\n'
    example = Path(__file__).parents[3] / "examples" / "colloids" / "demo.toml"
    pushed = example.parent / "data" / "active_multi_s101.dump.gz"
    for k in range(2):
        (tmp_path / f"pushed{k}.dump.gz").write_bytes(pushed.read_bytes())
    (tmp_path / "colloids.toml").write_text(
        '[system]\nkBT = 1.0\n[data.active]\nfiles = "pushed*.dump.gz"\nlag = 20.0\n'
        "[estimate]\nedges = [4.3, 8.5, 20.8]\n[train]\ncutoff = 12.0\n" + cost
    )
    shown = said(capsys, "mobility", "demo", tmp_path / "colloids.toml", "--remote", studio.address)
    task = shown.strip().rpartition("/")[2]
    told = client.get(f"/api/tasks/{task}").json()
    client.post(f"/api/tasks/{task}/cancel")
    assert told["kind"] == "mobility" and "cost" not in told["config"]
    assert told["config"]["data"]["active"]["files"].startswith("upload:")


# -- tokens ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address",
    ["http://studio.example.org", "http://10.0.0.1:8750", "http://127.0.0.1.example.org",
     "http://localhost@example.org", "ftp://127.0.0.1", "127.0.0.1:8750", "http://", "http://[::1",
     "http://127.0.0.1:99999999", "https://ada:secret@example.org", "http://localhost.:1"],
)  # fmt: skip
def test_a_token_goes_to_no_place_where_others_can_read_it(address: str) -> None:
    with pytest.raises(InvalidArgument, match="--remote"):
        Remote(address, "token")


def test_a_token_goes_where_it_may() -> None:
    for address in ("http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1", "https://x.org"):
        Remote(address, "token").__exit__(None, None, None)
    Remote("http://10.0.0.1", "token", insecure=True).__exit__(None, None, None)
    with pytest.raises(InvalidArgument, match="token must be"):
        Remote("https://x.org", "two\nlines")


def test_a_token_is_not_sent_on_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither through a proxy in the environment nor after a redirection."""
    seen: list[str] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('authorization')}")
            self.send_response(302)
            self.send_header("location", f"http://localhost:{server.server_port}/stolen")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    with (
        Remote("http://127.0.0.1:9", "token") as remote,
        pytest.raises(Exception, match="cannot be reached"),
    ):
        remote.fetch("x", Path())
    assert seen == []
    with (
        Remote(f"http://127.0.0.1:{server.server_port}", "token") as remote,
        pytest.raises(Exception, match="302"),
    ):
        remote.fetch("x", Path())
    server.shutdown()
    server.server_close()
    assert len(seen) == 1
