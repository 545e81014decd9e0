"""Models called for many rows at once, and recorded when a number of rows comes again: each operation,
mixed precision, and models that must not be recorded, against single calls of the same function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import traced_models as models
from lammps_case import Case, close, dump, system
from test_deterministic import scattered
from test_stochastic import box


def row(z: torch.Tensor) -> torch.Tensor:
    return z[:, 0]


def arithmetic(z: torch.Tensor) -> torch.Tensor:
    x = row(z) - 3.0
    even = torch.where(x[0] > x[1], x * 2 - 1, 1 / (x * x + 0.5))
    odd = torch.where(x <= 0.25, -x, torch.abs(x) / 3)
    bound = torch.clamp(x, -0.5, 0.75) + torch.clamp(x, min=0.1) - torch.clamp(x, max=0.2)
    return (even + odd + bound + 0.1 * x**2).reshape(3, 1)


def functions(z: torch.Tensor) -> torch.Tensor:
    x = row(z) / 4
    parts = [torch.sin(x), torch.cos(x), torch.exp(-x), torch.tanh(x), torch.log(x), torch.sqrt(x)]
    return torch.stack(parts).sum(0).unsqueeze(1)


def moved(z: torch.Tensor) -> torch.Tensor:
    x = row(z)
    table = torch.outer(x, torch.roll(x, 1)) + torch.cat([x, x, x]).view(3, 3).t()
    return (table.sum(1) - table.flip(0).sum(0, keepdim=True).squeeze(0))[[2, 0, 1]].reshape(3, 1)


def stretched(z: torch.Tensor) -> torch.Tensor:
    x = row(z)
    table = x.unsqueeze(0).expand(2, 3).permute(1, 0).contiguous() * torch.tensor([1.0, 0.5])
    return table.sum(dim=-1, keepdim=True) - x.detach().clone().unsqueeze(1).repeat(1, 2)[:, :1]


def double_inside(z: torch.Tensor) -> torch.Tensor:
    """Single precision would leave no digit of the difference."""
    x = row(z).double() + 1e7
    return ((x - 1e7) * math.pi).float().reshape(3, 1)


def double_constants(z: torch.Tensor) -> torch.Tensor:
    d = (row(z) * row(z)).sum()
    return (1 - torch.tensor(0.1, dtype=torch.float64) / d) * torch.ones(3, 1)


def perceptron(z: torch.Tensor) -> torch.Tensor:
    w = torch.linspace(-1, 1, 48).reshape(16, 3)
    return w.t() @ torch.tanh(w @ z)


WHOLE = [
    arithmetic,
    functions,
    moved,
    stretched,
    double_inside,
    double_constants,
    perceptron,
]


# Often enough to be recorded, and then with other inputs.
MOVE = 0.01
COME_AGAIN = f"run 6\ndisplace_atoms all move {MOVE} {MOVE} {MOVE}\nrun 1\n"


class NumberOfTheData(torch.nn.Module):
    """Recorded with one input, it would give that input's number for all."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return float(z[0, 0]) * torch.ones(3, 1)


@pytest.mark.parametrize("count", [1, 7, 64, 65])
def test_every_operation(case: Case, count: int) -> None:
    """Also where the last atoms fill a part of a vector."""
    x = scattered(count, 9.0)
    case.atoms(x, box(9))
    script = system("p p p")
    for model in WHOLE:
        name = model.__name__
        models.save_traced(model, 3, case.folder / f"{name}.pt")
        words = {"mask_fix": "POST_FORCE", "mask_input": "X", "F_filename": f"{name}.pt"}
        xml = case.parameters("F_X_ML1", f"{name}.xml", base_name="m", base_dir="out", **words)
        script += f"fix {name} all mlmod {xml}\n" + dump(1, f"{name}.dump")
        script += f"{COME_AGAIN}unfix {name}\nundump d\n"
    output = case.ok(script)
    assert "one input at a time" not in output
    for number, model in enumerate(WHOLE):
        rows = torch.tensor(np.mod(x + MOVE * (number + 1), 9), dtype=torch.float32)
        expected = torch.stack([model(one.reshape(3, 1))[:, 0] for one in rows])
        close(case.dump(f"{model.__name__}.dump")[-1][:, 7:10], expected.double().numpy())


def test_numbers_of_the_data_are_not_recorded(case: Case) -> None:
    x = scattered(20, 6.0)
    case.atoms(x, box(6))
    models.save_scripted(NumberOfTheData(), case.folder / "F.pt")
    words = {"mask_fix": "POST_FORCE", "mask_input": "X", "F_filename": "F.pt"}
    name = case.parameters("F_X_ML1", base_name="m", base_dir="out", **words)
    case.ok(system("p p p") + f"fix m all mlmod {name}\n" + dump() + COME_AGAIN)
    close(case.dump()[-1][:, 7:10], np.repeat(x[:, :1] + MOVE, 3, 1))


def test_batches_that_come_again_and_change(case: Case) -> None:
    """Some batch sizes are recorded while others go on beside."""
    steps, sizes = 6, [5, 9, 5, 12, 7, 9]
    x = scattered(12, 6.0)
    case.atoms(x, box(6))

    def long(z: torch.Tensor) -> torch.Tensor:
        w = torch.linspace(-1, 1, 192).reshape(64, 3)
        return w.t() @ torch.sin(w @ z)

    models.save_traced(long, 3, case.folder / "F.pt")
    words = {"mask_fix": "POST_FORCE", "mask_input": "X", "F_filename": "F.pt"}
    name = case.parameters("F_X_ML1", base_name="m", base_dir="out", **words)
    script = system("p p p") + "variable size equal 12\nvariable in atom id<=v_size\n"
    script += f"group some dynamic all var in every 1\nfix m some mlmod {name}\n" + dump(steps)
    for size in sizes:
        script += f"variable size equal {size}\nrun {steps}\n"
    case.ok(script)
    rows = torch.tensor(x, dtype=torch.float32)
    expected = torch.stack([long(one.reshape(3, 1))[:, 0] for one in rows]).double().numpy()
    frames = case.dump()
    for k, size in enumerate(sizes):
        close(frames[k + 1][:size, 7:10], expected[:size])
        np.testing.assert_array_equal(frames[k + 1][size:, 7:10], 0)
