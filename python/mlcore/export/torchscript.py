"""TorchScript files: traced networks that any libtorch runs. They are code."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from mlcore.errors import Error, FileFormatError
from mlcore.export.contract import Contract
from mlcore.export.evaluation import check_outputs, examples, outputs
from mlcore.io.atomic import atomic_path
from mlcore.io.tensors import read_bytes

__all__ = ["load_script", "save_traced", "write_script"]


def save_traced(module: torch.nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    """Trace a module on an example and write it, whole or not at all."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module.eval(), example, check_trace=False
        )
        with atomic_path(path) as temporary:
            traced.save(str(temporary))


def write_script(network: torch.nn.Module, contract: Contract, path: Path) -> None:
    """Trace a network in the calling convention of bundles.

    Raises:
        Error: forward() does not follow the contract, or cannot be traced.
    """
    inputs = examples(contract)[-1]
    check_outputs(contract, inputs, outputs(network, contract, inputs), "network")
    try:
        save_traced(network, inputs, path)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise Error(f"network: forward() cannot be traced: {last}") from error


def load_script(path: str | Path) -> torch.jit.ScriptModule:
    """Load a TorchScript file. It is code: load only what you trust or whose hash you know.

    Raises:
        FileFormatError: absent, unreadable, empty, truncated, or not TorchScript.
    """
    read_bytes(path, 1 << 30, "TorchScript file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu"
            )
    except (RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "unknown reason"
        raise FileFormatError(f"{path}: not a TorchScript file: {first}") from error
    return module
