"""Dual annealing and basin hopping by scipy."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mlcore.forcefield.search.face import Jacobian, Points, Strategy
from mlcore.forcefield.search.inverted import Ask, inverted
from mlcore.forcefield.search.local import gradient, total

__all__ = ["basin_hopping", "dual_annealing"]


def dual_annealing(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    temperature: Annotated[float, Field(gt=0.01, le=5e4, description="at the beginning")] = 5230.0,
    visit: Annotated[
        float, Field(gt=1, le=3, description="tail of the jumps' distribution; more jumps farther")
    ] = 2.62,
    accept: Annotated[
        float, Field(gt=-1e4, le=-5, description="acceptance; less takes fewer steps uphill")
    ] = -5.0,
    local: Annotated[bool, Field(description="L-BFGS-B from promising points")] = True,
    step: Annotated[
        float, Field(gt=0, lt=0.1, description="of finite differences, in edges of the cube")
    ] = 1e-6,
) -> Strategy:
    """Generalised simulated annealing with local searches.

    Y. Xiang et al., Phys. Lett. A 233, 216 (1997).
    """

    def work(ask: Ask) -> None:
        from scipy.optimize import dual_annealing as library

        value, slope = total(ask), gradient(ask, step)
        library(
            value,
            [(0, 1)] * size,
            maxiter=10**9,
            maxfun=10**9,
            initial_temp=temperature,
            visit=visit,
            accept=accept,
            no_local_search=not local,
            minimizer_kwargs={
                "method": "L-BFGS-B",
                "jac": lambda x: slope(x)[1],
                "bounds": [(0, 1)] * size,
            },
            x0=start,
            rng=np.random.default_rng(seed),
        )

    return inverted(work)


def basin_hopping(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    jacobian: Jacobian | None = None,
    hop: Annotated[
        float, Field(gt=0, le=1, description="largest change of a coordinate, adapted later")
    ] = 0.2,
    temperature: Annotated[
        float, Field(gt=0, description="of the totals: a rise of this is often taken")
    ] = 1.0,
    step: Annotated[
        float, Field(gt=0, lt=0.1, description="of finite differences, in edges of the cube")
    ] = 1e-7,
) -> Strategy:
    """Monte Carlo over minima, each found by L-BFGS-B. D. Wales and J. Doye, JPCA 101, 5111."""
    random = np.random.default_rng(seed)
    first = random.random(size) if start is None else np.array(start, dtype=np.float64)

    class Hop:
        stepsize = hop

        def __call__(self, point: Points) -> Points:
            moved = point + random.uniform(-self.stepsize, self.stepsize, size)
            return np.asarray(np.clip(moved, 0.0, 1.0))

    def work(ask: Ask) -> None:
        from scipy.optimize import basinhopping as library

        library(
            gradient(ask, step, jacobian),
            first,
            niter=10**9,
            T=temperature,
            take_step=Hop(),
            minimizer_kwargs={"method": "L-BFGS-B", "jac": True, "bounds": [(0, 1)] * size},
            rng=random,
        )

    return inverted(work)
