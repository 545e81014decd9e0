"""``python -m mlcore.parallel``, what is missing, and the example for a cluster."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml
from mlcore import parallel
from mlcore.parallel import selftest
from mlcore.parallel.__main__ import app
from mlcore.parallel.available import availability
from mlcore.parallel.engines.serial import Options, Serial
from mlcore.parallel.payload import opened
from mlcore.parallel.task import Answer, Task
from typer.testing import CliRunner

EXAMPLE = Path(__file__).parents[3] / "examples" / "force_field_cluster" / "slurm.yaml"


def test_the_engines_are_listed() -> None:
    said = CliRunner().invoke(app, ["--json"])
    assert said.exit_code == 0
    found = {entry["name"]: entry for entry in json.loads(said.stdout)}
    assert list(found) == list(parallel.ENGINES)
    assert found["serial"]["available"] and found["processes"]["available"]
    for name in parallel.ENGINES:
        assert name in CliRunner().invoke(app, []).stdout


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "distributed" else there(name)
    )
    (dask,) = [entry for entry in availability() if entry.name == "dask"]
    assert not dask.available
    assert "distributed not installed: pip install 'mlcore[cluster]'" in dask.reason


@pytest.mark.parametrize(("name", "module"), [("parsl", "parsl"), ("dask", "distributed")])
def test_an_engine_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, name: parallel.EngineName, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(parallel.BackendUnavailable, match=r"pip install 'mlcore\[cluster\]'"):
        parallel.engine(name, workers=1)


def test_an_engine_is_tried() -> None:
    said = CliRunner().invoke(app, ["run", "processes", "--workers", "2", "--json"])
    assert said.exit_code == 0
    verdict = json.loads(said.stdout)
    assert verdict["passed"] and verdict["workers"] == 2
    assert verdict["value"] == pytest.approx(3.14159, abs=2e-5)


@pytest.mark.parametrize(
    "arguments",
    [["redis"], ["processes", "--options", '{"nodes": 3}'], ["serial", "--options", "3"]],
)
def test_a_wrong_try_fails(arguments: list[str]) -> None:
    for more in ([], ["--json"]):
        said = CliRunner().invoke(app, ["run", *arguments, *more])
        assert said.exit_code == 1
        if more:
            assert json.loads(said.stdout)["passed"] is False


def test_the_engine_of_a_file_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "fit.yaml"
    file.write_text("run:\n  engine:\n    name: parsl\n    workers: 1\n")
    said = CliRunner().invoke(app, ["run", "serial", "--file", str(file), "--json"])
    assert json.loads(said.stdout)["passed"]
    for text in ("fit: {}\n", "engine: {workers: none}\n", "a: [\n"):
        file.write_text(text)
        assert CliRunner().invoke(app, ["run", "serial", "--file", str(file)]).exit_code == 1


class Liar(Serial):
    """Gives the results of each chunk in the wrong way."""

    def _submit(self, task: Task) -> Future[Answer]:
        done: Future[Answer] = Future()
        answer = super()._submit(task).result()
        values = [opened(payload) for payload in answer.payloads]
        from mlcore.parallel.payload import answer as packed
        from mlcore.parallel.payload import packed_item

        wrong = tuple(
            packed(lambda x: x + 1e-16 * abs(x) * 3, packed_item(v.value)) for v in values
        )
        done.set_result(Answer(wrong, answer.seconds))
        return done


def test_a_wrong_bit_is_found() -> None:
    with Liar(parallel.EngineSettings(name="serial"), Options()) as engine:
        verdict = selftest.try_out(engine)
    assert not verdict.passed and "other bits" in verdict.error


def test_importing_the_face_imports_no_engine() -> None:
    code = "import sys, mlcore.parallel; print([m for m in ('parsl', 'distributed', 'mpi4py',"
    code += " 'numpy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_options_have_a_schema() -> None:
    for name in parallel.ENGINES:
        assert parallel.options_of(name).model_json_schema()["type"] == "object"
    assert "lost_after" in parallel.options_of("parsl").model_json_schema()["properties"]


def test_the_example_for_slurm_is_understood() -> None:
    pytest.importorskip("parsl")
    import parsl
    from mlcore.parallel.engines.parsl import Options, _provider

    settings = parallel.EngineSettings.model_validate(
        yaml.safe_load(EXAMPLE.read_text())["run"]["engine"]
    )
    assert settings.name == "parsl"
    options = Options.model_validate(settings.options)
    provider = _provider(parsl, options.provider)
    assert type(provider).__name__ == "SlurmProvider"
    assert provider.nodes_per_block == 2 and type(provider.launcher).__name__ == "SrunLauncher"
    wrong = options.provider.model_copy(update={"nodes": 3})
    with pytest.raises(parallel.InvalidArgument, match="provider slurm"):
        _provider(parsl, type(wrong).model_validate(wrong.model_dump() | {"nodes": 3}))
