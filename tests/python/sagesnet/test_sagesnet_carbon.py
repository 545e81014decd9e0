"""Bodies of carbon, cuts, and what stock LAMMPS makes of them."""

from __future__ import annotations

import importlib

import mlcore
import numpy as np
import pytest
from ase import Atoms
from mlcore.errors import Error, InvalidArgument
from mlcore.lammps.environment import find_environment
from mlcore.sagesnet.carbon import (
    PAPER,
    REDUCED,
    TINY,
    Design,
    Pull,
    all_patterns,
    body,
    chain,
    cut,
    modulus,
    random_patterns,
    relax,
    stretch,
    tube,
)
from mlcore.sagesnet.carbon.observables import bonds, coordination, kinetic_temperature, stresses
from mlcore.sagesnet.carbon.stretch import potential

A = "101101011010110"


@pytest.mark.parametrize(("design", "atoms"), [(REDUCED, 1920), (PAPER, 10880), (TINY, 252)])
def test_an_uncut_sheet_is_a_honeycomb_with_two_grips(design: Design, atoms: int) -> None:
    sheet = cut("1" * design.bits, design)
    assert len(sheet) == atoms
    d = mlcore.neighbor_list("d", sheet.positions, 1.6)
    assert np.allclose(d, 4.118 / 3, atol=1e-4)
    near = coordination(sheet.positions)
    assert (near == 3).sum() > 0.8 * atoms and near.min() >= 1
    held = sheet.arrays["grip"]
    assert (held == -1).sum() == (held == 1).sum() == 4 * design.grip * design.shape[1]
    x = sheet.positions[:, 0]
    assert x[held == -1].max() < x[held == 0].min() <= x[held == 0].max() < x[held == 1].min()


def test_a_cut_takes_a_slot_from_its_cell_and_nothing_else() -> None:
    whole, holed = cut("1" * 15), cut("1" * 7 + "0" + "1" * 7)  # the middle one
    gone = {tuple(x) for x in whole.positions} - {tuple(x) for x in holed.positions}
    assert len(gone) == len(whole) - len(holed) == 4 * REDUCED.cells[1] * REDUCED.cut_rows
    slot = np.array(sorted(gone))
    assert np.allclose(slot.mean(0)[1], whole.positions[:, 1].mean(), atol=0.7)
    assert np.ptp(slot[:, 0]) < 4.118 and 10 < np.ptp(slot[:, 1]) < 6 * 2.3775
    assert len(cut(A)) == 1920 - 24 * A.count("0") == 1776
    assert holed.arrays["id"].tolist() == list(range(len(holed)))


def test_patterns_that_fall_apart_or_are_none_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="falls apart"):
        cut("111110000011111")
    for strange in ("111", "1111111111111x1"):
        with pytest.raises(InvalidArgument, match="15 of 0 and 1"):
            cut(strange)
    found = list(all_patterns())
    assert len(found) == len(set(found)) == 31**3
    chosen = random_patterns(50, seed=3)
    assert chosen[:20] == random_patterns(20, seed=3) and set(chosen) < set(found)
    assert len(set(chosen)) == 50 and chosen != random_patterns(50, seed=4)
    assert all(len(cut(pattern)) > 1500 for pattern in chosen[:8])


def test_bad_designs_bodies_and_settings_are_named() -> None:
    for words, name in [({"grip": 0}, "grip"), ({"cut": 4}, "cut"), ({"grid": (0, 2)}, "grid")]:
        with pytest.raises(InvalidArgument, match=name):
            Design(**words)
    with pytest.raises(InvalidArgument, match="rate"):
        Pull(rate=0.0)
    with pytest.raises(InvalidArgument, match="rcmin"):
        Pull(rcmin=2.1)
    with pytest.raises(InvalidArgument, match="thermostat"):
        Pull(thermostat="berendsen")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="grip"):
        body(Atoms("C4", np.eye(4, 3)), np.array([0, 0, 1, 1]), 1.0)
    with pytest.raises(InvalidArgument, match="grip"):
        stretch(Atoms("C4", np.eye(4, 3)))
    silicon = body(Atoms("CSiC", 2 * np.eye(3)), np.array([-1, 0, 1]), 1.0)
    with pytest.raises(InvalidArgument, match="Si"):
        stretch(silicon)


def test_the_potential_differs_from_lammps_own_in_one_number(tmp_path) -> None:  # type: ignore[no-untyped-def]
    own = find_environment(torch=False).lammps / "share/lammps/potentials/CH.airebo"
    ours, theirs = potential(tmp_path).read_text().splitlines(), own.read_text().splitlines()
    changed = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    assert [(a.split(), b.split()) for a, b in changed] == [
        (["1.92", "rcmin_CC"], ["1.7", "rcmin_CC"])
    ]


def test_a_sheet_at_rest_has_no_forces_and_graphene_s_bonds() -> None:
    sheet = relax(cut("101", TINY))
    assert sheet.info["force"] < 1e-3 and np.ptp(sheet.positions[:, 2]) < 1e-6
    pairs = bonds(sheet.positions)
    lengths = np.linalg.norm(np.subtract(*sheet.positions[pairs.T]), axis=1)
    whole = (coordination(sheet.positions) == 3)[pairs].all(1)
    assert abs(lengths[whole].mean() - 1.3968) < 0.01
    assert lengths.min() > 1.3 and lengths.max() < 1.5
    assert len(pairs) == len(bonds(cut("101", TINY).positions))
    assert -7.5 < sheet.info["energy"] / len(sheet) < -6.5


def test_a_warm_sheet_that_is_not_pulled_stays_whole() -> None:
    still = Pull(rate=1e-6, until=5e-7, temperature=300.0, rest=0.5, drop=1.0)
    run = stretch(cut("101", TINY), still, seed=5)
    first = bonds(run.start.positions)
    for x in run.positions[::10]:
        assert np.array_equal(bonds(x), first)
    warm = kinetic_temperature(run.velocities[10:], mobile=run.start.arrays["grip"] == 0)
    assert abs(warm.mean() - 300) < 45
    assert not run.provenance["fallen"] and len(run.steps) == 51


def test_the_modulus_of_an_uncut_sheet_is_graphene_s() -> None:
    run = stretch(cut("111", TINY), Pull(until=0.05, rest=0.5))
    strain, stress = run.curve[:, 1], run.curve[:, 2]
    stiffness, error = modulus(strain, stress * 3.7 / 3.35, until=0.05)
    assert error < 40 and 750 < stiffness < 1000  # GPa; 825, 853, 840 with three seeds
    assert np.abs(run.curve[:, 3] - run.curve[:, 4]).max() < 0.2 * run.curve[-1, 3]
    # what the frames tell by their positions alone is what LAMMPS told on the way
    frames = [run.start.copy() for _ in range(3)]
    chosen = [50, 100, 199]
    for atoms, k in zip(frames, chosen, strict=True):
        atoms.positions = run.positions[k]
    told = stresses(frames, run.provenance["section"])
    assert np.allclose(told, np.interp(run.strains[chosen], strain, stress), atol=2.5)


def test_a_run_is_its_seed_s_and_stays_in_its_box() -> None:
    short = Pull(rate=0.5, until=0.1, rest=0.05)
    one, same, other = (stretch(cut("110", TINY), short, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.positions, same.positions)
    assert np.array_equal(one.velocities, same.velocities) and np.array_equal(one.curve, same.curve)
    assert np.abs(one.positions - other.positions).max() > 1e-4
    assert one.positions.dtype == one.velocities.dtype == np.float32
    assert (one.steps == np.arange(0, 201, 10)).all() and np.allclose(one.strains[-1], 0.1)
    held = one.start.arrays["grip"]
    grown = one.positions[-1, held == 1, 0].min() - one.positions[-1, held == -1, 0].max()
    assert np.isclose(grown, 1.1 * one.provenance["length"], rtol=1e-5)
    speeds = one.velocities[:, held == 1, 0]
    assert np.allclose(speeds[1:], 0.25 * one.provenance["length"] * 1e-3, rtol=1e-4)
    # frames follow each other as their velocities say
    moved = (one.positions[2:] - one.positions[:-2]) / 20.0
    assert np.abs(moved - one.velocities[1:-1]).mean() < 0.1 * np.abs(moved).mean()
    assert (one.positions > 0).all() and (one.positions < one.start.cell.lengths()).all()


def test_langevin_and_lj_run_too() -> None:
    given = Pull(rate=1.0, until=0.05, rest=0.0, thermostat="langevin", damping=1.0, lj=True)
    run = stretch(cut("110", TINY), given)
    assert run.provenance["pull"]["lj"] and np.isfinite(run.curve).all() and len(run.curve) == 1


def test_a_nanotube_and_a_hydrocarbon_are_pulled_by_the_same_code() -> None:
    fast = Pull(rate=0.5, rest=0.1)
    strand = stretch(chain(), fast)
    assert set(strand.start.symbols) == {"C", "H"} and strand.provenance["fallen"]
    pairs = bonds(strand.start.positions, strand.start.numbers)
    assert len(pairs) == 11 + 26
    assert 20 < strand.curve[:, 2].max() < 200
    rest = relax(tube(5, 5, 4))
    assert rest.info["force"] < 1e-3 and len(bonds(rest.positions)) == len(
        bonds(tube(5, 5, 4).positions)
    )


def test_lammps_words_and_too_long_runs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Error, match="given up"):
        stretch(cut("111", TINY), timeout=0.05)
    module = importlib.import_module("mlcore.sagesnet.carbon.stretch")
    monkeypatch.setattr(module, "_relaxed", lambda: ["minimise 0.0"])
    with pytest.raises(Error, match=r"(?s)LAMMPS stopped.*ERROR: Unknown command: minimise"):
        stretch(cut("111", TINY))
