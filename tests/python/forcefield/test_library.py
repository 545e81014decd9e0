"""Publishing, searching and downloading potentials, and libraries that mean harm."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield import library as room
from mlcore.forcefield.export import export, load
from mlcore.forcefield.forms import model
from mlcore.forcefield.library import download, publish, search

CARD = {
    "title": "A potential for tests",
    "license": "CC0-1.0",
    "citation": ["Nobody, Journal of Tests 1, 1 (2026)"],
    "provenance": {"authors": ["N. Body"], "method": "by hand", "data": ["nothing"]},
    "errors": {"energies": {"rmse": 0.01, "unit": "eV/atom"}},
    "validity": {"distances": {"Si-Si": 2.1}, "densities": [2.0, 2.6], "temperatures": [0, 300]},
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def made(folder: Path, form: str, species: list[str], **more: object) -> Path:
    target = folder / f"{form.replace('/', '-')}-{'-'.join(species)}"
    export(model(form, species), {}, target, card=CARD | more)
    return target


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A library of three potentials."""
    shelf = tmp_path / "library"
    publish(made(tmp_path, "sw", ["Si"], title="Silicon of the melt"), shelf)
    publish(made(tmp_path, "tersoff", ["Si", "C"]), shelf)
    publish(made(tmp_path, "lj/cut", ["Ar"], name="argon"), shelf)
    return shelf


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(shelf: Path) -> Iterator[str]:
    """The same library behind HTTP on this machine."""
    handler = functools.partial(Quiet, directory=str(shelf))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def names(library: str | Path, **wanted: object) -> list[str]:
    return [entry.name for entry in search(library, **wanted)]  # type: ignore[arg-type]


def test_search(shelf: Path, address: str) -> None:
    for library in (shelf, address, shelf.as_uri(), address + "/"):
        assert names(library) == ["argon", "sw-Si", "tersoff-Si-C"]
        assert names(library, species=["Si"]) == ["sw-Si", "tersoff-Si-C"]
        assert names(library, species=["C", "Si"]) == ["tersoff-Si-C"]
        assert names(library, form="lj/cut") == ["argon"]
        assert names(library, text="MELT silicon") == ["sw-Si"]
        assert names(library, text="nobody") == ["argon", "sw-Si", "tersoff-Si-C"]
        assert names(library, text="gold") == []
        assert names(library, species=["Au"]) == []
    with pytest.raises(InvalidArgument, match="list of names"):
        search(shelf, species="Si")


def test_download(shelf: Path, address: str, tmp_path: Path) -> None:
    for k, library in enumerate((shelf, address, shelf.as_uri())):
        folder = download("tersoff-Si-C", library, tmp_path / f"here{k}")
        potential, values, card = load(folder)
        assert values == model("tersoff", ["Si", "C"]).defaults
        assert potential.form.name == "tersoff"
        assert card.provenance.authors == ("N. Body",)
        assert (folder / "card.json").read_bytes() == (
            shelf / "tersoff-Si-C/card.json"
        ).read_bytes()
    with pytest.raises(InvalidArgument, match="has no 'gold'; it has argon, sw-Si"):
        download("gold", shelf, tmp_path / "gold")
    with pytest.raises(InvalidArgument, match="is there already"):
        download("argon", shelf, tmp_path / "here0")


def test_publishing_twice(shelf: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    export(model("sw", ["Si"]), {"sigma": 2.2}, again, card=CARD | {"name": "sw-Si"})
    with pytest.raises(InvalidArgument, match="is there already"):
        publish(again, shelf)
    assert load(shelf / "sw-Si")[1]["sigma"] == 2.0951
    publish(again, shelf, replace=True)
    assert load(shelf / "sw-Si")[1]["sigma"] == 2.2
    assert len(names(shelf)) == 3


def test_a_bare_card_is_told_what_it_lacks(tmp_path: Path) -> None:
    export(model("sw", ["Si"]), {}, tmp_path / "p", card={"title": "x"})
    with pytest.raises(InvalidArgument) as caught:
        publish(tmp_path / "p", tmp_path / "library")
    for what in ("license", "provenance.authors", "provenance.method", "provenance.data"):
        assert what in str(caught.value)
    for what in ("errors", "validity.distances", "validity.densities", "validity.temperatures"):
        assert what in str(caught.value)
    assert "title" not in str(caught.value)
    assert not (tmp_path / "library").exists()


def test_a_changed_folder_is_not_published(tmp_path: Path) -> None:
    folder = made(tmp_path, "sw", ["Si"])
    with pytest.raises(InvalidArgument, match="publish to a folder"):
        publish(folder, "http://127.0.0.1:1/library")
    (folder / "model.sw").write_text("Si Si Si 1 1 1 1 1 1 1 1 1 1 1\n")
    with pytest.raises(FileFormatError, match="was changed"):
        publish(folder, tmp_path / "library")


def test_many_publish_at_once(tmp_path: Path) -> None:
    shelf = tmp_path / "library"
    folders = [made(tmp_path, "sw", ["Si"], name="n0")]
    for k in range(1, 6):
        folders.append(tmp_path / f"p{k}")
        export(model("sw", ["Si"]), {}, folders[-1], card=CARD | {"name": f"n{k}"})
    threads = [threading.Thread(target=publish, args=(folder, shelf)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(shelf) == [f"n{k}" for k in range(6)]


def changed(shelf: Path, change: object) -> None:
    index = json.loads((shelf / "index.json").read_text())
    change(index["potentials"])  # type: ignore[operator]
    (shelf / "index.json").write_text(json.dumps(index))


def other_hash(potentials: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
    potentials["argon"]["files"]["in.lammps"]["sha256"] = "0" * 64


def climbing(potentials: dict[str, dict[str, dict[str, object]]]) -> None:
    potentials["argon"]["files"]["../../out"] = potentials["argon"]["files"]["in.lammps"]


def renamed(potentials: dict[str, dict[str, object]]) -> None:
    potentials["../argon"] = potentials.pop("argon") | {"name": "../argon"}


def misnamed(potentials: dict[str, dict[str, object]]) -> None:
    potentials["gold"] = potentials.pop("argon")


def huge(potentials: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
    potentials["argon"]["files"]["in.lammps"]["bytes"] = 10**12


def many(potentials: dict[str, dict[str, dict[str, object]]]) -> None:
    own = potentials["argon"]["files"]
    potentials["argon"]["files"] = {f"f{k}": own["in.lammps"] for k in range(100)} | own


def boasting(potentials: dict[str, dict[str, object]]) -> None:
    potentials["argon"]["title"] = "The best of all"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_hash, "hash is not the index's"),
        (climbing, "plain name"),
        (renamed, "pattern"),
        (misnamed, "is called argon inside"),
        (huge, "larger than"),
        (many, "at most"),
        (boasting, "does not say what its card says"),
    ],
)
def test_hostile_indices(change: object, word: str, shelf: Path, tmp_path: Path) -> None:
    changed(shelf, change)
    with pytest.raises(FileFormatError, match=word):
        download("argon", shelf, tmp_path / "here")
    assert not (tmp_path / "here").exists()
    assert not (tmp_path / "out").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_files_that_changed_or_grew(shelf: Path, address: str, tmp_path: Path) -> None:
    file = shelf / "argon/in.lammps"
    text = file.read_text()
    for library in (shelf, address):
        file.write_text("#" + text[1:-2] + "!\n")
        with pytest.raises(FileFormatError, match="hash is not the index's"):
            download("argon", library, tmp_path / "here")
        file.write_text(text + "more")
        with pytest.raises(FileFormatError, match="is larger than"):
            download("argon", library, tmp_path / "here")
        file.unlink()
        with pytest.raises(FileFormatError, match=r"in\.lammps"):
            download("argon", library, tmp_path / "here")
    file.symlink_to("/etc/passwd")
    with pytest.raises(FileFormatError, match="leads out"):
        download("argon", shelf, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_an_index_too_large(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LARGEST_INDEX", 100)
    with pytest.raises(FileFormatError, match="larger than 100"):
        search(shelf)


def test_what_is_no_library(tmp_path: Path, address: str) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        search(tmp_path)
    with pytest.raises(FileFormatError, match="404"):
        search(f"{address}/argon")
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(FileFormatError, match=r"index\.json"):
        search(tmp_path)
    with pytest.raises(InvalidArgument, match="http, https or file"):
        search("ftp://127.0.0.1/x")
    with pytest.raises(Error, match="does not answer"):
        search("http://127.0.0.1:9/x")


class Elsewhere(Quiet):
    """Sends everybody to a file of their own machine."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.end_headers()


def test_a_server_cannot_send_us_to_our_own_files() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with pytest.raises(FileFormatError, match="302"):
                search(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
