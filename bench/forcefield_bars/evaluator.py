"""The reference problem's evaluations: by kernels, by LAMMPS that stays, anew for each candidate."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from bars import Measured
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.problems import Problem, silicon, silicon_structures
from mlcore.forcefield.targets import Energies
from mlcore.lammps.run import command, environment_variables

BATCH = 64


def rates() -> Iterator[Measured]:
    """15 structures, forces of 5, elastic constants; Tersoff, nine free.

    The bare commands are what no program that stays can do without: the potential's file, and
    `pair_coeff` and `run 0` of each of the 15 structures.
    """
    problem = silicon("tersoff")
    candidates = _candidates(problem, BATCH)
    near = _candidates(problem, 8, within=0.05)
    static, elastic = problem.targets[:2], problem.targets[2:]
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as folder,
        Evaluator(problem.model, problem.targets, engine="native") as native,
        Evaluator(problem.model, problem.targets, engine="lammps") as lammps,
        Evaluator(problem.model, static, engine="lammps") as statics,
        Evaluator(problem.model, elastic, engine="lammps") as crystal,
    ):
        bare = _bare(problem, candidates[:8], Path(folder))
        many, one, stays, of_near, of_statics, of_crystal, of_bare = _rates(
            {
                lambda: native(candidates): BATCH,
                lambda: native(candidates[:1]): 1,
                lambda: lammps(candidates[:8]): 8,
                lambda: lammps(near): 8,
                lambda: statics(candidates[:8]): 8,
                lambda: crystal(candidates[:8]): 8,
                bare: 8,
            }
        )
    yield Measured("evaluations/s, kernels, 64 at once", many, least=2000)
    yield Measured("evaluations/s, kernels, one at a time", one)
    yield Measured("evaluations/s, LAMMPS that stays", stays, least=250)
    yield Measured("of candidates of a fit that is nearly there", of_near)
    yield Measured("energies and forces/s, LAMMPS that stays", of_statics)
    yield Measured("elastic constants/s, LAMMPS that stays", of_crystal)
    yield Measured("bare commands/s, for energies and forces", of_bare)


def ratios() -> Iterator[Measured]:
    """Energies of the 15 structures alone: LAMMPS that stays against LAMMPS made anew."""
    problem = silicon("tersoff")
    structures = silicon_structures()
    target = Energies(structures, np.zeros(len(structures)))
    values = _candidates(problem, 1)
    with tempfile.TemporaryDirectory() as folder, Evaluator(
        problem.model, [target], engine="lammps"
    ) as evaluator:  # fmt: skip
        script = _script(problem, values[0], structures, Path(folder))
        whole = new_lammps()
        stays, cleared, processes = _rates(
            {
                lambda: evaluator(values): 1,
                lambda: whole.file(str(script)): 1,
                lambda: _process(script): 1,
            }
        )
        whole.close()
    yield Measured("statics/s, LAMMPS that stays", stays)
    yield Measured("times those of a process for each candidate", stays / processes, least=20)
    yield Measured("times those of clear and a script", stays / cleared, least=2)


def memory() -> Iterator[Measured]:
    """Growth over 5000 candidates, after 200."""
    for engine in ("native", "lammps"):
        code = _MEMORY.format(engine=engine)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        yield Measured(f"MB in 5000 candidates, {engine}", float(done.stdout), most=5)


_MEMORY = """
import os
from pathlib import Path
import numpy as np
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.problems import silicon
problem = silicon("tersoff")
rng = np.random.default_rng(0)
with Evaluator(problem.model, problem.targets, engine="{engine}") as evaluator:
    def some(count):
        for _ in range(count // 20):
            evaluator([problem.space.values(x) for x in rng.uniform(0.2, 0.8, (20, 9))])
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    before = some(200)
    print(some(5000) - before)
"""


def _candidates(problem: Problem, count: int, within: float = 0.2) -> list[dict[str, float]]:
    """Points of the unit cube, whose middle is the answer."""
    ends = (0.5 - within, 0.5 + within)
    points = np.random.default_rng(0).uniform(*ends, (count, problem.space.size))
    return [problem.space.values(point) for point in points]


def _rates(sides: dict[Callable[[], object], int], rounds: int = 5) -> list[float]:
    """Evaluations per second of each side; medians of alternating rounds."""
    seconds: dict[Callable[[], object], list[float]] = {side: [] for side in sides}
    for side in sides:
        side()
    for _ in range(rounds):
        for side in sides:
            start, calls = time.perf_counter(), 0
            while time.perf_counter() - start < 0.3:
                side()
                calls += 1
            seconds[side].append((time.perf_counter() - start) / calls)
    return [count / statistics.median(seconds[side]) for side, count in sides.items()]


def _script(problem: Problem, values: dict[str, float], structures: list[Atoms], to: Path) -> Path:
    """All structures one after the other, each after ``clear``."""
    interaction = problem.model.render(values)
    for name, text in interaction.files.items():
        (to / name).write_text(text)
    lines = []
    for k, atoms in enumerate(structures):
        write_lammps_data(to / f"{k}.data", atoms, specorder=["Si"], masses=True)
        lines += ["clear", "units metal", f"read_data {to / f'{k}.data'}"]
        lines += [f"pair_style {interaction.pair_style}"]
        lines += [line.replace("model.", f"{to}/model.") for line in interaction.pair_coeff]
        lines += ["run 0"]
    script = to / "in.statics"
    script.write_text("\n".join(lines) + "\n")
    return script


def _bare(
    problem: Problem, candidates: list[dict[str, float]], to: Path
) -> Callable[[], list[float]]:
    """The energies of all structures under each candidate, by C functions and nothing else."""
    objects = []
    for k, atoms in enumerate(silicon_structures()):
        write_lammps_data(to / f"{k}.data", atoms, specorder=["Si"], masses=True)
        lmp = new_lammps()
        for line in ("units metal", "atom_modify map array sort 0 0.0"):
            lmp.command(line)
        lmp.command(f"read_data {to / f'{k}.data'}")
        for line in ("neighbor 0.0 bin", "pair_style tersoff", "thermo_style custom pe pxx"):
            lmp.command(line)
        objects.append(lmp)
    library = objects[0].lib
    energy = library["lammps_extract_compute"]
    energy.restype = ctypes.POINTER(ctypes.c_double)
    energy.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    file = to / "model.tersoff"
    coefficients = f"pair_coeff * * {file} Si".encode()

    def bare() -> list[float]:
        found = []
        for values in candidates:
            file.write_text(problem.model.render(values).files[file.name])
            for lmp in objects:
                library.lammps_command(lmp.lmp, coefficients)
                library.lammps_command(lmp.lmp, b"run 0 post no")
                found.append(energy(lmp.lmp, b"thermo_pe", 0, 0)[0])
        return found

    return bare


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _process(script: Path) -> None:
    words = [*command(), "-in", str(script), "-log", "none", "-screen", "none"]
    environment = environment_variables(plugin=False)
    subprocess.run(words, env=environment, cwd=script.parent, check=True)


bars = {
    "evaluations of the reference problem": rates,
    "LAMMPS that stays": ratios,
    "memory of an evaluator": memory,
}
