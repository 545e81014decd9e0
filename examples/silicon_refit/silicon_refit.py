"""Tersoff's silicon found again from energies, forces and elastic constants, start far off.

python examples/silicon_refit/silicon_refit.py [--quick] [--seed N] [--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlcore.forcefield as ff
from mlcore.forcefield.pictures import convergence
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.report import write
from mlcore.mobility.plots import save


def main(budget: int = 3000, seed: int = 0, out: Path = Path("out/silicon_refit")) -> ff.Result:
    """Fit, tell, draw."""
    # 15 structures and five properties, as a known potential has them; nine parameters off by up to
    # a fifth, four of them by up to a factor of three
    problem = silicon("tersoff", seed=seed)
    result = ff.fit(
        problem.model,
        problem.space,
        problem.targets,
        budget=budget,
        seed=seed,
        folder=out,
        resume=True,
        progress=True,
    )
    print(result)
    for name in problem.space.names:
        print(f"{name:<6}{result.values[name]:>16.8g}   made of {problem.answer[name]:.8g}")
    print(write(out))
    entries = ff.read_history(out)
    save(convergence(entries, ff.read_events(out)), out / "convergence.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="400 evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/silicon_refit"))
    told = parser.parse_args()
    main(400 if told.quick else 3000, told.seed, told.out)
