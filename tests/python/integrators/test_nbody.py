"""Learned steps of many particles: what holds whatever was learned, and how good what was learned is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlcore import md
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators import NBodyIntegrator, Thermostat, load, no_peeking, not_truth_plus_scalar
from mlcore.integrators.metrics import horizon, momentum, separation, temperature
from mlcore.integrators.nbody_fit import Pairs, States, stepped
from mlcore.integrators.pair_kicks import PairKicks
from mlcore.splitting import PairSplitting

Array = np.ndarray
BOX = 6.7949
FIXED = {"n": 16, "box": BOX, "epsilon": 2.0}


@pytest.fixture(scope="module")
def learned() -> NBodyIntegrator:
    data = md.sweep(
        "lennard_jones", {"seed": np.arange(24)}, fixed=FIXED, dt=1e-3, time=25, every=50
    )
    return NBodyIntegrator(steps=(1, 2), atoms=1500, intervals=32, iterations=25).fit(data)


@pytest.fixture(scope="module")
def truth() -> md.Dataset:
    return md.sweep(
        "lennard_jones", {"seed": np.arange(100, 104)}, fixed=FIXED, dt=1e-3, time=40, every=50
    )


def free(n: int = 8, seed: int = 3, kT: float = 0.4) -> md.Dataset:
    """A drop in open space."""
    return md.sweep(
        "lennard_jones", {"seed": [seed]},
        fixed={"n": n, "epsilon": 2.0, "temperature": kT}, dt=1e-3, time=0.2, every=100,
    )  # fmt: skip


# --------------------------------------------------------------------------- how good it is (E)
def test_one_step_of_unseen_runs(learned: NBodyIntegrator) -> None:
    small, large = learned.quality
    assert small.runs == "held-out runs"
    assert small.error < 1e-4 and small.ballistic > 1e-2 and small.r2 > 0.9999
    assert large.error < 1e-3 and large.r2 > 0.999


@pytest.mark.parametrize("interval", [0.05, 0.1])
def test_whole_runs(learned: NBodyIntegrator, truth: md.Dataset, interval: float) -> None:
    model = _with(learned, energy="rescale")
    true = truth.stride(round(interval / 0.05))
    found = model.rollout(true.frames(slice(1)), true.positions.shape[1] - 1)
    assert found.accepted.all()
    system = true.system_of(0)
    potential = np.stack([system.energies_forces(x)[0] for x in found.positions])
    energy = potential + 0.5 * (found.velocities**2).sum((2, 3))
    assert np.abs(energy / true.energy[:, :1] - 1).max() < 1e-10
    assert (potential <= true.energy[:, :1]).all()
    assert np.median(horizon(found.times, separation(found.positions, true.positions[:, 1:]))) > 1.2
    own, reference = (temperature(v, true.masses, 3)[:, 200:].mean()
                      for v in (np.repeat(found.velocities, 2 if interval == 0.1 else 1, 1),
                                truth.velocities))  # fmt: skip
    assert abs(own / reference - 1) < 0.1  # four short runs
    assert model.energy_evaluations_per_step(interval) == 1
    assert learned.energy_evaluations_per_step(interval) == 0


def test_free_of_rescaling_energy_stays(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    found = learned.rollout(truth.frames(slice(1)), 800)
    system = truth.system_of(0)
    energy = np.stack([system.energies_forces(x)[0] for x in found.positions])
    energy += 0.5 * (found.velocities**2).sum((2, 3))
    kinetic = truth.kinetic[:, 200:].mean()
    assert np.abs(energy[:, -100:].mean(1) - truth.energy[:, 0]).max() < 0.1 * kinetic


# ----------------------------------------------------------------- what holds whatever was learned
def test_momentum(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    found = learned.rollout(truth.frames(slice(3)), 200)
    before = momentum(truth.velocities[:, 2:3], truth.masses)
    assert np.abs(momentum(found.velocities, truth.masses) - before).max() < 1e-12


def test_angular_momentum_in_open_space(learned: NBodyIntegrator) -> None:
    window = free()
    found = learned.rollout(window, 100, 0.05)
    x, v = window.positions[:, -1:], window.velocities[:, -1:]
    before, after = (np.cross(*of).sum(2) for of in ((x, v), (found.positions, found.velocities)))
    assert np.abs(after - before).max() < 1e-11 * np.abs(np.cross(x, v)).sum()


def test_translation_rotation_permutation(learned: NBodyIntegrator) -> None:
    window = free()
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    order = np.random.default_rng(1).permutation(8)

    def changed(values: Array, by: Array) -> Array:
        return np.ascontiguousarray((values @ turn + by)[:, :, order])

    shift = np.array([3.0, -2.0, 0.5])
    other = replace(
        window,
        positions=changed(window.positions, shift),
        velocities=changed(window.velocities, 0 * shift),
    )
    a, b = (learned.rollout(w, 10, 0.05) for w in (window, other))
    assert np.abs(changed(a.positions, shift) - b.positions).max() < 1e-10
    assert np.abs(changed(a.velocities, 0 * shift) - b.velocities).max() < 1e-10


def test_its_own_inverse(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    window = truth.frames(slice(200, 201))
    there = learned.rollout(window, 20, 0.1)
    turned = replace(
        window, positions=there.positions[:, -1:], velocities=-there.velocities[:, -1:]
    )
    back = learned.rollout(turned, 20, 0.1)
    assert np.abs(back.positions[:, -1] - window.positions[:, 0]).max() < 1e-9
    assert np.abs(back.velocities[:, -1] + window.velocities[:, 0]).max() < 1e-8


def test_symplectic(learned: NBodyIntegrator) -> None:
    window = free(4)
    x, v = window.positions[0, -1], window.velocities[0, -1]
    size, e = x.size, 1e-5
    columns = []
    for k in range(2 * size):
        ends = []
        for sign in (1, -1):
            state = np.concatenate([x.ravel(), v.ravel()])
            state[k] += sign * e
            moved = replace(
                window.frames(slice(1)),
                positions=state[:size].reshape(1, 1, -1, 3),
                velocities=state[size:].reshape(1, 1, -1, 3),
            )
            found = learned.rollout(moved, 1, 0.1)
            ends.append(np.concatenate([found.positions.ravel(), found.velocities.ravel()]))
        columns.append((ends[0] - ends[1]) / (2 * e))
    jacobian = np.stack(columns, 1)
    form = np.block(
        [[np.zeros((size, size)), np.eye(size)], [-np.eye(size), np.zeros((size, size))]]
    )
    assert np.abs(jacobian.T @ form @ jacobian - form).max() < 1e-6


def test_core_makes_the_step_that_was_learned(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    kicks = learned.learned
    assert kicks is not None
    x, v = truth.positions[:, 100], truth.velocities[:, 100]
    states = States(0.1, x, v, truth.positions[:, 102], truth.velocities[:, 102], truth.masses,
                    np.zeros(16, int), BOX * np.eye(3))  # fmt: skip
    expected = stepped(kicks, states, Pairs.near(kicks, states))
    found = learned.rollout(truth.frames(slice(100, 101)), 1, 0.1)
    assert np.abs(found.positions[:, 0] - expected[0]).max() < 1e-12
    assert np.abs(found.velocities[:, 0] - expected[1]).max() < 1e-11


def test_honesty(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    gate = no_peeking(learned, truth)
    assert gate.held, gate
    found = learned.rollout(truth.frames(slice(1)), 100)
    gate = not_truth_plus_scalar(found.positions, truth.positions[:, 1:101])
    assert gate.held, gate


# -------------------------------------------------------------------- masses, types, steps, baths
def mixture(seeds: list[int], steps: int = 300) -> md.Dataset:
    """Two types that attract each other more than themselves, heavy and light; small steps of the core
    with the exact forces are the truth."""
    n, box = 24, 5.0
    types = np.arange(n) % 2
    masses = np.where(types, 1.0, 3.0)
    depth = np.array([0.5, 1.5, 1.0])  # of 00, 01, 11
    u = np.linspace(1 / 2.5, 1 / 0.6, 201)
    tables = _cubics(u, lambda w: 48 * (w**6 - 0.5))[None, None] * depth[None, :, None, None]
    exact = PairSplitting(1e-3, [0.5, 0.5], [3.0, 1.0], tables, u[0], u[-1])
    system = md.lennard_jones(n, box)
    frames = []
    for seed in seeds:
        x, v = md.random_start(system, seed, temperature=0.6)
        run = exact.run(x, v / np.sqrt(masses)[:, None], steps=50 * steps, every=50,
                        species=types, cell=box * np.eye(3))  # fmt: skip
        frames.append((run.positions, run.velocities))
    x, v = (np.stack(part) for part in zip(*frames, strict=True))
    told = {"n": n, "cell": (box * np.eye(3)).tolist(), "types": types.tolist()}
    zero = np.zeros(x.shape[:2])
    return md.Dataset("recorded", x, v, zero, zero, np.repeat(masses[None], len(x), 0), 0.05,
                      fixed=told)  # fmt: skip


def _cubics(u: Array, function: object) -> Array:
    """(M, 4) Hermite's cubics of a function, with slopes by differences."""
    f, e = function(u), 1e-6  # type: ignore[operator]
    slope = (function(u + e) - function(u - e)) / (2 * e) * (u[1] - u[0])  # type: ignore[operator]
    a, b, p, q = f[:-1], f[1:], slope[:-1], slope[1:]
    return np.stack([a, p, 3 * (b - a) - 2 * p - q, 2 * (a - b) + p + q], -1)


def test_types_and_masses() -> None:
    data = mixture([1, 2, 3, 4, 5])
    with pytest.raises(InvalidArgument, match="cutoff must be given"):
        NBodyIntegrator().fit(data)
    learned = NBodyIntegrator(cutoff=2.5, atoms=1500, intervals=20, iterations=25).fit(data)
    quality = learned.quality[0]
    assert learned.learned is not None and learned.learned.types == 2
    assert quality.r2 > 0.9999 and quality.error < 0.01 * quality.ballistic
    swapped = replace(data, fixed={**data.fixed, "types": (1 - np.arange(24) % 2).tolist()})
    refused = learned.rollout(swapped.frames(slice(1)), 2)
    assert not refused.accepted.any() and "was taught" in refused.refused[0]
    assert np.isnan(refused.positions).all()


def test_a_mass_between_those_taught() -> None:
    over = {"mass": [1.0, 1.6, 2.5], "seed": np.arange(6)}
    data = md.sweep("lennard_jones", over, fixed=FIXED, dt=1e-3, time=15, every=50)
    learned = NBodyIntegrator(atoms=1500, intervals=32, iterations=25).fit(data)
    over = {"mass": [2.0], "seed": [50, 51]}
    unseen = md.sweep("lennard_jones", over, fixed=FIXED, dt=1e-3, time=15, every=50)
    k = np.arange(20, 290, 10)
    parts = [unseen.frames(slice(t, t + 1)) for t in k]
    error = [
        learned.step(p).positions[:, 0] - unseen.positions[:, t + 1]
        for p, t in zip(parts, k, strict=True)
    ]
    assert np.linalg.norm(error, axis=-1).mean() < 1e-4
    light = md.sweep("lennard_jones", {"mass": [0.9]}, fixed=FIXED, dt=1e-3, time=0.1, every=50)
    assert "mass 0.9" in learned.step(light).refused[0]


def test_in_a_reflecting_sphere() -> None:
    fixed = {"n": 8, "radius": 3.0, "epsilon": 2.0, "temperature": 2.5}
    data = md.sweep(
        "lennard_jones", {"seed": np.arange(8)}, fixed=fixed, dt=1e-3, time=15, every=50
    )
    learned = NBodyIntegrator(atoms=1000, intervals=24, iterations=20).fit(data)
    assert learned.quality[0].r2 > 0.999
    unseen = md.sweep("lennard_jones", {"seed": [70]}, fixed=fixed, dt=1e-3, time=15, every=50)
    found = learned.rollout(unseen.frames(slice(1)), 300)
    far = np.linalg.norm(found.positions, axis=3)
    assert far.max() <= 3.0 and (far > 2.8).any()
    near = separation(found.positions, unseen.positions[:, 1:])[0]
    assert near[:20].max() < 0.02


def test_steps(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    window = truth.frames(slice(1))
    whole = learned.rollout(window, 4, 0.2)  # each of two steps of 0.1
    halves = learned.rollout(window, 8, 0.1)
    assert np.array_equal(whole.positions, halves.positions[:, 1::2])
    assert np.allclose(whole.times, [0.2, 0.4, 0.6, 0.8])
    learned.rollout(window, 1, 0.07)  # between steps that were taught
    with pytest.raises(InvalidArgument, match=r"interval 0\.02 .* shorter than the 0\.05"):
        learned.rollout(window, 1, 0.02)


def test_close_pairs_are_done_again_or_refused(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    window = truth.frames(slice(300, 301))
    x, v = window.positions.copy(), window.velocities.copy()
    i, j = _closest(x[0, 0])
    d = x[0, 0, i] - x[0, 0, j]
    d -= BOX * np.round(d / BOX)
    v[0, 0, j] += 12 * d / np.linalg.norm(d)  # a hard collision
    found = _with(learned, halvings=6).rollout(replace(window, velocities=v), 20, 0.1)
    assert found.redone[0] >= 1 or found.refused[0]
    if found.refused[0]:
        assert "closer than any that were taught" in found.refused[0]
        assert np.isnan(found.positions[0, -1]).all()
    assert found.accepted[1:].all() and np.isfinite(found.positions[1:]).all()


def _closest(x: Array) -> tuple[int, int]:
    i, j = np.triu_indices(len(x), 1)
    d = x[i] - x[j]
    d -= BOX * np.round(d / BOX)
    k = int(np.argmin((d * d).sum(1)))
    return int(i[k]), int(j[k])


def test_thermostat(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    model = _with(learned, thermostat=Thermostat(0.9, 2.0, seed=5))
    window = truth.frames(slice(100, 101))
    found = model.rollout(window, 2000)
    warm = temperature(found.velocities, truth.masses)[:, 100:].mean()
    assert abs(warm / 0.9 - 1) < 0.03
    again = model.rollout(window[1:3], 50)
    assert not np.array_equal(again.positions[0], again.positions[1])
    assert np.array_equal(model.rollout(window, 50).positions, found.positions[:, :50])


def test_runs_do_not_depend_on_each_other(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    window = truth.frames(slice(1))
    together = learned.rollout(window, 130)
    alone = learned.rollout(window[2], 130, num_threads=1)
    assert np.array_equal(together.positions[2], alone.positions[0])
    assert np.array_equal(together.positions[:, :1], learned.step(window).positions)


# ------------------------------------------------------------------------------ files, bad input
def test_files(learned: NBodyIntegrator, truth: md.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    model = _with(learned, thermostat=Thermostat(0.9, 2.0))
    model.save(path)
    again = load(path)
    window = truth.frames(slice(1))
    assert isinstance(again, NBodyIntegrator) and again.quality == learned.quality
    assert again.trained_on == learned.trained_on and again.thermostat == model.thermostat
    assert np.array_equal(again.rollout(window, 5).positions, model.rollout(window, 5).positions)


def test_damaged_files(learned: NBodyIntegrator, tmp_path: Path) -> None:
    kicks = learned.learned
    assert kicks is not None
    bent = _with(learned)
    bent.learned = replace(kicks, drifts=kicks.drifts + np.linspace(0, 0.1, len(kicks.drifts)))
    bent.save(tmp_path / "bent.safetensors")
    with pytest.raises(FileFormatError, match="drifts"):
        load(tmp_path / "bent.safetensors")
    whole = tmp_path / "whole.safetensors"
    learned.save(whole)
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(FileFormatError):
        load(tmp_path / "cut.safetensors")


def test_bad_input(truth: md.Dataset) -> None:
    with pytest.raises(Error, match="call fit first"):
        NBodyIntegrator().rollout(truth, 1)
    with pytest.raises(InvalidArgument, match="kicks must be at least 1"):
        NBodyIntegrator(0)
    with pytest.raises(InvalidArgument, match="energy"):
        NBodyIntegrator(energy="magic")
    with pytest.raises(InvalidArgument, match="halvings must be at most 30"):
        NBodyIntegrator(halvings=31)
    with pytest.raises(InvalidArgument, match="exclude"):
        NBodyIntegrator(energy="rescale", thermostat=Thermostat(1.0, 1.0))
    with pytest.raises(InvalidArgument, match="frames"):
        NBodyIntegrator(steps=(2,)).fit(truth.frames(slice(2)))
    with pytest.raises(InvalidArgument, match="three dimensions"):
        NBodyIntegrator().fit(md.sweep("double_well", {"x0": [2.0]}, dt=1e-2, time=1))
    with pytest.raises(InvalidArgument, match="wall that pushes"):
        fixed = {"n": 3, "radius": 5.0, "wall": "wca"}
        walled = md.sweep("lennard_jones", {"seed": [1]}, fixed=fixed, dt=1e-3, time=1, every=50)
        NBodyIntegrator().fit(walled)


def test_another_pair_potential_is_refused(
    learned: NBodyIntegrator, truth: md.Dataset, tmp_path: Path
) -> None:
    over = {"seed": [100], "epsilon": [1.0, 2.0]}
    fixed = {"n": 16, "box": BOX}
    both = md.sweep("lennard_jones", over, fixed=fixed, dt=1e-3, time=0.3, every=50)
    learned.save(tmp_path / "learned.safetensors")
    for model in (learned, load(tmp_path / "learned.safetensors")):
        found = model.rollout(both.frames(slice(1)), 2)
        assert found.refused == ("epsilon of run 0 is 1, taught was 2", "")
        assert np.isnan(found.positions[0]).all() and np.isfinite(found.positions[1]).all()
    wider = {"n": 16, "box": 8.0, "cutoff": 3.0, "epsilon": 2.0}
    other = md.sweep("lennard_jones", {"seed": [1]}, fixed=wider, dt=1e-3, time=0.1, every=50)
    assert "cutoff of run 0 is 3" in learned.rollout(other, 1).refused[0]
    with pytest.raises(InvalidArgument, match=r"one pair potential, got epsilon \[1.0, 2.0\]"):
        NBodyIntegrator().fit(both)


def test_a_step_that_only_heavier_particles_were_taught(tmp_path: Path) -> None:
    """Each of both was taught, not together: the flow depends on h^2 / m."""
    few = {"n": 16, "box": BOX}
    sets = [
        md.sweep(
            "lennard_jones",
            {"seed": np.arange(5)},
            fixed=few | {"mass": mass},
            dt=1e-3,
            time=1,
            every=k,
        )
        for mass, k in ((1.0, 25), (4.0, 50))
    ]
    made = NBodyIntegrator(kicks=2, atoms=200, intervals=8, iterations=2).fit(sets)
    made.save(tmp_path / "m.safetensors")
    for model in (made, load(tmp_path / "m.safetensors")):
        assert not any(model.step(sets[0]).refused + model.step(sets[1]).refused)
        found = model.rollout(sets[0][0], 1, 0.05)
        assert found.refused[0].startswith(
            "step 0.05 is longer than the 0.025 that mass 1 of run 0"
        )
        assert np.isnan(found.positions).all()
        with pytest.raises(InvalidArgument, match=r"step 0.05 is longer"):
            model.export(tmp_path / "bundle", step=0.05, masses=[1.0])


def test_long_steps_of_few_frames_are_taught_as_asked(truth: md.Dataset) -> None:
    few = truth[0].frames(slice(11))
    made = NBodyIntegrator(steps=(8,), kicks=1, atoms=64, intervals=8, iterations=1).fit(few)
    assert np.allclose(made.taught, 8 * few.interval)
    assert np.allclose([one.step for one in made.quality], 8 * few.interval)
    assert made.quality[0].runs == "the same frames"


def test_refusals_name_the_run(learned: NBodyIntegrator, truth: md.Dataset) -> None:
    window = truth.frames(slice(1))[:3]
    x, masses = window.positions.copy(), window.masses.copy()
    x[2, 0, 1] = x[2, 0, 0] + [0.3, 0, 0]
    masses[0] = 9.0
    found = learned.rollout(replace(window, positions=x, masses=masses), 2)
    assert found.refused[0].startswith("mass 9 of run 0") and not found.refused[1]
    assert found.refused[2].startswith("run 2 has particles")


def test_types_without_gaps() -> None:
    drop = free()
    n = drop.positions.shape[2]
    fixed = {"n": n, "cell": None, "types": [0] * (n - 1) + [17]}
    strange = replace(drop, system="recorded", parameters={}, fixed=fixed)
    with pytest.raises(InvalidArgument, match=r"types without gaps: up to 17, but none of \[1"):
        NBodyIntegrator(cutoff=2.5).fit(strange)


def test_held_out_runs_in_which_nothing_acts(tmp_path: Path) -> None:
    fixed = {"n": 2, "box": 6.0}
    data = md.sweep("lennard_jones", {"seed": np.arange(5)}, fixed=fixed, dt=1e-3, time=2, every=50)
    made = NBodyIntegrator(kicks=1, atoms=400, intervals=4, iterations=1).fit(data)
    assert made.quality[0].ballistic == 0 and made.quality[0].r2 in (0.0, 1.0)
    made.save(tmp_path / "made.safetensors")
    still = np.zeros((5, 4, 2, 3))
    still[:, :, 1, 0] = 1.1
    with pytest.raises(InvalidArgument, match="velocities do not change"):
        NBodyIntegrator(cutoff=2.5).fit(
            replace(data.frames(slice(4)), positions=still, velocities=0 * still)
        )


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"steps": 2}, "steps must be a list"),
        ({"thermostat": {"kT": 1.0}}, "thermostat must.*friction"),
        ({"thermostat": 3}, "thermostat must be"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_arguments(told: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        NBodyIntegrator(**told)  # type: ignore[arg-type]


def test_bad_calls(learned: NBodyIntegrator, tmp_path: Path) -> None:
    for nothing in (None, 3, [], "runs"):
        with pytest.raises(InvalidArgument, match="data must be a Dataset"):
            NBodyIntegrator().fit(nothing)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"types must lie in 0\.\.0, got \[5\]"):
        learned.export(tmp_path / "bundle", types=[5])
    for masses in ([], [[1.0]], "heavy"):
        with pytest.raises(InvalidArgument, match="masses must"):
            learned.export(tmp_path / "bundle", masses=masses)
    empty = _with(learned, masses=((),))
    empty.save(tmp_path / "empty.safetensors")
    with pytest.raises(FileFormatError, match="masses"):
        load(tmp_path / "empty.safetensors")


def _with(learned: NBodyIntegrator, **changes: object) -> NBodyIntegrator:
    other = NBodyIntegrator.__new__(NBodyIntegrator)
    other.__dict__.update(learned.__dict__, **changes)
    return other


def test_stages_are_palindromic() -> None:
    kicks = PairKicks(np.full(6, 1 / 6), np.zeros((3, 1, 1, 10)), 2.5, 0.8, 1.0)
    assert [kicks.stage(k) for k in range(5)] == [0, 1, 2, 1, 0]
