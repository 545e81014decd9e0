"""Models the core evaluates without torch: tables of pair functions, perceptrons, LSTMs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.export.contract import Contract
from mlcore.export.manifest import WEIGHTS, ManifestReader

__all__ = ["ACTIVATIONS", "Lstm", "Native", "PairTable", "Perceptron", "read_native"]

Array = NDArray[np.float64]


_SCALES = ("in_shift", "in_scale", "out_scale", "out_shift")


def _silu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + np.tanh(0.5 * x)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda x: np.asarray(np.tanh(x)),
    "silu": _silu,
    "relu": lambda x: np.asarray(np.maximum(x, 0.0)),
    "softplus": lambda x: np.asarray(np.logaddexp(x, 0.0)),
    "linear": lambda x: x,
}


def _float64(name: str, value: Any) -> Array:
    array = np.ascontiguousarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InvalidArgument(f"{name} holds NaN or infinite numbers")
    return array


@dataclass(frozen=True)
class PairTable:
    """A function of the distance for each pair of types, on uniform knots.

    Between knots it is the cubic Hermite polynomial of values and slopes, zero at and beyond the
    cutoff, a straight line below `first`. For energies it is u(r), E = sum over pairs; for values
    it is the summand s(r), the value of an atom the sum over its neighbors.

    Args:
        first: distance of the first knot, > 0.
        cutoff: distance of the last knot.
        values, slopes: (P, K), P = T(T+1)/2 pairs of types (0,0), (0,1), .., (1,1), ..

    Raises:
        InvalidArgument: naming the argument.
    """

    first: float
    cutoff: float
    values: Array
    slopes: Array

    def __post_init__(self) -> None:
        for name in ("values", "slopes"):
            object.__setattr__(self, name, _float64(name, getattr(self, name)))
        if self.values.ndim != 2 or self.values.shape != self.slopes.shape:
            shapes = f"{self.values.shape} and {self.slopes.shape}"
            raise InvalidArgument(f"values and slopes must be (P, K) alike, not {shapes}")
        if self.values.shape[1] < 2:
            raise InvalidArgument("values must hold at least two knots")
        if not 0 < self.first < self.cutoff:
            raise InvalidArgument(
                f"first must lie between 0 and the cutoff {self.cutoff}, not {self.first!r}"
            )

    @property
    def knots(self) -> Array:
        """(K,) distances."""
        return np.linspace(self.first, self.cutoff, self.values.shape[1])

    def __call__(self, r: Array, pair: NDArray[np.int64]) -> tuple[Array, Array]:
        """Values and slopes (m,) at distances r (m,) of pairs of types (m,)."""
        last = self.values.shape[1] - 2
        step = (self.cutoff - self.first) / (last + 1)
        place = np.clip((r - self.first) / step, 0.0, None)
        cell = np.minimum(place.astype(np.int64), last)
        t = np.minimum(place - cell, 1.0)
        a, b = self.values[pair, cell], self.values[pair, cell + 1]
        da, db = step * self.slopes[pair, cell], step * self.slopes[pair, cell + 1]
        value = a + t * (da + t * (3 * (b - a) - 2 * da - db + t * (2 * (a - b) + da + db)))
        slope = (
            da + t * (2 * (3 * (b - a) - 2 * da - db) + 3 * t * (2 * (a - b) + da + db))
        ) / step
        below = np.minimum(r - self.first, 0.0)
        inside = r < self.cutoff
        return inside * (value + below * slope), inside * slope

    def tensors(self) -> dict[str, Array]:
        """What weights.safetensors holds of it."""
        return {"energy": self.values, "slope": self.slopes}

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"kind": "pair_table", "first": self.first, "knots": self.values.shape[1]}


@dataclass(frozen=True)
class Perceptron:
    """(row - in_shift) / in_scale -> layers, an activation between them -> * out_scale + out_shift.

    A row holds the inputs of an atom (or of a configuration: x block, v block, ..) one after the
    other, types one-hot; a row of the result the forces; dx, then v; or the values, row-major.

    Args:
        weights, biases: of the layers, (outputs, inputs) and (outputs,).
        activation: "tanh", "silu", "relu", "softplus" or "linear".
        in_shift, in_scale, out_scale, out_shift: (inputs,), (inputs,), (outputs,), (outputs,).

    Raises:
        InvalidArgument: naming the argument.
    """

    weights: Sequence[Array]
    biases: Sequence[Array]
    activation: str
    in_shift: Array
    in_scale: Array
    out_scale: Array
    out_shift: Array

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise InvalidArgument(f"activation must be one of {', '.join(ACTIVATIONS)}")
        if not self.weights or len(self.weights) != len(self.biases):
            raise InvalidArgument("weights and biases must be alike in number, at least one")
        for name in ("weights", "biases"):
            object.__setattr__(self, name, tuple(_float64(name, a) for a in getattr(self, name)))
        width = self.weights[0].shape[-1]
        inside = width
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise InvalidArgument(f"weights: layer {number} has shape {weight.shape}")
            width = weight.shape[0]
        for name, size in zip(_SCALES, (inside, inside, width, width), strict=True):
            array = _float64(name, getattr(self, name))
            if array.shape != (size,):
                raise InvalidArgument(f"{name} must have shape ({size},), not {array.shape}")
            object.__setattr__(self, name, array)
        if not self.in_scale.all():
            raise InvalidArgument("in_scale must not hold 0")

    def __call__(self, rows: Array) -> Array:
        """(m, outputs) of rows (m, inputs)."""
        bend = ACTIVATIONS[self.activation]
        inside = (rows - self.in_shift) / self.in_scale
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inside = inside @ weight.T + bias
            if number < len(self.weights) - 1:
                inside = bend(inside)
        return np.asarray(inside * self.out_scale + self.out_shift)

    def tensors(self) -> dict[str, Array]:
        """What weights.safetensors holds of it."""
        found = {name: getattr(self, name) for name in _SCALES}
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found |= {f"w{number}": weight, f"b{number}": bias}
        return found

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"kind": "mlp", "layers": len(self.weights), "activation": self.activation}


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


@dataclass(frozen=True)
class Lstm:
    """(row - in_shift) / in_scale -> LSTM layers -> linear head -> * out_scale + out_shift.

    Rows are those of `Perceptron`. A layer is (i, f, g, o) = w_ih x + w_hh h + b,
    c = sigma(f) c + sigma(i) tanh(g), h = sigma(o) tanh(c); the memory of a row is h of all layers,
    then c of all layers.

    Args:
        w_ih, w_hh, biases: of the layers, (4H, inputs) and in deeper ones (4H, H); (4H, H); (4H,).
        head, head_bias: (outputs, H) and (outputs,).
        in_shift, in_scale, out_scale, out_shift: (inputs,), (inputs,), (outputs,), (outputs,).

    Raises:
        InvalidArgument: naming the argument.
    """

    w_ih: Sequence[Array]
    w_hh: Sequence[Array]
    biases: Sequence[Array]
    head: Array
    head_bias: Array
    in_shift: Array
    in_scale: Array
    out_scale: Array
    out_shift: Array

    def __post_init__(self) -> None:
        layers = {len(self.w_ih), len(self.w_hh), len(self.biases)}
        if len(layers) != 1 or 0 in layers:
            raise InvalidArgument("w_ih, w_hh and biases must be alike in number, at least one")
        for name in ("w_ih", "w_hh", "biases"):
            object.__setattr__(self, name, tuple(_float64(name, a) for a in getattr(self, name)))
        for name in ("head", "head_bias", *_SCALES):
            object.__setattr__(self, name, _float64(name, getattr(self, name)))
        for name, found, wanted in self._shapes():
            if found != wanted:
                raise InvalidArgument(f"{name} must have shape {wanted}, not {found}")
        if not self.in_scale.all():
            raise InvalidArgument("in_scale must not hold 0")

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
        """Names of the arrays, the shapes they have and those they must have."""
        inside, outside, units = self.in_shift.size, self.out_shift.size, self.hidden
        for layer, (ih, hh, b) in enumerate(zip(self.w_ih, self.w_hh, self.biases, strict=True)):
            yield f"w_ih of layer {layer}", ih.shape, (4 * units, units if layer else inside)
            yield f"w_hh of layer {layer}", hh.shape, (4 * units, units)
            yield f"biases of layer {layer}", b.shape, (4 * units,)
        yield "head", self.head.shape, (outside, units)
        yield "head_bias", self.head_bias.shape, (outside,)
        for name, size in zip(_SCALES, (inside, inside, outside, outside), strict=True):
            yield name, getattr(self, name).shape, (size,)

    @property
    def hidden(self) -> int:
        """H, units in a layer."""
        return int(self.w_hh[0].shape[-1])

    @property
    def memory(self) -> int:
        """Numbers that a row keeps."""
        return 2 * len(self.w_ih) * self.hidden

    def __call__(self, rows: Array, memory: Array) -> tuple[Array, Array]:
        """(m, outputs) of rows (m, inputs) and the memory to go on from, (m, memory)."""
        kept = np.array(memory).reshape(len(rows), 2, len(self.w_ih), self.hidden)
        h = (rows - self.in_shift) / self.in_scale
        for layer, (ih, hh, b) in enumerate(zip(self.w_ih, self.w_hh, self.biases, strict=True)):
            gates = h @ ih.T + kept[:, 0, layer] @ hh.T + b
            i, f, g, o = np.split(gates, 4, axis=1)
            c = _sigmoid(f) * kept[:, 1, layer] + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            kept[:, 0, layer], kept[:, 1, layer] = h, c
        out = (h @ self.head.T + self.head_bias) * self.out_scale + self.out_shift
        return np.asarray(out), kept.reshape(len(rows), self.memory)

    def tensors(self) -> dict[str, Array]:
        """What weights.safetensors holds of it."""
        found = {"head.w": self.head, "head.b": self.head_bias}
        found |= {name: getattr(self, name) for name in _SCALES}
        for layer, parts in enumerate(zip(self.w_ih, self.w_hh, self.biases, strict=True)):
            for name, part in zip(("w_ih", "w_hh", "b"), parts, strict=True):
                found[f"lstm{layer}.{name}"] = part
        return found

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"kind": "lstm", "layers": len(self.w_ih), "hidden": self.hidden}


Native = PairTable | Perceptron | Lstm


def check_fits(contract: Contract, native: Native) -> None:
    """Raises InvalidArgument when a native model cannot stand for a contract."""
    if isinstance(native, PairTable):
        pairs = contract.types * (contract.types + 1) // 2
        if contract.sees != "neighbors" or contract.shape not in (None, (1,)):
            raise InvalidArgument("native: a table of pairs needs neighbors and one value an atom")
        if len(native.values) != pairs or native.cutoff != contract.cutoff:
            raise InvalidArgument(
                f"native: needs {pairs} pairs of {contract.types} types up to the cutoff "
                f"{contract.cutoff}"
            )
        return
    if contract.sees == "neighbors" or contract.gives == "energy":
        raise InvalidArgument(
            "native: networks of rows give forces, steps or values, of no neighbors"
        )
    if contract.sees == "configuration" and contract.particles is None:
        raise InvalidArgument("particles must be given for native rows of a configuration")
    keeps = native.memory if isinstance(native, Lstm) else 0
    if keeps != contract.memory:
        raise InvalidArgument(f"native: keeps a memory of {keeps}, the contract {contract.memory}")
    width, outputs = row_sizes(contract)
    if native.in_shift.shape != (width,) or native.out_shift.shape != (outputs,):
        found = f"{native.in_shift.size} -> {native.out_shift.size}"
        raise InvalidArgument(
            f"native: rows of the model must be {width} -> {outputs}, not {found}"
        )


def row_sizes(contract: Contract) -> tuple[int, int]:
    """Numbers in a row of a perceptron and in a row of its result."""
    n = contract.particles if contract.sees == "configuration" and contract.particles else 1
    widths = {"x": 3 * n, "v": 3 * n, "f": 3 * n, "types": contract.types * n}
    widths |= {"time": 1, "cell": 9}
    values = int(np.prod(contract.shape or (0,)))
    outputs = {"forces": 3 * n, "step": 6 * n, "values": values}
    return sum(widths[name] for name in contract.inputs), outputs[contract.gives]


def read_native(
    reader: ManifestReader, contract: Contract, members: int, tensors: Mapping[str, Any]
) -> list[Native] | None:
    """The native models of all members; None when the bundle has none.

    Raises:
        FileFormatError: naming file and field.
    """
    if not reader.has("engines", "native"):
        return None
    kind = reader.word("engines", "native", "kind", among=tuple(_READERS))
    found = []
    for member in range(members):
        try:
            native = _READERS[kind](reader, contract, f"m{member}.", tensors)
            check_fits(contract, native)
        except InvalidArgument as error:
            raise FileFormatError(f"{reader.where}: engines.native: {error}") from error
        found.append(native)
    return found


def _tensor(reader: ManifestReader, tensors: Mapping[str, Any], name: str) -> Array:
    where = f"{reader.path / WEIGHTS}: tensor {name!r}"
    if name not in tensors:
        raise FileFormatError(f"{where} of engines.native is missing")
    if tensors[name].dtype != np.float64:
        raise FileFormatError(f"{where} must be F64, not {tensors[name].dtype}")
    return np.asarray(tensors[name])


def _read_table(
    reader: ManifestReader, contract: Contract, prefix: str, tensors: Mapping[str, Any]
) -> Native:
    knots = reader.whole("engines", "native", "knots", least=2)
    first = reader.number("engines", "native", "first", positive=True)
    values, slopes = (_tensor(reader, tensors, prefix + n) for n in ("energy", "slope"))
    if values.shape[-1:] != (knots,):
        where = f"{reader.path / WEIGHTS}: tensor {prefix + 'energy'!r}"
        raise FileFormatError(f"{where} must have {knots} knots, not shape {values.shape}")
    return PairTable(first, contract.cutoff or 0.0, values, slopes)


def _read_perceptron(
    reader: ManifestReader, contract: Contract, prefix: str, tensors: Mapping[str, Any]
) -> Native:
    layers = reader.whole("engines", "native", "layers", least=1)
    activation = reader.word("engines", "native", "activation", among=tuple(ACTIVATIONS))
    return Perceptron(
        [_tensor(reader, tensors, f"{prefix}w{k}") for k in range(layers)],
        [_tensor(reader, tensors, f"{prefix}b{k}") for k in range(layers)],
        activation,
        *(_tensor(reader, tensors, prefix + name) for name in _SCALES),
    )


def _read_lstm(
    reader: ManifestReader, contract: Contract, prefix: str, tensors: Mapping[str, Any]
) -> Native:
    layers = reader.whole("engines", "native", "layers", least=1)
    hidden = reader.whole("engines", "native", "hidden", least=1)
    w_ih, w_hh, biases = (
        [_tensor(reader, tensors, f"{prefix}lstm{k}.{name}") for k in range(layers)]
        for name in ("w_ih", "w_hh", "b")
    )
    names = ("head.w", "head.b", *_SCALES)
    rest = (_tensor(reader, tensors, prefix + name) for name in names)
    native = Lstm(w_ih, w_hh, biases, *rest)
    if native.hidden != hidden:
        raise FileFormatError(
            f"{reader.path / WEIGHTS}: tensor {prefix + 'lstm0.w_hh'!r} must have {hidden} columns, "
            f"not {native.hidden}"
        )
    return native


_READERS = {"pair_table": _read_table, "mlp": _read_perceptron, "lstm": _read_lstm}
