"""Map and reduce, the same in every engine."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import CancelledError, Future
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlcore.errors import Error, InvalidArgument
from mlcore.parallel.callables import find, name_of
from mlcore.parallel.chunks import Chunks
from mlcore.parallel.payload import Failure, Result, failed, opened
from mlcore.parallel.settings import EngineSettings
from mlcore.parallel.task import Answer, Call, Task

__all__ = ["Engine", "fold"]

Prepared = tuple[Callable[..., Any], Sequence[Any]]

_LOOK = 0.5  # seconds between looks whether the engine is open
_BLOCK = 64  # items that one worker folds; a power of two, so that blocks are subtrees


class Engine(ABC):
    """Runs functions on many items; made by `mlcore.parallel.engine`, closed by ``with``.

    Attributes:
        settings: what it was made from.
        workers: how many items run at once, as far as it is known.
        chunk_seconds: what a chunk should take: little beside it is what sending it costs.
        chunks_each: chunks for each worker that are under way.
        attempts: of a chunk whose worker was lost together with its child.
    """

    chunk_seconds = 0.05
    chunks_each = 4
    attempts = 3

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.workers = settings.count
        self._seconds: dict[str, float] = {}
        self._open = True

    @abstractmethod
    def _submit(self, task: Task) -> Future[Answer]:
        """Have a chunk answered by a worker."""

    @abstractmethod
    def _stop(self) -> None:
        """End all workers."""

    def close(self) -> None:
        """End all workers; what is under way is lost."""
        if self._open:
            self._open = False
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def map(
        self,
        function: Callable[..., Any] | None,
        items: Iterable[Any],
        *,
        timeout: float | None = None,
        chunk: int | None = None,
        prepared: Prepared | None = None,
    ) -> Iterator[Result]:
        """Call a function with every item; results in the order of the items.

        Items are taken, and results given, as they are needed: a bounded number of chunks is under
        way, so `items` may have no end. What a function raises comes back as data, and so does a
        worker that hangs or dies (twice on the same item).

        Args:
            function: found by its name in a module; called with an item, or with the prepared state
                and an item. None: the prepared state itself is called.
            items: what can be pickled.
            timeout: seconds for one item; then its worker is killed and replaced.
            chunk: items that travel together; None: from the measured time of an item.
            prepared: a factory and its arguments. Each worker makes ``factory(*arguments)`` once and
                keeps it, also from one map to the next.

        Raises:
            InvalidArgument: a function that workers could not find, or an argument that is wrong.
        """
        if not self._open:
            raise Error("the engine is closed")
        if chunk is not None and chunk < 1:
            raise InvalidArgument(f"chunk = {chunk}: at least 1")
        call = self._call(function, timeout, prepared)
        known = len(items) if isinstance(items, Sized) else None
        kind = f"{call.function} {call.factory and call.factory[0]}"
        chunks = Chunks(known, self.workers, chunk, self.chunk_seconds, self._seconds.get(kind))
        return self._results(call, iter(items), chunks, kind)

    def _call(
        self, function: Callable[..., Any] | None, timeout: float | None, prepared: Prepared | None
    ) -> Call:
        if timeout is not None and not timeout > 0:
            raise InvalidArgument(f"timeout = {timeout}: seconds, more than 0, or None")
        if function is None and prepared is None:
            raise InvalidArgument("function: None is for a prepared state that is called itself")
        name = None if function is None else name_of(function, "function")
        factory = None if prepared is None else _packed_factory(prepared)
        return Call(
            key="" if factory is None else _key(*factory),
            function=name,
            factory=factory,
            paths=tuple(path or str(Path.cwd()) for path in sys.path),
            timeout=timeout,
            startup=self.settings.startup,
            retries=self.settings.retries,
        )

    def _results(
        self, call: Call, source: Iterator[Any], chunks: Chunks, kind: str
    ) -> Iterator[Result]:
        under_way: deque[tuple[Task, Future[Answer]]] = deque()
        try:
            while True:
                while len(under_way) < self.chunks_each * self.workers and (
                    items := chunks.take(source)
                ):
                    task = Task(call, items)
                    under_way.append((task, self._submit(task)))
                if not under_way:
                    return
                answer = self._answer(*under_way.popleft())
                chunks.learn(len(answer.payloads), answer.seconds)
                if chunks.seconds is not None:
                    self._seconds[kind] = chunks.seconds
                yield from map(opened, answer.payloads)
        finally:
            for _, future in under_way:
                with contextlib.suppress(NotImplementedError):  # Parsl's cannot be
                    future.cancel()

    def _answer(self, task: Task, future: Future[Answer]) -> Answer:
        """The answer to a chunk; one whose host was lost is sent again."""
        for attempt in range(1, self.attempts + 1):
            try:
                return self._waited(future)
            except (Exception, CancelledError) as error:
                if not self._open:
                    raise Error("the engine was closed while it worked") from None
                last = error
            if attempt < self.attempts:
                future = self._submit(task)
        text = f"no worker answered: {last}"
        lost = failed(Failure(type(last).__name__, text))
        return Answer((lost,) * len(task.items), 0.0)

    def _waited(self, future: Future[Answer]) -> Answer:
        """The answer; not waited for when another thread closes the engine."""
        while True:
            try:
                return future.result(timeout=_LOOK)
            except TimeoutError:
                if future.done() or not self._open:
                    raise

    def reduce(
        self,
        operation: Callable[[Any, Any], Any],
        items: Iterable[Any],
        *,
        timeout: float | None = None,
    ) -> Result:
        """Combine all items two by two by an associative operation.

        The tree has a fixed shape: neighbours are combined level by level, the odd one out moves up.
        So the answer is the same to the last bit in every engine with any number of workers.

        Args:
            operation: of two values, found by its name in a module.
            items: at least one; taken as they are needed.
            timeout: seconds for one operation.

        Returns:
            The value, or the first error.

        Raises:
            InvalidArgument: no items, or an operation that workers could not find.
        """
        name = name_of(operation, "operation")
        values: Iterable[Any] = items
        while True:
            level, known = iter(values), len(values) if isinstance(values, Sized) else None
            size = _block(known, self.workers)
            seconds = None if timeout is None else timeout * size
            results = self.map(
                fold, _blocks(level, size), timeout=seconds, prepared=(find, (name,))
            )
            combined = []
            for result in results:
                if result.error is not None:
                    return result
                combined.append(result.value)
            if not combined:
                raise InvalidArgument("items: nothing to reduce")
            if len(combined) == 1:
                return Result(combined[0])
            values = combined


def _packed_factory(prepared: Prepared) -> tuple[str, bytes]:
    factory, arguments = prepared
    name = name_of(factory, "prepared")
    try:
        return name, pickle.dumps(tuple(arguments), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise InvalidArgument(f"prepared: arguments that cannot be pickled: {error}") from None


def _key(name: str, arguments: bytes) -> str:
    digest = hashlib.sha256(name.encode() + b"\0")
    digest.update(arguments)
    return digest.hexdigest()


def fold(operation: Callable[[Any, Any], Any], values: Sequence[Any]) -> Any:
    """Combine values level by level, neighbour with neighbour."""
    level = list(values)
    while len(level) > 1:
        pairs = [operation(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def _block(known: int | None, workers: int) -> int:
    """Items of a block: a power of two, the larger the more items there are for each worker."""
    if known is None:
        return _BLOCK
    block = 2
    while block < _BLOCK and 4 * block * workers < known:
        block *= 2
    return block


def _blocks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while block := list(islice(items, size)):
        yield block
