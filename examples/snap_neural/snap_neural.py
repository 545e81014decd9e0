"""A network of bispectrum components learns silicon and runs in stock LAMMPS.

python snap_neural.py [--quick] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from matplotlib import pyplot as plt
from mlcore.forcefield import forms
from mlcore.forcefield.active import dynamics, potential_label, predict
from mlcore.forcefield.neural import Trained, fit_linear, train
from mlcore.lammps.run import command, environment_variables

TRUTH = forms.model("sw", ["Si"])
LABEL = potential_label(TRUTH, TRUTH.defaults)
HERE = Path(__file__).resolve().parent


def frames(count: int, seed: int) -> list[Atoms]:
    """Hot and stretched silicon of eight atoms, labelled with energies and forces."""
    found = []
    for k, strain in enumerate((-0.03, 0.0, 0.03)):
        crystal = bulk("Si", "diamond", 5.43 * (1 + strain), cubic=True)
        explore = dynamics(TRUTH, crystal, 600.0 * (k + 1), frames=count, every=40, seed=seed)
        found += explore(TRUTH.defaults, 0)
    return [LABEL(atoms) for atoms in found]


def measured(found: Trained, known: list[Atoms]) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Errors of energy (eV per atom) and forces (eV/A) in LAMMPS, and all forces of both."""
    told = predict(found.model, known, [found.values])
    energies = [atoms.get_potential_energy() / len(atoms) for atoms in known]
    ours = np.concatenate([f[0].ravel() for f in told.forces])
    true = np.concatenate([atoms.get_forces().ravel() for atoms in known])
    energy = float(np.sqrt(np.mean((told.energies[0] - energies) ** 2)))
    return energy, float(np.sqrt(np.mean((ours - true) ** 2))), ours, true


def run(folder: Path, steps: int) -> np.ndarray:
    """(lines, 4) time, temperature, potential and total energy of a run at constant energy."""
    words = [
        *command(),
        "-in",
        str(HERE / "in.nve"),
        "-screen",
        "none",
        "-var",
        "steps",
        str(steps),
    ]
    # stock LAMMPS: nothing of mlcore is loaded
    stock = environment_variables(plugin=False)
    if subprocess.run(words, cwd=folder, env=stock, check=False).returncode != 0:
        raise SystemExit(f"LAMMPS stopped: see {folder / 'log.lammps'}")
    return np.loadtxt(folder / "energies.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames, a smaller network")
    parser.add_argument("--out", type=Path, default=Path("out/snap_neural"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    count, size, nodes, steps = (6, 4, 6, 200) if options.quick else (25, 6, 16, 4000)
    known, held = frames(count, 1), frames(count, 77)
    network = forms.model("mliap/nn", ["Si"], options={"twojmax": size, "layers": [nodes, 1]})
    linear = forms.model("mliap/linear", ["Si"], options={"twojmax": size})
    found = {
        "linear": fit_linear(linear, known),
        "network": train(network, known, iterations=80 if options.quick else 500),
    }
    lines = ["| model | energy, meV/atom | forces, eV/A |", "|---|---|---|"]
    results, shown = {}, {}
    for name, one in found.items():
        energy, force, ours, true = measured(one, held)
        lines.append(f"| {name} | {1000 * energy:.2f} | {force:.3f} |")
        results[name] = {"energy": energy, "forces": force}
        shown[name] = (true, ours)
        one.export(options.out / name)
    spread = float(np.sqrt(np.mean(shown["network"][0] ** 2)))
    lines.append(f"| (size of the forces) | | {spread:.3f} |")
    told = run(options.out / "network", steps)
    drift = float(np.ptp(told[:, 3]) / 64)
    results |= {"drift": drift, "spread": spread}
    lines.append(f"\nEnergy per atom of {steps} steps in LAMMPS stays within {drift:.1e} eV.")
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    (options.out / "results.json").write_text(json.dumps(results, indent=1))
    print("\n".join(lines))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, (true, ours) in shown.items():
        left.plot(true, ours, ".", ms=3, label=name)
    left.set(xlabel="true force, eV/A", ylabel="learned, eV/A")
    left.legend()
    right.plot(told[:, 0], told[:, 3] - told[0, 3])
    right.set(xlabel="time, ps", ylabel="total energy - start, eV")
    figure.savefig(options.out / "snap_neural.png", dpi=120)


if __name__ == "__main__":
    main()
