"""What a run from trajectories to a mobility is told, in one TOML file.

Lengths, energies and times are in the units of the data; `[units]` only names them. Files are
relative to the folder of the TOML file.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from mlcore.errors import FileFormatError
from mlcore.io.toml import read_model

__all__ = [
    "ActiveData",
    "Config",
    "Cost",
    "DataFiles",
    "Interaction",
    "PassiveData",
    "Simulation",
    "Theory",
    "Training",
    "load_config",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ModelName = Literal["neural", "gaussian-process", "kernel-ridge"]
LossName = Literal["regression", "likelihood"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Units(_Section):
    """Names of the units, for labels and manifests."""

    length: str = "lj"
    energy: str = "lj"
    time: str = "lj"


class Interaction(_Section):
    """Known repulsion of the particles: WCA, Lennard-Jones cut and shifted at 2^(1/6) sigma."""

    sigma: Positive
    epsilon: Positive = 1.0

    @property
    def cutoff(self) -> float:
        """Distance where the force ends."""
        return float(2 ** (1 / 6) * self.sigma)


class System(_Section):
    """What is known of the particles."""

    kBT: Positive
    interaction: Interaction | None = None
    kinematic_viscosity: Positive | None = None
    """Of a solvent with inertia: a flow mode k builds up at the rate nu k^2. Leave it out for data
    without solvent inertia (Brownian dynamics)."""


class DataFiles(_Section):
    """Trajectory files of one kind."""

    files: str
    time_step: Positive = 1.0
    """Time of one step of the files' step counter."""
    max_files: int | None = Field(None, ge=1)

    def paths(self, folder: Path) -> list[Path]:
        """The files, sorted; FileFormatError when there is none."""
        found = sorted(Path(p) for p in glob.glob(str(folder / self.files)))  # noqa: PTH207
        if not found:
            raise FileFormatError(f"no file matches {folder / self.files}")
        return found[: self.max_files]


class ActiveData(DataFiles):
    """Particles pushed by known forces, piecewise constant in time (columns fx fy fz)."""

    lag: Positive
    settle: NotNegative = 0.0
    """Time left out after every change of the forces."""
    contact: NotNegative = 0.0
    """Bins below this distance are not used in fits and comparisons."""
    block: Positive | None = None
    """Length of the pieces resampled for error bars; by default one stretch of constant force."""


class PassiveData(DataFiles):
    """Free thermal motion."""

    lag: Positive
    """Of the displacement-displacement estimate shown in the report."""
    scan: list[Positive] = []
    """Lags of the plateau scan."""
    contact: NotNegative = 0.0


class Data(_Section):
    """Trajectories: at least one of active and passive."""

    active: ActiveData | None = None
    passive: PassiveData | None = None
    held_out: ActiveData | None = None
    """Active data not trained on, where models are judged. Without it the last quarter of the
    files of `train.data` is held out."""

    @model_validator(mode="after")
    def _something(self) -> Data:
        if self.active is None and self.passive is None:
            raise ValueError("needs a section data.active or data.passive")
        return self


class Estimate(_Section):
    """Bins of the estimate."""

    edges: list[Positive] = Field(min_length=2)
    bootstrap: int = Field(400, ge=20, le=100000)

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: list[float]) -> list[float]:
        if np.any(np.diff(edges) <= 0):
            raise ValueError("must ascend")
        return edges


class Background(_Section):
    """Analytic part of the learned mobility; radius and viscosity are first guesses when fitted."""

    kernel: Literal["rpy", "none"] = "rpy"
    radius: Positive | None = None
    viscosity: Positive | None = None
    fit: bool = True

    @model_validator(mode="after")
    def _complete(self) -> Background:
        if self.kernel == "rpy" and not self.fit and None in (self.radius, self.viscosity):
            raise ValueError("fit = false needs radius and viscosity")
        return self


class Training(_Section):
    """Models to train and the one to run."""

    models: list[ModelName] = Field(["neural"], min_length=1)
    losses: list[LossName] = Field(["regression"], min_length=1)
    run: tuple[ModelName, LossName] = ("neural", "regression")
    """Which of them is exported and simulated."""
    data: Literal["active", "passive"] = "active"
    """What is learned from: its binned estimate (regression), its increments (likelihood)."""
    cutoff: Positive
    """Where the learned remainder ends."""
    background: Background = Background()
    epochs: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _run_is_trained(self) -> Training:
        model, loss = self.run
        if model not in self.models or loss not in self.losses:
            raise ValueError(f"run = {list(self.run)} is not among models and losses")
        return self


class Theory(_Section):
    """What the result is compared with: Rotne-Prager-Yamakawa in the box, no fitted pair part."""

    radius: Positive
    viscosity: Positive
    local: NotNegative | Literal["measured"] = 0.0
    """Extra self mobility; "measured": what the estimate has above periodic RPY."""


class Simulation(_Section):
    """One run of the learned model in LAMMPS."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$")
    particles: int = Field(ge=2, le=5000)
    box: Positive
    """Edge of the periodic cube."""
    time_step: Positive
    duration: Positive
    frame: Positive
    """Time between frames."""
    runs: int = Field(1, ge=1, le=64)
    compare: Literal["data", "theory"]
    """"data": the passive trajectories; "theory": Brownian dynamics of [theory] with the core."""
    window: tuple[NotNegative, Positive]
    """Lags between which D(k) is taken."""
    lags: list[Positive] = Field(min_length=1)
    """Lags of the mean-square displacement and of F(k,t)."""

    @model_validator(mode="after")
    def _consistent(self) -> Simulation:
        if self.window[0] >= self.window[1]:
            raise ValueError("window must be two ascending lags")
        for name, times in (("frame", [self.frame]), ("duration", [self.duration])):
            if any(abs(t / self.time_step - round(t / self.time_step)) > 1e-6 for t in times):
                raise ValueError(f"{name} must be a multiple of time_step")
        for time in (*self.window, *self.lags):
            if abs(time / self.frame - round(time / self.frame)) > 1e-6:
                raise ValueError(f"window and lags must be multiples of frame, {time:g} is not")
        if max(*self.window, *self.lags) > self.duration / 2:
            raise ValueError("window and lags must not exceed half of duration")
        return self


class Cost(_Section):
    """The explicit solvent, run for its cost: a LAMMPS input that takes -var N, L, seed, steps."""

    script: str
    particles: int = Field(ge=1)
    box: Positive
    time_step: Positive
    steps: int = Field(300, ge=10)


class Config(_Section):
    """Everything a run is told."""

    title: str = "Mobility"
    seed: int = Field(1, ge=0, lt=2**31)
    units: Units = Units()
    system: System
    data: Data
    estimate: Estimate
    train: Training
    theory: Theory | None = None
    simulate: list[Simulation] = []
    cost: Cost | None = None
    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _source: str = PrivateAttr(default="config")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if getattr(self.data, self.train.data) is None:
            raise ValueError(
                f"train.data = '{self.train.data}' needs a section data.{self.train.data}"
            )
        guess = self.train.background
        needed = guess.kernel == "rpy" and None in (guess.radius, guess.viscosity)
        if "likelihood" in self.train.losses and needed:
            raise ValueError(
                "train.losses has 'likelihood': give train.background.radius, viscosity"
            )
        names = [run.name for run in self.simulate]
        if len(set(names)) != len(names):
            raise ValueError("simulate: names must differ")
        for run in self.simulate:
            if run.compare == "theory" and self.theory is None:
                raise ValueError(
                    f"simulate '{run.name}' compares with theory: add a section theory"
                )
            if run.compare == "data" and self.data.passive is None:
                raise ValueError(f"simulate '{run.name}' compares with data: add data.passive")
        return self

    @property
    def folder(self) -> Path:
        """What file names are relative to."""
        return self._folder

    @property
    def source(self) -> str:
        """Where the configuration came from, for messages and provenance."""
        return self._source

    def with_data(self, folder: Path) -> Config:
        """The same run on files of these names in another folder."""
        place = Path(glob.escape(str(folder.resolve())))
        moved = {
            kind: section.model_copy(update={"files": str(place / Path(section.files).name)})
            for kind, section in self.data
            if section is not None
        }
        return self.model_copy(update={"data": self.data.model_copy(update=moved)})


def load_config(path: str | Path) -> Config:
    """Read and check a TOML file.

    Raises:
        FileFormatError: the file is absent or not TOML, or a field is missing, unknown or wrong;
            the message names file and field and says what would be right.
    """
    path = Path(path)
    config = read_model(path, Config)
    config._folder = path.resolve().parent
    config._source = str(path)
    return config
