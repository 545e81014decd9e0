"""T4: how much what a net makes of vectors depends on how the grid lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from bars import Bars, Measured
from mlcore.sagesnet import DenseLattice, Predictor, Symmetry, octahedral
from mlcore.sagesnet.symmetry import averaged, spread
from torch import Tensor

VECTORS = [(1, 2, 3)]
BOX = DenseLattice((6, 6, 6))
STEPS = 6000


def waves(field: Tensor) -> Tensor:
    """A step of a wave of pressure and flow, which steepens: (B, X, Y, Z, 4) -> the same."""
    pressure, flow = field[..., :1], field[..., 1:]
    slopes = [(pressure.roll(-1, a) - pressure.roll(1, a)) / 2 for a in (1, 2, 3)]
    outflow = [(flow.roll(-1, a) - flow.roll(1, a))[..., a - 1 : a] / 2 for a in (1, 2, 3)]
    change = torch.cat([-sum(outflow, torch.zeros_like(pressure)), *(-s for s in slopes)], dim=-1)
    return field + 0.5 * change * (1 + 0.5 * pressure)


def trained(turns: Sequence[Symmetry]) -> Predictor:
    """On waves that flow along x mostly."""
    torch.manual_seed(0)
    net = Predictor(4, width=48, messages=24)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    decline = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        field = torch.randn(4, *BOX.extents, 4, generator=generator)
        field = field * torch.tensor([1.0, 1.0, 0.1, 0.1])
        after = waves(field)
        turn = turns[int(torch.randint(len(turns), (), generator=generator))]
        field, after = turn.field(field, VECTORS), turn.field(after, VECTORS)
        optimizer.zero_grad()
        (net(field, BOX) - after).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decline.step()
    return net


def augmentation() -> Iterator[Measured]:
    """Nets trained on fields as they are, and turned every way."""
    test = torch.randn(1, *BOX.extents, 4, generator=torch.Generator().manual_seed(2))
    for name, turns, most in (("as it is", octahedral()[:1], None), ("turned", octahedral(), 0.05)):
        net = trained(turns)

        def change(field: Tensor, net: Predictor = net) -> Tensor:
            return net(field, BOX) - field  # type: ignore[no-any-return]

        wanted = waves(test) - test
        with torch.no_grad():
            error = float((change(test) - wanted).norm() / wanted.norm())
        off = spread(change, test, vectors=VECTORS)
        yield Measured(f"trained {name}: spread of changes over the 48", off, most=most)
        yield Measured(f"trained {name}: error of changes, any direction", error)
        mean = spread(averaged(change, vectors=VECTORS), test, vectors=VECTORS)
        yield Measured(f"trained {name}, averaged over the 48", mean, most=1e-5)


def shared_weights() -> Iterator[Measured]:
    """Predictors whose weights are shared by cells that turns take to each other."""
    torch.manual_seed(3)
    for kernel in (3, 5):
        net = Predictor(32, layers=2, kernel=kernel, symmetric=True)
        for layer in net.layers:
            torch.nn.init.normal_(layer.update.weight, std=0.1)  # type: ignore[union-attr, arg-type]
        field = torch.randn(1, 8, 8, 8, 32)
        lattice = DenseLattice((8, 8, 8))
        off = spread(lambda h, net=net, lattice=lattice: net(h, lattice), field)
        yield Measured(f"kernel {kernel}, 2 layers: spread over the 48", off, most=1e-5)


bars: Bars = {"symmetry augmentation": augmentation, "symmetry shared weights": shared_weights}
