"""The evaluator: its numbers are those computed by hand, gaps have reasons, and cheats are caught."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlcore import md
from mlcore.errors import InvalidArgument
from mlcore.integrators import (
    ActionAngleIntegrator,
    BallisticIntegrator,
    Frames,
    PeriodicContinuation,
    VerletIntegrator,
    evaluate,
    fingerprints,
    largest_acceptable_step,
    lyapunov,
    no_peeking,
    not_truth_plus_scalar,
    starts,
)
from mlcore.integrators.chaos import verlet_horizon
from mlcore.integrators.costs import verlet_seconds
from mlcore.integrators.ensembles import pressure
from mlcore.integrators.honesty import simulation_time, unseen_runs, watched

BOX = 6.7949
LJ16 = {"n": 16, "box": BOX, "epsilon": 2.0}


@pytest.fixture(scope="module")
def wells() -> md.Dataset:
    """Above the separatrix, steps of 1."""
    return md.sweep("double_well", {"x0": [1.7, 2.0, -2.4]}, dt=1e-3, time=205, every=1000)


@pytest.fixture(scope="module")
def liquid() -> md.Dataset:
    over = {"seed": [3, 4, 5]}
    return md.sweep("lennard_jones", over, fixed=LJ16, dt=1e-3, time=20, every=50)


class Noisy(VerletIntegrator):
    """The truth, a little off; options make it worse."""

    trained_on: Any = None

    def __init__(self, size: float = 1e-3, velocities: bool = True, blows: int = 0) -> None:
        super().__init__(1e-3)
        self.size, self.tells, self.blows = size, velocities, blows

    def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
        made = super().rollout(window, n, interval)
        rng = np.random.default_rng(n)
        x = made.positions + self.size * rng.standard_normal(made.positions.shape)
        v = made.velocities.copy() if self.tells else np.full_like(x, np.nan)
        if self.blows and n > self.blows:
            v[0, self.blows :] *= 1e6
        return Frames(made.times, x, v, made.refused)


# ----------------------------------------------------------------------------------- how it compares
def test_numbers_are_those_by_hand(wells: md.Dataset) -> None:
    report = evaluate(VerletIntegrator(0.02), wells, timing=False)
    values = report["Verlet"].values
    model, n = VerletIntegrator(0.02), wells.positions.shape[1] - 5
    own = model.rollout(wells.frames(slice(5)), n)
    error = np.abs(own.positions - wells.positions[:, 5:])[..., 0, 0]
    assert report.until == (10.0, 100.0, 201.0)
    for end in (10, 100, 201):
        assert values[f"error_{end}"].number == pytest.approx(error[:, :end].mean())
    when = [np.flatnonzero(e > 0.1)[0] + 1 if (e > 0.1).any() else np.inf for e in error]
    assert (values["horizon"].number or np.inf) == pytest.approx(np.median(when))
    k = 37  # one step from true frames, of one of the windows
    one = model.rollout(wells.frames(slice(k, k + 5)), 1)
    by_hand = np.abs(one.positions[:, 0] - wells.positions[:, k + 5])[:, 0, 0]
    times, forced = report["Verlet"].curves["teacher forced"]
    if (k + 1) in times:
        assert forced[times == k + 1] == pytest.approx(by_hand.mean())
    energy = own.velocities**2 / 2 + own.positions**4 / 4 - own.positions**2 / 2
    change = np.abs(energy[..., 0, 0] / wells.energy[:, 4:5] - 1)
    assert values["energy_largest"].number == pytest.approx(change.max(), rel=1e-6)
    assert values["one_step"].number < 0.01 * values["error_201"].number


def test_the_same_steps_make_no_error(wells: md.Dataset) -> None:
    report = evaluate(VerletIntegrator(1e-3), wells, timing=False, frames=50)
    values = report["Verlet"].values
    assert values["one_step_max"].number == 0
    assert values["error_50"].number == 0 and values["horizon"].number is None
    assert str(values["horizon"]) == ">50 (>50 .. >50)"
    assert values["reversibility"].number < 1e-10
    assert values["velocity_r2"].number == 1


def test_the_differential_equation_as_truth() -> None:
    """Verlet's own error is seen then; 0.7 is no whole number of steps of 0.001 off by rounding."""
    over = {"x0": [2.0, 1.8]}
    runs = md.sweep("double_well", over, dt=0.1, time=70, every=7, truth="order8")
    report = evaluate({"fine": VerletIntegrator(1e-3)}, runs, timing=False, frames=90)
    assert "order 8" in report.facts["truth"] and "0.7 = 7 small ones" in str(report)
    assert 1e-6 < report["fine"].values["error_63"].number < 1e-3
    assert report["truth"].values["error_63"].number == pytest.approx(
        report["fine"].values["error_63"].number * 0.75, rel=0.05
    )  # Verlet from itself with half the step: three quarters of its error
    assert report["periodic"].values["refused"].number == 0


def test_the_window_limits_what_is_predicted(wells: md.Dataset) -> None:
    report = evaluate(BallisticIntegrator(), wells, window=2, interval=2.0, frames=7, timing=False)
    assert report.until[-1] == 14
    assert "2 = 2000 small ones" in str(report) and "2 frames" in str(report)
    assert report.columns[0].name == "truth"
    assert "straight flight" not in [c.name for c in report.columns if c.baseline]


def test_chaos_refuses_late_errors(liquid: md.Dataset) -> None:
    report = evaluate({"half": VerletIntegrator(5e-3)}, liquid, timing=False)
    assert report.exponent is not None and 2.3 < report.exponent.value < 3.9
    assert report.cut == pytest.approx(np.log(1e15) / report.exponent.value)
    values = report["half"].values
    assert values["error_1"].number is not None and values["error_1"].number < 1e-2
    late = values["error_19.8"]
    assert late.number is None and str(late) == "refused" and "means nothing" in late.reason
    assert 1.5 < values["horizon"].number < report["truth"].values["horizon"].number < 8
    assert str(values["growth"]).startswith("exp(")
    for key in ("momentum_largest", "reversibility"):
        assert values[key].number < 1e-10, key
    for key in ("g_l1", "vacf_l1", "msd"):
        scatter = report["truth"].values[key]
        assert "run to run" in str(scatter) and values[key].number < 3 * scatter.number
    assert values["overlaps"].number == 0
    assert abs(values["temperature"].number - report["truth"].values["temperature"].number) < 0.1
    known = evaluate(VerletIntegrator(5e-3), liquid, exponent=1.0, timing=False, frames=40)
    assert known.cut == pytest.approx(np.log(1e15)) and known["Verlet"].values["error_2"].number


def test_what_is_learned_beside_what_is_not(wells: md.Dataset) -> None:
    x0 = starts(md.double_well(), 1.6, 3.05, 40)
    data = md.sweep("double_well", {"x0": x0}, dt=1e-3, time=100, every=10)
    learned = ActionAngleIntegrator(128).fit(data)
    runs = md.Dataset.concatenate(
        [wells, md.sweep("double_well", {"x0": [0.5, x0[7]]}, dt=1e-3, time=205, every=1000)]
    )
    report = evaluate({"learned": learned, "small": VerletIntegrator(0.01)}, runs, forced=10)
    column = report["learned"]
    assert column.values["refused"].number == 1 and list(column.refused) == [3]
    assert "no trained orbit" in str(report)
    assert column.values["error_201"].number < 1e-8 < report["small"].values["error_201"].number
    gates = {gate.name: gate for gate in column.gates}
    assert gates["runs were not trained on"].held is False  # the last one was
    assert "1 of 5 were: 4" in str(report)
    assert gates["nothing after the window is read"].held
    assert report["periodic"].baseline and report["periodic"].values["error_201"].number < 1e-8
    assert report["periodic"].values["kick_start"].number >= 4000
    assert report["small"].values["forces"].number == 100
    assert column.values["forces"].number == column.values["energies"].number == 0
    step = float(report.facts["largest acceptable small step"])
    assert column.values["forces_saved"].number == pytest.approx(1 / step)
    assert step in (0.05, 0.1)
    for key in ("speedup", "speedup_paper", "seconds", "break_even"):
        assert column.values[key].number > 0


def test_small_steps_to_begin_with_are_those_of_frames_that_are_read(wells: md.Dataset) -> None:
    class Silent(VerletIntegrator):
        window: Any = None

    class Mean(Silent):
        def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
            made = super().rollout(window, n, interval)
            return replace(made, positions=made.positions + window.positions.mean())

    several = {"told": VerletIntegrator(0.01), "seen": Silent(0.01), "all": Mean(0.01)}
    report = evaluate(several, wells, baselines=False, frames=20)
    found = {name: report[name].values["kick_start"].number for name in several}
    assert found == {"told": 0, "seen": 0, "all": 4000}


def test_dense_windows_grow_until_they_hold_two_periods() -> None:
    runs = md.sweep("double_well", {"x0": [2.0, 1.8]}, dt=1e-2, time=100, every=20)
    report = evaluate(PeriodicContinuation(64), runs, timing=True)
    values = report["PeriodicContinuation"].values
    assert values["refused"].number == 0 and values["kick_start"].number > 4 * 20
    assert values["error_10"].number < 1e-6
    assert values["one_step"].number is None and values["one_step"].reason


# -------------------------------------------------------------------------------------------- gaps
def test_one_frame_given_grows_too() -> None:
    data = md.sweep("double_well", {"x0": [2.0]}, dt=1e-3, time=40, every=500)
    report = evaluate(VerletIntegrator(0.01), data, window=1, timing=False)
    assert report["periodic"].values["error_10"].number is not None


def test_without_velocities_rows_are_left_out_with_the_reason(liquid: md.Dataset) -> None:
    report = evaluate({"blind": Noisy(velocities=False)}, liquid, exponent=3.0, timing=False)
    values = report["blind"].values
    for key in ("energy_largest", "temperature", "momentum_drift", "velocity_r2", "vacf_l1"):
        assert values[key].number is None and "velocities" in values[key].reason, key
    for key in ("error_1", "g_l1", "msd", "diffusion", "overlaps"):
        assert values[key].number is not None, key
    assert "no velocities are predicted" in str(report)
    assert values["reversibility"].number is None


def test_runs_that_blow_up_are_told(liquid: md.Dataset) -> None:
    report = evaluate({"bad": Noisy(blows=100)}, liquid, exponent=3.0, timing=False)
    values = report["bad"].values
    assert values["blown"].number == 1 and "1 of 3 (first at t = 5.05)" in str(report)
    assert values["error_1"].number is not None
    assert values["temperature"].number < 3  # of the others


def test_one_coordinate_has_no_ensemble(wells: md.Dataset) -> None:
    report = evaluate(VerletIntegrator(0.01), wells, timing=False)
    values = report["Verlet"].values
    for key in ("g_l1", "temperature", "equipartition", "momentum_largest"):
        assert values[key].number is None and values[key].reason, key
    assert report.exponent is None and np.isinf(report.cut)
    assert "errors grow linearly" in report.facts["trajectories mean something"]


def test_an_integrator_that_fails_is_a_column_with_the_reason(wells: md.Dataset) -> None:
    report = evaluate({"odd": VerletIntegrator(0.3)}, wells, timing=False)
    assert "whole number of steps" in report["odd"].values["horizon"].reason
    assert "whole number of steps" in str(report)


def test_recorded_runs_have_no_energies(liquid: md.Dataset) -> None:
    fixed = {"n": 16, "cell": (BOX * np.eye(3)).tolist()}
    told = replace(liquid, system="recorded", fixed=fixed, parameters={}, provenance={})
    report, known = (evaluate(BallisticIntegrator(), data, timing=False) for data in (told, liquid))
    values = report["Ballistic"].values
    for key in ("energy_largest", "overlaps", "potential", "pressure"):
        assert values[key].number is None and values[key].reason, key
    assert report["truth"].values["horizon"].reason and np.isinf(report.cut)
    for key in ("g_l1", "msd", "error_1", "equipartition", "velocity_r2"):
        assert values[key].number == known["Ballistic"].values[key].number, key
    assert "recorded runs" in str(report) and "nan" not in str(report)


def test_a_cell_that_is_no_cube_has_distances_of_its_images(liquid: md.Dataset) -> None:
    """The cube of the runs by sheared vectors: averages are the same."""
    sheared = BOX * np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1.0]])
    found = []
    for cell in (BOX * np.eye(3), sheared):
        fixed = {"n": 16, "cell": cell.tolist()}
        told = replace(liquid, system="recorded", fixed=fixed, parameters={}, provenance={})
        found.append(evaluate(BallisticIntegrator(), told, timing=False)["truth"].curves["g"])
    (r, g), (other_r, other) = found
    close = other_r < 2.0  # its bins are narrower
    assert np.trapezoid(other[close], other_r[close]) == pytest.approx(
        np.trapezoid(g[r < 2.0], r[r < 2.0]), rel=0.1
    )


@pytest.mark.parametrize("n", [1, 2])
def test_what_does_not_move_has_reasons(n: int, tmp_path: Path) -> None:
    fixed = {"n": n, "box": 20.0}
    still = md.sweep("lennard_jones", {"seed": [0, 1]}, fixed=fixed, dt=1e-3, time=1, every=50)
    report = evaluate(VerletIntegrator(1e-2), still, window=1)
    values = report["Verlet"].values
    for key in ("energy_largest", "temperature_drift", "equipartition", "velocity_r2", "msd"):
        assert values[key].number is None and values[key].reason, key
    assert "nan" not in str(report)
    report.save(tmp_path / "report.html")


def test_averages_are_those_of_the_runs_that_both_have() -> None:
    """The truth itself that refuses hot runs is not off: it is compared with the truth of the others."""
    over = {"seed": [0, 1], "temperature": [0.5, 2.0]}
    fixed = {"n": 16, "box": BOX}
    both = md.sweep("lennard_jones", over, fixed=fixed, dt=1e-3, time=4, every=50)

    class Careful(VerletIntegrator):
        def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
            made = super().rollout(window, n, interval)
            hot = window.parameters["temperature"] > 1
            x, v = made.positions.copy(), made.velocities.copy()
            x[hot] = v[hot] = np.nan
            return replace(
                made, positions=x, velocities=v, refused=tuple("hot" if h else "" for h in hot)
            )

    report = evaluate(Careful(1e-3), both, window=1, timing=False, exponent=3.0, baselines=False)
    values = report["Careful"].values
    for key in ("g_l1", "vacf_l1", "msd"):
        assert values[key].number == pytest.approx(0, abs=1e-9), key
    for key in ("potential", "pressure", "diffusion", "temperature"):
        own, true = str(values[key]).split("; truth of these runs ")
        assert own == true, key


def test_few_frames_that_are_kept(liquid: md.Dataset) -> None:
    report = evaluate(Noisy(), liquid, frames=5, discard=0.9, timing=False, exponent=3.0)
    values = report["Noisy"].values
    assert values["temperature"].number and "two frames" in values["temperature_drift"].reason


def test_report_as_text_and_json(liquid: md.Dataset, tmp_path: Path) -> None:
    report = evaluate({"a": VerletIntegrator(5e-3), "b": Noisy()}, liquid, exponent=3.0)
    text = str(report)
    for word in ("truth", "straight flight", "S_p (Eq 3)", "lennard_jones", "Averages", "held"):
        assert word in text
    assert "runs were not trained on: not told" in text
    assert max(map(len, text.splitlines()[10:30])) < 200
    report.to_json(tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    column = next(c for c in told["columns"] if c["name"] == "a")
    assert column["values"]["error_1"]["value"] == report["a"].values["error_1"].number
    assert len(column["curves"]["autoregressive"][0]) == liquid.positions.shape[1] - 5
    assert told["provenance"]["request"]["dt"] == 1e-3
    with pytest.raises(KeyError, match="no column 'c'"):
        report["c"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"window": 0}, "window"),
        ({"window": 500}, "window"),
        ({"interval": 0.5}, "interval"),
        ({"interval": 1.7}, "interval"),
        ({"frames": 0}, "frames"),
        ({"discard": 1.5}, "discard"),
        ({"dt": -1.0}, "dt"),
        ({"window": "5"}, "window"),
    ],
)
def test_wrong_arguments_are_named(wells: md.Dataset, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        evaluate(VerletIntegrator(0.01), wells, **options)


def test_wrong_integrators_and_data(wells: md.Dataset) -> None:
    with pytest.raises(InvalidArgument, match="integrator"):
        evaluate({}, wells)
    with pytest.raises(InvalidArgument, match="integrator"):
        evaluate({"truth": VerletIntegrator(0.01)}, wells)
    with pytest.raises(InvalidArgument, match="data"):
        evaluate(VerletIntegrator(0.01), "runs.h5")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="integrator 'None' has no rollout|integrator"):
        evaluate(None, wells)  # type: ignore[arg-type]

    class Short(VerletIntegrator):
        def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
            return super().rollout(window, max(1, n - 1), interval)

    with pytest.raises(InvalidArgument, match="'Short' must give frames of the shape"):
        evaluate(Short(0.01), wells)

    class Odd(VerletIntegrator):
        changes: Any = None

        def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
            made = super().rollout(window, n, interval)
            return made if self.changes is None else replace(made, **self.changes)

    odd = Odd(0.01)
    for changes, message in (
        ({"velocities": np.zeros((1, 2))}, "as many velocities as positions"),
        ({"positions": [[0.0]]}, "positions as an array"),
    ):
        odd.changes = changes
        with pytest.raises(InvalidArgument, match=f"'Odd' must give {message}"):
            evaluate(odd, wells)


WRONG: dict[str, Any] = {"text": "abc", "object": object(), "complex": 1j, "list": [[1], [2, 3]]}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(
    ("call", "argument"),
    [
        ("lyapunov", name)
        for name in (
            "system",
            "x0",
            "v0",
            "dt",
            "time",
            "renew",
            "apart",
            "warm_up",
            "seed",
            "starts",
        )
    ]
    + [("evaluate", name) for name in ("data", "window", "interval", "frames", "forced", "dt")]
    + [("evaluate", name) for name in ("exponent", "timing", "discard")]
    + [("no_peeking", name) for name in ("data", "window", "steps")],
)
def test_wrong_types_are_named(liquid: md.Dataset, call: str, argument: str, kind: str) -> None:
    calls: dict[str, tuple[Any, dict[str, Any]]] = {
        "lyapunov": (lyapunov, {"system": md.lennard_jones(**LJ16)}),
        "evaluate": (evaluate, {"integrator": VerletIntegrator(5e-3), "data": liquid}),
        "no_peeking": (no_peeking, {"integrator": VerletIntegrator(5e-3), "data": liquid}),
    }
    function, needed = calls[call]
    if argument == "v0":
        needed["x0"] = np.zeros((16, 3))
    name = {"steps": "n"}.get(argument, argument)
    with pytest.raises(InvalidArgument, match=rf"\b{name}\b"):
        function(**needed | {argument: WRONG[kind]})


# ------------------------------------------------------------------------------------------ honesty
class Peeker(VerletIntegrator):
    """Takes the next frames out of the array its window is a view of."""

    def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
        made = super().rollout(window, n, interval)
        whole, size = window.positions.base, window.positions.shape[1]
        if isinstance(whole, np.ndarray) and whole.ndim == 4 and whole.shape[1] >= size + n:
            made.positions[...] = whole[:, size : size + n]
        return made


class Drawn(VerletIntegrator):
    """Something else every time."""

    rng = np.random.default_rng(0)

    def rollout(self, window: md.Dataset, n: int, interval: float | None = None) -> Frames:
        made = super().rollout(window, n, interval)
        made.positions[...] += self.rng.standard_normal()
        return made


def test_peeking_is_seen(liquid: md.Dataset) -> None:
    honest = no_peeking(VerletIntegrator(5e-3), liquid)
    assert honest and honest.held
    caught = no_peeking(Peeker(5e-3), liquid)
    assert not caught and "shuffled" in caught.detail
    assert no_peeking(Drawn(5e-3), liquid).held is None
    assert (liquid.positions[:, 5:] != 0).any() and np.isfinite(liquid.positions).all()
    with pytest.raises(InvalidArgument, match="window"):
        no_peeking(VerletIntegrator(5e-3), liquid, window=10_000)


def test_the_truth_plus_one_number_is_seen(liquid: md.Dataset, wells: md.Dataset) -> None:
    """As a published file was made: mean 2.5e-3, another number in every frame."""
    rng = np.random.default_rng(0)
    for truth in (liquid.positions, wells.positions):
        scalars = 2.5e-3 + 2.1e-4 * rng.standard_normal((1, truth.shape[1], 1, 1))
        assert not not_truth_plus_scalar(truth + scalars, truth)
        noisy = truth + scalars * (1 + 0.1 * rng.standard_normal(truth.shape))
        assert not_truth_plus_scalar(noisy, truth).held
        assert not_truth_plus_scalar(truth, truth).held
    single = wells.positions[:1]
    assert not_truth_plus_scalar(single + 1e-3, single).held is None
    with pytest.raises(InvalidArgument, match="shape"):
        not_truth_plus_scalar(truth, truth[:1])
    some = np.where(np.arange(truth.shape[1])[:, None, None] > 9, np.nan, truth + 1e-3)
    assert not not_truth_plus_scalar(some, truth)


def test_runs_of_the_training_and_odd_times(wells: md.Dataset) -> None:
    model = VerletIntegrator(0.01)
    assert unseen_runs(model, wells).held
    model.trained_on = fingerprints(wells[1])
    gate = unseen_runs(model, wells)
    assert gate.held is False and "1 of 3 were: 1" in str(gate)
    assert unseen_runs(object(), wells).held is None
    made = model.rollout(wells.frames(slice(5)), 4)
    assert simulation_time(made, 1.0).held
    assert not simulation_time(replace(made, times=made.times * 500), 1.0)


def test_evaluations_are_counted(liquid: md.Dataset) -> None:
    window, used = watched(liquid.frames(slice(5)))
    VerletIntegrator(5e-3).rollout(window, 7)
    assert (used.forces, used.energies) == (7 * 10 * 3, 0)
    window.system_of(0).energies_forces(window.positions[:, -1])
    window[:2].system_of(0).energies_forces(window.positions[0, -1])
    assert (used.forces, used.energies) == (7 * 10 * 3 + 4, 4)
    VerletIntegrator(5e-2, truth="order8").rollout(window, 1)
    assert used.forces == 7 * 10 * 3 + 4 + 17 * 3
    np.testing.assert_array_equal(
        VerletIntegrator(5e-3).rollout(window, 7).positions,
        VerletIntegrator(5e-3).rollout(liquid.frames(slice(5)), 7).positions,
    )


# -------------------------------------------------------------------------------------------- chaos
def test_lyapunov_of_sixteen_particles() -> None:
    """Bar: 3.1 +- 0.3."""
    found = lyapunov(md.lennard_jones(**LJ16), time=100)
    assert found.value == pytest.approx(3.1, abs=0.3) and found.chaotic
    assert found.cut() == pytest.approx(11.1, abs=1.1)
    assert len(found.runs) == 4 and found.error < 0.2


def test_lyapunov_is_the_growth_of_a_small_difference(liquid: md.Dataset) -> None:
    """Beside the slope of the logarithm of the distance of two runs, never brought back."""
    system = liquid.system_of(0)
    x, v = liquid.positions[:, -1], liquid.velocities[:, -1]
    moved = x + 1e-12 * np.random.default_rng(1).standard_normal(x.shape)
    made = [system.run(start, v, dt=1e-3, steps=6000, every=100).positions for start in (x, moved)]
    apart = np.sqrt(((made[0] - made[1]) ** 2).sum((2, 3)))[:, 10:]
    slopes = np.polyfit(0.1 * np.arange(apart.shape[1]), np.log(apart).T, 1)[0]
    found = lyapunov(system, x, v, time=50, warm_up=0)
    assert found.value == pytest.approx(slopes.mean(), rel=0.25)


def test_two_particles_are_not_chaotic() -> None:
    x = np.array([[[0.0, 0, 0], [1.3, 0, 0]]])
    found = lyapunov(md.lennard_jones(2), x, 0.1 * np.eye(3)[None, :2], time=200)
    assert not found.chaotic and found.cut() == np.inf
    with pytest.raises(InvalidArgument, match="degrees of freedom"):
        lyapunov(md.double_well())
    with pytest.raises(InvalidArgument, match="starts"):
        lyapunov(md.lennard_jones(3), starts=0)


def test_verlet_leaves_itself(liquid: md.Dataset) -> None:
    """Measured elsewhere, of starts at rest: 1e-3 after 2.4 to 3.8."""
    system, x = liquid.system_of(0), liquid.positions[:, 0]
    when, apart = verlet_horizon(system, x, 0 * x, dt=1e-3, interval=0.1, frames=100, limit=1e-3)
    assert (when > 2).all() and (when < 4.2).all()
    fine = system.run(x, dt=5e-4, steps=2000, every=2000).positions[:, -1]
    coarse = system.run(x, dt=1e-3, steps=1000, every=1000).positions[:, -1]
    np.testing.assert_allclose(apart[:, 9], np.linalg.norm(fine - coarse, axis=-1).mean(-1))


# -------------------------------------------------------------------------------------------- costs
def test_largest_step_of_an_oscillator() -> None:
    """Its energy swings by (omega dt)^2 / 4 of itself: 0.02 is reached at dt = 0.28."""
    rest = np.array([[[1.0]]]), np.zeros((1, 1, 1))
    assert largest_acceptable_step(md.oscillator(), *rest) == 0.2
    assert largest_acceptable_step(md.oscillator(100.0), *rest) == 0.02
    assert largest_acceptable_step(md.oscillator(), *rest, mass=100.0) == 2.0
    with pytest.raises(InvalidArgument, match="no step"):
        largest_acceptable_step(md.oscillator(), *rest, tolerance=1e-15, time=3.0)


def test_seconds_of_a_step() -> None:
    x = np.ones((1, 1, 1))
    found = verlet_seconds(md.oscillator(), x, 0 * x, np.ones((1, 1)), 1e-3)
    assert 1e-10 < found < 1e-4


def test_pressure_is_that_of_the_virial() -> None:
    rng = np.random.default_rng(0)
    system = md.lennard_jones(**LJ16)
    x = np.stack([md.random_start(system, k)[0] for k in range(3)])[None]
    kinetic = rng.uniform(1, 2, (1, 3))
    virial = np.zeros(3)
    for k, frame in enumerate(x[0]):
        for i in range(16):
            for j in range(i):
                d = frame[i] - frame[j]
                d -= BOX * np.round(d / BOX)
                r = np.linalg.norm(d)
                virial[k] += 48 * 2.0 * (r**-12 - 0.5 * r**-6) * (r < 2.5)
    expected = ((2 * kinetic[0] + virial) / (3 * BOX**3)).mean()
    assert pressure(system, x, kinetic)[0] == pytest.approx(expected, rel=1e-6)
    free = md.lennard_jones(16)
    assert np.isnan(pressure(free, x, kinetic)).all()
