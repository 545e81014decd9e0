"""examples/graphene: atoms sorted by what their bonds see, beside who is missing around them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlcore.sagesnet import AtomCells, AtomGrid, AtomState
from mlcore.sagesnet.carbon import REDUCED, Design, cut

EXAMPLE = Path(__file__).parents[3] / "examples" / "graphene"
PATTERN = "101101011010110"


@pytest.fixture(scope="module")
def environments() -> Iterator[Any]:
    """The module of the example, whose plain name is forgotten behind it."""
    kept = sys.modules.pop("environments", None)
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield importlib.import_module("environments")
    finally:
        sys.path.remove(str(EXAMPLE))
        sys.modules.pop("environments", None)
        if kept is not None:
            sys.modules["environments"] = kept


def test_labels_tell_who_is_missing(environments: Any) -> None:
    across = Design(grid=(1, 1), cells=(8, 6))
    whole = environments.at_rest("1", across)
    x = cut("1", across).positions
    ends = np.isclose(x[:, 0], x[:, 0].min()) | np.isclose(x[:, 0], x[:, 0].max())
    assert np.isin(whole[ends], (1, 3)).all() and (whole[ends] == 1).sum() == 2 * (6 - 2)
    sides = np.isclose(x[:, 1], x[:, 1].min()) | np.isclose(x[:, 1], x[:, 1].max())
    assert np.isin(whole[sides & ~ends], (2, 3)).all() and (whole == 3).sum() == 8
    assert (whole[~ends & ~sides] == 0).all()
    # a cut inside a sheet of 3 cells across has two ends, each of two atoms of either edge
    design = Design(grid=(1, 3), cells=(5, 5), cut=1)
    labels, plain = (environments.at_rest(bits, design) for bits in ("101", "111"))
    assert (labels == 3).sum() - (plain == 3).sum() == 8
    place = cut("101", design).positions
    across_x = place * [-1, 1, 1] + [place[:, 0].min() + place[:, 0].max(), 0, 0]
    mirrored = np.linalg.norm(place[:, None] - across_x[None], axis=2).argmin(axis=1)
    assert (labels == labels[mirrored]).all()


def test_atoms_are_sorted_by_what_their_bonds_see(environments: Any) -> None:
    sheet = cut(PATTERN, REDUCED)
    sheet.cell = np.ptp(sheet.positions, axis=0) + [80, 20, 20]
    sheet.center()
    rest = environments.at_rest(PATTERN, REDUCED)
    torch.manual_seed(0)
    cells = AtomCells((6,), 10.0, channels=4, width=4, kicks=1, inner=1.92, correction=False)
    grid, rng = AtomGrid.over(sheet, 2.0), np.random.default_rng(0)
    frames, labels = [], []
    for strain in (0.0, 0.04, 0.08):
        x = sheet.positions * [1 + strain, 1 - 0.2 * strain, 1]
        x = x + rng.normal(scale=0.02, size=x.shape)
        frames.append(environments.seen(cells, AtomState.from_arrays(grid, sheet.numbers, x)))
        labels.append(environments.labelled(rest, sheet.positions, x))
    found = environments.clustered(frames)
    told = environments.agreement(found, labels)
    assert told["adjusted_rand"] >= 0.9 and told["without_bulk"] >= 0.7
    assert np.sum(told["table"]) == told["atoms"] == 3 * len(sheet)
    shuffled = [rng.permutation(part) for part in found]
    assert environments.agreement(shuffled, labels)["adjusted_rand"] < 0.05


def test_atoms_that_lose_a_bond_are_broken(environments: Any) -> None:
    sheet = cut(PATTERN, REDUCED)
    rest = environments.at_rest(PATTERN, REDUCED)
    bulk = int(np.flatnonzero(rest == 0)[200])
    later = sheet.positions.copy()
    later[bulk] += [0.0, 0.0, 1.6]
    found = environments.labelled(rest, sheet.positions, later)
    broken = np.flatnonzero(found == environments.NAMES.index("broken"))
    near = np.linalg.norm(sheet.positions - sheet.positions[bulk], axis=1) < 1.6
    assert (np.flatnonzero(near) == broken).all() and len(broken) == 4
    assert (found[~near] == rest[~near]).all()
