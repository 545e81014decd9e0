"""Every class of targets as something a config can name: its fields are read off its signature."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import numpy.typing as npt
from ase import Atoms
from pydantic import Field, create_model

from mlcore.forcefield.config.structures import Section, Sources, Structure
from mlcore.forcefield.targets import Target

__all__ = ["AnyTarget", "TargetSection", "build", "classes", "described", "sections"]

Numbers = float | list[float] | list[list[float]] | list[list[list[float]]]


class TargetSection(Section):
    """What all targets have."""

    name: str | None = None
    """Unique in the fit; a name of its own where left out."""
    group: str | None = None
    """What reports gather it under."""
    level: Annotated[int, Field(ge=0)] = 0
    """Rank in a hierarchical objective."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Of each of its terms."""
    held_out: bool = False
    """The result is judged by it and the search never sees it."""


def classes() -> dict[str, type[Target]]:
    """All classes of targets by the name a config gives them."""
    from mlcore.forcefield import targets
    from mlcore.forcefield.targets import md

    found: dict[str, type[Target]] = {}
    for room in (targets, md):
        for name in room.__all__:
            one = getattr(room, name)
            if isinstance(one, type) and issubclass(one, Target) and not inspect.isabstract(one):
                found[_snake(name)] = one
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@functools.cache
def sections() -> dict[str, type[TargetSection]]:
    """The pydantic model of each."""
    return {name: _section(name, one) for name, one in classes().items()}


def _section(name: str, one: type[Target]) -> type[TargetSection]:
    hints = typing.get_type_hints(one.__init__, localns={"Atoms": Atoms})
    texts = described(one)
    fields: dict[str, Any] = {"type": (Literal[name], ...)}
    for parameter in _parameters(one):
        kind = _told(hints.get(parameter.name, Any))
        text = texts.get(parameter.name)
        empty = parameter.default is inspect.Parameter.empty
        default = ... if empty else parameter.default
        fields[parameter.name] = (kind, Field(default, description=text))
    made: type[TargetSection] = create_model(
        one.__name__,
        __base__=TargetSection,
        __doc__=(inspect.getdoc(one) or "").partition("\n\n")[0],
        **fields,
    )
    return made


def _parameters(one: type[Target]) -> list[inspect.Parameter]:
    return [
        p
        for p in list(inspect.signature(one.__init__).parameters.values())[1:]
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in TargetSection.model_fields
    ]  # fmt: skip


def _told(hint: Any) -> Any:
    """An annotation as a config can give it: structures by recipe, arrays as lists."""
    if hint is Atoms:
        return Structure
    if hint is npt.ArrayLike:
        return Numbers
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if set(inner) >= set(typing.get_args(npt.ArrayLike)):
            return Numbers | None if type(None) in inner else Numbers
        return functools.reduce(operator.or_, [_told(one) for one in inner])
    if origin is collections.abc.Sequence:
        return list[_told(inner[0])]  # type: ignore[misc]
    if origin is collections.abc.Mapping:
        return dict[inner[0], _told(inner[1])]  # type: ignore[misc,valid-type]
    return hint


def described(thing: Any) -> dict[str, str]:
    """Arguments and what the docstring says of them."""
    text = inspect.getdoc(thing) or ""
    part = re.search(r"^(?:Args|Attributes):\n((?:[ \n].*\n?)*)", text, re.MULTILINE)
    found: dict[str, str] = {}
    for names, words in re.findall(
        r"^    ([\w, ]+): ((?:.*\n?)(?:^     +.*\n?)*)", part.group(1) if part else "", re.MULTILINE
    ):
        found |= {name.strip(): " ".join(words.split()) for name in names.split(",")}
    return found


def _union() -> Any:
    kinds = tuple(sections().values())
    return Annotated[functools.reduce(operator.or_, kinds), Field(discriminator="type")]


AnyTarget: Any = _union()
"""A target of any class, told by its ``type``."""


def build(section: TargetSection, sources: Sources) -> Target:
    """The target of a section.

    Raises:
        InvalidArgument: naming what is wrong.
    """
    kind: str = section.type  # type: ignore[attr-defined]
    one = classes()[kind]
    given = {p.name: _built(getattr(section, p.name), sources) for p in _parameters(one)}
    options: dict[str, Any] = {"level": section.level, "weight": section.weight}
    options |= {k: v for k in ("name", "group") if (v := getattr(section, k)) is not None}
    return one(**given, **options)


def _built(value: Any, sources: Sources) -> Any:
    """Structures in place of what tells them."""
    if isinstance(value, Structure):
        return value.one(sources)
    if isinstance(value, Mapping):
        return {key: _built(one, sources) for key, one in value.items()}
    if isinstance(value, Sequence) and value and isinstance(value[0], Structure):
        return [atoms for one in value for atoms in one.build(sources)]
    return value
