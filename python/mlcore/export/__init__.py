"""Export: a bundle folder (manifest.json + weights.safetensors) and MLMOD's files.

    from mlcore import export
    export.export(model, "bundle", units={"length": "a0", "energy": "kBT", "time": "t0"})
    bundle = export.load_bundle("bundle")
    mobility = bundle.mobility

Everything is verified against the model in a temporary folder, which is then renamed into place.
torch is imported only when MLMOD's TorchScript files are written or read.
"""

from __future__ import annotations

from mlcore.export.bundle import Bundle, PairTableData, export, load_bundle, write_bundle

__all__ = ["Bundle", "PairTableData", "export", "load_bundle", "write_bundle"]
