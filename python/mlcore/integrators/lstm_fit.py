"""Fitting LSTM layers to windows of frames. Imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlcore.networks.windowed import WindowNetwork
from mlcore.training import TrainingOptions, TrainingResult, train

__all__ = ["Samples", "learn", "weights_of"]

_CHUNK = 8192  # held-out windows at once

Samples = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Windows (M, S, inputs) and what follows them (M, outputs), scaled."""


class _Squares:
    """Mean squared error of the frame after a window."""

    def __init__(self, fitted: Samples, held_out: Samples | None, seed: int, random: bool) -> None:
        self.seed, self.random = seed, random
        self.rows, self.targets = (torch.from_numpy(part) for part in fitted)
        self.held_out = None
        if held_out is not None:
            self.held_out = tuple(torch.from_numpy(part) for part in held_out)

    @property
    def size(self) -> int:
        return len(self.rows)

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        if self.random:  # a function of the batch, so that a resumed run leaves out the same units
            told = hashlib.blake2b(samples.numpy().tobytes(), digest_size=6).digest()
            torch.manual_seed(self.seed + int.from_bytes(told))
        return torch.nn.functional.mse_loss(module(self.rows[samples]), self.targets[samples])

    def validation(self, module: torch.nn.Module) -> float | None:
        if self.held_out is None:
            return None
        rows, targets = self.held_out
        module.eval()
        total = 0.0
        with torch.no_grad():
            for first in range(0, len(rows), _CHUNK):
                some, wanted = rows[first : first + _CHUNK], targets[first : first + _CHUNK]
                total += float(torch.nn.functional.mse_loss(module(some), wanted)) * len(some)
        module.train()
        return total / len(rows)

    def identity(self) -> str:
        told = hashlib.sha256()
        for part in (self.rows, self.targets, *(self.held_out or ())):
            told.update(f"{part.shape} {part.dtype}".encode() + part.numpy().tobytes())
        return f"windows {told.hexdigest()} {self.seed}"


def learn(
    fitted: Samples,
    held_out: Samples | None,
    hidden: Sequence[int],
    dropout: float,
    seed: int,
    options: TrainingOptions,
) -> tuple[dict[str, npt.NDArray[Any]], TrainingResult]:
    """Weights by name, of the dtype of the samples, and how training went."""
    rows, targets = fitted
    module = WindowNetwork(rows.shape[2], targets.shape[1], hidden, dropout, seed)
    module.to(torch.from_numpy(rows).dtype).train()
    with torch.random.fork_rng(devices=[]):
        result = train(module, _Squares(fitted, held_out, seed, dropout > 0), options, label="LSTM")
    return weights_of(module), result


def weights_of(module: WindowNetwork) -> dict[str, npt.NDArray[Any]]:
    """Weights of each layer with one bias, and of the linear layer."""
    found = {}
    for k, layer in enumerate(module.layers):
        own = {name: value.detach().numpy() for name, value in layer.named_parameters()}
        found[f"layer{k}.input"] = own["weight_ih_l0"].copy()
        found[f"layer{k}.state"] = own["weight_hh_l0"].copy()
        found[f"layer{k}.bias"] = own["bias_ih_l0"] + own["bias_hh_l0"]
    found["dense.weight"] = module.dense.weight.detach().numpy().copy()
    found["dense.bias"] = module.dense.bias.detach().numpy().copy()
    return {name: np.ascontiguousarray(value) for name, value in found.items()}
