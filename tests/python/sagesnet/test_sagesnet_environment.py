"""Temperature and rate of strain as the environment: what a net says of values it has not seen.

Crystals of argon by LAMMPS. The thermostat is that of Berendsen: of a random one a net that predicts
means sees only the drag, which does not depend on temperature.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch
from mlcore.lammps.run import command, environment_variables
from mlcore.sagesnet import (
    AtomCells,
    AtomGrid,
    AtomState,
    Level,
    Run,
    SagesNet,
    Scales,
    read_states,
)
from mlcore.training import TrainingOptions

ARGON = """
mass * 39.948
pair_style lj/cut 8.0
pair_coeff * * 0.0104 3.4
timestep 0.005
"""
SOLID = f"""
units metal
boundary p p p
lattice fcc 5.3
region all block 0 3 0 3 0 3
create_box 1 all
create_atoms 1 box
{ARGON}
velocity all create 80 7 dist gaussian
fix 1 all nve
"""
HEATED = """
fix 2 all temp/berendsen {start} {start} 0.05
run 100
unfix 2
fix 2 all temp/berendsen {value} {value} 0.02
dump 1 all custom 5 {name}.dump id type xu yu zu vx vy vz
dump_modify 1 format float %.12g
run 15
undump 1
unfix 2
"""
# a bar that is held on the left (type 2) and pulled on the right (type 3), and let back again
BAR = f"""
units metal
boundary f p p
lattice fcc 5.3
region box block 0 12 0 2 0 2
region bar block 2 9.9 0 2 0 2
region left block 0 2.9 0 2 0 2
region right block 8.9 12 0 2 0 2
create_box 3 box
create_atoms 1 region bar
group left region left
group right region right
group free subtract all left right
set group left type 2
set group right type 3
{ARGON}
"""
PULLED = """
velocity free create 10 {start} dist gaussian
velocity left set 0 0 0
velocity right set 0 0 0
fix 1 free nve
run 40
fix 2 right move linear {speed} 0 0
dump 1 all custom 10 {name}.dump id type xu yu zu vx vy vz
dump_modify 1 format float %.12g
run 20
undump 1
unfix 2
fix 2 right move linear -{speed} 0 0
run 20
unfix 2
unfix 1
"""
LENGTH = 42.4  # A, of the bar


def _frames(
    folder: Path, script: str, names: Iterable[str], elements: list[int]
) -> dict[str, list[AtomState]]:
    (folder / "in.all").write_text(script)
    words = [*command(), "-in", "in.all", "-log", "none", "-screen", "none"]
    subprocess.run(words, cwd=folder, env=environment_variables({}, plugin=False), check=True)
    grid: AtomGrid | None = None
    found = {}
    for name in names:
        path = folder / f"{name}.dump"
        found[name] = read_states(path, grid, units="metal", elements=elements, edge=2.65)
        grid = found[name][0].grid
    return found


def _trained(
    known: list[Run[AtomState]], elements: list[int], dt: float, rate: float, epochs: int
) -> SagesNet[AtomState]:
    torch.manual_seed(0)
    scales = Scales.of([run.states for run in known], dt)
    cells = AtomCells(elements, dt, 16, 32, scales=scales, shift=True)
    net = SagesNet(cells, [Level(width=16)], environment=["around"])
    options = TrainingOptions(epochs=epochs, learning_rate=rate, batch_size=4, patience=None)
    net.fit(known, options=options)
    return net


def _kinetic(state: AtomState) -> float:
    return float(state.velocity.detach().double().square().sum())


def test_heat_comes_and_goes_with_the_temperature_around(tmp_path: Path) -> None:
    """Learned of 20 and 60 K, asked at 40 K and of the ends, from one and the same state."""
    wanted = [(t, k, 30 + 4 * k) for k in range(6) for t in (20, 60)]
    unseen = [(t, 9, 40) for t in (20, 40, 60)]
    script = SOLID
    for value, k, start in wanted + unseen:
        script += HEATED.format(value=value, start=start, name=f"{value}_{k}")
    frames = _frames(tmp_path, script, [f"{t}_{k}" for t, k, _ in wanted + unseen], [18])
    known = [Run(frames[f"{t}_{k}"], torch.tensor([[t / 40 - 1]])) for t, k, _ in wanted]
    net = _trained(known, [18], 25.0, 5e-3, 30)
    start, change, true = frames["40_9"][0], [], []
    for value, k, _ in unseen:
        after = net.step(start, torch.tensor([[value / 40 - 1]]))
        change.append(_kinetic(after) / _kinetic(start) - 1)
        first, second = frames[f"{value}_{k}"][:2]
        true.append(_kinetic(second) / _kinetic(first) - 1)
    print(f"change of kinetic energy in 25 fs at 20, 40, 60 K: {change}, truly {true}")
    assert change[0] + 0.05 < change[1] < change[2] - 0.05
    assert change[0] < 0 < change[2]
    assert true[0] < change[1] < true[2]


def _profile(state: AtomState) -> float:
    """Slope of the velocity along the bar, 1/ps."""
    x, v = state.positions()[:, 0], state.velocity.detach()[:, 0].double()
    x, v = x - x.mean(), v - v.mean()
    return 1000 * float((x * v).sum() / x.square().sum())


def _length(state: AtomState) -> float:
    x = state.positions()[:, 0]
    return float(x[state.numbers == 36].mean() - x[state.numbers == 10].mean())


def test_a_bar_is_stretched_at_the_rate_around(tmp_path: Path) -> None:
    """Learned of 0.02 and 0.06 / ps, asked at 0.04 and of the ends, from one state at rest."""
    wanted = [(rate, k) for k in range(8) for rate in (0.02, 0.06)]
    unseen = [(rate, 9) for rate in (0.02, 0.04, 0.06)]
    script = BAR
    for rate, k in wanted + unseen:
        script += PULLED.format(speed=rate * LENGTH, start=11 + k, name=f"{rate}_{k}")
    # ends of other kinds than the rest, by which a net tells them
    frames = _frames(tmp_path, script, [f"{r}_{k}" for r, k in wanted + unseen], [18, 10, 36])
    known = [Run(frames[f"{r}_{k}"], torch.tensor([[r / 0.04 - 1]])) for r, k in wanted]
    net = _trained(known, [18, 10, 36], 50.0, 1e-2, 40)
    start, slopes, longer, true = frames["0.04_9"][0], [], [], []
    for rate, k in unseen:
        states = net.rollout(start, 2, environment=torch.tensor([[rate / 0.04 - 1]])).states
        slopes.append(_profile(states[-1]))
        longer.append(_length(states[-1]) - _length(start))
        truth = frames[f"{rate}_{k}"]
        true.append(_length(truth[-1]) - _length(truth[0]))
    print(f"longer by {longer} A in 100 fs, truly {true}; slopes {slopes}")
    assert longer[0] + 0.1 < longer[1] < longer[2] - 0.1
    assert slopes[0] < slopes[1] < slopes[2]
    assert all(abs(ours - right) < 0.3 * right for ours, right in zip(longer, true, strict=True))
