"""A chunk of items and what to do with them: what an engine carries to a worker, and the answer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Answer", "Call", "Task"]


@dataclass(frozen=True)
class Call:
    """What is called with every item.

    Attributes:
        key: the same for calls that can share a prepared state.
        function: name of the function, None: the prepared state itself is called.
        factory: name of the factory of the prepared state and its pickled arguments, or None; the
            arguments are None where the state is there already.
        paths: where the driver finds modules; workers look there too, after their own places.
        timeout: seconds for one item, None: as long as it takes.
        startup: seconds to start a child, import the function and prepare the state.
        retries: how often an item is tried again whose worker died.
    """

    key: str
    function: str | None
    factory: tuple[str, bytes | None] | None
    paths: tuple[str, ...]
    timeout: float | None
    startup: float
    retries: int


@dataclass(frozen=True)
class Task:
    """A call and a chunk of packed items."""

    call: Call
    items: tuple[bytes, ...]


@dataclass(frozen=True)
class Answer:
    """Payloads of the results, one for each item in order, and the seconds all items took."""

    payloads: tuple[bytes, ...]
    seconds: float
