"""Reference problems: fits of silicon whose answer is known, for tests, benchmarks and teaching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.build import bulk

from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.forms import Model, model
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.targets import CubicCrystal, Energies, Forces, Target

__all__ = ["FREE", "Problem", "silicon", "silicon_structures", "silicon_targets"]

FREE = {
    "sw": ("epsilon", "sigma", "a", "lambda", "gamma", "cos0", "B", "p"),
    "tersoff": ("c", "d", "cos0", "n", "beta", "lam2", "B", "lam1", "A"),
}
# of these the wide start is a factor of 3, not a fifth
_LOGARITHMIC = ("c", "beta", "A", "B")
_ELASTIC = ("a", "energy", "C11", "C12", "C44")
_BOUND = 1.5


@dataclass(frozen=True)
class Problem:
    """A fit: what is fitted, where, to what, and the values that made the references.

    Attributes:
        model: the form.
        space: its free parameters, bounds and start.
        targets: what is wanted.
        answer: values of all parameters of the form the references were made of.
    """

    model: Model
    space: Space
    targets: tuple[Target, ...]
    answer: Mapping[str, float]


def silicon_structures() -> list[Atoms]:
    """Fifteen structures of silicon, 546 atoms: five volumes of diamond, simple cubic, bcc, fcc,
    beta tin, five rattled crystals of 64 atoms, a vacancy; named in ``info["name"]``."""
    found = [
        _named(f"diamond {x:g}", bulk("Si", "diamond", 5.431 * x, cubic=True))
        for x in (0.94, 0.97, 1.0, 1.03, 1.06)
    ]
    found += [
        _named("sc", bulk("Si", "sc", 2.55) * (3, 3, 3)),
        _named("bcc", bulk("Si", "bcc", 3.09, cubic=True) * (2, 2, 2)),
        _named("fcc", bulk("Si", "fcc", 3.87, cubic=True) * (2, 2, 2)),
        _named("beta tin", _beta_tin() * (2, 2, 3)),
    ]
    crystal = bulk("Si", "diamond", 5.431, cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(1)
    for size in (0.05, 0.10, 0.15, 0.20, 0.25):
        rattled = crystal.copy()
        rattled.positions += rng.normal(0, size, rattled.positions.shape)
        rattled.set_cell(crystal.cell * (1 + rng.uniform(-0.02, 0.02)), scale_atoms=True)
        found.append(_named(f"rattled {size:.2f}", rattled))
    vacancy = crystal.copy()
    del vacancy[0]
    return [*found, _named("vacancy", vacancy)]


def silicon_targets(model: Model, values: Mapping[str, float]) -> tuple[Target, ...]:
    """Energies, forces of the rattled ones and elastic constants as ``model`` has them: 25 terms."""
    structures = silicon_structures()
    rattled = [atoms for atoms in structures if atoms.info["name"].startswith("rattled")]
    crystal = bulk("Si", "diamond", 5.431)
    nothing = (
        Energies(structures, np.zeros(len(structures))),
        Forces(rattled, [np.zeros((len(a), 3)) for a in rattled]),
        CubicCrystal(crystal, dict.fromkeys(_ELASTIC, 0.0), name="diamond"),
    )
    with Evaluator(model, nothing) as evaluator:
        found = evaluator([values])[0]
    if found.failed is not None or found.notes:
        raise InvalidArgument(f"values: {found.failed or found.notes}")
    counts = [len(atoms) for atoms in structures]
    return (
        Energies(structures, found.values["energies"] * counts, sigma=0.02),
        Forces(rattled, _split(found.values["forces"], rattled), sigma=0.2),
        CubicCrystal(
            crystal,
            dict(zip(_ELASTIC, found.values["diamond"].tolist(), strict=True)),
            name="diamond",
        ),
    )


def silicon(form: str = "tersoff", targets_of: str | None = None, seed: int = 0) -> Problem:
    """Silicon fitted to what a known potential says of fifteen structures and of diamond.

    Args:
        form: ``tersoff`` (9 free parameters) or ``sw`` (8 free).
        targets_of: the form the references are made of; by default ``form`` itself, so that the
            best objective is 0.
        seed: of the start: off by up to a fifth, c, beta, A and B of Tersoff by up to a factor 3.
    """
    if form not in FREE:
        raise InvalidArgument(f"form must be one of {', '.join(FREE)}, got {form!r}")
    fitted, known = model(form, ["Si"]), model(targets_of or form, ["Si"])
    answer = fitted.defaults
    u = np.random.default_rng(seed).uniform(-1, 1, len(FREE[form]))
    free = {
        name: _free(answer[name], x, form == "tersoff" and name in _LOGARITHMIC)
        for name, x in zip(FREE[form], u.tolist(), strict=True)
    }
    targets = silicon_targets(known, known.defaults)
    return Problem(fitted, Space(fitted.parameters, free), targets, answer)


def _free(value: float, u: float, logarithmic: bool) -> Free:
    if logarithmic:
        wide = 3.0**_BOUND
        return Free(lower=value / wide, upper=value * wide, initial=value * 3.0**u, scale="log")
    ends = sorted((value * (1 - 0.2 * _BOUND), value * (1 + 0.2 * _BOUND)))
    return Free(lower=ends[0], upper=ends[1], initial=value * (1 + 0.2 * u))


def _named(name: str, atoms: Atoms) -> Atoms:
    atoms.info["name"] = name
    return atoms


def _beta_tin() -> Atoms:
    a, c = 4.81, 4.81 * 0.552
    places = [(0, 0, 0), (0.5, 0, 0.25), (0.5, 0.5, 0.5), (0, 0.5, 0.75)]
    return Atoms("Si4", scaled_positions=places, cell=[a, a, c], pbc=True)


def _split(flat: npt.NDArray[np.float64], structures: list[Atoms]) -> list[npt.NDArray[np.float64]]:
    ends = np.cumsum([3 * len(atoms) for atoms in structures])[:-1]
    return [part.reshape(-1, 3) for part in np.split(flat, ends)]
