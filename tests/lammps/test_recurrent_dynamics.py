"""fix mlcore dynamics with models that have a memory, against torch.nn.LSTM in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Array, Case
from mlcore.io.tensors import read_tensors, write_tensors
from test_native_force import DUMP, box, fails, head, lattice, thermo, watch

ALL = DUMP.replace("custom 20", "custom 1")
INPUTS = ["x", "v", "f", "types", "time"]
PUSH = "fix push all addforce 0.3 -0.2 0.1\n"
FORCE = [0.3, -0.2, 0.1]
BOX, HIDDEN, LAYERS, DT = 3.6, 5, 2, 0.002
MEMORY = 2 * LAYERS * HIDDEN


class Network(torch.nn.Module):
    """torch's LSTM on rows, a linear head, and shifts and scales around them."""

    def __init__(self, width: int, outputs: int, seed: int, layers: int = LAYERS) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.lstm = torch.nn.LSTM(width, HIDDEN, layers, dtype=torch.float64)
        self.head = torch.nn.Linear(HIDDEN, outputs, dtype=torch.float64)
        for parameter in self.lstm.parameters():
            torch.nn.init.normal_(parameter, std=0.8)
        for name, size in (("in_shift", width), ("out_shift", outputs)):
            self.register_buffer(name, 0.2 * torch.randn(size, dtype=torch.float64))
        for name, size in (("in_scale", width), ("out_scale", outputs)):
            self.register_buffer(name, 0.05 + 0.1 * torch.rand(size, dtype=torch.float64))
        self.in_scale += 1

    def rows(self, given: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (rows, outputs) and memory (rows, 2 layers hidden): h of all layers, c of all."""
        layers = self.lstm.num_layers
        kept = memory.reshape(-1, 2, layers, HIDDEN).permute(1, 2, 0, 3).contiguous()
        inside = ((given - self.in_shift) / self.in_scale)[None]
        out, after = self.lstm(inside, (kept[0], kept[1]))
        found = self.head(out[0]) * self.out_scale + self.out_shift
        return found, torch.stack(after).permute(2, 0, 1, 3).flatten(1)

    def tensors(self, k: int) -> dict[str, Array]:
        state = {name: value.numpy() for name, value in self.state_dict().items()}
        found = {"head.w": state["head.weight"], "head.b": state["head.bias"]}
        found |= {n: state[n] for n in ("in_shift", "in_scale", "out_scale", "out_shift")}
        for layer in range(self.lstm.num_layers):
            for part in ("ih", "hh"):
                found[f"lstm{layer}.w_{part}"] = state[f"lstm.weight_{part}_l{layer}"]
            biases = (state[f"lstm.bias_{part}_l{layer}"] for part in ("ih", "hh"))
            found[f"lstm{layer}.b"] = sum(biases, np.zeros(4 * HIDDEN))
        return {f"m{k}.{name}": value for name, value in found.items()}


class Atoms(torch.nn.Module):
    """The calling convention of bundles: every atom a row."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: torch.Tensor, v: torch.Tensor, f: torch.Tensor, types: torch.Tensor,
        time: torch.Tensor, memory: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        hot = (types[:, None] == torch.arange(2)).to(x.dtype)
        clock = time.reshape(1, 1).expand(x.shape[0], 1)
        out, memory = self.network.rows(torch.cat([x, v, f, hot, clock], 1), memory)
        return out[:, :3], out[:, 3:], memory


class Whole(torch.nn.Module):
    """The same with one row of everything."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: torch.Tensor, v: torch.Tensor, f: torch.Tensor, types: torch.Tensor,
        time: torch.Tensor, memory: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        hot = (types[:, None] == torch.arange(2)).to(x.dtype)
        row = torch.cat([part.reshape(-1) for part in (x, v, f, hot, time)])[None]
        out, memory = self.network.rows(row, memory)
        half = out.reshape(2, -1, 3)
        return half[0], half[1], memory


Kind = Callable[[Network], torch.nn.Module]
KINDS: dict[str, Kind] = {"atoms": Atoms, "configuration": Whole}


def made(sees: str, n: int, members: int = 1) -> list[torch.nn.Module]:
    n = n if sees == "configuration" else 1
    return [KINDS[sees](Network(11 * n + 1, 6 * n, seed)) for seed in range(members)]


def write(
    folder: Path, sees: str, models: list[torch.nn.Module], n: int, engine: str = "native",
    **told: Any,
) -> None:  # fmt: skip
    model = {"sees": sees, "gives": "step", "inputs": INPUTS, "types": 2, "memory": MEMORY}
    model |= {"members": len(models)} | ({"particles": n} if sees == "configuration" else {})
    native = {"kind": "lstm", "layers": LAYERS, "hidden": HIDDEN}
    tensors = {
        k: a for m, model_ in enumerate(models) for k, a in model_.network.tensors(m).items()
    }
    rows = torch.rand(n, 3, dtype=torch.float64)
    kept = torch.zeros(n if sees == "atoms" else 1, MEMORY, dtype=torch.float64)
    time = torch.tensor(0.1, dtype=torch.float64)
    examples = (rows, rows, rows, torch.zeros(n, dtype=torch.int64), time, kept)
    bundles.write(
        folder, "dynamics", model | told,
        native=native if engine == "native" else None, tensors=tensors,
        scripts=models if engine == "torchscript" else (), examples=examples,
    )  # fmt: skip


def walk(
    models: list[torch.nn.Module], x: Array, types: list[int], steps: int, force: bool = True
) -> tuple[Array, Array, list[Array]]:
    """Unwrapped positions, velocities and the spread of dx of each step, all by torch."""
    place, unwrapped = torch.tensor(x), torch.tensor(x)
    v = torch.zeros_like(place)
    f = torch.tensor(FORCE if force else [0.0] * 3, dtype=torch.float64).expand(len(x), 3)
    kinds = torch.tensor(types) - 1
    rows = len(x) if isinstance(models[0], Atoms) else 1
    memories = [torch.zeros(rows, MEMORY, dtype=torch.float64) for _ in models]
    spreads = []
    for step in range(steps):
        time = torch.tensor(step * DT, dtype=torch.float64)
        with torch.no_grad():
            found = [
                m(place, v, f, kinds, time, kept) for m, kept in zip(models, memories, strict=True)
            ]
        memories = [kept for _, _, kept in found]
        moves = torch.stack([dx for dx, _, _ in found])
        v = torch.stack([after for _, after, _ in found]).mean(0)
        dx = moves.mean(0)
        spreads.append(((moves - dx) ** 2).sum(2).mean(0).sqrt().numpy())
        unwrapped, place = unwrapped + dx, torch.remainder(place + dx, BOX)
    return unwrapped.numpy(), v.numpy(), spreads


def start(case: Case, n: int = 27) -> tuple[Array, list[int]]:
    x, types = lattice(3)[:n], [1 + i % 2 for i in range(n)]
    case.atoms(x, box(BOX), types=types)
    return x, types


def same(frame: Array, wanted: tuple[Array, Array, list[Array]], atol: float = 1e-12) -> None:
    np.testing.assert_allclose(frame[:, 1:4], wanted[0], rtol=0, atol=atol)
    np.testing.assert_allclose(frame[:, 4:7], wanted[1], rtol=0, atol=atol)


RUN = "fix m all mlcore dynamics lstm\n"


@pytest.mark.parametrize(("sees", "engine", "ranks"), [
    ("atoms", "native", 1), ("atoms", "native", 2), ("atoms", "native", 3),
    ("atoms", "native", 4), ("configuration", "native", 1), ("configuration", "native", 3),
    ("atoms", "torchscript", 2), ("configuration", "torchscript", 2),
])  # fmt: skip
def test_steps_are_those_of_torch(case: Case, sees: str, engine: str, ranks: int) -> None:
    """Atoms walk through the whole box, from rank to rank, and their memory with them."""
    x, types = start(case)
    models = made(sees, len(x))
    write(case.folder / "lstm", sees, models, len(x), engine)
    output = case.ok(head() + ALL + PUSH + RUN + "run 40\n", ranks)
    assert f"engine {engine}" in output
    wanted = walk(models, x, types, 40)
    assert np.abs(wanted[0] - x).max() > BOX
    same(case.dump()[-1], wanted)


@pytest.mark.parametrize("engine", ["native", "torchscript"])
def test_one_atom_and_ranks_without(case: Case, engine: str) -> None:
    x, types = start(case, 1)
    models = made("atoms", 1)
    write(case.folder / "lstm", "atoms", models, 1, engine)
    case.ok(head() + ALL + PUSH + RUN + "run 12\n", 3)
    same(case.dump()[-1], walk(models, x, types, 12))


@pytest.mark.parametrize("sees", ["atoms", "configuration"])
def test_the_memory_matters(sees: str, case: Case) -> None:
    """Forgetting everything once is another walk: what the other tests compare depends on it."""
    x, types = start(case)
    models = made(sees, len(x))
    write(case.folder / "lstm", sees, models, len(x))
    wanted = walk(models, x, types, 20)
    case.ok(head() + ALL + PUSH + RUN + "run 10\nunfix m\n" + RUN + "run 10\n")
    assert np.abs(case.dump()[-1][:, 1:4] - wanted[0]).max() > 1e-3


@pytest.mark.parametrize(("sees", "ranks"), [("atoms", 2), ("configuration", 2)])
def test_committees(case: Case, sees: str, ranks: int) -> None:
    x, types = start(case, 8)
    models = made(sees, len(x), members=3)
    write(case.folder / "lstm", sees, models, len(x))
    script = head() + ALL + PUSH + RUN + watch("f_m[1] f_m[2]") + "run 15\n"
    spreads = thermo(case.ok(script, ranks))[-1]
    wanted = walk(models, x, types, 15)
    same(case.dump()[-1], wanted)
    last = wanted[2][-1]
    np.testing.assert_allclose(spreads[1:], [last.max(), last.mean()], rtol=1e-9)


@pytest.mark.parametrize("sees", ["atoms", "configuration"])
def test_runs_go_on_where_they_stopped(case: Case, sees: str) -> None:
    """A split run and runs from restart files, on other numbers of ranks, are the whole run."""
    x, types = start(case)
    models = made(sees, len(x), members=2)
    write(case.folder / "lstm", sees, models, len(x))
    wanted = walk(models, x, types, 30)
    begin = head() + ALL + PUSH + RUN
    case.ok(begin + "run 7\nrun 0\nrun 8\nwrite_restart h\nrun 15\n", 2)
    same(case.dump()[-1], wanted)
    again = begin.replace("read_data atoms.data", "read_restart h")
    for ranks in (1, 3):
        case.ok(again + "run 15\n", ranks)
        np.testing.assert_allclose(
            np.remainder(case.dump()[-1][:, 1:4] - wanted[0] + 1, BOX), 1, atol=1e-11
        )
        np.testing.assert_allclose(case.dump()[-1][:, 4:7], wanted[1], atol=1e-12)


def test_numbers_of_steps_may_change(case: Case) -> None:
    x, types = start(case)
    models = made("atoms", len(x))
    write(case.folder / "lstm", "atoms", models, len(x))
    script = head() + PUSH + RUN + "run 10\nreset_timestep 1000 time 0.02\n" + ALL + "run 10\n"
    case.ok(script, 2)
    same(case.dump()[-1], walk(models, x, types, 20))


def test_another_model_in_place_of_the_one_of_the_restart_file(case: Case) -> None:
    x, _ = start(case)
    for sees in ("atoms", "configuration"):
        write(case.folder / "lstm", sees, made(sees, len(x)), len(x))
        begin = head() + ALL + PUSH + RUN
        case.ok(begin + "run 1\nwrite_restart h\n")
        write(case.folder / "lstm", sees, made(sees, len(x), members=2), len(x))
        again = begin.replace("read_data atoms.data", "read_restart h")
        fails(case, again + "run 1\n", "fix mlcore m", "has a memory of 40 numbers",
              "of another model", ranks=2)  # fmt: skip


def test_atoms_that_enter_begin_with_zeros(case: Case) -> None:
    """New atoms, and those that left a dynamic group and came back."""
    x, types = start(case)
    models = made("atoms", len(x))
    write(case.folder / "lstm", "atoms", models, len(x))
    script = head() + ALL + PUSH + "variable in atom (id!=5)||(step<10)||(step>=20)\n"
    script += "group some dynamic all every 1 var in\nfix m some mlcore dynamics lstm\n"
    script += "run 25\ncreate_atoms 2 single 1.5 1.5 1.5\nrun 5\n"
    case.ok(script, 2)
    frames = case.dump()
    fifth = np.array([frame[4] for frame in frames])
    rest = np.flatnonzero((np.diff(fifth[:, 1:4], axis=0) == 0).all(1))
    assert 9 <= len(rest) <= 11 and np.ptp(rest) == len(rest) - 1
    (model,) = models
    f = torch.tensor([FORCE], dtype=torch.float64)

    def follow(step: int, row: int, kind: int, x: Array, v: Array) -> None:
        """From x and v before the first step of an atom: all its steps up to the end."""
        memory = torch.zeros(1, MEMORY, dtype=torch.float64)
        place, speed = torch.tensor(x)[None], torch.tensor(v)[None]
        for now in range(step, 30):
            time = torch.tensor(now * DT, dtype=torch.float64)
            inside = torch.remainder(place, BOX)
            with torch.no_grad():
                dx, speed, memory = model(inside, speed, f, torch.tensor([kind - 1]), time, memory)
            place = place + dx
            np.testing.assert_allclose(frames[now + 1][row, 1:4], place.numpy()[0], atol=1e-11)

    back = int(rest[-1]) + 1
    follow(back, 4, types[4], fifth[back, 1:4], fifth[back, 4:7])
    assert [len(frame) for frame in frames] == [27] * 26 + [28] * 5
    follow(25, 27, 2, np.full(3, 1.5), np.zeros(3))


def test_single_precision(case: Case) -> None:
    x, types = start(case)
    models = made("atoms", len(x))
    write(case.folder / "lstm", "atoms", models, len(x))
    words = RUN.strip() + " dtype float32\n"
    output = case.ok(head() + ALL + PUSH + words + "run 5\n", 2)
    assert "engine native" in output
    wanted = walk(models, x, types, 5)
    same(case.dump()[-1], wanted, atol=1e-5)
    assert np.abs(case.dump()[-1][:, 1:4] - wanted[0]).max() > 1e-10


def change(folder: Path, name: str, edit: Callable[[Array], Array | None]) -> None:
    tensors, _ = read_tensors(folder / "weights.safetensors")
    found = edit(tensors.pop(name))
    write_tensors(
        folder / "weights.safetensors", tensors | ({} if found is None else {name: found})
    )
    bundles.finish(folder, json.loads((folder / "manifest.json").read_text()))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("m1.lstm0.w_ih", "(20, 12)"),
        ("m0.lstm1.w_ih", "(20, 5)"),
        ("m1.lstm1.b", "(20,)"),
        ("m0.head.w", "(6, 5)"),
        ("m1.in_scale", "(12,)"),
        ("m0.out_shift", "(6,)"),
    ],
)
def test_wrong_tensors(case: Case, name: str, wanted: str) -> None:
    x, _ = start(case, 8)
    write(case.folder / "lstm", "atoms", made("atoms", len(x), members=2), len(x))
    change(case.folder / "lstm", name, lambda a: np.concatenate([a, a[:1]]))
    fails(case, head() + RUN + "run 1\n", "fix mlcore m", f"tensor '{name}'", wanted)


def test_missing_tensors(case: Case) -> None:
    x, _ = start(case, 8)
    write(case.folder / "lstm", "atoms", made("atoms", len(x)), len(x))
    change(case.folder / "lstm", "m0.lstm1.w_hh", lambda a: None)
    fails(case, head() + RUN + "run 1\n", "fix mlcore m", "'m0.lstm1.w_hh'")


@pytest.mark.parametrize(
    ("told", "native", "message"),
    [
        ({"memory": 19}, {}, "field model.memory is 19, an \"lstm\" of 2 layers of 5 units keeps"),
        ({"memory": 0}, {}, "no memory (model.memory) needs \"mlp\""),
        ({"memory": -3}, {}, "memory"),
        ({"memory": "many"}, {}, "memory"),
        ({}, {"hidden": 0}, "hidden"),
        ({}, {"layers": 65}, "layers must be at most 64"),
        ({}, {"kind": "mlp", "activation": "tanh"}, "has a memory needs \"lstm\""),
        ({"particles": None, "sees": "configuration"}, {}, "model.particles must be a number"),
    ],
)  # fmt: skip
def test_wrong_manifests(
    case: Case, told: dict[str, Any], native: dict[str, Any], message: str
) -> None:
    x, _ = start(case, 8)
    folder = case.folder / "lstm"
    write(folder, "atoms", made("atoms", len(x)), len(x))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"] |= told
    manifest["engines"]["native"] |= native
    (folder / "manifest.json").write_text(json.dumps(manifest))
    fails(case, head() + RUN + "run 1\n", "fix mlcore m", message)


def test_only_dynamics_keep_a_memory(case: Case) -> None:
    x, _ = start(case, 8)
    for kind, gives, mode in (("qoi", "values", "qoi"), ("force", "forces", "force")):
        told = {"sees": "atoms", "gives": gives, "inputs": ["x"], "memory": 20, "types": 2}
        told |= {"shape": [1], "reduce": "none"} if kind == "qoi" else {}
        bundles.write(case.folder / kind, kind, told, native={"kind": "lstm"})
        fails(case, head() + f"fix m all mlcore {mode} {kind}\nrun 1\n",
              f'field model.memory: a model of kind "{kind}" keeps no state')  # fmt: skip


def test_scripts_without_the_memory_are_named(case: Case) -> None:
    class Forgets(torch.nn.Module):
        def forward(self, x: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return 0.1 * x, x

    start(case, 8)
    rows = torch.rand(8, 3, dtype=torch.float64)
    told = {"sees": "atoms", "gives": "step", "inputs": ["x"], "memory": 4, "types": 2}
    bundles.write(case.folder / "lstm", "dynamics", told, scripts=[Forgets()],
                  examples=(rows, torch.zeros(8, 4, dtype=torch.float64)))  # fmt: skip
    fails(
        case, head() + RUN + "run 1\n", "model_0.pt", "returns 2 tensors, expected dx, v and memory"
    )
