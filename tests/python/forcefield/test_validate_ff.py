"""Cross-validation of fits: what is held out, what is reported, when overfit is said."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.problems import FREE, Problem, silicon, silicon_structures
from mlcore.forcefield.targets import Energies
from mlcore.forcefield.uncertainty.cross_validation import (
    Refit,
    Validation,
    cross_validate,
    hold_out,
    k_fold,
    leave_group_out,
    units,
)
from mlcore.forcefield.uncertainty.misfit import Misfit, jacobian, local_fit


@pytest.fixture(scope="module")
def misfit() -> Problem:
    """Stillinger-Weber to the data of Tersoff."""
    return silicon("sw", "tersoff")


def test_energy_and_forces_of_a_structure_are_held_out_together(misfit: Problem) -> None:
    parts = units(misfit.targets)
    assert ("energies of rattled 0.10", "forces of rattled 0.10") in parts
    assert len(parts) == len(silicon_structures()) + 1
    assert any(len(part) == 5 and all("diamond" in term for term in part) for part in parts)


def test_folds_hold_every_term_out_once(misfit: Problem) -> None:
    folds = k_fold(misfit.targets, 4, seed=3)
    every = [term for held in folds.values() for term in held]
    assert sorted(every) == sorted(t for x in misfit.targets for t in x.terms)
    assert folds == k_fold(misfit.targets, 4, seed=3)
    assert folds != k_fold(misfit.targets, 4, seed=4)
    for held in folds.values():
        for part in units(misfit.targets):
            assert set(part) <= held or not set(part) & held


def test_groups_and_properties_are_held_out_by_name(misfit: Problem) -> None:
    assert set(leave_group_out(misfit.targets)) == {"energies", "forces", "diamond"}
    split = hold_out(misfit.targets, ["forces", "vacancy"])["held out"]
    assert split == {"energies of vacancy"} | set(misfit.targets[1].terms)
    with pytest.raises(InvalidArgument, match="'phonons' is no term"):
        hold_out(misfit.targets, ["phonons"])
    with pytest.raises(InvalidArgument, match="k must be"):
        k_fold(misfit.targets, 99)
    with pytest.raises(InvalidArgument, match="not all"):
        cross_validate(misfit.model, misfit.space, misfit.targets, {"none": []})


def test_a_fit_to_one_crystal_alone_is_reported_as_overfit(misfit: Problem) -> None:
    kept = {f"energies of diamond {x}" for x in ("0.94", "0.97", "1", "1.03", "1.06")}
    targets = misfit.targets[:2]
    others = {t for x in targets for t in x.terms} - kept
    found = cross_validate(misfit.model, misfit.space, targets, hold_out(targets, others))
    assert found.test >= 2 * found.train
    assert found.overfit
    assert set(found.overfit_groups()) == {"energies", "forces"}
    (refit,) = found.refits
    assert refit.test == pytest.approx(_rms([refit.errors[t] for t in others]))
    assert refit.train == pytest.approx(_rms([refit.errors[t] for t in kept]))
    with Evaluator(misfit.model, targets) as again:
        errors = again([refit.values])[0].terms
    for term, error in errors.items():
        assert refit.errors[term] == pytest.approx(abs(error), rel=1e-9, abs=1e-12)


def test_too_few_data_for_a_form_are_seen_by_folds(misfit: Problem) -> None:
    """Energies and elastic constants, no forces and no vacancy: 19 numbers for 8 parameters."""
    energies, _, crystal = misfit.targets
    keep = [k for k, a in enumerate(energies.structures) if a.info["name"] != "vacancy"]
    structures = [energies.structures[k] for k in keep]
    whole = [energies.reference[k] * len(energies.structures[k]) for k in keep]
    few = (Energies(structures, whole, sigma=0.02), crystal)
    found = cross_validate(misfit.model, misfit.space, few, k_fold(few, 3, seed=1))
    assert found.test >= 2 * found.train
    assert found.overfit
    assert len(found.refits) == 3


def test_a_true_form_is_not_reported_as_overfit() -> None:
    fit = silicon("sw", seed=1)
    structures = [a for a in silicon_structures() if len(a) <= 16]
    energies = fit.targets[0]
    keep = [k for k, a in enumerate(energies.structures) if len(a) <= 16]
    noisy = energies.reference + np.random.default_rng(2).normal(0, 0.02, len(energies.reference))
    counts = [len(a) for a in structures]
    targets = (Energies(structures, noisy[keep] * counts, sigma=0.02), fit.targets[2])
    few = type(fit.space)(fit.model.parameters, {n: fit.space.free[n] for n in FREE["sw"][:2]})
    found = cross_validate(fit.model, few, targets, k_fold(targets, 3))
    assert not found.overfit
    assert found.test < 2


def test_a_fit_of_the_callers_is_used(misfit: Problem) -> None:
    asked = []

    def fit(residuals: object, start: np.ndarray) -> np.ndarray:
        asked.append(start)
        return start

    found = cross_validate(
        misfit.model, misfit.space, misfit.targets[2:], {"half": ["diamond C11"]}, fit=fit, starts=3
    )
    assert len(asked) == 3
    np.testing.assert_allclose(asked[0], misfit.space.initial)
    with Evaluator(misfit.model, misfit.targets[2:]) as evaluator:
        rows = Misfit(evaluator, misfit.space, misfit.targets[2:], {"diamond a", "diamond C12"})(
            np.array(asked)
        )
    best = asked[int(np.argmin((rows**2).sum(axis=1)))]
    assert found.refits[0].values["sigma"] in [misfit.space.values(x)["sigma"] for x in asked]
    assert best.shape == (misfit.space.size,)


def test_what_no_fit_looks_at_is_neither_seen_nor_held_out(misfit: Problem) -> None:
    from mlcore.forcefield.targets import Forces

    energies = misfit.targets[0]
    idle = Forces(misfit.targets[1].structures, [np.ones((len(a), 3)) for a in
                  misfit.targets[1].structures], name="idle", weight=0.0)  # fmt: skip
    assert isinstance(energies, Energies)
    alone = cross_validate(misfit.model, misfit.space, [energies], k_fold([energies], 3))
    both = cross_validate(
        misfit.model,
        misfit.space,
        [energies, idle],
        {name: held | {idle.terms[0]} for name, held in k_fold([energies], 3).items()},
    )
    assert (both.train, both.test) == (alone.train, alone.test)
    with pytest.raises(InvalidArgument, match="positive weight"):
        cross_validate(
            misfit.model, misfit.space, [energies, idle], hold_out([energies, idle], ["idle"])
        )


def test_errors_far_below_tolerances_are_no_overfit() -> None:
    def told(train: float, test: float) -> Validation:
        refit = Refit("f", {}, {"a": train, "b": test}, frozenset("b"), {"a": "g", "b": "h"})
        return Validation((refit,))

    assert not told(1e-12, 1e-3).overfit and not told(1e-12, 1e-3).overfit_groups()
    assert told(1e-12, 0.2).overfit and told(1e-12, 0.2).overfit_groups() == ["h"]
    assert not told(0.2, 0.3).overfit


def test_the_record_comes_back_and_names_all(misfit: Problem, tmp_path: object) -> None:
    refit = Refit(
        "one",
        {"a": 1.0},
        {"e": 1.0, "f": 3.0, "g": math.inf},
        frozenset({"f", "g"}),
        {"e": "energies", "f": "forces", "g": "forces"},
    )
    made = Validation((refit,))
    assert refit.train == 1
    assert math.isinf(refit.test)
    text = json.dumps(made.record(), allow_nan=False)
    again = Validation.from_record(json.loads(text))
    assert again == made
    assert "overfit" in made.table()
    path = tmp_path / "validation.png"  # type: ignore[operator]
    Validation((Refit("one", {}, {"e": 1.0, "f": 3.0}, frozenset({"f"}), refit.groups),)).plot(path)
    assert path.stat().st_size > 5000
    with pytest.raises(FileFormatError, match="format"):
        Validation.from_record({"format": "other"})


def test_errors_of_groups_by_hand() -> None:
    groups = {"e": "E", "f": "F", "h": "F"}
    one = Refit("1", {}, {"e": 1.0, "f": 3.0, "h": 4.0}, frozenset({"f", "h"}), groups)
    two = Refit("2", {}, {"e": 2.0, "f": 1.0, "h": 1.0}, frozenset({"e"}), groups)
    found = Validation((one, two))
    assert found.by_group()["F"] == (pytest.approx(1.0), pytest.approx(math.sqrt(12.5)))
    assert found.by_group()["E"] == (pytest.approx(1.0), pytest.approx(2.0))
    assert found.by_term()["h"] == (pytest.approx(1.0), pytest.approx(4.0))
    assert found.test == pytest.approx(math.sqrt((9 + 16 + 4) / 3))
    assert one.by_group()["F"][1] == pytest.approx(math.sqrt(12.5))
    assert math.isnan(one.by_group()["E"][1])


def test_the_local_fit_ends_at_the_known_optimum() -> None:
    matrix = np.random.default_rng(0).normal(size=(6, 3))
    answer = np.array([0.2, 0.9, 0.5])

    def residuals(points: np.ndarray) -> np.ndarray:
        return np.tanh((points - answer) @ matrix.T)

    np.testing.assert_allclose(local_fit(residuals, np.full(3, 0.5)), answer, atol=1e-8)
    np.testing.assert_allclose(jacobian(residuals, answer), matrix, atol=1e-6)
    corner = np.array([0.0, 1.0, 0.5])
    np.testing.assert_allclose(
        jacobian(residuals, corner, 1e-6, central=False),
        matrix / np.cosh(matrix @ (corner - answer))[:, None] ** 2,
        atol=1e-4,
    )


def _rms(errors: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
