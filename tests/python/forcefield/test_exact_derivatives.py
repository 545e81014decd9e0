"""Derivatives of residuals by parameters: beside differences, in fits, in what judges them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from fit_problems import exact, run_exact
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.evaluator import CLIP, in_tolerances, slopes_in_tolerances
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.forms import model
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.run import fit
from mlcore.forcefield.run.history import read_history, same
from mlcore.forcefield.run.result import Result
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Derivatives, Search, slope_cost
from mlcore.forcefield.search.registry import make
from mlcore.forcefield.targets import (
    CubicCrystal,
    Energies,
    EnergyVolume,
    Forces,
    Stress,
    Target,
)
from mlcore.forcefield.uncertainty import Misfit, fisher
from mlcore.forcefield.uncertainty.misfit import held, jacobian, local_fit, shifted
from mlcore.lammps.environment import mpi_launcher

HERE = Path(__file__).parent
CRYSTAL = ("a", "energy", "bulk", "C11", "C12", "C44 unrelaxed", "C44")

SPACES: dict[str, tuple[str, list[str], Atoms, dict[str, Any]]] = {
    "sw": (
        "sw",
        ["Si"],
        bulk("Si", "diamond", 5.43),
        {
            "free": {
                "epsilon": {"lower": 1.5, "upper": 2.8, "initial": 2.2, "scale": "log"},
                "sigma": {"lower": 1.9, "upper": 2.2, "initial": 2.1},
                "lambda": {"lower": 15.0, "upper": 28.0, "initial": 20.0, "scale": "log"},
                "p": {"lower": 3.5, "upper": 4.5, "initial": 4.1},
            },
            "ties": {"A": "7.05*sqrt(lambda/21)", "B": "0.6022*p/4", "gamma": "1.2*(1 + 0*A)"},
        },
    ),
    "tersoff": (
        "tersoff",
        ["Si"],
        bulk("Si", "diamond", 5.43),
        {
            "free": {
                "beta": {"lower": 5e-7, "upper": 3e-6, "initial": 1.2e-6, "scale": "log"},
                "n": {"lower": 0.6, "upper": 0.95, "initial": 0.8},
                "B": {"lower": 300.0, "upper": 700.0, "initial": 450.0, "scale": "log"},
                "lam1": {"lower": 2.2, "upper": 2.8, "initial": 2.5},
            },
            "ties": {"lam2": "0.7*lam1 + 0.01*log(B)", "A": "1830.8*(lam1/2.4799)**2"},
        },
    ),
    "morse": (
        "morse",
        ["Cu", "Ag"],
        bulk("Cu", "fcc", 3.7),
        {
            "free": {
                "D0_Cu_Cu": {"lower": 0.2, "upper": 0.5, "initial": 0.34, "scale": "log"},
                "alpha_Cu_Cu": {"lower": 1.0, "upper": 1.7, "initial": 1.36},
                "r0_Cu_Cu": {"lower": 2.6, "upper": 3.1, "initial": 2.87},
                "mix": {"lower": 0.8, "upper": 1.2, "initial": 1.0, "scale": "log"},
            },
            "fixed": {f"cutoff_{pair}": 6.5 for pair in ("Cu_Cu", "Cu_Ag", "Ag_Ag")},
            "ties": {
                "D0_Cu_Ag": "mix*sqrt(D0_Cu_Cu*D0_Ag_Ag)",
                "alpha_Cu_Ag": "(alpha_Cu_Cu + alpha_Ag_Ag)/2",
            },
        },
    ),
    "eam": (
        "eam/zhou",
        ["Cu"],
        bulk("Cu", "fcc", 3.62),
        {
            "free": {
                "re": {"lower": 2.4, "upper": 2.7, "initial": 2.55},
                "fe": {"lower": 1.2, "upper": 1.9, "initial": 1.55, "scale": "log"},
                # the end of the table of the embedding goes with it
                "rhoe": {"lower": 20.0, "upper": 25.0, "initial": 22.0, "scale": "log"},
                "alpha": {"lower": 7.0, "upper": 8.4, "initial": 7.7},
                "A": {"lower": 0.25, "upper": 0.45, "initial": 0.33},
            },
            "ties": {"beta": "alpha*8/15", "rhos": "rhoe", "B": "0.4687*sqrt(A/0.3276)"},
        },
    ),
}


def _rattled(cell: Atoms, times: int, second: str | None) -> list[Atoms]:
    found = []
    for seed, scale in enumerate((0.98, 1.0, 1.03)):
        atoms = cell * (times, times, times)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.rattle(0.08, seed=seed)
        if second:
            atoms.symbols[:: 2 + seed] = second
        found.append(atoms)
    return found


def problem(kind: str) -> tuple[Any, Space, list[Target], np.ndarray]:
    form, species, cell, told = SPACES[kind]
    made = model(form, species)
    space = Space(made.parameters, **told)
    structures = _rattled(cell, 2, species[1] if len(species) > 1 else None)
    sizes = [len(atoms) for atoms in structures]
    volume = cell.get_volume() / len(cell)
    targets: list[Target] = [
        Energies(structures, [-3.0 * n for n in sizes], relative_to=1, sigma=1.0),
        Forces(structures, [np.zeros((n, 3)) for n in sizes], sigma=5.0),
        Stress(structures, np.zeros((3, 6)), sigma=1.0),
        EnergyVolume(cell, [0.9 * volume, volume, 1.1 * volume], [-4, -4.6, -4], sigma=1.0),
        CubicCrystal(
            cell,
            dict.fromkeys(CRYSTAL, 1.0),
            sigma=dict.fromkeys(CRYSTAL, 100.0),
            name="crystal",
        ),
    ]
    point = np.random.default_rng(5).uniform(0.35, 0.65, space.size)
    return made, space, targets, point


def differences(residuals: Any, point: np.ndarray, step: float = 2e-4) -> np.ndarray:
    """Central ones of fourth order."""

    def central(h: float) -> np.ndarray:
        up, down = (residuals(point + sign * h * np.eye(len(point))) for sign in (1, -1))
        return ((up - down) / (2 * h)).T

    return (4 * central(step) - central(2 * step)) / 3


@pytest.mark.parametrize("kind", sorted(SPACES))
def test_a_jacobian_is_that_of_central_differences(kind: str) -> None:
    made, space, targets, point = problem(kind)
    with Evaluator(made, targets) as evaluator:
        assert len(evaluator.exact) == len(targets)
        misfit = Misfit(evaluator, space, targets)
        found = jacobian(misfit, point)
        expected = differences(misfit, point)
    terms = np.array(misfit.row_terms)
    for term in dict.fromkeys(misfit.row_terms):
        rows = terms == term
        size = np.abs(expected[rows]).max()
        off = np.abs(found[rows] - expected[rows]).max()
        assert off <= 1e-6 * size + 1e-12, term


@pytest.mark.parametrize(
    "text",
    ["a*b/c - a", "a**b", "abs(a - b)", "max(a, b, c) + min(a, b)", "-sqrt(a*b) + tanh(c)*sin(a)/cos(b)",
     "where(a < b, exp(a), log(b))", "where(a > b, exp(a), log(b))", "2**a", "(-3)**2*a", "+c"],
)  # fmt: skip
def test_arithmetic_has_derivatives(text: str) -> None:
    expression = Expression(text)
    values = {"a": 0.7, "b": 1.3, "c": 2.1}
    rows = {"a": np.array([1.0, 0, 0, 0.5]), "b": np.array([0, 1.0, 0, -0.3]), "c": np.eye(4)[2]}
    step = 1e-6

    def moved(sign: int) -> Any:
        return expression({name: values[name] + sign * step * rows[name] for name in values})

    expected = (moved(1) - moved(-1)) / (2 * step)
    np.testing.assert_allclose(expression.slopes(values, rows), expected, rtol=1e-8, atol=1e-9)


def test_an_evaluation_with_derivatives_is_the_same_to_the_bit() -> None:
    made, space, targets, point = problem("tersoff")
    values, directions = space.values(point), space.directions(point)
    with Evaluator(made, targets) as one, Evaluator(made, targets) as other:
        alone = one([space.values(space.initial), values])[1]
        along = other.along(values, directions)
        after = one.along(values, directions)
    assert along.terms == alone.terms and along.values.keys() == alone.values.keys()
    for name in alone.residuals:
        np.testing.assert_array_equal(along.residuals[name], alone.residuals[name])
        np.testing.assert_array_equal(along.slopes[name], after.slopes[name])


def test_what_is_clipped_or_missing_stands_still_or_turns() -> None:
    _, _, targets, _ = problem("sw")
    forces = targets[1]
    rng = np.random.default_rng(0)
    values = rng.normal(size=len(forces.reference)) * 1e3
    values[: 3 * 16] *= 1e3
    slopes = rng.normal(size=(len(values), 2)) * 1e3
    found = slopes_in_tolerances(forces, values, slopes)
    step = 1e-4
    ends = [in_tolerances(forces, values + s * step * slopes[:, 0])[0] for s in (1, -1)]
    assert in_tolerances(forces, values)[1][0] == CLIP
    scale = np.abs(found[:, 0]).max()
    np.testing.assert_allclose(found[:, 0], (ends[0] - ends[1]) / (2 * step), atol=1e-6 * scale)
    values[5] = np.nan
    found = slopes_in_tolerances(forces, values, slopes)
    assert not found[: 3 * 16].any() and np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["sse", "huber"])
def test_objectives_pass_derivatives_on(kind: str) -> None:
    made, space, targets, point = problem("sw")
    heavier = [
        *targets[:-1],
        CubicCrystal(bulk("Si", "diamond", 5.43), {"a": 5.0, "C11": 90.0}, weight=3.0),
    ]
    objective = Objective(heavier, kind, delta=0.7)
    with Evaluator(made, heavier) as evaluator:
        score = objective.score(evaluator.along(space.values(point), space.directions(point)))

        def residuals(points: np.ndarray) -> np.ndarray:
            told = evaluator([space.values(row) for row in points])
            return np.array([objective.score(one).residuals for one in told])

        expected = differences(residuals, point)
    assert score.slopes is not None
    scale = np.abs(expected).max(axis=0)
    assert np.abs(score.slopes - expected).max(axis=0) == pytest.approx(0, abs=1e-6 * scale.max())
    other = Objective(heavier, "max").score(evaluator([space.values(point)])[0])
    assert other.slopes is None


class Doubled(Energies):
    """Measures something else than its parent."""

    def measure(self, boxes: Any) -> Any:
        found = super().measure(boxes)
        return type(found)(2 * found.values)


def test_targets_that_measure_otherwise_are_not_exact() -> None:
    atoms = bulk("Si", "diamond", 5.43)
    assert Energies([atoms], [0.0]).exact
    assert not Doubled([atoms], [0.0]).exact
    made = model("sw", ["Si"])
    with Evaluator(made, [Energies([atoms], [0.0])], engine="lammps") as evaluator:
        assert not evaluator.exact


class Singular(Energies):
    """Has no derivatives where it is asked for them."""

    def measure(self, boxes: Any) -> Any:
        return super().measure(boxes)

    def slopes(self, boxes: Any, values: np.ndarray) -> np.ndarray:
        raise np.linalg.LinAlgError("singular")


def test_derivatives_that_cannot_be_had_are_differences() -> None:
    made, space, targets, point = problem("sw")
    own = [Singular(targets[0].structures, [1.0, 2.0, 3.0])]
    with Evaluator(made, own) as evaluator:
        found = evaluator.along(space.values(point), space.directions(point))
        assert found.failed is None and found.terms and not found.slopes
        misfit = Misfit(evaluator, space, own)
        expected = differences(misfit, point)
        np.testing.assert_allclose(jacobian(misfit, point), expected, rtol=1e-4)


def test_levels_that_are_not_reached_tell_no_derivatives() -> None:
    made, space, targets, point = problem("sw")
    boxes = targets[0].structures
    levels = (
        Energies(boxes, [0.0] * 3, sigma=1e-3),
        Forces(boxes, [np.zeros((16, 3))] * 3, level=1),
    )
    objective = Objective(levels, tolerances={0: 1.0})
    with Evaluator(made, levels, gate=objective.passes) as evaluator:
        found = evaluator.along(space.values(point), space.directions(point))
        score = objective.score(found)
    assert score.level == 0 and list(found.slopes) == ["energies"]
    assert score.residuals is None and score.slopes is None


def test_rows_without_exact_derivatives_are_differences() -> None:
    made, space, targets, point = problem("sw")
    mixed = [
        targets[0],
        Doubled(targets[1].structures, [1.0, 2.0, 3.0], name="other", names=list("abc")),
    ]
    with Evaluator(made, mixed) as evaluator:
        misfit = Misfit(evaluator, space, mixed)
        found, expected = jacobian(misfit, point), differences(misfit, point)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


# ------------------------------------------------------------------------------- what judges fits
def test_fits_of_shifted_and_held_residuals_take_them_too() -> None:
    made, space, targets, point = problem("sw")
    calls: list[int] = []
    with Evaluator(made, targets[:2]) as evaluator:
        misfit = Misfit(evaluator, space, targets[:2])
        whole = jacobian(misfit, point)

        def counted(candidates: Any) -> Any:
            calls.append(len(candidates))
            return Evaluator.__call__(evaluator, candidates)

        np.testing.assert_array_equal(jacobian(shifted(misfit, np.ones(len(whole))), point), whole)
        others = held(misfit, 1, float(point[1]))
        np.testing.assert_array_equal(jacobian(others, np.delete(point, 1)), np.delete(whole, 1, 1))
        plain = Misfit(counted, space, targets[:2])
        by_differences = fisher(plain, space, point, step=1e-4)
        assert sum(calls) == 2 * space.size + 1
        found = fisher(misfit, space, point)
    np.testing.assert_allclose(found.spectrum, by_differences.spectrum, rtol=1e-4)


def test_a_local_fit_ends_where_one_by_differences_does() -> None:
    made, space, targets, point = problem("tersoff")
    with Evaluator(made, targets[:3]) as evaluator:
        truth = evaluator([space.values(point)])[0].values
        own = [
            Energies(targets[0].structures, truth["energies"] * 16 + 5, relative_to=1),
            Forces(targets[1].structures, np.split(truth["forces"].reshape(-1, 3), 3)),
        ]
    with Evaluator(made, own) as evaluator:
        misfit = Misfit(evaluator, space, own)
        best = local_fit(misfit, space.initial)
        other = local_fit(lambda points: misfit(points), space.initial)
    np.testing.assert_allclose(best, point, atol=1e-6)
    np.testing.assert_allclose(other, point, atol=1e-5)


# ------------------------------------------------------------------------------- searches
def score_of(matrix: np.ndarray, fails: Any = lambda point: False) -> Any:
    def score(point: np.ndarray, columns: tuple[int, ...] = ()) -> Score:
        if fails(point):
            return Score.failed("no")
        row = np.exp(matrix @ point) - np.exp(matrix @ np.full(len(point), 0.3))
        slopes = np.exp(matrix @ point)[:, None] * matrix
        return Score(float(row @ row), row, slopes=slopes[:, columns] if columns else None)

    return score


def driven(search: Search, score: Any, wishes: list[int]) -> Search:
    while not search.done:
        wish = search.wish()
        columns = wish.columns if isinstance(wish, Derivatives) else ((),) * len(wish)
        wishes.append(len(wish) if isinstance(wish, Derivatives) else 0)
        search.tell([score(p, c) for p, c in zip(search.ask(), columns, strict=True)])
    return search


@pytest.mark.parametrize("name", ["geodesic", "least_squares", "lbfgsb", "default", "two_stage"])
def test_searches_wish_for_derivatives(name: str) -> None:
    matrix = np.random.default_rng(2).normal(size=(12, 5))
    found: dict[Any, float] = {}
    for jacobian_ in (None, "asked"):
        wishes: list[int] = []
        search = make(name, 5, start=np.full(5, 0.6), seed=1, budget=150, jacobian=jacobian_)  # type: ignore[arg-type]
        driven(search, score_of(matrix), wishes)
        assert search.best is not None and search.evaluations <= 150
        found[jacobian_] = search.best[1].total
        assert any(wishes) == (jacobian_ is not None)
        assert set(wishes) <= {0, 1, 2, 3} and slope_cost(5) == 3
    assert found["asked"] <= max(1e-20, 10 * found[None])


@pytest.mark.parametrize("name", ["geodesic", "least_squares", "lbfgsb"])
def test_differences_stand_in_for_derivatives_that_are_not_told(name: str) -> None:
    matrix = np.random.default_rng(2).normal(size=(12, 5))
    whole = score_of(matrix)
    search = make(name, 5, start=np.full(5, 0.6), seed=1, budget=400, jacobian="asked")
    driven(search, lambda point, columns: whole(point), [])
    assert search.best is not None and search.best[1].total < 1e-6


def test_columns_are_shared_out_and_put_together() -> None:
    for size in (1, 2, 4, 9, 24, 25, 60):
        wish = Derivatives.of(np.linspace(0, 1, size))
        assert len(wish) == min(size, slope_cost(size))
        assert [k for row in wish.columns for k in row] == list(range(size))
        scores = [
            Score(0.0, np.zeros(2), slopes=np.tile(row, (2, 1)) * 1.0) for row in wish.columns
        ]
        told = wish.told(scores)
        assert told is not None
        np.testing.assert_array_equal(told, np.tile(np.arange(size), (2, 1)))
        assert wish.told([*scores[:-1], Score.failed("no")]) is None
        assert wish.told(scores[:-1]) is None


# ------------------------------------------------------------------------------- fits
@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    found: Result = run_exact(tmp_path_factory.mktemp("exact") / "fit")
    return found


def test_a_fit_is_told_derivatives_and_counts_them(whole: Result) -> None:
    entries = read_history(whole.folder)
    told = [entry for entry in entries if entry.score.slopes is not None]
    assert whole.verified.agrees and whole.total is not None and whole.total < 1e-4
    assert len(told) > 6 and len(told) % 3 == 0 and len(entries) == whole.evaluations
    for first, *others in zip(told[::3], told[1::3], told[2::3], strict=True):
        assert all(one.point == first.point for one in others)
        assert all(one.score.total == first.score.total for one in others)


@pytest.mark.parametrize(
    ("engine", "package"),
    [("processes", "mlcore"), ("parsl", "parsl"), ("dask", "distributed")],
)
def test_workers_tell_the_same_derivatives(
    tmp_path: Path, whole: Result, engine: str, package: str
) -> None:
    pytest.importorskip(package)
    run_exact(tmp_path / "fit", engine=engine, workers=2, timeout=60.0)
    assert same(read_history(tmp_path / "fit"), read_history(whole.folder))


def test_ranks_tell_the_same_derivatives(tmp_path: Path, whole: Result) -> None:
    pytest.importorskip("mpi4py")
    folder = tmp_path / "fit"
    code = (
        "from pathlib import Path; from fit_problems import run_exact; "
        f"run_exact(Path({str(folder)!r}), engine='mpi')"
    )
    command = [str(mpi_launcher()), "-n", "3", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=HERE, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert same(read_history(folder), read_history(whole.folder))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_fit_killed_between_derivatives_goes_on_the_same(
    tmp_path: Path, whole: Result, lost: int
) -> None:
    entries = read_history(whole.folder)
    first = next(k for k, entry in enumerate(entries) if entry.score.slopes is not None)
    folder = tmp_path / "fit"
    code = (
        "from pathlib import Path; from fit_problems import killed_exact; "
        f"killed_exact({first + 3 + lost}, Path({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_history(folder)[: first + 1] and len(read_history(folder)) >= first + 3
    cut_short(folder, first + 1 + lost)
    run_exact(folder, resume=True)
    assert same(read_history(folder), entries)


def cut_short(folder: Path, count: int) -> None:
    """The history as it is after ``count`` evaluations and half a line."""
    lines = (folder / "history.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "history.jsonl").write_bytes(b"".join(lines[:count]) + lines[count][:20])


def test_candidates_that_fail_are_gone_around(tmp_path: Path) -> None:
    made, space, targets = exact(constraint="A < 0.985*1830.8")
    found = fit(made, space, targets, budget=60, search="geodesic", folder=tmp_path / "fit")
    entries = read_history(found.folder)
    assert found.total is not None and found.total < 0.9 * entries[0].score.total
    assert any(entry.score.violation > 0 for entry in entries)


def test_fits_that_gain_nothing_by_it_ask_for_none(tmp_path: Path) -> None:
    entries = read_history(run_exact(tmp_path / "lammps", evaluator="lammps", budget=12).folder)
    assert all(entry.score.slopes is None for entry in entries)
