"""What keeps the config of a fit from being run: everything that can be found at once.

Parts are looked at one after the other, each where those it needs are right. Data sets of users are
not read again: stand-ins with their labels are enough to tell what they lack.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import TypeAdapter, ValidationError

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.config import Config
from mlcore.forcefield.config.data import Data
from mlcore.forcefield.config.fit import FreeSection, Parameters, free_of
from mlcore.forcefield.config.structures import Sources
from mlcore.forcefield.config.targets import AnyTarget, build
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.forms import Model
from mlcore.forcefield.structures import Dataset, labelled
from mlcore.forcefield.structures.dataset import fraction_of
from mlcore.forcefield.targets import Target
from mlcore.io.toml import field_problems
from mlcore.studio.kinds.allowed import not_allowed, too_large
from mlcore.studio.kinds.face import Place, Problem
from mlcore.studio.kinds.outline import LABELS, Outline, outline
from mlcore.studio.kinds.paths import parts, strangers

__all__ = ["check"]

Parts = tuple[Dataset, Dataset]


def check(told: Mapping[str, Any], place: Place, known: list[Problem]) -> list[Problem]:
    """Problems of a config whose references are paths.

    Args:
        told: the config.
        place: whose files it may name.
        known: problems that were found already.
    """
    return _Check(told, place, known).found


class _Check:
    """A look at a config.

    Attributes:
        found: problems, those of fields first.
    """

    def __init__(self, told: Mapping[str, Any], place: Place, known: list[Problem]) -> None:
        self.found = list(known)
        self._numbers: list[int] = []  # of the targets that are right, in the config
        self._config = self._read(told)
        self._refuse(place)
        self._build()

    def _add(self, field: str, message: str) -> None:
        """Take a problem in, unless its field has one already."""
        inside = f"{field}." if field else "."
        known = [one for one in self.found if one.field and f"{one.field}.".startswith(inside)]
        if not known:
            self.found.append(Problem(field, message))

    def _right(self, *names: str) -> bool:
        return not any(one.field.split(".")[0] in names for one in self.found)

    def _try(self, at: str, make: Callable[..., Any], *given: Any, of: Any = None) -> Any:
        """What ``make`` makes of what is given; None where it does not, which is told.

        ``of``: the section whose fields errors may begin with.
        """
        try:
            return make(*given)
        except (Error, ValidationError) as error:
            self._add(*_placed(at, str(error), of))
            return None

    # -- fields ------------------------------------------------------------------------------------
    def _read(self, told: Mapping[str, Any]) -> Config:
        """The config as far as its fields are right."""
        try:
            made = Config.model_validate(told)
        except ValidationError as error:
            for field, text in field_problems(error):
                self._add(field, text)
        except Error as error:
            self._add("", str(error))
        else:
            self._numbers = list(range(len(made.targets)))
            return made
        right: dict[str, Any] = {"model": None, "parameters": _parameters(told.get("parameters"))}
        for name, adapter in _sections().items():
            if name in told and name != "targets":
                right |= _valid(name, adapter, told[name])
        right["targets"] = list(self._targets_of(told.get("targets")))
        return Config.model_construct(**right)

    def _targets_of(self, told: Any) -> Iterator[Any]:
        adapter = _target()
        for k, one in enumerate(told if isinstance(told, list) else ()):
            for target in _valid("", adapter, one).values():
                self._numbers.append(k)
                yield target

    def _refuse(self, place: Place) -> None:
        """What is not run for people on a server, or is too large."""
        config = self._config
        for one in strangers(config, place):
            self._add(self._renumbered(one.field), one.message)
        if config.model is not None and self._right("model"):
            for one in not_allowed(config.model, place):
                self._add(one.field, one.message)
        if self._right("structures", "data"):
            for one in self._try("structures", too_large, config) or ():
                self._add(self._renumbered(one.field), one.message)

    def _renumbered(self, field: str) -> str:
        """A field of a target by its number in the config."""
        name, _, rest = field.partition(".")
        k, dot, inside = rest.partition(".")
        if name != "targets" or not k.isdigit():
            return field
        return f"targets.{self._numbers[int(k)]}{dot}{inside}"

    # -- what they make ----------------------------------------------------------------------------
    def _build(self) -> None:
        config = self._config
        model: Model | None = None
        if config.model is not None and self._right("model"):
            model = self._try("model", config.model.build)
        if model is not None and config.parameters is not None:
            self._parameters(config.parameters, model)
        targets = self._targets(model)
        if targets is not None and self._right("objective"):
            self._try("objective", config.objective.build, targets, of=config.objective)

    def _parameters(self, told: Parameters, model: Model) -> None:
        for name, text in told.ties.items():
            self._try(f"parameters.ties.{name}", Expression, text, f"tie of {name}")
        for k, text in enumerate(told.constraints):
            self._try(f"parameters.constraints.{k}", Expression, text, "constraint")
        if any(one.field.startswith("parameters.start") for one in self.found):
            return  # a file that is not read
        start = self._try("parameters.start", told.start_of, model)
        if start is None:
            return
        named = told.free if isinstance(told.free, dict) else dict.fromkeys(told.free)
        for name, free in named.items():
            at = f"parameters.free.{name}"
            self._try(at, free_of, model, start, name, free)
        if self._right("parameters"):
            self._try("parameters", told.build, model, of=told)

    def _targets(self, model: Model | None) -> tuple[Target, ...] | None:
        """Those of the search; None where one is wrong."""
        config = self._config
        train: list[Target] = []
        if config.data is not None and self._right("data"):
            found = self._try("data", self._labels, config.data, model)
            train += found or ()
        if model is not None and self._right("model", "structures"):
            train += self._built(model)
        if not self._right("model", "data", "structures", "targets"):
            return None
        if not train:
            if config.targets:
                self._add("targets", "all of them are held out; the search needs some")
            return None
        return tuple(train) if self._alone(train) else None

    def _labels(self, data: Data, model: Model | None) -> list[Target]:
        """Targets of stand-ins for labelled structures, those of the search."""
        kept = None if data.folder is None or data.files else outline(data.folder)
        if kept is None:
            return data.targets(data.load())[0]
        for name in data.groups:
            data.check_group(name, kept.groups)
        if model is not None:
            self._check_species(data, kept, model)
        return data.targets_of(*_stand_ins(data, kept))[0]

    def _check_species(self, data: Data, kept: Outline, model: Model) -> None:
        used = {
            one for name, own in kept.species.items() if _counts(data, kept, name) for one in own
        }
        missing = sorted(used - {one.name for one in model.species})
        if missing:
            names = ", ".join(one.name for one in model.species)
            raise InvalidArgument(
                f"data: holds {', '.join(missing)}, and the model is of {names}: choose these "
                "species for the model, or leave groups that hold them out by weights of 0"
            )

    def _built(self, model: Model) -> Iterator[Target]:
        config = self._config
        names = tuple(one.name for one in model.species)
        taken = any(_takes_data(one) for one in (*config.targets, *config.structures.values()))
        if taken and not self._right("data"):
            return
        data = self._try("data", config.dataset) if taken else None
        sources = Sources(names, data, config.structures)
        for k, section in zip(self._numbers, config.targets, strict=True):
            at = f"targets.{k}"
            if any(one.field.startswith(f"{at}.") or one.field == at for one in self.found):
                continue
            target = self._try(at, build, section, sources)
            if target is not None and not section.held_out:
                yield target

    def _alone(self, targets: list[Target]) -> bool:
        """Whether names of targets differ."""
        twice = [name for name, count in Counter(one.name for one in targets).items() if count > 1]
        for name in twice:
            self._add("targets", f"{name!r} is the name of two targets: give one another name")
        return not twice


def _placed(at: str, text: str, section: Any) -> tuple[str, str]:
    """Field and message of an error that begins with a place, of the whole or of a section."""
    where, colon, rest = text.partition(": ")
    if not colon or " " in where:
        return at, text
    if where == at or where.startswith(f"{at}."):
        return where, rest
    if section is None or where not in type(section).model_fields:
        return at, text
    # such as "ties: B is fixed already"
    name = rest.partition(" ")[0].rstrip(":")
    entries = getattr(section, where)
    inside = isinstance(entries, Mapping) and name in entries
    return (f"{at}.{where}.{name}" if inside else f"{at}.{where}"), rest


@functools.cache
def _sections() -> dict[str, TypeAdapter[Any]]:
    return {
        name: TypeAdapter(Any if field.annotation is None else field.annotation)
        for name, field in Config.model_fields.items()
    }


@functools.cache
def _target() -> TypeAdapter[Any]:
    return TypeAdapter(AnyTarget)


def _valid(name: str, adapter: TypeAdapter[Any], told: Any) -> dict[str, Any]:
    """The section by its name, where it is right."""
    try:
        return {name: adapter.validate_python(told)}
    except (ValidationError, Error):
        return {}


def _parameters(told: Any) -> Parameters | None:
    """Of parameters those entries that are right by themselves."""
    if not isinstance(told, Mapping):
        return None
    right: dict[str, Any] = {"free": {}}
    for name, field in Parameters.model_fields.items():
        if name in told:
            right |= _valid(
                name, TypeAdapter(Any if field.annotation is None else field.annotation), told[name]
            )
    if not right["free"] and isinstance(told.get("free"), Mapping):
        one = TypeAdapter(FreeSection)
        entries = {str(n): _valid("free", one, own) for n, own in told["free"].items()}
        right["free"] = {n: own["free"] for n, own in entries.items() if own}
    return Parameters.model_construct(**right)


def _counts(data: Data, kept: Outline, group: str) -> bool:
    """Whether a label of a group has a weight."""
    bits = int(np.bitwise_or.reduce(kept.labels[kept.groups[group]]))
    weights = data.of_group(group)
    return any(getattr(weights, label) and bits & bit for label, bit in LABELS.items())


def _takes_data(value: Any) -> bool:
    if getattr(value, "data", None) is not None:
        return True
    return any(_takes_data(part) for _, part in parts(value, ""))


# -- stand-ins -------------------------------------------------------------------------------------
def _stand_ins(data: Data, kept: Outline) -> Parts:
    """Of the search and held out: for structures of a group that have the same labels one atom."""
    train: dict[str, list[Atoms]] = {}
    test: dict[str, list[Atoms]] = {}
    for name, at in kept.groups.items():
        bits = kept.labels[at].astype(np.int64) + 8 * kept.periodic[at]
        held = np.full(len(bits), data.of_group(name).held_out)
        if data.held_out is not None and not held.all():
            held = fraction_of(name, len(bits), data.held_out.fraction, data.held_out.seed)
        for into, own in ((train, bits[~held]), (test, bits[held])):
            if len(own):
                into[name] = [_atom(name, code) for code in np.unique(own).tolist()]
    return Dataset(train), Dataset(test)


def _atom(group: str, code: int) -> Atoms:
    energy = 0.0 if code & LABELS["energy"] else None
    forces = np.zeros((1, 3)) if code & LABELS["forces"] else None
    stress = np.zeros(6) if code & LABELS["stress"] else None
    made = Atoms("H", cell=[10.0] * 3, pbc=bool(code & 8))
    found = labelled(made, energy, forces, stress)
    found.info["name"] = f"{group} {code}"
    return found
