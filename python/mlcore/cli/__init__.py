"""The command ``mlcore``: an error is one line on standard error, exit code 1; wrong usage is 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from mlcore.errors import Error

__all__ = ["guarded", "main"]

DEBUG = "MLCORE_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: words after the command's name; None takes them from ``sys.argv``.

    Returns:
        The exit code: 0, 1 after an error, 2 after wrong usage, 130 after an interrupt.
    """
    from mlcore.cli.app import app

    return guarded(
        lambda: app(args=None if arguments is None else list(arguments), prog_name="mlcore")
    )


def guarded(run: Callable[[], object]) -> int:
    """Runs an app; returns its exit code, errors told as one line."""
    try:
        run()
    except SystemExit as leaving:
        return _exit_code(leaving)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        else:
            print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    return leaving.code if isinstance(leaving.code, int) else 1


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, Error):
        return text
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return "this command needs torch: pip install 'mlcore[train]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text} (a defect of mlcore; `mlcore --debug ...` tells where)"
