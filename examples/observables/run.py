"""Observables inside LAMMPS: local order and coordination of a melting crystal, size of a chain, and
values learned from their frames.

python run.py [--quick] [--out out]
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from mlcore import data, lammps, observables
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]


def write_bundles(folder: Path) -> None:
    """Order and coordination count the first shell of a dense liquid or fcc crystal."""
    observables.LocalOrder(cutoff=1.5, degree=6, inner=1.3).export(folder / "order", units="lj")
    observables.CoordinationNumber(cutoff=1.5, inner=1.3).export(folder / "count", units="lj")
    observables.RadiusOfGyration().export(folder / "gyration", units="lj")


def write_chain(path: Path, beads: int) -> None:
    """A straight chain, askew in a box it does not fit in: the boundaries cut it."""
    side = 40.0
    x = np.arange(beads)[:, None] * [0.95, 0.2, 0.0]
    image = np.floor(x / side).astype(int)
    lines = [
        "chain",
        "",
        f"{beads} atoms",
        f"{beads - 1} bonds",
        "1 atom types",
        "1 bond types",
        "",
    ]
    lines += [f"0 {side} {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", "1 1.0", "", "Atoms # bond", ""]
    for k, (place, turn) in enumerate(zip(x - side * image, image, strict=True)):
        words = [*(f"{value:.6f}" for value in place), *map(str, turn)]
        lines.append(f"{k + 1} 1 1 {' '.join(words)}")
    lines += ["", "Bonds", ""] + [f"{k} 1 {k} {k + 1}" for k in range(1, beads)]
    path.write_text("\n".join(lines) + "\n")


def learn(folder: Path, quick: bool) -> list[str]:
    """Values of the frames of both runs, learned: a coordination number from its mean over the atoms,
    and coordinates that tell the shape of the chain. What was found, in words."""
    t = data.read_trajectory(folder / "melt.dump", format="lammps-dump")
    symbols = ["Ar"] * t.particles
    frames = [Atoms(symbols, positions=x, cell=t.cell, pbc=t.pbc) for x in t.positions]
    known = observables.CoordinationNumber(cutoff=1.5, inner=1.3)
    counted = observables.LearnedObservable("neighbors", cutoff=1.8, hidden=())
    labels = np.array([known(atoms) for atoms in frames])
    count = counted.fit(frames, labels, validation=0.3)
    counted.export(folder / "learned", units="lj")
    chain = data.read_trajectory(folder / "chain.dump", format="lammps-dump")
    shape = observables.Autoencoder(4, "rotation", hidden=(32,))
    made = shape.fit(chain, validation=0.3, epochs=100 if quick else 300)
    shape.export(folder / "shape", units="lj")
    return [
        f"learned coordination: held-out error {count.held_out_error[0]:.2e} "
        f"(labels spread {labels.std():.2e})",
        f"shape of the chain from 4 numbers: error {made.held_out_error:.3f} by the autoencoder, "
        f"{made.pca_error:.3f} by principal components",
    ]


def simulate(folder: Path, name: str, *words: str) -> dict[str, Array]:
    """Runs in.NAME in the folder; its thermo output."""
    log = f"log.{name}"
    words = ("-log", log, "-screen", "none", *words)
    if lammps.run(f"in.{name}", args=words, folder=folder) != 0:
        raise SystemExit(f"LAMMPS failed:\n{(folder / log).read_text()[-2000:]}")
    return thermo((folder / log).read_text())


def thermo(text: str) -> dict[str, Array]:
    """Columns of the thermo output of a run."""
    block = re.search(r"^\s+(Step .*?)\nLoop time", text, re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit(f"no thermo output:\n{text[-2000:]}")
    head, *rows = (line for line in block[1].splitlines() if not line.startswith("WARNING"))
    numbers = [[float(word) for word in row.split()] for row in rows if re.match(r"\s*\d", row)]
    return dict(zip(head.split(), np.array(numbers).T, strict=True))


def plot(melt: dict[str, Array], chain: dict[str, Array], path: Path) -> None:
    """Order and coordination against temperature; size of the chain by both ways."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(melt["Step"], melt["f_order"], color="tab:blue")
    left.set(xlabel="step", ylabel="local order $q_6$", title="a crystal is heated")
    other = left.twinx()
    other.plot(melt["Step"], melt["f_count[1]"], color="tab:orange")
    other.set_ylabel("coordination number", color="tab:orange")
    right.plot(chain["Step"], chain["c_size"], lw=4, alpha=0.3, label="compute gyration")
    right.plot(chain["Step"], chain["f_size"], label="fix mlcore qoi")
    right.set(xlabel="step", ylabel="radius of gyration", title="a stretched chain coils up")
    right.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and shorter")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    write_bundles(out)
    write_chain(out / "chain.data", 50 if options.quick else 200)
    for name in ("in.melt", "in.chain", "in.learned"):
        shutil.copy(HERE / name, out / name)
    steps = "4000" if options.quick else "20000"
    size = "4" if options.quick else "6"
    melt = simulate(out, "melt", "-var", "steps", steps, "-var", "size", size)
    chain = simulate(out, "chain", "-var", "steps", steps)
    learned = learn(out, options.quick)
    again = simulate(out, "learned", "-var", "size", size)
    plot(melt, chain, out / "observables.png")
    error = np.abs(chain["f_size"] / chain["c_size"] - 1).max()
    print(f"crystal: q6 {melt['f_order'][0]:.3f}, coordination {melt['f_count[1]'][0]:.2f}")
    halted = int(melt["Step"][-1]) < int(steps)
    print(
        f"at step {int(melt['Step'][-1])}, temperature {melt['Temp'][-1]:.2f}: "
        f"q6 {melt['f_order'][-1]:.3f}, {'halted' if halted else 'not melted'}"
    )
    print(f"chain: size by fix mlcore and by compute gyration differ by {error:.1e} at most")
    print("\n".join(learned))
    away = np.abs(again["f_learned"] - again["f_known"]).max()
    print(f"in another run the learned coordination is off by {away:.1e} at most")
    print(f"picture: {out / 'observables.png'}")


if __name__ == "__main__":
    main()
