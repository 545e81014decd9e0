"""What a sheet is worth: pulled by a net, and by AIREBO."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measures
import numpy as np
import torch
from ase import Atoms
from ase.units import fs, kB
from frames import ROOM
from mlcore.io import atomic_path, write_text
from mlcore.sagesnet import AtomGrid, AtomState, SagesNet
from mlcore.sagesnet.carbon import Dataset, Design, Pull, cut, relax
from numpy.typing import NDArray
from settings import DT
from steppers import Learned

Answer = dict[str, Any]
SPACE = np.array([8.0, 8.0, 20.0]) + ROOM
"""A that atoms have on all sides of a sheet that is pulled as far as it is to be."""


def start_of(
    pattern: str, design: Design, pull: Pull, net: SagesNet[AtomState], seed: int = 1
) -> tuple[AtomState, Atoms]:
    """A sheet as the labels' pulls find it: at rest, warm, its grips and all between on their way.

    AIREBO relaxes it, so that strains are of the same length as theirs; the net lets it rest, its
    velocities drawn twice as hot as the pull, since half of that goes into the bonds.

    Returns:
        The state, its atoms by id, and the body.
    """
    body = relax(cut(pattern, design), pull)
    x, grip = body.positions, body.arrays["grip"]
    rng = np.random.default_rng([seed, *map(int, pattern)])
    velocities = rng.normal(0, 1, x.shape)
    velocities *= np.sqrt(2 * kB * pull.temperature / body.get_masses())[:, None] * fs
    velocities -= velocities[grip == 0].mean(0)
    velocities[grip != 0] = 0.0
    box = np.ptp(x, axis=0) * [1.04 + pull.until, 1.04, 1.04] + 2 * SPACE
    grid = AtomGrid.over(Atoms(cell=box, pbc=False), 2.0)
    middle = (x.max(0) + x.min(0)) / 2
    state = AtomState.from_arrays(
        grid, body.numbers, x - middle + box / 2, velocities, body.arrays["id"], grip != 0
    )
    step = Learned(net, replace(pull, damping=min(0.1, pull.damping)), seed)
    for _ in range(round(1e3 * pull.rest / DT)):
        state = step(state)
    return _begun(state, grip, pull), body


def _begun(state: AtomState, grip: NDArray[np.int64], pull: Pull) -> AtomState:
    """The state, by id, with what the pull adds to velocities."""
    state = state.take(torch.argsort(state.ids))
    x = state.positions()[:, 0].numpy()
    left, right = x[grip < 0].max(), x[grip > 0].min()
    speed = 1e-3 * pull.rate * (right - left) / 2
    velocity = state.velocity.clone()
    velocity[:, 0] += torch.from_numpy(np.interp(x, [left, right], [-speed, speed])).to(velocity)
    return state.moved(torch.zeros_like(velocity), velocity)


@dataclass
class Judge:
    """Pulls sheets by a net and keeps what came out, a file for each pattern.

    Attributes:
        net: trained.
        pull, design: of the sheets, as those of the data that the net has learned from.
        folder: of the files.
    """

    net: SagesNet[AtomState]
    pull: Pull
    design: Design
    folder: Path

    def path(self, pattern: str) -> Path:
        """Of the answer for a pattern."""
        return self.folder / f"{pattern}.json"

    def __call__(self, pattern: str) -> Answer:
        """The answer for a pattern, found before or now."""
        if not self.path(pattern).is_file():
            self._pulled(pattern)
        answer: Answer = json.loads(self.path(pattern).read_text())
        return answer

    def _pulled(self, pattern: str) -> None:
        before, begin = _children(), time.process_time()
        state, body = start_of(pattern, self.design, self.pull, self.net)
        relaxed = _children() - before
        made = measures.stretch(
            Learned(self.net, self.pull),
            state,
            body.arrays["grip"],
            float(body.info["section"]),
            self.pull,
            dt=DT,
            until=self.pull.until,
        )
        spent = time.process_time() - begin
        k = int(np.argmin(np.abs(made.strains - 1.02 * made.found.strain)))
        with atomic_path(self.path(pattern).with_suffix(".npz")) as path, path.open("wb") as file:
            np.savez_compressed(file, positions=made.frames[k], strain=made.strains[k])
        told = made.numbers()
        answer = {
            "pattern": pattern,
            "strain": told["yield"]["strain"],
            "fallen": told["yield"]["fallen"],
            **{name: told[name] for name in ("steps", "ended", "counts_kept")},
            "cpu_seconds": round(spent, 2),
            "relax_seconds": round(relaxed, 2),
        }
        write_text(self.path(pattern), json.dumps(answer, indent=1) + "\n")


def judge(net: str, pull: Answer, design: Answer, folder: str) -> Judge:
    """A judge by the net of a folder, for a worker to make."""
    torch.set_num_threads(1)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    return Judge(SagesNet.load(net), Pull(**pull), Design(**design), place)


def judged(judge: Judge, pattern: str) -> Answer:
    """For engines, which find functions by name."""
    return judge(pattern)


def checked(item: tuple[str, str]) -> Answer:
    """AIREBO's run of a pattern in the set of a folder, pulled now if it is not there."""
    folder, pattern = item
    data = Dataset(folder)
    report = data.generate([pattern])
    if report.failed:
        raise RuntimeError(f"{pattern}: {report.failed[f'{pattern}-1']}")
    return {"run": f"{pattern}-1"}


def _children() -> float:
    """CPU seconds of programs that have been started and ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
