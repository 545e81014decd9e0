"""examples/graphene: the measures tell what is known of steps that are known, and all of it runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlcore.sagesnet import AtomCells, AtomState, Level, SagesNet, Scales
from mlcore.sagesnet.carbon import TINY, Dataset, Pull, Sample

EXAMPLE = Path(__file__).parents[3] / "examples" / "graphene"
MODULES = ("cost", "frames", "generate", "gns", "maps", "measures", "settings", "steppers", "truth")
DT = 10.0


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The modules of the example, whose plain names are forgotten behind it."""
    kept = {name: sys.modules.pop(name, None) for name in MODULES}
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield type("Example", (), {name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(EXAMPLE))
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A small sheet pulled until it yields."""
    data = Dataset(tmp_path_factory.mktemp("set"), Pull(rate=0.4, until=0.5, rest=0.05), TINY)
    data.generate(["101"])
    return data["101-1"]


class Replay:
    """Steps as they truly were; at the grips it pulls as the labels' curve says."""

    def __init__(self, states: list[AtomState], sample: Sample | None = None) -> None:
        self.states, self.sample = states, sample
        self.at = 0
        if sample is not None:
            self.forces = self._forces

    def __call__(self, state: AtomState) -> AtomState:
        self.at += 1
        return self.states[self.at]

    def _forces(self, state: AtomState) -> torch.Tensor:
        assert self.sample is not None
        pull = self.sample.record["pull"]
        strain = self.at * DT * 1e-3 * pull["rate"]
        stress = np.interp(strain, self.sample.curve[:, 1], self.sample.curve[:, 2])
        grip = self.sample.start.arrays["grip"]
        total = stress * self.sample.record["section"] / 160.2176634
        along = np.where(grip < 0, total / (grip < 0).sum(), -total / (grip > 0).sum()) * (
            grip != 0
        )
        return torch.from_numpy(np.column_stack([along, 0 * along, 0 * along]))


def test_one_step_is_told_in_parts_of_constant_velocity(example: Any, sample: Sample) -> None:
    pairs = example.frames.some_pairs(sample, example.frames.grid_of([sample]), 5)
    still = example.measures.one_step(example.measures.straight, pairs)
    assert still["velocity"] == pytest.approx(1.0, abs=1e-6)
    assert still["place"] == pytest.approx(1.0, abs=1e-4) and still["pairs"] == 5

    def half(state: AtomState) -> AtomState:
        true = next(later for now, later in pairs if now is state)
        way = state.displacement(true)
        between = (state.velocity + true.velocity) / 2
        return state.moved(way, between)

    found = example.measures.one_step(half, pairs)
    assert found["velocity"] == pytest.approx(0.5, abs=1e-5) and found["place"] < 1e-3
    assert found["velocity_median"] == pytest.approx(0.5, abs=1e-5)


def test_a_rollout_is_followed_atom_by_atom(example: Any, sample: Sample) -> None:
    grid = example.frames.grid_of([sample])
    states = example.frames.states_of(sample.window(0, 12), grid)
    exact = example.measures.follow(Replay(states), states)
    assert exact["bond_error"] == 0.0 and exact["temperature_ratio"] == pytest.approx(1.0)
    assert exact["counts_kept"] and exact["steps"] == 11 and not exact["ended"]

    moved = [s.moved(torch.zeros(len(s), 3), 2 * s.velocity) for s in states]
    hot = example.measures.follow(Replay(moved), states)
    assert hot["temperature_ratio"] == pytest.approx(4.0, rel=1e-3) and hot["bond_error"] == 0.0
    other = [replace(s, numbers=torch.where(s.ids == 3, 1, s.numbers)) for s in states]
    assert not example.measures.follow(Replay(other), states)["counts_kept"]
    # a sheet that is blown up by a hundredth
    wide = [s.moved(0.01 * (s.positions() - s.positions()[0]).float(), s.velocity) for s in states]
    found = example.measures.follow(Replay(wide), states)
    assert found["bond_error"] == pytest.approx(0.014, rel=0.05)
    assert found["bond_mean"][0] == pytest.approx(0.014, rel=0.05) and found["broken_most"] == 0


def test_yields_are_read_as_labels_are(example: Any, sample: Sample) -> None:
    frames, measures = example.frames, example.measures
    states = frames.states_of(sample.window(), frames.grid_of([sample]))
    states += [states[-1]] * 100
    pull = Pull(**sample.record["pull"])
    grip, section = sample.start.arrays["grip"], float(sample.record["section"])
    start = states[0]
    pulled = measures.stretch(Replay(states, sample), start, grip, section, pull, look=5)
    label = sample.label
    assert pulled.ended == "yield" and pulled.counts_kept
    assert pulled.found.strain == pytest.approx(label.strain, abs=0.02)
    assert pulled.found.stress == pytest.approx(label.stress, rel=0.05)
    by_bonds = measures.stretch(Replay(states), start, grip, section, pull, look=5)
    assert len(by_bonds.curve) == 0 and np.isnan(by_bonds.found.stress)
    assert by_bonds.found.strain == pytest.approx(label.strain, abs=0.08)
    same = measures.observables(by_bonds.frames[:3], by_bonds.frames[:3])
    assert same["pair_density"] == 0.0 and same["bond_overlap"] == pytest.approx(1.0)
    torn = measures.observables(by_bonds.frames[:3], by_bonds.frames[-3:])
    assert torn["pair_density"] > 0.02 and torn["bond_overlap"] < 0.9


def test_nets_with_bonds_pull_at_their_grips(example: Any, sample: Sample) -> None:
    (start,) = example.frames.states_of(sample.window(0, 1), example.frames.grid_of([sample]))
    torch.manual_seed(0)
    bonds = {"kicks": 1, "correction": False, "radial": 3, "order": 1, "turns": 1}
    cells = AtomCells((6,), DT, channels=4, width=4, **bonds)
    torch.nn.init.normal_(cells.bonds.weight, std=1e-4)
    pull = Pull(**sample.record["pull"])
    stepper = example.steppers.Learned(SagesNet(cells, [Level()]), pull)
    assert cells.thermostat is not None and cells.thermostat.damping == 2000.0
    along = cells.forces(start).detach().numpy()[:, 0].astype(float)
    grip, section = sample.start.arrays["grip"], float(sample.record["section"])
    assert abs(along[grip > 0].sum()) > 1e-3
    found = example.measures.stretch(stepper, start, grip, section, pull, until=0.06)
    assert found.counts_kept and len(found.curve) == found.steps // 5 == 3
    # the pull is what the energy gains by a length between the grips
    cells = cells.double()
    way = torch.from_numpy(np.outer(grip, [0.5e-3, 0.0, 0.0]))
    ends = [cells.energy(start.moved(side * way, start.velocity)).item() for side in (1, -1)]
    pulled = example.measures._pull(cells.forces(start), start, grip)
    assert pulled == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-3)
    example.steppers.Learned(SagesNet(cells, [Level()]))
    assert cells.thermostat is None


def test_errors_of_yields_stand_beside_the_mean_and_the_seeds(example: Any) -> None:
    labels = [0.1, 0.2, 0.3, 0.4]
    again = [("a", 0.1), ("a", 0.12), ("b", 0.2)]
    found = example.measures.summary([x + 0.01 for x in labels], labels, [0.2], again)
    assert found["rmse"] == pytest.approx(0.01) and found["bias"] == pytest.approx(0.01)
    assert found["mean_rmse"] == pytest.approx(np.std(labels))
    assert found["known_mean_rmse"] == pytest.approx(np.sqrt(0.015))
    assert found["seed_noise"] == pytest.approx(0.02 / np.sqrt(2)) and found["seed_pairs"] == 1
    assert found["correlation"] == pytest.approx(1.0) and found["on_time_rmse"] is None
    less = example.measures.summary([x + 0.01 for x in labels], labels, [0.2], again, late=0.03)
    assert less["rmse"] == found["rmse"] and less["on_time_rmse"] == pytest.approx(0.02)
    assert less["on_time_part"] == pytest.approx(0.02 / np.std(labels))


def test_the_graph_network(example: Any, sample: Sample, tmp_path: Path) -> None:
    frames, gns = example.frames, example.gns
    grid = frames.grid_of([sample])
    pairs = frames.some_pairs(sample, grid, 6)
    torch.manual_seed(0)
    model = gns.GraphNetwork(DT, Scales.of(pairs, DT), width=16, layers=2)
    now, later = pairs[2]
    after, still = model.step(now), example.measures.straight(now)
    assert torch.equal(after.velocity, still.velocity) and after.apart(still) == (0.0, 0.0)
    torch.nn.init.normal_(model.decoder[-1].weight, std=0.3)
    # where a sheet lies and how its atoms are ordered says nothing
    with torch.no_grad():
        step, _ = model(now)
    away = now.moved(torch.tensor([0.7, -1.1, 2.3]).expand(len(now), 3), now.velocity)
    assert torch.allclose(model(away)[0], step, atol=1e-5 * float(step.abs().max()) + 1e-8)
    order = torch.randperm(len(now))
    assert torch.allclose(model(now.take(order))[0], step[order], rtol=1e-3, atol=1e-7)
    both = model(AtomState.stack([now, later]))[0]
    assert torch.allclose(both[: len(now)], step, rtol=1e-3, atol=1e-7)
    driven = ~now.free
    assert torch.equal(model.step(now).velocity[driven], now.velocity[driven])

    torch.nn.init.zeros_(model.decoder[-1].weight)
    before = model.loss(now, later).item()
    kept = tmp_path / "graph.pt"
    history = gns.fit(model, pairs, 2.0, rate=5e-3, file=kept)
    assert history[-1][0] >= 2.0 and model.loss(now, later).item() < 0.8 * before
    again = gns.GraphNetwork(DT, model.scales, width=16, layers=2)
    assert gns.fit(again, pairs, 2.0, rate=5e-3, file=kept) == history  # finished: nothing is done
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_ends_of_cuts_are_found(example: Any) -> None:
    ends = example.maps.ends_of_slots("101", TINY)
    assert 2 <= ends.sum() <= 12 and not example.maps.ends_of_slots("111", TINY).any()


def test_the_truth_of_a_state_is_what_the_run_did_next(example: Any, sample: Sample) -> None:
    frames, truth = example.frames, example.truth
    grid, pull = frames.grid_of([sample]), Pull(**sample.record["pull"])
    pairs = frames.some_pairs(sample, grid, 3)
    order = torch.randperm(len(pairs[0][0]), generator=torch.Generator().manual_seed(0))
    wild = pairs[0][0].moved(torch.zeros(len(order), 3), 9.0 + 0 * pairs[0][0].velocity)
    states = [now.take(order) for now, _ in pairs]
    found, why = truth.followed(sample, pull, [*states, wild], dt=DT)
    assert len(found) == 3 and why
    again = truth.pairs_of_truth(sample, found, grid)
    true = {id(now): later for now, (_, later) in zip((n for n, _ in pairs), again, strict=True)}
    for (now, _), (same, _) in zip(pairs, again, strict=True):
        assert same.matched(now).apart(same)[1] < 1e-4
    # the thermostat draws other numbers, or it would be all the same
    told = example.measures.one_step(lambda state: true[id(state)], pairs)
    assert told["velocity"] < 0.1 and told["place"] < 0.1


def test_states_are_kept_on_the_way(example: Any, sample: Sample) -> None:
    states = example.frames.states_of(sample.window(0, 12), example.frames.grid_of([sample]))
    watched = example.truth.Watched(Replay(states), 3)
    state = states[0]
    for _ in range(11):
        state = watched(state)
    place = {id(one): k for k, one in enumerate(states)}
    kept, some, most = watched.states, watched.some(2), watched.some(9)
    assert [place[id(one)] for one in kept] == [1, 4, 7, 10]
    assert [place[id(one)] for one in some] == [1, 10]
    assert [place[id(one)] for one in most] == [1, 4, 7, 10] and not hasattr(watched, "forces")


def test_confidence_is_judged_over_all_pairs(example: Any) -> None:
    held, judged = example.maps.Held, example.maps.judged
    one = held(np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([True, True]))
    two = held(np.array([3.0, 4.0]), np.array([40.0, 30.0]), np.array([True, False]))
    assert judged([one])["spearman"] == pytest.approx(1.0)
    found = judged([one, two])
    assert found["spearman"] == pytest.approx(0.8) and found["median"] == 25.0
    assert found["band"] == 0.75 and found["band_of_each"] == [1.0, 0.5] and found["cells"] == 4
    assert np.isnan(judged([])["spearman"])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphene")
    quick(folder)
    return folder


def quick(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(EXAMPLE / "graphene.py"), "--quick", "--out", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def test_all_of_it_in_its_small_form(out: Path) -> None:
    found = json.loads((out / "results.json").read_text())
    assert set(found["learned"]).isdisjoint(found["held out"])
    assert found["steps"]["constant velocity"]["velocity"] == pytest.approx(1.0, abs=1e-6)
    assert found["steps"]["net"]["velocity"] < 0.95
    assert found["steps"]["graph network"]["velocity"] < 0.95
    rows = {row["case"]: row for row in found["rows"]}
    assert rows["M0 counts"]["met"] is True
    for case in ("M1 4.2 K bonds, A", "M1 300 K broken", "M2 velocity change", "C1 band"):
        assert rows[case]["met"] in (True, False)
    (yields,) = (row for case, row in rows.items() if case.startswith("M3 yield"))
    assert yields["met"] is None  # one sheet tells nothing
    assert {"net", "graph network", "airebo", "airebo no lj"} < set(found["speed"]["seconds"])
    (followed,) = found["rollouts"]["sheets"]
    assert (
        followed["run"] in found["held out"] and 1 <= followed["followed"] <= followed["asked"] == 2
    )
    assert (
        len(followed["band_of_each"]) == followed["followed"]
        and rows["C1 on rollouts: band"]["met"] is not None
    )
    (kept,) = out.rglob("net-*/followed-*.npz")
    (x, v), (later, _) = np.load(kept)["states"].transpose(1, 2, 0, 3, 4)
    away = np.linalg.norm(later - x - DT * v, axis=-1)
    driven = Dataset(out / "data")[followed["run"]].start.arrays["grip"] != 0
    # grips move on as they did; what moves freely feels forces, and stays where it was
    assert away[:, driven].max() < 1e-3 < np.median(away[:, ~driven]) < 0.5
    pictures = list(out.glob("*.png"))
    assert len(pictures) >= 9
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_what_is_done_is_not_done_again(out: Path) -> None:
    kept = {
        p: p.stat().st_mtime_ns
        for kind in ("*.json", "*.h5", "*.npz", "*.pt")
        for p in out.rglob(kind)
    }
    before = json.loads((out / "results.json").read_text())
    quick(out)
    made = {p for p in kept if p.stat().st_mtime_ns != kept[p]}
    assert made == {out / "results.json"}
    assert json.loads((out / "results.json").read_text()) == before


def test_the_readme_tells_the_command() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    assert "python graphene.py" in readme and "--rest" in readme
