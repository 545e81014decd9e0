"""mlcore.ops.neighbor_list: operator checks, derivatives, compilation."""

from __future__ import annotations

from typing import Any

import mlcore
import numpy as np
import pytest

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")

CELL = [[3.0, 0, 0], [0.4, 3.2, 0], [-0.3, 0.2, 3.1]]


def system(n: int = 12, dtype: Any = torch.float64) -> tuple[Any, Any]:
    x = torch.rand((n, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 1
    cell = torch.tensor(CELL, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), cell.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_cell", [True, False])
def test_opcheck(dtype: Any, with_cell: bool) -> None:
    x, cell = system(dtype=dtype)
    pbc = [with_cell] * 3
    arguments = (x, cell if with_cell else None, 1.3, pbc, False, True, True)
    torch.library.opcheck(torch.ops.mlcore.neighbor_list.default, arguments)


@pytest.mark.parametrize("options", [{}, {"half": True}, {"sorted": False}, {"self_pairs": True}])
def test_equals_the_face(options: dict[str, bool]) -> None:
    x, cell = system(40)
    found = ops.neighbor_list(x, 1.2, cell, True, **options)
    rows = cell.detach().numpy()
    expected = mlcore.neighbor_list(
        "ijSDd", x.detach().numpy(), 1.2, rows, True, index_dtype="int64", **options
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b)


def test_first_and_second_derivatives() -> None:
    x, cell = system(8)

    def lengths(x: Any, cell: Any) -> tuple[Any, ...]:
        return ops.neighbor_list(x, 1.6, cell, [True, True, False])[3:]

    assert torch.autograd.gradcheck(lengths, (x, cell))
    assert torch.autograd.gradgradcheck(lengths, (x, cell))


def test_forces_and_stress_of_a_pair_potential() -> None:
    """Energy sum (1 - d / r)^3: forces add to zero, the stress is that of a scaled cell."""
    x, cell = system(20)

    def energy(x: Any, cell: Any) -> Any:
        d = ops.neighbor_list(x, 1.4, cell, True, half=True)[4]
        return ((1 - d / 1.4) ** 3).sum()

    forces, stress = torch.autograd.grad(energy(x, cell), (x, cell))
    assert torch.allclose(forces.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    step = 1e-5
    bent = torch.eye(3, dtype=torch.float64)
    bent[0, 1] += step
    back = torch.eye(3, dtype=torch.float64)
    back[0, 1] -= step
    numeric = (energy(x @ bent, cell @ bent) - energy(x @ back, cell @ back)) / (2 * step)
    exact = (x.t() @ forces + cell.t() @ stress)[0, 1]
    assert torch.allclose(numeric, exact, rtol=1e-6)


def test_derivatives_at_distance_zero_are_finite() -> None:
    x, _ = system(5)
    d = ops.neighbor_list(x, 1.0, self_pairs=True)[4]
    (gradient,) = torch.autograd.grad(d.sum(), x)
    assert torch.isfinite(gradient).all()


def test_traces_with_an_unbacked_number_of_pairs() -> None:
    def degrees(x: Any) -> Any:
        i, _, _, _, d = ops.neighbor_list(x, 1.2)
        return torch.zeros(x.shape[0], dtype=x.dtype).index_add(0, i, d)

    x = system(30)[0].detach()
    exported = torch.export.export(Wrapped(degrees), (x,)).module()
    for scale in (1.0, 0.7):
        assert torch.allclose(exported(scale * x), degrees(scale * x))


class Wrapped(torch.nn.Module):
    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Any) -> Any:
        return self.call(x)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"positions": torch.zeros(2, 3, dtype=torch.int64)}, "positions"),
        ({"positions": torch.full((2, 3), torch.nan)}, "positions"),
        ({"cell": torch.eye(3, dtype=torch.float64)}, "cell"),
        ({"cell": torch.eye(2)}, "cell"),
        ({"pbc": [True]}, "pbc"),
        ({"cutoff": -1.0}, "cutoff"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], names: str) -> None:
    good = {"positions": torch.zeros(2, 3), "cutoff": 1.0, "cell": torch.eye(3) * 5}
    with pytest.raises(mlcore.InvalidArgument, match=names):
        ops.neighbor_list(**{**good, **change})


def test_a_cell_is_a_tensor() -> None:
    with pytest.raises(mlcore.InvalidArgument, match="cell must be a tensor"):
        ops.neighbor_list(torch.rand(4, 3), 1.0, [9.0, 9.0, 9.0], True)
