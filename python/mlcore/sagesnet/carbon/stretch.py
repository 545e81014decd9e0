"""Pulls a carbon body apart by stock LAMMPS and AIREBO, and keeps what it saw.

AIREBO: S. J. Stuart, A. B. Tutein, J. A. Harrison, J. Chem. Phys. 112, 6472 (2000), with the
parameters that come with LAMMPS. Its inner cutoff of C-C bonds is 1.92 A by default, since that
of 1.7 A makes bonds too stiff before they break.
"""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from mlcore.errors import Error, InvalidArgument
from mlcore.lammps.environment import find_environment
from mlcore.lammps.run import command, environment_variables

__all__ = ["CURVE", "Pull", "Stretch", "potential", "relax", "stretch"]

Array = NDArray[np.float64]

GPA = 160.2176634
"""GPa in an eV/A^3."""
CURVE = ("step", "strain", "stress", "low", "high", "temperature", "energy")
"""Columns of a curve: step; strain; stress, GPa; pulls of the grips, eV/A; K; eV."""


@dataclass(frozen=True)
class Pull:
    """How a body is pulled.

    Args:
        rate: of strain, per ps; both grips move, the strain is that of the length between them.
        until: strain at which it ends at the latest.
        drop: it ends when the stress has fallen this far below its maximum so far; 1: never.
        least: GPa the maximum must reach before a fall counts.
        window: ps over which the stress is averaged for that.
        temperature: K.
        thermostat: ``langevin``, which drags a little on what the pull moves (0.1 GPa in a sheet of
            67 A at the default rate and damping), or ``nose-hoover``, which does not, yet freezes a
            cold sheet for good once a bond that breaks has heated it: for runs without breaks.
        damping: ps, of the thermostat.
        rest: ps before the pull, under a Langevin thermostat of 0.1 ps.
        timestep: ps.
        frame: time steps between frames kept.
        sample: time steps that a point of the stress curve averages over.
        lj: with the forces between atoms that are not bonded, four times as dear.
        rcmin: A, inner cutoff of C-C bonds; 1.7 is the published one.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    rate: float = 0.02
    until: float = 0.9
    drop: float = 0.2
    least: float = 1.5
    window: float = 0.5
    temperature: float = 4.2
    thermostat: Literal["langevin", "nose-hoover"] = "langevin"
    damping: float = 2.0
    rest: float = 1.0
    timestep: float = 0.001
    frame: int = 10
    sample: int = 50
    lj: bool = False
    rcmin: float = 1.92

    def __post_init__(self) -> None:
        for name in ("rate", "until", "drop", "window", "damping", "timestep", "frame", "sample"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidArgument(f"{name} must be above 0, got {getattr(self, name)!r}")
        for name in ("least", "temperature", "rest"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidArgument(f"{name} must not be negative, got {getattr(self, name)!r}")
        if self.thermostat not in ("nose-hoover", "langevin"):
            raise InvalidArgument(
                f"thermostat must be nose-hoover or langevin, got {self.thermostat!r}"
            )
        if not 0.7 < self.rcmin < 2.0:
            raise InvalidArgument(f"rcmin must be below rcmax, 2.0 A, got {self.rcmin!r}")

    @property
    def steps(self) -> int:
        """Time steps to the strain ``until``, whole points of the curve."""
        return -(-round(self.until / (self.rate * self.timestep)) // self.sample) * self.sample

    def record(self) -> dict[str, Any]:
        """All settings, for files."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Stretch:
    """A body pulled apart.

    Attributes:
        start: the body at rest, relaxed without forces, in the box of all frames.
        steps: (t,) time step of every frame, from the begin of the pull.
        strains: (t,) of the length between the grips.
        positions: (t, n, 3) float32, A.
        velocities: (t, n, 3) float32, A/fs.
        curve: (c, 7) the stress curve, columns `CURVE`.
        provenance: what made it: settings, seed, versions, hashes, seconds.
    """

    start: Atoms
    steps: NDArray[np.int64]
    strains: Array
    positions: NDArray[np.float32]
    velocities: NDArray[np.float32]
    curve: Array
    provenance: dict[str, Any]


def potential(folder: Path, rcmin: float = 1.92) -> Path:
    """Writes AIREBO's parameters with an inner C-C cutoff of ``rcmin`` to a folder.

    Raises:
        BackendUnavailable: LAMMPS is not installed.
        Error: its file of parameters does not begin as it should.
    """
    original = find_environment(torch=False).lammps / "share/lammps/potentials/CH.airebo"
    lines = original.read_text().splitlines(keepends=True)
    found = [k for k, line in enumerate(lines[:40]) if line.split()[1:2] == ["rcmin_CC"]]
    if len(found) != 1:
        raise Error(f"{original}: rcmin_CC should stand there once, found {len(found)}")
    lines[found[0]] = f"{rcmin!r}\trcmin_CC\n"
    made = folder / "CH.airebo"
    made.write_text("".join(lines))
    return made


def relax(body: Atoms, pull: Pull | None = None, timeout: float = 600.0) -> Atoms:
    """The body at rest: all atoms free, until no force is left.

    Returns:
        A copy with the relaxed positions; ``info`` has ``energy``, eV, and ``force``, the largest
        component of a force that is left, eV/A.

    Raises:
        InvalidArgument, Error, BackendUnavailable: as `stretch`.
    """
    pull = pull or Pull()
    _check(body)
    with tempfile.TemporaryDirectory(prefix="mlcore-relax-") as name:
        work = Path(name)
        lines = [
            *_setup(work, body, pull),
            *_relaxed(),
            'print "left $(pe:%.12g) $(fmax:%.12g)" file left.txt',
        ]
        _lmp(work, lines, timeout)
        made: Atoms = body.copy()
        made.positions = _table(work / "relaxed.txt", len(body))
        _, energy, force = (work / "left.txt").read_text().split()
        made.info |= {"energy": float(energy), "force": float(force)}
    return made


def stretch(
    body: Atoms,
    pull: Pull | None = None,
    seed: int = 1,
    timeout: float = 7200.0,
    scratch: str | Path | None = None,
) -> Stretch:
    """Relaxes a body, warms it, and moves its grips apart until it yields.

    Stress is half the sum of what pulls at the grips over ``info["section"]``. LAMMPS runs in a
    process of its own, on one core. The same body, settings and seed give the same frames.

    Args:
        body: see `mlcore.sagesnet.carbon.sheets`.
        pull: settings.
        seed: of velocities and thermostat.
        timeout: seconds after which it is given up.
        scratch: where a folder for LAMMPS' files is made, and removed; some 0.1 GB for a sheet.

    Raises:
        InvalidArgument: naming the argument.
        Error: LAMMPS stopped, with its words, or took too long.
        BackendUnavailable: LAMMPS is not installed.
    """
    pull = pull or Pull()
    _check(body)
    if not 0 < seed < 2**31:
        raise InvalidArgument(f"seed must be 1 to 2147483647, got {seed!r}")
    with tempfile.TemporaryDirectory(prefix="mlcore-stretch-", dir=scratch) as name:
        work = Path(name)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _lmp(work, [*_setup(work, body, pull), *_pulled(body, pull, seed)], timeout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return _collect(work, body, pull, seed, spent)


def _check(body: Atoms) -> None:
    if "grip" not in body.arrays or "section" not in body.info:
        raise InvalidArgument("body must have the array grip and info['section']: see sheets.body")
    if not np.isfinite(body.positions).all():
        raise InvalidArgument("body has positions that are not finite")
    strange = sorted(set(body.symbols) - {"C", "H"})
    if strange:
        raise InvalidArgument(f"body must hold C and H only, as AIREBO does, not {strange}")


def _box(body: Atoms, pull: Pull) -> tuple[Array, Array]:
    """Lower and upper corner of a box the whole pull stays in."""
    low, high = body.positions.min(0), body.positions.max(0)
    half = (high - low) / 2 * [1.04 + pull.until, 1.04, 1.04] + [8.0, 8.0, 20.0]
    return (low + high) / 2 - half, (low + high) / 2 + half


def _setup(work: Path, body: Atoms, pull: Pull) -> list[str]:
    file = potential(work, pull.rcmin)
    kinds = list(dict.fromkeys(body.symbols))
    low, high = _box(body, pull)
    lines = ["carbon", "", f"{len(body)} atoms", f"{len(kinds)} atom types", ""]
    for k, axis in enumerate("xyz"):
        lines.append(f"{float(low[k])!r} {float(high[k])!r} {axis}lo {axis}hi")
    masses = [float(atomic_masses[atomic_numbers[kind]]) for kind in kinds]
    lines += ["", "Masses", "", *(f"{k} {mass!r}" for k, mass in enumerate(masses, 1))]
    lines += ["", "Atoms # atomic", ""]
    for k, (symbol, row) in enumerate(zip(body.symbols, body.positions.tolist(), strict=True), 1):
        lines.append(f"{k} {kinds.index(symbol) + 1} " + " ".join(map(repr, row)))
    (work / "body.data").write_text("\n".join(lines) + "\n")
    groups = [_group("low", body, -1), _group("high", body, 1), "group grips union low high"]
    return [
        "units metal",
        "atom_style atomic",
        "atom_modify map array",
        "boundary m m m",
        "read_data body.data",
        f"pair_style airebo 3.0 {int(pull.lj)} 1",
        f"pair_coeff * * {file.name} {' '.join(kinds)}",
        f"timestep {pull.timestep!r}",
        "neighbor 1.0 bin",
        "neigh_modify every 5 delay 5 check yes",
        "thermo_modify lost error",
        *groups,
        "group mobile subtract all grips",
    ]


def _group(name: str, body: Atoms, side: int) -> str:
    ids = np.flatnonzero(body.arrays["grip"] == side) + 1
    runs = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return f"group {name} id " + " ".join(f"{run[0]}:{run[-1]}" for run in runs)


def _relaxed() -> list[str]:
    return [
        "thermo 1000",
        "min_style cg",
        "minimize 0.0 1e-3 4000 20000",
        'write_dump all custom relaxed.txt id x y z modify sort id format line "%d %.17g %.17g %.17g"',
    ]


def _pulled(body: Atoms, pull: Pull, seed: int) -> list[str]:
    warm = pull.temperature
    if pull.thermostat == "langevin":
        motion = [f"fix heat mobile langevin {warm} {warm} {pull.damping!r} {seed}"]
        motion.append("fix motion mobile nve")
    else:
        motion = [f"fix motion mobile nvt temp {warm} {warm} {pull.damping!r}"]
        motion.append("fix_modify motion temp warmth")
    resting = [f"fix heat mobile langevin {warm} {warm} {min(0.1, pull.damping)!r} {seed}"]
    resting.append("fix motion mobile nve")
    if warm == 0:
        motion = resting = ["fix motion mobile nve"]
    scale = GPA / body.info["section"]
    points = max(1, round(pull.window / pull.timestep / pull.sample))
    every = f"1 {pull.sample} {pull.sample}"
    stop = f"fix stop all halt {pull.sample} v_fallen > 0.5 error continue message no"
    return [
        *_relaxed(),
        "reset_timestep 0",
        "compute warmth mobile temp",
        "compute low low reduce sum fx",
        "compute high high reduce sum fx",
        "variable pull equal 0.5*(c_low-c_high)",
        f"variable stress equal v_pull*{scale!r}",
        "variable energy equal pe",
        "variable lower equal c_low",
        "variable upper equal -c_high",
        f"velocity mobile create {2 * warm!r} {seed} mom yes rot no dist gaussian",
        "velocity grips set 0.0 0.0 0.0",
        *resting,
        f"run {round(pull.rest / pull.timestep)}",
        *(f"unfix {line.split()[1]}" for line in resting),
        *motion,
        "reset_timestep 0",
        # length between the grips, and their speeds; the rest moves along from the start
        "variable left equal bound(low,xmax)",
        "variable right equal bound(high,xmin)",
        "variable length equal $(v_right-v_left:%.17g)",
        f"variable speed equal $(0.5*{pull.rate!r}*v_length:%.17g)",
        'print "length $(v_length:%.17g)" file length.txt',
        "velocity mobile ramp vx $(-v_speed) $(v_speed) x $(v_left) $(v_right) sum yes",
        "fix lower low move linear $(-v_speed:%.17g) 0.0 0.0",
        "fix upper high move linear $(v_speed:%.17g) 0.0 0.0",
        f"fix curve all ave/time {every} v_stress v_lower v_upper c_warmth v_energy file curve.txt "
        'format " %.9g"',
        f"fix mean all ave/time {every} v_stress ave window {points}",
        f"fix history all vector {pull.sample} f_mean",
        "variable peak equal max(f_history)",
        f'variable fallen equal "(v_peak > {pull.least!r}) && (f_mean < {1 - pull.drop!r}*v_peak)"',
        *([stop] if pull.drop < 1 else []),
        f"dump frames all custom {pull.frame} frames.bin id x y z vx vy vz",
        "dump_modify frames sort id",
        "thermo_style custom step temp pe v_stress",
        f"run {pull.steps}",
        'print "done" file done.txt',
    ]


def _lmp(work: Path, lines: list[str], timeout: float) -> None:
    (work / "in.carbon").write_text("\n".join(lines) + "\n")
    words = [*command(), "-in", "in.carbon", "-log", "none"]
    with (work / "screen.txt").open("w") as screen:
        try:
            status = subprocess.run(
                words,
                cwd=work,
                env=environment_variables(plugin=False),
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise Error(
                f"LAMMPS took longer than {timeout:g} s and was given up; it said last:\n"
                + _said(work)
            ) from None
    if status != 0:
        raise Error(f"LAMMPS stopped (status {status}):\n" + _said(work))


def _said(work: Path) -> str:
    lines = (work / "screen.txt").read_text(errors="replace").splitlines()
    errors = [k for k, line in enumerate(lines) if line.startswith("ERROR")]
    return "\n".join(lines[errors[0] :] if errors else lines[-8:]).strip()


def _table(path: Path, count: int) -> Array:
    table = np.loadtxt(path, skiprows=9, ndmin=2)
    if table.shape != (count, 4) or not np.isfinite(table).all():
        raise Error(f"LAMMPS kept {len(table)} of {count} atoms in the relaxation")
    return np.asarray(table[:, 1:])


def _collect(work: Path, body: Atoms, pull: Pull, seed: int, spent: float) -> Stretch:
    low, high = _box(body, pull)
    start: Atoms = body.copy()
    start.cell = np.diag(high - low)
    start.positions = _table(work / "relaxed.txt", len(body)) - low
    steps, frames = _frames(work / "frames.bin", len(body))
    if not np.isfinite(frames).all():
        raise Error("LAMMPS' frames hold values that are not finite")
    # what a tear throws out may leave the box: frames end before that, the curve does not
    inside = ((frames[..., :3] > low) & (frames[..., :3] < high)).all((1, 2))
    escaped = not bool(inside.all())
    kept = int(np.argmin(inside)) if escaped else len(steps)
    if kept == 0:
        raise Error("the body does not fit its box when it is at rest")
    fallen = bool(steps[-1] < pull.steps)
    steps, frames = steps[:kept], frames[:kept]
    per_step = pull.rate * pull.timestep
    curve = np.loadtxt(work / "curve.txt", ndmin=2)
    # a point is the mean over the steps that end at its own
    middle = np.maximum(curve[:, :1] - (pull.sample - 1) / 2, 0.0)
    curve = np.column_stack([curve[:, :1], middle * per_step, curve[:, 1:]])
    if curve[0, 0] == 0:  # of one step alone
        curve = curve[1:]
    length = float((work / "length.txt").read_text().split()[1])
    provenance = {
        "pull": pull.record(),
        "seed": seed,
        "length": length,
        "section": float(body.info["section"]),
        "lammps": find_environment(torch=False).lammps_version,
        "mlcore": _version(),
        "potential": hashlib.sha256((work / "CH.airebo").read_bytes()).hexdigest(),
        "body": _fingerprint(body),
        "fallen": fallen,
        "escaped": escaped,
        "cpu_seconds": round(spent, 2),
    }
    for word in ("pattern",):
        if word in body.info:
            provenance[word] = body.info[word]
    return Stretch(
        start,
        steps,
        np.asarray(steps * per_step, np.float64),
        (frames[..., :3] - low).astype(np.float32),
        (frames[..., 3:] * 1e-3).astype(np.float32),
        curve,
        provenance,
    )


def _version() -> str:
    from mlcore import __version__

    return __version__


def _fingerprint(body: Atoms) -> str:
    """Hash of what is pulled at."""
    parts = (body.numbers.astype("<i8"), body.positions.astype("<f8"), body.arrays["grip"])
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


def _frames(path: Path, count: int) -> tuple[NDArray[np.int64], Array]:
    """Steps (t,) and rows (t, n, 6) of a binary dump, whose frames are all of one length.

    The layout is that of LAMMPS' ``dump custom`` to a file ``.bin``, revision 2, one process.
    """
    raw = path.read_bytes()
    magic = -int(np.frombuffer(raw, "<i8", 1)[0])
    at = 8 + magic
    if magic != 10 or raw[8:at] != b"DUMPCUSTOM":
        raise Error(f"{path.name}: not a binary dump of LAMMPS as this release writes it")
    endian, revision = np.frombuffer(raw, "<i4", 2, at)
    atoms = int(np.frombuffer(raw, "<i8", 1, at + 16)[0])
    fields = at + 24 + 4 + 24 + 48  # behind triclinic, boundary and box
    columns, unit = (int(v) for v in np.frombuffer(raw, "<i4", 2, fields))
    behind = fields + 8 + unit
    timed = raw[behind] != 0
    behind += 9 if timed else 1
    behind += 4 + int(np.frombuffer(raw, "<i4", 1, behind)[0])
    chunks, values = (int(v) for v in np.frombuffer(raw, "<i4", 2, behind))
    if (endian, revision, atoms, columns, chunks, values) != (1, 2, count, 7, 1, 7 * count):
        raise Error(
            f"{path.name}: not the dump asked for (byte order {endian}, revision {revision}, "
            f"{atoms} atoms, {columns} columns, {chunks} chunks)"
        )
    head = behind + 8
    frame = np.dtype(
        {
            "names": ["step", "rows"],
            "formats": ["<i8", ("<f8", (count, 7))],
            "offsets": [at + 8, head],
            "itemsize": head + 56 * count,
        }
    )
    table = np.frombuffer(raw, frame, len(raw) // frame.itemsize)
    if (table["rows"][:, :, 0] != np.arange(1, count + 1)).any():
        raise Error(f"{path.name}: atoms were lost on the way")
    return table["step"].astype(np.int64), table["rows"][:, :, 1:]
