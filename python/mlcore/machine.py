"""Rates this machine reaches now: what times are compared with.

Each is the best of several runs of a plain loop at the active instruction set, in CPU time of the
process with one thread, in wall time with more.
"""

from __future__ import annotations

from typing import Literal

from mlcore import _core

__all__ = ["first_touch_rate", "fma_rate", "gather_rate", "stream_rate"]


def fma_rate(*, single_precision: bool = False, num_threads: int = 0) -> float:
    """Floating point operations per second of multiply-add chains held in registers.

    Args:
        single_precision: float32 instead of float64.
        num_threads: CPU threads; 0 takes the library-wide setting.
    """
    return _core.fma_rate(single_precision, num_threads)


def stream_rate(use: Literal["copy", "read", "write"], size: int, *, num_threads: int = 0) -> float:
    """Bytes per second streamed through memory in use already; a copy counts both ways.

    Args:
        use: what is done.
        size: bytes of the arrays together; chooses the cache, or memory.
        num_threads: CPU threads; 0 takes the library-wide setting.

    Raises:
        InvalidArgument: less than 4096 bytes per thread.
    """
    return _core.stream_rate(use, size, num_threads)


def gather_rate(size: int, *, num_threads: int = 0) -> float:
    """Records of 32 bytes per second read at random places of a table of so many bytes.

    Raises:
        InvalidArgument: size outside 4096..2**36.
    """
    return _core.gather_rate(size, num_threads)


def first_touch_rate(size: int, *, huge_pages: bool = False, num_threads: int = 0) -> float:
    """Bytes per second written to memory fresh from the system.

    Raises:
        InvalidArgument: size below 4096.
    """
    return _core.first_touch_rate(size, huge_pages, num_threads)
