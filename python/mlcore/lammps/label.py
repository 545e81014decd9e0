"""Energies and forces of configurations by LAMMPS' own styles."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.arrays import is_atoms
from mlcore.errors import Error, InvalidArgument
from mlcore.lammps.run import command, environment_variables

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["label"]

Array = NDArray[np.float64]
Lines = str | Sequence[str]


def label(
    frames: Any,
    pair_style: str,
    pair_coeff: Lines,
    *,
    units: str = "lj",
    species: Sequence[str] | None = None,
    commands: Lines = (),
    folder: str | Path = ".",
    ranks: int = 1,
    progress: bool = False,
) -> list[Atoms]:
    """Energies and forces of frames by a pair style: stock ``lmp``, one ``run 0`` for each.

    Args:
        frames: `ase.Atoms`, a sequence of them, or a file that ASE reads, for instance one of
            ``fix mlcore record``. Cells of any shape; a boundary that is not periodic is open.
        pair_style, pair_coeff: their words in LAMMPS, e.g. ``"lj/cut 2.5"``, ``"* * 1.0 1.0"``.
        units: of the frames and of what comes back, a unit style of LAMMPS.
        species: chemical symbols in the order of the types 1, 2, ..; without, the types are the
            frames' array ``type``, or 1 for all.
        commands: further lines behind these two, e.g. ``"pair_modify shift yes"``.
        folder: where LAMMPS runs; files that the styles read are relative to it.
        ranks: MPI ranks.
        progress: show a bar.

    Returns:
        Copies of the frames, each with a calculator that holds its energy and its forces (n, 3).

    Raises:
        InvalidArgument: naming the argument.
        Error: LAMMPS stopped; the message holds the end of what it said.
        BackendUnavailable: LAMMPS is not installed.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    given = _atoms(frames)
    types = [_types(atoms, species) for atoms in given]
    kinds = len(species) if species else max((int(t.max()) for t in types if len(t)), default=1)
    reference = [f"pair_style {pair_style}", *_prefixed("pair_coeff", pair_coeff), *_list(commands)]
    with tempfile.TemporaryDirectory(prefix="mlcore-label-") as name:
        work = Path(name)
        turns = []
        script = []
        for k, (atoms, kind) in enumerate(zip(given, types, strict=True)):
            box, x, turn = _box(atoms, k)
            (work / f"{k}.data").write_text(_data_file(box, x, kind, kinds))
            script += _run(work, k, units, atoms.pbc, reference)
            turns.append(turn)
        (work / "in.label").write_text("\n".join(script) + "\n")
        energies = _lmp(work / "in.label", Path(folder), ranks, len(given), progress)
        labelled = []
        for k, (atoms, turn) in enumerate(zip(given, turns, strict=True)):
            copy = atoms.copy()
            forces = _forces(work / f"{k}.forces", k, len(atoms), energies[k]) @ turn.T
            copy.calc = SinglePointCalculator(copy, energy=energies[k], forces=forces)
            labelled.append(copy)
    return labelled


def _list(lines: Lines) -> list[str]:
    return [lines] if isinstance(lines, str) else list(lines)


def _prefixed(word: str, lines: Lines) -> list[str]:
    return [f"{word} {line}" for line in _list(lines)]


def _atoms(frames: Any) -> list[Atoms]:
    if is_atoms(frames):
        frames = [frames]
    if isinstance(frames, (str, Path)):
        import ase.io

        try:
            frames = ase.io.read(frames, index=":")
        except Exception as problem:
            raise InvalidArgument(f"frames: {frames} cannot be read: {problem}") from problem
    found = list(frames)
    for k, atoms in enumerate(found):
        if not is_atoms(atoms) or len(atoms) == 0:
            raise InvalidArgument(f"frames must hold ase.Atoms with atoms: frame {k} is {atoms!r}")
        if not np.isfinite(atoms.positions).all():
            raise InvalidArgument(f"frames: frame {k} has positions that are not finite")
    if not found:
        raise InvalidArgument("frames must hold at least one frame")
    return found


def _types(atoms: Atoms, species: Sequence[str] | None) -> NDArray[np.int64]:
    """(n,) from 1."""
    if species is None:
        types = np.asarray(atoms.arrays.get("type", np.ones(len(atoms), np.int64)))
        if types.dtype.kind not in "iu" or types.min() < 1:
            raise InvalidArgument("frames: the array type must hold whole numbers from 1")
        return types.astype(np.int64)
    place = {symbol: k + 1 for k, symbol in enumerate(species)}
    strange = sorted(set(atoms.symbols) - set(place))
    if strange:
        raise InvalidArgument(f"species must name {', '.join(strange)}, given {list(species)}")
    return np.array([place[symbol] for symbol in atoms.symbols], dtype=np.int64)


def _box(atoms: Atoms, number: int) -> tuple[tuple[Array, Array], Array, Array]:
    """LAMMPS' box (rows of a lower triangle, lower corner), positions, and the rotation to there."""
    from ase.geometry import complete_cell

    periodic = np.where(atoms.pbc[:, None], atoms.cell, 0.0)
    cell: Array = np.array(complete_cell(periodic), np.float64)
    if abs(np.linalg.det(cell)) < 1e-12 * np.prod(np.linalg.norm(cell, axis=1)):
        raise InvalidArgument(f"frames: frame {number} has a cell without volume")
    turn, rows = _lower_triangle(cell)
    x = np.asarray(atoms.positions @ turn)
    low, high = np.zeros(3), rows.diagonal().copy()
    for k in np.flatnonzero(~atoms.pbc):
        others = np.concatenate([rows[k, :k], rows[k + 1 :, k]])
        if np.abs(others).max(initial=0.0) > 1e-9 * np.abs(rows).max():
            raise InvalidArgument(
                f"frames: frame {number} has a periodic axis that leans along its open axis {k}"
            )
        width = np.ptp(x[:, k])
        margin = 0.01 * width if width > 0 else 1.0
        low[k], high[k] = x[:, k].min() - margin, x[:, k].max() + margin
    np.fill_diagonal(rows, high - low)
    return (rows, low), x, turn


def _lower_triangle(cell: Array) -> tuple[Array, Array]:
    """Orthogonal Q and lower triangular L with a positive diagonal, cell = L Q.T."""
    diagonal = cell.diagonal()
    if (np.triu(cell, 1) == 0).all() and (diagonal > 0).all():
        return np.eye(3), cell.copy()
    turn, upper = np.linalg.qr(cell.T)
    signs = np.sign(upper.diagonal())
    return np.asarray(turn * signs), np.tril((upper * signs[:, None]).T)


def _data_file(box: tuple[Array, Array], x: Array, types: NDArray[np.int64], kinds: int) -> str:
    rows, low = box
    lines = ["frame", "", f"{len(x)} atoms", f"{kinds} atom types", ""]
    for k, axis in enumerate("xyz"):
        lines.append(f"{float(low[k])!r} {float(low[k] + rows[k, k])!r} {axis}lo {axis}hi")
    tilt = rows[1, 0], rows[2, 0], rows[2, 1]
    if any(tilt):
        lines.append(" ".join(repr(float(t)) for t in tilt) + " xy xz yz")
    lines += ["", "Masses", "", *(f"{kind} 1.0" for kind in range(1, kinds + 1))]
    lines += ["", "Atoms # atomic", ""]
    for k, (kind, row) in enumerate(zip(types.tolist(), x.tolist(), strict=True)):
        lines.append(f"{k + 1} {kind} " + " ".join(map(repr, row)))
    return "\n".join(lines) + "\n"


def _run(work: Path, k: int, units: str, pbc: Any, reference: list[str]) -> list[str]:
    boundary = " ".join("p" if periodic else "f" for periodic in pbc)
    return [
        "clear",
        f"units {units}",
        "atom_style atomic",
        f"boundary {boundary}",
        "atom_modify map array sort 0 0",
        f'read_data "{work / f"{k}.data"}"',
        *reference,
        "thermo_style custom step pe",
        "thermo_modify norm no format float %.17g lost error",
        "run 0 post no",
        f'write_dump all custom "{work / f"{k}.forces"}" id fx fy fz '
        'modify sort id format line "%d %.17g %.17g %.17g"',
        f'print "labelled {k}"',
    ]


def _lmp(script: Path, folder: Path, ranks: int, count: int, progress: bool) -> list[float]:
    """Runs the script; the energies of its runs."""
    if not folder.is_dir():
        raise InvalidArgument(f"folder: no such folder: {folder}")
    told: deque[str] = deque(maxlen=12)
    energies, asked = [], False
    with (
        _bar(progress, count) as advance,
        subprocess.Popen(
            [*command(ranks), "-in", str(script), "-log", "none"],
            cwd=folder,
            env=environment_variables(plugin=False),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                words = line.split()
                if words == ["Step", "PotEng"]:
                    asked = True
                # warnings may come between the two
                elif asked and len(words) == 2 and words[0] == "0":
                    energies.append(float(words[1]))
                    asked = False
                told.append(line)
                if line.startswith("labelled "):
                    advance()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 or len(energies) != count:
        raise Error("LAMMPS could not label the frames:\n" + "".join(told).strip())
    return energies


@contextlib.contextmanager
def _bar(show: bool, count: int) -> Iterator[Any]:
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("labelling", total=count)
        yield lambda: bar.advance(task)


def _forces(path: Path, number: int, atoms: int, energy: float) -> Array:
    table = np.loadtxt(path, skiprows=9, ndmin=2)
    if not (np.isfinite(table).all() and np.isfinite(energy)):
        raise Error(f"frame {number}: the energy or a force is not finite; do atoms overlap?")
    if table.shape != (atoms, 4):
        raise Error(f"frame {number}: LAMMPS kept {len(table)} of {atoms} atoms")
    return np.asarray(table[:, 1:])
