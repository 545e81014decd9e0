"""Run under mpiexec by the tests: every rank writes what it got."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mpi4py import MPI
from tiles_work import net, start


def main(folder: str) -> None:
    rank = MPI.COMM_WORLD
    ran = net().tile(engine="mpi").rollout(start(), 6, record=4)
    coarse = (
        net().tile((1, 1, rank.size), engine="mpi").rollout([start()] * 2, 8, level=1, record=4)
    )
    torch.save((ran.steps, ran.states, coarse.grids[-1].h), Path(folder) / f"{rank.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
