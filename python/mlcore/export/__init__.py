"""Export: bundles of everything learned (manifest.json, weights.safetensors, code) and MLMOD's files.

    from mlcore import export
    export.export(model, "bundle", units={"length": "a0", "energy": "kBT", "time": "t0"})
    mobility = export.load_bundle("bundle").mobility

    contract = export.Contract("force", "neighbors", "energy", cutoff=2.5)
    export.write_model("force", contract, network, units="lj")     # also dynamics and qoi
    networks = export.load_model("force").networks()
    steps = export.load_splitting("liquid").steps          # large steps of pairs, for LAMMPS

Everything is verified against the model in a temporary folder, which is then renamed into place.
torch is imported only when networks or TorchScript files are written or run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlcore.export.bundle import Bundle, PairTableData, export, load_bundle, write_bundle
from mlcore.export.contract import Contract
from mlcore.export.model_bundle import ModelBundle, load_model, rebuild, write_model
from mlcore.export.native import Lstm, PairTable, Perceptron
from mlcore.export.splitting import SplittingBundle, load_splitting, write_splitting

if TYPE_CHECKING:
    from mlcore.export.mlmod_models import Column, WholeMobility, write_mlmod
    from mlcore.export.verification import verify

__all__ = [
    "Bundle",
    "Column",
    "Contract",
    "Lstm",
    "ModelBundle",
    "PairTable",
    "PairTableData",
    "Perceptron",
    "SplittingBundle",
    "WholeMobility",
    "export",
    "load_bundle",
    "load_model",
    "load_splitting",
    "rebuild",
    "verify",
    "write_bundle",
    "write_mlmod",
    "write_model",
    "write_splitting",
]

_LAZY = {
    "Column": "mlmod_models",
    "WholeMobility": "mlmod_models",
    "verify": "verification",
    "write_mlmod": "mlmod_models",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"mlcore.export.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
