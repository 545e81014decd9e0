"""mlcore.ops.pair_energy and pair_force: operator checks and derivatives."""

from __future__ import annotations

from typing import Any

import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from mlcore.dynamics import Harmonic, LennardJones, system_forces
from mlcore.errors import InvalidArgument

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")

OPEN = (1.2, 0.9, float("inf"), 0.0, 0.7)
CUT = (1.2, 0.9, 2.0, 0.0, 0.0)
BOX = (1.0, 1.1, 2.4, 5.0, 0.0)
TIGHT = (1.0, 1.0, 2.2, 3.1, 0.3)
NAMES = ("epsilon", "sigma", "cutoff", "box", "trap")


def places(replicas: int = 2, n: int = 5, d: int = 3) -> Any:
    rng = np.random.default_rng(3)
    side = int(np.ceil(n ** (1 / d)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * d, indexing="ij"), -1).reshape(-1, d)[:n]
    x = 1.15 * grid + 0.05 * rng.standard_normal((replicas, n, d))
    return torch.from_numpy(x).requires_grad_()


@pytest.mark.parametrize("parameters", [OPEN, CUT, BOX, TIGHT])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_values(parameters: Any, d: int) -> None:
    x = places(d=d, n=3 if d == 1 else 8)
    options = dict(zip(NAMES, parameters, strict=True))
    energy, force = ops.pair_energy(x, **options), ops.pair_force(x, **options)
    epsilon, sigma, cutoff, box, trap = parameters
    forces = [LennardJones(sigma, epsilon, cutoff), Harmonic(trap)]
    together = system_forces(forces, x.detach(), box=box or None)
    assert torch.equal(together[0], energy.detach()) and torch.equal(together[1], force.detach())
    for r in range(len(x)):
        want_energy, want = mlcore.reference.system_forces(
            forces, x[r].detach().numpy(), box or None
        )
        assert energy[r].item() == pytest.approx(want_energy, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(force[r].detach().numpy(), want, rtol=1e-10, atol=1e-11)
        alone = system_forces(forces, x[r].detach().numpy(), box=box or None)
        assert alone[0] == energy[r].item() and np.array_equal(alone[1], force[r].detach().numpy())


def test_many_particles() -> None:
    x = places(1, 200)
    for parameters in (CUT, (1.0, 1.0, 2.2, 6.9, 0.0)):
        options = dict(zip(NAMES, parameters, strict=True))
        epsilon, sigma, cutoff, box, _ = parameters
        want = mlcore.reference.system_forces(
            LennardJones(sigma, epsilon, cutoff), x[0].detach().numpy(), box or None
        )
        np.testing.assert_allclose(
            ops.pair_force(x, **options)[0].detach().numpy(), want[1], rtol=1e-9, atol=1e-9
        )
        assert ops.pair_energy(x, **options).item() == pytest.approx(want[0])
        g = torch.randn_like(x)
        (product,) = torch.autograd.grad(ops.pair_force(x, **options), x, g)
        h = 1e-6
        up, down = (ops.pair_force((x + s * h * g).detach(), **options) for s in (1, -1))
        torch.testing.assert_close(product, (up - down) / (2 * h), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("parameters", [OPEN, CUT, BOX, TIGHT])
def test_derivatives(parameters: Any) -> None:
    options = dict(zip(NAMES, parameters, strict=True))
    x = places(1, 4)
    assert torch.autograd.gradcheck(lambda y: ops.pair_energy(y, **options), x)
    assert torch.autograd.gradgradcheck(lambda y: ops.pair_energy(y, **options), x)
    assert torch.autograd.gradcheck(lambda y: ops.pair_force(y, **options), x)
    g = torch.randn_like(x, requires_grad=True)
    matrix = torch.ops.mlcore.pair_force_gradient.default
    assert torch.autograd.gradcheck(lambda w: matrix(x.detach(), w, *parameters), g)
    with pytest.raises(NotImplementedError, match="third derivatives"):
        matrix(x, g, *parameters).sum().backward()


@pytest.mark.parametrize("parameters", [OPEN, BOX])
def test_opcheck(parameters: Any) -> None:
    x = places()
    for name in ("pair_energy", "pair_force"):
        torch.library.opcheck(getattr(torch.ops.mlcore, name).default, (x, *parameters))
    torch.library.opcheck(
        torch.ops.mlcore.pair_force_gradient.default,
        (x.detach(), torch.randn_like(x, requires_grad=True), *parameters),
    )


def test_errors() -> None:
    x = places().detach()
    with pytest.raises(InvalidArgument, match="sigma must be positive"):
        ops.pair_energy(x, sigma=0.0)
    with pytest.raises(InvalidArgument, match="need a cutoff"):
        ops.pair_force(x, box=5.0)
    with pytest.raises(InvalidArgument, match="x must be finite"):
        ops.pair_force(x * float("nan"))
    with pytest.raises(InvalidArgument, match="x must be float64"):
        ops.pair_force(x.float())
    with pytest.raises(InvalidArgument, match=r"x must have the shape \(n, d\)"):
        system_forces((), np.zeros(3))
    meta = torch.empty((1, 2, 3), device="meta", dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="x must lie on the CPU, or be"):
        system_forces((), meta)


@pytest.mark.gpu
@pytest.mark.parametrize("parameters", [OPEN, CUT, BOX])
@pytest.mark.parametrize("d", [2, 3])
def test_same_on_the_gpu(parameters: Any, d: int) -> None:
    device_named("cuda")
    options = dict(zip(NAMES, parameters, strict=True))
    x = places(d=d).detach()
    g = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape)

    def results(device: str) -> list[torch.Tensor]:
        at, weight = x.to(device).requires_grad_(), g.to(device)
        energy = ops.pair_energy(at, **options)
        (slope,) = torch.autograd.grad(energy.sum(), at, create_graph=True)
        (turn,) = torch.autograd.grad(slope, at, weight)
        return [energy, slope, turn]

    for here, there in zip(results("cpu"), results("cuda"), strict=True):
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, rtol=1e-10, atol=1e-10)
