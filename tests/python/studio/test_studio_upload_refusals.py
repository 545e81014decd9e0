"""Everything a stranger may send: programs, bombs, noise, too much, names that lead elsewhere."""

from __future__ import annotations

import gzip
import pickle
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import Browser
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import Error
from mlcore.forcefield.structures import write_structures
from mlcore.studio import contents
from mlcore.studio.uploads import safe_name
from upload_files import copper, kept, left, limited, sent


@pytest.fixture
def extxyz(tmp_path: Path) -> Path:
    write_structures(tmp_path / "copper.xyz", copper())
    return tmp_path / "copper.xyz"


# -- what is refused -------------------------------------------------------------------------------
class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(app: FastAPI, browser: Browser, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    np.save(tmp_path / "trap.npy", np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    for file in (tmp_path / "trap.npy", ("trap.pkl", pickle.dumps(Trap(sprung)))):
        assert sent(browser, file).status_code == 400
    assert not sprung.exists()
    assert left(app) == []


@pytest.mark.parametrize("act", ["socket.create_connection(('127.0.0.1', 9))", "os.system('true')"])
def test_the_reader_opens_no_connection_and_starts_no_process(act: str) -> None:
    program = f"import os, socket; from mlcore.studio.parsing import _shut; _shut(False); {act}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "is not for the reader of uploads" in done.stderr


BAD = {
    "cut.xyz": b"2\n\nCu 0 0\n",
    "many.xyz": b"9999999\nProperties=species:S:1:pos:R:3\nCu 0 0 0\n",
    "POSCAR": b"a\n1\n1 0 0\n0 1 0\n0 0 1\nCu\n999999999999\nDirect\n0 0 0\n",
    "wrong.csv": b"a,b\n1,2\n",
    "no.db": b"SQLite format 3\0" + bytes(100),
    "bad.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "huge.npy": b"\x93NUMPY\1\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999, 99999), }"
    + b" " * 33
    + b"\n",
    "entity.xml": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><modeling>&a;</modeling>',
    "deep.json": b"[" * 100_000,
    "config.yaml": b"a: &a [1,1]\nb: !!python/object/apply:os.system [true]\n",
    "what.bin": b"\0\1\2",
    "empty.xyz": b"",
    "all.zip": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_files_are_told_in_one_line_and_nothing_stays(
    app: FastAPI, browser: Browser, name: str
) -> None:
    answer = sent(browser, (name, BAD[name]))
    assert answer.status_code == 400, answer.text
    told = answer.json()["detail"]
    assert (
        told.startswith(name)
        and "\n" not in told
        and str(app.state.studio.store.folder) not in told
    )
    assert left(app) == []


def test_bombs_end_at_the_limits(folder: Path, tmp_path: Path) -> None:
    app = limited(folder, parsing_bytes=600 << 20, parsing_seconds=300)
    rows = b"Cu 0 0 0\n" * 1_600_000
    text = gzip.compress(b"1600000\nProperties=species:S:1:pos:R:3\n" + rows, 1)
    with h5py.File(tmp_path / "big.h5", "w") as file:
        for name in ("positions", "velocities", "potential", "kinetic", "masses"):
            file.create_dataset(name, (1 << 20, 1 << 10, 8, 3), "f8", chunks=True, compression=1)
        file.attrs["format"] = "mlcore runs"
    with Browser(app) as browser:
        for bomb in (("bomb.xyz.gz", text), tmp_path / "big.h5"):
            answer = sent(browser, bomb)
            assert (answer.status_code, "memory" in answer.json()["detail"]) == (413, True)
    assert left(app) == []


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"upload": 2000}, "larger than"),
    ({"stored": 3000}, "at most"),
    ({"structures": 5}, "12 structures; 5 are read"),
    ({"parsing_seconds": 0.05}, "longer than"),
]


@pytest.mark.parametrize(("limits", "words"), LIMITS)
def test_limits_are_told(folder: Path, extxyz: Path, limits: dict[str, Any], words: str) -> None:
    app = limited(folder, **limits)
    with Browser(app) as browser:
        answer = sent(browser, extxyz)
    assert answer.status_code == 413
    assert words in answer.json()["detail"]
    assert left(app) == []


def test_no_more_data_sets_than_allowed(folder: Path) -> None:
    app = limited(folder, uploads=1)
    with Browser(app) as browser:
        first = kept(browser, ("a.json", b"{}"))
        assert sent(browser, ("b.json", b"{}")).status_code == 413
        browser.delete(f"/api/uploads/{first['id']}")
        kept(browser, ("b.json", b"{}"))


def test_forms_that_are_none(browser: Browser) -> None:
    assert browser.post("/api/uploads").status_code == 422
    assert browser.post("/api/uploads", data={"files": "words"}).status_code == 422
    head = {"content-type": "multipart/form-data; boundary=x"}
    for body in (
        b"",
        b"--x",
        b"--x\r\n\r\n--x--",
        b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
    ):
        assert browser.post("/api/uploads", content=body, headers=head).status_code in (400, 422)
    both = sent(browser, ("a.json", b"{}"), ("b.csv", b"property,value,tolerance\na,1,1\n"))
    assert both.status_code == 400 and "several kinds" in both.json()["detail"]


NAMES = (
    "a.xyz",
    "a.csv",
    "a.cif",
    "POSCAR",
    "OUTCAR",
    "vasprun.xml",
    "a.data",
    "a.dump",
    "a.npy",
    "a.db",
)
NAMES += ("a.json", "a.toml", "a.yaml", "a.h5", "a", "a.xyz.gz")
BEGINNINGS = (
    b"",
    b"\x93NUMPY\1\0",
    b"2\n\n",
    b"ITEM: TIMESTEP\n",
    b"data_x\n",
    b"{",
    b"\x1f\x8b\x08",
    b"LAMMPS\n\n2 atoms\n",
)


@given(st.sampled_from(NAMES), st.sampled_from(BEGINNINGS), st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(name: str, begin: bytes, rest: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(begin + rest)
        try:
            found = contents.recognised(path)
            with contents.named(found):
                if found.kind == "structures":
                    assert len(contents.dataset([found], {}, ""))
                else:
                    assert contents.others(found)
        except Error as error:
            assert name in str(error)


@pytest.mark.parametrize("name", ["a.xyz", "a.npy", "a.yaml", "POSCAR"])
def test_noise_never_breaks_the_server(browser: Browser, name: str) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    assert sent(browser, (name, noise)).status_code == 400


# -- names -----------------------------------------------------------------------------------------
@given(st.text(max_size=300), st.lists(st.text(string.ascii_letters, max_size=3), max_size=3))
def test_names_are_plain(name: str, taken: list[str]) -> None:
    made = safe_name(name, taken)
    assert 0 < len(made) <= 110 and not made.startswith(".")
    assert not set(made) & set("/\\\0\n") and made.lower() not in {t.lower() for t in taken}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../../etc/cron.d/x.json", "x.json"),
        ("..\\..\\x.json", "x.json"),
        (".hidden.json", "hidden.json"),
        ("a" * 300 + ".json", "a" * 95 + ".json"),
        ("é b;rm -rf.json", "b_rm -rf.json"),
    ],
)
def test_files_stay_in_their_folder(app: FastAPI, browser: Browser, name: str, plain: str) -> None:
    told = kept(browser, (name, b"{}"))
    (folder,) = left(app)
    assert [p.name for p in (folder / "raw").iterdir()] == [plain]
    assert told["title"] == plain
