"""Stages run once, again when their key changes, and on after a kill."""

import pytest
from mlcore import Error
from mlcore.mobility.stages import Stages, digest


def counting(calls, result=None):
    def work(folder, again):
        calls.append(again)
        (folder / "file").write_text("x")
        return result or {"value": len(calls)}

    return work


def test_a_finished_stage_is_not_repeated(tmp_path):
    calls = []
    first = Stages(tmp_path).run("one", "key", counting(calls))
    second = Stages(tmp_path).run("one", "key", counting(calls))
    assert calls == [False]
    assert (first.cached, second.cached) == (False, True)
    assert second.result == first.result == {"value": 1}
    assert second.seconds == first.seconds


def test_another_key_or_fresh_starts_from_an_empty_folder(tmp_path):
    calls = []
    Stages(tmp_path).run("one", "key", counting(calls))
    (tmp_path / "one" / "old").touch()
    assert Stages(tmp_path).run("one", "other", counting(calls)).result == {"value": 2}
    assert not (tmp_path / "one" / "old").exists()
    assert Stages(tmp_path, fresh=True).run("one", "other", counting(calls)).result == {"value": 3}


def test_a_stage_that_was_cut_off_goes_on(tmp_path):
    def fail(folder, again):
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).run("one", "key", fail)
    calls = []
    stage = Stages(tmp_path).run("one", "key", counting(calls))
    assert calls == [True] and not stage.cached
    assert (tmp_path / "one" / "checkpoint").exists()


def test_a_damaged_record_is_done_again(tmp_path):
    calls = []
    Stages(tmp_path).run("one", "key", counting(calls))
    (tmp_path / "one" / "stage.json").write_text('{"key": "key", "resu')
    assert not Stages(tmp_path).run("one", "key", counting(calls)).cached


def test_what_happens_is_told(tmp_path):
    heard = []
    Stages(tmp_path, told=heard.append).run("one", "key", counting([]))
    assert heard[0] == "one" and heard[1].name == "one"


def test_the_digest_follows_contents(tmp_path):
    file = tmp_path / "a"
    file.write_text("1")
    before = digest({"x": 1.5}, files=[file])
    assert before == digest({"x": 1.5}, files=[file])
    file.write_text("2")
    assert len({before, digest({"x": 1.5}, files=[file]), digest({"x": 1.6}, files=[file])}) == 3
    with pytest.raises(Error, match="absent"):
        digest(files=[tmp_path / "absent"])


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(Error, match="out"):
        Stages(tmp_path / "out").run("one", "key", counting([]))
