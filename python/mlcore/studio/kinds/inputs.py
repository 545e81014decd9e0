"""Files of a user's data sets that a task works on: linked into its folder, so that its config names
nothing else.

inputs/PLACE/NAME, where PLACE is that of the field that asked for the file.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcore.studio.carbon import record_of
from mlcore.studio.kinds.face import Place, Problem
from mlcore.studio.kinds.paths import PREFIX

__all__ = ["FOLDER", "RAW", "Inputs"]

FOLDER = "inputs"
RAW = "raw"  # where a data set keeps the files as they came


@dataclass
class Inputs:
    """What is taken of data sets for a task.

    Attributes:
        place: whose they are.
        links: name below the folder of the task -> file.
        beside: the same, of records that readers look for beside files.
        problems: what was asked for and is not there.
    """

    place: Place
    links: dict[str, Path] = field(default_factory=dict)
    beside: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def take(self, at: str, reference: Any, endings: tuple[str, ...]) -> str:
        """Take the files that ``upload:ID``, ``upload:ID/name`` or ``upload:ID/pattern*`` means.

        Args:
            at: place of the reference in the config.
            reference: what stands there.
            endings: one of which names have, those of packed files too.

        Returns:
            A pattern of their names, from the folder of the task on.
        """
        into = f"{FOLDER}/{at.replace('.', '_')}"
        try:
            found = self._found(reference, endings)
        except ValueError as error:
            self.problems.append(Problem(at, str(error)))
            found = []
        for path in found:
            name = f"{into}/{path.name}"
            if self.links.setdefault(name, path) != path:
                self.problems.append(Problem(at, f"two files are called {path.name}"))
            if record_of(path).is_file():
                self.beside[f"{into}/{path.stem}.json"] = record_of(path)
        if len(found) == 1 and _plain(found[0]):
            return f"{into}/{found[0].name}"
        return f"{into}/*{found[0].suffix}" if self.beside else f"{into}/*"

    def _found(self, reference: Any, endings: tuple[str, ...]) -> list[Path]:
        if not isinstance(reference, str) or not reference.startswith(PREFIX):
            raise ValueError("files come from your data sets: say upload:ID")
        name, _, inside = reference.removeprefix(PREFIX).partition("/")
        base = self.place.resolved(PREFIX + name)
        pattern = inside or "*"
        if ".." in Path(pattern).parts or Path(pattern).is_absolute():
            raise ValueError(f"{reference!r} leaves the data set")
        try:
            some = sorted(base.rglob(pattern))
        # pathlib has both for patterns that it does not take
        except (ValueError, NotImplementedError):
            raise ValueError(f"{reference!r} is no name of files") from None
        files = [one for one in some if _offered(one, base) and one.name.lower().endswith(endings)]
        if not files:
            raise ValueError(f"{reference!r} has no file that ends in {', '.join(endings)}")
        return files

    def link(self, folder: Path) -> None:
        """Make the files appear in the folder of the task; they stay when the data set goes."""
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        for name, source in (self.links | self.beside).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, path)
            except OSError:
                shutil.copyfile(source, path)


def _offered(path: Path, base: Path) -> bool:
    inside = path.relative_to(base).parts
    came = inside[0] == RAW or not (base / RAW).is_dir()
    hidden = any(part.startswith(".") for part in inside)
    return came and not hidden and path.is_file() and path.resolve().is_relative_to(base)


def _plain(path: Path) -> bool:
    return not set(path.name) & set("*?[]")
