"""Mobilities: tensors, estimates from trajectories, learned models."""

from __future__ import annotations

import importlib
from typing import Any

_ATTRIBUTES = {
    "Mobility": "tensors",
    "Oseen": "tensors",
    "PairMobility": "tensors",
    "RPY": "tensors",
    "RegularizedOseen": "tensors",
    "WallRPY": "tensors",
}

__all__ = list(_ATTRIBUTES)


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(f"mlcore.mobility.{_ATTRIBUTES[name]}"), name)
    raise AttributeError(f"module 'mlcore.mobility' has no attribute {name!r}")
