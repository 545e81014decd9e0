"""A hot sheet of graphene by LAMMPS: learned steps are better than constant velocity.

What is asked here is little: seconds of training on frames of 60 atoms. Bars of accuracy are those
of bench/.
"""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mlcore.lammps.environment import find_environment
from mlcore.lammps.run import command, environment_variables
from mlcore.sagesnet import AtomCells, AtomState, Level, Run, SagesNet, Scales, read_states
from mlcore.training import TrainingOptions

STEP = 10.0
SHEET = """
units metal
boundary p p p
lattice custom 1.42 a1 3 0 0 a2 0 1.7320508 0 a3 0 0 8.45 &
    basis 0 0 0.5 basis 0.33333333 0 0.5 basis 0.5 0.5 0.5 basis 0.83333333 0.5 0.5
region all block 0 5 0 3 0 1
create_box 1 all
create_atoms 1 box
mass 1 12.011
pair_style tersoff
pair_coeff * * BNC.tersoff C
velocity all create 600 {seed} dist gaussian
timestep 0.001
fix 1 all nve
fix 2 all langevin 300 300 0.1 {seed}
run 700
unfix 2
dump 1 all custom 10 {seed}.dump id type xu yu zu vx vy vz
dump_modify 1 format float %.12g
run 600
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[list[AtomState]]:
    """Frames 10 fs apart of four runs at 300 K."""
    folder: Path = tmp_path_factory.mktemp("sheets")
    potentials = find_environment(torch=False).lammps / "share" / "lammps" / "potentials"
    variables = environment_variables({"LAMMPS_POTENTIALS": str(potentials)}, plugin=False)
    found: list[list[AtomState]] = []
    for seed in range(11, 15):
        (folder / "in.sheet").write_text(SHEET.format(seed=seed))
        words = [*command(), "-in", "in.sheet", "-log", "none", "-screen", "none"]
        subprocess.run(words, cwd=folder, env=variables, check=True)
        grid = found[0][0].grid if found else None
        path = folder / f"{seed}.dump"
        found.append(read_states(path, grid, units="metal", elements=[6]))
    return found


def _parts(net: SagesNet[AtomState], run: list[AtomState]) -> tuple[float, float]:
    """Errors of velocities and of places a step later, in parts of those of constant velocity."""
    sums = torch.zeros(4, dtype=torch.float64)
    for now, later in pairwise(run):
        after = net.step(now)
        straight = now.displacement(later) - STEP * now.velocity
        errors = (
            after.velocity - later.velocity,
            now.velocity - later.velocity,
            after.displacement(later),
            straight,
        )
        sums += torch.stack([e.double().square().sum() for e in errors]).detach()
    fast, base, place, straight_ = sums.sqrt().tolist()
    return fast / base, place / straight_


def test_steps_of_graphene_are_learned(runs: list[list[AtomState]]) -> None:
    *known, unseen = runs
    torch.manual_seed(0)
    scales = Scales.of(known, STEP)
    net = SagesNet(AtomCells((6,), STEP, scales=scales, shift=True), [Level()])
    assert _parts(net, unseen[:11]) == pytest.approx((1.0, 1.0), abs=1e-4)
    options = TrainingOptions(epochs=15, learning_rate=5e-3, batch_size=8, patience=None)
    net.fit([Run(run) for run in known], options=options)
    velocity, place = _parts(net, unseen)
    print(f"of constant velocity: {velocity:.3f} of velocities, {place:.3f} of places")
    assert velocity < 0.75
    assert place < 0.9
    rollout = net.rollout(unseen[0], 20)
    growth = [found.apart(true)[0] for found, true in zip(rollout.states, unseen, strict=False)]
    print("A after each step:", " ".join(f"{far:.2f}" for far in growth))
    assert growth[0] == 0.0 and growth[1] < growth[5]
    straight = unseen[0].moved(5 * STEP * unseen[0].velocity, unseen[0].velocity)
    assert growth[5] < straight.apart(unseen[5])[0]
