"""What every learned force shares: evaluation here, in ASE, and export to where it runs."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import Error, InvalidArgument
from mlcore.export import Contract, ModelBundle, write_model
from mlcore.export.native import Native
from mlcore.forces.frames import Configuration, Kinds
from mlcore.forces.graph import edges
from mlcore.training import TrainingResult

if TYPE_CHECKING:
    from mlcore.forces.calculator import ForceCalculator

__all__ = ["Dtype", "Evaluation", "ForceFit", "ForceModel"]

Array = NDArray[np.float64]
Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class Evaluation:
    """What a model says of one configuration.

    Args:
        energies: (n,) of the atoms, zero for atoms far from all others; None of a force without
            potential.
        forces: (n, 3).
        virial: (3, 3) sum of D (x) dE/dD over pairs; None where the model sees no pairs.
        spread: (n,) root mean square deviation of the members' forces from their mean.
    """

    energies: Array | None
    forces: Array
    virial: Array | None
    spread: Array

    @property
    def energy(self) -> float | None:
        """Of the whole configuration."""
        return None if self.energies is None else float(self.energies.sum())


@dataclass(frozen=True)
class ForceFit:
    """Outcome of a fit; errors are root mean squares in the units of the frames.

    Args:
        training: of the training loop; None where a linear solve was enough.
        force_error, energy_error: of a force component, and of the energy an atom, over the frames
            learned from; nan where not known.
        held_out_force_error, held_out_energy_error: the same over the frames held out.
        seconds: wall time.
    """

    training: TrainingResult | None
    force_error: float
    energy_error: float
    held_out_force_error: float
    held_out_energy_error: float
    seconds: float


class ForceModel(ABC):
    """A force learned from frames.

    Args:
        types: number of atom types, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        units: of velocities that `ase.Atoms` bring; see `ExternalForce`.
    """

    def __init__(self, types: int | str | Sequence[str], units: str | None = None) -> None:
        self.kinds = Kinds(types, units)
        self._cached: tuple[str, list[torch.nn.Module]] | None = None

    # -- what the kinds of models differ in -------------------------------------------------------
    @abstractmethod
    def networks(self) -> list[torch.nn.Module]:
        """The networks, one of each committee member.

        Raises:
            Error: not fitted yet.
        """

    @abstractmethod
    def contract(self, dtype: Dtype = "float64") -> Contract:
        """What the networks see and give."""

    def native(self) -> list[Native] | None:
        """Numbers for the core's own engine, of each network; None where it has none."""
        return None

    def notes(self) -> dict[str, Any]:
        """Provenance for the manifest."""
        told: dict[str, Any] = {"model": type(self).__name__}
        if self.kinds.symbols is not None:
            told["species"] = list(self.kinds.symbols)
        return told

    # -- evaluation -------------------------------------------------------------------------------
    def _frozen(self, dtype: Dtype) -> list[torch.nn.Module]:
        if self._cached is None or self._cached[0] != dtype:
            wanted = getattr(torch, dtype)
            copies = [copy.deepcopy(m).to(wanted).eval() for m in self.networks()]
            self._cached = (dtype, [m.requires_grad_(False) for m in copies])
        return self._cached[1]

    def evaluate(
        self,
        atoms: Any,
        *,
        types: ArrayLike | None = None,
        cell: ArrayLike | None = None,
        pbc: Any = None,
        velocities: ArrayLike | None = None,
        time: float | None = None,
        dtype: Dtype = "float64",
    ) -> Evaluation:
        """Energies, forces, virial and committee spread of one configuration.

        Args:
            atoms: `ase.Atoms`, or positions (n, 3).
            types: (n,) from 1; None where there is one type, or those of the Atoms.
            cell, pbc: of the positions, see `mlcore.neighbor_list`; None are those of the Atoms.
            velocities: (n, 3) in the model's units, where it sees them; None are those of the
                Atoms, their momenta converted.
            time: where the model sees it; None is the info `time` of the Atoms, or 0.
            dtype: precision of the networks.

        Raises:
            InvalidArgument: naming the argument.
            Error: the model has not been fitted.
        """
        frame = Configuration.of(
            atoms, self.kinds, types=types, cell=cell, pbc=pbc, velocities=velocities, time=time
        )
        return self.of_configuration(frame, dtype)

    def of_configuration(self, frame: Configuration, dtype: Dtype = "float64") -> Evaluation:
        """`evaluate` of a frame already checked."""
        networks = self._frozen(dtype)
        if self.contract(dtype).sees == "neighbors":
            return _of_neighbors(networks, frame, self.contract(dtype))
        return _of_rows(networks, frame, self.contract(dtype))

    def energy(self, atoms: Any, **options: Any) -> float:
        """Energy of a configuration: zero for atoms far from each other. Arguments as `evaluate`.

        Raises:
            Error: the model is a force without a potential.
        """
        found = self.evaluate(atoms, **options).energy
        if found is None:
            raise Error(f"{type(self).__name__} has no energy: its force is not conservative")
        return found

    def forces(self, atoms: Any, **options: Any) -> Array:
        """Forces (n, 3). Arguments as `evaluate`."""
        return self.evaluate(atoms, **options).forces

    def spread(self, atoms: Any, **options: Any) -> Array:
        """Spread of the committee's forces, (n,): sqrt(mean |F_m - F|^2). Arguments as `evaluate`."""
        return self.evaluate(atoms, **options).spread

    def calculator(self, dtype: Dtype = "float64") -> ForceCalculator:
        """A calculator for `ase.Atoms`: energy, forces, stress and the committee's spread."""
        from mlcore.forces.calculator import ForceCalculator

        return ForceCalculator(self, dtype)

    # -- export -----------------------------------------------------------------------------------
    def export(
        self,
        path: str | Path,
        *,
        units: Mapping[str, str] | str | None = None,
        dtype: Dtype = "float64",
        torchscript: bool = True,
        compiled: bool = False,
        instruction_set: str | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> ModelBundle:
        """Write a bundle for `fix mlcore force`, verified before it is put in place.

        Args:
            path: folder to appear; a bundle already there is replaced as a whole.
            units: names of the units of length, energy and time, or one word for all; None: the
                model's, or "lj".
            dtype: precision of the TorchScript and compiled engines; the native one is double.
            torchscript, compiled, instruction_set: see `mlcore.export.write_model`.
            training: further provenance for the manifest.

        Raises:
            Error: not fitted, an engine does not agree with the model, or it cannot be written.
        """
        own = self.kinds.units
        if None not in (own, units) and units != own:
            raise InvalidArgument(f"units must be those of the model, {own!r}, not {units!r}")
        return write_model(
            path,
            self.contract(dtype),
            self.networks(),
            units=units or own or "lj",
            training={**self.notes(), **(training or {})},
            native=self.native(),
            torchscript=torchscript,
            compiled=compiled,
            instruction_set=instruction_set,
        )


def _averaged(
    energies: list[torch.Tensor], forces: list[torch.Tensor], virials: list[torch.Tensor]
) -> Evaluation:
    def mean(parts: list[torch.Tensor]) -> Array | None:
        return torch.stack(parts).double().mean(0).numpy() if parts else None

    every = torch.stack(forces).double()
    away = (every - every.mean(0)).square().sum(-1).mean(0).sqrt()
    return Evaluation(mean(energies), every.mean(0).numpy(), mean(virials), away.numpy())


def _of_neighbors(
    networks: list[torch.nn.Module], frame: Configuration, contract: Contract
) -> Evaluation:
    from mlcore.export.evaluation import outputs

    assert contract.cutoff is not None
    D, i, j = edges(frame, contract.cutoff)
    D, types = D.to(getattr(torch, contract.dtype)), torch.from_numpy(frame.types)
    energies, forces, virials = [], [], []
    for network in networks:
        energy, slope = outputs(network, contract, (D, i, j, types))
        nothing = torch.zeros(len(types), 3, dtype=D.dtype)
        energies.append(energy)
        forces.append(nothing.index_add(0, i, slope).index_add(0, j, -slope))
        virials.append(D.T @ slope)
    return _averaged(energies, forces, virials)


def _of_rows(
    networks: list[torch.nn.Module], frame: Configuration, contract: Contract
) -> Evaluation:
    from mlcore.export.evaluation import outputs

    inputs = row_inputs(frame, contract)
    found = [outputs(network, contract, inputs) for network in networks]
    if contract.gives == "forces":
        return _averaged([], [f[0] for f in found], [])
    energies = [f[0].reshape(-1) for f in found]
    return _averaged(energies, [f[1] for f in found], [])


def row_inputs(frame: Configuration, contract: Contract) -> tuple[torch.Tensor, ...]:
    """Inputs of a network of atoms or of a configuration, in the order of the contract.

    Raises:
        InvalidArgument: the frame does not have one of them.
    """
    dtype = getattr(torch, contract.dtype)
    if "v" in contract.inputs and frame.foreign:
        raise InvalidArgument(
            "velocities of ase.Atoms are in units of ASE: make the model with units='metal', 'real' "
            "or 'lj' (as they are)"
        )
    if "v" in contract.inputs and frame.v is None:
        raise InvalidArgument("velocities are needed: the model sees v")
    given: dict[str, Any] = {
        "x": frame.wrapped(),
        "v": frame.v,
        "f": frame.forces,
        "types": frame.types,
        "time": np.asarray(frame.time),
        "cell": frame.cell,
    }
    chosen = [torch.from_numpy(np.array(given[name])) for name in contract.inputs]
    return tuple(v if v.dtype == torch.int64 else v.to(dtype) for v in chosen)
