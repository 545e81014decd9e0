"""The motion a learned mobility makes in LAMMPS, beside the motion it should make."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore._core import num_threads
from mlcore.data import Trajectory, read_trajectory
from mlcore.mobility import observables
from mlcore.mobility.config import Config, Simulation
from mlcore.mobility.observables import Curve, DiffusionSpectrum
from mlcore.mobility.simulate import (
    Progress,
    Timing,
    equilibrium_input,
    insert_particles,
    learned_input,
    run_lammps,
    write_data,
)
from mlcore.mobility.tensors import Mobility

__all__ = [
    "Equilibrium",
    "Motion",
    "brownian_theory",
    "equilibrium",
    "observe",
    "run_learned",
    "short_time",
]

Array = npt.NDArray[np.float64]

SAMPLES = 400
STEPS_BETWEEN = 500


@dataclass(frozen=True)
class Motion:
    """Mean-square displacement and D(k) of one set of trajectories."""

    displacement: Curve
    spectrum: DiffusionSpectrum

    def to_json(self) -> dict[str, Any]:
        """Lists and numbers only."""
        return {
            name: {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in part.items()}
            for name, part in asdict(self).items()
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Motion:
        """Back from `to_json`."""
        curve = {k: np.array(v) for k, v in record["displacement"].items()}
        spectrum: dict[str, Any] = {
            k: tuple(v) if k == "window" else np.array(v) for k, v in record["spectrum"].items()
        }
        return cls(Curve(**curve), DiffusionSpectrum(**spectrum))


@dataclass(frozen=True)
class Equilibrium:
    """Independent starts (runs, n, 3) and the static structure factor S(k) (K,)."""

    starts: Array
    static: Array


def equilibrium(folder: Path, run: Simulation, config: Config, seed: int) -> Equilibrium:
    """Samples the known interaction by Langevin dynamics in stock LAMMPS."""
    waves = observables.smallest_wavevectors(run.box * np.eye(3))
    interaction = config.system.interaction
    if interaction is None:
        rng = np.random.default_rng(seed)
        starts = rng.uniform(0, run.box, (run.runs, run.particles, 3))
        return Equilibrium(starts, np.ones(len(waves)))
    folder.mkdir(parents=True, exist_ok=True)
    inserted = insert_particles(run.particles, run.box, 0.95 * interaction.cutoff, seed)
    write_data(folder / "start.data", inserted, run.box)
    samples = max(SAMPLES, 4 * run.runs) * max(1, round(200 / run.particles))
    script = equilibrium_input(
        interaction, config.system.kBT, seed, samples * STEPS_BETWEEN, STEPS_BETWEEN
    )
    run_lammps(folder, script, plugin=False)
    frames = read_trajectory(folder / "trajectory.dump").positions[samples // 10 :]
    picked = np.linspace(0, len(frames) - 1, run.runs + 1).astype(int)[1:]
    return Equilibrium(frames[picked] % run.box, observables.structure_factor([frames], waves))


def run_learned(
    folder: Path,
    run: Simulation,
    config: Config,
    parameters: Path,
    starts: Array,
    seed: int,
    progress: Progress | None = None,
) -> tuple[list[Array], list[Timing]]:
    """Runs the learned model from every start, one core each, as many at once as the library has
    threads; positions (T, n, 3) and timings.
    """
    steps = run.duration / run.time_step
    done = [0.0] * len(starts)

    def one(index: int) -> tuple[Array, Timing]:
        def report(step: float) -> None:
            done[index] = step / steps
            if progress:
                progress(sum(done) / len(done))

        place = folder / f"run{index + 1}"
        place.mkdir(parents=True, exist_ok=True)
        write_data(place / "start.data", starts[index], run.box)
        script = learned_input(run, config.system.interaction, parameters.resolve(), seed + index)
        timing = run_lammps(place, script, plugin=True, progress=report)
        return read_trajectory(place / "trajectory.dump").positions, timing

    with ThreadPoolExecutor(min(len(starts), num_threads())) as pool:
        results = list(pool.map(one, range(len(starts))))
    return [positions for positions, _ in results], [timing for _, timing in results]


def brownian_theory(
    mobility: Mobility,
    run: Simulation,
    config: Config,
    starts: Array,
    seed: int,
    progress: Progress | None = None,
) -> list[Array]:
    """The same runs by Brownian dynamics of the core with a known mobility."""
    from mlcore import dynamics

    def report(done: int, total: int) -> None:
        if progress:
            progress(done / total)

    forces = []
    if config.system.interaction is not None:
        known = config.system.interaction
        forces.append(dynamics.LennardJones(known.sigma, known.epsilon))
    frames = dynamics.brownian(
        mobility,
        starts,
        forces=forces,
        dt=run.time_step,
        kT=config.system.kBT,
        steps=round(run.duration / run.time_step),
        every=round(run.frame / run.time_step),
        cell=run.box * np.eye(3),
        seed=seed,
        progress=report if progress else False,
    )
    return list(np.asarray(frames, dtype=np.float64))


def short_time(mobility: Mobility, runs: Sequence[Array], run: Simulation, static: Array) -> Array:
    """D(k) = kBT H(k) / S(k) at kBT = 1, exact for a mobility on sampled configurations; (K,).

    Args:
        mobility: whose matrices are taken.
        runs: (T, n, 3) positions each.
        run: gives the box.
        static: (K,) S(k).
    """
    count = max(2, min(200, 4000 // run.particles))
    frames = np.concatenate([x[1:] for x in runs])
    picked = frames[np.linspace(0, len(frames) - 1, count).astype(int)]
    cell = run.box * np.eye(3)
    waves = observables.smallest_wavevectors(cell)
    matrices = [np.asarray(mobility.matrix(x, cell)) for x in picked]
    return observables.hydrodynamic_function(list(picked), matrices, waves)[0] / static


def observe(
    runs: Sequence[Array] | Sequence[Trajectory], interval: float, run: Simulation, static: Array
) -> Motion:
    """Mean-square displacement and D(k) with the lags and the window of a simulation.

    Args:
        runs: (T, n, 3) unwrapped positions each, or trajectories.
        interval: time between frames.
        run: gives lags, window and box.
        static: (K,) S(k).
    """
    positions = [x.positions if isinstance(x, Trajectory) else x for x in runs]
    lags = [round(lag / interval) for lag in run.lags]
    window = (round(run.window[0] / interval), round(run.window[1] / interval))
    waves = observables.smallest_wavevectors(run.box * np.eye(3))
    blocks = 4 if len(positions) > 2 else 8
    return Motion(
        observables.mean_square_displacement(positions, interval, lags, blocks=blocks),
        observables.diffusion_spectrum(
            positions, interval, waves, lags, window, static=static, blocks=blocks
        ),
    )
