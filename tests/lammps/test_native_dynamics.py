"""fix mlcore dynamics and fix mlcore mobility: steps against Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Array, Case
from mlcore import random
from mlcore.export import write_bundle
from mlcore.mobility.tensors import RPY, PairMobility
from test_native import gaussian
from test_native_force import DUMP, box, fails, head, lattice, thermo, watch

ALL = DUMP.replace("custom 20", "custom 1")


class Drift(torch.nn.Module):
    """Overdamped motion in a field with friction that depends on kind and time."""

    def forward(
        self, x: torch.Tensor, v: torch.Tensor, f: torch.Tensor, types: torch.Tensor,
        time: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        new = 0.9 * v + 0.01 * f - 0.02 * torch.sin(x) / (1 + types[:, None] + time)
        return 0.05 * new, new


class Center(torch.nn.Module):
    """Each atom goes towards the next one in the order of ids."""

    def forward(self, x: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pull = torch.roll(x, -1, 0) - x
        return 0.01 * pull, v + pull


def drift(case: Case) -> None:
    rows = torch.rand(4, 3, dtype=torch.float64)
    time = torch.tensor(0.1, dtype=torch.float64)
    told = {
        "sees": "atoms", "gives": "step", "inputs": ["x", "v", "f", "types", "time"], "types": 2,
    }  # fmt: skip
    examples = (rows, rows, rows, torch.zeros(4, dtype=torch.int64), time)
    bundles.write(case.folder / "drift", "dynamics", told, scripts=[Drift()], examples=examples)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_steps_of_atoms(case: Case, ranks: int) -> None:
    x, types = lattice(3), [1 + i % 2 for i in range(27)]
    case.atoms(x, box(3.6), types=types)
    drift(case)
    script = head() + "velocity all create 2.0 99 loop geom\n" + ALL
    script += "fix push all addforce 0.3 -0.2 0.1\nfix m all mlcore dynamics drift\nrun 30\n"
    case.ok(script, ranks)
    frames = case.dump()
    position, v = torch.tensor(x), torch.tensor(frames[0][:, 4:7])
    f = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64).expand(27, 3)
    kinds, unwrapped = torch.tensor(types) - 1, torch.tensor(x)
    for step in range(30):
        time = torch.tensor(step * 0.002, dtype=torch.float64)
        dx, v = Drift()(position, v, f, kinds, time)
        unwrapped, position = unwrapped + dx, torch.remainder(position + dx, 3.6)
    np.testing.assert_allclose(frames[-1][:, 1:4], unwrapped.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(frames[-1][:, 4:7], v.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_steps_of_a_configuration(case: Case, ranks: int) -> None:
    """The rows are those of the group in the order of ids, on any number of ranks."""
    x = lattice(3)
    case.atoms(x, box(3.6), ids=list(range(27, 0, -1)))
    rows = torch.rand(13, 3, dtype=torch.float64)
    told = {"sees": "configuration", "gives": "step", "inputs": ["x", "v"], "particles": 13}
    bundles.write(case.folder / "c", "dynamics", told, scripts=[Center()], examples=(rows, rows))
    script = head(boundary="f f f") + ALL
    script += "group some id 2:26:2\nfix m some mlcore dynamics c\nrun 20\n"
    output = case.ok(script, ranks)
    frame = case.dump()[-1]
    start = x[::-1]
    position, v = torch.tensor(start[1::2].copy()), torch.zeros(13, 3, dtype=torch.float64)
    for _ in range(20):
        dx, v = Center()(position, v)
        position = position + dx
    np.testing.assert_allclose(frame[1::2, 1:4], position.numpy(), atol=1e-12)
    np.testing.assert_allclose(frame[1::2, 4:7], v.numpy(), atol=1e-12)
    np.testing.assert_array_equal(frame[0::2, 1:4], start[0::2])
    assert "13 atoms go to each of" in output
    fails(case, script.replace("2:26:2", "2:24:2"), "is for 13 particles", "the group has 12")


def test_nothing_happens_in_minimisations(case: Case) -> None:
    """The timestep of the bundle is that of runs."""
    x = lattice(3)
    case.atoms(x, box(3.6))
    rows = torch.rand(27, 3, dtype=torch.float64)
    told = {"sees": "configuration", "gives": "step", "inputs": ["x", "v"], "timestep": 0.004}
    bundles.write(case.folder / "c", "dynamics", told, scripts=[Center()], examples=(rows, rows))
    script = head() + "pair_style lj/cut 1.7\npair_coeff * * 1 1\nfix m all mlcore dynamics c\n"
    case.ok(script + "minimize 0 1e-3 10 10\ntimestep 0.004\nrun 1\n", 2)
    fails(case, script + "run 1\n", "its step takes a time of 0.004", "has timestep 0.002")


def perceptron(width: int, outputs: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "w0": rng.normal(size=(9, width)), "b0": rng.normal(size=9),
        "w1": 0.1 * rng.normal(size=(outputs, 9)), "b1": 0.1 * rng.normal(size=outputs),
        "in_shift": rng.normal(size=width), "in_scale": 1 + rng.uniform(size=width),
        "out_scale": rng.uniform(size=outputs), "out_shift": 0.1 * rng.normal(size=outputs),
    }  # fmt: skip


def through(p: dict[str, Array], rows: Array) -> Array:
    inside = np.tanh((rows - p["in_shift"]) / p["in_scale"] @ p["w0"].T + p["b0"])
    return np.asarray((inside @ p["w1"].T + p["b1"]) * p["out_scale"] + p["out_shift"])


@pytest.mark.parametrize("sees", ["atoms", "configuration"])
def test_perceptrons_of_the_core_and_their_spread(case: Case, sees: str) -> None:
    x, types = lattice(2, shake=0.2) + 6, [1, 2, 2, 1, 1, 2, 1, 2]
    case.atoms(x, box(14.0), types=types)
    n = 8 if sees == "configuration" else 1
    members = [perceptron(8 * n, 6 * n, seed) for seed in range(3)]
    tensors = {f"m{k}.{name}": a for k, p in enumerate(members) for name, a in p.items()}
    told = {"sees": sees, "gives": "step", "inputs": ["x", "v", "types"], "types": 2, "members": 3}
    told |= {"particles": 8} if n == 8 else {}
    native = {"kind": "mlp", "layers": 2, "activation": "tanh"}
    bundles.write(case.folder / "p", "dynamics", told, native=native, tensors=tensors)
    script = head(boundary="f f f") + ALL + "fix m all mlcore dynamics p\n" + watch("f_m[1] f_m[2]")
    spreads = thermo(case.ok(script + "run 1\n", 2))[-1]
    hot = np.eye(2)[np.array(types) - 1]
    blocks = [x, np.zeros_like(x), hot]
    rows = np.hstack(blocks) if n == 1 else np.concatenate([b.ravel() for b in blocks])[None]
    results = np.array([through(p, rows) for p in members]).reshape(3, -1, 6 * n)
    dx = results[:, :, : 3 * n].reshape(3, 8, 3)
    v = results[:, :, 3 * n :].reshape(3, 8, 3)
    frame = case.dump()[-1]
    np.testing.assert_allclose(frame[:, 1:4] - x, dx.mean(0), atol=1e-13)
    np.testing.assert_allclose(frame[:, 4:7], v.mean(0), atol=1e-13)
    spread = np.sqrt(((dx - dx.mean(0)) ** 2).sum(2).mean(0))
    np.testing.assert_allclose(spreads[1:], [spread.max(), spread.mean()], rtol=1e-12)


# -- mobility -------------------------------------------------------------------------------------
PUSH = "fix push all addforce v_fx v_fy v_fz\nvariable fx atom x\nvariable fy atom y*z\n"
PUSH += "variable fz atom 1-x\n"


def mobility(case: Case, background: RPY | None = None) -> PairMobility:
    own = 0.13 if background is None else 0.05
    chosen = PairMobility.from_functions(own, 1.9, gaussian, gaussian, background=background)
    write_bundle(case.folder / "b", chosen, units="lj", training={"made by": "a test"})
    return chosen


def pushed(x: Array) -> Array:
    return np.stack([x[:, 0], x[:, 1] * x[:, 2], 1 - x[:, 0]], 1)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_local_mobility_needs_ghosts_alone(case: Case, ranks: int) -> None:
    x = lattice(4)
    case.atoms(x, box(4.8), (1.2, -0.6, 0.9))
    chosen = mobility(case)
    script = head() + PUSH + "fix m all mlcore mobility b\n" + ALL + "run 3\n"
    output = case.ok(script, ranks)
    assert "from neighbors" in output
    cell = np.array([[4.8, 0, 0], [1.2, 4.8, 0], [-0.6, 0.9, 4.8]])
    inverse = np.linalg.inv(cell)
    wrapped = np.floor(x @ inverse)
    position = x - wrapped @ cell
    frames = case.dump()
    for step in range(1, 4):
        v = chosen.apply(position, frames[step][:, 7:], cell=cell, pbc=(True,) * 3)
        np.testing.assert_allclose(frames[step][:, 4:7], v, rtol=1e-10, atol=1e-12)
        position = position + 0.002 * v


@pytest.mark.parametrize("integrator", ["em", "midpoint"])
def test_warm_mobility(case: Case, integrator: str) -> None:
    """One step against its formula; the temperature is that of a variable at each step."""
    x = lattice(2, shake=0.2)
    case.atoms(x, box(30.0))
    chosen = mobility(case, RPY(0.4, 1.0))
    dt = 0.002
    script = head(boundary="f f f") + "variable t equal 0.5+step\n" + ALL
    script += f"fix m all mlcore mobility b temp v_t seed 7 integrator {integrator}\nrun 2\n"
    output = case.ok(script, 2)
    words = 8 * (11 if integrator == "midpoint" else 7) * 8
    assert output.count(f"8 atoms go to each of 2 ranks each time, {words} bytes") == 1
    assert "whole group" not in case.ok(script.replace("seed 7", "seed 7 verbose 0"), 2)
    frames = case.dump()
    stream = 2166136261
    for byte in b"m":
        stream = ((stream ^ byte) * 16777619) & 0xFFFFFFFF
    tags = np.arange(1, 9, dtype=np.uint32)
    for step in (1, 2):
        before = frames[step - 1][:, 1:4]
        xi = random.normal(7, 2 * (stream & 0x1FFFFFFF), step, tags)
        root = np.linalg.cholesky(chosen.matrix(before))
        kT = 0.5 + step
        move = np.sqrt(2 * kT * dt) * (root @ xi.ravel()).reshape(-1, 3)
        move += dt * kT * chosen.divergence(before)
        np.testing.assert_allclose(frames[step][:, 1:4] - before, move, atol=1e-12)


def test_warm_mobility_splits_and_restarts(case: Case) -> None:
    x = lattice(2, shake=0.2)
    case.atoms(x, box(30.0))
    mobility(case, RPY(0.4, 1.0))
    start = head(boundary="f f f") + ALL + "pair_style lj/cut 2.5\npair_coeff * * 1 1\n"
    for integrator in ("em", "midpoint"):
        fix = f"fix m all mlcore mobility b temp 0.3 seed 5 integrator {integrator}\n"
        case.ok(start + fix + "run 20\n")
        whole = case.dump()[-1]
        case.ok(start + fix + "run 10\nwrite_restart h\nrun 10\n", 2)
        np.testing.assert_allclose(case.dump()[-1], whole, atol=1e-10)
        again = start.replace("read_data atoms.data", "read_restart h")
        case.ok(again + fix.replace(" seed 5", "") + "run 10\n", 2)
        np.testing.assert_allclose(case.dump()[-1][:, 1:7], whole[:, 1:7], atol=1e-10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("temp -1", "'temp' must not be negative"),
        ("temp v_none", "there is no variable 'none'"),
        ("temp v_cold", "variable 'cold' is -1.0"),
        ("integrator rk4", "'integrator' must be one of em, midpoint"),
        ("psd maybe", "'psd' must be one of error, repair"),
        ("seed x", "'seed' needs a whole number"),
        ("engine native", "unknown keyword 'engine' for mode mobility"),
    ],
)
def test_wrong_mobility_words(case: Case, words: str, message: str) -> None:
    case.atoms(lattice(2), box(30.0))
    mobility(case)
    script = head(boundary="f f f") + "variable cold equal -1\n"
    fails(case, script + f"fix m all mlcore mobility b {words}\nrun 1\n", "fix mlcore m", message)
