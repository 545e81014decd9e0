"""`.pt2` packages: networks compiled to machine code by AOTInductor.

They are code, tied to a torch version and to an instruction set; what does not fit is made anew with
`mlcore export rebuild BUNDLE`. A network's energies and their gradient become one graph
(torch.fx make_fx), which torch.export takes with all sizes free.
"""

from __future__ import annotations

import os
import platform
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mlcore.errors import BackendUnavailable, Error, InvalidArgument
from mlcore.export.contract import Contract
from mlcore.export.evaluation import Inputs, Outputs, check_outputs, examples, outputs
from mlcore.io.atomic import atomic_path

__all__ = [
    "INSTRUCTION_SETS",
    "instruction_set",
    "load_compiled",
    "misfit",
    "torch_version",
    "write_compiled",
]

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
"""What a package may need, each holding those before it."""

_MARCH = {"baseline": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
_BITS = {"baseline": 1, "avx2": 256, "avx512": 512}


def torch_version() -> str:
    """Version of torch without its build's name, such as 2.13.0."""
    return torch.__version__.split("+")[0]


def instruction_set() -> str:
    """The best one this machine has."""
    found = torch.backends.cpu.get_cpu_capability().lower()
    return found if found in INSTRUCTION_SETS else "baseline"


def misfit(told: dict[str, Any]) -> str | None:
    """Why a package with this entry in the manifest cannot run here; None when it can."""
    if told.get("torch") != torch_version():
        return f"compiled for torch {told.get('torch')}, here is {torch_version()}"
    needs = told.get("instruction_set")
    order = INSTRUCTION_SETS
    if needs not in order or order.index(needs) > order.index(instruction_set()):
        return f"compiled for {needs}, this machine has {instruction_set()}"
    if told.get("device", "cpu") != "cpu":
        return f"compiled for {told['device']}"
    return None


def _require_compiler() -> None:
    name = os.environ.get("CXX") or "g++"
    if shutil.which(name) is None and shutil.which("clang++") is None:
        raise BackendUnavailable(
            f"compiling a .pt2 needs a C++ compiler, and {name} is not found: install g++ or set "
            "CXX; a bundle without .pt2 is complete too (compiled=False)"
        )


def _settings(target: str) -> dict[str, Any]:
    import torch._inductor.config as config

    found: dict[str, Any] = {"cpp.simdlen": _BITS[target]}
    if platform.machine() in ("x86_64", "AMD64") and hasattr(config.cpp, "march"):
        found["cpp.march"] = _MARCH[target]
    return found


def _shapes(contract: Contract, inputs: Inputs) -> tuple[Any, ...]:
    """Which sizes are free: those of edges and atoms, unless the contract fixes them."""
    from torch.export import Dim

    most = 2**31 - 1
    if contract.sees == "neighbors":
        edges, atoms = Dim("edges", min=2, max=most), Dim("atoms", min=2, max=most)
        return ({0: edges}, {0: edges}, {0: edges}, {0: atoms})
    if contract.particles is not None:
        return tuple({} for _ in inputs)
    atoms = Dim("atoms", min=2, max=most)
    free = [{} if name in ("time", "cell") else {0: atoms} for name in contract.inputs]
    if contract.memory:
        free.append({0: atoms} if contract.sees == "atoms" else {})
    return tuple(free)


def write_compiled(
    network: torch.nn.Module, contract: Contract, path: Path, target: str | None = None
) -> dict[str, str]:
    """Compile a network and write the package, whole or not at all. Takes half a minute or more.

    Args:
        network: in the calling convention of bundles, its dtype the contract's.
        contract: what it sees and gives.
        path: the .pt2 to write.
        target: instruction set; None takes this machine's best.

    Returns:
        torch, instruction_set and device for the manifest.

    Raises:
        BackendUnavailable: no C++ compiler.
        InvalidArgument: target is none this machine has.
        Error: forward() does not follow the contract or cannot be compiled.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    target = target or instruction_set()
    if target not in INSTRUCTION_SETS:
        raise InvalidArgument(f"instruction_set must be one of {', '.join(INSTRUCTION_SETS)}")
    _require_compiler()
    inputs = examples(contract)[-1]

    def call(*given: torch.Tensor) -> Outputs:
        return tuple(v.contiguous() for v in outputs(network, contract, given))

    check_outputs(contract, inputs, call(*inputs), "network")
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        warnings.simplefilter("ignore")
        try:
            graph = make_fx(call, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
            program = torch.export.export(graph, inputs, dynamic_shapes=_shapes(contract, inputs))
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(temporary), inductor_configs=_settings(target)
            )
        except OSError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or ["unknown reason"])[0]
            raise Error(f"network: cannot be compiled: {type(error).__name__}: {first}") from error
    return {"torch": torch_version(), "instruction_set": target, "device": "cpu"}


def load_compiled(path: Path, told: dict[str, Any], bundle: Path) -> Callable[..., Outputs]:
    """Load a package. It is code: load only what you trust or whose hash you know.

    Raises:
        BackendUnavailable: made for another torch or instruction set; names the rebuild command.
    """
    reason = misfit(told)
    if reason is None:
        try:
            package = torch._inductor.aoti_load_package(str(path))
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["unknown reason"])[0]
        else:
            return _callable(package)
    raise BackendUnavailable(
        f"{path}: {reason}; make it anew with: mlcore export rebuild {bundle}"
    ) from None


def _callable(package: Callable[..., Any]) -> Callable[..., Outputs]:
    def call(*inputs: torch.Tensor) -> Outputs:
        found = package(*(v.detach().contiguous() for v in inputs))
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)

    return call
