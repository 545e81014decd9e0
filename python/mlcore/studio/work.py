"""The process of one task: runs its command and says how it ended, also when nobody waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from mlcore.io import write_text
from mlcore.studio.processes import confine

__all__ = ["COMMAND", "EXIT", "MOST", "main"]

COMMAND, EXIT = "command.json", "exit.json"
MOST = "MLCORE_STUDIO_BYTES"
"""In the environment: what each process may ask for."""


def main(folder: Path) -> int:
    """Run ``command.json`` of the folder of a task; its exit code is there in ``exit.json`` at the end.

    Where this process is killed there is no such file.
    """
    told = os.environ.get(MOST, "")
    confine(int(told) if told.isdigit() else None)
    words = json.loads((folder / COMMAND).read_text(encoding="utf-8"))
    os.chdir(folder)
    code = _mlcore(words[1:]) if words[0] == "mlcore" else _other(words)
    sys.stdout.flush()
    sys.stderr.flush()
    write_text(folder / EXIT, json.dumps({"code": code}) + "\n")
    return code


def _mlcore(words: list[str]) -> int:
    """The command that a shell would find by this name, without another process."""
    (command,) = entry_points(group="console_scripts", name="mlcore")
    return int(command.load()(words))


def _other(words: list[str]) -> int:
    """Another program, which is asked to end when this one is."""
    child = subprocess.Popen(words)
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
