"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlcore.errors import Error
from mlcore.io import atomic_directory, atomic_path, write_bytes, write_text

FULL = Path("/dev/full")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_text_and_bytes_are_written_and_replaced(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "first é\n")
    assert target.read_text(encoding="utf-8") == "first é\n"
    write_bytes(target, b"second")
    assert target.read_bytes() == b"second"
    assert names(tmp_path) == ["a.txt"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_links_stay_links(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(KeyError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_missing_folder_and_folder_in_the_way(tmp_path):
    with pytest.raises(Error, match="does not exist"):
        write_text(tmp_path / "no" / "a", "x")
    (tmp_path / "d").mkdir()
    with pytest.raises(Error, match="folder"):
        write_text(tmp_path / "d", "x")


def test_full_disk_is_named_and_leaves_nothing(tmp_path):
    """A file size limit makes write() fail as a full disk does, in a process of its own."""
    program = (
        "import sys; from mlcore.io import write_bytes\n"
        "from mlcore.errors import Error\n"
        "try: write_bytes(sys.argv[1], b'x' * 100000)\n"
        "except Error as error: print(error); sys.exit(3)\n"
    )
    target = tmp_path / "big"
    target.write_bytes(b"old")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    run = subprocess.run(
        [sys.executable, "-c", program, str(target)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3, run.stderr
    assert f"cannot write {target}" in run.stdout
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["big"]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_no_space_left_is_said(tmp_path):
    with (
        pytest.raises(Error, match=r"cannot write .*No space left"),
        atomic_path(tmp_path / "a"),
        FULL.open("wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert names(tmp_path) == []


def test_folders_are_replaced_as_a_whole(tmp_path):
    for round_number in ("1", "2"):
        with atomic_directory(tmp_path / "out") as folder:
            (folder / f"file{round_number}").write_text(round_number)
            (folder / "sub").mkdir()
    assert names(tmp_path / "out") == ["file2", "sub"]
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert names(tmp_path / "out") == ["file2", "sub"]
    assert names(tmp_path) == ["out"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(Error, match="in the way"), atomic_directory(tmp_path / "file"):
        pass
