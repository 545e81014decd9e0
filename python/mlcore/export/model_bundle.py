"""Bundles of forces, one-step dynamics and observables: networks in the forms a host can run.

DIR/manifest.json         contract, network, engines, units, SHA-256 of every file
DIR/weights.safetensors   m0.state.<name>, .. of every committee member; float64 numbers of the
                          native engine
DIR/model_0.pt, ..        TorchScript (optional)
DIR/model_0.pt2, ..       AOTInductor (optional, tied to a torch version and instruction set)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore import networks as registry
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.export.contract import Contract
from mlcore.export.manifest import (
    MANIFEST,
    WEIGHTS,
    ManifestReader,
    bundle_folder,
    checked_units,
    write_manifest,
)
from mlcore.export.native import Native, PairTable, check_fits, read_native
from mlcore.export.splitting import is_splitting
from mlcore.io.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import torch

__all__ = ["MODEL_KINDS", "TABLE_ERROR", "ModelBundle", "load_model", "rebuild", "write_model"]

MODEL_KINDS = ("force", "dynamics", "qoi")
TABLE_ERROR = 1e-3
"""Largest error of a native table that `rebuild` and `verify` accept, whatever the manifest says."""
_COMPILED = ("torch", "instruction_set", "device")


@dataclass(frozen=True)
class ModelBundle:
    """A bundle of networks, read and checked; no code in it has been run.

    Args:
        path: its folder.
        manifest: content of manifest.json.
        contract: what the model sees and gives.
        members: networks in the committee.
        tensors: all tensors of weights.safetensors.
        native: numbers of the native engine, one of each member; None without it.
    """

    path: Path
    manifest: dict[str, Any]
    contract: Contract
    members: int
    tensors: dict[str, NDArray[Any]]
    native: list[Native] | None

    @property
    def kind(self) -> str:
        """ "force", "dynamics" or "qoi"."""
        return self.contract.kind

    @property
    def units(self) -> dict[str, str]:
        """Names of the units of length, energy and time."""
        return dict(self.manifest["units"])

    @property
    def species(self) -> list[str] | None:
        """Chemical symbols of the types, where the notes of the training tell one for each."""
        told = self.manifest.get("training", {}).get("species")
        words = [str(s) for s in told] if isinstance(told, list) else []
        return words if len(set(words)) == len(words) == self.contract.types else None

    @property
    def verified(self) -> dict[str, float]:
        """Largest relative error of every engine, as measured when it was written."""
        return dict(self.manifest.get("verified", {}))

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that are there, in the order a host chooses by."""
        return tuple(n for n in ("native", "compiled", "torchscript") if n in self._told)

    @property
    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = self.manifest["engines"]
        return told

    def files(self, engine: str) -> list[Path]:
        """Files of "torchscript" or "compiled", one of each member."""
        return [self.path / name for name in self._told[engine]["files"]]

    def compiled_for(self) -> dict[str, Any]:
        """torch, instruction_set and device the compiled engine was made for."""
        return {name: self._told["compiled"].get(name) for name in _COMPILED}

    def networks(self, dtype: str | None = None) -> list[torch.nn.Module]:
        """The networks made anew from the registered class and the weights.

        Args:
            dtype: "float32" or "float64"; None takes the contract's.

        Raises:
            Error: the class is not registered here.
            FileFormatError: its arguments are wrong, or the weights are not those of the class.
        """
        import torch

        found = []
        for member in range(self.members):
            prefix = f"m{member}.state."
            # without memory first: damaged arguments may ask for more than there is
            with torch.device("meta"):
                self._check(self._made(), prefix)
            module = self._made()
            self._fill(module, prefix)
            found.append(_frozen(module, dtype or self.contract.dtype))
        return found

    def _made(self) -> torch.nn.Module:
        told = self.manifest["network"]
        try:
            return registry.make(told["class"], told["arguments"])
        except InvalidArgument as error:
            where = f"{self.path / MANIFEST}: field network.arguments: "
            raise FileFormatError(f"{where}{str(error)[:400]}") from error

    def _state(self, prefix: str) -> dict[str, NDArray[Any]]:
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def _check(self, module: torch.nn.Module, prefix: str) -> None:
        where = f"{self.path / WEIGHTS}: tensor "
        state, wanted = self._state(prefix), module.state_dict()
        for name in sorted(wanted.keys() ^ state.keys()):
            problem = "is missing" if name in wanted else "is none of the network's"
            problem += " (network.arguments)"
            raise FileFormatError(f"{where}{prefix + name!r} {problem}")
        for name, value in state.items():
            if value.shape != tuple(wanted[name].shape):
                shape = tuple(wanted[name].shape)
                raise FileFormatError(
                    f"{where}{prefix + name!r} has shape {value.shape}, network.arguments "
                    f"ask for {shape}"
                )

    def _fill(self, module: torch.nn.Module, prefix: str) -> None:
        import torch

        module.double()
        state = {k: torch.from_numpy(v) for k, v in self._state(prefix).items()}
        module.load_state_dict(state)


def _frozen(module: torch.nn.Module, dtype: str) -> torch.nn.Module:
    """A copy for evaluation alone."""
    import torch

    frozen = copy.deepcopy(module).to("cpu", getattr(torch, dtype)).eval()
    return frozen.requires_grad_(False)


# -- writing --------------------------------------------------------------------------------------
def _state(members: Sequence[torch.nn.Module]) -> dict[str, NDArray[Any]]:
    return {
        f"m{k}.state.{name}": value.detach().cpu().numpy()
        for k, module in enumerate(members)
        for name, value in module.state_dict().items()
    }


def _one_table(native: Sequence[Native]) -> None:
    told = [n.told() for n in native]
    if any(t != told[0] for t in told[1:]):
        raise InvalidArgument("native: all members must have the same knots or layers")


def write_model(
    path: str | Path,
    contract: Contract,
    networks: torch.nn.Module | Sequence[torch.nn.Module],
    *,
    units: Mapping[str, str] | str = "lj",
    training: Mapping[str, Any] | None = None,
    native: Native | Sequence[Native] | None = None,
    torchscript: bool = True,
    compiled: bool = False,
    instruction_set: str | None = None,
    tolerance: float = 1e-4,
) -> ModelBundle:
    """Write a bundle of one network or a committee, verified before anything is put in place.

    Every engine is compared with the networks on random inputs of several sizes; only then is the
    folder renamed to `path`. The manifest keeps what was measured.

    Args:
        path: folder to appear; a bundle already there is replaced as a whole.
        contract: what the networks see and give.
        networks: one torch module or several (a committee), of one class registered with
            `mlcore.networks` and in the calling convention of `mlcore.export.contract`.
        units: names of the units of length, energy and time, or one word for all.
        training: where it came from; anything JSON can hold.
        native: numbers for the core's own engine, one of each network.
        torchscript: write model_0.pt, ..
        compiled: write model_0.pt2, .. (half a minute each, needs a C++ compiler).
        instruction_set: of the .pt2: "baseline", "avx2", "avx512"; None takes this machine's best.
        tolerance: largest error of a native table relative to the largest value; `verify` and
            `rebuild` refuse bundles with more than 1e-3.

    Raises:
        InvalidArgument: naming the argument.
        Error: an engine does not agree with the networks, or a file cannot be written.
        BackendUnavailable: compiled, but no C++ compiler.
    """
    import torch

    members = [networks] if isinstance(networks, torch.nn.Module) else list(networks)
    natives = None
    if native is not None:
        natives = [native] if not isinstance(native, Sequence) else list(native)
    network = _common_network(members)
    if natives is not None:
        if len(natives) != len(members):
            raise InvalidArgument(f"native: needs {len(members)} members, not {len(natives)}")
        _one_table(natives)
        for one in natives:
            check_fits(contract, one)
    if natives is None and not torchscript and not compiled:
        raise InvalidArgument("native, torchscript, compiled: at least one engine must be written")
    target = Path(path)
    told_units = checked_units(units)
    exact = [_frozen(module, "float64") for module in members]
    same = [_frozen(module, contract.dtype) for module in members]
    with bundle_folder(target) as folder:
        engines: dict[str, Any] = {}
        tensors = _state(members)
        if natives is not None:
            engines["native"] = natives[0].told()
            for k, one in enumerate(natives):
                tensors |= {f"m{k}.{name}": value for name, value in one.tensors().items()}
        write_tensors(folder / WEIGHTS, tensors)
        engines |= _code(folder, contract, same, torchscript, compiled, instruction_set)
        verified = _verified(folder, contract, exact, same, natives, engines, tolerance)
        parts = {
            "model": contract.to_manifest(len(members)),
            "network": network,
            "engines": engines,
            "verified": verified,
        }
        write_manifest(folder, contract.kind, told_units, training or {}, parts)
        load_model(folder)
    return load_model(target)


def _common_network(members: Sequence[torch.nn.Module]) -> dict[str, Any]:
    if not members:
        raise InvalidArgument("networks must hold at least one")
    told = [{"class": registry.name_of(m), "arguments": registry.arguments_of(m)} for m in members]
    if any(t != told[0] for t in told[1:]):
        raise InvalidArgument("networks of a committee must be of one class and size")
    return told[0]


def _code(
    folder: Path,
    contract: Contract,
    members: Sequence[torch.nn.Module],
    torchscript: bool,
    compiled: bool,
    target: str | None,
) -> dict[str, Any]:
    """Write .pt and .pt2 files; what the manifest says of them."""
    engines: dict[str, Any] = {}
    if torchscript:
        from mlcore.export.torchscript import write_script

        names = [f"model_{k}.pt" for k in range(len(members))]
        for name, module in zip(names, members, strict=True):
            write_script(module, contract, folder / name)
        engines["torchscript"] = {"files": names}
    if compiled:
        from mlcore.export.compiled import write_compiled

        names = [f"model_{k}.pt2" for k in range(len(members))]
        told: dict[str, Any] = {}
        for name, module in zip(names, members, strict=True):
            told = write_compiled(module, contract, folder / name, target)
        engines["compiled"] = {"files": names, **told}
    return engines


def _verified(
    folder: Path,
    contract: Contract,
    exact: Sequence[torch.nn.Module],
    same: Sequence[torch.nn.Module],
    natives: Sequence[Native] | None,
    engines: Mapping[str, Any],
    tolerance: float,
) -> dict[str, float]:
    """Largest relative error of every engine; raises Error when one is too large."""
    from mlcore.export import verification

    rounding = 1e-10 if contract.dtype == "float64" else 2e-4
    found = {}
    if natives is not None:
        allowed = tolerance if isinstance(natives[0], PairTable) else 1e-10
        found["native"] = verification.native(contract, exact, natives, allowed)
    if "torchscript" in engines:
        files = [folder / n for n in engines["torchscript"]["files"]]
        found["torchscript"] = verification.torchscript(contract, same, files, rounding)
    if "compiled" in engines:
        told = engines["compiled"]
        files = [folder / n for n in told["files"]]
        found["compiled"] = verification.compiled(contract, same, files, told, rounding)
    return found


# -- reading --------------------------------------------------------------------------------------
def load_model(path: str | Path, *, code: bool = True) -> ModelBundle:
    """Read and check a bundle of kind force, dynamics or qoi. Nothing is unpickled, no code is run.

    Args:
        path: its folder.
        code: check the hashes of .pt and .pt2 files as well; without, only those of the weights.

    Raises:
        FileFormatError: naming file and field: absent, unreadable, truncated, wrong types or
            shapes, NaN, wrong hash, names that leave the folder.
    """
    folder = Path(path)
    reader = ManifestReader(folder)
    kind = reader.check_kind(*MODEL_KINDS)
    if is_splitting(reader):
        reader.fail("engines.native.kind is 'splitting', which load_splitting reads")
    files = reader.files(None if code else (WEIGHTS,))
    contract = Contract.of_manifest(reader, kind)
    members = reader.whole("model", "members", least=1)
    tensors, _ = read_tensors(folder / WEIGHTS, data=files[WEIGHTS])
    reader.word("network", "class")
    if not isinstance(reader.field("network", "arguments"), dict):
        reader.fail("field network.arguments must be an object")
    _check_engines(reader, members, set(reader.field("files")))
    _check_notes(reader)
    native = read_native(reader, contract, members, tensors)
    return ModelBundle(folder, reader.manifest, contract, members, tensors, native)


def _check_engines(reader: ManifestReader, members: int, listed: set[str]) -> None:
    engines = reader.field("engines")
    known = ("native", "torchscript", "compiled")
    if not isinstance(engines, dict) or not set(engines) & set(known):
        reader.fail(f"field engines must hold at least one of {', '.join(known)}")
    for name, suffix in (("torchscript", ".pt"), ("compiled", ".pt2")):
        if name not in engines:
            continue
        files = reader.field("engines", name, "files")
        if not isinstance(files, list) or len(files) != members:
            reader.fail(
                f"field engines.{name}.files must list as many as model.members: {members} files"
            )
        for file in files:
            if not isinstance(file, str) or not file.endswith(suffix) or file not in listed:
                reader.fail(f"field engines.{name}.files: {file!r} is not among files")
    if "compiled" in engines:
        for name in _COMPILED:
            reader.word("engines", "compiled", name)


def _check_notes(reader: ManifestReader) -> None:
    """What may be left out, but not be anything."""
    for name in ("training", "verified"):
        if reader.has(name) and not isinstance(reader.field(name), dict):
            reader.fail(f"field {name} must be an object")
    for engine in reader.manifest.get("verified", {}):
        if reader.number("verified", engine) < 0:
            reader.fail(f"field verified.{engine} must not be negative")


def rebuild(
    path: str | Path, *, compiled: bool = True, instruction_set: str | None = None
) -> ModelBundle:
    """Make the code of a bundle anew from its weights and the registered class.

    The .pt and .pt2 files there are neither read nor trusted; weights, native numbers, units and
    training stay as they are. Native numbers are compared with the networks again: a table may
    differ by 1e-3 of the largest value, whatever it was written with.

    Args:
        path: the bundle.
        compiled: make .pt2 files too.
        instruction_set: of the .pt2; None takes this machine's best.

    Raises:
        FileFormatError: manifest or weights are damaged.
        Error: the bundle is of kind mobility, the network's class is not registered, or an engine
            does not agree.
        BackendUnavailable: no C++ compiler.
    """
    if ManifestReader(Path(path)).check_kind("mobility", *MODEL_KINDS) == "mobility":
        raise Error(
            f"{path}: a mobility bundle holds no networks to make code from; export its model "
            "(mlcore.export.load_bundle(..).model()) again"
        )
    bundle = load_model(path, code=False)
    members = []
    for member, module in enumerate(bundle.networks("float64")):
        kept = {k: v.dtype for k, v in bundle.tensors.items() if k.startswith(f"m{member}.state.")}
        single = all(d == np.float32 for d in kept.values() if d.kind == "f")
        members.append(module.float() if single else module)
    return write_model(
        path,
        bundle.contract,
        members,
        units=bundle.units,
        training=bundle.manifest.get("training", {}),
        native=bundle.native,
        compiled=compiled,
        instruction_set=instruction_set,
        tolerance=TABLE_ERROR,
    )
