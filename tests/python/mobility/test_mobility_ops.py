"""The torch operators: opcheck, first and second derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import device_named
from mlcore.errors import InvalidArgument
from mlcore.mobility import RPY

torch = pytest.importorskip("torch")

from mlcore.ops import mobility_apply, mobility_matrix  # noqa: E402
from torch_ops import check_gradients, check_operator  # noqa: E402

CELL = [[7.0, 0.3, 0.0], [0.0, 8.0, 0.5], [0.2, 0.0, 9.0]]


def positions(*shape: int) -> torch.Tensor:
    x = np.random.default_rng(5).random((*shape, 3)) * 5 + [0, 0, 1.0]
    return torch.tensor(x, requires_grad=True)


def normal(*shape: int, seed: int = 6) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def table() -> torch.Tensor:
    return normal(4, 6, seed=8)


CASES: dict[str, dict[str, Any]] = {
    "rpy": {"kernel": "rpy", "radius": 0.8, "viscosity": 1.3},
    "oseen": {"kernel": "oseen", "radius": 0.8, "viscosity": 1.3},
    "regularised": {"kernel": "regularized_oseen", "radius": 0.8, "viscosity": 1.3},
    "wall": {"kernel": "rpy_wall", "radius": 0.8, "viscosity": 1.3},
    "unequal": {"kernel": "rpy", "radius": torch.tensor([0.5, 2.0, 0.3, 0.9], dtype=torch.float64)},
    "table": {"kernel": "none", "table": table().detach(), "cutoff": 4.0, "self_mobility": 0.3},
    "periodic": {"kernel": "rpy", "radius": 0.8, "cell": CELL},
    "periodic oseen and table": {
        "kernel": "oseen",
        "cell": CELL,
        "table": table().detach(),
        "cutoff": 4.0,
    },
}
each_case = pytest.mark.parametrize("case", CASES)


@each_case
def test_derivatives_in_positions_and_forces(case: str) -> None:
    options = CASES[case]
    smooth = "table" not in options  # the table's second derivative jumps at knots
    x, forces = positions(4), normal(4, 3)
    check_gradients(lambda x, f: mobility_apply(x, f, **options), (x, forces), second=smooth)
    check_gradients(lambda x: mobility_matrix(x, **options), (x,))


@each_case
def test_derivatives_in_batches(case: str) -> None:
    options = CASES[case]
    x, forces = positions(2, 4), normal(2, 4, 3)
    check_gradients(lambda x, f: mobility_apply(x, f, **options), (x, forces))


OPEN = [(name, None) for name in ("rpy", "oseen", "regularized_oseen", "rpy_wall")]


@pytest.mark.parametrize(("kernel", "cell"), [*OPEN, ("rpy", CELL), ("oseen", CELL)])
def test_derivatives_in_parameters(kernel: str, cell: Any) -> None:
    x, forces = positions(4).detach(), normal(4, 3)
    parameters = (number(0.7), number(1.2), number(0.3), table())

    def options(radius: Any, viscosity: Any, own: Any, knots: Any) -> dict[str, Any]:
        # One splitting whatever the radius: finite differences must not see the tails of the sums.
        return {
            "kernel": kernel,
            "radius": radius,
            "viscosity": viscosity,
            "self_mobility": own,
            "table": knots,
            "cutoff": 4.0,
            "cell": cell,
            "tolerance": 1e-14,
        }

    check_gradients(
        lambda f, *p: mobility_apply(x, f, **options(*p)), (forces, *parameters), atol=1e-5
    )
    check_gradients(lambda *p: mobility_matrix(x, **options(*p)), parameters, atol=1e-5)


def test_derivatives_in_radii() -> None:
    x, forces = positions(4), normal(4, 3)
    radii = torch.tensor([0.5, 2.0, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    check_gradients(lambda x, f, r: mobility_apply(x, f, radius=r), (x, forces, radii))
    check_gradients(lambda x, r: mobility_matrix(x, radius=r), (x, radii))


@pytest.mark.parametrize("case", ["rpy", "unequal", "wall", "periodic oseen and table"])
def test_operators_are_well_behaved(case: str) -> None:
    options = dict(CASES[case])
    cell = options.pop("cell", None)
    rows = [0.0] * 9 if cell is None else [entry for row in cell for entry in row]
    radius = torch.as_tensor(options.get("radius", 1.0), dtype=torch.float64)
    scalars = (radius.requires_grad_(), number(1.3), number(0.2))
    settings = (rows, [cell is not None] * 3, options["kernel"], options.get("cutoff", 0.0), 1e-10)
    rest = (*scalars, options.get("table"), *settings)
    x, forces, other = positions(4), normal(4, 3), normal(4, 3, seed=9)
    plain = [a.detach() for a in (x, forces, other)]
    fixed = (*(s.detach() for s in scalars), options.get("table"), *settings)
    operators = torch.ops.mlcore
    check_operator(operators.mobility_apply.default, [(x, forces, *rest)])
    check_operator(operators.mobility_matrix.default, [(x, *rest)])
    check_operator(
        operators.mobility_matrix_backward.default, [(plain[0], normal(12, 12).detach(), *fixed)]
    )
    check_operator(operators.mobility_apply_backward.default, [(*plain, *fixed)])
    check_operator(operators.mobility_apply_tangent.default, [(*plain, *fixed)])
    check_operator(operators.mobility_apply_hessian.default, [(*plain, plain[1], *fixed)])


def test_same_as_the_plain_face() -> None:
    x, forces = positions(9).detach(), normal(9, 3).detach()
    rpy = RPY(0.8, 1.3)
    options = {"radius": 0.8, "viscosity": 1.3}
    assert torch.equal(mobility_apply(x, forces, **options), rpy.apply(x, forces))
    assert torch.equal(mobility_matrix(x, cell=CELL, **options), rpy.matrix(x, CELL))
    single = mobility_apply(x.float(), forces.float(), **options)
    assert torch.equal(single, rpy.apply(x.float(), forces.float()))
    assert single.dtype == torch.float32


def test_single_precision_has_derivatives() -> None:
    x, forces = positions(9), normal(9, 3)
    x32 = x.detach().float().requires_grad_()
    (exact,) = torch.autograd.grad(mobility_apply(x, forces).sum(), x)
    (got,) = torch.autograd.grad(mobility_apply(x32, forces.detach().float()).sum(), x32)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@each_case
def test_same_on_the_gpu(case: str) -> None:
    device_named("cuda")
    x, forces, options = positions(4), normal(4, 3), CASES[case]

    def derivatives(device: str) -> list[torch.Tensor]:
        inputs = [a.detach().to(device).requires_grad_() for a in (x, forces)]
        velocities = mobility_apply(*inputs, **options)
        matrix = mobility_matrix(inputs[0], **options)
        loss = (velocities**2).sum() + (matrix**2).sum()
        return [velocities, matrix, *torch.autograd.grad(loss, inputs)]

    for here, there in zip(derivatives("cpu"), derivatives("cuda"), strict=True):
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, rtol=1e-8, atol=1e-9)


@pytest.mark.gpu
@each_case
def test_parameters_and_second_derivatives_on_the_gpu(case: str) -> None:
    """More particles than one chunk of partners, in a batch."""
    device_named("cuda")
    x, forces, motion = positions(2, 70), normal(2, 70, 3), normal(2, 70, 3, seed=7).detach()
    options = {"radius": 0.8, "table": table(), "cutoff": 4.0} | CASES[case]
    if case == "unequal":
        options["radius"] = torch.linspace(0.3, 2.0, 70, dtype=torch.float64)
    options = {
        k: v.detach().requires_grad_() if isinstance(v, torch.Tensor) else v
        for k, v in options.items()
    } | {"viscosity": number(1.3), "self_mobility": number(0.2)}
    parameters = [v for v in options.values() if isinstance(v, torch.Tensor)]

    def derivatives(device: str) -> list[torch.Tensor]:
        inputs = [a.detach().to(device).requires_grad_() for a in (x, forces)]
        velocities = mobility_apply(*inputs, **options)
        matrix = mobility_matrix(inputs[0], **options)
        first = torch.autograd.grad(
            (velocities**2).sum() + (matrix**2).sum(), (*inputs, *parameters), retain_graph=True
        )
        fixed = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        (slope,) = torch.autograd.grad(
            mobility_apply(*inputs, **fixed), inputs[0], motion.to(device), create_graph=True
        )
        second = torch.autograd.grad(slope, inputs, motion.to(device))
        return [a.cpu() for a in (*first, *second)]

    for here, there in zip(derivatives("cpu"), derivatives("cuda"), strict=True):
        scale = float(here.abs().max()) + 1
        torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-10 * scale)


def test_training_a_viscosity() -> None:
    """Gradient descent finds the viscosity that made the velocities."""
    x, forces = positions(20).detach(), normal(20, 3).detach()
    seen = mobility_apply(x, forces, viscosity=1.7)
    log = number(0.0)
    for _ in range(60):
        loss = ((mobility_apply(x, forces, viscosity=log.exp()) / seen - 1) ** 2).mean()
        (slope,) = torch.autograd.grad(loss, log)
        log = (log - 0.25 * slope).detach().requires_grad_()
    assert float(log.detach().exp()) == pytest.approx(1.7, rel=1e-5)


def test_what_is_not_known_says_so() -> None:
    x, forces, radius = positions(4), normal(4, 3), number(0.9)
    (slope,) = torch.autograd.grad(
        mobility_apply(x, forces, radius=radius).sum(), x, create_graph=True
    )
    with pytest.raises(NotImplementedError, match="detach radius"):
        slope.sum().backward()
    with pytest.raises(InvalidArgument, match=r"table must have the shape \(4, k\)"):
        mobility_apply(x, forces, table=normal(3, 5))
    with pytest.raises(InvalidArgument, match="viscosity must be a number"):
        mobility_apply(x, forces, viscosity=normal(3))
    with pytest.raises(InvalidArgument, match="kernel must be"):
        mobility_apply(x, forces, kernel="rotne")


@pytest.mark.parametrize("cell", [None, [7.0, 8.0, 9.0], CELL])
def test_compiles_in_one_graph(cell: Any) -> None:
    def energy(x: torch.Tensor, forces: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        velocities = mobility_apply(x, forces, radius=radius, cell=cell)
        return (velocities**2).sum() + mobility_matrix(x, viscosity=radius, cell=cell).sum()

    arguments = (positions(4), normal(4, 3), number(0.8))
    compiled = torch.compile(energy, fullgraph=True, backend="aot_eager")
    got, expected = compiled(*arguments), energy(*arguments)
    torch.testing.assert_close(got, expected)
    for one, other in zip(
        torch.autograd.grad(got, arguments), torch.autograd.grad(expected, arguments), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_compiled_graph_sees_another_cell() -> None:
    compiled = torch.compile(
        lambda x, f, cell: mobility_apply(x, f, cell=cell), fullgraph=True, backend="aot_eager"
    )
    x, forces = positions(4).detach(), normal(4, 3).detach()
    for edge in (10.0, 12.0, 14.0):
        cell = [edge, edge, edge]
        torch.testing.assert_close(compiled(x, forces, cell), mobility_apply(x, forces, cell=cell))
