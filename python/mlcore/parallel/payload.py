"""Items and results on their way: bytes that only the child and the driver open.

What stands between (an MPI rank, a broker, a worker on another host) passes them on and need not
know the classes inside. Pickle is used in pipes and messages only, never in files.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

__all__ = [
    "Failure",
    "Result",
    "answer",
    "failed",
    "opened",
    "packed_item",
    "prepared_call",
    "raised",
]

_UNSENDABLE = b"!"  # no pickle begins with it


@dataclass(frozen=True)
class Failure:
    """Why an item has no value.

    Attributes:
        type: name of the exception's class; ``TimedOut`` and ``WorkerDied`` come from the supervision.
        message: text of the exception.
        traceback: where it was raised; for a worker that died, the last it wrote to stderr.
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True)
class Result:
    """What became of one item: a value, or an error (then the value is None)."""

    value: Any
    error: Failure | None = None


def failed(error: Failure) -> bytes:
    """The payload of an error."""
    return pickle.dumps(("error", error.type, error.message, error.traceback))


def raised(error: BaseException, what: str = "") -> bytes:
    text = "".join(traceback.format_exception(error))
    return failed(Failure(type(error).__name__, what + str(error), text))


def packed_item(item: object) -> bytes:
    """An item as bytes; one that cannot be pickled becomes its own error."""
    try:
        return pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _UNSENDABLE + raised(error, "the item cannot be sent to a worker: ")


def answer(call: Callable[[Any], Any], item: bytes) -> bytes:
    """The payload of ``call(item)``, an error too; raises nothing but KeyboardInterrupt."""
    if item.startswith(_UNSENDABLE):
        return item[len(_UNSENDABLE) :]
    try:
        value = call(pickle.loads(item))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit of a function is an error of its item
        return raised(error)
    try:
        return pickle.dumps(("value", value), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return raised(error, "the result cannot be sent back: ")


def opened(payload: bytes) -> Result:
    """The result in a payload."""
    try:
        kind, *content = pickle.loads(payload)
    except Exception as error:
        kind, *content = pickle.loads(raised(error, "the result cannot be read: "))
    if kind == "error":
        return Result(None, Failure(*content))
    return Result(content[0])


def prepared_call(
    function: Callable[..., Any] | None, state: Callable[..., Any] | None
) -> Callable[[Any], Any]:
    """What is called with an item: ``function(item)``, ``state(item)`` or ``function(state, item)``."""
    if function is None:
        return cast(Callable[[Any], Any], state)
    if state is None:
        return function
    return lambda item: function(state, item)
