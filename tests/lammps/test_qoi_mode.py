"""QoI_ML1: array of the fix and files, against the model called in Python."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import masked_models as masked
import numpy as np
import pytest
import torch
import traced_models as models
from lammps_case import Array, Case, dump
from masked_models import MASK, State
from test_bad_input import fails
from test_force_modes import DT, GROUP, PUSH, head, start

BOTH = "INITIAL_INTEGRATE FINAL_INTEGRATE"
THERMO = "thermo 1\nthermo_style custom step f_m[1][1] f_m[3][2] f_m[2][1]\n" + (
    'thermo_modify format float "%.9g"\n'
)


def save(case: Case, n: int, model: models.Function | None = None, **values: object) -> str:
    tags = {"base_name": "q", "base_dir": "out/deep", "qoi_filename": "qoi.pt"}
    tags |= {"mask_fix": "FINAL_INTEGRATE", "mask_input": MASK, **values}
    models.save_traced(model or masked.values(n), 10 * n + 1, case.folder / "qoi.pt")
    return case.parameters("QoI_ML1", **{k: v for k, v in tags.items() if v is not None})


def thermo(output: str) -> Array:
    rows = [line.split() for line in output.splitlines() if re.fullmatch(r"( +-?\d\S*){4} *", line)]
    return np.array(rows, dtype=float)


def expected(first: State, frame: Array, time: float) -> Array:
    state = State(frame[:, 1:4], frame[:, 4:7], frame[:, 7:10], first.types, time).chosen(GROUP)
    out = masked.values(len(GROUP))(masked.column(state, state.wrapped()))
    return np.asarray(out.double().numpy())


def written(case: Case, hook: str, step: int) -> Array:
    root = ET.parse(case.folder / f"out/deep/q__{hook}__0_{step:08d}.xml").getroot()
    tags = {element.tag: element.attrib["value"] for element in root}
    assert tags["base_name"] == "q"
    shape = int(tags["num_rows"]), int(tags["num_cols"])
    return np.array(tags["data"].split(), dtype=float).reshape(shape)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_array_and_files(case: Case, ranks: int) -> None:
    """Known before the first run, right at setup and in a second run; files at each step."""
    first = start(case)
    name = save(case, len(GROUP))
    output = case.ok(
        head()
        + PUSH
        + f"fix move all nve\nfix m some mlmod {name}\n"
        + THERMO
        + dump(1)
        + "run 0\nrun 20\nrun 10\n",
        ranks,
    )
    rows = {int(row[0]): row[1:] for row in thermo(output)}
    frames = case.dump()[-31:]
    assert sorted(rows) == list(range(31))
    for step, row in rows.items():
        right = expected(first, frames[step], step * DT)
        picked = [right[0, 0], right[2, 1], right[1, 0]]
        np.testing.assert_allclose(row, picked, rtol=0, atol=2e-6 * np.abs(right).max())
        if step > 0:
            data = written(case, "final_integrate", step)
            np.testing.assert_allclose(data, right, rtol=0, atol=2e-6 * np.abs(right).max())
            assert np.abs(data[[0, 2, 1], [0, 1, 0]] - row).max() < 1e-8 * np.abs(right).max()
    assert len(list((case.folder / "out/deep").iterdir())) == 30


def test_skip_step_and_hooks(case: Case) -> None:
    start(case)
    name = save(case, len(GROUP), mask_fix=BOTH, skip_step=4)
    output = case.ok(
        head() + PUSH + f"fix move all nve\nfix m some mlmod {name}\n" + THERMO + "run 10\n"
    )
    files = sorted(path.name for path in (case.folder / "out/deep").iterdir())
    assert files == [
        f"q__{hook}_integrate__0_{step:08d}.xml" for hook in ("final", "initial") for step in (4, 8)
    ]
    rows = thermo(output)
    assert (np.diff(rows[:, 1:], axis=0) != 0).any(1).tolist() == [
        step in (4, 8) for step in range(1, 11)
    ]


def test_defaults_and_legacy(case: Case) -> None:
    """base_dir is ./mlmod; legacy shows nothing before its first hook, in the order of memory."""
    start(case)
    name = save(case, len(GROUP), base_dir=None)
    script = head() + PUSH + f"fix move all nve\nfix m some mlmod {name} legacy yes\n" + THERMO
    rows = thermo(case.ok(script + "run 1\n"))
    assert (rows[0, 1:] == 0).all() and (rows[1, 1:] != 0).all()
    assert [path.name for path in (case.folder / "mlmod").iterdir()] == [
        "q__final_integrate__0_00000001.xml"
    ]


def test_in_halt_and_averages(case: Case) -> None:
    """LAMMPS' own commands read the array."""
    start(case)
    name = save(case, len(GROUP), lambda z: z[-1:].reshape(1, 1) + 0 * z[:3, :1].sum())
    output = case.ok(
        head()
        + f"fix move all nve\nfix m some mlmod {name}\nvariable q equal f_m[1][1]\n"
        + f"fix stop all halt 1 v_q >= {7.5 * DT} error continue\n"
        + "fix mean all ave/time 1 4 4 f_m[1] mode vector file mean.txt\n"
        + "run 20\nprint 'stopped at $(step)'\n"
    )
    assert "stopped at 8" in output
    last = (case.folder / "mean.txt").read_text().split()[-1]
    assert float(last) == pytest.approx(np.mean([5, 6, 7, 8]) * DT, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda z: z.sum().reshape(1),
            "Float of shape [1], expected Float of shape [rows, columns]",
        ),
        (lambda z: z.double().reshape(1, -1), "returns Double"),
        (lambda z: z[:0].reshape(0, 1), "shape [0, 1], expected at least one row"),
        (lambda z: torch.log(-1 - z[:2] * z[:2]), "output [0][0] is not finite"),
    ],
)
def test_bad_models(case: Case, model: models.Function, message: str) -> None:
    start(case)
    name = save(case, len(GROUP), model)
    script = head() + f"fix m some mlmod {name}\nrun 1\n"
    fails(case, script, "fix mlmod m: qoi_filename 'qoi.pt'", message, ranks=2)


def test_folder_that_cannot_be_made(case: Case) -> None:
    start(case)
    case.write("file", "here already")
    name = save(case, len(GROUP), base_dir="file/out")
    script = head() + f"fix m some mlmod {name}\nrun 1\n"
    fails(case, script, "fix mlmod m: cannot make the folder 'file/out'", ranks=2)


def test_shape_that_changes_in_a_run(case: Case) -> None:
    class Growing(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.ones(1 + int(z[-1, 0] > 3.5 * 0.005), 2)

    start(case)
    name = save(case, len(GROUP))
    models.save_scripted(Growing(), case.folder / "qoi.pt")
    script = head() + f"fix m some mlmod {name}\nrun 10\n"
    fails(case, script, "returns shape [2, 2], expected [1, 2] as at the start of the run")
