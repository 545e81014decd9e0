"""Forces read back from bundles."""

from __future__ import annotations

from pathlib import Path

import torch

from mlcore.data.ase_units import style_of
from mlcore.errors import FileFormatError
from mlcore.export import Contract, ModelBundle, load_model
from mlcore.export.native import Native
from mlcore.forces.model import Dtype, ForceModel

__all__ = ["LoadedForce", "load"]


class LoadedForce(ForceModel):
    """A force of a bundle: evaluated as the model that was exported, from its weights.

    Args:
        bundle: of kind force that sees neighbors or atoms.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__(bundle.species or bundle.contract.types, style_of(bundle.units))
        self.bundle = bundle
        self._networks = bundle.networks("float64")

    def networks(self) -> list[torch.nn.Module]:
        return self._networks

    def contract(self, dtype: Dtype = "float64") -> Contract:
        told = {**vars(self.bundle.contract), "dtype": dtype}
        return Contract(**told)

    def native(self) -> list[Native] | None:
        return self.bundle.native


def load(path: str | Path) -> LoadedForce:
    """A force from a bundle, ready to be evaluated or given to ASE. No code of it is run.

    Raises:
        FileFormatError: damaged, or of another kind.
        Error: its network is not known here.
    """
    bundle = load_model(path)
    if bundle.kind != "force" or bundle.contract.sees == "configuration":
        told = f"{bundle.kind} of {bundle.contract.sees}"
        raise FileFormatError(f"{path}: holds {told}, not a force of neighbors or atoms")
    return LoadedForce(bundle)
