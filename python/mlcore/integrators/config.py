"""What a training of an integrator is told, in one TOML file.

    [runs]                       # what mlcore.md.sweep is told
    system = "double_well"
    dt = 1e-3
    time = 100.0
    every = 400
    over.x0 = [{from = 1.5, to = 3.1, count = 60}, {from = -3.1, to = -1.5, count = 60}]

    [model]                      # arguments of the integrator of this kind
    kind = "lstm"
    hidden = [32, 32]

    [fit]                        # how it is taught; what else stands here is told to its fit()
    strides = [1]                # every k-th frame of the runs, several where one model takes several
    held_out = 0.1               # part of the runs it is judged by, which its fit() never sees
    horizon = 100.0              # time to which it is rolled out on them

Instead of [runs], `fit.data` may name a file of runs, relative to the folder of the TOML file.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from mlcore.integrators import saved
from mlcore.io.toml import read_model
from mlcore.md import Dataset, sweep

__all__ = ["Config", "Runs", "load_config"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Section):
    """Numbers at equal distances, both ends included."""

    first: Number = Field(alias="from")
    last: Number = Field(alias="to")
    count: int = Field(ge=1)

    def values(self) -> list[float]:
        """All of them."""
        found: list[float] = np.linspace(self.first, self.last, self.count).tolist()
        return found


class Runs(_Section):
    """Runs of a reference system: see `mlcore.md.sweep`."""

    system: str
    dt: Positive
    time: Positive
    every: int = Field(default=1, ge=1)
    truth: Literal["verlet", "order8"] = "verlet"
    over: dict[str, Number | Range | list[Number | Range]] = {}
    """Values of parameters: numbers, ranges, lists of both."""
    fixed: dict[str, int | Number | str] = {}
    """What all runs share."""

    def make(self, path: Path, progress: bool = False) -> Dataset:
        """The runs, kept in a file; a sweep that was stopped goes on."""
        return sweep(
            self.system,
            {name: _values(told) for name, told in self.over.items()},
            fixed=self.fixed,
            dt=self.dt,
            time=self.time,
            every=self.every,
            truth=self.truth,
            path=path,
            progress=progress,
        )


def _values(told: float | Range | list[float | Range]) -> list[float]:
    if isinstance(told, list):
        return [value for part in told for value in _values(part)]
    return told.values() if isinstance(told, Range) else [told]


class Model(BaseModel):
    """Which integrator, and the arguments that make it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.kind not in saved.KINDS:
            raise ValueError(f"kind must be one of {', '.join(saved.KINDS)}, got {self.kind!r}")
        _check(_class(self.kind), self.arguments)
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """All but the kind."""
        return dict(self.model_extra or {})

    def make(self) -> Any:
        """The integrator, not fitted."""
        return _class(self.kind)(**self.arguments)


class Fit(BaseModel):
    """How the integrator is taught."""

    model_config = ConfigDict(extra="allow", frozen=True)
    data: str | None = None
    strides: list[Annotated[int, Field(ge=1)]] = Field(default=[1], min_length=1)
    held_out: float = Field(default=0.1, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    horizon: Positive | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What is told to fit()."""
        return dict(self.model_extra or {})


class Config(_Section):
    """One TOML file."""

    runs: Runs | None = None
    model: Model
    fit: Fit = Fit()
    _folder: Path = PrivateAttr(Path())

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.runs is None) == (self.fit.data is None):
            raise ValueError("needs either a section runs or the field fit.data")
        _check(_class(self.model.kind).fit, self.fit.arguments, "fit.")
        return self

    def dataset(self, folder: Path, progress: bool = False) -> Dataset:
        """The runs: those of the file that is named, or a sweep kept in a folder."""
        if self.runs is not None:
            return self.runs.make(folder / "runs.h5", progress)
        assert self.fit.data is not None
        return Dataset.load(self._folder / self.fit.data)


def load_config(path: str | Path) -> Config:
    """Read and check a TOML file.

    Raises:
        FileFormatError: the file is absent or not TOML, or a field is missing, unknown or wrong;
            the message names file and field and says what would be right.
    """
    config = read_model(path, Config)
    config._folder = Path(path).resolve().parent
    return config


def _class(kind: str) -> Any:
    module, name = saved.KINDS[kind]
    return getattr(importlib.import_module(f"mlcore.integrators.{module}"), name)


_OWN = ("self", "data", "progress", "checkpoint", "training")


def _check(call: Callable[..., Any], told: Mapping[str, Any], prefix: str = "") -> None:
    known = [name for name in inspect.signature(call).parameters if name not in _OWN]
    for name in told:
        if name not in known:
            raise ValueError(f"{prefix}{name}: no such field, there are {', '.join(known)}")
