"""A folder in which stock `lmp` runs, in a process of its own each time."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import traced_models as models
from mlcore.lammps.run import command, environment_variables
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str


@dataclass(frozen=True)
class Case:
    """A folder with models, parameter files and LAMMPS runs."""

    folder: Path

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def parameters(self, mode: str, name: str = "model.xml", **values: object) -> str:
        tags = "".join(f'<{tag} value="{value}"/>\n' for tag, value in values.items())
        self.write(name, f'<MLMOD>\n<model_data type="{mode}">\n{tags}</model_data>\n</MLMOD>\n')
        return name

    def pair_models(
        self,
        self_part: models.Function = models.self_model,
        pair: models.Function = models.rpy_pair_model,
    ) -> dict[str, str]:
        models.save_traced(self_part, 3, self.folder / "M_ii.pt")
        models.save_traced(pair, 6, self.folder / "M_ij.pt")
        return {"M_ii_filename": "M_ii.pt", "M_ij_filename": "M_ij.pt"}

    def atoms(
        self,
        x: Array,
        box: tuple[float, ...],
        tilt: tuple[float, ...] = (),
        ids: Sequence[int] = (),
        types: Sequence[int] = (),
        v: Array | None = None,
    ) -> str:
        """LAMMPS data file; box: lo, hi of all three axes; all masses are 1."""
        kinds = max(types, default=1)
        ids, types = ids or range(1, len(x) + 1), types or [1] * len(x)
        lines = ["atoms", "", f"{len(x)} atoms", f"{kinds} atom types", ""]
        lines += [f"{box[2 * k]} {box[2 * k + 1]} {c}lo {c}hi" for k, c in enumerate("xyz")]
        lines += [" ".join(map(str, tilt)) + " xy xz yz"] if tilt else []
        lines += ["", "Masses", "", *(f"{kind} 1.0" for kind in range(1, kinds + 1))]
        lines += ["", "Atoms # atomic", ""]
        for tag, kind, row in zip(ids, types, x, strict=True):
            lines.append(f"{tag} {kind} " + " ".join(f"{value:.17g}" for value in row))
        if v is not None:
            lines += ["", "Velocities", ""]
            for tag, row in zip(ids, v, strict=True):
                lines.append(f"{tag} " + " ".join(f"{value:.17g}" for value in row))
        self.write("atoms.data", "\n".join(lines) + "\n")
        return "atoms.data"

    def lmp(
        self,
        script: str,
        ranks: int = 1,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        name: str = "in.lmp",
    ) -> Outcome:
        self.write(name, script)
        result = subprocess.run(
            [*prefix, *command(ranks), "-in", name, "-log", "none"],
            cwd=self.folder,
            env=environment_variables(env),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Outcome(result.returncode, result.stdout + result.stderr)

    def ok(self, script: str, ranks: int = 1) -> str:
        outcome = self.lmp(script, ranks)
        assert outcome.status == 0, outcome.output[-3000:]
        return outcome.output

    def dump(self, name: str = "out.dump") -> list[Array]:
        """Frames sorted by id; columns as dumped, id first."""
        frames: list[Array] = []
        lines = (self.folder / name).read_text().splitlines()
        i = 0
        while i < len(lines):
            count = int(lines[i + 3])
            rows = [[float(v) for v in line.split()] for line in lines[i + 9 : i + 9 + count]]
            frame = np.array(rows)
            frames.append(frame[np.argsort(frame[:, 0])])
            i += 9 + count
        return frames


def close(found: Array, expected: Array, tolerance: float = 2e-6) -> None:
    """Single precision: relative to the largest number that is expected."""
    difference = np.abs(np.asarray(found) - expected).max()
    assert difference <= tolerance * np.abs(expected).max()


DUMP = (
    "dump d all custom {every} {name} id xu yu zu vx vy vz fx fy fz\n"
    'dump_modify d format float "%.17g"\n'
)


def system(
    boundary: str = "f f f", pair: str = "zero 3.0", coeff: str = "* *", dt: float = 1e-3
) -> str:
    """Head of an input script: atoms.data with a pair style."""
    return (
        f"units lj\natom_style atomic\nboundary {boundary}\natom_modify map array\n"
        f"read_data atoms.data\npair_style {pair}\npair_coeff {coeff}\n"
        f"neighbor 0.4 bin\nneigh_modify every 1 delay 0 check yes\ntimestep {dt}\n"
    )


def dump(every: int = 1, name: str = "out.dump") -> str:
    return DUMP.format(every=every, name=name)
