"""What a task begins with where its data are known."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mlcore.studio.kinds.face import Place
from mlcore.studio.kinds.inputs import RAW
from mlcore.studio.kinds.paths import PREFIX

__all__ = ["Known", "Suggesting", "Suggestion", "blank", "known", "referred", "shelf"]

_NOTHING = "ID"  # of references in examples


@dataclass(frozen=True)
class Known:
    """A data set of the user.

    Attributes:
        id: of it.
        kind: of uploads, such as "trajectory".
        summary: what reading it has told.
        folder: of it.
    """

    id: str
    kind: str
    summary: Mapping[str, Any]
    folder: Path

    @property
    def reference(self) -> str:
        """As configs name it."""
        return PREFIX + self.id

    @property
    def files(self) -> list[Path]:
        """As they came, by name."""
        return sorted(path for path in (self.folder / RAW).glob("[!.]*") if path.is_file())

    def ending_in(self, endings: tuple[str, ...]) -> list[Path]:
        """Those with one of these endings."""
        return [path for path in self.files if path.name.lower().endswith(endings)]


@dataclass(frozen=True)
class Suggestion:
    """A config that is filled in, and what was filled in, for people."""

    config: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class Suggesting(ABC):
    """A kind of task whose config can be filled in by its data."""

    name: ClassVar[str]

    @abstractmethod
    def suggested(
        self, config: Mapping[str, Any], place: Place, upload: str | None = None
    ) -> Suggestion:
        """A config with what the data tell; what they tell nothing of stays.

        Args:
            config: as it stands, maybe wrong.
            place: of the user.
            upload: data set to be used; None: that which the config names, else the newest that fits.
        """


def blank(reference: object) -> bool:
    """Whether a reference in a config names nothing yet."""
    return not isinstance(reference, str) or reference.partition(":")[2] in ("", _NOTHING)


def referred(reference: object) -> str | None:
    """The data set of a reference."""
    if not isinstance(reference, str) or blank(reference) or not reference.startswith(PREFIX):
        return None
    return reference.removeprefix(PREFIX).partition("/")[0]


def known(place: Place, upload: str | None) -> Known | None:
    """A data set; None where it is none of the user's."""
    folder = place.uploads.get(upload or "")
    return None if folder is None else _read(str(upload), folder)


def shelf(place: Place) -> Iterable[Known]:
    """All data sets, the newest first."""
    found = [(_changed(folder), name, folder) for name, folder in place.uploads.items()]
    for _, name, folder in sorted(found, reverse=True):
        one = _read(name, folder)
        if one is not None:
            yield one


def _changed(folder: Path) -> float:
    try:
        return (folder / "summary.json").stat().st_mtime
    except OSError:
        return 0.0


def _read(name: str, folder: Path) -> Known | None:
    try:
        told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return Known(name, str(told["kind"]), dict(told["summary"]), folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
