"""Processes of tasks: which belong to one, what they take, and their end.

A process belongs to the task that its environment names, however it left the group or session of the
one that started it, as launchers of MPI and Parsl's managers do. One that has overwritten its environment
with a title of its own belongs to that of its session or parent.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "TASK",
    "Census",
    "Used",
    "alive",
    "birth",
    "confine",
    "killed",
    "machine_bytes",
    "share",
]

TASK = "MLCORE_STUDIO_TASK"
"""Name of the task in the environment of its processes."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_ROUNDS = 20  # of ending processes that start others


@dataclass(frozen=True)
class Used:
    """What the processes of a task take.

    Attributes:
        pids: of them.
        seconds: of CPU time, all together.
        bytes: of memory, what several share counted for each.
    """

    pids: tuple[int, ...] = ()
    seconds: float = 0.0
    bytes: int = 0


class Census:
    """Looks at all processes of this machine and remembers whose they are."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], str] = {}

    def __call__(self) -> dict[str, Used]:
        """Task -> what its processes take now."""
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        stats = {int(e.name): _stat(int(e.name)) for e in os.scandir("/proc") if e.name.isdigit()}
        there = {pid: stat for pid, stat in stats.items() if stat is not None and stat[0] != "Z"}
        # what is known of those that are gone is forgotten
        seen = {(pid, stat[19]) for pid, stat in there.items()}
        self._known = {who: task for who, task in self._known.items() if who in seen}
        found: defaultdict[str, list[tuple[int, float, int]]] = defaultdict(list)
        for pid, stat in there.items():
            task = self._task(pid, there)
            if task:
                seconds = sum(int(stat[k]) for k in (11, 12, 13, 14)) / tick
                found[task].append((pid, seconds, int(stat[21]) * page))
        return {task: _sum(rows) for task, rows in found.items()}

    def _task(self, pid: int, there: Mapping[int, Sequence[str]]) -> str:
        if pid not in there:
            return ""
        parent, leader, birth = int(there[pid][1]), int(there[pid][3]), there[pid][19]
        if (pid, birth) not in self._known:
            self._known[pid, birth] = ""  # where it is its own leader
            found = _named(pid) or self._task(leader, there) or self._task(parent, there)
            self._known[pid, birth] = found
        return self._known[pid, birth]


def _sum(rows: Iterable[tuple[int, float, int]]) -> Used:
    pids, seconds, memory = zip(*rows, strict=True)
    return Used(pids, sum(seconds), sum(memory))


def _named(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # of somebody else
        return ""
    told = [one for one in words if one.startswith(f"{TASK}=".encode())]
    return told[0].partition(b"=")[2].decode("ascii", "replace") if told else ""


def share(pids: Iterable[int]) -> int:
    """Bytes of memory of processes; what several share counts once among them."""
    return sum(map(_share, pids))


def _share(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    told = [line.split() for line in lines if line.startswith("Pss:")]
    return int(told[0][1]) << 10 if told else 0


def machine_bytes() -> int:
    """Memory of this machine, or of the container this process runs in."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        whole = min(whole, int(_CGROUP.read_text()))
    return whole


def confine(most: int | None) -> None:
    """Hold this process, and each that it starts, to so many bytes of data; it dies before others.

    Address space is no measure: libraries map files and reserve far more of it than they use.
    """
    with contextlib.suppress(OSError):
        # where the machine has no memory left, the system takes tasks before the server
        Path("/proc/self/oom_score_adj").write_text("500")
    if most is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# -- single ones -----------------------------------------------------------------------------------
def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def birth(pid: int) -> float | None:
    """When a process began, in ticks of the machine; None where there is none."""
    found = _stat(pid)
    return None if found is None else float(found[19])


def alive(pid: int, born: float | None) -> bool:
    """Whether it is still the process that was born then."""
    found = _stat(pid)
    return found is not None and found[0] != "Z" and float(found[19]) == born


def killed(task: str, census: Census) -> None:
    """End all processes of a task, also those that they start meanwhile."""
    for _ in range(_ROUNDS):
        pids = census().get(task, Used()).pids
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
