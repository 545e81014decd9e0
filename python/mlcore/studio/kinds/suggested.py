"""The config of a fit that suits a data set: a form for its elements, ranges, weights, a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from mlcore.forcefield.forms import Model, form, model
from mlcore.forcefield.forms.species import atomic_number
from mlcore.studio.kinds.outline import LABELS, Outline

__all__ = ["Facts", "Suggestion", "suggested"]

_NOBLE = frozenset({"He", "Ne", "Ar", "Kr", "Xe", "Rn"})
_NO_METAL = _NOBLE | {
    "H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "Te", "I", "At",
}  # fmt: skip
_ANIONS = {"O": -2.0, "S": -2.0, "F": -1.0, "Cl": -1.0, "Br": -1.0, "I": -1.0, "N": -3.0}
_IONIC = 0.6  # part of the formal charge that such models usually have
_FCC_OF_LJ = 8.61  # energy of an atom in the fcc crystal, in wells
_CU = 3.54  # eV, of an atom of copper under the known values of Gupta's form
_BEAD = 18.0154  # g/mol, of a molecule of water
_LOOKED = 1000  # structures whose composition is looked at
_COHESIVE = (-15.0, 0.5)  # eV per atom


@dataclass(frozen=True)
class Facts:
    """What a data set says of its atoms.

    Attributes:
        species: elements, sorted.
        energy: lowest energy per atom, eV; None where none is labelled.
        distances: pair of species -> nearest distance in the structures of lowest energy, A.
    """

    species: tuple[str, ...]
    energy: float | None
    distances: Mapping[tuple[str, str], float]

    @property
    def cohesive(self) -> bool:
        """Whether energies can be those against free atoms, as forms have them."""
        return self.energy is not None and _COHESIVE[0] <= self.energy <= _COHESIVE[1]

    @classmethod
    def of(cls, data: Outline) -> Facts:
        energies = data.energies()
        known = np.flatnonzero(np.isfinite(energies))
        order = known[np.argsort(energies[known], kind="stable")]
        return cls(
            data.names,
            float(energies[order[0]]) if len(order) else None,
            data.distances(order if len(order) else np.arange(len(data))),
        )


@dataclass(frozen=True)
class Suggestion:
    """A config, and why it is so.

    Attributes:
        title: of the task.
        config: of a fit.
        notes: for people.
    """

    title: str
    config: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def suggested(data: Outline, reference: str) -> Suggestion:
    """A fit to labelled structures.

    Args:
        data: what is fitted to.
        reference: how the config names its folder, ``upload:ID/data``.
    """
    facts = Facts.of(data)
    name, why = _form_for(facts)
    told, masses = _labels(facts.species)
    made = model(name, told, masses)
    parameters = _RANGES.get(name, _of_pairs)(made, facts, data)
    notes = [f"{form(name).title}, since {why}."]
    weights, more = _weights(data, facts)
    if masses:
        more.append("The masses of beads are a guess: set them beside their names.")
    count = len(parameters["free"])
    config: dict[str, Any] = {
        "format": "mlcore forcefield fit",
        "version": 1,
        "model": {"form": name, "species": told} | ({"masses": masses} if masses else {}),
        "parameters": parameters,
        "data": {"folder": reference, "groups": weights},
        "objective": {"kind": "sse"},
        "search": {"name": "default"},
        "run": {"budget": min(5000, max(500, 150 * count)), "seed": 0, "timeout": 60.0},
    }
    if len(data) >= 10:
        config["data"]["held_out"] = {"fraction": 0.2, "seed": 0}
        notes.append(
            "A fifth of the structures is held out from the search; the result is judged by them."
        )
    return Suggestion(f"{'-'.join(facts.species)}, {name}", config, notes + more)


def _labels(names: Sequence[str]) -> tuple[list[str], dict[str, float]]:
    """Species as models are told them, and masses of beads."""
    beads = [one for one in names if not atomic_number(one)]
    return [f"bead:{n}" if n in beads else n for n in names], dict.fromkeys(beads, _BEAD)


def _form_for(facts: Facts) -> tuple[str, str]:
    """A form, and why it."""
    own = set(facts.species)
    named = " and ".join(facts.species)
    known = {one for k in form("tersoff").known for one in k.species if "bead" not in one}
    if own <= _NOBLE:
        return "lj/cut", f"between {named} there is dispersion and repulsion alone"
    if own <= known:
        return "tersoff", f"bonds of {named} are covalent; it begins with values of the literature"
    if not own & _NO_METAL and all(atomic_number(one) for one in own):
        return "eam/gupta", f"bonds of {named} are metallic and weaken with their number"
    if len(own) == 2 and own & set(_ANIONS) and own - _NO_METAL | own & {"Si"}:
        return "buck/coul/long", f"{named} make an ionic crystal: repulsion, dispersion, charges"
    return "morse", f"nothing is assumed of {named} but pairs with a bond length and a depth"


# -- parameters ------------------------------------------------------------------------------------
def _bounded(made: Model, name: str, initial: float, **range_: float) -> dict[str, Any]:
    """The entry of a free parameter: ``factor`` or ``within`` around it, and its form's range."""
    own = next(p for p in made.parameters if p.name == name)
    initial = float(f"{initial:.5g}")
    if "factor" in range_ and initial > 0:
        lower, upper, scale = initial / range_["factor"], initial * range_["factor"], "log"
    else:
        room = range_.get("within", 0.4) * abs(initial) or 0.5 * (own.upper - own.lower)
        lower, upper, scale = initial - room, initial + room, "linear"
        # what the form says cannot be negative or more is not
        lower, upper = max(lower, min(own.lower, initial)), min(upper, max(own.upper, initial))
    return {
        "lower": float(f"{lower:.5g}"),
        "upper": float(f"{upper:.5g}"),
        "initial": initial,
        "scale": scale,
    }


def _tersoff(made: Model, facts: Facts, data: Outline) -> dict[str, Any]:
    """All of the angle and the bond of one element; of several the bonds, alike in both orders."""
    values = made.defaults
    wide = {name: {"factor": 4.0} for name in ("c", "beta", "A", "B")}
    if len(facts.species) == 1:
        names = ["c", "d", "cos0", "n", "beta", "lam2", "B", "lam1", "A"]
        free = {n: _bounded(made, n, values[n], **wide.get(n, {"within": 0.4})) for n in names}
        return {"free": free}
    free, ties = {}, {}
    for i, j in combinations_with_replacement(facts.species, 2):
        for n in ("A", "B", "lam1", "lam2"):
            name = f"{n}_{i}_{j}_{j}"
            free[name] = _bounded(made, name, values[name], **wide.get(n, {"within": 0.3}))
            if i != j:
                ties[f"{n}_{j}_{i}_{i}"] = name
    return {"free": free, "ties": ties}


def _pair_names(made: Model, parameter: str) -> list[tuple[str, tuple[str, str]]]:
    names = [one.name for one in made.species]
    return [
        (made.name(parameter, pair), (names[pair[0]], names[pair[1]]))
        for pair in made.form.entries(made.species, "pair")
    ]


def _distance(facts: Facts, pair: tuple[str, str], other: float) -> float:
    first, second = sorted(pair)
    return facts.distances.get((first, second), other)


def _lennard_jones(made: Model, facts: Facts, data: Outline) -> dict[str, Any]:
    free, start = {}, {}
    cohesive = facts.cohesive and facts.energy is not None and facts.energy < 0
    for name, pair in _pair_names(made, "sigma"):
        bond = _distance(facts, pair, 2 ** (1 / 6) * made.defaults[name])
        free[name] = _bounded(made, name, bond / 2 ** (1 / 6), within=0.15)
        start[name.replace("sigma", "cutoff")] = float(f"{min(2.7 * bond, 12.0):.4g}")
    for name, _ in _pair_names(made, "epsilon"):
        deep = -(facts.energy or 0) / _FCC_OF_LJ if cohesive else made.defaults[name]
        free[name] = _bounded(made, name, max(deep, 1e-4), factor=5)
    return {"free": free, "start": start}


def _gupta(made: Model, facts: Facts, data: Outline) -> dict[str, Any]:
    free = {}
    cohesive = facts.cohesive and facts.energy is not None and facts.energy < 0
    scale = -(facts.energy or 0) / _CU if cohesive else 1.0
    for name, pair in _pair_names(made, "r0"):
        free[name] = _bounded(made, name, _distance(facts, pair, made.defaults[name]), within=0.1)
    for parameter in ("A", "xi"):
        for name, _ in _pair_names(made, parameter):
            free[name] = _bounded(made, name, scale * made.defaults[name], factor=3)
    for parameter in ("p", "q"):
        for name, _ in _pair_names(made, parameter):
            free[name] = _bounded(made, name, made.defaults[name], within=0.4)
    return {"free": free}


def _of_pairs(made: Model, facts: Facts, data: Outline) -> dict[str, Any]:
    """Morse."""
    free, start = {}, {}
    for name, pair in _pair_names(made, "r0"):
        bond = _distance(facts, pair, made.defaults[name])
        free[name] = _bounded(made, name, bond, within=0.25)
        start[name.replace("r0", "cutoff")] = float(f"{min(max(2.7 * bond, 5.0), 10.0):.4g}")
    for name, _ in _pair_names(made, "D0"):
        free[name] = _bounded(made, name, made.defaults[name], factor=10)
    for name, _ in _pair_names(made, "alpha"):
        free[name] = _bounded(made, name, made.defaults[name], within=0.5)
    return {"free": free, "start": start}


def _ionic(made: Model, facts: Facts, data: Outline) -> dict[str, Any]:
    """Neutral as the crystal is: the charge of the metal follows from that of the other."""
    anion = next(s for s in facts.species if s in _ANIONS)
    metal = next(s for s in facts.species if s != anion)
    start = {f"charge_{anion}": _IONIC * _ANIONS[anion]}
    ratio = _ratio(data, anion, metal)
    start[f"charge_{metal}"] = -start[f"charge_{anion}"] * ratio
    free: dict[str, Any] = {}
    for parameter, value, wide in (("A", 1000.0, 20.0), ("rho", 0.3, 0.0)):
        for name, pair in _pair_names(made, parameter):
            if pair == (metal, metal):
                # kept apart by their charges
                start[name] = 0.01 if parameter == "A" else 0.3
            else:
                told = {"factor": wide} if wide else {"within": 0.4}
                free[name] = _bounded(made, name, value, **told)
    for name, pair in _pair_names(made, "C"):
        if anion in pair and metal not in pair:
            free[name] = {"lower": 0.0, "upper": 300.0, "initial": 30.0, "scale": "linear"}
    name = f"charge_{anion}"
    free[name] = _bounded(made, name, start.pop(name), within=0.5)
    start.pop(f"charge_{metal}")
    return {"free": free, "start": start, "ties": {f"charge_{metal}": f"{-ratio:.10g}*{name}"}}


def _ratio(data: Outline, anion: str, metal: str) -> float:
    """Anions for each metal atom, of the structure that comes first with both."""
    for k in range(min(len(data), _LOOKED)):
        counts = data.composition(k)
        if metal in counts and anion in counts:
            return counts[anion] / counts[metal]
    return 1.0


_RANGES = {
    "tersoff": _tersoff,
    "lj/cut": _lennard_jones,
    "eam/gupta": _gupta,
    "buck/coul/long": _ionic,
    "morse": _of_pairs,
}


# -- data ------------------------------------------------------------------------------------------
def _weights(data: Outline, facts: Facts) -> tuple[dict[str, Any], list[str]]:
    """What the labels of each group count, and what people should know of it."""
    told = {name: {label: data.has(name, label) for label in LABELS} for name in data.groups}
    forces = any(known["forces"] for known in told.values())
    notes = []
    absolute = facts.energy is not None and not facts.cohesive
    if absolute:
        notes.append(
            f"The lowest energy is {facts.energy:.4g} eV per atom, which is none against free "
            "atoms" + (": energies count 0 until they are shifted." if forces else ".")
        )
    if not any(any(known.values()) for known in told.values()):
        notes.append("No structure has an energy, forces or a stress: add properties as targets.")
    groups = {}
    for name, known in told.items():
        energy = 1.0 if known["energy"] and not (absolute and forces) else 0.0
        groups[name] = {
            "energy": energy,
            "forces": 1.0 if known["forces"] else 0.0,
            "stress": 0.0,
        }
    return groups, notes
