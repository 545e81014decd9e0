"""fix mlcore qoi: values against Python, read by thermo, variables, fix halt and dumps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Case
from test_native_force import box, fails, force, head, lattice, thermo, watch
from written_bundles import CUTOFF


class Coordination(torch.nn.Module):
    """Two smooth counts of neighbors for each atom."""

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(
        self, D: torch.Tensor, i: torch.Tensor, j: torch.Tensor, types: torch.Tensor
    ) -> torch.Tensor:
        w = (1 - (D * D).sum(1) / CUTOFF**2).clamp(min=0.0) ** self.power
        both = torch.stack([w, w * (1 + types[j])], 1)
        return torch.zeros(types.shape[0], 2, dtype=D.dtype).index_add(0, i, both)


class Gyration(torch.nn.Module):
    """Gyration tensor (3,3), or its trace."""

    def __init__(self, trace: bool) -> None:
        super().__init__()
        self.trace = trace

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        d = x - x.mean(0)
        tensor = d.T @ d / x.shape[0] + time
        return torch.trace(tensor)[None] if self.trace else tensor


def coordination(case: Case, reduce: str, powers: tuple[float, ...] = (2.0,)) -> None:
    told: dict[str, Any] = {"sees": "neighbors", "gives": "values", "cutoff": CUTOFF, "types": 2}
    told |= {"shape": [2], "reduce": reduce}
    scripts = [Coordination(p) for p in powers]
    examples = bundles.neighbor_examples()
    bundles.write(case.folder / "cn", "qoi", told, scripts=scripts, examples=examples)


@pytest.mark.parametrize("ranks", [1, 3, 4])
@pytest.mark.parametrize("reduce", ["mean", "sum", "none"])
def test_values_of_neighbors(case: Case, reduce: str, ranks: int) -> None:
    x, types = lattice(4), [1 + i % 3 % 2 for i in range(64)]
    case.atoms(x, box(4.8), types=types)
    powers = (2.0, 3.0)
    coordination(case, reduce, powers)
    D, i, j = bundles.edges(x, 4.8 * np.eye(3))
    kinds = torch.tensor(types) - 1
    each = np.array([Coordination(p)(D, i, j, kinds).numpy() for p in powers])
    script = head() + "fix m all mlcore qoi cn\n"
    if reduce == "none":
        script += "dump d all custom 1 out.dump id f_m[1] f_m[2]\n"
        script += "dump_modify d sort id format float %.17g\n" + watch("f_m[1] f_m[2]")
        spread = np.sqrt(((each - each.mean(0)) ** 2).sum(2).mean(0))
        found = thermo(case.ok(script + "run 0\n", ranks))[0, 1:]
        np.testing.assert_allclose(found, [spread.max(), spread.mean()], rtol=1e-12)
        np.testing.assert_allclose(case.dump()[0][:, 1:], each.mean(0), rtol=1e-12)
        return
    script += watch("f_m f_m[1] f_m[2] f_m[3] f_m[4]") + "run 0\n"
    whole = each.mean(1) if reduce == "mean" else each.sum(1)
    found = thermo(case.ok(script, ranks))[0, 1:]
    expected = [whole[:, 0].mean(), *whole.mean(0), *whole.std(0)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_table_of_summands(case: Case) -> None:
    """s(r) = (1 - r/rc)^2, counted once for each neighbor."""
    x = lattice(4)
    case.atoms(x, box(4.8))
    r = np.linspace(0.3, CUTOFF, 4001)
    tensors = {"m0.energy": (1 - r / CUTOFF)[None] ** 2}
    tensors["m0.slope"] = -2 * (1 - r / CUTOFF)[None] / CUTOFF
    told = {"sees": "neighbors", "gives": "values", "cutoff": CUTOFF, "shape": [1]}
    native = {"kind": "pair_table", "first": 0.3, "knots": 4001}
    bundles.write(
        case.folder / "s", "qoi", {**told, "reduce": "mean"}, native=native, tensors=tensors
    )
    D, _, _ = bundles.edges(x, 4.8 * np.eye(3))
    expected = float(((1 - torch.linalg.norm(D, dim=1) / CUTOFF) ** 2).sum() / 64)
    script = head() + "fix m all mlcore qoi s\n" + watch("f_m") + "run 0\n"
    np.testing.assert_allclose(thermo(case.ok(script, 2))[0, 1], expected, rtol=1e-11)


@pytest.mark.parametrize("ranks", [1, 2])
def test_values_of_a_configuration_every_few_steps(case: Case, ranks: int) -> None:
    x = lattice(3)
    case.atoms(x, box(3.6))
    rows, time = torch.rand(5, 3, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    told = {"sees": "configuration", "gives": "values", "inputs": ["x", "time"]}
    for name, trace in (("tensor", False), ("trace", True)):
        shape = {"shape": [1] if trace else [3, 3]}
        bundles.write(
            case.folder / name,
            "qoi",
            {**told, **shape},
            scripts=[Gyration(trace)],
            examples=(rows, time),
        )
    script = head(boundary="f f f") + "velocity all create 1 7 loop geom\nfix i all nve\n"
    script += "fix a all mlcore qoi tensor every 5\nfix b all mlcore qoi trace every 5\n"
    script += "variable s equal f_a[1][1]+f_a[2][2]+f_a[3][3]\nthermo 5\n"
    script += "dump d all custom 5 out.dump id x y z\ndump_modify d sort id format float %.17g\n"
    script += watch("f_a[1][2] f_a[3][1] f_b f_b[1] v_s") + "run 10\nrun 5\n"
    lines = thermo(case.ok(script, ranks))
    for line, frame in zip(lines, case.dump()[-2:], strict=True):
        now = torch.tensor(line[0] * 0.002, dtype=torch.float64)
        tensor = Gyration(False)(torch.tensor(frame[:, 1:4]), now).numpy()
        trace = np.trace(tensor)
        expected = [
            tensor[0, 1],
            tensor[2, 0],
            trace - 2 * float(now),
            trace - 2 * float(now),
            trace,
        ]
        expected[2] = expected[3] = Gyration(True)(torch.tensor(frame[:, 1:4]), now).item()
        np.testing.assert_allclose(line[1:], expected, rtol=1e-12)


def test_a_run_halts_on_a_value(case: Case) -> None:
    case.atoms(lattice(4, shake=0.02), box(4.8))
    coordination(case, "mean")
    bundles.pair_table(case.folder / "lj", [(1.0, 1.0, 1.0)])
    script = head() + force("lj") + "velocity all create 3 7\nfix i all nve\n"
    script += "fix q all mlcore qoi cn every 2\n" + watch("f_q") + "thermo 2\n"
    script += "variable limit equal {}\n"
    script += (
        "variable now equal f_q\nfix h all halt 2 v_now > ${{limit}} error continue message no\n"
    )
    free = thermo(case.ok(script.format(1e9) + "run 40\n"))
    limit = float(np.sort(free[:, 1])[len(free) // 2])
    first = free[np.nonzero(free[1:, 1] > limit)[0][0] + 1, 0]
    halted = thermo(case.ok(script.format(repr(limit)) + "run 40\n", 2))
    assert halted[-1, 0] == first < 40


def test_wrong_words(case: Case) -> None:
    case.atoms(lattice(3), box(3.6))
    coordination(case, "mean")
    start = head() + "fix m all mlcore qoi cn {}\nrun 0\n"
    fails(case, start.format("every 0"), "'every' needs a whole number from 1")
    fails(case, start.format("psd repair"), "unknown keyword 'psd' for mode qoi")
    fails(case, start.format("\nthermo_style custom step f_m[3]"), "f_m[3]")
