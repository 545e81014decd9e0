"""What public functions say to values of a wrong type: which argument, and what it takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import mlcore
import numpy as np
import pytest
from mlcore import InvalidArgument, dynamics, machine, mobility, stencil, voxels

RNG = np.random.default_rng(2)
X = RNG.uniform(1, 9, (6, 3))
F = RNG.normal(size=X.shape)
RPY = mobility.RPY(0.5, 1.0)
WALL = mobility.WallRPY(0.5, 1.0)
TABLE = mobility.PairMobility(1.0, 2.0, *np.zeros((4, 8)))
PAIR = np.array([[0.0, 0, 0], [1.2, 0, 0]])
VOXELS = mlcore.VoxelGrid(8, (10.0,) * 3)
FEATURES, FIELD = RNG.normal(size=(6, 2)), RNG.normal(size=(2, 8, 8, 8))
KERNEL = RNG.normal(size=(2, 2, 3, 3, 3))
ACTIVE = mlcore.ActiveSet((4, 4, 4), [[0, 0, 0], [1, 1, 1]])
ROWS = RNG.normal(size=(2, 2))
LJ = dynamics.LennardJones(1.0, 1.0, 2.5)
WEIGHTS = {f"weight_{side}_l0": RNG.normal(size=(8, 2)) for side in ("ih", "hh")}
NETWORK = mlcore.LSTM(WEIGHTS)
WINDOW = RNG.normal(size=(3, 4, 2))

TABLES = {
    "h": 0.1,
    "drifts": [0.5, 0.5],
    "masses": [1.0],
    "coefficients": np.zeros((1, 1, 2, 4)),
    "u_lo": 0.4,
    "u_hi": 2.0,
}
SPLITTING = mlcore.PairSplitting(**TABLES)
MOVING = mlcore.NeighborList(2.0, 0.5)
MOVING.update(X)


def flat(r: Any) -> Any:
    return 0.1 * np.ones_like(r)


# Public functions with the arguments they need.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Yukawa": (dynamics.Yukawa, {"amplitude": 1.0, "kappa": 1.0, "cutoff": 2.0}),
    "LennardJones": (dynamics.LennardJones, {"sigma": 1.0, "epsilon": 1.0}),
    "Harmonic": (dynamics.Harmonic, {"stiffness": 1.0}),
    "Constant": (dynamics.Constant, {"force": (1.0, 0, 0)}),
    "FixedLennardJones": (dynamics.FixedLennardJones, {}),
    "SphericalWall": (dynamics.SphericalWall, {"radius": 1.0}),
    "brownian": (
        dynamics.brownian,
        {"mobility": RPY, "x0": PAIR, "dt": 1e-3, "kT": 1.0, "steps": 2},
    ),
    "verlet": (dynamics.verlet, {"x0": PAIR, "dt": 1e-3, "steps": 2}),
    "PairSplitting": (mlcore.PairSplitting, TABLES),
    "PairSplitting.run": (SPLITTING.run, {"x0": PAIR, "steps": 2}),
    "PairSplitting.kick": (
        SPLITTING.kick,
        {"stage": 0, "x": PAIR, "v": PAIR, "offsets": [0, 1, 2], "columns": [1, 0]},
    ),
    "force_field": (dynamics.force_field, {"forces": LJ, "x": PAIR}),
    "system_forces": (dynamics.system_forces, {"forces": LJ, "x": PAIR}),
    "LSTM": (mlcore.LSTM, {"weights": WEIGHTS}),
    "LSTM.step": (NETWORK.step, {"x": WINDOW}),
    "LSTM.rollout": (NETWORK.rollout, {"window": WINDOW, "n": 3}),
    "LSTM.advance": (NETWORK.advance, {"x": WINDOW}),
    "Oseen": (mobility.Oseen, {"viscosity": 1.0, "radius": 1.0}),
    "RPY": (mobility.RPY, {"viscosity": 1.0, "radius": 1.0}),
    "WallRPY": (mobility.WallRPY, {"viscosity": 1.0, "radius": 1.0}),
    "RegularizedOseen": (mobility.RegularizedOseen, {"viscosity": 1.0, "epsilon": 1.0}),
    "PairMobility": (
        mobility.PairMobility,
        {
            "self_mobility": 1.0,
            "cutoff": 2.0,
            **dict.fromkeys(("par", "dpar", "perp", "dperp"), np.zeros(8)),
        },
    ),
    "PairMobility.from_functions": (
        mobility.PairMobility.from_functions,
        {"self_mobility": 1.0, "cutoff": 2.0, "par": flat, "perp": flat},
    ),
    **{
        f"{type(model).__name__}.{name}": (getattr(model, name), arguments)
        for model in (RPY, WALL, TABLE)
        for name, arguments in (
            ("matrix", {"x": X}),
            ("apply", {"x": X, "forces": F}),
            ("divergence", {"x": X}),
            ("position_gradient", {"x": X, "forces": F, "adjoint": F}),
        )
    },
    "RPY.pair": (RPY.pair, {"r": 1.0}),
    "PairMobility.pair": (TABLE.pair, {"r": 1.0}),
    "VoxelGrid": (mlcore.VoxelGrid, {"shape": 8, "cell": (10.0,) * 3}),
    "rasterize": (mlcore.rasterize, {"grid": VOXELS, "positions": X, "features": FEATURES}),
    "gather": (mlcore.gather, {"grid": VOXELS, "field": FIELD, "positions": X}),
    "position_gradient": (
        voxels.position_gradient,
        {"grid": VOXELS, "positions": X, "features": FEATURES, "field": FIELD},
    ),
    "bin_atoms": (mlcore.bin_atoms, {"grid": VOXELS, "positions": X}),
    "unbin": (mlcore.unbin, {"grid": VOXELS, "bins": mlcore.bin_atoms(VOXELS, X)}),
    "conv3d": (mlcore.conv3d, {"field": FIELD, "weight": KERNEL}),
    "scatter3d": (mlcore.scatter3d, {"values": FIELD, "weight": KERNEL}),
    "conv3d_weight_gradient": (
        stencil.conv3d_weight_gradient,
        {"field": FIELD[None], "values": FIELD[None], "taps": 3},
    ),
    "laplacian": (mlcore.laplacian, {"field": FIELD}),
    "gradient": (mlcore.gradient, {"field": FIELD}),
    "ActiveSet": (mlcore.ActiveSet, {"grid_shape": (4, 4, 4), "coordinates": [[0, 0, 0]]}),
    "ActiveSet.from_mask": (mlcore.ActiveSet.from_mask, {"mask": np.ones((2, 3, 4))}),
    "ActiveSet.rules": (ACTIVE.rules, {"k": 3}),
    "ActiveSet.neighbors": (ACTIVE.neighbors, {"k": 3}),
    "conv3d_active": (
        mlcore.conv3d_active,
        {"active": ACTIVE, "features": ROWS, "weight": KERNEL},
    ),
    "scatter3d_active": (
        mlcore.scatter3d_active,
        {"active": ACTIVE, "values": ROWS, "weight": KERNEL},
    ),
    "fma_rate": (machine.fma_rate, {}),
    "stream_rate": (machine.stream_rate, {"use": "copy", "size": 1 << 14}),
    "gather_rate": (machine.gather_rate, {"size": 1 << 14}),
    "first_touch_rate": (machine.first_touch_rate, {"size": 1 << 14}),
    "set_num_threads": (mlcore.set_num_threads, {"threads": 1}),
    "neighbor_list": (mlcore.neighbor_list, {"quantities": "ij", "positions": X, "cutoff": 2.0}),
    "neighbor_csr": (mlcore.neighbor_csr, {"positions": X, "cutoff": 2.0}),
    "neighbor_matrix": (mlcore.neighbor_matrix, {"positions": X, "cutoff": 2.0}),
    "neighbor_batch": (
        mlcore.neighbor_batch,
        {"quantities": "ij", "positions": X, "cutoff": 2.0, "batch_offsets": [0, 2, 6]},
    ),
    "neighbor_batch of arrays": (
        mlcore.neighbor_batch,
        {"quantities": "d", "positions": [X, X], "cutoff": 2.0},
    ),
    "NeighborList": (mlcore.NeighborList, {"cutoff": 2.0}),
    "NeighborList.update": (mlcore.NeighborList(2.0).update, {"positions": X}),
    "NeighborList.get": (MOVING.get, {"quantities": "ij"}),
    "NeighborList.csr": (MOVING.csr, {}),
    "NeighborList.matrix": (MOVING.matrix, {}),
    "random.normal": (mlcore.random.normal, {"seed": 1, "stream": 1, "step": 1, "tags": [1]}),
}
WRONG = {"None": None, "text": "abc", "object": object(), "texts": ["a", "b"], "complex": 1j}


def cases() -> list[Any]:
    found = []
    for name, (call, _) in CALLS.items():
        for parameter in inspect.signature(call).parameters.values():
            for kind in WRONG:
                if kind == "None" and takes_none(parameter):
                    continue
                found.append(
                    pytest.param(name, parameter.name, kind, id=f"{name}-{parameter.name}-{kind}")
                )
    return found


def takes_none(parameter: inspect.Parameter) -> bool:
    return (
        parameter.default is None
        or "None" in str(parameter.annotation)
        or parameter.name == "progress"
    )


@pytest.mark.parametrize(("name", "argument", "kind"), cases())
def test_the_argument_is_named(name: str, argument: str, kind: str) -> None:
    call, needed = CALLS[name]
    with pytest.raises(InvalidArgument) as caught:
        call(**needed | {argument: WRONG[kind]})
    assert re.search(rf"\b{argument}\b", str(caught.value)), str(caught.value)
