"""Runs one part of the command line as a module: ``python -m mlcore.forcefield.learn fit ...``."""

from __future__ import annotations

import importlib
import sys

__all__ = ["ENTRIES", "listed", "run"]

ENTRIES = {
    "mlcore.forcefield": "everything below, as `mlcore forcefield`",
    "mlcore.forcefield.model": "functional forms: list, show, read",
    "mlcore.forcefield.learn": "fit, resume, judge, export",
    "mlcore.forcefield.parallel": "engines: list, check",
}


def run(module: str, name: str, program: str) -> int:
    """Run the app ``name`` of ``module``; the exit code, with errors as one line.

    Args:
        module: of the command line.
        name: of the app in it.
        program: what usage calls it.
    """
    return int(importlib.import_module("mlcore.cli").guarded(
        lambda: getattr(importlib.import_module(module), name)(prog_name=program)
    ))  # fmt: skip


def listed() -> str:
    """The entry points, one a line."""
    return "\n".join(f"python -m {name:<28} {text}" for name, text in ENTRIES.items())


def main() -> int:
    """``python -m mlcore.forcefield``: what there is, or a command."""
    if len(sys.argv) == 1:
        print(listed())
        return 0
    if sys.argv[1:] == ["--json"]:
        import json

        print(json.dumps(ENTRIES, indent=1))
        return 0
    return run("mlcore.cli.forcefield", "app", "python -m mlcore.forcefield")


__all__ += ["main"]
