"""Exit codes and error lines of the command `mlcore`."""

import subprocess
import sys

import mlcore
import pytest
from mlcore import cli


@pytest.fixture
def failing(monkeypatch):
    """A command that raises what the test asks for."""
    monkeypatch.delenv(cli.DEBUG, raising=False)

    def install(error):
        from mlcore.cli import app

        def fail():
            raise error

        monkeypatch.setattr(app.app, "registered_commands", list(app.app.registered_commands))
        app.app.command("fail")(fail)

    return install


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlcore {mlcore.__version__}\n"


@pytest.mark.parametrize("words", [["nosuch"], ["--nosuch"], ["lammps", "run"], ["lammps", "x"]])
def test_wrong_usage_exits_2(words, capsys):
    assert cli.main(words) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (mlcore.InvalidArgument("radius must be > 0,\n  got -1"), "radius must be > 0, got -1"),
        (FileNotFoundError(2, "No such file or directory", "a.toml"), "a.toml: No such file"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "mlcore[train]"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops (a defect"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(failing, capsys, error, line):
    failing(error)
    assert cli.main(["fail"]) == 1
    written = capsys.readouterr().err
    assert written.startswith("error: ") and line in written and written.count("\n") == 1


def test_debug_shows_the_traceback(failing, capsys, monkeypatch):
    monkeypatch.setenv(cli.DEBUG, "")
    failing(mlcore.Error("broken"))
    assert cli.main(["--debug", "fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_is_quick_and_free_of_torch():
    code = (
        "import sys, mlcore.cli; mlcore.cli.main(['--help'])\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
