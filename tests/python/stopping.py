"""Training that is interrupted, to be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mlcore.training import MetricsLog


@contextmanager
def stopped_after(epochs: int) -> Iterator[None]:
    """Training inside is interrupted in the epoch after these, before its checkpoint is written."""
    write = MetricsLog.write

    def stop(self: MetricsLog, record: dict[str, float]) -> None:
        write(self, record)
        if record["epoch"] > epochs:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MetricsLog, "write", stop)
        yield
