"""Optimisers of many libraries under one face: ask for points, tell their scores."""

from __future__ import annotations

from mlcore.forcefield.search.face import Jacobian, Points, Search, Strategy, limited, recorded
from mlcore.forcefield.search.inverted import inverted
from mlcore.forcefield.search.pareto import crowding, hypervolume, knee, nondominated
from mlcore.forcefield.search.registry import describe, make, names, options_model, strategy

__all__ = [
    "Jacobian",
    "Points",
    "Search",
    "Strategy",
    "crowding",
    "describe",
    "hypervolume",
    "inverted",
    "knee",
    "limited",
    "make",
    "names",
    "nondominated",
    "options_model",
    "recorded",
    "strategy",
]
