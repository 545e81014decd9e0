"""Small fully connected networks at inference: values, and their gradients by the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, apart, host, thread_count
from mlcore.errors import InvalidArgument

__all__ = ["ACTIVATIONS", "MLP"]

ACTIVATIONS = {"linear": 0, "tanh": 1, "silu": 2, "relu": 3, "softplus": 4}
_MODULES = {"Tanh": "tanh", "SiLU": "silu", "ReLU": "relu", "Softplus": "softplus"}

_FEW = 4096  # numbers that need no memory from the pool

Layer = tuple[Any, Any]


class MLP:
    """y = out_scale net((x - in_shift) / in_scale) + out_shift, layers w x + b with an activation
    between them and none after the last.

    Args:
        layers: ``torch.nn.Sequential`` of ``Linear`` and one kind of activation in turns, or a
            sequence of (weight (out, in), bias (out,) or None): NumPy arrays or tensors, all float32
            or all float64, which is then the precision of everything.
        activation: "tanh", "silu", "relu", "softplus" or "linear"; None: that of the module, or
            "tanh".
        in_shift, in_scale: (D,) or a number; None: 0, 1.
        out_shift, out_scale: (O,) or a number; None: 0, 1.

    Attributes:
        inputs, outputs, layers: D, O, number of matrices.
        activation: its name.
        dtype: of weights, inputs and outputs.

    Raises:
        InvalidArgument: a module is no such network, a shape does not fit, a value is not finite.
    """

    __slots__ = ("activation", "core", "dtype", "inputs", "layers", "outputs")

    def __init__(
        self,
        layers: Any,
        activation: str | None = None,
        *,
        in_shift: Any = None,
        in_scale: Any = None,
        out_shift: Any = None,
        out_scale: Any = None,
    ) -> None:
        pairs, self.activation = _layers(layers, activation)
        arrays = [
            (_array(f"weight {k}", weight), None if bias is None else _array(f"bias {k}", bias))
            for k, (weight, bias) in enumerate(pairs)
        ]
        self.dtype = _common([array for pair in arrays for array in pair if array is not None])
        for k, (weight, bias) in enumerate(arrays):
            if weight.ndim != 2 or (bias is not None and bias.ndim != 1):
                raise InvalidArgument(f"weight {k} must have 2 dimensions and bias {k} one")
        inputs, outputs = arrays[0][0].shape[1], arrays[-1][0].shape[0]
        make = _core.MlpFloat32 if self.dtype == np.float32 else _core.MlpFloat64
        self.core: Any = make(
            arrays,
            ACTIVATIONS[self.activation],
            _norm("in_shift", in_shift, inputs, self.dtype),
            _norm("in_scale", in_scale, inputs, self.dtype),
            _norm("out_shift", out_shift, outputs, self.dtype),
            _norm("out_scale", out_scale, outputs, self.dtype),
        )
        self.inputs: int = self.core.inputs
        self.outputs: int = self.core.outputs
        self.layers: int = self.core.layers

    def __repr__(self) -> str:
        return (
            f"MLP(inputs={self.inputs}, outputs={self.outputs}, layers={self.layers}, "
            f"activation={self.activation!r}, dtype={self.dtype.name!r})"
        )

    def __call__(self, x: Any, out: Any = None, num_threads: int | None = None) -> Any:
        """Values of the network.

        Args:
            x: (B, D), or (D,) for one row; NumPy, torch or CuPy, of the network's dtype.
            out: (B, O) or (O,) to write to.
            num_threads: CPU threads over the batch; None takes the library-wide setting.

        Returns:
            y (B, O) or (O,), of the kind of x.

        Raises:
            InvalidArgument: a shape or dtype is wrong, x is not finite.
        """
        rows, kind, batched = self._rows("x", x, self.inputs)
        filled, result = self._output(kind, rows, batched, self.outputs, out)
        if out is not None:
            apart(filled, x=rows)
        self.core.run(rows, filled, None, None, False, thread_count(num_threads), kind.stream())
        return result

    def gradient(
        self, x: Any, v: Any = None, out: Any = None, num_threads: int | None = None
    ) -> Any:
        """Gradient of sum_o v_o y_o by the inputs, of every row.

        Args:
            x: as in a call.
            v: (B, O) or (O,); None: ones, the gradient of the output where O = 1.
            out: (B, D) or (D,) to write to.
            num_threads: CPU threads over the batch; None takes the library-wide setting.

        Returns:
            (B, D) or (D,), of the kind of x.
        """
        return self._both(x, v, out, num_threads, False)[1]

    def value_and_gradient(
        self, x: Any, v: Any = None, num_threads: int | None = None
    ) -> tuple[Any, Any]:
        """(y, gradient): both at the cost of the gradient."""
        return self._both(x, v, None, num_threads, True)

    def _both(
        self, x: Any, v: Any, out: Any, num_threads: int | None, values: bool
    ) -> tuple[Any, Any]:
        rows, kind, batched = self._rows("x", x, self.inputs)
        along = None
        if v is not None:
            along, given, same = self._rows("v", v, self.outputs)
            given.require_device_of(kind, "v", "x")
            if same != batched or along.shape[0] != rows.shape[0]:
                raise InvalidArgument(f"v must have a row of {self.outputs} for each row of x")
        filled, result = self._output(kind, rows, batched, self.inputs, out)
        if out is not None:
            apart(filled, x=rows, v=along)
        y = y_result = None
        if values:
            y, y_result = self._output(kind, rows, batched, self.outputs, None)
        self._run(kind, num_threads, rows, y, filled, along)
        return y_result, result

    def _run(self, kind: Kind, num_threads: int | None, x: Any, y: Any, dx: Any, v: Any) -> None:
        threads, stream = thread_count(num_threads), kind.stream()
        self.core.run(x, y, dx, v, num_threads=threads, stream=stream)

    def _rows(self, name: str, values: Any, width: int) -> tuple[Any, Kind, bool]:
        """(B, width) as the core takes it, the kind it was, and whether B was given."""
        kind = Kind.of(values)
        if _as_it_lies(values, self.dtype, width):
            return values, kind, True
        given = str(getattr(values, "dtype", "")).removeprefix("torch.")
        if given == "float64" and self.dtype == np.float32:
            raise InvalidArgument(
                f"{name} is float64, the network float32; convert {name}, or make the network of "
                "float64 weights"
            )
        array = kind.take(name, values, self.dtype)
        shape = tuple(array.shape)
        if len(shape) not in (1, 2) or shape[-1] != width:
            raise InvalidArgument(
                f"{name} must have the shape ({width},) or (B, {width}), got {shape}"
            )
        return (array if len(shape) == 2 else array[None]), kind, len(shape) == 2

    def _output(
        self, kind: Kind, rows: Any, batched: bool, width: int, out: Any
    ) -> tuple[Any, Any]:
        shape = (rows.shape[0], width) if batched else (width,)
        if out is None and kind.name == "numpy" and rows.shape[0] * width <= _FEW:
            result = np.empty(shape, self.dtype)
            return (result if batched else result[None]), result
        filled, result = kind.output(out, shape, self.dtype)
        return (filled if batched else filled[None]), result


def _as_it_lies(values: Any, dtype: np.dtype[Any], width: int) -> bool:
    """Whether the core can take an array without a look by `Kind.take`."""
    return (
        type(values) is np.ndarray
        and values.dtype == dtype
        and values.ndim == 2
        and values.shape[1] == width
        and values.flags.c_contiguous
    )


def _layers(layers: Any, activation: str | None) -> tuple[list[Layer], str]:
    if hasattr(layers, "state_dict"):
        pairs, found = _of_module(layers)
        if activation is not None and found is not None and found != activation:
            raise InvalidArgument(
                f"activation is {activation!r}, but that of the module is {found!r}"
            )
        activation = activation or found
    else:
        pairs = _of_arrays(layers)
    activation = "tanh" if activation is None else activation
    if activation not in ACTIVATIONS:
        raise InvalidArgument(
            f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}"
        )
    if not pairs:
        raise InvalidArgument("layers must hold at least one layer")
    return pairs, activation


def _of_arrays(layers: Any) -> list[Layer]:
    if not isinstance(layers, Iterable):
        raise InvalidArgument(
            f"layers must be a torch module or pairs (weight, bias), got {type(layers).__name__}"
        )
    pairs: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, Sequence) or len(layer) != 2:
            raise InvalidArgument("layers must be a torch module or pairs (weight, bias)")
        pairs.append((layer[0], layer[1]))
    return pairs


def _of_module(module: Any) -> tuple[list[Layer], str | None]:
    """Layers of a Sequential, and its activation, if it has one."""
    parts = list(module.children()) or [module]
    kinds = [type(part).__name__ for part in parts]
    pairs: list[Layer] = []
    found: set[str] = set()
    for k, (part, kind) in enumerate(zip(parts, kinds, strict=True)):
        between = 0 < k < len(parts) - 1 and kinds[k - 1] == kinds[k + 1] == "Linear"
        if kind == "Linear":
            pairs.append((part.weight, part.bias))
        elif kind in _MODULES and between and _is_plain(part, kind):
            found.add(_MODULES[kind])
        else:
            raise InvalidArgument(
                "layers must be torch.nn.Linear with one of Tanh, SiLU, ReLU, Softplus (of the "
                f"default options) between every two, got {', '.join(kinds)}"
            )
    activations = len(parts) - len(pairs)
    if len(found) > 1 or activations not in (0, len(pairs) - 1):
        raise InvalidArgument(f"layers must have the same activation, got {', '.join(kinds)}")
    return pairs, found.pop() if found else ("linear" if len(pairs) > 1 else None)


def _is_plain(part: Any, kind: str) -> bool:
    return kind != "Softplus" or (part.beta == 1 and part.threshold >= 20)


def _common(arrays: list[Any]) -> np.dtype[Any]:
    dtypes = {array.dtype for array in arrays}
    if len(dtypes) != 1:
        raise InvalidArgument(
            f"weights must all be float32 or all float64, got {', '.join(sorted(map(str, dtypes)))}"
        )
    dtype: np.dtype[Any] = dtypes.pop()
    return dtype


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    kind = Kind.of(values)
    if kind.name == "torch-cuda":
        values = values.detach().cpu()
    elif kind.name == "cupy":
        values = values.get()
    dtype = str(getattr(values, "dtype", "float64")).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise InvalidArgument(f"{name} must be float32 or float64, got {dtype}")
    array: npt.NDArray[Any] = Kind.of(values).take(name, values, np.dtype(dtype), detach=True)
    return array


def _norm(name: str, values: Any, width: int, dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    if values is None:
        return None
    array = host(name, values, "networks are packed", dtype, detach=True)
    if array.shape not in ((), (width,)):
        raise InvalidArgument(f"{name} must be a number or ({width},), got {array.shape}")
    return np.ascontiguousarray(np.broadcast_to(array, (width,)))
