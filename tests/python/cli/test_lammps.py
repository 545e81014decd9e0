"""`mlcore lammps` hands its words on unchanged and returns LAMMPS' own exit status."""

import mlcore.lammps
import pytest
from mlcore import BackendUnavailable, cli


@pytest.fixture
def calls(monkeypatch):
    seen = []
    monkeypatch.setattr(mlcore.lammps, "run", lambda *words: seen.append(words) or 3)
    return seen


def test_run_passes_words_on(calls):
    assert cli.main(["lammps", "run", "-n", "2", "in.file", "-var", "x", "1", "-log", "none"]) == 3
    ((script, ranks, words),) = calls
    assert (str(script), ranks, list(words)) == ("in.file", 2, ["-var", "x", "1", "-log", "none"])


def test_run_keeps_words_that_look_like_its_own(calls):
    assert cli.main(["lammps", "run", "in.file", "-n", "7"]) == 3
    assert calls[0][1] == 1 and list(calls[0][2]) == ["-n", "7"]


def test_ranks_must_be_positive(calls):
    assert cli.main(["lammps", "run", "-n", "0", "in.file"]) == 2
    assert calls == []


def test_path_and_its_error(monkeypatch, capsys):
    monkeypatch.setattr(mlcore.lammps, "plugin_path", lambda: "/here/plugin.so")
    assert cli.main(["lammps", "path"]) == 0
    assert capsys.readouterr().out == "/here/plugin.so\n"

    def fail():
        raise BackendUnavailable("not built")

    monkeypatch.setattr(mlcore.lammps, "plugin_path", fail)
    assert cli.main(["lammps", "path"]) == 1
    assert capsys.readouterr().err == "error: not built\n"


def test_a_script_that_is_not_there_is_named(monkeypatch, capsys):
    assert cli.main(["lammps", "run", "absent.in"]) == 1
    assert "absent.in" in capsys.readouterr().err
