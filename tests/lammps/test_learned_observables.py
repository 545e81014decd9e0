"""Observables learned from LAMMPS' frames, evaluated in runs: the same numbers as in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from lammps_case import Array, Case
from mlcore import data, export
from mlcore.observables import Autoencoder, CoordinationNumber, LearnedObservable
from test_native_force import box, head, lattice, thermo, watch

SIDE = 4.8
LIQUID = "pair_style lj/cut 2.2\npair_coeff 1 1 1 1\nvelocity all create 2 4711 loop geom\nfix i all nve\n"
FRAMES = 'dump d all custom 20 out.dump id x y z\ndump_modify d sort id format float "%.17g"\n'
TRUTH = CoordinationNumber(1.6, 1.2)


@pytest.fixture(scope="module")
def liquid(tmp_path_factory: pytest.TempPathFactory, plugin: Path) -> list[Atoms]:
    """Frames of a liquid, made by LAMMPS."""
    case = Case(tmp_path_factory.mktemp("liquid"))
    case.atoms(lattice(4), box(SIDE))
    case.ok(head() + LIQUID + "run 400\n" + FRAMES + "run 1000\n")
    t = data.read_trajectory(case.folder / "out.dump", format="lammps-dump")
    return [Atoms("Ar64", positions=x, cell=[SIDE] * 3, pbc=True) for x in t.positions]


def taught(liquid: list[Atoms], **options: Any) -> LearnedObservable:
    model = LearnedObservable(**{"cutoff": 1.8, "seed": 1, **options})
    known = CoordinationNumber(1.6, 1.2, reduce=model.reduce or "mean")
    labels = [known(atoms) for atoms in liquid]
    error = model.fit(liquid, labels, validation=0.2, epochs=10).held_out_error
    assert error[0] < 0.05 * np.concatenate(labels).std()
    return model


def snapshots(case: Case) -> list[Atoms]:
    return [Atoms("Ar64", positions=f[:, 1:4], cell=[SIDE] * 3, pbc=True) for f in case.dump()]


RUN = "thermo 20\nrun 60\n"


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_a_learned_count(
    case: Case, liquid: list[Atoms], hidden: tuple[int, ...], ranks: int
) -> None:
    """Of neighbors: a sum over them without torch, layers with it; beside the known count."""
    model = taught(liquid, hidden=hidden)
    bundle = model.export(case.folder / "learned")
    assert bundle.engines[0] == ("torchscript" if hidden else "native")
    TRUTH.export(case.folder / "known")
    case.atoms(lattice(4), box(SIDE))
    script = head() + LIQUID + FRAMES + "fix l all mlcore qoi learned\nfix k all mlcore qoi known\n"
    rows = thermo(case.ok(script + watch("f_l f_k f_l[1]") + RUN, ranks))
    frames = snapshots(case)
    expected = np.concatenate([model(atoms) for atoms in frames])
    np.testing.assert_allclose(rows[:, 1], expected, rtol=1e-10 if hidden else 1e-6)
    np.testing.assert_allclose(rows[:, 2], [TRUTH(atoms)[0] for atoms in frames], rtol=1e-6)
    assert np.abs(rows[1:, 1] - rows[1:, 2]).max() < 0.05


def test_a_committee_of_atoms_values(case: Case, liquid: list[Atoms]) -> None:
    """Kept per atom; what the members do not agree on is told."""
    model = taught(liquid, hidden=(6,), members=2, reduce="none")
    model.export(case.folder / "learned", dtype="float32")
    case.atoms(lattice(4), box(SIDE))
    script = head() + LIQUID + FRAMES.replace("id x y z", "id x y z f_l")
    script = script.replace("dump d", "fix l all mlcore qoi learned\ndump d")
    rows = thermo(case.ok(script + watch("f_l[1] f_l[2]") + RUN, 2))
    for frame, atoms, row in zip(case.dump(), snapshots(case), rows, strict=True):
        np.testing.assert_allclose(frame[:, 4:], model(atoms, dtype="float32"), atol=2e-5)
        spread = model.spread(atoms)
        np.testing.assert_allclose(row[1:], [spread.max(), spread.mean()], atol=2e-5)


def test_atoms_on_their_own(case: Case, liquid: list[Atoms]) -> None:
    """Kinetic energy of an atom, learned; a perceptron of the core."""
    rng = np.random.default_rng(0)
    t = data.Trajectory(
        np.arange(40.0), rng.normal(size=(40, 64, 3)), velocities=rng.normal(size=(40, 64, 3))
    )
    model = LearnedObservable("atoms", inputs=("v",), hidden=(12,))
    model.fit(t, 0.5 * (t.velocities**2).sum(2).mean(1), epochs=20)
    assert model.export(case.folder / "learned").engines == ("native", "torchscript")
    case.atoms(lattice(4), box(SIDE))
    run = FRAMES.replace("x y z", "x y z vx vy vz") + "fix l all mlcore qoi learned\n"
    rows = thermo(case.ok(head() + LIQUID + run + watch("f_l") + RUN, 2))
    expected = [model(f[:, 1:4], velocities=f[:, 4:])[0] for f in case.dump()]
    np.testing.assert_allclose(rows[:, 1], expected, rtol=1e-10)


# -- autoencoders ---------------------------------------------------------------------------------
def chain() -> Array:
    """A chain askew in a box that it does not fit in."""
    rng = np.random.default_rng(3)
    return np.cumsum(0.6 + 0.2 * rng.normal(size=(12, 3)), 0)


def coarse(invariance: Any) -> Autoencoder:
    """Fitted to bent chains."""
    rng = np.random.default_rng(0)
    bend = rng.uniform(-1, 1, (200, 1, 1)) * np.linspace(-1, 1, 12)[:, None] ** 2 * [1.0, -0.5, 0.2]
    frames = chain() + 2 * bend + 0.05 * rng.normal(size=(200, 12, 3))
    model = Autoencoder(2, invariance, hidden=(16,))
    model.fit(frames, epochs=20)
    return model


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("invariance", ["none", "translation", "rotation"])
def test_coarse_coordinates(case: Case, invariance: str, dtype: Any, ranks: int) -> None:
    """A chain cut by the boundaries flies apart slowly."""
    model = coarse(invariance)
    model.export(case.folder / "coarse", dtype=dtype)
    side = 5.0
    case.atoms(chain() - side * np.floor(chain() / side), box(side))
    script = head() + "pair_style zero 2.0\npair_coeff * *\nvelocity all create 0.5 7 loop geom\n"
    script += "fix i all nve\nfix z all mlcore qoi coarse every 20 engine torchscript\n"
    rows = thermo(case.ok(script + FRAMES + watch("f_z f_z[1] f_z[2]") + RUN, ranks))
    frames = [Atoms("Ar12", positions=f[:, 1:4], cell=[side] * 3, pbc=True) for f in case.dump()]
    expected = model.encode(frames, dtype=dtype)
    scale = np.abs(expected).max()
    bound = 1e-6 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(rows[:, 2:], expected, rtol=0, atol=bound * scale)
    np.testing.assert_allclose(rows[:, 1], rows[:, 2])
    assert np.ptp(expected, 0).min() > 1e-3
    if invariance == "none":
        found = thermo(case.ok(script.replace(" engine torchscript", "") + FRAMES
                               + watch("f_z f_z[1] f_z[2]") + RUN, ranks))  # fmt: skip
        np.testing.assert_allclose(found[:, 2:], model.encode(frames), atol=1e-10 * scale)


@pytest.mark.slow
def test_compiled(case: Case) -> None:
    """Alignment by singular values, compiled."""
    model = coarse("rotation")
    bundle = model.export(case.folder / "coarse", compiled=True, torchscript=False)
    assert bundle.engines == ("compiled",)
    case.atoms(chain(), box(40.0))
    script = head() + "pair_style zero 2.0\npair_coeff * *\nfix z all mlcore qoi coarse\n"
    rows = thermo(case.ok(script + watch("f_z[1] f_z[2]") + "run 0\n", 2))
    np.testing.assert_allclose(rows[0, 1:], model(chain()), rtol=1e-9)


@pytest.mark.parametrize("ranks", [1, 2])
def test_as_files_of_mlmod(case: Case, liquid: list[Atoms], ranks: int) -> None:
    """QoI_ML1 evaluates what was learned, of neighbors and of a configuration."""
    count, about = taught(liquid, hidden=()), coarse("rotation")
    side, x = 20.0, chain() + 2.0
    tags = {"mask_fix": "FINAL_INTEGRATE", "particles": 12, "base_dir": str(case.folder / "out")}
    for name, model in (("count", count), ("about", about)):
        column = export.Column(model.network(), model.contract(), 12, cell=[side] * 3)
        export.write_mlmod(case.folder / f"{name}.xml", "QoI_ML1", {"qoi_filename": column}, **tags)
    case.atoms(x, box(side))
    script = head() + "pair_style zero 2.0\npair_coeff * *\nfix i all nve\n"
    script += "fix c all mlmod count.xml\nfix a all mlmod about.xml\n"
    found = thermo(case.ok(script + watch("f_c[1][1] f_a[1][1] f_a[2][1]") + "run 1\n", ranks))
    expected = [*count(x, cell=[side] * 3, pbc=True), *about(x)]
    np.testing.assert_allclose(found[:, 1:], [expected] * 2, rtol=1e-4, atol=1e-5)
