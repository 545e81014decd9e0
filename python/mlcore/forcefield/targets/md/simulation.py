"""Molecular dynamics of a candidate: how it is run, and what it leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.targets.face import Boxes

__all__ = [
    "KB",
    "Exploded",
    "Live",
    "Simulation",
    "Trajectory",
    "checked",
    "fixed",
    "hottest",
    "live",
    "settle",
    "simulate",
]

Array = npt.NDArray[np.float64]
Ensemble = Literal["npt", "nvt", "nve"]

KB = 8.617333262e-5
# a candidate whose volume leaves this range of factors has nothing left of its structure
VOLUMES = (1 / 3, 3.0)
SKIN = 1.5


@dataclass(frozen=True)
class _Units:
    """What LAMMPS counts in: units to a ps, an eV and a GPa."""

    ps: float
    electronvolt: float
    gigapascal: float


_UNITS = {
    "metal": _Units(1.0, 1.0, 1e4),
    # of ReaxFF: fs, kcal/mol, atm, by LAMMPS' own figures
    "real": _Units(1e3, 23.060549, 1e4 / 1.01325),
}


class Exploded(Error):
    """Molecular dynamics of a candidate came to nothing; the message says how."""


@dataclass(frozen=True)
class Simulation:
    """How a structure is run.

    Temperatures are visited one after the other, each from where the last one ended: velocities of
    a Maxwell distribution, ``equilibrate`` steps, ``steps`` steps that are sampled. Velocities
    depend on the seed and the number of an atom alone, so all candidates get the same.

    Attributes:
        timestep: ps.
        equilibrate: steps before samples are taken, at each temperature.
        steps: steps that are sampled, at each temperature.
        every: steps between two samples of energy and volume.
        frames: samples between two frames of positions.
        ensemble: of the sampled steps. Steps before are ``npt`` where there is a ``pressure``, and
            ``nvt`` and ``nve`` go on at the mean volume of their second half.
        pressure: GPa; None keeps the volume of the structure, for ``nvt`` and ``nve``.
        cell: what a barostat may change: ``iso`` all lengths alike, ``aniso`` each, ``tri`` angles
            as well.
        melt: temperature (K) and steps of a first stage whose only purpose is to forget the
            structure.
        thermostat: time constant, in time steps.
        barostat: time constant, in time steps.
        seed: of velocities.
        repeats: runs with seeds ``seed``, ``seed + 1``, ..., whose mean counts.
        most: atom steps a candidate may take.

    Raises:
        InvalidArgument: naming the one that is wrong.
    """

    timestep: float = 0.001
    equilibrate: int = 5000
    steps: int = 20000
    every: int = 10
    frames: int = 10
    ensemble: Ensemble = "npt"
    pressure: float | None = 0.0
    cell: Literal["iso", "aniso", "tri"] = "iso"
    melt: tuple[float, int] | None = None
    thermostat: float = 100.0
    barostat: float = 1000.0
    seed: int = 1
    repeats: int = 1
    most: float = 1e9

    def __post_init__(self) -> None:
        self._plain()
        for name in ("timestep", "thermostat", "barostat", "most"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidArgument(f"{name}: must be positive, got {getattr(self, name)}")
        for name in ("steps", "every", "frames", "seed", "repeats"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.equilibrate < 0:
            raise InvalidArgument(f"equilibrate: must be at least 0, got {self.equilibrate}")
        if self.ensemble not in ("npt", "nvt", "nve"):
            raise InvalidArgument(f"ensemble: npt, nvt or nve, got {self.ensemble!r}")
        if self.cell not in ("iso", "aniso", "tri"):
            raise InvalidArgument(f"cell: iso, aniso or tri, got {self.cell!r}")
        if self.pressure is None and self.ensemble == "npt":
            raise InvalidArgument("pressure: npt needs one, GPa")
        if self.pressure is not None and not math.isfinite(self.pressure):
            raise InvalidArgument(f"pressure: must be finite, got {self.pressure}")
        if self.steps < 4 * self.every:
            raise InvalidArgument(
                f"steps: {self.steps} leave less than 4 samples, one every {self.every}"
            )

    def _plain(self) -> None:
        """Numbers of other libraries as Python's own: LAMMPS reads no other."""
        whole = ("equilibrate", "steps", "every", "frames", "seed", "repeats")
        for name in ("timestep", "pressure", "thermostat", "barostat", "most", *whole):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, (int if name in whole else float)(value))
        if self.melt is not None:
            kelvin, steps = self.melt
            object.__setattr__(self, "melt", (float(kelvin), int(steps)))

    def check_cost(self, atoms: int, temperatures: int) -> None:
        """Refuses what would take for ever.

        Raises:
            InvalidArgument: more atom steps than ``most``.
        """
        whole = self.equilibrate + self.steps
        cost = self.repeats * atoms * (temperatures * whole + (self.melt[1] if self.melt else 0))
        if cost > self.most:
            raise InvalidArgument(
                f"simulation: {cost:.3g} atom steps, more than most = {self.most:.3g}"
            )


@dataclass(frozen=True)
class Trajectory:
    """What the sampled steps at one temperature left.

    Attributes:
        temperature: K, as asked for.
        pressure: GPa, as asked for; 0 at constant volume.
        time: ps between two samples.
        kelvin: (S,) instantaneous temperatures.
        energy: (S,) potential energy of all atoms, eV.
        volume: (S,) A^3.
        gigapascal: (S,) instantaneous pressures.
        frame_time: ps between two frames.
        positions: (F, n, 3) A, not folded back into the cell; atoms in the structure's order.
        cells: (F, 3, 3) A, rows are the box's vectors.
        masses: (n,) g/mol.
        types: (n,) from 0, in the order of the model's species.
    """

    temperature: float
    pressure: float
    time: float
    kelvin: Array
    energy: Array
    volume: Array
    gigapascal: Array
    frame_time: float
    positions: Array
    cells: Array
    masses: Array
    types: npt.NDArray[np.int64]


class Live:
    """A LAMMPS object at work, looked after: runs are short, and stop where atoms fly apart.

    Whatever units it counts in, times here are in ps, energies in eV, pressures in GPa.

    Args:
        lmp: of a structure and an interaction, its caller's to close.
        simulation: how it is run.
    """

    def __init__(self, lmp: Any, simulation: Simulation) -> None:
        self.lmp = lmp
        self.simulation = simulation
        self.count = int(lmp.get_natoms())
        self._units = _UNITS[lmp.extract_global("units")]
        for line in (
            f"neighbor {SKIN} bin",
            "neigh_modify every 1 delay 0 check yes",
            f"timestep {simulation.timestep * self._units.ps!r}",
        ):
            self.command(line)
        self.start = self.volume()

    def command(self, line: str) -> None:
        """One line of LAMMPS.

        Raises:
            Exploded: with LAMMPS' words.
        """
        try:
            self.lmp.command(line)
        except Exception as error:
            words = " ".join(str(error).split())
            # of `run`, whose own limit this is
            raise Exploded("it heated up" if "Fix halt" in words else f"LAMMPS: {words}") from error

    def warm(self, temperature: float, seed: int) -> None:
        """New velocities; of an atom's number, not its place, so that candidates share them."""
        self.command(
            f"velocity all create {temperature!r} {seed} mom yes rot no dist gaussian loop all"
        )

    def run(self, steps: int, every: int, hottest: float) -> Iterator[None]:
        """Runs; stops to be looked at after each ``every`` steps.

        Raises:
            Exploded: lost atoms, a temperature above ``hottest``, a volume out of range.
        """
        # at every step: LAMMPS would never end folding back an atom that flew beyond all bounds
        self.command("variable hot equal temp")
        self.command(f"fix hot all halt 1 v_hot > {hottest!r} error hard message no")
        first = "yes"
        for _ in range(steps // every):
            self.command(f"run {every} pre {first} post no")
            first = "no"
            self._check(hottest)
            yield
        self.command("unfix hot")

    def pass_time(self, steps: int, hottest: float) -> Array:
        """Runs; returns the volumes on the way, one for every ten steps."""
        return np.array([self.volume() for _ in self.run(steps, 10, hottest)])

    def motion(self, ensemble: str, temperature: float) -> str:
        """What follows ``fix ID group``."""
        if ensemble == "nve":
            return "nve"
        simulation = self.simulation
        step = simulation.timestep * self._units.ps
        words = f"{ensemble} temp {temperature!r} {temperature!r} {simulation.thermostat * step!r}"
        if ensemble == "nvt":
            return words
        press = (simulation.pressure or 0.0) * self._units.gigapascal
        return f"{words} {simulation.cell} {press!r} {press!r} {simulation.barostat * step!r}"

    def kelvin(self) -> float:
        return float(self.lmp.extract_compute("thermo_temp", 0, 0))

    def energy(self) -> float:
        """Potential energy, eV."""
        return self.electronvolt(self.lmp.extract_compute("thermo_pe", 0, 0))

    def electronvolt(self, energy: float) -> float:
        """An energy as LAMMPS has it, eV."""
        return float(energy) / self._units.electronvolt

    def velocities(self) -> Array:
        """(n, 3) A/ps."""
        return np.asarray(self.atoms("v") * self._units.ps)

    def gigapascal(self) -> float:
        return float(self.lmp.extract_compute("thermo_press", 0, 0)) / self._units.gigapascal

    def volume(self) -> float:
        return float(np.prod(np.diag(self.cell())))

    def cell(self) -> Array:
        """(3, 3) vectors of the box."""
        low, high, xy, yz, xz = self.lmp.extract_box()[:5]
        x, y, z = np.subtract(high, low)
        return np.array([[x, 0.0, 0.0], [xy, y, 0.0], [xz, yz, z]])

    def atoms(self, name: str, columns: int = 3) -> npt.NDArray[Any]:
        """A quantity of each atom, in the structure's order."""
        if columns > 1:
            rows = self.lmp.numpy.extract_atom(name, dim=columns)[: self.count]
        else:
            rows = self.lmp.numpy.extract_atom(name)[: self.count]
        found: npt.NDArray[Any] = np.empty_like(rows)
        found[self.lmp.numpy.extract_atom("id")[: self.count] - 1] = rows
        return found

    def positions(self) -> Array:
        """(n, 3), as if there were no walls of the box to go through."""
        packed = self.atoms("image", 1).astype(np.int64)
        images = np.stack([packed & 1023, packed >> 10 & 1023, packed >> 20], axis=1) - 512
        moved: Array = self.atoms("x") + images @ self.cell() - self.lmp.extract_box()[0]
        return moved

    def place(self, positions: Array, cell: Array) -> None:
        """Box and atoms as `cell` and `positions` gave them."""
        low = np.asarray(self.lmp.extract_box()[0], dtype=np.float64)
        ends = [(float(a), float(a + cell[k, k])) for k, a in enumerate(low)]
        sides = " ".join(f"{x} final {a!r} {b!r}" for x, (a, b) in zip("xyz", ends, strict=True))
        tilts = ((1, 0, "xy"), (2, 0, "xz"), (2, 1, "yz"))
        leaning = "".join(f" {name} final {float(cell[i, j])!r}" for i, j, name in tilts)
        self.command(f"change_box all {sides}{leaning} units box")
        flat = np.ascontiguousarray(positions + low, dtype=np.float64).ravel()
        self.lmp.scatter_atoms("x", 1, 3, flat.ctypes.data_as(ctypes.POINTER(ctypes.c_double)))

    def types(self) -> npt.NDArray[np.int64]:
        return self.atoms("type", 1).astype(np.int64) - 1

    def masses(self) -> Array:
        """(n,) g/mol."""
        of_type = np.array(self.lmp.numpy.extract_atom("mass"), dtype=np.float64)
        # LAMMPS numbers types from 1
        return of_type[1:][self.types()] if of_type[0] == 0 else of_type[self.types()]

    def _check(self, hottest: float) -> None:
        kelvin, volume = self.kelvin(), self.volume()
        if not (kelvin <= hottest and math.isfinite(self.energy())):
            raise Exploded(f"it heated up to {kelvin:.4g} K")
        ratio = volume / self.start
        if not VOLUMES[0] <= ratio <= VOLUMES[1]:
            raise Exploded(f"its volume became {ratio:.3g} of what it was")


def hottest(temperature: float) -> float:
    """Above this a run at ``temperature`` is lost, K."""
    return 4 * temperature + 500


def simulate(
    boxes: Boxes, k: int, temperatures: Sequence[float], simulation: Simulation
) -> list[list[Trajectory]]:
    """Trajectories of structure ``k``: [temperature][repeat].

    Runs that are asked for in the same words are run once for each candidate, in a LAMMPS object of
    their own, so that they can be repeated to the last bit and leave nothing behind.

    Raises:
        Exploded: the candidate does not hold together.
    """

    def all_of_it() -> list[list[Trajectory]] | Exploded:
        try:
            runs = [
                _ladder(boxes, k, temperatures, simulation, simulation.seed + r)
                for r in range(simulation.repeats)
            ]
        except Exploded as error:
            return error
        return [list(of_temperature) for of_temperature in zip(*runs, strict=True)]

    found: list[list[Trajectory]] | Exploded = boxes.once(
        k, (tuple(temperatures), simulation), all_of_it
    )
    if isinstance(found, Exploded):
        raise found
    return found


@contextlib.contextmanager
def live(boxes: Boxes, k: int, simulation: Simulation) -> Iterator[Live]:
    """A new LAMMPS object of structure ``k``."""
    with boxes.fresh(k) as lmp:
        yield Live(lmp, simulation)


def _ladder(
    boxes: Boxes, k: int, temperatures: Sequence[float], simulation: Simulation, seed: int
) -> list[Trajectory]:
    with live(boxes, k, simulation) as at_work:
        if simulation.melt is not None:
            hot, steps = simulation.melt
            at_work.warm(hot, seed)
            with fixed(at_work, at_work.motion("npt" if _has(simulation) else "nvt", hot)):
                at_work.pass_time(steps, hottest(hot))
        return [_stage(at_work, t, simulation, seed) for t in temperatures]


def _has(simulation: Simulation) -> bool:
    return simulation.pressure is not None


def _stage(at_work: Live, temperature: float, simulation: Simulation, seed: int) -> Trajectory:
    limit = hottest(temperature)
    settle(at_work, temperature, simulation, seed)
    with fixed(at_work, at_work.motion(simulation.ensemble, temperature)):
        rows, positions, cells = [], [], []
        for s, _ in enumerate(at_work.run(simulation.steps, simulation.every, limit)):
            rows.append(
                (at_work.kelvin(), at_work.energy(), at_work.volume(), at_work.gigapascal())
            )
            if s % simulation.frames == 0:
                positions.append(at_work.positions())
                cells.append(at_work.cell())
    kelvin, energy, volume, gigapascal = np.array(rows).T
    time = simulation.every * simulation.timestep
    return Trajectory(
        temperature=temperature,
        pressure=simulation.pressure or 0.0,
        time=time,
        kelvin=kelvin,
        energy=energy,
        volume=volume,
        gigapascal=gigapascal,
        frame_time=time * simulation.frames,
        positions=np.array(positions),
        cells=np.array(cells),
        masses=at_work.masses(),
        types=at_work.types(),
    )


def settle(
    at_work: Live, temperature: float, simulation: Simulation, seed: int, keep: bool = False
) -> None:
    """The steps before samples are taken; ends in the volume the sampled ones begin with.

    With ``keep`` that is the mean volume, whatever the ensemble.
    """
    limit = hottest(temperature)
    at_work.warm(temperature, seed)
    if simulation.pressure is None:
        with fixed(at_work, at_work.motion("nvt", temperature)):
            at_work.pass_time(simulation.equilibrate, limit)
        return
    with fixed(at_work, at_work.motion("npt", temperature)):
        volumes = at_work.pass_time(simulation.equilibrate, limit)
    if (keep or simulation.ensemble != "npt") and len(volumes) > 1:
        mean = float(volumes[len(volumes) // 2 :].mean())
        scale = (mean / at_work.volume()) ** (1 / 3)
        sides = " ".join(f"{axis} scale {scale!r}" for axis in "xyz")
        at_work.command(f"change_box all {sides} remap units box")


@contextlib.contextmanager
def fixed(at_work: Live, words: str, name: str = "motion", group: str = "all") -> Iterator[None]:
    """A ``fix`` for as long as the context lasts."""
    at_work.command(f"fix {name} {group} {words}")
    yield
    at_work.command(f"unfix {name}")


def checked(name: str, structure: Atoms, temperatures: Sequence[float]) -> None:
    """Refuses what cannot be run.

    Raises:
        InvalidArgument: naming the target.
    """
    if not structure.pbc.all():
        raise InvalidArgument(f"{name}: structure must be periodic in all directions")
    if not temperatures or not all(math.isfinite(t) and t > 0 for t in temperatures):
        raise InvalidArgument(f"{name}: temperatures must be positive, got {list(temperatures)}")
