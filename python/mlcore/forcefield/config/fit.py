"""The config of a fit: one YAML or JSON file that holds all of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.config.data import Data
from mlcore.forcefield.config.files import Location, read_tree
from mlcore.forcefield.config.structures import Positive, Section, Sources, Structure
from mlcore.forcefield.config.targets import AnyTarget, build
from mlcore.forcefield.forms import Model, model
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.run.setup import Setup
from mlcore.forcefield.structures import Dataset
from mlcore.forcefield.targets import Target
from mlcore.io.toml import wrong_fields
from mlcore.parallel import EngineSettings

__all__ = ["Config", "load", "schema"]


class ModelSection(Section):
    """The functional form."""

    form: str = ""
    """Name of a form; see `mlcore forcefield model list`."""
    file: Location | None = None
    """A file that holds the form: JSON or YAML record, or Python, which is run."""
    species: Annotated[list[str], Field(min_length=1)]
    """Elements, or beads as bead:W, in the order of LAMMPS' types."""
    masses: dict[str, Positive] = Field(default_factory=dict)
    """g/mol, of every bead and of elements that differ from the usual."""
    known: str | None = None
    """Which of the literature's values to begin with."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of a form that has any."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if not self.form and self.file is None:
            raise ValueError("say form, the name of one, or file")
        return self

    def build(self) -> Model:
        name = ":".join(part for part in (str(self.file or ""), self.form) if part)
        return model(
            name, self.species, self.masses, known=self.known, options=self.options or None
        )


class FreeSection(Section):
    """Range of a free parameter; what is left out comes from the form."""

    lower: float | None = None
    """Lower bound."""
    upper: float | None = None
    """Upper bound."""
    initial: float | None = None
    """Where the search starts; the value of `start`, or the form's, where left out."""
    scale: Literal["linear", "log"] | None = None
    """Whether the search moves in the number or in its logarithm."""
    within: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Bounds at this part of the initial value below and above it."""
    factor: Annotated[float, Field(gt=1)] | None = None
    """Bounds at the initial value over and times this; logarithmic."""

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        told = [self.within is not None, self.factor is not None,
                self.lower is not None or self.upper is not None]  # fmt: skip
        if sum(told) > 1:
            raise ValueError("say lower and upper, or within, or factor")
        return self


class Parameters(Section):
    """What is free, and what is known."""

    free: list[str] | dict[str, FreeSection]
    """Names, or name -> range."""
    start: Location | list[Location] | dict[str, float] = Field(default_factory=dict)
    """Values to begin with: name -> value, or a potential file as LAMMPS reads it."""
    fixed: dict[str, float] = Field(default_factory=dict)
    """Name -> value; may name auxiliary numbers that ties use."""
    ties: dict[str, str] = Field(default_factory=dict)
    """Name -> arithmetic of others, such as chi*sqrt(B_Si*B_C)."""
    constraints: list[str] = Field(default_factory=list)
    """Comparisons that candidates must fulfil, such as R > D."""

    def build(self, made: Model) -> Space:
        start = self.start_of(made)
        named = self.free if isinstance(self.free, dict) else dict.fromkeys(self.free)
        free = {name: free_of(made, start, name, told) for name, told in named.items()}
        fixed = {n: v for n, v in start.items() if n not in free and n not in self.ties}
        return Space(made.parameters, free, fixed | self.fixed, self.ties, self.constraints)

    def start_of(self, made: Model) -> dict[str, float]:
        """Values to begin with that are told.

        Raises:
            InvalidArgument, FileFormatError: a name that is none of the form's, or a wrong file.
        """
        if isinstance(self.start, dict):
            unknown = sorted(self.start.keys() - set(made.names))
            if unknown:
                raise InvalidArgument(
                    f"parameters.start: {made.form.name} has no {unknown[0]}; it has "
                    f"{', '.join(made.names[:30])}"
                )
            return dict(self.start)
        paths = self.start if isinstance(self.start, list) else [self.start]
        return made.read(*paths)


def free_of(
    made: Model, start: Mapping[str, float], name: str, told: FreeSection | None = None
) -> Free:
    """The range of a free parameter, what is left out of it from its value and from the form.

    Raises:
        InvalidArgument: the form has no such parameter, or the range is none.
    """
    told = told or FreeSection()
    where = f"parameters.free.{name}"
    known = next((p for p in made.parameters if p.name == name), None)
    initial = told.initial if told.initial is not None else start.get(name)
    if initial is None and known is not None:
        initial = known.default
    lower, upper = told.lower, told.upper
    if known is not None:
        lower = known.lower if lower is None else lower
        upper = known.upper if upper is None else upper
    scale = told.scale or (known.scale if known else "linear")
    if initial is not None and told.within is not None:
        lower, upper = sorted((initial * (1 - told.within), initial * (1 + told.within)))
        scale = told.scale or "linear"
    if initial is not None and told.factor is not None:
        lower, upper, scale = initial / told.factor, initial * told.factor, told.scale or "log"
    if lower is None or upper is None or initial is None:
        raise InvalidArgument(
            f"{where}: {made.form.name} has no such parameter; an auxiliary number needs lower, "
            f"upper and initial. It has {', '.join(made.names[:30])}"
        )
    try:
        return Free(lower=lower, upper=upper, initial=initial, scale=scale)
    except ValidationError as error:
        raise InvalidArgument(f"{where}: {wrong_fields(error)}") from None


class ObjectiveSection(Section):
    """What is minimised."""

    kind: str = "sse"
    """sse, huber, max, logsumexp, or arithmetic of target names."""
    delta: Positive = 1.0
    """Where huber becomes linear; softness of logsumexp."""
    tolerances: dict[int, Positive] = Field(default_factory=dict)
    """Level -> largest root mean square of its terms that passes on to the next."""
    pareto: list[str] = Field(default_factory=list)
    """Targets or groups that are minimised at once."""

    def build(self, targets: tuple[Target, ...]) -> Objective:
        return Objective(
            targets, self.kind, delta=self.delta, tolerances=self.tolerances, pareto=self.pareto
        )


class StageSection(Section):
    """One stage of two."""

    name: str
    """Of the search."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the search; see `mlcore forcefield schema --search NAME`."""
    evaluations: Annotated[int, Field(ge=1)] | None = None
    """Of the first stage; half of the budget where left out."""
    best: Annotated[int, Field(ge=1)] = 1
    """Points the second stage is handed."""


class SearchSection(Section):
    """How points are chosen."""

    name: str = "default"
    """Of the search."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the search; see `mlcore forcefield schema --search NAME`."""
    stages: list[StageSection] = Field(default_factory=list, max_length=2)
    """A global search and a local one, instead of one search by name."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _search_name(name)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        from mlcore.forcefield.search import options_model

        name, options = self.choice()
        model_of = options_model(name)
        try:
            model_of.model_validate(options)
        except ValidationError as error:
            raise ValueError(f"options of {name}: {wrong_fields(error)}") from None
        return self

    def choice(self) -> tuple[str, dict[str, Any]]:
        """Name of a strategy, and its options."""
        if not self.stages:
            return self.name, dict(self.options)
        if len(self.stages) == 1:
            return _search_name(self.stages[0].name), dict(self.stages[0].options)
        first, second = self.stages
        options: dict[str, Any] = {
            "first": _search_name(first.name),
            "second": _search_name(second.name),
            "hand_over": second.best,
        }
        if first.evaluations is not None:
            options["evaluations"] = first.evaluations
        if first.options:
            options["first_options"] = first.options
        if second.options:
            options["second_options"] = second.options
        return "two_stage", options


def _search_name(name: str) -> str:
    from mlcore.forcefield.search import names

    if name not in names():
        raise ValueError(f"no search {name!r}; there are {', '.join(names())}")
    return name


class RunSection(Section):
    """How the search is run."""

    budget: Annotated[int, Field(ge=1)] = 2000
    """Most evaluations."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of all random numbers; the same seed gives the same history in every engine."""
    engine: EngineSettings | Literal["serial", "processes", "mpi", "parsl", "dask", "here"] = (
        "processes"
    )
    """Who evaluates: an engine or its settings; `here` is this process without supervision."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """How many; one for each core where left out."""
    timeout: Positive | None = None
    """Seconds for one candidate, after which its worker is replaced."""
    evaluator: Literal["auto", "native", "lammps"] = "auto"
    """auto: the core's own kernels where they know the form, else LAMMPS."""
    cutoff_cap: Positive = 12.0
    """Largest cutoff a candidate may have, A."""

    def settings(self) -> EngineSettings | None:
        if self.engine == "here":
            return None
        found = (
            self.engine
            if isinstance(self.engine, EngineSettings)
            else EngineSettings(name=self.engine)
        )
        return found if self.workers is None else found.model_copy(update={"workers": self.workers})


class Config(Section):
    """A whole fit."""

    format: Literal["mlcore forcefield fit"] = "mlcore forcefield fit"
    """What this file is."""
    version: Literal[1] = 1
    """Of this format."""
    title: str = ""
    """For people."""
    model: ModelSection
    """The functional form."""
    parameters: Parameters
    """What is free, and what is known."""
    data: Data | None = None
    """Labelled structures."""
    structures: dict[str, Structure] = Field(default_factory=dict)
    """Structures that targets name by `use`."""
    targets: list[AnyTarget] = Field(default_factory=list)
    """Properties wanted besides the labels of the data."""
    objective: ObjectiveSection = ObjectiveSection()
    """What is minimised."""
    search: SearchSection = SearchSection()
    """How points are chosen."""
    run: RunSection = RunSection()
    """How the search is run."""

    @model_validator(mode="after")
    def _something(self, info: ValidationInfo) -> Self:
        if self.data is None and not self.targets:
            raise ValueError("a fit needs data or targets")
        return self

    def setup(self, folder: str | os.PathLike[str] | None = None) -> Setup:
        """All that a fit needs; data and structures are read.

        Args:
            folder: of the fit, from where its config will be read again.

        Raises:
            InvalidArgument, FileFormatError: naming the field or file that is wrong.
        """
        made = self.model.build()
        space = _at("parameters", lambda: self.parameters.build(made))
        train, held = self._targets(made)
        search, options = self.search.choice()
        return Setup(
            model=made,
            space=space,
            targets=train,
            objective=_at("objective", lambda: self.objective.build(train)),
            search=search,
            options=options,
            budget=self.run.budget,
            seed=self.run.seed,
            engine=self.run.settings(),
            timeout=self.run.timeout,
            evaluator=self.run.evaluator,
            cutoff_cap=self.run.cutoff_cap,
            held_out=held,
            config=self.record(folder),
        )

    def record(self, folder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """As JSON; paths as seen from `folder`."""
        context = None if folder is None else {"base": os.fspath(Path(folder).resolve())}
        return self.model_dump(mode="json", exclude_defaults=True, context=context) | {
            "format": self.format,
            "version": self.version,
        }

    def dataset(self) -> Dataset | None:
        """The labelled structures."""
        return None if self.data is None else _at("data", self.data.load)

    def _targets(self, made: Model) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
        data = self.dataset()
        train: list[Target] = []
        held: list[Target] = []
        if data is not None and self.data is not None:
            train, held = self.data.targets(data)
        sources = Sources(tuple(s.name for s in made.species), data, self.structures)
        for k, section in enumerate(self.targets):
            target = _at(f"targets.{k}", lambda section=section: build(section, sources))
            (held if section.held_out else train).append(target)
        if not train:
            raise InvalidArgument("targets: all of them are held out; the search needs some")
        return tuple(train), tuple(held)


def _at(place: str, make: Any) -> Any:
    """What `make` makes; where it does not, the place in the config."""
    try:
        return make()
    except (InvalidArgument, FileFormatError) as error:
        text = str(error)
        raise type(error)(text if text.startswith(place) else f"{place}: {text}") from None


def load(path: str | os.PathLike[str]) -> Config:
    """The config in a YAML or JSON file, or in a folder of a fit.

    Raises:
        FileFormatError: no such file, or a field is missing, unknown or wrong; the message names
            file and field and says what would be right.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "config.json"
        if not file.exists():
            raise FileFormatError(f"{path}: holds no fit")
    tree = read_tree(file)
    if isinstance(tree, dict) and tree.get("made by") == "python":
        raise FileFormatError(
            f"{file}: this fit was made by a Python program; run that again with resume=True"
        )
    return parse(tree, file.parent, str(file))


def parse(tree: Any, base: str | os.PathLike[str] = ".", what: str = "config") -> Config:
    """The config of what a file holds; paths in it start at `base`.

    Raises:
        FileFormatError: as `load`.
    """
    if not isinstance(tree, dict):
        raise FileFormatError(f"{what}: must hold fields by name, holds {type(tree).__name__}")
    try:
        return Config.model_validate(tree, context={"base": os.fspath(Path(base).resolve())})
    except ValidationError as error:
        raise FileFormatError(f"{what}: {wrong_fields(error)}") from None


def schema() -> dict[str, Any]:
    """The JSON schema of a config."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "mlcore forcefield fit, version 1",
    }


__all__ += ["parse"]
