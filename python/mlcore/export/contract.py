"""What a model of a bundle is given and what it gives back, whoever calls it.

neighbors: forward(D (E,3), i (E,) int64, j (E,) int64, types (N,) int64 from 0), D = x_j - x_i, over
all ordered pairs within the cutoff whose i is owned: energies (N,), or values (N, K).
atoms, configuration: forward(*inputs) with x, v, f (n,3), types (n,) int64 from 0, time (),
cell (3,3) rows, in this order, as far as `inputs` names them. Energy: (n,) of atoms, () of a
configuration; forces (n,3); step: dx (n,3) and v (n,3); values: (n,K) of atoms, `shape` of a
configuration.

A model of steps may keep a state, `memory` numbers of each row (a row is an atom, or the whole
configuration): forward takes it after all inputs, (n,memory) of atoms, (1,memory) of a
configuration, and gives back after all else what it wants to be given in the next step. Whoever
runs the model keeps it, with the atoms where they go, begins with zeros, and does not look inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlcore.errors import InvalidArgument
from mlcore.export.manifest import ManifestReader, is_finite

__all__ = ["INPUTS", "Contract"]

INPUTS = ("x", "v", "f", "types", "time", "cell")
_GIVES = {"force": ("energy", "forces"), "dynamics": ("step",), "qoi": ("values",)}
_SEES = ("neighbors", "atoms", "configuration")
_MOST = 1 << 24
_REDUCE = ("mean", "sum", "none")


@dataclass(frozen=True)
class Contract:
    """What a model sees and gives.

    Args:
        kind: "force", "dynamics" or "qoi".
        sees: "neighbors", "atoms" (each on its own) or "configuration" (the whole group).
        gives: "energy" or "forces" (force), "step" (dynamics), "values" (qoi).
        inputs: ordered subset of x, v, f, types, time, cell; empty for neighbors.
        dtype: of all real inputs and outputs.
        cutoff: of the neighbors; None where there are none.
        types: number of atom types.
        particles: number of atoms a configuration must have; None takes any number.
        shape: of the values of a qoi: (K,), or (K, L) of a configuration.
        reduce: how the values of atoms become one of the group: "mean", "sum", or "none" (kept).
        timestep: time of a step (dynamics), which a run must have; None: any.
        memory: numbers of state that a row keeps from step to step (dynamics); 0: none.

    Raises:
        InvalidArgument: naming the argument.
    """

    kind: Literal["force", "dynamics", "qoi"]
    sees: Literal["neighbors", "atoms", "configuration"]
    gives: Literal["energy", "forces", "step", "values"]
    inputs: tuple[str, ...] = ()
    dtype: Literal["float32", "float64"] = "float64"
    cutoff: float | None = None
    types: int = 1
    particles: int | None = None
    shape: tuple[int, ...] | None = None
    reduce: Literal["mean", "sum", "none"] | None = None
    timestep: float | None = None
    memory: int = 0

    def __post_init__(self) -> None:
        _among("kind", self.kind, tuple(_GIVES))
        _among("sees", self.sees, _SEES)
        _among("gives", self.gives, _GIVES[self.kind])
        _among("dtype", self.dtype, ("float32", "float64"))
        object.__setattr__(self, "inputs", tuple(self.inputs))
        self._check_inputs()
        _whole("types", self.types)
        if self.particles is not None:
            _whole("particles", self.particles)
            if self.sees != "configuration":
                raise InvalidArgument(f"particles must be None for a model that sees {self.sees}")
        if self.timestep is not None and (self.kind != "dynamics" or not _positive(self.timestep)):
            raise InvalidArgument(
                f"timestep must be None, or positive in kind 'dynamics', not {self.timestep!r}"
            )
        if self.memory != 0:
            _whole("memory", self.memory)
            if self.kind != "dynamics":
                raise InvalidArgument(f"memory must be 0: kind {self.kind!r} keeps no state")
        self._check_values()

    def _check_inputs(self) -> None:
        if self.sees == "neighbors":
            if self.gives not in ("energy", "values"):
                raise InvalidArgument(f"gives must not be {self.gives!r} of neighbors")
            if self.inputs:
                raise InvalidArgument("inputs must be empty: neighbors are told by D, i, j, types")
            if not _positive(self.cutoff):
                raise InvalidArgument(f"cutoff must be a positive length, not {self.cutoff!r}")
            return
        if self.cutoff is not None and not _positive(self.cutoff):
            raise InvalidArgument(f"cutoff must be None or a positive length, not {self.cutoff!r}")
        given = tuple(name for name in INPUTS if name in self.inputs)
        if not given or given != self.inputs:
            raise InvalidArgument(
                f"inputs must be some of {', '.join(INPUTS)} in this order, not {self.inputs!r}"
            )
        if not set(given) & {"x", "v", "f", "types"}:
            raise InvalidArgument("inputs must name at least one of x, v, f, types")
        if self.gives == "energy" and "x" not in given:
            raise InvalidArgument("inputs must name x: forces are minus the energy's gradient in x")

    def _check_values(self) -> None:
        if self.kind != "qoi":
            if self.shape is not None or self.reduce is not None:
                raise InvalidArgument("shape and reduce belong to kind 'qoi'")
            return
        axes = (1, 2) if self.sees == "configuration" else (1,)
        shape = self.shape
        if shape is None or len(shape) not in axes:
            raise InvalidArgument(f"shape must hold {' or '.join(map(str, axes))} sizes: {shape!r}")
        object.__setattr__(self, "shape", tuple(shape))
        for size in shape:
            _whole("shape", size)
        if self.sees == "configuration":
            if self.reduce is not None:
                raise InvalidArgument("reduce must be None: the values are the configuration's own")
        else:
            _among("reduce", self.reduce, _REDUCE)

    @property
    def differentiates(self) -> bool:
        """Whether a caller needs the gradient of what the model gives."""
        return self.gives == "energy"

    def to_manifest(self, members: int) -> dict[str, Any]:
        """The object `model` of a manifest."""
        told = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        del told["kind"]
        if self.sees == "neighbors":
            del told["inputs"]
        if self.kind != "qoi":
            del told["shape"]
        for name in ("reduce", "timestep"):
            if told[name] is None:
                del told[name]
        if not self.memory:
            del told["memory"]
        return {**told, "members": members}

    @classmethod
    def of_manifest(cls, reader: ManifestReader, kind: str) -> Contract:
        """Read and check the object `model`.

        Raises:
            FileFormatError: naming file and field.
        """

        def optional(name: str) -> Any:
            return reader.field("model", name) if reader.has("model", name) else None

        def sequence(name: str) -> Any:
            value = optional(name)
            if value is not None and not isinstance(value, list):
                reader.fail(f"field model.{name} must be a list, not {value!r}")
            return None if value is None else tuple(value)

        required = {name: reader.field("model", name) for name in ("sees", "gives", "dtype")}
        types = reader.whole("model", "types", least=1)
        inputs = sequence("inputs") or ()
        try:
            return cls(
                kind=kind,  # type: ignore[arg-type]
                **required,
                inputs=inputs,
                cutoff=optional("cutoff"),
                types=types,
                particles=optional("particles"),
                shape=sequence("shape"),
                reduce=optional("reduce"),
                timestep=optional("timestep"),
                memory=optional("memory") or 0,
            )
        except InvalidArgument as error:
            reader.fail(f"field model: {error}")


def _among(name: str, value: Any, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgument(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise InvalidArgument(f"{name} must be a whole number in 1..{_MOST}, not {value!r}")


def _positive(value: Any) -> bool:
    return is_finite(value) and value > 0
