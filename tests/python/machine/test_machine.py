"""Rates of the machine: possible numbers, and errors that name the argument."""

from __future__ import annotations

import mlcore
import pytest
from mlcore import machine


@pytest.mark.parametrize("threads", [1, 2])
def test_rates_are_possible(threads: int) -> None:
    rates = [
        machine.fma_rate(num_threads=threads),
        machine.fma_rate(single_precision=True, num_threads=threads),
        *(
            machine.stream_rate(use, 1 << 20, num_threads=threads)
            for use in ("copy", "read", "write")
        ),
        machine.gather_rate(1 << 20, num_threads=threads),
        machine.first_touch_rate(1 << 22, num_threads=threads),
        machine.first_touch_rate(1 << 22, huge_pages=True, num_threads=threads),
    ]
    assert all(1e6 < rate < 1e13 for rate in rates)


def test_single_precision_does_more() -> None:
    single = max(machine.fma_rate(single_precision=True, num_threads=1) for _ in range(3))
    assert single > 1.5 * machine.fma_rate(num_threads=1)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(mlcore.InvalidArgument, match='use must be "copy", "read" or "write"'):
        machine.stream_rate("swap", 1 << 20)  # type: ignore[arg-type]
    with pytest.raises(mlcore.InvalidArgument, match="bytes must be at least 4096 per thread"):
        machine.stream_rate("copy", 4095, num_threads=1)
    with pytest.raises(mlcore.InvalidArgument, match="num_threads"):
        machine.gather_rate(1 << 20, num_threads=-1)
    with pytest.raises(mlcore.InvalidArgument, match="bytes"):
        machine.gather_rate(0)
    with pytest.raises(mlcore.InvalidArgument, match="bytes"):
        machine.first_touch_rate(0)
