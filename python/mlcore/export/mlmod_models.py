"""Networks in MLMOD's calling convention, and the files of every mode of MLMOD.

One float32 column in: X block (3 numbers an atom), V block, F block, Type block (1 an atom, from 1),
Time, as far as the mask names them; one float32 column (K,1) out. The number of atoms is fixed in
the file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mlcore.errors import Error, InvalidArgument
from mlcore.export.contract import Contract
from mlcore.export.mlmod_params import MASKS, MODES, checked_tags, write_parameters
from mlcore.export.torchscript import load_script, save_traced
from mlcore.io.atomic import atomic_path

__all__ = ["Column", "WholeMobility", "mask_of", "write_mlmod"]

_BLOCKS = {"X": 3, "V": 3, "F": 3, "Type": 1}
_OF_INPUT = {"x": "X", "v": "V", "f": "F", "types": "Type", "time": "Time"}


def mask_of(contract: Contract) -> tuple[str, ...]:
    """The `mask_input` a network of a contract needs.

    A step is added to the positions: X is needed whether or not the network sees x.
    """
    if contract.sees == "neighbors":
        return ("X", "Type") if contract.types > 1 else ("X",)
    moves = contract.gives == "step"
    return tuple(b for n, b in _OF_INPUT.items() if n in contract.inputs or (moves and n == "x"))


def column_length(mask: Sequence[str], particles: int) -> int:
    """Rows of the input column."""
    return sum(1 if name == "Time" else _BLOCKS[name] * particles for name in mask)


class Column(torch.nn.Module):
    """A network of a bundle, called MLMOD's way: forces, [new X; new V], or values come out.

    Energies are differentiated, so what is traced holds forces; neighbors are all pairs of the
    group, by the nearest image where there is a cell; values of atoms are reduced.

    Args:
        network: in the calling convention of `mlcore.export.contract`; copied.
        contract: what it sees and gives.
        particles: number of atoms.
        cell: (3, 3) rows or (3,) lengths of a periodic box; None is open space. Networks of atoms
            and configurations get positions inside it, its lower corner at 0, as from a bundle.

    Raises:
        InvalidArgument: the number of atoms is not the contract's, or a cell is needed.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        contract: Contract,
        particles: int,
        cell: ArrayLike | None = None,
    ) -> None:
        super().__init__()
        if contract.particles not in (None, particles):
            raise InvalidArgument(f"particles must be {contract.particles}, not {particles}")
        if particles < 1:
            raise InvalidArgument(f"particles must be at least 1, not {particles}")
        if "cell" in contract.inputs and cell is None:
            raise InvalidArgument("cell is needed: the network sees it, MLMOD does not pass it")
        self.network = copy.deepcopy(network).double().eval().requires_grad_(False)
        self.contract = contract
        self.particles = particles
        rows = np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=np.float64)
        rows = np.diag(rows) if rows.shape == (3,) else rows
        self.periodic = cell is not None
        self.cell: Tensor
        self.register_buffer("cell", torch.from_numpy(np.array(rows)))

    @property
    def mask(self) -> tuple[str, ...]:
        """Its `mask_input`."""
        return mask_of(self.contract)

    def inputs(self, column: Tensor) -> dict[str, Tensor]:
        """Named inputs of the network."""
        n, start = self.particles, 0
        flat = column.double().reshape(-1)
        found: dict[str, Tensor] = {"cell": self.cell, "types": flat.new_zeros(n).long()}
        for name, block in ((k, v) for k, v in _OF_INPUT.items() if v in self.mask):
            size = column_length((block,), n)
            part = flat[start : start + size]
            start += size
            if name == "types":
                found[name] = (part + 0.5).long() - 1
            elif name == "time":
                found[name] = part[0]
            else:
                found[name] = part.reshape(n, 3)
        return found

    def forward(self, column: Tensor) -> Tensor:
        given = self.inputs(column)
        if self.contract.gives == "energy":
            return self._forces(given).reshape(-1, 1).float()
        out = self._call(given)
        if self.contract.gives == "step":
            moved = torch.cat([(given["x"] + out[0]).reshape(-1), out[1].reshape(-1)])
            return moved.reshape(-1, 1).float()
        values: Tensor = out
        if self.contract.reduce in ("mean", "sum"):
            values = values.mean(0) if self.contract.reduce == "mean" else values.sum(0)
        elif self.contract.gives == "values" and values.dim() == 2:
            return values.contiguous().float()
        return values.reshape(-1, 1).float()

    def _call(self, given: Mapping[str, Tensor]) -> Any:
        if self.contract.sees == "neighbors":
            D, i, j = self._pairs(given["x"])
            found: Any = self.network(D, i, j, given["types"])
        else:
            found = self.network(*(self._seen(given, name) for name in self.contract.inputs))
        return found

    def _seen(self, given: Mapping[str, Tensor], name: str) -> Tensor:
        """An input; positions inside the box."""
        value = given[name]
        if name != "x" or not self.periodic:
            return value
        return value - torch.floor(value @ torch.linalg.pinv(self.cell)) @ self.cell

    def _pairs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        i, j = torch.nonzero(~torch.eye(self.particles, dtype=torch.bool), as_tuple=True)
        D = torch.index_select(x, 0, j) - torch.index_select(x, 0, i)
        if self.periodic:
            D = D - torch.round(D @ torch.linalg.pinv(self.cell)) @ self.cell
        return D, i, j

    def _forces(self, given: dict[str, Tensor]) -> Tensor:
        x = given["x"].detach().requires_grad_(True)
        energy = self._call({**given, "x": x}).sum()
        (slope,) = torch.autograd.grad(energy, x)
        return -slope


class WholeMobility(torch.nn.Module):
    """M of n particles from M_ii and M_ij: (3n,1) positions in, (9 n^2,1) row-major out.

    Args:
        own, pair: modules of MLMOD's pair modes, (3,1) -> (9,1) and (6,1) -> (9,1).
        particles: n.
    """

    def __init__(self, own: torch.nn.Module, pair: torch.nn.Module, particles: int) -> None:
        super().__init__()
        self.own = own
        self.pair = pair
        self.particles = particles

    def forward(self, column: Tensor) -> Tensor:
        n = self.particles
        x = column.reshape(n, 3)
        i, j = torch.triu_indices(n, n, 1)
        both = torch.cat([x[i], x[j]], 1)[:, :, None]
        blocks = torch.zeros(n, n, 3, 3, dtype=column.dtype)
        each = torch.arange(n)
        blocks[each, each] = torch.vmap(self.own)(x[:, :, None]).reshape(n, 3, 3)
        if n > 1:
            upper = torch.vmap(self.pair)(both).reshape(-1, 3, 3)
            blocks[i, j] = upper
            blocks[j, i] = upper.transpose(1, 2)
        return blocks.permute(0, 2, 1, 3).reshape(-1, 1)


# -- files ----------------------------------------------------------------------------------------
def _sizes(mode: str, tag: str, tags: Mapping[str, str], n: int | None) -> tuple[int, int | None]:
    """Rows of the input column and of the output (None: any) of one model file."""
    if tag in ("M_ii_filename", "M_ij_filename"):
        return (3 if tag == "M_ii_filename" else 6), 9
    atoms = {"F_X_ML1": 1, "F_Pair_ML1": 2}.get(mode, n)
    if atoms is None:
        raise InvalidArgument(f"particles must be given for {mode}: its models hold the number")
    if mode == "dX_MF_Q1_ML1_N2N":
        return 3 * atoms, 9 * atoms**2
    rows = column_length([m for m in MASKS if m in tags["mask_input"].split()], atoms)
    return rows, {"QoI_ML1": None, "Dyn_ML1": 6 * atoms}.get(mode, 3 * atoms)


def _traceable(module: torch.nn.Module, example: Tensor) -> torch.nn.Module:
    """Gradients taken inside become plain operations, which can be traced."""
    from torch.fx.experimental.proxy_tensor import make_fx

    if not isinstance(module, Column) or module.contract.gives != "energy":
        return module
    graph: torch.nn.Module = make_fx(module, _allow_non_fake_inputs=True)(example)
    return graph


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """In eval mode; all parts are afterwards in the mode they were in."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _write_model(
    module: torch.nn.Module, path: Path, name: str, rows: int, wanted: int | None
) -> None:
    """Trace a module to a path and check what was written; errors call it by its name."""
    generator = torch.Generator().manual_seed(0)
    examples = [1 + torch.rand(rows, 1, generator=generator) for _ in range(3)]
    try:
        with _evaluating(module):
            want = [module(x).detach() for x in examples]
            save_traced(_traceable(module, examples[0]), (examples[0],), path)
    except (RuntimeError, IndexError) as error:
        last = str(error).strip().splitlines()[-1]
        raise Error(f"{name}: forward() fails on ({rows},1): {last}") from error
    script = load_script(path)
    for x, expected in zip(examples, want, strict=True):
        with torch.no_grad():
            out = script(x)
        fits = isinstance(out, Tensor) and out.dtype == torch.float32 and out.dim() == 2
        if not fits or (wanted is not None and out.shape != (wanted, 1)):
            told = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out)
            raise Error(f"{name}: forward() must give float32 ({wanted or 'K'},1), gave {told}")
        scale = float(expected.abs().max()) + 1e-30
        if not float((out - expected).abs().max()) <= 1e-5 * scale:
            raise Error(f"{name}: the traced model differs from forward()")


def write_mlmod(
    path: str | Path,
    mode: str,
    models: Mapping[str, torch.nn.Module | str | Path] | None = None,
    *,
    particles: int | None = None,
    **tags: Any,
) -> dict[str, str]:
    """Write the files of one mode of MLMOD: XML, and a TorchScript file for each model.

    Models are written beside their places and compared with their modules there; only when all
    agree are they put in place, and the XML after them.

        forces = Column(network, contract, particles=1)        # an ExternalForce, for instance
        write_mlmod("drag.mlmod_params", "F_X_ML1", {"F_filename": forces})

    Args:
        path: the XML file; the .pt files go beside it, named after it and their tags.
        mode: one of `MODES`: dX_MF, dX_MF_ML1, dX_MF_Q1_ML1_Pair, dX_MF_Q1_ML1_N2N, F_ML1, F_X_ML1,
            F_Pair_ML1, QoI_ML1, Dyn_ML1.
        models: by tag (F_filename, M_ii_filename, ..): a module in MLMOD's calling convention (see
            `Column`), which is traced, or the name of a TorchScript file that is there already.
        particles: number of atoms, where the models hold it (N2N, F_ML1, QoI_ML1, Dyn_ML1).
        tags: all other tags; see `MODES`. mask_input may be left out beside a `Column`, base_name
            is by default the name of the XML file.

    Returns:
        The tags as written.

    Raises:
        InvalidArgument: naming mode or tag.
        Error: a model does not follow the convention, or a file cannot be written.
    """
    target = Path(path)
    given = dict(models or {})
    whole: dict[str, Any] = dict(tags)
    if "base_name" in MODES.get(mode, {}):
        whole.setdefault("base_name", target.name.split(".")[0])
    columns = [m for m in given.values() if isinstance(m, Column)]
    if columns and "mask_input" in MODES.get(mode, {}):
        whole.setdefault("mask_input", columns[0].mask)
    for tag, model in given.items():
        stem = f"{target.name.split('.')[0]}_{tag.removesuffix('_filename')}.pt"
        whole[tag] = target.parent / stem if isinstance(model, torch.nn.Module) else model
    found = checked_tags(mode, whole)
    for column in columns:
        if "mask_input" in found and " ".join(column.mask) != found["mask_input"]:
            needs = " ".join(column.mask)
            raise InvalidArgument(f"tag 'mask_input' must be {needs!r}, which the network sees")
    with ExitStack() as places:
        for tag, model in given.items():
            if isinstance(model, torch.nn.Module):
                final = Path(found[tag])
                rows, wanted = _sizes(mode, tag, found, particles)
                beside = places.enter_context(atomic_path(final))
                _write_model(model, beside, final.name, rows, wanted)
    write_parameters(target, mode, found)
    return found
