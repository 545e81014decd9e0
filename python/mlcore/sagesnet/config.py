"""What a training of a net is told, in one TOML file.

    [cells]                          # AutomatonCells or AtomCells, and their arguments
    kind = "atoms"
    elements = ["C"]
    dt = 10.0

    [[levels]]                       # from fine to coarse; arguments of Level
    layers = 1

    [[levels]]
    space = 2
    time = 2

    [[runs]]                         # files to learn from; names with * stand for many
    files = ["pulled/*.lammpstrj"]   # see mlcore.sagesnet.files, relative to the folder of this file
    stride = 10                      # frames of the file in a step
    environment = {temperature = 0.3}

    [[runs]]
    files = "held/*.lammpstrj"
    held_out = true                  # the best epoch is told by these

    [grid]                           # of atoms
    edge = 2.0

    [fit]                            # TrainingOptions, for each level
    epochs = 60

    [lift]                           # LiftSchedule; steps: those of the training by default

    [confidence]                     # also how wrong cells are expected to be, from runs held out
    horizon = 1

What is not told is as in the classes named. Numbers that act from outside, of the order of 1, have the
same names in all runs. Scales of atoms, and the step of a set of carbon, are taken from the runs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

import torch
from ase.data import atomic_numbers
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    create_model,
    model_validator,
)
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.io.toml import read_model
from mlcore.networks.registry import UNMAKEABLE
from mlcore.sagesnet.atoms.cells import AtomCells, Scales
from mlcore.sagesnet.automata.cells import AutomatonCells
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.files import Moments, Reading, found, read_all
from mlcore.sagesnet.fit import LiftSchedule, Run
from mlcore.sagesnet.lattice import triple
from mlcore.sagesnet.net import Level, SagesNet
from mlcore.sagesnet.symmetry import octahedral
from mlcore.training.options import TrainingOptions

__all__ = ["Config", "Data", "load_config"]

_KINDS: dict[str, type[Cells[Any]]] = {"automaton": AutomatonCells, "atoms": AtomCells}
_LOOKED_AT = 8
"""States, at most, by which what is told of bonds is made of one size."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Names = Annotated[
    list[str], Field(min_length=1), BeforeValidator(lambda v: [v] if isinstance(v, str) else v)
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _section(name: str, kind: type[Any], without: Sequence[str], **defaults: Any) -> Any:
    """A section with the fields of a dataclass, some of them with other defaults."""
    hints = get_type_hints(kind)
    told: dict[str, Any] = {
        field.name: (hints[field.name], Field(default=defaults.get(field.name, field.default)))
        for field in fields(kind)
        if field.name not in without
    }
    return create_model(name, __base__=_Section, **told)


if TYPE_CHECKING:

    class _Fit(_Section):
        """Fields of `TrainingOptions`."""

    class _Lift(_Section):
        """Fields of `LiftSchedule`."""

    class _Level(_Section):
        """Fields of `Level`."""

else:
    _Fit = _section(
        "_Fit",
        TrainingOptions,
        ("directory", "resume", "progress"),
        epochs=100,
        learning_rate=5e-3,
        batch_size=4,
        patience=None,
        checkpoint_every=10,
    )
    _Lift = _section("_Lift", LiftSchedule, ("frozen",), steps=None)
    _Level = _section("_Level", Level, ())


class CellsSection(BaseModel):
    """Which cells, and the arguments that make them."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: Literal["automaton", "atoms"]

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = [n for n in inspect.signature(_KINDS[self.kind]).parameters if n != "slots"]
        for name in self.arguments:
            if name not in known:
                raise ValueError(f"{name}: no such field, there are kind, {', '.join(known)}")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """All but the kind."""
        return dict(self.model_extra or {})


class RunsSection(_Section):
    """Files of runs that have much in common."""

    files: Names
    held_out: bool = False
    environment: dict[str, Number] = {}
    stride: int = Field(default=1, ge=1)
    symmetric: bool = False
    """Whether they are turned and mirrored in training, each time another way."""
    units: Literal["metal", "real"] | None = None
    elements: list[str] | None = None
    """Of LAMMPS' types 1, 2, ..."""

    @model_validator(mode="after")
    def _elements(self) -> Self:
        odd = [e for e in self.elements or () if e not in atomic_numbers]
        if odd:
            raise ValueError(f"elements: no elements are {odd}")
        return self


class GridSection(_Section):
    """Of atoms; see `mlcore.sagesnet.files.Reading`."""

    edge: Positive = 2.0
    slots: int = Field(default=4, ge=1)
    room: float = Field(default=12.0, ge=0, allow_inf_nan=False)


class ConfidenceSection(_Section):
    """See `mlcore.sagesnet.confidence.fit_confidence`."""

    horizon: int = Field(default=1, ge=1)
    part: float = Field(default=0.9, gt=0, lt=1)
    epochs: int = Field(default=30, ge=1)
    learning_rate: Positive = 3e-3


@dataclass(frozen=True)
class Data:
    """Runs of a training.

    Attributes:
        train, held_out: to learn from, and not.
        environment: names of the numbers that act from outside.
        dt: fs of a step, where the files say so.
    """

    train: list[Run[Any]]
    held_out: list[Run[Any]]
    environment: tuple[str, ...]
    dt: float | None


class Config(_Section):
    """One TOML file."""

    cells: CellsSection
    levels: list[_Level] = Field(default=[_Level()], min_length=1)
    runs: list[RunsSection] = Field(min_length=1)
    grid: GridSection = GridSection()
    fit: _Fit = _Fit()
    lift: _Lift = _Lift()
    confidence: ConfidenceSection | None = None
    seed: int = Field(default=0, ge=0)
    _folder: Path = PrivateAttr(Path())

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if all(one.held_out for one in self.runs):
            raise ValueError("runs: all are held out, there is nothing to learn from")
        names = {tuple(sorted(one.environment)) for one in self.runs}
        if len(names) > 1:
            raise ValueError(f"runs: environment must name the same in all, got {sorted(names)}")
        if self.confidence is not None and not any(one.held_out for one in self.runs):
            raise ValueError("confidence: needs runs with held_out = true")
        self.options(None)
        self.schedule(1)
        try:
            self._net({"scales": (1.0, 1.0, 1.0)} if self.cells.kind == "atoms" else {}, ())
        except UNMAKEABLE as error:
            raise ValueError(f"cells, levels: no such net can be made: {error}") from None
        return self

    def options(self, folder: Path | None, progress: bool = False) -> TrainingOptions:
        """Of the training of each level, which goes on with what is in the folder."""
        told = self.fit.model_dump()
        return TrainingOptions(
            **told, directory=folder, resume=folder is not None, progress=progress
        )

    def schedule(self, steps: int) -> LiftSchedule:
        """Of a lift whose training has so many steps."""
        return LiftSchedule(**({"steps": steps} | self.lift.model_dump(exclude_none=True)))

    def steps(self, runs: Sequence[Run[Any]], level: int) -> int:
        """How many steps a level's training has."""
        span = math.prod(one.time for one in self._levels()[: level + 1])
        samples = sum(max(len(run.states) - 2 * span + 1, 0) for run in runs)
        options = self.options(None)
        return max(1, options.epochs * math.ceil(samples / (options.batch_size or samples or 1)))

    def reading(self, runs: RunsSection | None = None) -> Reading:
        """How files become states; without ``runs`` those of whatever file."""
        grid = self.grid
        spaces = [triple("space", one.space) for one in self._levels()]
        multiple = math.lcm(*(math.prod(s[k] for s in spaces) for k in range(3)))
        if runs is None:
            return Reading(1, grid.edge, grid.slots, grid.room, multiple)
        types = None if runs.elements is None else tuple(atomic_numbers[e] for e in runs.elements)
        return Reading(runs.stride, grid.edge, grid.slots, grid.room, multiple, runs.units, types)

    def data(self) -> Data:
        """The runs of all files.

        Raises:
            FileFormatError: a file is absent or cannot be read.
            InvalidArgument: runs do not fit each other or the cells.
        """
        sources = [(path, own) for own in self.runs for path in found(own.files, self._folder)]
        readings = [self.reading(own) for _, own in sources]
        every = read_all([path for path, _ in sources], self.cells.kind, readings)
        names = tuple(sorted(self.runs[0].environment))
        train: list[Run[Any]] = []
        held_out: list[Run[Any]] = []
        for (_, own), some in zip(sources, every, strict=True):
            runs = [_run(one, [own.environment[name] for name in names], own) for one in some]
            (held_out if own.held_out else train).extend(runs)
        intervals = {one.interval for some in every for one in some}
        return Data(train, held_out, names, intervals.pop() if len(intervals) == 1 else None)

    def net(self, data: Data) -> SagesNet[Any]:
        """The net, not trained; the same one for the same seed.

        Raises:
            InvalidArgument: the runs do not say how long a step is, or nothing moves in them.
        """
        told: dict[str, Any] = {}
        if self.cells.kind == "atoms":
            dt = self.cells.arguments.get("dt", data.dt)
            if dt is None:
                raise InvalidArgument(
                    "cells.dt must be given: the runs do not say how long a step is"
                )
            if data.dt is not None and abs(dt - data.dt) > 1e-6 * data.dt:
                raise InvalidArgument(f"cells.dt must be {data.dt:g}, that of the runs, got {dt:g}")
            told = {"dt": dt, "scales": Scales.of([run.states for run in data.train], dt)}
        torch.manual_seed(self.seed)
        net = self._net(told | self.cells.arguments, data.environment)
        if isinstance(net.cells, AtomCells) and net.cells.bonds is not None:
            states = [state for run in data.train for state in run.states]
            net.cells.whiten(states[:: -(-len(states) // _LOOKED_AT)])
        return net

    def _levels(self) -> list[Level]:
        return [Level(**one.model_dump()) for one in self.levels]

    def _net(self, arguments: dict[str, Any], environment: Sequence[str]) -> SagesNet[Any]:
        told = arguments | self.cells.arguments
        return SagesNet(_KINDS[self.cells.kind](**told), self._levels(), environment)


def load_config(path: str | Path) -> Config:
    """Read and check a TOML file.

    Raises:
        FileFormatError: the file is absent or not TOML, or a field is missing, unknown or wrong;
            the message names file and field and says what would be right.
    """
    config = read_model(path, Config)
    config._folder = Path(path).resolve().parent
    return config


def _run(moments: Moments, around: Sequence[float], told: RunsSection) -> Run[Any]:
    first = moments.states[0]
    if isinstance(first, Tensor):
        batch, extents = len(first), first.shape[1:]
    else:
        batch, extents = first.batch, first.grid.extents
    return Run(
        moments.states,
        torch.tensor([around] * batch) if around else None,
        octahedral(extents) if told.symmetric else (),
    )
