"""The process that reads an upload: `python -m mlcore.studio.parsing FOLDER`.

What is asked comes as JSON on the standard input, and what it is refused with goes to the standard
output. It reads `raw/` of the folder and writes `data/` (structures, as a data set of mlcore),
`frames/` and `figures.json` (what pages draw) and, at the end, `summary.json`. Its memory, time and
files are limited; it opens no connection, starts no process and unpickles nothing.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcore.forcefield.structures import Dataset, Findings
    from mlcore.studio.contents import Known

__all__ = ["FIGURES", "SUMMARY", "main"]

SUMMARY, FIGURES = "summary.json", "figures.json"
_CHECKING = 0.6  # of the time is over, when checks that go on are left
_REFUSED = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "pickle.find_class",
)
_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")


class _TooLarge(Exception):
    """More than may be kept."""


class _Enough(BaseException):
    """The time for checks is over; no ``except Exception`` of a reader may swallow it."""


def main(folder: Path) -> int:
    """Read an upload; 0, or 1 where it is refused."""
    begun = time.monotonic()
    asked: dict[str, Any] = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # readers may print what they like
    _limited(asked["limits"])
    _shut(network="ids" in asked)
    try:
        summary = _read(folder, asked, begun + _CHECKING * asked["limits"]["seconds"])
        _written(folder / SUMMARY, summary)
    except Exception as error:
        status, told = _refusal(error)
        told = " ".join(told.replace(f"{folder}/raw/", "").split())
        json.dump({"status": status, "detail": told[:600]}, out)
        out.flush()
        return 1
    return 0


def _limited(limits: Mapping[str, Any]) -> None:
    seconds = int(limits["seconds"]) + 1
    _lowered(resource.RLIMIT_AS, limits["bytes"])
    _lowered(resource.RLIMIT_CPU, seconds)
    _lowered(resource.RLIMIT_FSIZE, limits["stored"])
    _lowered(resource.RLIMIT_CORE, 0)
    os.umask(0o077)


def _lowered(which: int, most: int) -> None:
    """Those of the server stay where they are lower."""
    _, hard = resource.getrlimit(which)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (value, value))


def _shut(network: bool) -> None:
    refused = _REFUSED if network else _REFUSED + _NETWORK

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in refused:
            raise PermissionError(errno.EPERM, f"{event} is not for the reader of uploads")

    sys.addaudithook(hook)


def _refusal(error: BaseException) -> tuple[int, str]:
    from mlcore.errors import BackendUnavailable, FileFormatError, InvalidArgument

    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError):
            return 413, "reading it takes more memory than the server allows"
        if isinstance(chain, OSError) and chain.errno == errno.EFBIG:
            return 413, "what would be kept of it is more than you may store"
        if isinstance(chain, OSError) and chain.errno == errno.ENOSPC:
            return 507, "the server's disk is full"
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, _TooLarge):
        return 413, str(error)
    if isinstance(error, BackendUnavailable):
        return 502, str(error)
    if isinstance(error, FileFormatError | InvalidArgument):
        return 400, str(error)
    # readers of strangers' files fail in any way
    return 400, f"the files cannot be read: {type(error).__name__}: {error}"


# -- reading ---------------------------------------------------------------------------------------
def _read(folder: Path, asked: Mapping[str, Any], until: float) -> dict[str, Any]:
    from mlcore.errors import InvalidArgument

    if "ids" in asked:
        return _structures(folder, _pulled(asked), asked, "structures", until)
    from mlcore.studio import carbon
    from mlcore.studio.contents import grids, recognised

    files = [recognised(folder / "raw" / name) for name in asked["files"]]
    files = carbon.without_records(files)
    kinds = sorted({file.kind for file in files})
    if len(kinds) > 1:
        told = ", ".join(f"{file.path.name} ({file.kind})" for file in files[:6])
        raise InvalidArgument(f"files: they are of several kinds, upload each kind alone: {told}")
    if kinds == ["structures"]:
        return _of_files(folder, files, asked, until)
    if kinds == ["grid"]:
        return {"kind": "grid", "summary": grids(files)}
    if {file.format for file in files} == {"carbon"}:
        return {"kind": "runs", "summary": carbon.read(files, folder)}
    if len(files) > 1:
        raise InvalidArgument(f"files: of {kinds[0]} one file is a data set, not {len(files)}")
    from mlcore.studio.contents import named, others

    with named(files[0]):
        return {"kind": files[0].kind, "summary": others(files[0])}


def _of_files(
    folder: Path, files: list[Known], asked: Mapping[str, Any], until: float
) -> dict[str, Any]:
    from mlcore.studio.contents import dataset, is_trajectory, motion

    data = dataset(files, asked["options"], asked["title"])
    kind = "trajectory" if is_trajectory(data) else "structures"
    found = _structures(folder, data, asked, kind, until)
    moving = motion(files) if kind == "trajectory" else None
    return found if moving is None else found | {"summary": found["summary"] | {"motion": moving}}


def _pulled(asked: Mapping[str, Any]) -> Dataset:
    from mlcore.forcefield.structures import Dataset, fetch

    given = {"key": asked["key"], "corrected": asked["corrected"]}
    # what does not answer is told before the time is over
    group = fetch(asked["ids"], **given, timeout=15.0, retries=2)
    return Dataset({"materials project": group}, name=asked["title"])


# -- writing ---------------------------------------------------------------------------------------
def _structures(
    folder: Path, data: Dataset, asked: Mapping[str, Any], kind: str, until: float
) -> dict[str, Any]:
    from mlcore.forcefield.structures.dataset import read_manifest
    from mlcore.studio import frames
    from mlcore.studio.data_figures import figures

    most = asked["limits"]["structures"]
    if len(data) > most:
        raise _TooLarge(f"it holds {len(data)} structures; {most} are read")
    data.save(folder / "data")
    manifest = read_manifest(folder / "data")
    found = _checked(data, until) if kind == "structures" else None
    flags = {} if found is None else frames.flags_of(found)
    frames.write(folder / frames.FOLDER, data, flags)
    marked = frames.marked(flags)
    drawn = figures(data, marked, None if found is None else found.shortest)
    _written(folder / FIGURES, drawn)
    groups = {
        one.name: {
            "structures": one.structures,
            "atoms": one.atoms,
            "labels": one.labels.model_dump(),
            "source": one.provenance.source[:200],
        }
        for one in manifest.groups
    }
    summary: dict[str, Any] = {"groups": groups, "elements": list(data.species)}
    summary |= {"structures": len(data), "atoms": sum(map(len, data)), "hash": manifest.hash}
    summary |= {"flagged": len(marked)}
    summary["checks"] = _told(kind, found)
    return {"kind": kind, "summary": summary}


def _told(kind: str, found: Findings | None) -> list[dict[str, Any]]:
    from mlcore.studio import frames

    if found is not None:
        return frames.checks_of(found)[:500]
    if kind == "trajectory":
        return []
    message = "it is too large to be checked in the time there is"
    return [
        {"severity": "note", "code": "unchecked", "group": "", "message": message}
        | {"structures": [], "count": 1}
    ]


def _checked(data: Dataset, until: float) -> Findings | None:
    """What is suspicious; None where there is no time to find out."""
    from mlcore.forcefield.structures import check

    def over(number: int, frame: object) -> None:
        raise _Enough

    signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 0.5))
        return check(data)
    except _Enough:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _written(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
