"""Where in a sheet a net is unsure, and which atoms its longest bonds hang on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from frames import Pair
from mlcore.sagesnet import AtomState, Run, SagesNet
from mlcore.sagesnet.carbon import Design, cut
from mlcore.sagesnet.carbon.observables import bonds
from mlcore.sagesnet.confidence import cell_losses, confidence, fit_confidence
from mlcore.sagesnet.sensitivity import sensitivity
from mlcore.training import TrainingOptions
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import spearmanr
from torch import Tensor

Array = NDArray[np.float64]
SOFT = 0.03
"""A: bonds that much shorter than the longest count e times less."""


def learn_confidence(
    net: SagesNet[Any], known: Sequence[Pair], others: Sequence[Pair], epochs: int = 10
) -> None:
    """Teach the net how wrong its steps are, on some pairs; the band is set on others, those of whole
    sheets that neither the net nor its head has learned from."""
    options = TrainingOptions(
        epochs=epochs, learning_rate=3e-3, batch_size=2048, patience=None, schedule="cosine"
    )
    runs, calibration = ([Run(list(pair)) for pair in part] for part in (known, others))
    fit_confidence(net, runs, calibration, options=options)


@dataclass(frozen=True)
class Held:
    """Expected and true losses of cells with atoms that move freely, (c,), and whether the band held
    the true one."""

    expected: Array
    true: Array
    inside: NDArray[np.bool_]


def held(net: SagesNet[Any], pairs: Sequence[Pair]) -> list[Held]:
    """Of each pair."""
    found = []
    for pair in pairs:
        for before, after, loss, state in cell_losses(net, Run(list(pair))):
            told = confidence(net, before, after, state=state)
            rows = _rows(pair[0], before.lattice)[pair[0].free].unique()
            inside = (loss >= told.low) & (loss <= told.high)
            found.append(Held(*(part[rows].numpy() for part in (told.expected, loss, inside))))
    return found


def judged(each: Sequence[Held]) -> dict[str, Any]:
    """Rank correlation of expected and true losses, and what the band holds, in all and of each pair,
    and the median of the loss; nan where there is no pair."""
    if not each:
        nothing = float("nan")
        told = {"spearman": nothing, "band": nothing, "median": nothing}
        return told | {"band_of_each": [], "cells": 0}
    expected, true, inside = (
        np.concatenate([getattr(one, name) for one in each])
        for name in ("expected", "true", "inside")
    )
    return {
        "spearman": float(spearmanr(expected, true).statistic),
        "band": float(inside.mean()),
        "band_of_each": [float(one.inside.mean()) for one in each],
        "median": float(np.median(true)),
        "cells": len(true),
    }


def expected_of_atoms(net: SagesNet[Any], state: AtomState) -> Array:
    """(n,) the loss expected of each atom's cell."""
    with torch.no_grad():
        before = net.encode([state])
    told = confidence(net, before, state=state)
    return np.asarray(told.expected[_rows(state, before.lattice)].numpy(), np.float64)


def longest_bond(net: SagesNet[Any], state: AtomState) -> Array:
    """(n,) how strongly the soft maximum of bond lengths a step later hangs on each atom's velocity.

    Told per length that the velocity leads to in a step, so it has no unit. Velocities and not places,
    since cells with bonds see where atoms are, but derive by how they move.
    """
    pairs = torch.from_numpy(bonds(state.positions().numpy()))
    edges = torch.as_tensor(state.grid.edges).float()

    def soft_maximum(velocity: Tensor) -> Tensor:
        later = net.step(replace(state, velocity=velocity))
        extents = torch.tensor(later.grid.extents)
        place = (later.image * extents + later.cell + 0.5 + later.offset) @ edges
        far = (place[pairs[:, 0]] - place[pairs[:, 1]]).norm(dim=1)
        return SOFT * torch.logsumexp(far / SOFT, dim=0)

    gradient = sensitivity(soft_maximum, state.velocity).gradient / net.cells.dt
    return np.asarray(gradient.norm(dim=1).numpy(), np.float64)


def ends_of_slots(pattern: str, design: Design) -> NDArray[np.bool_]:
    """(n,) atoms at the ends of cuts, where stress gathers: in a row of atoms that a cut takes from a
    neighbour, and next to what is missing."""
    sheet, place = design.sheet()
    kept = cut(pattern, design)
    tree = cKDTree(sheet.positions)
    rows = tree.query(kept.positions)[1]
    gone = np.setdiff1d(np.arange(len(sheet)), rows)
    if not len(gone):
        return np.zeros(len(kept), bool)
    near = cKDTree(sheet.positions[gone]).query(kept.positions)[0] < 2.6
    along = (place[rows, 0] - design.grip) % design.cells[0]
    first = (design.cells[0] - design.cut_rows) // 2
    inside = (along >= first) & (along < first + design.cut_rows)
    return np.asarray(near & inside)


def _rows(state: AtomState, lattice: Any) -> Tensor:
    rows: Tensor = lattice.rows(torch.cat([state.system[:, None], state.cell], dim=1))
    return rows
