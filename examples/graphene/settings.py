"""How much is learned and measured; every number of the study that is a choice."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from mlcore.sagesnet import Level
from mlcore.training import TrainingOptions

DT = 10.0
"""fs, of a step of the models: the time between frames kept."""


@dataclass(frozen=True)
class Settings:
    """A form of the study.

    Attributes:
        name: of the form.
        train: patterns to learn from, the first of the data set's order; all others are held out.
        sheets: patterns held out that are pulled, at most; for a baseline, at most.
        every: frames between the pairs of sheets that are learned from, and of small ones at rest.
        tail: how many of the last frames of a sheet, where it yields, are learned from more often, and
            the frames between pairs there.
        cells: arguments of `AtomCells` beside elements, step and scales.
        level: of the net.
        fit: options of its training on steps; None: there is none.
        forces: of what is learned from, every so-manieth frame's forces are matched, where cells have
            bonds, and those of a copy.
        rattle: A, least and largest deviation by which atoms of copies are displaced.
        gns: arguments of the graph network beside its scales.
        gns_fit: CPU seconds, of the net's training if there are none, learning rate and systems a step
            of its training.
        thermostat: whether rollouts have that of the data, where cells know one.
        look: steps between frames in which broken bonds are looked for.
        until: strain at which a rollout ends at the latest.
        one_step: pairs of a sheet by which one step is judged.
        rest: steps of a rollout at rest.
        rounds, steps: of the measurement of speed.
        maps: pairs of each sheet held out that the confidence is learned from or judged by.
        rollouts: sheets held out whose rollouts the confidence is judged by, and states of each.
        sorted: sheets held out whose atoms are sorted by environment.
    """

    name: str
    train: int
    sheets: int
    baseline_sheets: int
    every: tuple[int, int]
    tail: tuple[int, int]
    cells: dict[str, Any]
    level: Level
    fit: TrainingOptions | None
    forces: int = 4
    rattle: tuple[float, float] = (0.02, 0.12)
    gns: dict[str, Any] = field(default_factory=dict)
    gns_fit: dict[str, Any] = field(default_factory=dict)
    thermostat: bool = True
    look: int = 10
    until: float = 0.6
    one_step: int = 20
    rest: int = 100
    rounds: int = 3
    steps: int = 10
    maps: int = 12
    rollouts: tuple[int, int] = (8, 12)
    sorted: int = 6

    def changed(
        self, seconds: float | None = None, train: int | None = None, sheets: int | None = None
    ) -> Settings:
        """The same with another time of training on steps, s, or other numbers of patterns or sheets."""
        given = {"train": train, "sheets": sheets, "baseline_sheets": sheets}
        made = dataclasses.replace(self, **{k: v for k, v in given.items() if v is not None})
        if seconds is None:
            return made
        fit = dataclasses.replace(self.fit or STEPS, seconds=seconds)
        return dataclasses.replace(made, fit=fit if seconds else None)


QUICK = Settings(
    "quick",
    train=1,
    sheets=1,
    baseline_sheets=1,
    every=(2, 2),
    tail=(1, 2),
    cells={
        "channels": 8,
        "width": 16,
        "kicks": 8,
        "inner": 1.92,
        "radial": 4,
        "turns": 1,
    },
    level=Level(),
    fit=TrainingOptions(epochs=1, learning_rate=1e-4, batch_size=4, clip=3.0, patience=None),
    forces=1,
    gns={"width": 16, "layers": 1},
    gns_fit={"rate": 5e-3, "batch": 4},
    until=0.3,
    one_step=5,
    rest=20,
    rounds=1,
    steps=10,
    rollouts=(1, 2),
)
STEPS = TrainingOptions(
    epochs=1000,
    seconds=1620.0,
    learning_rate=2e-4,
    batch_size=1,
    patience=None,
    schedule="warm-up",
    clip=3.0,
    checkpoint_every=1,
)
"""Of bonds on steps, where it is asked for."""
FULL = Settings(
    "full",
    train=8,
    sheets=30,
    baseline_sheets=10,
    every=(45, 6),
    tail=(200, 3),
    # as many kicks as AIREBO has steps: walls of 0.08 A at the cutoff are felt as there
    cells={"kicks": 10, "inner": 1.92, "correction": False, "even": True, "limit": 40.0},
    level=Level(),
    fit=None,
    gns={"radius": 3.2, "width": 64, "layers": 3},
    gns_fit={"seconds": 900.0, "rate": 1e-3, "batch": 2},
)
