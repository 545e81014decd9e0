"""What atoms carry with them: spreads, energies and virials, wherever they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Array, Case
from test_native_force import (
    FORCE,
    STRESS,
    TRICLINIC,
    box,
    force,
    head,
    lattice,
    many_body,
    thermo,
    watch,
)
from written_bundles import CUTOFF, ManyBody

ATOMS = (
    "compute e all pe/atom {0}\ncompute s all stress/atom NULL {0}\n"
    "dump a all custom 20 atoms.dump id c_e c_s[*]\n"
    "dump_modify a sort id format float %.17g\n"
    "compute total all reduce sum c_e c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]\n"
)


# -- the spread of a step -------------------------------------------------------------------------
class Swim(torch.nn.Module):
    """Steps that tell where an atom was before."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.strength * (0.15 + 0.1 * torch.sin(x)), v


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_spread_of_a_step_goes_with_its_atom(case: Case, ranks: int) -> None:
    """The step is taken before atoms are sorted and change ranks, the dump comes after."""
    case.atoms(lattice(4), box(4.8))
    rows = torch.rand(4, 3, dtype=torch.float64)
    strengths = (0.5, 1.0, 1.8)
    told = {"sees": "atoms", "gives": "step", "inputs": ["x", "v"], "members": 3}
    bundles.write(
        case.folder / "swim", "dynamics", told, scripts=[Swim(s) for s in strengths],
        examples=(rows, rows),
    )  # fmt: skip
    script = head() + "atom_modify sort 1 1.0\nfix m all mlcore dynamics swim\n"
    script += "dump d all custom 1 out.dump id xu yu zu f_m\n"
    script += 'dump_modify d sort id format float "%.17g"\nrun 40\n'
    case.ok(script, ranks)
    frames = case.dump()
    assert np.abs(frames[-1][:, 1:4] - frames[0][:, 1:4]).max() > 4.8
    for before, after in pairwise(frames):
        wrapped = np.mod(before[:, 1:4], 4.8)
        size = np.linalg.norm(0.15 + 0.1 * np.sin(wrapped), axis=1)
        np.testing.assert_allclose(after[:, 4], np.std(strengths) * size, rtol=1e-11)


class Place(torch.nn.Module):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 + x[:, : self.columns]


@pytest.mark.parametrize("columns", [1, 2])
def test_values_of_atoms_that_left_the_group(case: Case, columns: int) -> None:
    """Zero, also when all have left."""
    case.atoms(lattice(2), box(2.4))
    rows = torch.rand(4, 3, dtype=torch.float64)
    told = {"sees": "atoms", "gives": "values", "inputs": ["x"], "shape": [columns]}
    bundles.write(
        case.folder / "q", "qoi", {**told, "reduce": "none"}, scripts=[Place(columns)],
        examples=(rows,),
    )  # fmt: skip
    shown = "f_m" if columns == 1 else "f_m[1] f_m[2]"
    script = head() + "variable in atom (step<4)||((step<8)&&(id==3))\n"
    script += "group some dynamic all every 1 var in\nfix m some mlcore qoi q\n"
    script += f"dump d all custom 1 out.dump id {shown}\ndump_modify d sort id\nrun 12\n"
    case.ok(script, 2)
    counts = [int((frame[:, 1] != 0).sum()) for frame in case.dump()]
    assert counts[2] == 8 and counts[6] == 1 and counts[11:] == [0, 0]


# -- energies and virials of atoms ----------------------------------------------------------------
def check_sums(case: Case, frame: Array, line: Array, volume: float) -> None:
    """`line`: step, energy, the pressure's six components."""
    np.testing.assert_allclose(frame[:, 1].sum(), line[1], rtol=1e-10)
    scale = np.abs(line[2:]).max()
    np.testing.assert_allclose(-frame[:, 2:].sum(0) / volume, line[2:], atol=1e-10 * scale)


@pytest.mark.parametrize(
    ("ranks", "tilt", "newton"), [(1, (), "on"), (2, TRICLINIC, "off"), (4, (), "on")]
)
def test_atoms_of_a_table_are_those_of_lennard_jones(
    case: Case, ranks: int, tilt: tuple[float, ...], newton: str
) -> None:
    x, types = lattice(5), [1 + i % 2 for i in range(125)]
    case.atoms(x, box(6.0), tilt, types=types)
    epsilons = (1.0, 0.5, 2.0)
    bundles.pair_table(case.folder / "lj", [epsilons])
    start = f"newton {newton}\n" + head("pe pxx pyy pzz pxy pxz pyz")
    start += "velocity all create 1.0 7 loop geom\nfix i all nve\n"
    lj = f"pair_style lj/cut {CUTOFF}\n" + "".join(
        f"pair_coeff {a} {b} {e} 1\n"
        for (a, b), e in zip([(1, 1), (1, 2), (2, 2)], epsilons, strict=True)
    )
    run = "compute p all pressure NULL virial\n" + watch(
        "pe c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6]"
    )
    frames = []
    for model, part in ((lj, "pair"), (force("lj"), "fix")):
        lines = thermo(case.ok(start + model + ATOMS.format(part) + run + "run 20\n", ranks))
        frames.append(case.dump("atoms.dump"))
        check_sums(case, frames[-1][0], lines[0], 216.0)
        check_sums(case, frames[-1][1], lines[1], 216.0)
    for expected, found in zip(*frames, strict=True):
        scale = np.abs(expected[:, 1:]).max(0)
        np.testing.assert_allclose(found[:, 1:] / scale, expected[:, 1:] / scale, atol=1e-9)


def atoms_of(
    strengths: Sequence[float], x: Array, cell: Array, types: Sequence[int]
) -> tuple[Array, Array]:
    """Energies of atoms, and their virials: half of an edge's to each of its ends."""
    D, i, j = bundles.edges(x, cell)
    energies, virials = np.zeros(len(x)), np.zeros((len(x), 6))
    for strength in strengths:
        leaf = D.clone().requires_grad_(True)
        found = ManyBody(strength, types=2)(leaf, i, j, torch.tensor(types))
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
        energies += found.detach().numpy() / len(strengths)
        v = -(D[:, :, None] * gradient[:, None, :]).numpy()[
            :, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
        ]
        for ends in (i, j):
            np.add.at(virials, ends.numpy(), 0.5 * v / len(strengths))
    return energies, virials


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("strengths", [(1.0,), (0.7, 1.2)])
def test_atoms_of_a_torch_model(case: Case, ranks: int, strengths: tuple[float, ...]) -> None:
    x, types = lattice(4), [1 + i % 2 for i in range(64)]
    case.atoms(x, box(4.8), types=types)
    many_body(case.folder / "many", strengths, types=2)
    run = "compute p all pressure NULL virial\n" + watch(
        "pe c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6]"
    )
    script = head() + force("many") + ATOMS.format("fix") + run + "run 0\n"
    line = thermo(case.ok(script, ranks))[0]
    frame = case.dump("atoms.dump")[0]
    check_sums(case, frame, line, 4.8**3)
    energies, virials = atoms_of(strengths, x, 4.8 * np.eye(3), [t - 1 for t in types])
    np.testing.assert_allclose(frame[:, 1], energies, rtol=1e-11)
    np.testing.assert_allclose(-frame[:, 2:], virials, atol=1e-11 * np.abs(virials).max())


def test_atoms_count_only_where_the_fix_was_told_to(case: Case) -> None:
    """Without fix_modify LAMMPS leaves the fix out; with one of the two, only that."""
    case.atoms(lattice(4), box(4.8))
    bundles.pair_table(case.folder / "lj")
    for words, columns in (("", ()), ("energy yes", (1,)), ("virial yes", (2, 3, 4))):
        modify = f"fix_modify m {words}\n" if words else ""
        script = head() + "fix m all mlcore force lj\n" + modify + ATOMS.format("fix") + "run 0\n"
        case.ok(script)
        frame = np.abs(case.dump("atoms.dump")[0]).max(0)
        assert [k for k in range(1, 5) if frame[k] > 0] == list(columns)


# -- virials of external forces and of groups -----------------------------------------------------
class Push(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.3, -0.2, 0.5], dtype=x.dtype) + 0 * x


class Slope(torch.nn.Module):
    """Energy whose force is that of Push."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -(x * torch.tensor([0.3, -0.2, 0.5], dtype=x.dtype)).sum(1)


@pytest.mark.parametrize("gives", ["forces", "energy"])
def test_the_virial_of_external_forces_is_that_of_addforce(case: Case, gives: str) -> None:
    """Unwrapped positions, also of atoms that have crossed the boundary."""
    case.atoms(lattice(3), box(3.6))
    model = Push() if gives == "forces" else Slope()
    told = {"sees": "atoms", "gives": gives, "inputs": ["x"]}
    rows = torch.rand(4, 3, dtype=torch.float64)
    bundles.write(case.folder / "push", "force", told, scripts=[model], examples=(rows,))
    start = head(STRESS.removeprefix("pe etotal ")) + "velocity all create 9.0 7 loop geom\n"
    start += "group some id 2:20\nfix i all nve\n"
    start += "compute s all stress/atom NULL fix\ndump a all custom 20 atoms.dump id c_s[*]\n"
    start += "dump_modify a sort id format float %.17g\n"
    seen, atoms = [], []
    for fix in ("mlcore force push", "addforce 0.3 -0.2 0.5"):
        script = start + f"fix m some {fix}\nfix_modify m virial yes\nrun 100\n"
        seen.append(thermo(case.ok(script, 2)))
        atoms.append(case.dump("atoms.dump")[-1])
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(atoms[0], atoms[1], rtol=1e-9, atol=1e-9)
    assert np.abs(atoms[0][1:20, 1:]).max() > 0.1
    bare = thermo(case.ok(script.replace("fix_modify m virial yes\n", ""), 2))
    assert np.abs(bare - seen[1])[:, 1:].max() > 1e-3


class Pairs(torch.nn.Module):
    """Lennard-Jones of all pairs of the group."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        a, b = torch.triu_indices(n, n, 1)
        square = ((x[a] - x[b]) ** 2).sum(1)
        six = square**-3
        return (4 * (six * six - six)).sum()


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_pressure_of_a_group_in_an_open_box_is_that_of_a_pair_style(
    case: Case, ranks: int
) -> None:
    x = lattice(3) + 3.0
    case.atoms(x, box(10.0))
    told = {"sees": "configuration", "gives": "energy", "inputs": ["x"], "particles": 27}
    bundles.write(case.folder / "c", "force", told, scripts=[Pairs()], examples=(torch.tensor(x),))
    run = "fix i all nve\nrun 40\n"
    lj = "pair_style lj/cut 20.0\npair_coeff 1 1 1 1\n"
    expected = thermo(case.ok(head(STRESS, "f f f") + lj + run))
    output = case.ok(head(STRESS, "f f f") + FORCE.format("c", "") + run, ranks)
    np.testing.assert_allclose(thermo(output), expected, rtol=1e-9, atol=1e-10)
    assert "unwrapped positions" not in output


class Chain(torch.nn.Module):
    """Springs between neighbors in the order of ids, of nearest images in a box of 6."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = x[1:] - x[:-1]
        d = d - 6.0 * torch.round(d / 6.0)
        return ((d * d).sum(1) - 1).pow(2).sum()


def test_the_pressure_of_a_chain_does_not_depend_on_where_it_lies(case: Case) -> None:
    """Across the boundary as in the middle of the box; a fluid gets a warning."""
    chain = np.array([[0.1, 0.2, 0.1], [0.9, 0.5, 0.1], [1.5, 1.1, 0.7], [1.2, 2.1, 0.9]])
    told = {"sees": "configuration", "gives": "energy", "inputs": ["x"], "particles": 4}
    bundles.write(
        case.folder / "c", "force", told, scripts=[Chain()], examples=(torch.tensor(chain),)
    )
    found = []
    for shift in (2.0, 4.6):
        case.atoms(chain + 2.0, box(6.0))
        move = f"displace_atoms all move {shift - 2.0} {shift - 2.0} {shift - 2.0}\n"
        script = head(STRESS) + move + FORCE.format("c", "") + "fix i all nve\nrun 200\n"
        output = case.ok(script, 2)
        assert "unwrapped positions" not in output
        found.append(thermo(output))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-11)
    assert np.abs(found[0][:, 3:]).max() > 1e-3
    case.atoms(chain * 2.0, box(6.0))
    output = case.ok(head(STRESS) + FORCE.format("c", "") + "run 0\n", 2)
    assert "larger than half the periodic box" in output
