"""Dyn_ML1: against an independent integrator, groups, ranks, boundaries."""

from __future__ import annotations

import masked_models as masked
import numpy as np
import pytest
import torch
import traced_models as models
from lammps_case import Case, dump, system
from masked_models import LENGTH, MASK
from test_bad_input import fails
from test_force_modes import DT, GROUP, PUSH, N, check, head, start
from test_stochastic import box

HOOKS = {
    "INITIAL_INTEGRATE": False,
    "FINAL_INTEGRATE": False,
    "FINAL_INTEGRATE INITIAL_INTEGRATE": True,
}


def save(case: Case, n: int, model: models.Function | None = None, **values: object) -> str:
    tags = {"base_name": "d", "dyn1_filename": "dyn.pt", "dyn2_filename": "dyn.pt"}
    tags |= {"mask_fix": "INITIAL_INTEGRATE FINAL_INTEGRATE", "mask_input": MASK, **values}
    inputs = 10 * n + 1 if tags["mask_input"] == MASK else 6 * n
    models.save_traced(model or masked.one_step(n, DT), inputs, case.folder / "dyn.pt")
    return case.parameters("Dyn_ML1", **tags)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("hooks", HOOKS)
def test_trajectory_of_a_subset_group(case: Case, hooks: str, ranks: int) -> None:
    """Members cross boundaries, are sorted and change ranks; the others are not touched."""
    first = start(case)
    name = save(case, len(GROUP), mask_fix=hooks)
    case.ok(head() + PUSH + f"fix m some mlmod {name}\n" + dump(60) + "run 60\n", ranks)
    model = masked.one_step(len(GROUP), DT)
    last = masked.evolve(first, first.f, model, GROUP, 60, DT, HOOKS[hooks])
    assert np.abs(np.floor(last.x[GROUP] / LENGTH)).sum() >= 2
    check(case.dump()[-1], last)
    others = [i for i in range(N) if i not in GROUP]
    np.testing.assert_array_equal(case.dump()[-1][others, 4:7], first.v[others])


def test_split_runs_and_reset_timestep(case: Case) -> None:
    first = start(case)
    name = save(case, len(GROUP))
    run = head() + PUSH + f"fix m some mlmod {name}\n"
    tail = "write_dump all custom {} id xu yu zu vx vy vz fx fy fz modify format float %.17g\n"
    case.ok(run + "run 40\n" + tail.format("whole"))
    case.ok(run + "run 15\nrun 25\n" + tail.format("split"))
    case.ok(run + "reset_timestep 700\nrun 40\n" + tail.format("later"))
    whole, split, later = (case.dump(k)[0] for k in ("whole", "split", "later"))
    np.testing.assert_allclose(split, whole, rtol=0, atol=2e-6)
    first.time = 700 * DT
    model = masked.one_step(len(GROUP), DT)
    check(later, masked.evolve(first, first.f, model, GROUP, 40, DT, True))


def test_model_that_wraps_keeps_unwrapped_positions_continuous(case: Case) -> None:
    """Whatever image a model returns; legacy takes positions as they come."""
    x = np.array([[5.9, 3.0, 0.1], [2.0, 5.8, 3.0]])
    v = np.array([[3.0, 0.2, -3.0], [0.1, 4.0, 0.0]])

    def wrapping(z: torch.Tensor) -> torch.Tensor:
        moved = z[:6] + DT * z[6:]
        return torch.cat([moved - LENGTH * torch.floor(moved / LENGTH), z[6:]])

    case.atoms(x, box(LENGTH), v=v)
    name = save(case, 2, wrapping, mask_input="V X", mask_fix="INITIAL_INTEGRATE")
    frames = {}
    for words in ("", "legacy yes"):
        case.ok(
            system("p p p", dt=DT) + f"fix m all mlmod {name} {words}\n" + dump(1) + "run 600\n"
        )
        frames[words] = np.array([frame[:, 1:4] for frame in case.dump()])
    expected = x + DT * np.arange(601)[:, None, None] * v
    np.testing.assert_allclose(frames[""], expected, rtol=0, atol=2e-4)
    assert np.abs(np.diff(frames[""], axis=0)).max() < 0.05  # no jump, so the MSD is right
    assert np.abs(np.diff(frames["legacy yes"], axis=0)).max() > LENGTH / 2


def test_two_fixes_on_separate_groups(case: Case) -> None:
    first = start(case, 6)
    one, two = [0, 2, 4], [1, 3, 5]
    name = save(case, 3)
    case.ok(
        system("p p p", dt=DT)
        + PUSH
        + "group a id 1 3 5\ngroup b id 2 4 6\n"
        + f"fix m1 a mlmod {name}\nfix m2 b mlmod {name}\n"
        + dump(30)
        + "run 30\n",
        ranks=2,
    )
    model = masked.one_step(3, DT)
    last = masked.evolve(first, first.f, model, one, 30, DT, True)
    last.time = 0.0
    check(case.dump()[-1], masked.evolve(last, first.f, model, two, 30, DT, True))


def test_hooks_must_be_of_this_mode(case: Case) -> None:
    start(case)
    name = save(case, N, mask_fix="POST_FORCE")
    words = ("<mask_fix> must hold INITIAL_INTEGRATE or FINAL_INTEGRATE", "POST_FORCE")
    fails(case, system("p p p") + f"fix m all mlmod {name}\nrun 1\n", "fix mlmod m:", *words)
