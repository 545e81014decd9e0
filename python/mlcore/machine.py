"""Rates this machine reaches now: what times are compared with.

Each is the best of several runs of a plain loop at the active instruction set, in CPU time of the
process with one thread, in wall time with more.
"""

from __future__ import annotations

from typing import Literal

from mlcore import _core
from mlcore.arrays import flag, integer, one_of, thread_count
from mlcore.errors import InvalidArgument

__all__ = ["first_touch_rate", "fma_rate", "gather_rate", "stream_rate"]


def fma_rate(*, single_precision: bool = False, num_threads: int | None = None) -> float:
    """Floating point operations per second of multiply-add chains held in registers.

    Args:
        single_precision: float32 instead of float64.
        num_threads: CPU threads; None takes the library-wide setting.
    """
    single = flag("single_precision", single_precision)
    return _core.fma_rate(single, thread_count(num_threads))


def stream_rate(
    use: Literal["copy", "read", "write"], size: int, *, num_threads: int | None = None
) -> float:
    """Bytes per second streamed through memory in use already; a copy counts both ways.

    Args:
        use: what is done.
        size: bytes of the arrays together; chooses the cache, or memory.
        num_threads: CPU threads; None takes the library-wide setting.

    Raises:
        InvalidArgument: less than 4096 bytes per thread.
    """
    one_of("use", use, "copy", "read", "write")
    return _core.stream_rate(use, _size(size), thread_count(num_threads))


def gather_rate(size: int, *, num_threads: int | None = None) -> float:
    """Records of 32 bytes per second read at random places of a table of so many bytes.

    Raises:
        InvalidArgument: size outside 4096..2**36.
    """
    return _core.gather_rate(_size(size), thread_count(num_threads))


def first_touch_rate(
    size: int, *, huge_pages: bool = False, num_threads: int | None = None
) -> float:
    """Bytes per second written to memory fresh from the system.

    Raises:
        InvalidArgument: size below 4096.
    """
    huge = flag("huge_pages", huge_pages)
    return _core.first_touch_rate(_size(size), huge, thread_count(num_threads))


def _size(value: int) -> int:
    size = integer("size", value)
    if not 0 <= size < 1 << 62:
        raise InvalidArgument(f"size must lie in 0..2**62-1, got {size}")
    return size
