"""The graph network that learned simulators are measured by.

After A. Sanchez-Gonzalez et al., "Learning to simulate complex physics with graph networks", ICML
2020: encoder, message passing with residuals on nodes and edges, decoder. It differs from theirs in
that a state holds velocities, so one frame is enough, and that it tells both the change of velocity
and what a step leads away from a straight way: a step of 10 fs is half a period of a C-C bond, and
the new velocity does not tell the new place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
import torch
from frames import Pair
from mlcore.io import atomic_path
from mlcore.sagesnet import AtomState, Scales
from torch import Tensor, nn

WAVES = 16
"""Gaussians that a distance is told by."""


def _network(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.LayerNorm(width)
    )


class Message(nn.Module):
    """One round: edges look at their ends, nodes at the sum of their edges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # the first layer of what edges do, applied to nodes before they are gathered
        self.sender, self.receiver = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.edge = nn.Linear(width, width)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.LayerNorm(width))
        self.node = _network(2 * width, width)

    def forward(self, h: Tensor, e: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        e = e + self.out(self.edge(e) + self.sender(h)[j] + self.receiver(h)[i])
        total = torch.zeros_like(h).index_add(0, i, e)
        return h + self.node(torch.cat([h, total], dim=1)), e


class GraphNetwork(nn.Module):
    """A step of ``dt`` fs of atoms that see each other within ``radius``.

    Args:
        dt: fs.
        scales: of velocities and of what is told.
        radius: A.
        width: of all layers.
        layers: rounds of messages.
        elements: atomic numbers.
        limit: scales within which what is told is held, as `AtomCells` does.
    """

    def __init__(
        self,
        dt: float,
        scales: Scales,
        radius: float = 3.2,
        width: int = 64,
        layers: int = 3,
        elements: Sequence[int] = (6,),
        limit: float = 10.0,
    ) -> None:
        super().__init__()
        self.arguments = {
            "dt": dt,
            "scales": asdict(scales),
            "radius": radius,
            "width": width,
            "layers": layers,
            "elements": list(elements),
            "limit": limit,
        }
        self.dt, self.scales, self.radius, self.limit = dt, scales, radius, limit
        self.register_buffer("middles", torch.linspace(0.8, radius, WAVES), persistent=False)
        self.kind = nn.Embedding(119, width)
        self.node = _network(4, width)
        self.edge = _network(7 + WAVES, width)
        self.messages = nn.ModuleList(Message(width) for _ in range(layers))
        last = nn.Linear(width, 6)
        nn.init.zeros_(last.weight)  # a fresh one moves everything at constant velocity
        nn.init.zeros_(last.bias)
        self.decoder = nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)

    def graph(self, state: AtomState) -> tuple[Tensor, Tensor, Tensor]:
        """Receivers and senders (p,), and vectors (p, 3) from one to the other."""
        place = state.positions().numpy()
        found = []
        for system in range(state.batch):
            rows = np.flatnonzero(state.system.numpy() == system)
            i, j, way = mlcore.neighbor_list(
                "ijD",
                place[rows],
                self.radius,
                cell=state.grid.matrix,
                pbc=state.grid.pbc,
                sorted=False,
            )
            found.append((rows[i], rows[j], way))
        i, j, way = (np.concatenate(part) for part in zip(*found, strict=True))
        return torch.from_numpy(i), torch.from_numpy(j), torch.from_numpy(way).float()

    def forward(self, state: AtomState) -> tuple[Tensor, Tensor]:
        """Beyond constant velocity: steps (n, 3), A, and changes of velocity (n, 3), A/fs."""
        i, j, way = self.graph(state)
        speed = state.velocity / self.scales.velocity
        driven = (~state.free).float()[:, None]
        h = self.node(torch.cat([speed, driven], dim=1)) + self.kind(state.numbers)
        far = way.norm(dim=1, keepdim=True)
        spacing = (self.radius - 0.8) / (WAVES - 1)
        waves = torch.exp(-(((far - self.middles) / spacing) ** 2))
        told = [way / self.radius, far / self.radius, speed[j] - speed[i], waves]
        e = self.edge(torch.cat(told, dim=1))
        for message in self.messages:
            h, e = message(h, e, i, j)
        out = self.limit * torch.tanh(self.decoder(h) / self.limit)
        return out[:, :3] * self.scales.step, out[:, 3:] * self.scales.change

    def loss(self, state: AtomState, target: AtomState) -> Tensor:
        """Squared errors of places and velocities in units of their scales, as `AtomCells` has."""
        target = state.matched(target)
        step, change = self(state)
        wanted = (state.displacement(target) - state.velocity.double() * self.dt).float()
        faster = target.velocity - state.velocity
        errors = ((step - wanted) / self.scales.step).square()
        errors = errors + ((change - faster) / self.scales.change).square()
        return errors[state.free].mean()

    def step(self, state: AtomState) -> AtomState:
        """The state a step later."""
        with torch.no_grad():
            step, change = self(state)
            free = state.free[:, None]
            way = state.velocity * self.dt + torch.where(free, step, 0.0)
            return state.moved(way, state.velocity + torch.where(free, change, 0.0))


def shaken(state: AtomState, noise: tuple[float, float], generator: torch.Generator) -> AtomState:
    """With noise on places, A, and velocities, A/fs, of what is free."""
    free = state.free[:, None].float()
    x, v = (
        scale * free * torch.randn(state.velocity.shape, generator=generator) for scale in noise
    )
    return state.moved(x, state.velocity + v)


def fit(
    model: GraphNetwork,
    pairs: Sequence[Pair],
    seconds: float,
    *,
    rate: float = 1e-3,
    batch: int = 2,
    noise: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    file: Path | None = None,
    told: Callable[[float], None] = lambda part: None,
) -> list[tuple[float, float]]:
    """Train for so many CPU seconds; the rate rises for a twentieth of them and falls as a cosine.

    Args:
        model: trained in place.
        pairs: states and those a step later.
        seconds: of CPU, those before a stop included.
        rate: largest learning rate, of Adam.
        batch: pairs a step.
        noise: standard deviations of what is added to places, A, and velocities, A/fs.
        seed: order of the pairs.
        file: a checkpoint, from which a training that was stopped goes on.
        told: the part that is over.

    Returns:
        CPU seconds and the mean loss since the ones before.
    """
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    spent, history, round_ = 0.0, [], 0
    if file is not None and file.is_file():
        kept = torch.load(file, weights_only=True)
        model.load_state_dict(kept["model"])
        adam.load_state_dict(kept["adam"])
        spent, history, round_ = kept["spent"], kept["history"], kept["round"]
    begin, last = time.process_time() - spent, spent
    losses: list[float] = []
    while spent < seconds:
        generator = torch.Generator().manual_seed(1_000_003 * seed + round_)
        order = torch.randperm(len(pairs), generator=generator)
        for chosen in torch.split(order, batch):
            part = spent / seconds
            warm = min(1.0, 0.04 + part / 0.05)
            for group in adam.param_groups:
                group["lr"] = rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
            state, target = (
                AtomState.stack([pairs[k][side] for k in chosen.tolist()]) for side in (0, 1)
            )
            if any(noise):
                state = shaken(state, noise, generator)
            adam.zero_grad(set_to_none=True)
            loss = model.loss(state, target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            losses.append(float(loss.detach()))
            spent = time.process_time() - begin
            told(min(spent / seconds, 1.0))
            if spent - last > seconds / 40 or spent >= seconds:
                history.append((spent, float(np.mean(losses))))
                losses, last = [], spent
                if file is not None:
                    _keep(file, model, adam, spent, history, round_)
            if spent >= seconds:
                break
        round_ += 1
    return history


def _keep(
    file: Path,
    model: GraphNetwork,
    adam: torch.optim.Adam,
    spent: float,
    history: list[tuple[float, float]],
    round_: int,
) -> None:
    kept: dict[str, Any] = {"model": model.state_dict(), "adam": adam.state_dict()}
    with atomic_path(file) as path:
        torch.save(kept | {"spent": spent, "history": history, "round": round_}, path)
