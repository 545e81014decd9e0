"""Every operation on a GPU, on torch arrays there, beside torch's own operators and nvalchemi.

    python bench/gpu.py [--only voxels] [--quick] [--json FILE]

Times are wall times from the first call until the GPU is done, over several calls where one is
short. Limits are rates measured there: memory is that of a copy, arithmetic that of a matrix product
without TF32. "it / limit" is one over the fraction of that ceiling. Without a GPU there are no rows.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main
from mlcore import _core

Call = Callable[[], Any]


@dataclass
class Device:
    """Where the arrays are: "cuda", or "cpu" for a try without a GPU."""

    name: str
    quick: bool = False

    def put(self, array: Any) -> Any:
        import torch

        return torch.as_tensor(np.ascontiguousarray(array), device=self.name)

    def done(self) -> None:
        import torch

        if self.name == "cuda":
            torch.cuda.synchronize()

    def case(
        self,
        workload: str,
        calls: Mapping[str, Call],
        *,
        moved: float = 0,
        flops: float = 0,
        single: bool = True,
        repeat: int = 1,
        note: str = "",
    ) -> Case:
        """Bytes moved or operations, of single or double precision, set the limit."""
        arithmetic = flops / self.rates["gemm32" if single else "gemm64"]
        bandwidth = moved / self.rates["copy"]
        by_memory = bandwidth >= arithmetic
        return Case(
            workload,
            {name: self.several(call, repeat) for name, call in calls.items()},
            limit=max(arithmetic, bandwidth) or None,
            scale=repeat,
            elsewhere=self.name != "cpu",
            amount=moved if by_memory else flops,
            unit="B" if by_memory else "flop",
            note=note,
        )

    def several(self, call: Call, repeat: int) -> Call:
        def run() -> None:
            for _ in range(repeat):
                call()
            self.done()

        return run

    @cached_property
    def rates(self) -> dict[str, float]:
        """Bytes and operations per second, measured here."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        source = torch.ones(1 << (22 if self.quick else 28), device=self.name)
        rates = {"copy": 2 * source.nbytes / self.best(source.clone)}
        order = 512 if self.quick else 8192
        for name, dtype in (("gemm32", torch.float32), ("gemm64", torch.float64)):
            a = torch.rand(order, order, dtype=dtype, device=self.name)
            rates[name] = 2 * order**3 / self.best(lambda a=a: a @ a)
        return rates

    def best(self, call: Call) -> float:
        def once() -> float:
            start = time.perf_counter()
            call()
            self.done()
            return time.perf_counter() - start

        call()
        return min(once() for _ in range(5))


def neighbors(device: Device) -> Iterator[Case]:
    from mlcore.neighbors import neighbor_csr
    from neighbors import CUTOFF, liquid

    for n in (1_000,) if device.quick else (1_000, 10_000, 100_000, 1_000_000):
        system = liquid(n)
        x, where = device.put(system.x), (CUTOFF, system.cell, system.pbc)
        calls: dict[str, Call] = {
            "mlcore": lambda x=x, where=where: mlcore.neighbor_list("ijSDd", x, *where),
            "mlcore rows of j": lambda x=x, where=where: neighbor_csr(x, *where, quantities="j"),
        }
        if installed("nvalchemiops"):
            calls["nvalchemi"] = nvalchemi_list(system, x)
        moved = system.pairs * (2 * 4 + 3 * 4 + 3 * 8 + 8) + 24 * n
        yield device.case(f"neighbors lj N={n:.0e}", calls, moved=moved, repeat=5)
        yield moving(device, system, n)


def moving(device: Device, system: Any, n: int) -> Case:
    """Steps of a list that need no search, beside a search in each."""
    from neighbors import CUTOFF, SKIN

    cutoff, box = CUTOFF - SKIN, (system.cell, system.pbc)
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, *system.x.shape))
    steps = itertools.cycle([device.put(system.x + move) for move in noise])
    neighbors = mlcore.NeighborList(cutoff, SKIN)

    def step() -> Any:
        neighbors.update(next(steps), *box)
        return neighbors.get("ijSDd")

    calls: dict[str, Call] = {
        "mlcore": step,
        "mlcore, a search each": lambda: mlcore.neighbor_list("ijSDd", next(steps), cutoff, *box),
    }
    kept = system.pairs
    pairs = kept * (cutoff / CUTOFF) ** 3
    moved = 2 * 8 * kept + pairs * (8 + 2 * 4 + 3 * 4 + 3 * 8 + 8) + 2 * 24 * n
    return device.case(f"neighbors kept N={n:.0e}", calls, moved=moved, repeat=10)


def nvalchemi_list(system: Any, x: Any) -> Call:
    import torch
    from nvalchemiops.torch.neighbors import neighbor_list

    cell = torch.tensor(system.cell, device=x.device)[None]
    pbc = torch.tensor([system.pbc], device=x.device)
    width = int(system.pairs / system.n * 1.4) + 16
    return lambda: neighbor_list(
        x, system.cutoff, cell=cell, pbc=pbc, method="cell_list", max_neighbors=width
    )


def voxels(device: Device) -> Iterator[Case]:
    from voxels import ORDERS, C, nvalchemi_spread, torch_gather, torch_spread

    n, g = (10_000, 32) if device.quick else (1_000_000, 128)
    rng = np.random.default_rng(3)
    u, f = device.put(rng.random((n, 3)) * g), device.put(rng.standard_normal((n, C)).astype("f4"))
    grid, last = mlcore.VoxelGrid(g, (g, g, g)), {"layout": "channels_last"}
    whole = device.put(rng.standard_normal((g, g, g, C)).astype("f4"))
    points = n * (24 + 4 * C)
    for scheme, order in ORDERS.items():
        spreads: dict[str, Call] = {
            "mlcore": lambda s=scheme: mlcore.rasterize(grid, u, f, s, **last),
            "torch index_add_": torch_spread(u, f, g, order),
        }
        if installed("nvalchemiops") and order > 1:
            spreads["nvalchemi"] = nvalchemi_spread(u, f, g, order)
        moved = points + 2 * whole.nbytes
        yield device.case(f"spread {scheme} N={n:.0e} {g}^3", spreads, moved=moved, repeat=5)
        gathers: dict[str, Call] = {
            "mlcore": lambda s=scheme: mlcore.gather(grid, whole, u, s, **last)
        }
        if scheme == "cic":
            gathers["torch grid_sample"] = torch_gather(u, whole, g)
        moved = points + whole.nbytes
        yield device.case(f"gather {scheme} N={n:.0e} {g}^3", gathers, moved=moved, repeat=5)


def stencil(device: Device) -> Iterator[Case]:
    import torch
    from torch.nn import functional

    g = 16 if device.quick else 128
    for channels in (8, 16, 32):
        rng = np.random.default_rng(0)
        first = device.put(rng.standard_normal((1, channels, g, g, g)).astype("f4"))
        last = first.permute(0, 2, 3, 4, 1).contiguous()
        weight = device.put(rng.standard_normal((channels, channels, 3, 3, 3)).astype("f4"))
        calls: dict[str, Call] = {
            "mlcore": lambda f=last, w=weight: mlcore.conv3d(f, w, layout="channels_last"),
            "mlcore channels first": lambda f=first, w=weight: mlcore.conv3d(f, w),
            "torch pad+conv": lambda f=first, w=weight: functional.conv3d(
                functional.pad(f, (1,) * 6, mode="circular"), w
            ),
        }
        flops, moved = 2 * 27 * channels**2 * g**3, 2 * first.nbytes
        yield device.case(f"conv3d {g}^3 C={channels}", calls, flops=flops, moved=moved, repeat=5)
    scalar = torch.rand(g, g, g, dtype=torch.float64, device=device.name)
    calls = {"mlcore": lambda: mlcore.laplacian(scalar, order=6)}
    yield device.case(f"laplacian order 6 {g}^3", calls, moved=2 * scalar.nbytes, repeat=20)


def stencil_active(device: Device) -> Iterator[Case]:
    from stencil_active import Workload

    for grid, channels, share in (
        ((16, 16, 0.1),) if device.quick else ((64, 16, 0.1), (64, 32, 0.05))
    ):
        work = Workload.make(grid, channels, share, "blob")
        active = mlcore.ActiveSet((grid,) * 3, device.put(work.coordinates))
        features, weight = device.put(work.features), device.put(work.weight)
        products = float((mlcore.ActiveSet((grid,) * 3, work.coordinates).neighbors(3) >= 0).sum())
        calls: dict[str, Call] = {
            "mlcore": lambda a=active, f=features, w=weight: mlcore.conv3d_active(a, f, w)
        }
        name, flops = f"conv3d_active {grid}^3 C={channels} {share:.0%}", 2 * products * channels**2
        yield device.case(name, calls, flops=flops, moved=2 * features.nbytes, repeat=20)


def mobility(device: Device) -> Iterator[Case]:
    from mlcore.mobility import RPY
    from mobility import configuration

    rpy = RPY(1.0, 1.0)
    n = 200 if device.quick else 4000
    x = device.put(configuration(n)[0])
    calls: dict[str, Call] = {
        "mlcore": lambda: rpy.matrix(x),
        "torch dense": lambda: torch_rpy(x),
    }
    yield device.case(f"RPY matrix n={n}", calls, moved=72 * n * n, repeat=5)
    n = 200 if device.quick else 20_000
    for dtype in ("f8", "f4"):
        y = device.put(configuration(n)[0].astype(dtype))
        f = device.put(np.random.default_rng(6).standard_normal((n, 3)).astype(dtype))
        precision = "float64" if dtype == "f8" else "float32"
        calls = {"mlcore": lambda y=y, f=f: rpy.apply(y, f)}
        name = f"RPY M.F n={n} {precision}"
        yield device.case(name, calls, flops=40.0 * n * n, single=dtype == "f4", repeat=5)


def torch_rpy(x: Any) -> Any:
    """The matrix (3n, 3n) of unit spheres in a fluid of viscosity 1."""
    import torch

    n, unit = len(x), torch.eye(3, dtype=x.dtype, device=x.device)
    d = x[:, None] - x[None]
    r = d.square().sum(-1).sqrt()
    s = 1 / torch.where(r > 0, r, 1)
    far = r > 2
    along = torch.where(far, (0.75 - 1.5 * s**2) * s**3, 0.09375 * s)
    across = torch.where(far, (0.75 + 0.5 * s**2) * s, 1 - 0.28125 * r)
    blocks = across[..., None, None] * unit + along[..., None, None] * (
        d[..., None] * d[..., None, :]
    )
    return blocks.permute(0, 2, 1, 3).reshape(3 * n, 3 * n) / (6 * np.pi)


def noise(device: Device) -> Iterator[Case]:
    import torch
    from mlcore.mobility import RPY
    from mlcore.noise import cholesky, sqrt_apply
    from mobility import configuration

    rpy = RPY(1.0, 1.0)
    for n in (100,) if device.quick else (1000, 4000):
        x = device.put(configuration(n)[0])
        z = device.put(np.random.default_rng(5).standard_normal((n, 3)))
        matrix = rpy.matrix(x)
        for dtype in (torch.float64, torch.float32):
            name, one = str(dtype).removeprefix("torch."), matrix.to(dtype)
            calls: dict[str, Call] = {
                "mlcore": lambda a=one, p=name: cholesky(a, precision=p),
                "torch": lambda a=one: torch.linalg.cholesky(a),
            }
            single = dtype == torch.float32
            what = f"cholesky m={3 * n} {name}"
            yield device.case(what, calls, flops=(3 * n) ** 3 / 3, single=single)
        calls = {
            "mlcore": lambda x=x, z=z: sqrt_apply(rpy, x, z, method="cholesky"),
            "torch cholesky": lambda x=x, z=z: torch.linalg.cholesky(torch_rpy(x)) @ z.reshape(-1),
        }
        yield device.case(f"noise cholesky n={n}", calls, flops=(3 * n) ** 3 / 3, single=False)
        calls = {
            f"mlcore{'' if method == 'lanczos' else ' ' + method}": (
                lambda x=x, z=z, m=method: sqrt_apply(rpy, x, z, method=m, tol=1e-3)
            )
            for method in ("lanczos", "chebyshev")
        }
        yield device.case(f"noise tol 1e-3 n={n}", calls)


def recurrent(device: Device) -> Iterator[Case]:
    import torch
    from recurrent import FLOPS, STEPS, D, S, network

    net = network()
    ours, theirs = mlcore.LSTM(net), net.to(device.name)
    for batch in (1,) if device.quick else (1, 64):
        x = torch.randn(batch, S, D, device=device.name)

        def roll(x: Any = x) -> Any:
            with torch.no_grad():
                for _ in range(STEPS):
                    x = torch.cat([x[:, 1:], theirs(x)[:, None]], 1)
            return x

        calls: dict[str, Call] = {
            "mlcore": lambda x=x: ours.rollout(x, STEPS),
            "torch (cuDNN)": roll,
        }
        yield device.case(f"LSTM roll-out of {STEPS} x {batch}", calls, flops=FLOPS * STEPS * batch)


def mlp(device: Device) -> Iterator[Case]:
    import torch

    n = 1000 if device.quick else 1_000_000
    widths = (32, 64, 64, 1)
    torch.manual_seed(0)
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.SiLU()]
    net = torch.nn.Sequential(*layers[:-1])
    ours, theirs = mlcore.MLP(net), net.to(device.name)
    x = torch.randn(n, widths[0], device=device.name)

    def values() -> Any:
        with torch.no_grad():
            return theirs(x)

    def gradient() -> Any:
        rows = x.detach().requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(theirs(rows).sum(), rows)

    products = 2 * n * sum(a * b for a, b in itertools.pairwise(widths))
    calls: dict[str, Call] = {"mlcore": lambda: ours(x), "torch": values}
    yield device.case(f"mlp values N={n:.0e}", calls, flops=products, moved=x.nbytes, repeat=5)
    calls = {"mlcore": lambda: ours.gradient(x), "torch": gradient}
    yield device.case(
        f"mlp gradients N={n:.0e}", calls, flops=2 * products, moved=2 * x.nbytes, repeat=5
    )


def pair_potential(device: Device) -> Iterator[Case]:
    from pair_potential import CUTOFF, FIRST, KNOTS, energy, liquid, slope

    table = mlcore.PairPotential.from_functions(
        energy, CUTOFF, first=FIRST, slope=slope, knots=KNOTS
    )
    x, edge = liquid()
    there = device.put(x)
    calls: dict[str, Call] = {"mlcore": lambda: table.evaluate(there, [edge] * 3, True)}
    yield device.case(f"pair potential N={len(x)}", calls, note="with its search")


def bonds(device: Device) -> Iterator[Case]:
    from bonds import Problem, Torch, sheet
    from mlcore.ops import bond_forces

    for cells in (12,) if device.quick else (48, 384):
        atoms = sheet(cells)
        problem = Problem(atoms, 8)
        plain = Torch(problem, device.name)
        given = problem.basis, plain.C, plain.u, plain.rows, plain.middle
        calls: dict[str, Call] = {
            "mlcore": lambda given=given: bond_forces(*given),
            "torch": plain.forces,
        }
        size, flops = f"N={len(atoms):.0e}", problem.flops
        yield device.case(f"bonds forces {size}", calls, flops=flops, single=False)
        ours, theirs = plain.loss()
        calls = {"mlcore": ours, "torch": theirs}
        yield device.case(f"bonds loss {size}", calls, flops=4 * flops, single=False)


def dynamics(device: Device) -> Iterator[Case]:
    from dynamics import DT, TRAP, start
    from mlcore.dynamics import Harmonic, LennardJones, brownian, verlet
    from mlcore.mobility import RPY
    from mobility import configuration

    steps = 10 if device.quick else 1000
    options: dict[str, Any] = {
        "forces": [LennardJones(1.0, 1.0, np.inf), Harmonic(TRAP)],
        "dt": DT,
        "steps": steps,
        "every": steps,
        "energies": False,
    }
    for n, replicas in ((16, 1), (16, 1024), (512, 1)):
        x, v = (device.put(np.stack([a] * replicas)) for a in start(n, 3))
        calls: dict[str, Call] = {"mlcore": lambda x=x, v=v: verlet(x, v, **options)}
        case = device.case(f"verlet N={n} x {replicas}", calls)
        case.scale = steps * replicas
        yield case
    run: dict[str, Any] = {"kT": 0.1, "dt": 1e-4, "steps": 10, "every": 10, "seed": 1}
    for n in (20,) if device.quick else (100, 1000):
        x = device.put(configuration(n)[0])
        for scheme in ("euler_maruyama", "midpoint"):
            calls = {"mlcore": lambda x=x, s=scheme: brownian(RPY(1.0, 1.0), x, scheme=s, **run)}
            case = device.case(f"brownian rpy {scheme} n={n}", calls)
            case.scale = 10
            yield case


def splitting(device: Device) -> Iterator[Case]:
    from splitting import cluster
    from splitting import splitting as four_kicks

    step, steps = four_kicks(), 10 if device.quick else 1000
    for replicas in (1, 1024):
        x, v = (device.put(a) for a in cluster(replicas))
        calls: dict[str, Call] = {
            "mlcore": lambda x=x, v=v: step.run(x, v, steps=steps, every=steps)
        }
        case = device.case(f"splitting N=16 x {replicas}", calls)
        case.scale = steps * replicas
        yield case


PARTS = (
    neighbors,
    voxels,
    stencil,
    stencil_active,
    mobility,
    noise,
    recurrent,
    mlp,
    pair_potential,
    bonds,
    dynamics,
    splitting,
)


def cases(setup: Setup, device: str = "cuda") -> Iterator[Case]:
    if not installed("torch") or setup.threads > 1:
        return
    import torch

    if device == "cuda" and not (torch.cuda.is_available() and _core.cuda_status()["devices"]):
        print("no CUDA device, or this build of mlcore has no CUDA part", file=sys.stderr)
        return
    torch.set_grad_enabled(False)
    there = Device(device, setup.quick)
    for part in PARTS:
        yield from part(there)


if __name__ == "__main__":
    main(cases, __doc__)
