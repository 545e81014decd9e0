"""A learned force as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from mlcore.forces.model import Dtype, ForceModel

__all__ = ["ForceCalculator"]


class ForceCalculator(Calculator):
    """Energy, forces, stress, and the spread of the committee in `results["force_spread"]`.

    Args:
        model: what is evaluated; energy and stress where it has them.
        dtype: precision of its networks.
    """

    def __init__(self, model: ForceModel, dtype: Dtype = "float64") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.dtype: Dtype = dtype
        contract = model.contract(dtype)
        self.implemented_properties = ["forces"]
        if contract.gives == "energy":
            self.implemented_properties += ["energy", "energies"]
        if contract.sees == "neighbors":
            self.implemented_properties.append("stress")

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
