"""The exceptions mlcore raises. The C++ core raises the same ones."""

from __future__ import annotations

__all__ = [
    "BackendUnavailable",
    "Error",
    "FileFormatError",
    "InvalidArgument",
    "NotPositiveDefinite",
]


class Error(RuntimeError):
    """Base of every exception raised by mlcore."""


class InvalidArgument(Error, ValueError):
    """An argument has a wrong value, shape or type; the message names it."""


class FileFormatError(Error, ValueError):
    """A file does not hold what its format promises; the message names file and field."""


class BackendUnavailable(Error):
    """The operation exists, but not in this build or on this machine."""


class NotPositiveDefinite(Error):
    """A mobility matrix has no real square root.

    Attributes:
        smallest_eigenvalue: the smallest eigenvalue of the matrix (nan when unknown).
        pair: indices of the closest pair of particles, or None when positions are unknown.
    """

    def __init__(
        self,
        message: str,
        smallest_eigenvalue: float = float("nan"),
        pair: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.smallest_eigenvalue = smallest_eigenvalue
        self.pair = pair
