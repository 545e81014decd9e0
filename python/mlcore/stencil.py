"""Stencils on regular grids: 3D convolutions, their transposes, and finite differences.

    y = mlcore.conv3d(field, weight, bias, boundary="periodic", activation="relu")
    smooth = mlcore.laplacian(density, spacing=0.5, order=4)

Fields are NumPy arrays, torch tensors or CuPy arrays (B, C, X, Y, Z), or (B, X, Y, Z, C) with
``layout="channels_last"``; the batch may be left out. Results are of the same kind and on the same
device. Arithmetic is float32 where every array is float32, else float64. Nothing is padded: what
lies beyond an edge is said by ``boundary``:

- "periodic": the other side of the field,
- "zero": zeros,
- "halo": the field carries the voxels needed beyond each edge, and results are only given for those
  inside.

3^3 kernels use minimal filtering along y (S. Winograd, Arithmetic Complexity of Computations, SIAM
1980): two results of a row from four products instead of six. Rounding errors stay of the size of
the plain sum's; a NaN reaches the voxels whose stencil holds it and no other; where an infinity is
in reach the result is not finite, but may be NaN where the plain sum is infinite. With
``boundary="zero"`` products with what lies outside are left out, so that infinite or NaN weights
there do not count.

Memory: no padded copy is made. Besides the result and the repacked weights, a convolution takes half
a MiB per thread, or what some 70 rows of the field along z take where that is more.

Gradients flow through `mlcore.ops`, not through here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, apart, flag, host, integer, one_of, thread_count
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

    Field = npt.ArrayLike | torch.Tensor

__all__ = [
    "conv3d",
    "conv3d_weight_gradient",
    "finite_difference",
    "finite_difference_adjoint",
    "gradient",
    "laplacian",
    "scatter3d",
]

BOUNDARIES = ("periodic", "zero", "halo")
LAYOUTS = ("channels_first", "channels_last")
ACTIVATIONS = ("none", "relu", "silu", "gelu", "tanh", "sigmoid")


@dataclass(frozen=True)
class Stencil:
    """How a kernel moves over a field; see `conv3d`."""

    boundary: str = "periodic"
    stride: int = 1
    groups: int = 1
    layout: str = "channels_first"

    def options(self) -> dict[str, Any]:
        return vars(self)

    def split(self, shape: Sequence[int]) -> tuple[int, int, tuple[int, ...]]:
        """Batch, channels and extents of the shape of a field."""
        b, *rest = shape
        return (b, rest[0], tuple(rest[1:])) if self._first else (b, rest[3], tuple(rest[:3]))

    def join(self, batch: int, channels: int, extents: Sequence[int]) -> tuple[int, ...]:
        """The shape of a field."""
        return (batch, channels, *extents) if self._first else (batch, *extents, channels)

    def __post_init__(self) -> None:
        one_of("boundary", self.boundary, *BOUNDARIES)
        one_of("layout", self.layout, *LAYOUTS)
        for name in ("stride", "groups"):
            if integer(name, getattr(self, name)) < 1:
                raise InvalidArgument(f"{name} must be at least 1, got {getattr(self, name)}")

    def results(self, extents: Sequence[int], taps: int) -> list[int]:
        """Extents of conv3d's result."""
        halo = taps // 2 * 2 if self.boundary == "halo" else 0
        return [max(-(-(n - halo) // self.stride), 0) for n in extents]

    def fields(self, extents: Sequence[int], taps: int) -> list[int]:
        """Extents of the smallest field from which conv3d makes this result."""
        halo = taps // 2 * 2 if self.boundary == "halo" else 0
        return [max((n - 1) * self.stride + 1, 0) + halo for n in extents]

    @property
    def _first(self) -> bool:
        return self.layout != "channels_last"


def conv3d(
    field: Field,
    weight: Field,
    bias: Field | None = None,
    boundary: str = "periodic",
    activation: str | None = None,
    residual: Field | None = None,
    mask: Field | None = None,
    stride: int = 1,
    groups: int = 1,
    out: Any = None,
    *,
    layout: str = "channels_first",
    num_threads: int | None = None,
) -> Any:
    """Convolution of a field with k^3 weights, and what follows it, in one pass.

    s[b, o, x] = sum_{c, d} weight[o, c, d] field[b, c, stride x + d - k // 2], a correlation as in
    torch; with a halo the index is stride x + d. The result is activation(s + bias) + residual, and
    zero where the mask is.

    Args:
        field: (B, C, X, Y, Z) or (C, X, Y, Z); see ``layout``.
        weight: (O, C / groups, k, k, k), k = 1, 3 or 5.
        bias: (O,).
        boundary: "periodic", "zero" or "halo" (k // 2 voxels on each side).
        activation: None, "relu", "silu", "gelu" (the exact one), "tanh" or "sigmoid".
        residual: of the shape of the result.
        mask: (X, Y, Z) or (B, X, Y, Z) of the result; false or zero: the result is 0.
        stride: results at x = 0, stride, 2 stride, ...
        groups: output o sees the inputs of its own group alone.
        out: where the result goes: C-contiguous, of the kind and dtype of the result. Give the same
            one again and again where fields are large: no fresh memory is touched then.
        layout: "channels_first" or "channels_last", of field, residual and result.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        (B, O, ceil(X / stride), ...), or without B if ``field`` has none; X less the halo.

    Raises:
        InvalidArgument: a shape, dtype or name is wrong, arrays are on different devices.
        BackendUnavailable: the field is on a GPU and mlcore was built without CUDA.
    """
    stencil = Stencil(boundary, stride, groups, layout)
    extra = {"bias": bias, "residual": residual, "mask": mask, "activation": activation}
    return convolve(stencil, field, weight, extra, out, num_threads)


def convolve(
    stencil: Stencil,
    field: Any,
    weight: Any,
    extra: dict[str, Any],
    out: Any = None,
    num_threads: int | None = None,
    reference: bool = False,
) -> Any:
    """`conv3d`; ``extra``: bias, activation, residual, mask, preactivation."""
    arrays = Arrays("field", field, weight=weight, bias=extra["bias"], residual=extra["residual"])
    f, batched = arrays.batched("field")
    w = arrays.taken["weight"]
    taps = _taps(tuple(w.shape))
    batch, _, extents = stencil.split(f.shape)
    shape = stencil.join(batch, w.shape[0], stencil.results(extents, taps))
    filled, result = arrays.output(out, shape, batched)
    residual = arrays.taken["residual"]
    if residual is not None and not batched:
        residual = residual[None]
    preactivation = extra.get("preactivation")
    if preactivation is not None:
        preactivation = arrays.kind.take("preactivation", preactivation, arrays.dtype)
    _core.conv3d(
        f,
        w,
        filled,
        bias=arrays.taken["bias"],
        residual=residual,
        mask=_mask(arrays.kind, extra["mask"]),
        preactivation=preactivation,
        activation=activation_name(extra["activation"]),
        reference=reference,
        **arrays.options(num_threads),
        **stencil.options(),
    )
    return result


def scatter3d(
    values: Field,
    weight: Field,
    boundary: str = "halo",
    stride: int = 1,
    groups: int = 1,
    extents: Sequence[int] | None = None,
    out: Any = None,
    *,
    layout: str = "channels_first",
    num_threads: int | None = None,
) -> Any:
    """Every value spread over its neighbours: the exact transpose of `conv3d` in its field.

    out[b, c, stride x + d - k // 2] += sum_o weight[o, c, d] values[b, o, x]. With a halo nothing
    is folded back: the result holds the k // 2 virtual cells beyond each edge, too.

    Args:
        values: (B, O, X, Y, Z) or (O, X, Y, Z); see ``layout``.
        weight: (O, C / groups, k, k, k), k = 1, 3 or 5, as for `conv3d`.
        boundary: where what leaves the box goes: "halo" keeps it, "periodic" brings it in on the
            other side, "zero" drops it.
        stride, groups: as for `conv3d`.
        extents: three, of the field conv3d would read (with its halo); the smallest by default:
            (X - 1) stride + 1, and k // 2 * 2 more with a halo.
        out, layout, num_threads: as for `conv3d`.

    Returns:
        (B, C, *extents), or without B if ``values`` has none.

    Raises:
        InvalidArgument, BackendUnavailable: as `conv3d`.
    """
    stencil = Stencil(boundary, stride, groups, layout)
    return scatter(stencil, values, weight, extents, out, num_threads)


def scatter(
    stencil: Stencil,
    values: Any,
    weight: Any,
    extents: Sequence[int] | None,
    out: Any = None,
    num_threads: int | None = None,
    reference: bool = False,
) -> Any:
    """`scatter3d`."""
    arrays = Arrays("values", values, weight=weight)
    v, batched = arrays.batched("values")
    w = arrays.taken["weight"]
    taps = _taps(tuple(w.shape))
    batch, _, results = stencil.split(v.shape)
    full = stencil.fields(results, taps) if extents is None else checked_extents(extents)
    shape = stencil.join(batch, w.shape[1] * stencil.groups, full)
    filled, result = arrays.output(out, shape, batched)
    options = arrays.options(num_threads) | stencil.options()
    _core.scatter3d(v, w, filled, reference=reference, **options)
    return result


def conv3d_weight_gradient(
    field: Field,
    values: Field,
    taps: int,
    boundary: str = "periodic",
    stride: int = 1,
    groups: int = 1,
    out: Any = None,
    *,
    layout: str = "channels_first",
    num_threads: int | None = None,
    reference: bool = False,
) -> Any:
    """The transpose of `conv3d` in its weights.

    out[o, c, d] = sum_{b, x} values[b, o, x] field[b, c, stride x + d - taps // 2].

    Args:
        field: (B, C, X, Y, Z); see ``layout``.
        values: (B, O, ...), like the result of `conv3d`.
        taps: k.
        boundary, stride, groups, layout, num_threads: as for `conv3d`.
        out: where the result goes: C-contiguous, of its kind and dtype, apart from the inputs.
        reference: take the obvious slow way (float64).

    Returns:
        (O, C / groups, k, k, k).

    Raises:
        InvalidArgument, BackendUnavailable: as `conv3d`.
    """
    stencil = Stencil(boundary, stride, groups, layout)
    arrays = Arrays("field", field, values=values)
    f, _ = arrays.batched("field", required=True)
    v, _ = arrays.batched("values", required=True)
    outputs, inputs = stencil.split(v.shape)[1], stencil.split(f.shape)[1]
    if inputs % groups or outputs % groups:
        raise InvalidArgument(
            f"groups must divide the {inputs} channels of field and the {outputs} of values, "
            f"got {groups}"
        )
    k = int(integer("taps", taps))
    if k not in (1, 3, 5):
        raise InvalidArgument(f"taps must be 1, 3 or 5, got {taps!r}")
    filled, result = arrays.output(out, (outputs, inputs // groups, k, k, k), True)
    if out is not None:
        apart(filled, field=f, values=v)
    options = arrays.options(num_threads) | stencil.options()
    slow = flag("reference", reference)
    _core.conv3d_weight_gradient(f, v, filled, reference=slow, **options)
    return result


def laplacian(
    field: Field,
    spacing: float | Sequence[float] = 1.0,
    order: int = 2,
    boundary: str = "periodic",
    out: Any = None,
    *,
    num_threads: int | None = None,
) -> Any:
    """Sum of the second derivatives by central differences (B. Fornberg, Math. Comp. 51, 699, 1988).

    Args:
        field: (..., X, Y, Z).
        spacing: of the grid, one for all axes or three.
        order: 2, 4 or 6: the error falls as spacing^order.
        boundary: "periodic", "zero" or "halo" (order / 2 voxels on each side).
        out: C-contiguous array for the result, of its kind and dtype.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        (..., X, Y, Z), less the halo; field's unit over spacing squared.

    Raises:
        InvalidArgument, BackendUnavailable: as `conv3d`.
    """
    return finite_difference("laplacian", field, spacing, order, boundary, out, num_threads)


def gradient(
    field: Field,
    spacing: float | Sequence[float] = 1.0,
    order: int = 2,
    boundary: str = "periodic",
    out: Any = None,
    *,
    num_threads: int | None = None,
) -> Any:
    """First derivatives by central differences; arguments and errors as `laplacian`.

    Returns:
        (..., 3, X, Y, Z), less the halo: d/dx, d/dy, d/dz.
    """
    return finite_difference("gradient", field, spacing, order, boundary, out, num_threads)


def finite_difference(
    derivative: str,
    field: Any,
    spacing: float | Sequence[float],
    order: int,
    boundary: str,
    out: Any = None,
    num_threads: int | None = None,
    reference: bool = False,
) -> Any:
    """`laplacian` or `gradient` by name; ``reference`` takes the obvious slow way (float64)."""
    order = checked_difference(order, boundary)
    arrays = Arrays("field", field)
    f = arrays.taken["field"]
    lead, extents = _grid("field", f, 0)
    halo = order if boundary == "halo" else 0
    inner = tuple(max(n - halo, 0) for n in extents)
    components = 3 if derivative == "gradient" else 1
    shape = (*lead, *((3,) if components == 3 else ()), *inner)
    filled, result = arrays.kind.output(out, shape, arrays.dtype, "field")
    _core.finite_difference(
        f.reshape(math.prod(lead), *extents),
        filled.reshape(math.prod(lead), components, *inner),
        derivative=derivative,
        order=order,
        spacing=_spacing(spacing, arrays.dtype),
        boundary=boundary,
        reference=reference,
        **arrays.options(num_threads),
    )
    return result


def finite_difference_adjoint(
    derivative: str,
    values: Field,
    spacing: float | Sequence[float],
    order: int,
    boundary: str,
    num_threads: int | None = None,
) -> Any:
    """The transpose of `laplacian` or `gradient`, from the shape of its result to its field's.

    For the gradient on a periodic grid that is minus the divergence.
    """
    order = checked_difference(order, boundary)
    arrays = Arrays("values", values)
    v = arrays.taken["values"]
    lead, inner = _grid("values", v, 1 if derivative == "gradient" else 0)
    halo = order if boundary == "halo" else 0
    extents = tuple(n + halo for n in inner)
    components = 3 if derivative == "gradient" else 1
    filled, result = arrays.kind.output(None, (*lead, *extents), arrays.dtype, "values")
    _core.finite_difference_adjoint(
        v.reshape(math.prod(lead), components, *inner),
        filled.reshape(math.prod(lead), *extents),
        derivative=derivative,
        order=order,
        spacing=_spacing(spacing, arrays.dtype),
        boundary=boundary,
        **arrays.options(num_threads),
    )
    return result


class Arrays:
    """The arrays of a call as the core takes them: one kind, one dtype.

    Args:
        name: of the first argument, whose kind the result has.
        first: its value.
        others: further arrays; None stays None.
    """

    def __init__(self, name: str, first: Any, **others: Any) -> None:
        given = {name: first} | others
        self.kind = Kind.of(first)
        self.name = name
        single = all(_is_single(a) for a in given.values() if a is not None)
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.taken: dict[str, Any] = {}
        for key, values in given.items():
            if values is None and key in ("bias", "residual"):
                self.taken[key] = None
                continue
            Kind.of(values).require_device_of(self.kind, key, name)
            self.taken[key] = Kind.of(values).take(key, values, self.dtype)

    def batched(self, name: str, required: bool = False) -> tuple[Any, bool]:
        """A field with its batch axis, and whether the caller gave it."""
        array = self.taken[name]
        if array.ndim not in ((5,) if required else (4, 5)):
            raise InvalidArgument(
                f"{name} must have 5 dimensions (batch, channel, x, y, z), or 4 without batch, "
                f"got the shape {tuple(array.shape)}"
            )
        return (array, True) if array.ndim == 5 else (array[None], False)

    def output(self, out: Any, shape: tuple[int, ...], batched: bool) -> tuple[Any, Any]:
        """`Kind.output` of a field, whose batch axis the caller may not want."""
        wanted = shape if batched else shape[1:]
        filled, result = self.kind.output(out, wanted, self.dtype, self.name)
        return (filled if batched else filled[None]), result

    def options(self, num_threads: int | None) -> dict[str, Any]:
        return {
            "single": self.dtype == np.float32,
            "num_threads": thread_count(num_threads),
            "stream": self.kind.stream(),
        }


def _is_single(values: Any) -> bool:
    return str(getattr(values, "dtype", "")).endswith("float32")


def activation_name(activation: Any) -> str:
    """As the core takes it: "none" for None."""
    return "none" if activation is None else one_of("activation", activation, *ACTIVATIONS)


def checked_extents(extents: Any) -> list[int]:
    """Three numbers of voxels."""
    found = [integer("extents", n) for n in extents] if np.shape(extents) == (3,) else []
    if not found or min(found) < 0:
        raise InvalidArgument(f"extents must be three numbers >= 0, got {extents!r}")
    return found


def checked_difference(order: Any, boundary: Any) -> int:
    """The order of a finite difference, which has a boundary, too."""
    one_of("boundary", boundary, *BOUNDARIES)
    if integer("order", order) not in (2, 4, 6):
        raise InvalidArgument(f"order must be 2, 4 or 6, got {order!r}")
    return int(order)


def _taps(weight: tuple[int, ...]) -> int:
    if len(weight) != 5:
        raise InvalidArgument(f"weight must have the shape (O, C / groups, k, k, k), got {weight}")
    return weight[2]


def _mask(kind: Kind, mask: Any) -> Any:
    if mask is None:
        return None
    Kind.of(mask).require_device_of(kind, "mask", "field")
    nonzero = mask != 0 if hasattr(mask, "dtype") else np.asarray(mask) != 0
    taken = Kind.of(mask).take("mask", nonzero, np.uint8)
    if taken.ndim not in (3, 4):
        raise InvalidArgument(
            f"mask must have the shape (X, Y, Z) or (B, X, Y, Z), got {tuple(taken.shape)}"
        )
    return taken if taken.ndim == 4 else taken[None]


def _grid(name: str, array: Any, components: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leading axes and extents of (..., [3,] X, Y, Z)."""
    shape = tuple(array.shape)
    want = "(..., 3, X, Y, Z)" if components else "(..., X, Y, Z)"
    if len(shape) < 3 + components or (components and shape[-4] != 3):
        raise InvalidArgument(f"{name} must have the shape {want}, got {shape}")
    return shape[: len(shape) - 3 - components], shape[-3:]


def _spacing(spacing: float | Sequence[float], dtype: Any) -> list[float]:
    values = host("spacing", spacing, "spacings are read")
    if values.shape not in ((), (3,)):
        raise InvalidArgument(f"spacing must be one number or three, got {spacing}")
    if (values > 0).all() and (values < np.sqrt(np.finfo(dtype).tiny)).any():
        raise InvalidArgument(f"spacing is too small for {dtype}, got {spacing}")
    return [float(h) for h in np.broadcast_to(values, 3)]
