"""Long short-term memory networks at inference: one step, or a whole roll-out in one call.

S. Hochreiter and J. Schmidhuber, Neural Computation 9, 1735 (1997). Weights come in torch's layout
and are packed once for the machine at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, apart, flag, integer, thread_count
from mlcore.errors import InvalidArgument

__all__ = ["LSTM", "State"]

State = tuple[Any, Any]

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_LAYER = re.compile(rf"(?P<prefix>.*?)(?P<what>{'|'.join(_NAMES)})_l(?P<layer>\d+)")


class LSTM:
    """L layers of H units on D inputs, and a linear output of the last layer's h.

    A layer is (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh, c = sigma(f) c + sigma(i) tanh(g),
    h = sigma(o) tanh(c). The network is y = out.weight h + out.bias, or y = h without ``out``.

    Args:
        weights: state dict of a torch module, or the module, that holds one ``torch.nn.LSTM`` and
            at most one ``torch.nn.Linear`` behind it, whatever their names: NumPy arrays or
            tensors ``weight_ih_l0`` (4H, D), ``weight_hh_l0`` (4H, H), ``bias_ih_l0`` (4H,),
            ``bias_hh_l0`` (4H,), ``weight_ih_l1`` ..., ``out.weight`` (O, H), ``out.bias`` (O,).
            Biases may be missing. float32 or float64, which is then the precision of everything.
            They are copied. Copies and pickles of the network hold them and give the same results,
            to rounding on a machine with other vector instructions.

    Attributes:
        inputs, hidden, layers, outputs: D, H, L, O.
        dtype: of weights, inputs and outputs.

    Raises:
        InvalidArgument: a name is not known, a shape does not fit, a value is not finite.
    """

    __slots__ = ("_parts", "_step", "core", "dtype", "hidden", "inputs", "layers", "outputs")

    def __init__(self, weights: Mapping[str, Any] | Any) -> None:
        layers, out_weight, out_bias, dtype = _parts(weights)
        self.dtype = np.dtype(dtype)
        make = _core.LstmFloat32 if self.dtype == np.float32 else _core.LstmFloat64
        self._parts = layers, out_weight, out_bias
        self.core: Any = make(*self._parts)
        self._step = self.core.step
        self.inputs: int = self.core.inputs
        self.hidden: int = self.core.hidden
        self.layers: int = self.core.layers
        self.outputs: int = self.core.outputs

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        layers, out_weight, out_bias = self._parts
        named = {
            f"{what}_l{index}": part
            for index, layer in enumerate(layers)
            for what, part in zip(_NAMES, layer, strict=True)
        }
        named |= {"out.weight": out_weight, "out.bias": out_bias}
        return type(self), ({name: part for name, part in named.items() if part is not None},)

    def step(self, x: Any, out: Any = None, num_threads: int | None = None) -> Any:
        """Prediction from one window of frames, the state starting at zero.

        Args:
            x: (B, S, D), or (S, D) for one; NumPy, torch or CuPy, of the network's dtype.
            out: (B, O) or (O,) to write to.
            num_threads: CPU threads over the batch; None takes the library-wide setting.

        Returns:
            y (B, O) or (O,) after the last frame, of the kind of x.

        Raises:
            InvalidArgument: a shape or dtype is wrong, x is not finite.
        """
        result = self._step(x, out, thread_count(num_threads))
        return self._step_any(x, out, num_threads) if result is None else result

    def _step_any(self, x: Any, out: Any, num_threads: int | None) -> Any:
        array, kind, batched = self._window("x", x)
        shape = (array.shape[0], self.outputs) if batched else (self.outputs,)
        filled, result = kind.output(out, shape, self.dtype)
        rows = filled if batched else filled[None]
        if out is not None:
            apart(filled, x=array)
        count, stream = thread_count(num_threads), kind.stream()
        self.core.step_any(array, rows, num_threads=count, stream=stream)
        return result

    def rollout(
        self,
        window: Any,
        n: int,
        *,
        carry: bool = False,
        out: Any = None,
        num_threads: int | None = None,
    ) -> Any:
        """Closed loop: n frames, each predicted from the S frames before it; needs O = D.

        Args:
            window: (B, S, D), or (S, D) for one: the frames to start from.
            n: >= 0, frames to predict.
            carry: False starts every prediction from the zero state on a window of S frames (the
                first of them drops out, the prediction is appended), as in training on windows.
                True carries h and c on: a prediction then costs one frame instead of S.
            out: (B, n, D) or (n, D) to write to.
            num_threads: CPU threads over the batch; None takes the library-wide setting.

        Returns:
            (B, n, D) or (n, D), of the kind of window.

        Raises:
            InvalidArgument: a shape or dtype is wrong, window is not finite, O is not D.
        """
        if integer("n", n) < 0:
            raise InvalidArgument(f"n must not be negative, got {n}")
        carried = flag("carry", carry)
        array, kind, batched = self._window("window", window)
        shape = (array.shape[0], n, self.outputs) if batched else (n, self.outputs)
        filled, result = kind.output(out, shape, self.dtype, like="window")
        if out is not None:
            apart(filled, window=array)
        frames = filled if batched else filled[None]
        count, stream = thread_count(num_threads), kind.stream()
        self.core.rollout(array, frames, carried, num_threads=count, stream=stream)
        return result

    def advance(
        self,
        x: Any,
        state: State | None = None,
        *,
        out: Any = None,
        num_threads: int | None = None,
    ) -> tuple[Any, State]:
        """Outputs after every frame, and the state to go on from.

        Args:
            x: (B, S, D), or (S, D) for one.
            state: (h, c), each (L, B, H) or (L, H), as this method returned it; None: zeros. It is
                not changed.
            out: (B, S, O) or (S, O) to write to.
            num_threads: CPU threads over the batch; None takes the library-wide setting.

        Returns:
            y (B, S, O) or (S, O), and (h, c), of the kind of x.

        Raises:
            InvalidArgument: a shape or dtype is wrong, a value is not finite.
        """
        array, kind, batched = self._window("x", x)
        lead = array.shape[:2] if batched else array.shape[1:2]
        filled, result = kind.output(out, (*lead, self.outputs), self.dtype)
        if out is not None:
            apart(filled, x=array)
        h, c = (self._state(kind, array.shape[0], batched, part) for part in _named(state))
        rows = filled if batched else filled[None]
        self.core.advance(
            array, h[0], c[0], rows, num_threads=thread_count(num_threads), stream=kind.stream()
        )
        return result, (h[1], c[1])

    def _state(self, kind: Kind, batch: int, batched: bool, part: tuple[str, Any]) -> Any:
        """A copy of h or c as (the core's array, the caller's)."""
        name, values = part
        shape = (self.layers, batch, self.hidden) if batched else (self.layers, self.hidden)
        array, result = kind.output(None, shape, self.dtype)
        if values is None:
            array[...] = 0
        else:
            given = Kind.of(values)
            given.require_device_of(kind, name, "x")
            self._require_dtype(name, values)
            values = given.take(name, values, self.dtype)
            if tuple(values.shape) != shape:
                raise InvalidArgument(
                    f"{name} must have the shape {shape}, got {tuple(values.shape)}"
                )
            array[...] = values
        return (array if batched else array[:, None]), result

    def _require_dtype(self, name: str, values: Any) -> None:
        """Nothing loses digits on its way in."""
        given = str(getattr(values, "dtype", "")).removeprefix("torch.")
        if given == "float64" and self.dtype == np.float32:
            raise InvalidArgument(
                f"{name} is float64, the network float32; convert {name}, or make the network of "
                "float64 weights"
            )

    def _window(self, name: str, values: Any) -> tuple[Any, Kind, bool]:
        """(B, S, D) as the core takes it, the kind it was, and whether B was given."""
        kind = Kind.of(values)
        self._require_dtype(name, values)
        array = kind.take(name, values, self.dtype)
        shape = tuple(array.shape)
        if len(shape) not in (2, 3):
            raise InvalidArgument(f"{name} must have the shape (S, D) or (B, S, D), got {shape}")
        return (array if len(shape) == 3 else array[None]), kind, len(shape) == 3


def _named(state: State | None) -> tuple[tuple[str, Any], tuple[str, Any]]:
    if state is None:
        state = (None, None)
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise InvalidArgument(f"state must be the arrays (h, c) or None, got {_what(state)}")
    return ("state: h", state[0]), ("state: c", state[1])


def _what(value: Any) -> str:
    parts = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{parts}"


def _parts(weights: Any) -> tuple[list[Any], Any, Any, np.dtype[Any]]:
    """Layers, output weight and bias, and their common dtype."""
    named = weights.state_dict() if hasattr(weights, "state_dict") else weights
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise InvalidArgument(
            "weights must be a torch module or a mapping of names to arrays, got "
            f"{type(weights).__name__}"
        )
    arrays = {name: _array(name, values) for name, values in named.items()}
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) != 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise InvalidArgument(
            "weights must all be float32 or all float64, got "
            f"{', '.join(sorted(map(str, dtypes))) or 'none'}"
        )
    found: dict[int, dict[str, Any]] = {}
    prefixes, rest = set(), {}
    for name, array in arrays.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            rest[name] = array
            continue
        prefixes.add(match["prefix"])
        found.setdefault(int(match["layer"]), {})[match["what"]] = array
    if len(prefixes) > 1:
        raise InvalidArgument(f"weights must hold one LSTM, got {sorted(prefixes)}")
    if sorted(found) != list(range(len(found))) or not found:
        raise InvalidArgument(
            f"weights must hold the layers weight_ih_l0, weight_ih_l1, ..., got {sorted(found)}"
        )
    out_weight, out_bias = _output(rest)
    return (
        [_layer(index, found[index]) for index in sorted(found)],
        out_weight,
        out_bias,
        dtypes.pop(),
    )


def _layer(index: int, parts: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    for what in ("weight_ih", "weight_hh"):
        if what not in parts:
            raise InvalidArgument(f"weights must hold {what}_l{index}")
    return parts["weight_ih"], parts["weight_hh"], parts.get("bias_ih"), parts.get("bias_hh")


def _output(rest: Mapping[str, Any]) -> tuple[Any, Any]:
    """The one linear layer among what is no LSTM weight."""
    weights = [name for name in rest if name == "weight" or name.endswith(".weight")]
    bias = weights[0].removesuffix("weight") + "bias" if weights else ""
    unknown = sorted(set(rest) - {*weights[:1], bias})
    if unknown:
        raise InvalidArgument(
            "weights must be those of one unidirectional torch.nn.LSTM without projections and at "
            f"most one torch.nn.Linear, got {', '.join(unknown)} besides"
        )
    return (rest[weights[0]] if weights else None), rest.get(bias)


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    kind = Kind.of(values)
    if kind.name == "torch-cuda":
        values = values.detach().cpu()
    elif kind.name == "cupy":
        values = values.get()
    dtype = str(getattr(values, "dtype", "float64")).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise InvalidArgument(f"{name} must be float32 or float64, got {dtype}")
    return np.array(Kind.of(values).take(name, values, np.dtype(dtype), detach=True))
