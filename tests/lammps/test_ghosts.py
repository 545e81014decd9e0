"""Models with a cutoff see their ghosts as they are, and refuse what would leave them without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lammps_case import Case, dump, system
from masked_models import LENGTH
from mlcore import observables
from test_force_modes import DT, save
from test_native_force import DUMP, head, many_body

LIQUID = """units lj
{first}lattice fcc 0.9
region b block 0 4 0 4 0 4
create_box 1 b
create_atoms 1 box
displace_atoms all random 0.1 0.1 0.1 7
mass 1 1.0
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
{then}timestep 1e-4
"""


@pytest.fixture
def counted(case: Case) -> observables.CoordinationNumber:
    count = observables.CoordinationNumber(1.6, inner=1.2)
    count.export(case.folder / "count", units="lj", torchscript=False)
    return count


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("newton", ["on", "off"])
def test_values_after_atoms_were_moved_at_the_end_of_a_step(
    case: Case, counted: observables.CoordinationNumber, ranks: int, newton: str
) -> None:
    """dX_MF moves atoms after the ghosts were told; the value is that of the positions dumped."""
    case.parameters("dX_MF", eta=1.0, a=0.3, epsilon=1.0)
    script = LIQUID.format(first=f"newton {newton}\n", then="") + (
        "fix move all mlmod model.xml\n"
        "fix count all mlcore qoi count\n"
        "thermo_style custom step f_count[1]\nthermo 5\nthermo_modify format float %.15g\n"
        'dump d all custom 5 out.dump id x y z\ndump_modify d format float "%.17g"\nrun 20\n'
    )
    output = case.ok(script, ranks)
    rows = [line.split() for line in output.splitlines()]
    told = {int(r[0]): float(r[1]) for r in rows if len(r) == 2 and r[0].isdigit()}
    side = 4 * (4 / 0.9) ** (1 / 3)
    frames = case.dump()
    assert np.abs(frames[-1][:, 1:] - frames[0][:, 1:]).max() > 0.01
    for number, frame in enumerate(frames):
        (exact,) = counted(frame[:, 1:], cell=side * np.eye(3), pbc=True)
        assert told[5 * number] == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "then", "named"),
    [
        ("", "group some dynamic all every 1\n", "dynamic group some"),
        ("", "neighbor 0.3 multi\ncomm_modify mode multi\n", "comm_modify mode single"),
        (
            "",
            "group few id 1:99\natom_modify first few\ncomm_modify group few\n",
            "needs ghosts of its whole group all, comm_modify group few leaves some out",
        ),
    ],
)
def test_what_would_lose_ghosts_is_refused(
    case: Case, counted: observables.CoordinationNumber, first: str, then: str, named: str
) -> None:
    group = "some" if "some" in then else "all"
    script = LIQUID.format(first=first, then=then)
    outcome = case.lmp(script + f"fix nve all nve\nfix count {group} mlcore qoi count\nrun 5\n")
    assert outcome.status != 0
    assert named in " ".join(outcome.output.split()), outcome.output[-1500:]
    if "few" in then:
        case.ok(script + "fix nve all nve\nfix count few mlcore qoi count\nrun 5\n", 2)


def test_atoms_that_are_very_far_away_end_in_an_error(case: Case) -> None:
    """Coinciding atoms push each other to 1e20: no endless loop over box lengths."""
    case.parameters("dX_MF", eta=1e-9, a=1e-9, epsilon=1.0)
    script = LIQUID.format(first="", then="create_atoms 1 single 0.0011 0.0 0.0\n")
    outcome = case.lmp(script + "fix move all mlmod model.xml\nthermo 1\nrun 5\n")
    assert outcome.status != 0
    assert "ERROR" in outcome.output


@pytest.mark.parametrize("pair", ["", "pair_style zero 1.0\npair_coeff * *\n"])
def test_one_atom_beside_many_with_newton_off(case: Case, pair: str) -> None:
    """The rank of the one has many ghosts, whose forces go home, and sends but one."""
    slab = np.stack(np.meshgrid([15.3, 16.5], *[np.arange(50) * 1.2 + 0.3] * 2, indexing="ij"), -1)
    x = np.concatenate([[[14.4, 30.0, 30.0]], slab.reshape(-1, 3)])
    case.atoms(x, (0, 30, 0, 60, 0, 60))
    many_body(case.folder / "many", (0.8, 1.0, 1.3, 1.5))
    script = "processors 2 1 1\n" + head(boundary="f f f") + pair
    script += "fix m all mlcore force many\n" + DUMP + "run 2\n"
    forces = []
    for newton in ("on", "off"):
        case.ok(f"newton {newton}\n" + script, 2)
        forces.append(case.dump()[0][:, 7:])
    assert np.abs(forces[0][0]).max() > 0.05
    np.testing.assert_allclose(forces[1], forces[0], rtol=0, atol=1e-12)


def field(z: torch.Tensor) -> torch.Tensor:
    """Depends on where the pair is."""
    gap = torch.clamp(4 - ((z[3:6] - z[:3]) ** 2).sum(), min=0.0) / 4
    return gap * gap * torch.cat([z[:3], z[3:6]])


@pytest.mark.parametrize("ranks", [1, 4])
def test_pairs_within_a_cutoff_see_wrapped_positions(case: Case, ranks: int) -> None:
    """As pairs without one do; also of atoms that have left the box since the last lists."""
    x = np.array(
        [[5.95, 3.0, 3.0], [5.0, 3.2, 3.0], [0.6, 3.1, 2.5], [3.0, 0.02, 3.0], [3.3, 5.5, 3]]
    )
    v = np.array([[4.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, -4.0, 0], [0, 0, 0]])
    case.atoms(x, (0, LENGTH) * 3, v=v)
    run = system("p p p", dt=DT).replace("0.4 bin", "1.0 bin")
    seen = []
    for tags in ({}, {"cutoff": 2.0}):
        name = save(case, "F_Pair_ML1", 2, model=field, mask_input="X", **tags)
        case.ok(run + f"fix m all mlmod {name}\nfix move all nve\n" + dump() + "run 12\n", ranks)
        seen.append(case.dump())
    for whole, near in zip(*seen, strict=True):
        np.testing.assert_allclose(near, whole, rtol=0, atol=1e-5)
    last = seen[0][-1]
    assert last[0, 1] > LENGTH + 0.05 and last[3, 2] < -0.05
    assert np.abs(last[:, 7:]).max() > 1
