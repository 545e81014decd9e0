"""Several forms at once: LAMMPS' ``hybrid/overlay``."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.record import Form, FormParameter, Interaction, Known, Model

__all__ = ["OVERLAY", "Overlay", "overlay"]

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")]


class Overlay(Form):
    """The sum of several forms, each for all species.

    Attributes:
        parts: label -> form; the label is what its parameters' names begin with.
    """

    kind: Literal["overlay"] = "overlay"
    parts: dict[Label, SerializeAsAny[Form]] = Field(min_length=2)

    @field_validator("parts", mode="before")
    @classmethod
    def _any_kind(cls, parts: Any) -> Any:
        from mlcore.forcefield.forms.kinds import form_of

        if not isinstance(parts, Mapping):
            return parts
        try:
            return {
                label: part if isinstance(part, Form) else form_of(part)
                for label, part in parts.items()
            }
        except InvalidArgument as error:
            raise ValueError(str(error)) from None

    def _check_kind(self) -> None:
        if self.parameters != tuple(_parameters(self.parts)):
            raise ValueError("parameters must be those of the parts")
        if len({part.units for part in self.parts.values()}) > 1:
            raise ValueError("parts: forms of different units cannot be added")
        if any(isinstance(part, Overlay) for part in self.parts.values()):
            raise ValueError("parts: an overlay of overlays is an overlay of all their parts")

    def reach(self, model: Model, values: Mapping[str, float]) -> float:
        models = _models(model)
        own = {label: _own(label, sub, values) for label, sub in models.items()}
        return max(sub.form.reach(sub, own[label]) for label, sub in models.items())

    def render(self, model: Model, values: Mapping[str, float]) -> Interaction:
        models = _models(model)
        told = {label: sub.render(_own(label, sub, values)) for label, sub in models.items()}
        files: dict[str, str] = {}
        coeff: list[str] = []
        styles: list[str] = []
        for label, part in told.items():
            new = {name: f"{label}.{name}" for name in part.files}
            style = _renamed(part.pair_style, new)
            styles.append(style)
            number = _number(told, label)
            for line in part.pair_coeff:
                words = _renamed(line, new).split()
                coeff.append(" ".join([*words[:3], style.split()[0], *number, *words[3:]]))
            files |= {new[name]: text for name, text in part.files.items()}
        return Interaction(
            pair_style=f"hybrid/overlay {' '.join(styles)}",
            pair_coeff=tuple(coeff),
            files=files,
            commands=tuple(line for part in told.values() for line in part.commands),
            cutoff=max(part.cutoff for part in told.values()),
            atom_style=self.atom_style,
            units=self.units,
        )


def overlay(parts: Mapping[str, Form]) -> Overlay:
    """The sum of ``parts``.

    Args:
        parts: label (letters and digits) -> form.

    Raises:
        InvalidArgument: fewer than two parts, a wrong label, different units.
    """
    forms = list(parts.values())
    known = tuple(
        Known(
            name=f"{label}: {k.name}",
            species=k.species,
            values={
                entry: {f"{label}_{name}": v for name, v in values.items()}
                for entry, values in k.values.items()
            },
            citation=k.citation,
        )
        for label, part in parts.items()
        for k in part.known
    )
    try:
        return Overlay(
            name="hybrid/overlay",
            title=" + ".join(part.title for part in forms),
            citation="; ".join(dict.fromkeys(part.citation for part in forms if part.citation)),
            parameters=tuple(_parameters(parts)),
            pair_style="hybrid/overlay",
            cutoff="0",
            atom_style="charge" if any(p.atom_style == "charge" for p in forms) else "atomic",
            units=forms[0].units if forms else "metal",
            known=known,
            species=_counts(forms),
            elements=_common(forms),
            parts=dict(parts),
        )
    except ValidationError as error:
        raise InvalidArgument(f"parts: {error.errors()[0]['msg']}") from None


def _parameters(parts: Mapping[str, Form]) -> Iterable[FormParameter]:
    for label, part in parts.items():
        for p in part.parameters:
            yield p.model_copy(update={"name": f"{label}_{p.name}"})


def _counts(forms: Sequence[Form]) -> tuple[int, int]:
    return max(f.species[0] for f in forms), min(f.species[1] for f in forms)


def _common(forms: Sequence[Form]) -> tuple[str, ...]:
    bound = [f.elements for f in forms if f.elements]
    if not bound:
        return ()
    return tuple(name for name in bound[0] if all(name in other for other in bound))


@functools.lru_cache(32)
def _models(model: Model) -> dict[str, Model]:
    assert isinstance(model.form, Overlay)
    labels = [s.label for s in model.species]
    masses = {s.name: s.mass for s in model.species}
    return {label: Model(part, labels, masses) for label, part in model.form.parts.items()}


def _own(label: str, part: Model, values: Mapping[str, float]) -> dict[str, float]:
    return {name: values[f"{label}_{name}"] for name in part.names}


def _number(told: Mapping[str, Interaction], label: str) -> list[str]:
    """The number LAMMPS wants where a style is there more than once."""
    styles = {name: part.pair_style.split()[0] for name, part in told.items()}
    same = [name for name, style in styles.items() if style == styles[label]]
    return [str(same.index(label) + 1)] if len(same) > 1 else []


def _renamed(line: str, new: Mapping[str, str]) -> str:
    return " ".join(new.get(word, word) for word in line.split())


class _OverlayOptions(Options):
    parts: dict[Label, str] = Field(
        {"lj": "lj/cut", "morse": "morse"}, min_length=2, description="label -> name of a form"
    )
    options: dict[Label, dict[str, Any]] = Field({}, description="label -> options of its form")


class _OverlayFamily(Family):
    def make(self, species: Sequence[str], options: Any) -> Form:
        from mlcore.forcefield.forms.registry import form

        for label in options.options:
            if label not in options.parts:
                raise InvalidArgument(f"options of hybrid/overlay: no part is called {label}")
        return overlay(
            {
                label: form(name, species, options.options.get(label))
                for label, name in options.parts.items()
            }
        )


OVERLAY = _OverlayFamily("hybrid/overlay", "Sum of several forms", _OverlayOptions, ("Cu",))
