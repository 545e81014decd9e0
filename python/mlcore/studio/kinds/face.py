"""What a studio must know of a kind of task to set it up, run it, watch it and hand out what it made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mlcore.parallel import EngineSettings

__all__ = ["CONFIG", "Download", "Kind", "Place", "Problem", "Progress", "Step"]

CONFIG = "config.json"
"""In the folder of a task: what its command is told, paths resolved."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a config.

    Attributes:
        field: place in it, such as ``parameters.free.A.lower``; empty: of the whole.
        message: what is wrong and what would be right.
    """

    field: str
    message: str


@dataclass(frozen=True)
class Progress:
    """Where a task stands.

    Attributes:
        part: from 0 to 1.
        line: for people.
        facts: numbers that lists and pages show: ``best``, ``evaluations``, ``rate``, ...
    """

    part: float = 0.0
    line: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """Something a task made that people take home.

    Attributes:
        name: of the file they get; of a folder ``NAME.zip``.
        title: what it is.
        path: file or folder.
    """

    name: str
    title: str
    path: Path


@dataclass(frozen=True)
class Step:
    """A page of the wizard.

    Attributes:
        name: in its address.
        title: for people.
        fields: first words of the fields of the config that are set there, so that problems are
            shown at the right step.
    """

    name: str
    title: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a task's config is read: whose uploads it may name, and what the studio has.

    Attributes:
        uploads: id -> folder, of the user's own data sets.
        engine: that the task chose.
        tasks: id -> folder, of the user's own tasks that are done.
    """

    uploads: Mapping[str, Path]
    engine: EngineSettings
    tasks: Mapping[str, Path] = field(default_factory=dict)

    def resolved(self, reference: str) -> Path:
        """The path of ``upload:ID`` or ``upload:ID/name``.

        Raises:
            ValueError: it is none of the user's uploads, or leaves its folder.
        """
        kind, _, rest = reference.partition(":")
        name, _, inside = rest.partition("/")
        if kind != "upload" or name not in self.uploads:
            raise ValueError(f"{reference!r} is none of your data sets; say upload:ID")
        base = self.uploads[name].resolve()
        path = (base / inside).resolve()
        if not path.is_relative_to(base):
            raise ValueError(f"{reference!r} leaves the data set")
        if not path.exists():
            raise ValueError(f"{reference!r} is not there")
        return path


class Kind(ABC):
    """A kind of task. Its objects hold nothing; everything is in folders.

    Attributes:
        name: in addresses and the store.
        title: for people.
        blurb: what it does, in a line.
        steps: pages of its wizard.
        resumable: whether a stopped task goes on where it was, so that it can be paused.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    blurb: ClassVar[str]
    steps: ClassVar[Sequence[Step]]
    resumable: ClassVar[bool] = True

    @abstractmethod
    def example(self) -> dict[str, Any]:
        """The config that a new task begins with."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON schema of its configs."""

    @abstractmethod
    def problems(self, config: Mapping[str, Any], place: Place) -> list[Problem]:
        """Everything that keeps a config from being run; nothing of it is run to find out."""

    @abstractmethod
    def prepare(self, config: Mapping[str, Any], folder: Path, place: Place) -> None:
        """Write what `command` needs into the folder of a task."""

    @abstractmethod
    def command(self, folder: Path, fresh: bool) -> list[str]:
        """``mlcore`` and its words, or another program, to be run in the folder.

        ``fresh``: not going on with what ``run/`` holds.
        """

    @abstractmethod
    def progress(self, folder: Path) -> Progress:
        """Where it stands; asked several times a second, so it must not read whole histories."""

    @abstractmethod
    def view(self, folder: Path) -> dict[str, Any]:
        """All that its page draws, as JSON: ``figures`` (see `mlcore.studio.figures`), ``tables``."""

    @abstractmethod
    def downloads(self, folder: Path) -> list[Download]:
        """What can be taken home by now."""

    def summary(self, config: Mapping[str, Any]) -> str:
        """A config in a line."""
        return ""
