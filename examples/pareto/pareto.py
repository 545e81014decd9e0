"""Two wishes a form cannot have both: energies of phases against elastic constants, by NSGA-II.

python examples/pareto/pareto.py [--quick] [--seed N] [--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlcore.forcefield as ff
from mlcore.forcefield.pictures import front
from mlcore.forcefield.problems import silicon
from mlcore.mobility.plots import save


def main(budget: int = 4000, seed: int = 0, out: Path = Path("out/pareto")) -> ff.Result:
    """Fit both at once, tell the front and its knee, draw."""
    problem = silicon("sw", targets_of="tersoff", seed=seed)
    result = ff.fit(
        problem.model,
        problem.space,
        problem.targets,
        objective=ff.Objective(problem.targets, pareto=["energies", "diamond"]),
        search="nsga2",
        options={"popsize": 40},
        budget=budget,
        seed=seed,
        folder=out,
        resume=True,
        progress=True,
    )
    for row in result.front:
        told = ", ".join(f"{name} {value:.4g}" for name, value in row["objectives"].items())
        print(told + ("   the knee" if row["knee"] else ""))
    save(front(result.front), out / "front.png")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="400 evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/pareto"))
    told = parser.parse_args()
    main(400 if told.quick else 4000, told.seed, told.out)
