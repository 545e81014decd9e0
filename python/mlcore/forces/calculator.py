"""A learned force as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from mlcore.forces.frames import Configuration

if TYPE_CHECKING:
    from mlcore.forces.model import Dtype, ForceModel

__all__ = ["ForceCalculator"]


class ForceCalculator(Calculator):
    """Energy, forces, stress, and the spread of the committee in `results["force_spread"]`.

    They are in the units of the model, which are ASE's own for units metal; velocities that a model
    sees are converted to its units.

    Args:
        model: what is evaluated; energy and stress where it has them.
        dtype: precision of its networks.
    """

    def __init__(self, model: ForceModel, dtype: Dtype = "float64") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.dtype: Dtype = dtype
        contract = model.contract(dtype)
        self._moving = [name for name in ("v", "time") if name in contract.inputs]
        self.implemented_properties = ["forces"]
        if contract.gives == "energy":
            self.implemented_properties += ["energy", "energies"]
        if contract.sees == "neighbors":
            self.implemented_properties.append("stress")

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What has changed; besides what ASE looks at, types, and velocities and time as far as the
        model sees them."""
        changes = list(super().check_state(atoms, tol))  # type: ignore[no-untyped-call]
        if changes:
            return changes
        before, after = (Configuration.of(a, self.model.kinds) for a in (self.atoms, atoms))
        seen = [("types", before.types, after.types)]
        seen += [(n, getattr(before, n), getattr(after, n)) for n in self._moving]
        return [name for name, old, new in seen if not np.array_equal(old, new)]

    def calculate(
        self,
        atoms: Any = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate all properties at once; called by ASE."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        here: Any = self.atoms
        found = self.model.evaluate(here, dtype=self.dtype)
        self.results = {"forces": found.forces, "force_spread": found.spread}
        if found.energies is not None:
            self.results |= {"energy": found.energy, "free_energy": found.energy}
            self.results["energies"] = found.energies
        if found.virial is not None and here.cell.rank == 3:
            stress = found.virial / here.get_volume()
            self.results["stress"] = stress.flat[[0, 4, 8, 5, 2, 1]]
