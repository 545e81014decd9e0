"""What VASP writes, of energies that somebody else computed; run as a program it is VASP.

As a program it reads INCAR, KPOINTS, POTCAR and POSCAR, takes energies, forces and stress of a
Lennard-Jones potential and writes vasprun.xml and OUTCAR. The variable FAKE_VASP makes it fail:
unconverged, crash, cut, silent, hang.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

KBAR = 1602.1766208


def _rows(name: str, rows: np.ndarray, tabs: int) -> str:
    body = "".join(
        "\t" * (tabs + 1) + f"<v> {' '.join(f'{v:20.14f}' for v in r)} </v>\n" for r in rows
    )
    return "\t" * tabs + f'<varray name="{name}" >\n{body}' + "\t" * tabs + "</varray>\n"


def _structure(cell: np.ndarray, scaled: np.ndarray, name: str = "") -> str:
    told = f' name="{name}"' if name else ""
    return (
        f"<structure{told} >\n <crystal>\n{_rows('basis', cell, 1)} </crystal>\n"
        f"{_rows('positions', scaled, 1)}</structure>\n"
    )


def vasprun(steps: list[dict], nelm: int = 60) -> str:
    """Each step: symbols, cell, scaled, energy, free, forces, stress (3, 3) in kbar, scsteps."""
    symbols = steps[0]["symbols"]
    atoms = "".join(f"<rc><c>{s:2}</c><c>   1</c></rc>\n" for s in symbols)
    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<generator>\n'
        '<i name="program" type="string">vasp </i>\n<i name="version" type="string">6.4.2  </i>\n'
        '</generator>\n<kpoints>\n<generation param="Gamma">\n'
        '<v type="int" name="divisions">       1        1        1 </v>\n</generation>\n'
        '<varray name="kpointlist" >\n<v>  0.0  0.0  0.0 </v>\n</varray>\n'
        '<varray name="weights" >\n<v>  1.0 </v>\n</varray>\n</kpoints>\n<parameters>\n'
        '<separator name="electronic" >\n<i name="ENMAX">    300.0</i>\n'
        f'<separator name="electronic convergence" >\n<i type="int" name="NELM">{nelm:6d}</i>\n'
        '<i name="EDIFF">      0.00000100</i>\n</separator>\n</separator>\n'
        '<separator name="ionic" >\n<i type="int" name="NSW">     0</i>\n</separator>\n</parameters>\n'
        f"<atominfo>\n<atoms> {len(symbols)} </atoms>\n<types> {len(set(symbols))} </types>\n"
        f'<array name="atoms" >\n<dimension dim="1">ion</dimension>\n<set>\n{atoms}</set>\n</array>\n'
        "</atominfo>\n"
    )
    text += _structure(steps[0]["cell"], steps[0]["scaled"], "initialpos")
    for step in steps:
        energy = (
            f'<i name="e_fr_energy"> {step["free"]:16.8f} </i>\n'
            f'<i name="e_wo_entrp"> {step["energy"]:16.8f} </i>\n'
            f'<i name="e_0_energy"> {step["energy"]:16.8f} </i>\n'
        )
        scf = f"<scstep>\n<energy>\n{energy}</energy>\n</scstep>\n" * step.get("scsteps", 9)
        text += (
            f"<calculation>\n{scf}{_structure(step['cell'], step['scaled'])}"
            f"{_rows('forces', step['forces'], 0)}{_rows('stress', step['stress'], 0)}"
            f"<energy>\n{energy}</energy>\n</calculation>\n"
        )
    return text + "</modeling>\n"


def outcar(steps: list[dict], nelm: int = 60) -> str:
    """The same steps."""
    symbols = steps[0]["symbols"]
    kinds = list(dict.fromkeys(symbols))
    counts = "".join(f"{symbols.count(k):5d}" for k in kinds)
    text = " vasp.6.4.2 20Jul23 (build) complex\n\n"
    text += "".join(f" POTCAR:    PAW_PBE {k} 05Jan2001\n" for k in kinds) * 2
    text += (
        f"   ions per type =          {counts}\n   ISPIN  =      1    spin polarized calculation?\n"
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   "
        "number of bands    NBANDS=      8\n k-points in reciprocal lattice and weights: Gamma\n"
        "   0.00000000  0.00000000  0.00000000       1.000\n"
    )
    for k, step in enumerate(steps, 1):
        done = step.get("scsteps", 9) < nelm
        told = "because EDIFF is reached" if done else "EDIFF was not reached (unconverged)"
        xx, yy, zz, yz, xz, xy = step["stress"].ravel()[[0, 4, 8, 5, 2, 1]]
        cells = "".join(
            f"{' '.join(f'{v:13.9f}' for v in row)}  0.0 0.0 0.0\n" for row in step["cell"]
        )
        places = step["scaled"] @ step["cell"]
        rows = "".join(
            f" {' '.join(f'{v:13.8f}' for v in r)} {' '.join(f'{v:13.8f}' for v in f)}\n"
            for r, f in zip(places, step["forces"], strict=True)
        )
        text += (
            f"--------------------- Iteration {k:6d}(   1)  ---------------------\n"
            f"------------------------ aborting loop {told} -----------------------\n"
            f"  in kB  {xx:12.5f}{yy:12.5f}{zz:12.5f}{xy:12.5f}{yz:12.5f}{xz:12.5f}\n"
            "      direct lattice vectors                 reciprocal lattice vectors\n"
            f"{cells}\n POSITION                                       TOTAL-FORCE (eV/Angst)\n"
            f" {'-' * 80}\n{rows} {'-' * 80}\n\n"
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------\n"
            f"  free  energy   TOTEN  = {step['free']:18.8f} eV\n\n"
            f"  energy  without entropy= {step['energy']:16.8f}  energy(sigma->0) ={step['energy']:16.8f}\n"
        )
    return text


def computed(folder: Path) -> dict:
    """One step of the POSCAR of a folder, by Lennard-Jones."""
    from ase.calculators.lj import LennardJones
    from ase.io import read

    atoms = read(folder / "POSCAR", format="vasp")
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, ro=5.5, smooth=True)
    energy = float(atoms.get_potential_energy())
    return {
        "symbols": list(atoms.symbols),
        "cell": np.asarray(atoms.cell),
        "scaled": atoms.get_scaled_positions(),
        "energy": energy,
        "free": energy - 0.001,
        "forces": atoms.get_forces(),
        "stress": -atoms.get_stress(voigt=False) * KBAR,
    }


def main(folder: Path) -> int:
    """VASP."""
    mode = os.environ.get("FAKE_VASP", "")
    print(" running    1 mpi-ranks, on    1 nodes")
    for name in ("INCAR", "KPOINTS", "POSCAR", "POTCAR"):
        if not (folder / name).is_file():
            print(f" ERROR: {name} not found")
            return 1
    if mode == "hang":
        time.sleep(60)
    if mode == "silent":
        return 0
    if mode == "crash":
        print(" VERY BAD NEWS! internal error in subroutine SGRCON:")
        print(" Found some non-integer element in rotation matrix        3", file=sys.stderr)
        return 139
    step = computed(folder)
    incar = dict(line.split(" = ", 1) for line in (folder / "INCAR").read_text().splitlines())
    nelm = int(incar.get("NELM", "60"))
    step["scsteps"] = nelm if mode == "unconverged" else 9
    text = vasprun([step], nelm)
    if mode == "cut":
        text = text[: text.index("<calculation>") + 300]
    (folder / "vasprun.xml").write_text(text)
    (folder / "OUTCAR").write_text(outcar([step], nelm))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
