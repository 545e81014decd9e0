"""Forms whose parameters depend on options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms.record import Form

__all__ = ["Family", "Options"]


class Options(BaseModel):
    """What a family of forms is told before its parameters are known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Family(ABC):
    """Forms whose parameters depend on options, such as a file or the size of a network.

    Subclasses make them.

    Attributes:
        name: of the family and of its forms.
        title: in a few words.
        options: their type; its JSON schema says what there is.
        example: species the form of `forms` is made for.
    """

    name: str
    title: str
    options: type[Options]
    example: tuple[str, ...]

    @abstractmethod
    def make(self, species: Sequence[str], options: Any) -> Form:
        """The form for ``species`` (labels) under ``options``, an instance of `options`."""

    def form(self, species: Sequence[str], options: Mapping[str, Any] | None = None) -> Form:
        """The form for ``species``.

        Raises:
            InvalidArgument: an unknown option, or a wrong value of one.
        """
        try:
            told = self.options.model_validate(dict(options or {}))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise InvalidArgument(f"options of {self.name}: {name}: {first['msg']}") from None
        return self.make(tuple(species), told)
