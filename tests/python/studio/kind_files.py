"""Data that mobilities, integrators and cells are learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlcore import dynamics
from mlcore.data import Trajectory, write_trajectory
from mlcore.md import sweep
from mlcore.mobility.tensors import RPY
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import soups

BOX, FLUID = 24.0, RPY(2.0, 2.5)


def free(path: Path) -> Path:
    """Brownian particles in a fluid."""
    start = np.random.default_rng(0).uniform(0, BOX, (6, 3))
    cell = BOX * np.eye(3)
    places = dynamics.brownian(FLUID, start, dt=0.5, kT=1.0, steps=400, every=4, cell=cell, seed=3)
    write_trajectory(path, Trajectory(2.0 * np.arange(len(places)), np.array(places), cell))
    return path


def driven(path: Path, seed: int) -> Path:
    """Brownian particles, pushed by forces that change every 40 times."""
    rng = np.random.default_rng(seed)
    places, forces = [rng.uniform(0, BOX, (6, 3))], [np.zeros((6, 3))]
    for segment in range(12):
        push = 8.0 * rng.normal(size=(6, 3))
        made = dynamics.brownian(
            FLUID, places[-1], forces=dynamics.Constant(push), dt=1.0, kT=1.0, steps=40, every=2,
            cell=BOX * np.eye(3), seed=seed, stream=segment,
        )  # fmt: skip
        places += list(made[1:])
        forces += [push] * (len(made) - 1)
    times, cell = 2.0 * np.arange(len(places)), BOX * np.eye(3)
    write_trajectory(path, Trajectory(times, np.array(places), cell, forces=np.array(forces)))
    return path


def life(path: Path, seed: int = 0, side: int = 8) -> Path:
    """A run of the game of life."""
    run = CountRule.of("B3/S23").run(soups((1, side, side), density=(0.2, 0.5), seed=seed), 6)
    np.save(path, np.concatenate([state.numpy() for state in run]).astype(np.int8))
    return path


def wells(path: Path, runs: int = 3) -> Path:
    """Runs of a particle in a double well."""
    sweep(
        "double_well", {"x0": np.linspace(1.5, 3.0, runs)}, dt=1e-2, time=4.0, every=20, path=path
    )
    return path
