"""Models of the force, dynamics and QoI modes, and what MLMOD's columns hold, in plain NumPy.

The same functions are traced for the fix and called one input at a time by the reference
integrators here, which know nothing of the plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import traced_models as models
from lammps_case import Array

LENGTH = 6.0
MASK = "X V F Type Time"
Function = models.Function
Forces = Callable[["State"], Array]


@dataclass
class State:
    """Atoms in the order of their ids; x unwrapped."""

    x: Array
    v: Array
    f: Array
    types: Array
    time: float = 0.0
    length: float = LENGTH  # of the periodic box, which starts at 0

    def wrapped(self) -> Array:
        return np.asarray(self.x - self.length * np.floor(self.x / self.length))

    def chosen(self, rows: list[int]) -> State:
        parts = (self.x[rows], self.v[rows], self.f[rows], self.types[rows])
        return State(*parts, self.time, self.length)


def column(state: State, x: Array) -> torch.Tensor:
    """X, V, F, Type, Time as float32 (N, 1)."""
    parts = [x.ravel(), state.v.ravel(), state.f.ravel(), state.types, np.array([state.time])]
    return torch.tensor(np.concatenate(parts).astype(np.float32).reshape(-1, 1))


def blocks(z: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
    """x, v, f (n, 3), types (n, 1), time ()."""
    cut = [3 * n, 6 * n, 9 * n, 10 * n]
    x, v, f = (z[3 * n * k : cut[k]].reshape(n, 3) for k in range(3))
    return x, v, f, z[cut[2] : cut[3]].reshape(n, 1), z[cut[3], 0]


def whole_force(n: int, drag: float = 0.3) -> Function:
    """Depends on the order of the rows, and on nothing that wrapping changes."""

    def model(z: torch.Tensor) -> torch.Tensor:
        x, v, f, types, time = blocks(z, n)
        wave = torch.sin(2 * torch.pi / LENGTH * x)
        weight = torch.arange(1, n + 1, dtype=z.dtype).reshape(n, 1) / n
        own = weight * torch.roll(wave, 1, 0) - drag * v + 0.2 * torch.roll(f, 1, 1)
        return (own + 0.1 * types * torch.cos(time) * wave).reshape(3 * n, 1)

    return model


def atom_force(drag: float = 0.3) -> Function:
    def model(z: torch.Tensor) -> torch.Tensor:
        x, v, f, types, time = blocks(z, 1)
        wave = torch.sin(2 * torch.pi / LENGTH * x)
        out = types * wave - drag * v + 0.2 * torch.roll(f, 1, 1) + 0.1 * torch.cos(time)
        return out.reshape(3, 1)

    return model


def pair_force(drag: float = 0.05) -> Function:
    """Soft repulsion of nearest images, pair drag, and parts that break Newton's third law."""

    def model(z: torch.Tensor) -> torch.Tensor:
        x, v, f, types, time = blocks(z, 2)
        r = x[1] - x[0]
        near = torch.exp(-(r * r).sum())
        push = r * near * (1 + 0.1 * types[0] * types[1])
        pull = drag * (v[1] - v[0]) * near
        first = pull - push + 0.02 * f[1] * near
        second = push - pull + 0.01 * torch.cos(time) * push * types[1]
        return torch.cat([first, second]).reshape(6, 1)

    return model


def near_pair_force(z: torch.Tensor) -> torch.Tensor:
    """The same, vanishing smoothly at distance 2."""
    r = z[3:6, 0] - z[0:3, 0]
    gap = torch.clamp(4 - (r * r).sum(), min=0.0) / 4
    return pair_force()(z) * gap * gap


def one_step(n: int, dt: float) -> Function:
    """New positions and velocities; depends on the order of the rows."""

    def model(z: torch.Tensor) -> torch.Tensor:
        x, v, f, types, time = blocks(z, n)
        weight = torch.arange(1, n + 1, dtype=z.dtype).reshape(n, 1) / n
        wave = torch.sin(2 * torch.pi / LENGTH * torch.roll(x, 1, 0))
        speed = 0.99 * v + dt * (0.3 * f + weight * wave + 0.1 * types * torch.cos(time))
        return torch.cat([x + dt * speed, speed]).reshape(6 * n, 1)

    return model


def values(n: int) -> Function:
    """A (3, 2) matrix of the group."""

    def model(z: torch.Tensor) -> torch.Tensor:
        x, v, f, types, time = blocks(z, n)
        weight = torch.arange(1, n + 1, dtype=z.dtype).reshape(n, 1) / n
        rows = [(weight * torch.cos(2 * torch.pi / LENGTH * x)).sum(0), (types * v).mean(0)]
        return torch.stack([rows[0], rows[1] + f[0] * torch.cos(time)], 1)

    return model


def add_whole(model: Function) -> Forces:
    def forces(state: State) -> Array:
        out = model(column(state, state.wrapped()))
        return out.double().numpy().reshape(-1, 3)

    return forces


def add_atoms(model: Function) -> Forces:
    def forces(state: State) -> Array:
        rows = [state.chosen([i]) for i in range(len(state.x))]
        return np.array([model(column(row, row.wrapped())).double().numpy()[:, 0] for row in rows])

    return forces


def add_pairs(model: Function) -> Forces:
    """All pairs of nearest images of a cube, every one seeing the forces before any was added."""

    def forces(state: State) -> Array:
        out = np.zeros_like(state.x)
        for i in range(len(state.x)):
            for j in range(i + 1, len(state.x)):
                pair = state.chosen([i, j])
                x = pair.wrapped()
                d = x[1] - x[0]
                x[1] = x[0] + d - state.length * np.round(d / state.length)
                six = model(column(pair, x)).double().numpy()
                out[i] += six[:3, 0]
                out[j] += six[3:, 0]
        return out

    return forces


def evolve(
    state: State,
    others: Array,
    model: Function,
    group: list[int],
    steps: int,
    dt: float,
    both: bool,
) -> State:
    """The model moves the group before the forces of each step and, if `both`, after them."""
    x, v, time = state.x.copy(), state.v.copy(), state.time
    for _ in range(steps):
        time += dt
        for _ in range(2 if both else 1):
            now = State(x, v, others, state.types, time, state.length).chosen(group)
            wrapped = now.wrapped()
            new = model(column(now, wrapped)).double().numpy().reshape(2, -1, 3)
            x[group] += new[0] - wrapped
            v[group] = new[1]
    return State(x, v, others, state.types, time, state.length)


def verlet(
    state: State, others: Array, forces: Forces, group: list[int], steps: int, dt: float
) -> State:
    """Velocity Verlet with unit masses; `others` acts on all atoms before the model is asked."""
    x, v, time = state.x.copy(), state.v.copy(), state.time

    def total() -> Array:
        f = others.copy()
        f[group] += forces(State(x, v, others, state.types, time, state.length).chosen(group))
        return f

    f = total()
    for _ in range(steps):
        v += 0.5 * dt * f
        x += dt * v
        time += dt
        f = total()
        v += 0.5 * dt * f
    return State(x, v, f, state.types, time, state.length)
