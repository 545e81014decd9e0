"""Bundles of LSTM integrators that LAMMPS runs. Imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlcore.export import Contract, ModelBundle, write_model
from mlcore.integrators.samples import MinMax
from mlcore.networks.windowed import WindowStep

__all__ = ["write"]


def write(
    path: str | os.PathLike[str],
    sizes: tuple[int, int, int, Sequence[int]],
    weights: Mapping[str, npt.NDArray[Any]],
    scale: MinMax,
    frames: npt.NDArray[np.float64],
    interval: float,
    units: Mapping[str, str] | str,
    training: Mapping[str, Any] | None,
) -> ModelBundle:
    """A bundle of the network that goes on from frames (S, F); sizes are those of `WindowStep`."""
    module = WindowStep(*sizes)
    state = {key: torch.zeros_like(value) for key, value in module.network.state_dict().items()}
    for name, value in weights.items():
        state[_place(name)] = torch.from_numpy(np.asarray(value, np.float64))
    module.network.load_state_dict(state)
    module.low.copy_(torch.from_numpy(scale.low))
    module.size.copy_(torch.from_numpy(scale.size))
    module.tell(torch.from_numpy(frames))
    contract = Contract(
        "dynamics",
        "configuration",
        "step",
        inputs=("x", "v", "cell"),
        particles=module.particles,
        timestep=interval,
        memory=module.memory,
    )
    return write_model(os.fspath(path), contract, module, units=units, training=training)


def _place(name: str) -> str:
    """Name in torch of a weight; its second biases stay at zero."""
    layer, _, what = name.partition(".")
    if layer == "dense":
        return name
    own = {"input": "weight_ih_l0", "state": "weight_hh_l0", "bias": "bias_ih_l0"}[what]
    return f"layers.{layer.removeprefix('layer')}.{own}"
