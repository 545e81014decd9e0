"""Embedded atoms given as arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from interactions import POTENTIALS, crystal, energy, rendered_energy
from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms import Model, form_of, model
from mlcore.forcefield.forms.eam import Eam

COHESIVE = [
    # Zhou 2001: W; Finnis and Sinclair 1984: 8.90 eV; Cleri and Rosato 1993: 3.544 eV
    ("eam/zhou", "W", "bcc", 3.16485, -8.75999),
    ("eam/zhou", "Al", "fcc", 4.08165, -3.58),
    ("eam/finnis-sinclair", "W", "bcc", 3.1652, -8.90),
    ("eam/gupta", "Cu", "fcc", 3.615, -3.544),
]


@pytest.mark.parametrize(("name", "element", "lattice", "a", "expected"), COHESIVE)
def test_cohesive_energies(
    name: str, element: str, lattice: str, a: float, expected: float, tmp_path: Path
) -> None:
    potential = model(name, [element])
    atoms = bulk(element, lattice, a=a, cubic=True)
    atoms.set_array("kind", np.ones(len(atoms), int))
    found = rendered_energy(atoms, potential, potential.render(potential.defaults), tmp_path)[0]
    assert found / len(atoms) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("element", "lattice", "a"), [("Cu", "fcc", 3.6), ("Al", "fcc", 4.05)])
def test_zhou_is_the_file_of_lammps(element: str, lattice: str, a: float, tmp_path: Path) -> None:
    fine = model("eam/zhou", [element]).form.model_copy(update={"points": (8000, 8000)})
    potential = Model(fine, [element])
    atoms = crystal([element], lattice, a)
    file = POTENTIALS / f"{element}_zhou.eam.alloy"
    lines = ["pair_style eam/alloy", f"pair_coeff * * {file} {element}"]
    theirs, f = energy(atoms, [63.55], lines)
    ours, g = rendered_energy(atoms, potential, potential.render(potential.defaults), tmp_path)
    # two tables of different steps
    assert ours == pytest.approx(theirs, abs=1e-5 * len(atoms))
    np.testing.assert_allclose(g, f, atol=1e-4)


def test_tables_are_the_functions() -> None:
    potential = model("eam/finnis-sinclair", ["W"])
    assert isinstance(potential.form, Eam)
    made = potential.form.functions(potential, potential.defaults)
    r = made.dr * np.arange(made.pair.shape[2])
    assert r[-1] == pytest.approx(4.400224)
    v = potential.defaults
    inside = (r - v["c"]) ** 2 * (v["c0"] + v["c1"] * r + v["c2"] * r**2)
    np.testing.assert_allclose(made.pair[0, 0], np.where(r < v["c"], inside, 0), atol=1e-12)
    np.testing.assert_allclose(made.density[0, 0], np.maximum(v["d"] - r, 0) ** 2, atol=1e-12)
    rho = made.drho * np.arange(made.embedding.shape[1])
    np.testing.assert_allclose(made.embedding[0], -v["A"] * np.sqrt(rho))


def test_an_alloy_of_johnson() -> None:
    potential = model("eam/zhou", ["Cu", "W"])
    assert isinstance(potential.form, Eam)
    made = potential.form.functions(potential, potential.defaults)
    k = 300
    cu, w = made.density[0, 0, k], made.density[0, 1, k]
    expected = (w / cu * made.pair[0, 0, k] + cu / w * made.pair[1, 1, k]) / 2
    assert made.pair[0, 1, k] == pytest.approx(expected)
    assert made.cutoff == 9.0375


PAIR = {
    "kind": "eam",
    "name": "soft",
    "title": "A pair function of one's own",
    "parameters": [
        {"name": "depth", "default": 0.2, "lower": 0.01, "upper": 1, "slot": "pair"},
        {"name": "width", "default": 3.0, "lower": 1, "upper": 6, "slot": "pair"},
    ],
    "pair_style": "eam/alloy",
    "definitions": {"x": "r/width"},
    "embedding": "0*rho",
    "density": "0*r",
    "pair": "depth*where(x < 1, (1 - x**2)**3, 0)",
    "density_max": "1",
    "cutoff": "width + 0.1",
    "points": [4000, 10],
}


def test_a_pair_function_of_ones_own(tmp_path: Path) -> None:
    potential = Model(form_of(PAIR), ["Ar", "Ne"])
    values = potential.complete({"depth_Ar_Ne": 0.5})
    atoms = crystal(["Ar", "Ne"], "fcc", 3.2)
    found = rendered_energy(atoms, potential, potential.render(values), tmp_path)[0]
    assert found == pytest.approx(summed(atoms, values), rel=1e-6)


def summed(atoms: object, values: dict[str, float]) -> float:
    from ase.neighborlist import neighbor_list

    i, j, d = neighbor_list("ijd", atoms, 3.0)
    kind = atoms.arrays["kind"]  # type: ignore[attr-defined]
    names = np.array(["", "Ar", "Ne"])
    depth = [
        values["depth_" + "_".join(sorted((a, b)))]
        for a, b in zip(names[kind[i]], names[kind[j]], strict=True)
    ]
    return float(0.5 * np.sum(np.array(depth) * (1 - (d / 3.0) ** 2) ** 3))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"pair": "depth*rho"}, "pair: rho"),
        ({"embedding": "depth*rho"}, "embedding: depth"),
        ({"pair": "__import__('os')"}, "not allowed"),
        ({"pair_style": "eam"}, "eam/alloy or eam/fs"),
        ({"points": [2, 10]}, "points"),
        ({"files": {"a": "b"}}, "give no files"),
        ({"kind": "eam/table"}, "source"),
        ({"kind": "none"}, "kind must be one of"),
    ],
)
def test_wrong_records(change: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        form_of(PAIR | change)


def test_functions_that_have_no_value() -> None:
    potential = Model(form_of(PAIR | {"pair": "log(r - depth)"}), ["Ar"])
    with pytest.raises(InvalidArgument, match="not finite"):
        potential.render(potential.defaults)
    potential = Model(form_of(PAIR | {"density_max": "1 - 1"}), ["Ar"])
    with pytest.raises(InvalidArgument, match="density_max"):
        potential.render(potential.defaults)


def test_at_no_distance_functions_may_diverge() -> None:
    first = model("eam/gupta", ["Cu"])
    assert isinstance(first.form, Eam)
    before = first.form.functions(first, first.defaults).pair[0, 0]
    made = first.form.model_copy(update={"pair": "A/r"})
    potential = Model(made, ["Cu"])
    found = made.functions(potential, potential.defaults)
    after = found.pair[0, 0]
    assert after[0] == after[1]
    np.testing.assert_allclose(after[1:] * found.dr * np.arange(1, len(after)), 0.0855)
    assert not np.allclose(before[1:], after[1:])
