"""Stillinger and Weber's form fitted to what Tersoff's says: a best score that is not zero.

python examples/silicon_misfit/silicon_misfit.py [--quick] [--seed N] [--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlcore.forcefield as ff
from mlcore.forcefield.pictures import parity
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.run.finish import read_measured
from mlcore.mobility.plots import save


def main(budget: int = 4000, seed: int = 0, out: Path = Path("out/silicon_misfit")) -> ff.Result:
    """Fit, tell where the form fails, draw."""
    problem = silicon("sw", targets_of="tersoff", seed=seed)
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
    worst = sorted(result.contributions.items(), key=lambda one: -one[1])[:5]
    for term, part in worst:
        print(f"{term:<24}{result.terms[term]:>10.3g} tolerances, {part / result.total:.0%}")
    save(parity(read_measured(out)), out / "parity.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/silicon_misfit"))
    told = parser.parse_args()
    main(500 if told.quick else 4000, told.seed, told.out)
