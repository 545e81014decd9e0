"""Where the arrays of a test live: one body runs on the CPU and on the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from mlcore import _core


@dataclass(frozen=True)
class Device:
    """A kind of array.

    Args:
        name: "cpu" or "cuda".
        library: what makes arrays on the GPU: torch, cupy, or None on the CPU.
    """

    name: str
    library: Any = None

    def put(self, values: np.ndarray) -> Any:
        """The values as an array there."""
        if self.library is None:
            return values
        if self.library.__name__ == "torch":
            return self.library.as_tensor(np.ascontiguousarray(values), device="cuda")
        return self.library.asarray(values)

    def get(self, array: Any) -> np.ndarray:
        """An array from there as NumPy."""
        if self.library is None:
            return np.asarray(array)
        return array.cpu().numpy() if self.library.__name__ == "torch" else array.get()


def device_named(name: str) -> Device:
    """The device, or a skip that says what is missing."""
    if name == "cpu":
        return Device("cpu")
    status = _core.cuda_status()
    if not status["compiled"]:
        pytest.skip("this build of mlcore has no CUDA part")
    if status["devices"] == 0:
        pytest.skip("no CUDA device")
    try:
        import torch

        if torch.cuda.is_available():
            return Device("cuda", torch)
    except ImportError:
        pass
    return Device("cuda", pytest.importorskip("cupy", reason="needs CuPy or a CUDA build of torch"))
