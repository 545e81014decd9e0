"""Files of every kind that a studio reads, and how tests send them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from fastapi import FastAPI
from mlcore.forcefield.structures import (
    Dataset,
    TargetRow,
    write_ase_db,
    write_structures,
    write_targets,
)
from mlcore.md import Dataset as Runs
from mlcore.studio.app import create
from mlcore.studio.settings import Limits, Settings

RECORDED = Path(__file__).parents[1] / "forcefield" / "recorded"


def copper(count: int = 12) -> list[Atoms]:
    """Strained cells with energies, forces and stresses."""
    frames = []
    for k, scale in enumerate(np.linspace(0.97, 1.05, count)):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = LennardJones(sigma=2.3, epsilon=0.4, rc=6.0)
        found = (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())
        names = ("energy", "forces", "stress")
        atoms.calc = SinglePointCalculator(atoms, **dict(zip(names, found, strict=True)))
        frames.append(atoms)
    return frames


def sent(browser: httpx.Client, *files: Path | tuple[str, bytes], **form: str) -> httpx.Response:
    named = [(f.name, f.read_bytes()) if isinstance(f, Path) else f for f in files]
    return browser.post("/api/uploads", files=[("files", f) for f in named], data=form)


def kept(browser: httpx.Client, *files: Path | tuple[str, bytes], **form: str) -> dict[str, Any]:
    answer = sent(browser, *files, **form)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def left(app: FastAPI) -> list[Path]:
    """All files and folders of uploads."""
    return list((app.state.studio.store.folder / "users").glob("*/uploads/*"))


def limited(folder: Path, **limits: Any) -> FastAPI:
    told = Settings.load(folder).model_copy(update={"limits": Limits(**limits)})
    return create(folder, told, supervised=False)


def files_of(folder: Path) -> dict[str, tuple[list[Path], str]]:
    """One upload of each kind that is read, and what it is."""
    from ase.io import write

    folder.mkdir(exist_ok=True)
    frames = copper(3)
    write_ase_db(folder / "copper.db", Dataset({"a": frames[:2], "b": frames[2:]}))
    write(folder / "copper.json", frames, format="json")
    write_structures(folder / "copper.data", frames[:1])
    write_structures(folder / "copper.cif", frames[:1])
    write_structures(folder / "walk.xyz", _walk())
    (folder / "types.dump").write_text(dump())
    row = TargetRow(property="a", value=5.43, unit="Angstrom", tolerance=0.01)
    write_targets(folder / "targets.csv", [row])
    np.save(folder / "grid.npy", np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5))
    _runs().save(folder / "runs.h5")
    (folder / "fit.toml").write_text('format = "mlcore forcefield fit"\n')
    (folder / "fit.yaml").write_text("format: mlcore forcefield fit\n")
    (folder / "fit.json").write_text('{"format": "mlcore forcefield fit"}')
    own = ("POSCAR", "OUTCAR", "vasprun.xml", "NaCl.cif")
    alone = {name: ([RECORDED / name], "structures") for name in own}
    made = {p.name: ([p], "structures") for p in folder.iterdir()}
    kinds = {"walk.xyz": "trajectory", "types.dump": "trajectory", "targets.csv": "targets"}
    kinds |= {"grid.npy": "grid", "runs.h5": "runs"}
    kinds |= dict.fromkeys(("fit.toml", "fit.yaml", "fit.json"), "config")
    return alone | made | {name: ([folder / name], kind) for name, kind in kinds.items()}


def _walk() -> list[Atoms]:
    frames = [bulk("Si", cubic=True) for _ in range(4)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    return frames


def dump() -> str:
    frame = (
        "ITEM: TIMESTEP\n{}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
    )
    atoms = "ITEM: ATOMS id type x y z\n1 1 1 1 {0}\n2 2 4 4 4\n"
    return "".join(frame.format(k) + atoms.format(1 + k / 10) for k in range(3))


def _runs() -> Runs:
    shape = (2, 3, 1, 1)
    zero = np.zeros(shape)
    flat = np.zeros(shape[:2])
    return Runs("oscillator", zero, zero, flat, flat, np.ones((2, 1)), 0.1)
