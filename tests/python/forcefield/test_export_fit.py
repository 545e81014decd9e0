"""What a fit found, as a folder with a card that says what the fit knew."""

from __future__ import annotations

from pathlib import Path

import pytest
from fit_problems import small
from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.export import load
from mlcore.forcefield.library import publish, search
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.run import Setup
from mlcore.forcefield.run.card import card_of, export_fit
from mlcore.forcefield.run.finish import measured
from mlcore.forcefield.run.result import Result


def found(folder: Path, total: float | None = 0.5) -> tuple[Setup, Result]:
    problem = small()
    setup = Setup(problem.model, problem.space, problem.targets, Objective(problem.targets), seed=7)
    values = problem.space.values(problem.space.initial)
    terms = {term: 1.5 for target in problem.targets for term in target.terms}
    result = Result(folder, "done", total, values, terms, {}, evaluations=42)
    return setup, result


def test_the_folder_of_a_fit(tmp_path: Path) -> None:
    setup, result = found(tmp_path)
    with Evaluator(setup.model, setup.targets, engine="lammps") as evaluator:
        (evaluation,) = evaluator([result.values])
    rows = measured(setup, evaluation, None)["targets"]
    export_fit(setup, result, tmp_path / "out", measured=rows)
    model, values, card = load(tmp_path / "out")
    assert values == {name: result.values[name] for name in model.names}
    assert card.bounds["A"].free
    assert card.bounds["A"].upper == pytest.approx(1.2 * 1830.8)
    assert not card.bounds["R"].free
    assert card.provenance.method.startswith("default: 42 evaluations")
    assert "seed 7" in card.provenance.method
    assert len(card.provenance.data) == len(setup.targets)
    assert card.errors.keys() == {target.name for target in setup.targets}
    for target in setup.targets:
        told = card.errors[target.name]
        assert told["rmse"] > 0  # type: ignore[operator]
        assert told["unit"] == target.unit
    # closest in the smallest and in the rattled crystal
    assert 2.0 < card.validity.distances["Si-Si"] < 5.25 * 3**0.5 / 4 + 1e-3
    assert card.validity.temperatures == (0.0, 0.0)
    assert card.validity.densities is not None
    assert card.validity.densities[0] < 2.33 < card.validity.densities[1]


def test_what_was_held_out_of_a_group_stands_beside_what_was_seen(tmp_path: Path) -> None:
    setup, result = found(tmp_path)
    target = setup.targets[0]
    row = {"target": target.name, "unit": "eV/atom", "sigma": [0.1], "reference": [1.0]}
    rows = [row | {"part": "train", "value": [1.5]}, row | {"part": "test", "value": [3.0]}]
    told = card_of(setup, result, rows)["errors"]
    assert (told[target.name]["part"], told[target.name]["rmse"]) == ("train", 0.5)
    held = told[f"{target.name}, held out"]
    assert (held["part"], held["rmse"]) == ("test", 2.0)
    # targets that were not measured again are told by their terms, the others are not
    assert len(told) == len(setup.targets) + 1


def test_what_a_fit_cannot_know_is_asked_for(tmp_path: Path) -> None:
    setup, result = found(tmp_path)
    export_fit(setup, result, tmp_path / "bare")
    assert load(tmp_path / "bare")[2].errors["diamond"]["rms_in_tolerances"] == 1.5
    with pytest.raises(InvalidArgument) as caught:
        publish(tmp_path / "bare", tmp_path / "library")
    told = str(caught.value).partition("missing ")[2].split("; ")
    assert [what.partition(" ")[0] for what in told] == ["title", "license", "provenance.authors"]
    card = {"title": "x", "license": "CC0-1.0", "provenance": {"authors": ["N. Body"]}}
    export_fit(setup, result, tmp_path / "whole", card=card)
    publish(tmp_path / "whole", tmp_path / "library")
    assert [entry.authors for entry in search(tmp_path / "library")] == [("N. Body",)]


def test_clusters_without_a_cell_are_fitted_and_handed_on(tmp_path: Path) -> None:
    from ase import Atoms
    from mlcore.forcefield.forms import model
    from mlcore.forcefield.parameters import Free, Space
    from mlcore.forcefield.run import fit
    from mlcore.forcefield.targets import Energies

    made = model("lj/cut", ["Ar"])
    pairs = [Atoms("Ar2", [[0.0, 0.0, 0.0], [d, 0.0, 0.0]]) for d in (3.6, 3.9, 4.5)]
    targets = [Energies(pairs, [-0.004, -0.005, -0.003], names=["a", "b", "c"])]
    space = Space(made.parameters, {"epsilon": Free(lower=0.005, upper=0.02, initial=0.01)})
    result = fit(made, space, targets, budget=5, folder=tmp_path / "fit")
    assert result.state == "done" and result.verified.agrees, result.verified.words
    card = load(tmp_path / "fit" / "model")[2]
    assert card.validity.distances == {"Ar-Ar": 3.6} and card.validity.densities is None
    # the folder a fit leaves knows all that one made of it later does
    assert "sha256" in card.provenance.data[0] and "5 evaluations" in card.provenance.method
    assert card.errors["energies"]["rmse"] > 0  # type: ignore[operator]


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InvalidArgument, match="holds files"):
        export_fit(*found(tmp_path), tmp_path / "out")


def test_a_fit_that_found_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no candidate"):
        export_fit(*found(tmp_path, None), tmp_path / "out")
    with pytest.raises(InvalidArgument, match=r"provenance\.author"):
        export_fit(*found(tmp_path), tmp_path / "out", card={"provenance": {"author": "x"}})
