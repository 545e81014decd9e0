"""What the administrator of a studio decides: a folder, and `studio.toml` in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlcore.io.toml import read_model
from mlcore.parallel import EngineSettings
from mlcore.studio.processes import machine_bytes

__all__ = ["SETTINGS", "Limits", "Settings", "default_folder"]

SETTINGS = "studio.toml"


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )


class Limits(Section):
    """What one user may ask for."""

    upload: Annotated[int, Field(gt=0)] = 64 << 20
    """Bytes of one file."""
    stored: Annotated[int, Field(gt=0)] = 8 << 30
    """Bytes of all a user keeps, uploads and tasks."""
    uploads: Annotated[int, Field(gt=0)] = 1000
    """Data sets a user keeps."""
    tasks: Annotated[int, Field(gt=0)] = 10_000
    """Tasks a user keeps, drafts too."""
    uploads_at_once: Annotated[int, Field(gt=0)] = 8
    """Of one user, received or read."""
    parsing_seconds: Annotated[float, Field(gt=0)] = 60.0
    """To read an upload."""
    parsing_bytes: Annotated[int, Field(gt=0)] = 2 << 30
    """Of memory to read an upload."""
    structures: Annotated[int, Field(gt=0)] = 100_000
    """Of one data set."""
    request: Annotated[int, Field(gt=0)] = 2 << 20
    """Bytes of a request that is no upload."""
    task_bytes: Annotated[int, Field(gt=0)] | None = None
    """Of memory of a task, all its processes together; None: four fifths of the machine's, divided
    among the tasks that run at once."""
    task_seconds: Annotated[float, Field(gt=0)] | None = None
    """Of all runs of a task; None: as long as it takes."""
    logins: Annotated[int, Field(gt=0)] = 10
    """Failed ones within five minutes from an address before more are refused; of a name, from all
    addresses, ten times as many."""


class Settings(Section):
    """Of a studio.

    Engines are by the names that tasks choose them by; `processes` and `serial` are there where
    none is told.
    """

    users: bool = False
    """People log in by name and password; else one user is let in by a token shown at the start."""
    hosts: tuple[str, ...] = ()
    """Names, besides those of this machine's loopback, under which the studio is reached."""
    secure: bool = False
    """It is reached by https alone, through a proxy on this machine: cookies say so, and who asks is
    whom the proxy names in X-Forwarded-For."""
    slots: Annotated[int, Field(ge=1)] = 1
    """Tasks that run at once."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Most workers of a task; None: one for each core."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    """Name -> engine that tasks may choose."""
    restarts: Annotated[int, Field(ge=0)] = 2
    """How often a task whose process was killed is gone on with."""
    spare: Annotated[int, Field(ge=0)] = 256 << 20
    """Bytes of the disk that uploads leave free."""
    limits: Limits = Limits()
    """Of one user."""

    @field_validator("engines")
    @classmethod
    def _named(cls, engines: dict[str, EngineSettings]) -> dict[str, EngineSettings]:
        return engines or {
            "processes": EngineSettings(name="processes"),
            "serial": EngineSettings(name="serial"),
        }

    @property
    def cores(self) -> int:
        """Most workers of a task."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def task_bytes(self) -> int:
        """Most memory of a task."""
        return self.limits.task_bytes or machine_bytes() * 4 // 5 // self.slots

    @classmethod
    def load(cls, folder: Path) -> Settings:
        """Those of a folder; the defaults where it has no file.

        Raises:
            FileFormatError: naming what is wrong in it.
        """
        path = folder / SETTINGS
        return read_model(path, cls) if path.is_file() else cls()


def default_folder() -> Path:
    """Where a studio keeps everything: MLCORE_STUDIO, else in the user's data."""
    told = os.environ.get("MLCORE_STUDIO")
    if told:
        return Path(told)
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "mlcore" / "studio"
