"""From trajectories to a mobility that runs in LAMMPS and is compared with its source.

Stages: estimate -> train -> export -> simulate -> cost; each is kept in a folder of its own and
done again only when what it depends on changed. `mlcore.mobility.summary` makes the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import mlcore
from mlcore.data import Trajectory, read_trajectory
from mlcore.errors import Error
from mlcore.mobility import estimators
from mlcore.mobility.config import ActiveData, Config, DataFiles, PassiveData, Simulation, Theory
from mlcore.mobility.estimators import WCA, MobilityEstimate
from mlcore.mobility.finite_lag import FiniteLag
from mlcore.mobility.increments import Increments, active_increments, passive_increments
from mlcore.mobility.models import PairModel
from mlcore.mobility.motion import (
    Motion,
    brownian_theory,
    equilibrium,
    observe,
    run_learned,
    short_time,
)
from mlcore.mobility.simulate import run_solvent
from mlcore.mobility.stages import Stage, Stages, digest
from mlcore.mobility.tensors import RPY, PairMobility

__all__ = ["Pipeline", "Progress", "StageName"]

Array = npt.NDArray[np.float64]
StageName = Literal["estimate", "train", "export", "simulate", "cost"]
Progress = Callable[[str, float], None]
"""Told what is going on, and how much of it is done (0..1; nan when unknown)."""


@dataclass
class Pipeline:
    """One run.

    Args:
        config: what to do.
        folder: where stages are kept.
        fresh: do everything again.
        progress: told what is going on.
        told: called with a stage's name before it runs and with the finished stage after.
    """

    config: Config
    folder: Path
    fresh: bool = False
    progress: Progress = lambda _what, _part: None
    told: Callable[[str | Stage], None] = lambda _: None
    stages: Stages = field(init=False)

    def __post_init__(self) -> None:
        self.stages = Stages(self.folder, self.fresh, self.told)

    # -- inputs ---------------------------------------------------------------------------------
    @cached_property
    def kinds(self) -> dict[str, DataFiles]:
        """The sections of the data there are; one is always held out."""
        data = self.config.data
        named = {"active": data.active, "passive": data.passive, "held_out": data.held_out}
        found = {name: section for name, section in named.items() if section is not None}
        return {"held_out": found[self.config.train.data], **found}

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Files of every section."""
        found = {name: s.paths(self.config.folder) for name, s in self.kinds.items()}
        if self.config.data.held_out is None:
            learned = self.config.train.data
            files = found[learned]
            if len(files) < 2:
                raise Error(
                    f"data.{learned}.files: one file is not enough, some are held out to judge "
                    "models; give more, or a section data.held_out"
                )
            kept = len(files) - max(1, len(files) // 4)
            found |= {learned: files[:kept], "held_out": files[kept:]}
        return found

    @cached_property
    def _read(self) -> dict[str, list[Trajectory]]:
        return {}

    def trajectories(self, kind: str) -> list[Trajectory]:
        """The trajectories of a section, read once."""
        if kind not in self._read:
            step, files = self.kinds[kind].time_step, self.files[kind]
            runs = []
            for index, path in enumerate(files):
                self.progress(f"reading {kind.replace('_', '-')} data", index / len(files))
                runs.append(read_trajectory(path, step))
            self._read[kind] = runs
        return self._read[kind]

    @cached_property
    def code(self) -> str:
        """Digest of what computes: a stage made by other code is done again."""
        root = Path(mlcore.__file__).parent
        shown = {"report.py", "plots.py", "summary.py", "cli.py"}
        files = [p for p in sorted(root.rglob("*.py")) if p.name not in shown]
        files = [p for p in files if p.relative_to(root).parts[0] != "cli"]
        return digest(mlcore.__version__, files=files)

    def _section(self, *names: str) -> Any:
        whole = self.config.model_dump(mode="json")
        return {name: whole[name] for name in names}

    @property
    def interactions(self) -> WCA | None:
        """Known force between the particles."""
        known = self.config.system.interaction
        return WCA(known.sigma, known.epsilon) if known else None

    def finite_lag(self, lag: float) -> FiniteLag | None:
        """What a passive covariance at ``lag`` misses; None for data without solvent inertia."""
        nu = self.config.system.kinematic_viscosity
        return FiniteLag(lag, nu) if nu else None

    def missing(self, estimate: MobilityEstimate) -> FiniteLag | None:
        """What an estimate misses of the steady mobility; None for active data."""
        return self.finite_lag(estimate.lag) if estimate.kind == "passive" else None

    def contact(self, kind: str) -> float:
        """Bins of a section below this distance are left out."""
        section = self.kinds[kind]
        assert isinstance(section, ActiveData | PassiveData)
        return section.contact

    # -- stages ---------------------------------------------------------------------------------
    def run(self, last: StageName = "cost") -> None:
        """Every stage up to and including ``last``."""
        _ = self.estimated
        if last == "estimate":
            return
        _ = self.trained
        if last == "train":
            return
        _ = self.exported
        if last == "export":
            return
        if self.config.simulate:
            _ = self.plugin
        _ = self.simulated
        if last == "cost":
            _ = self.costs

    @cached_property
    def estimated(self) -> Stage:
        """Binned estimates of every section of the data."""
        files = [path for paths in self.files.values() for path in paths]
        sections = self._section("system", "data", "estimate", "seed")
        key = digest(self.code, sections, files=files)
        return self.stages.run("estimate", key, self._estimate)

    def _estimate(self, folder: Path, _again: bool) -> dict[str, Any]:
        scan = []
        for kind in self.files:
            if kind == "held_out":
                continue
            estimate = self._estimate_one(kind)
            estimate.save(folder / f"{kind}.npz")
        passive = self.config.data.passive
        if passive is not None:
            for index, lag in enumerate(passive.scan):
                self.progress("scanning the lag", index / len(passive.scan))
                found = self._passive(lag)
                scan.append({"lag": lag, "self": found.self_mobility, "error": found.self_error})
                found.save(folder / f"passive_lag{index}.npz")
        return {"scan": scan, "kinds": [kind for kind in self.files if kind != "held_out"]}

    def _estimate_one(self, kind: str) -> MobilityEstimate:
        runs = self.trajectories(kind)
        self.progress(f"estimating from {kind.replace('_', '-')} data", float("nan"))
        section = self.kinds[kind]
        if not isinstance(section, ActiveData):
            assert self.config.data.passive is not None
            return self._passive(self.config.data.passive.lag)
        return estimators.active_estimate(
            runs,
            self.config.estimate.edges,
            lag=section.lag,
            skip=section.settle,
            interactions=self.interactions,
            block=section.block,
            kT=self.config.system.kBT,
            resamples=self.config.estimate.bootstrap,
            seed=self.config.seed,
        )

    def _passive(self, lag: float) -> MobilityEstimate:
        return estimators.passive_estimate(
            self.trajectories("passive"),
            self.config.estimate.edges,
            lag=lag,
            kT=self.config.system.kBT,
            resamples=self.config.estimate.bootstrap,
            seed=self.config.seed,
        )

    def estimate(self, kind: str) -> MobilityEstimate:
        """The binned estimate of a section."""
        return MobilityEstimate.load(self.estimated.folder / f"{kind}.npz")

    @property
    def cell(self) -> Array | None:
        """Periodic cell of the data."""
        return self.estimate(self.config.train.data).cell

    # -- training -------------------------------------------------------------------------------
    @cached_property
    def trained(self) -> Stage:
        """Every model with every loss."""
        key = digest(self.estimated.key, self._section("train"))
        return self.stages.run("train", key, self._train)

    def _train(self, folder: Path, again: bool) -> dict[str, Any]:
        from mlcore.mobility.evaluate import compare

        estimate, training = self.estimate(self.config.train.data), self.increments
        plan = [(m, loss) for m in self.config.train.models for loss in self.config.train.losses]
        jobs: list[tuple[PairModel, Literal["regression", "likelihood"]]] = []
        for index, (kind, loss) in enumerate(plan):
            self.progress(f"training {kind} by {loss}", index / (len(plan) + 2))
            model = self._model(kind)
            self._fit(model, loss, folder / f"{kind}-{loss}", again)
            model.save(folder / f"{kind}-{loss}.safetensors")
            jobs.append((model, loss))
        held_out = self._increments("held_out")
        table = compare(
            jobs,
            training,
            held_out,
            estimate,
            finite_lag=self.finite_lag(training.lag),
            rmin=self.contact(self.config.train.data),
            seed=self.config.seed,
            report=lambda what, _: self.progress(f"judging {what}", float("nan")),
        )
        references = len(table) - len(jobs)
        none: list[dict[str, float]] = []
        histories = [none] * references + [_history(model) for model, _ in jobs]
        rows = [
            row.row() | {"history": history} for row, history in zip(table, histories, strict=True)
        ]
        return {"rows": rows, "held_out": len(held_out), "slope": self._slope(jobs, held_out)}

    def _increments(self, kind: str) -> Increments:
        section, runs = self.kinds[kind], self.trajectories(kind)
        kT = self.config.system.kBT
        if isinstance(section, PassiveData):
            return passive_increments(runs, lag=section.lag, kT=kT)
        assert isinstance(section, ActiveData)
        return active_increments(
            runs,
            lag=section.lag,
            kT=kT,
            skip=section.settle,
            interactions=self.interactions,
            block=section.block,
        )

    @cached_property
    def increments(self) -> Increments:
        """What the likelihood loss learns from."""
        return self._increments(self.config.train.data)

    def _model(self, kind: str) -> PairModel:
        from mlcore.mobility import models

        train, background = self.config.train, self.config.train.background
        make: type[PairModel] = getattr(models, models.KINDS[kind])
        return make(
            background.kernel,
            train.cutoff,
            radius=background.radius,
            viscosity=background.viscosity,
            fit_background=background.fit,
            seed=self.config.seed,
        )

    def _fit(
        self, model: PairModel, loss: Literal["regression", "likelihood"], place: Path, again: bool
    ) -> None:
        options: dict[str, Any] = {}
        if model.kind == "neural":
            place.mkdir(exist_ok=True)
            options = {"directory": place, "resume": again, "epochs": self.config.train.epochs}
        if loss == "likelihood":
            lag = self.finite_lag(self.increments.lag)
            model.fit(self.increments, loss, finite_lag=lag, **options)
            return
        data = self.config.train.data
        estimate = self.estimate(data)
        lag = self.missing(estimate)
        model.fit(estimate, loss, rmin=self.contact(data), finite_lag=lag, **options)

    def _slope(self, jobs: list[Any], held_out: Increments) -> list[float] | None:
        """Response of particles that are not pushed, measured on predicted; None without such."""
        from mlcore.mobility.evaluate import response_slope

        forces = held_out.forces
        if forces is None or not forces.any() or (forces != 0).any(axis=2).all():
            return None
        model = next(m for m, loss in jobs if (m.kind, loss) == self.config.train.run)
        slope = response_slope(model, held_out, contact=self.contact("held_out"))
        return [slope.value, slope.error]

    def model(self, kind: str, loss: str) -> PairModel:
        """A trained model."""
        return PairModel.load(self.trained.folder / f"{kind}-{loss}.safetensors")

    @property
    def learned(self) -> PairMobility:
        """What runs: the exported mobility."""
        from mlcore.export import load_bundle

        return load_bundle(self.exported.folder / "bundle").mobility

    # -- export, simulation, cost ---------------------------------------------------------------
    @cached_property
    def exported(self) -> Stage:
        """The chosen model as a bundle with MLMOD's files."""
        key = digest(self.trained.key, self._section("units"), str(self.folder.resolve()))
        return self.stages.run("export", key, self._export)

    def _export(self, folder: Path, _again: bool) -> dict[str, Any]:
        from mlcore.export import export

        self.progress("exporting and verifying", float("nan"))
        model = self.model(*self.config.train.run)
        files = {path.name: digest(files=[path]) for paths in self.files.values() for path in paths}
        bundle = export(
            model,
            (folder / "bundle").resolve(),
            units=self.config.units.model_dump(),
            kT=self.config.system.kBT,
            training={"configuration": self.config.model_dump(mode="json"), "files": files},
        )
        return {"bundle": str(bundle.path)}

    @cached_property
    def plugin(self) -> Stage:
        """The LAMMPS plugin, compiled when this environment has none up to date."""
        from mlcore import lammps

        self.progress("compiling the LAMMPS plugin, once per environment", float("nan"))
        start = time.perf_counter()
        path = lammps.build()
        seconds = time.perf_counter() - start
        stage = Stage("plugin", "", path.parent, {"path": str(path)}, seconds, seconds < 2)
        self.told(stage)
        return stage

    @cached_property
    def simulated(self) -> dict[str, Stage]:
        """The learned model in LAMMPS and what it is compared with, by name of the run."""
        done = {}
        for run in self.config.simulate:
            inputs = [self.exported.key, run.model_dump(mode="json"), self._section("theory")]
            work = partial(self._simulate, run)
            done[run.name] = self.stages.run(f"simulate-{run.name}", digest(*inputs), work)
        return done

    def _simulate(self, run: Simulation, folder: Path, _again: bool) -> dict[str, Any]:
        seed = self.config.seed
        self.progress(f"{run.name}: equilibrium", float("nan"))
        start = equilibrium(folder / "equilibrium", run, self.config, seed)
        runs, timings = run_learned(
            folder,
            run,
            self.config,
            self.exported.folder / "bundle" / "bundle.mlmod_params",
            start.starts,
            seed,
            lambda part: self.progress(f"{run.name}: learned model in LAMMPS", part),
        )
        learned = observe(runs, run.frame, run, start.static)
        reference = self._reference(run, start.starts, start.static)
        known = {"learned": self.learned} | ({"theory": self.theory} if self.theory else {})
        exact = {
            name: (self.config.system.kBT * short_time(m, runs, run, start.static)).tolist()
            for name, m in known.items()
        }
        seconds = sum(t.seconds for t in timings)
        return {
            "learned": learned.to_json(),
            "reference": reference.to_json(),
            "short_time": exact,
            "seconds_per_time": seconds / (len(timings) * run.duration),
            "seconds_per_step": seconds / sum(t.steps for t in timings),
        }

    def _reference(self, run: Simulation, starts: Array, static: Array) -> Motion:
        if run.compare == "data":
            runs = self.trajectories("passive")
            return observe(runs, runs[0].interval, run, static)
        assert self.theory is not None
        told = f"{run.name}: Brownian dynamics of the theory"
        frames = brownian_theory(
            self.theory,
            run,
            self.config,
            starts,
            self.config.seed,
            lambda part: self.progress(told, part),
        )
        return observe(frames, run.frame, run, static)

    @cached_property
    def costs(self) -> Stage | None:
        """Wall time of the explicit solvent."""
        cost = self.config.cost
        if cost is None:
            return None
        script = self.config.folder / cost.script
        key = digest(self._section("cost"), files=[script])
        return self.stages.run("cost", key, self._cost)

    def _cost(self, folder: Path, _again: bool) -> dict[str, Any]:
        cost = self.config.cost
        assert cost is not None
        self.progress("explicit solvent, for its cost", float("nan"))
        script = (self.config.folder / cost.script).resolve()
        timing = run_solvent(folder, script, cost, self.config.seed)
        return {"seconds_per_time": timing.seconds / (timing.steps * cost.time_step)}

    # -- theory ---------------------------------------------------------------------------------
    @cached_property
    def theory(self) -> PairMobility | None:
        """Periodic or free RPY of [theory], with its local self part."""
        theory = self.config.theory
        if theory is None:
            return None
        zero, fluid = np.zeros(2), RPY(theory.radius, theory.viscosity)
        local = self._local(theory)
        return PairMobility(local, 1.0, zero, zero, zero, zero, background=fluid)

    def _local(self, theory: Theory) -> float:
        if theory.local != "measured":
            return theory.local
        estimate = self.estimate(self.config.train.data)
        fluid = RPY(theory.radius, theory.viscosity)
        hydrodynamic = estimate.theory(fluid, self.missing(estimate))
        local = estimate.self_mobility - hydrodynamic.self_mobility
        if not local >= 0:
            raise Error(
                f"theory.local = 'measured' gives {local:.3g} < 0: the measured self mobility is "
                "below that of theory.radius and theory.viscosity"
            )
        return local


def _history(model: PairModel, most: int = 200) -> list[dict[str, float]]:
    """Loss by epoch, at most about ``most`` records, closer together at the start."""
    told = model.result.history if model.result else []
    history = [{k: r[k] for k in ("epoch", "loss")} for r in told if "epoch" in r and "loss" in r]
    if len(history) <= most:
        return history
    picked = np.unique(np.geomspace(1, len(history), most).astype(int) - 1)
    return [history[index] for index in picked]
