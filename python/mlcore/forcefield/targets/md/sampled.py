"""What all targets that are means over a run have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.forcefield.targets.face import Array, Boxes, Measurement, Target, Tier
from mlcore.forcefield.targets.md.averages import pooled
from mlcore.forcefield.targets.md.simulation import (
    Exploded,
    Simulation,
    Trajectory,
    checked,
    simulate,
)

__all__ = ["Dynamics", "Sampled", "by_temperature"]

Runs = Sequence[Trajectory]


class Dynamics(Target):
    """A property by molecular dynamics at certain temperatures.

    Args:
        name: of the target.
        structure: what is run; periodic.
        temperatures: K, in the order they are visited.
        simulation: how it is run.
        supercell: how often the structure is repeated.
        reference, sigma, terms, term_of, options: see `Target`.
    """

    tier: ClassVar[Tier] = "md"

    def __init__(
        self,
        name: str,
        structure: Atoms,
        temperatures: Sequence[float],
        simulation: Simulation | None,
        reference: npt.ArrayLike,
        sigma: npt.ArrayLike,
        terms: Sequence[str],
        term_of: npt.ArrayLike | None = None,
        *,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        self.temperatures = tuple(float(t) for t in temperatures)
        checked(name, structure, self.temperatures)
        self.simulation = simulation or Simulation()
        large = structure * supercell
        self.simulation.check_cost(len(large), len(self.temperatures))
        super().__init__(name, [large], reference, sigma, terms, term_of, **options)


class Sampled(Dynamics):
    """A mean over runs, which targets that are told the same share."""

    def measure(self, boxes: Boxes) -> Measurement:
        try:
            runs = simulate(boxes, 0, self.temperatures, self.simulation)
        except Exploded as error:
            lost = np.full((1, len(self.reference)), np.nan)
            return Measurement(lost, lost.copy(), (str(error),))
        values, errors = self.found(runs)
        return Measurement(values[None], errors[None])

    @abstractmethod
    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        """(R,) values and (R,) standard errors of the repeats at each temperature."""


def each(
    runs: Sequence[Runs], of: Callable[[Trajectory], tuple[npt.ArrayLike, npt.ArrayLike]]
) -> tuple[Array, Array]:
    """What ``of`` says of each temperature, repeats pooled: (T, ...) values and errors."""
    pairs = [pooled([of(one) for one in repeats]) for repeats in runs]
    return np.array([value for value, _ in pairs]), np.array([error for _, error in pairs])


def by_temperature(name: str, values: Mapping[float, float]) -> tuple[list[float], list[float]]:
    """Temperatures and values of {K: value}, and the check that there are some."""
    from mlcore.errors import InvalidArgument

    if not values:
        raise InvalidArgument(f"{name}: values must be {{temperature in K: value}}, got none")
    return [float(t) for t in values], [float(v) for v in values.values()]


__all__ += ["each"]
