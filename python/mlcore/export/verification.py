"""Do the engines of a bundle give what its networks give? Measured on random inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcore.errors import BackendUnavailable, Error, FileFormatError
from mlcore.export.compiled import load_compiled
from mlcore.export.contract import Contract
from mlcore.export.evaluation import Inputs, Outputs, check_outputs, examples, outputs
from mlcore.export.manifest import MANIFEST, ManifestReader
from mlcore.export.model_bundle import MODEL_KINDS, TABLE_ERROR, ModelBundle, load_model
from mlcore.export.native import Native, PairTable
from mlcore.export.splitting import is_splitting, load_splitting, verified_steps
from mlcore.export.torchscript import load_script

__all__ = ["compiled", "native", "torchscript", "verify"]

Engine = Callable[[Inputs], Outputs]


def _worst(
    contract: Contract,
    networks: Iterable[torch.nn.Module],
    engines: Iterable[Engine],
    inputs: list[Inputs],
    where: str,
) -> float:
    """Largest difference between networks and engines, relative to the largest value."""
    worst, largest = [0.0] * 3, [1e-300] * 3
    for network, engine in zip(networks, engines, strict=True):
        for given in inputs:
            want = outputs(network, contract, given)
            got = engine(given)
            check_outputs(contract, given, got, where)
            for k, (a, b) in enumerate(zip(got, want, strict=True)):
                if a.numel():
                    worst[k] = max(worst[k], float((a.double() - b.double()).abs().max()))
                    largest[k] = max(largest[k], float(b.abs().max()))
    return max(w / s for w, s in zip(worst, largest, strict=True))


def _agree(what: str, worst: float, allowed: float) -> float:
    if not worst <= allowed:
        raise Error(
            f"{what}: differs from the networks by {worst:.2e} of the largest value, more than "
            f"{allowed:.0e}"
        )
    return worst


def torchscript(
    contract: Contract, networks: Sequence[torch.nn.Module], files: Sequence[Path], allowed: float
) -> float:
    """Largest relative error of .pt files. Runs their code.

    Raises:
        Error: larger than allowed.
    """

    def engine(path: Path) -> Engine:
        module = load_script(path)

        def call(inputs: Inputs) -> Outputs:
            try:
                # as written: to optimise it would take longer than all calls
                with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                    return outputs(module, contract, inputs)
            except RuntimeError as error:
                last = str(error).strip().splitlines()[-1]
                raise Error(f"{path}: forward() fails: {last}") from error

        return call

    worst = _worst(contract, networks, map(engine, files), examples(contract), "TorchScript")
    return _agree("TorchScript", worst, allowed)


def compiled(
    contract: Contract,
    networks: Sequence[torch.nn.Module],
    files: Sequence[Path],
    told: dict[str, Any],
    allowed: float,
) -> float:
    """Largest relative error of .pt2 files. Runs their code.

    Raises:
        BackendUnavailable: they do not fit this machine or torch.
        Error: larger than allowed.
    """

    def engine(path: Path) -> Engine:
        package = load_compiled(path, told, path.parent)
        return lambda inputs: package(*inputs)

    worst = _worst(contract, networks, map(engine, files), examples(contract), "compiled")
    return _agree("compiled", worst, allowed)


def native(
    contract: Contract,
    networks: Sequence[torch.nn.Module],
    models: Sequence[Native],
    allowed: float,
) -> float:
    """Largest relative error of the native numbers against networks in double precision.

    Raises:
        Error: larger than allowed.
    """
    if isinstance(models[0], PairTable):
        return _agree("native", _table_error(contract, networks, models), allowed)
    double = Contract(**{**vars(contract), "dtype": "float64"})

    def engine(model: Any) -> Engine:
        return lambda inputs: _rows(double, model, inputs)

    worst = _worst(double, networks, map(engine, models), examples(double), "native")
    return _agree("native", worst, allowed)


def _rows(contract: Contract, model: Any, inputs: Inputs) -> Outputs:
    """What a perceptron or a recurrent network gives, in the shapes of the contract."""
    own = contract.sees == "atoms"
    parts = []
    seen = inputs[: len(contract.inputs)]
    n = max(
        len(v)
        for v, name in zip(seen, contract.inputs, strict=True)
        if name not in ("time", "cell")
    )
    for value, name in zip(seen, contract.inputs, strict=True):
        array = value.numpy().astype(np.float64)
        if name == "types":
            array = np.eye(contract.types)[value.numpy()]
        elif own and name in ("time", "cell"):
            array = np.broadcast_to(array.reshape(1, -1), (n, array.size))
        parts.append(array.reshape(n, -1) if own else array.reshape(1, -1))
    rows = np.concatenate(parts, 1)
    kept: Outputs = ()
    if contract.memory:
        out, memory = model(rows, inputs[-1].numpy())
        kept = (torch.from_numpy(memory),)
    else:
        out = model(rows)
    if contract.gives == "step":
        half = out.reshape(n, 2, 3).swapaxes(0, 1) if own else out.reshape(2, n, 3)
        return *(torch.from_numpy(np.ascontiguousarray(h)) for h in half), *kept
    shape = (n, 3) if contract.gives == "forces" else tuple(contract.shape or ())
    if own and contract.gives == "values":
        shape = (n, *shape)
    return (torch.from_numpy(out.reshape(shape)),)


def _table_error(
    contract: Contract, networks: Sequence[torch.nn.Module], models: Sequence[Native]
) -> float:
    """Error of values and of slopes from the first knot to the cutoff, each relative to its largest."""
    worst = 0.0
    for network, model in zip(networks, models, strict=True):
        assert isinstance(model, PairTable)
        r = np.linspace(model.first, model.cutoff, 4 * model.values.shape[1] + 1)
        for number, (a, b) in enumerate(_pairs(contract.types)):
            pair = np.full(len(r), number)
            for got, want in zip(model(r, pair), _dimers(contract, network, r, a, b), strict=True):
                scale = max(float(np.abs(want).max()), 1e-300)
                worst = max(worst, float(np.abs(got - want).max()) / scale)
    return worst


def _pairs(types: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(types) for b in range(a, types)]


def _dimers(
    contract: Contract, network: torch.nn.Module, r: Any, a: int, b: int
) -> tuple[Any, Any]:
    """Pair function of a network and its slope, read off pairs of atoms alone in the world."""
    m = len(r)
    D = torch.zeros(m, 3, dtype=torch.float64)
    D[:, 0] = torch.from_numpy(r)
    D.requires_grad_(True)
    first = 2 * torch.arange(m)
    types = torch.tensor([a, b]).repeat(m)
    values = network(D, first, first + 1, types)
    factor = 2.0 if contract.kind == "force" else 1.0
    u = factor * values.reshape(m, 2)[:, 0]
    (slope,) = torch.autograd.grad(u.sum(), D)
    return u.detach().numpy(), slope[:, 0].numpy()


def verify(path: str | Path) -> dict[str, str]:
    """Check a bundle of any kind: hashes, shapes, and that every engine agrees with the networks.

    A mobility's M_ii.pt and M_ij.pt must agree with its table to 1e-5 of the self mobility. A native
    table may differ from its networks by what the manifest says, but never by more than 1e-3. The
    .pt and .pt2 files are run, after their hashes have been checked.

    Returns:
        What was found, by name of the part.

    Raises:
        FileFormatError: naming file and field.
        Error: an engine does not agree.
    """
    reader = ManifestReader(Path(path))
    if reader.check_kind("mobility", *MODEL_KINDS) == "mobility":
        return _mobility(path)
    if is_splitting(reader):
        return _splitting(path)
    model = load_model(path)
    found = {
        "kind": f"{model.kind} ({model.contract.sees} -> {model.contract.gives})",
        "files": f"{len(model.manifest['files'])} with right hashes",
        "members": str(model.members),
    }
    return found | _engines(model)


def _mobility(path: str | Path) -> dict[str, str]:
    from mlcore.export import mlmod
    from mlcore.export.bundle import configuration, load_bundle

    bundle = load_bundle(path)
    listed = set(bundle.manifest["files"])
    found = {"kind": "mobility", "files": f"{len(listed)} with right hashes"}
    code = {"M_ii.pt", "M_ij.pt"}
    if not code & listed:
        return found
    if missing := code - listed:
        raise FileFormatError(f"{bundle.path / MANIFEST}: field files must list {missing.pop()}")
    worst = 0.0
    for count in (2, 11):
        # what float32 can hold, so that only the models differ
        x = configuration(count, bundle.table.cutoff, count).astype(np.float32).astype(float)
        want = np.asarray(bundle.mobility.matrix(x))
        error = np.abs(mlmod.assemble(bundle.path, x) - want).max() / want[0, 0]
        worst = max(worst, float(error))
    if not worst <= 1e-5:
        raise Error(
            f"{path}: M_ii.pt and M_ij.pt differ from the table by {worst:.2e} of the self "
            "mobility, more than 1e-05"
        )
    return found | {"torchscript": f"{worst:.1e} relative error"}


def _splitting(path: str | Path) -> dict[str, str]:
    bundle = load_splitting(path)
    first = bundle.steps[0]
    return {
        "kind": f"dynamics (splitting of {first.kicks} kicks, {first.species} types)",
        "files": f"{len(bundle.manifest['files'])} with right hashes",
        "steps": ", ".join(f"{step.h:g}" for step in bundle.steps),
        "native": f"{verified_steps(bundle.steps):.1e} relative error",
    }


def _engines(model: ModelBundle) -> dict[str, str]:
    contract = model.contract
    same, exact = model.networks(), model.networks("float64")
    rounding = 1e-10 if contract.dtype == "float64" else 2e-4
    found = {}
    if model.native is not None:
        measured = model.verified.get("native", 0.0)
        table = isinstance(model.native[0], PairTable)
        allowed = min(TABLE_ERROR, max(1e-10, 1.01 * measured)) if table else 1e-10
        found["native"] = f"{native(contract, exact, model.native, allowed):.1e} relative error"
    if "torchscript" in model.engines:
        worst = torchscript(contract, same, model.files("torchscript"), rounding)
        found["torchscript"] = f"{worst:.1e} relative error"
    if "compiled" in model.engines:
        told = model.compiled_for()
        try:
            worst = compiled(contract, same, model.files("compiled"), told, rounding)
            found["compiled"] = f"{worst:.1e} relative error"
        except BackendUnavailable as error:
            found["compiled"] = f"not for here: {error}"
    return found
