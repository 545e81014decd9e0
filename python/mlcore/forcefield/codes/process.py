"""Runs a program in a folder: no shell, a time limit for it and all its children, its words kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlcore.errors import Error, InvalidArgument

__all__ = ["CodeFailed", "Done", "execute", "last_lines", "located"]

STDOUT = "code.out"
STDERR = "code.err"
_TAIL_BYTES = 64 << 10


class CodeFailed(Error):
    """A program stopped, hung, or did not give what it was asked for.

    Attributes:
        code: name of the program.
        folder: where it ran; its files are left there.
        said: the last lines it wrote.
    """

    def __init__(self, code: str, folder: str | os.PathLike[str], why: str, said: str = "") -> None:
        words = f"\n{said}" if said else " (it wrote nothing)"
        super().__init__(
            f"{code} in {folder}: {why}; it said:{words}"
            if said
            else f"{code} in {folder}: {why}{words}"
        )
        self.code = code
        self.folder = str(folder)
        self.why = why
        self.said = said

    def __reduce__(self) -> tuple[type[CodeFailed], tuple[str, str, str, str]]:
        return type(self), (self.code, self.folder, self.why, self.said)


@dataclass(frozen=True)
class Done:
    """A program that ended by itself.

    Attributes:
        status: what it returned.
        seconds: how long it ran.
    """

    status: int
    seconds: float


def located(words: Sequence[str]) -> list[str]:
    """A command with its program found.

    Raises:
        InvalidArgument: not a list of words, or no such program.
    """
    if isinstance(words, str) or not words or not all(isinstance(w, str) and w for w in words):
        raise InvalidArgument(
            f"command must be a list of words such as ['mpirun', '-n', '4', 'vasp_std'], "
            f"not {words!r}"
        )
    if any("\0" in w for w in words):
        raise InvalidArgument("command: a word holds a zero byte")
    program = shutil.which(words[0])
    if program is None:
        raise InvalidArgument(f"command: no program {words[0]!r} is found")
    # absolute, as it runs elsewhere; links stay, as a Python knows its packages by its own name
    return [str(Path(program).absolute()), *words[1:]]


def execute(
    name: str,
    words: Sequence[str],
    folder: str | os.PathLike[str],
    timeout: float,
    environment: Mapping[str, str] | None = None,
    tails: Sequence[str] = (),
) -> Done:
    """Runs a command; what it writes on the screen goes to `code.out` and `code.err` of the folder.

    Args:
        name: of the program, for messages.
        words: the command; never seen by a shell.
        folder: where it runs.
        timeout: after so many seconds it is killed with everything it started.
        environment: variables on top of the present ones.
        tails: files of the folder whose last lines are told with a failure.

    Raises:
        InvalidArgument: no such program, or a timeout that is not positive.
        CodeFailed: it was killed by the clock, or returned something else than 0.
    """
    if not timeout > 0:
        raise InvalidArgument(f"timeout must be positive, not {timeout}")
    command = located(words)
    place = Path(folder)
    begun = time.monotonic()
    with (place / STDOUT).open("wb") as out, (place / STDERR).open("wb") as err:
        status = _wait(name, command, place, timeout, environment, (out, err))
    seconds = time.monotonic() - begun
    said = last_lines(place, (STDOUT, STDERR, *tails))
    if status is None:
        raise CodeFailed(name, place, f"still ran after {timeout:g} s and was killed", said)
    if status < 0:
        raise CodeFailed(name, place, f"was ended by signal {-status}", said)
    if status:
        raise CodeFailed(name, place, f"returned {status}", said)
    return Done(status, seconds)


def _wait(
    name: str,
    command: Sequence[str],
    folder: Path,
    timeout: float,
    environment: Mapping[str, str] | None,
    streams: tuple[BinaryIO, BinaryIO],
) -> int | None:
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            start_new_session=True,
        )
    except OSError as error:
        raise CodeFailed(name, folder, f"cannot be started: {error.strerror or error}") from error
    try:
        ended = _ended(process.pid, timeout)
    finally:
        # children that outlive a launcher would hold the machine; also after Ctrl-C. The program is
        # not waited for before, so that its number cannot be somebody else's by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    return status if ended else None


def _ended(pid: int, timeout: float) -> bool:
    """Whether a process ended in time; it is left to be waited for."""
    last = time.monotonic() + timeout
    pause = 0.001
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        left = last - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, 0.05)
    return True


def last_lines(folder: str | os.PathLike[str], names: Sequence[str], count: int = 12) -> str:
    """The last lines of files, as far as they are there; without control characters."""
    parts = []
    for name in names:
        path = Path(folder) / name
        if not path.is_file():
            continue
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode("utf-8", "replace")
        lines = [_plain(line) for line in text.splitlines() if line.strip()][-count:]
        if lines:
            parts.append("\n".join([f"--- {name}", *lines]))
    return "\n".join(parts)


def _plain(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line.expandtabs())[:300].rstrip()
