"""How many items travel together: enough that sending them costs little, few enough to share out."""

from __future__ import annotations

from collections.abc import Iterator

from mlcore.parallel.payload import packed_item

__all__ = ["Chunks"]

_BYTES = 4 << 20  # a chunk is full at this size, however quick its items are
_LARGEST = 4096
_SHARES = 4  # chunks for each worker where the number of items is known


class Chunks:
    """Cuts items into chunks, whose size follows the measured time of an item.

    Args:
        items: number of items, None: not known.
        workers: who share them.
        fixed: size of all chunks, None: from the time of an item.
        target: seconds that a chunk should take.
        seconds: time of an item as far as it is known.
    """

    def __init__(
        self,
        items: int | None,
        workers: int,
        fixed: int | None,
        target: float,
        seconds: float | None,
    ) -> None:
        self.seconds = seconds
        self._fixed = fixed
        self._target = target
        self._limit = _LARGEST
        if items is not None:
            self._limit = min(_LARGEST, max(1, -(-items // (_SHARES * workers))))
        self._grown = _LARGEST if seconds is not None else 1

    @property
    def size(self) -> int:
        """Items of the next chunk."""
        if self._fixed is not None:
            return self._fixed
        if self.seconds is None:
            return 1
        wanted = self._target / max(self.seconds, 1e-9)
        return int(max(1, min(wanted, self._limit, self._grown)))

    def learn(self, items: int, seconds: float) -> None:
        """A chunk took so long."""
        each = seconds / items
        self.seconds = each if self.seconds is None else 0.5 * (self.seconds + each)
        self._grown = min(_LARGEST, max(self._grown, 2 * items))

    def take(self, source: Iterator[object]) -> tuple[bytes, ...]:
        """The next chunk, packed; empty at the end."""
        packed: list[bytes] = []
        total, size = 0, self.size
        while len(packed) < size and total < _BYTES:
            try:
                packed.append(packed_item(next(source)))
            except StopIteration:
                break
            total += len(packed[-1])
        return tuple(packed)
