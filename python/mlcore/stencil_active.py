"""Convolution on the occupied voxels of a grid: the work grows with them, not with the grid.

All other voxels hold zeros. Results are wanted on the same voxels (the "submanifold" form of Graham
et al., CVPR 2018), or also on those around them (dilated); there they equal those of a dense
convolution. Unlike other sparse convolutions, these know periodic grids.

    active = mlcore.ActiveSet((64, 64, 64), coordinates)
    features = mlcore.conv3d_active(active, features, weight)

For gradients see :mod:`mlcore.ops`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, flag, integer, one_of
from mlcore.errors import InvalidArgument
from mlcore.stencil import Arrays, activation_name

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ActiveSet", "conv3d_active", "scatter3d_active"]

_BOUNDARIES = ("periodic", "zero")


class ActiveSet:
    """The occupied voxels of a grid, prepared for convolutions among them.

    Rule books (which voxel meets which weight) are built when first needed, 8 bytes per pair of
    neighbours, and kept.

    Args:
        grid_shape: (X, Y, Z), at most 2^33 voxels in all.
        coordinates: (M, 3) integers x, y, z, or (M, 4) with the number of the batch in front; each
            voxel once, in any order, which is the order of the features. A GPU array makes a set
            for features on that GPU; it is also read on the host.
        boundary: "periodic", or "zero" beyond the edges.
        dilate: 0: results on the same voxels; 1 or 2: on all voxels up to so many away along each
            axis (1 is what a kernel of 3^3 reaches, 2 one of 5^3).
        batches: number of independent grids of this shape.

    Attributes:
        grid_shape, boundary, dilate, batches: as given.
        kind: of the coordinates: where features have to be.
        core_set: what the core keeps of it.

    Raises:
        InvalidArgument: naming the row of ``coordinates`` that lies outside of the grid or comes
            twice.
    """

    def __init__(
        self,
        grid_shape: Sequence[int],
        coordinates: npt.ArrayLike,
        boundary: str = "periodic",
        *,
        dilate: int = 0,
        batches: int = 1,
    ) -> None:
        kind = Kind.of(coordinates)
        grid = self._prepare(grid_shape, boundary, dilate, batches, kind)
        rows = _integers("coordinates", coordinates, kind)
        if rows.size == 0 and rows.ndim == 1:
            rows = rows.reshape(0, 3)
        self._set(_core.ActiveSet(grid, rows), rows.shape[-1])

    @classmethod
    def from_mask(cls, mask: npt.ArrayLike, boundary: str = "periodic", *, dilate: int = 0) -> Any:
        """The voxels where a mask (X, Y, Z) or (B, X, Y, Z) is not zero, in the order of the grid.

        Raises:
            InvalidArgument: the mask has another number of axes.
        """
        kind = Kind.of(mask)
        flags = _on_host(mask, kind) != 0
        if flags.ndim not in (3, 4):
            raise InvalidArgument(
                f"mask must have the shape (X, Y, Z) or (B, X, Y, Z), got {flags.shape}"
            )
        stack = flags if flags.ndim == 4 else flags[None]
        result = cls.__new__(cls)
        grid = result._prepare(stack.shape[1:], boundary, dilate, len(stack), kind)
        result._set(_core.ActiveSet.from_mask(grid, stack.astype(np.uint8)), flags.ndim)
        return result

    def _prepare(
        self, grid_shape: Sequence[int], boundary: str, dilate: int, batches: int, kind: Kind
    ) -> Any:
        if np.shape(grid_shape) != (3,):
            raise InvalidArgument(f"grid_shape must be three numbers of voxels, got {grid_shape!r}")
        shape = tuple(integer("grid_shape", n) for n in grid_shape)
        if integer("batches", batches) < 1:
            raise InvalidArgument(f"batches must be at least 1, got {batches}")
        one_of("boundary", boundary, *_BOUNDARIES)
        if integer("dilate", dilate) not in (0, 1, 2):
            raise InvalidArgument(f"dilate must be 0, 1 or 2, got {dilate!r}")
        self.grid_shape, self.boundary = shape, boundary
        self.dilate, self.batches = int(dilate), int(batches)
        self.kind = kind
        self._grid = _core.ActiveGrid(shape, self.batches, boundary == "periodic")
        self._books: dict[tuple[int, bool], Any] = {}
        return self._grid

    def _set(self, core: Any, columns: int) -> None:
        self.core_set, self._columns = core, columns
        self._count = len(core)
        self._where: tuple[Any, Any] | None = None
        self._dilated = None if self.dilate == 0 else self._grown()

    def _grown(self) -> ActiveSet:
        larger = ActiveSet.__new__(ActiveSet)
        larger._prepare(self.grid_shape, self.boundary, 0, self.batches, self.kind)
        larger._set(self.core_set.dilated(2 * self.dilate + 1), self._columns)
        return larger

    @property
    def outputs(self) -> ActiveSet:
        """The set of the results' voxels: this one, or with ``dilate`` a larger one in the order of
        the grid."""
        return self if self._dilated is None else self._dilated

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the coordinates; rule books are built again."""
        arguments = (self.grid_shape, self.coordinates, self.boundary, self.dilate, self.batches)
        return _rebuilt, arguments

    def __len__(self) -> int:
        """Number of occupied voxels."""
        return self._count

    @property
    def coordinates(self) -> Any:
        """(M, 3), or (M, 4) if they came so: int64, in the order of the features."""
        rows = self.core_set.coordinates()
        return self._like(rows if self._columns == 4 else np.ascontiguousarray(rows[:, 1:]))

    def rules(self, k: int, reverse: bool = False) -> Any:
        """The rule book of kernels of k^3 weights, an opaque int32 array; built once.

        Args:
            k: 1, 3 or 5.
            reverse: that of the transposed convolution, from the outputs to these voxels.

        Raises:
            InvalidArgument: k is something else.
        """
        if integer("k", k) not in (1, 3, 5):
            raise InvalidArgument(f"k must be 1, 3 or 5, got {k!r}")
        key = (k, flag("reverse", reverse) and self.dilate > 0)
        if key not in self._books:
            sets = (self, self.outputs)
            self._books[key] = self._book(*(sets[::-1] if key[1] else sets), k)
        return self._books[key]

    def _book(self, inputs: ActiveSet, outputs: ActiveSet, k: int) -> Any:
        if self.kind.on_cpu:
            return _core.active_rules(inputs.core_set, outputs.core_set, k)
        table, _ = self.kind.output(None, (len(outputs), k**3), np.int32)
        source, target = (self._like(one.core_set.coordinates()) for one in (inputs, outputs))
        stream = self.kind.stream()
        _core.active_neighbor_table(self._grid, source, target, k, table, stream=stream)
        return table.reshape(-1)

    def neighbors(self, k: int) -> Any:
        """(M outputs, k^3) int32: the row that each weight meets at each output, -1 for none.

        Weights count along the flattened kernel: the one in the middle meets the voxel itself.
        """
        book = self.rules(k)
        if not self.kind.on_cpu:
            return book.reshape(len(self.outputs), k**3)
        return self.kind.like(_core.active_neighbors(self.outputs.core_set, book, k))

    def gather(self, dense: Any) -> Any:
        """Features (M, C) of the occupied voxels of a field (C, X, Y, Z) or (B, C, X, Y, Z).

        Of the field's kind, on the device of the set; torch's gradients flow.

        Raises:
            InvalidArgument: the field has another shape.
        """
        shape = tuple(_array("dense", dense).shape)
        batched = len(shape) == 5
        fits = len(shape) in (4, 5) and shape[-3:] == self.grid_shape
        if not fits or (shape[0] if batched else 1) != self.batches:
            raise InvalidArgument(
                f"the field must have the shape (C, X, Y, Z) of the grid {self.grid_shape}, or "
                f"(B, C, X, Y, Z) with B = {self.batches}, got {shape}"
            )
        flat = dense.reshape(self.batches, shape[-4], -1)
        batch, voxel = self._places()
        rows = flat[batch, :, voxel] if self.batches > 1 else flat[0][:, voxel].T
        return rows.contiguous() if Kind.of(dense).name.startswith("torch") else rows.copy()

    def scatter(self, features: Any) -> Any:
        """The field (C, X, Y, Z), with batches (B, C, X, Y, Z), that holds features (M, C) on these
        voxels and zeros elsewhere. In the features' kind and dtype; torch's gradients flow.

        Raises:
            InvalidArgument: there are not M features.
        """
        if _array("features", features).ndim != 2 or features.shape[0] != len(self):
            raise InvalidArgument(
                f"features must have the shape ({len(self)}, C), got {tuple(features.shape)}"
            )
        channels = features.shape[1]
        size = self.grid_shape[0] * self.grid_shape[1] * self.grid_shape[2]
        flat = _zeros(features, (self.batches, channels, size))
        batch, voxel = self._places()
        if self.batches > 1:
            flat[batch, :, voxel] = features
        else:
            flat[0][:, voxel] = features.T
        field = flat.reshape(self.batches, channels, *self.grid_shape)
        return field if self.batches > 1 else field[0]

    def _places(self) -> tuple[Any, Any]:
        """Batch and voxel along the flattened grid of every row."""
        if self._where is None:
            batch, x, y, z = self.core_set.coordinates().T
            _, Y, Z = self.grid_shape
            self._where = (self._like(batch.copy()), self._like((x * Y + y) * Z + z))
        return self._where

    def _like(self, array: npt.NDArray[Any]) -> Any:
        """A NumPy array as the kind of the set, on its device."""
        if self.kind.on_cpu:
            return self.kind.like(array)
        if self.kind.name == "cupy":
            return sys.modules["cupy"].asarray(array)
        return sys.modules["torch"].from_numpy(array).to(self.kind.device)


def conv3d_active(
    active: ActiveSet,
    features: Any,
    weight: Any,
    bias: Any = None,
    activation: str | None = None,
    residual: Any = None,
    out: Any = None,
    *,
    num_threads: int | None = None,
) -> Any:
    """activation(sum_d weight[d] features[x + d - k // 2] + bias) + residual, on a set's outputs.

    Args:
        active: the occupied voxels.
        features: (M, C) in their order; NumPy, torch or CuPy, on the device of the set.
        weight: (O, C, k, k, k), k = 1, 3 or 5; a correlation, as in torch.
        bias: (O,).
        activation: None, "relu", "silu", "gelu" (the exact one), "tanh" or "sigmoid".
        residual: (M outputs, O).
        out: (M outputs, O) where the result goes: C-contiguous, of its kind and dtype, apart from
            the inputs.
        num_threads: CPU threads; None takes the library-wide setting. Results do not depend on it.

    Returns:
        (M outputs, O) of the features' kind, in the order of ``active.outputs``; float32 where all
        arrays are float32, else float64.

    Raises:
        InvalidArgument: a shape, dtype or name is wrong, arrays are on different devices, a tensor
            requires gradients (see :func:`mlcore.ops.conv3d_active`).
    """
    require_set(active)
    arrays = Arrays("features", features, weight=weight, bias=bias, residual=residual)
    arrays.kind.require_device_of(active.kind, "features", "the set of voxels")
    outputs, _, k = weight_shape(arrays.taken["weight"])
    shape = (len(active.outputs), outputs)
    filled, result = arrays.kind.output(out, shape, arrays.dtype, "features")
    _core.conv3d_active(
        active.rules(k),
        out=filled,
        activation=activation_name(activation),
        **arrays.taken,
        **arrays.options(num_threads),
    )
    return result


def scatter3d_active(
    active: ActiveSet,
    values: Any,
    weight: Any,
    out: Any = None,
    *,
    num_threads: int | None = None,
) -> Any:
    """The transpose of `conv3d_active` in its features: every value spread over its neighbours.

    Args:
        active: the set of the convolution.
        values: (M outputs, O) on ``active.outputs``; else as the features of `conv3d_active`.
        weight: (O, C, k, k, k), as for `conv3d_active`.
        out: (M, C), as for `conv3d_active`.
        num_threads: as for `conv3d_active`.

    Returns:
        (M, C) on the voxels of ``active``.

    Raises:
        InvalidArgument: as `conv3d_active`.
    """
    require_set(active)
    arrays = Arrays("values", values, weight=weight)
    arrays.kind.require_device_of(active.kind, "values", "the set of voxels")
    _, channels, k = weight_shape(arrays.taken["weight"])
    filled, result = arrays.kind.output(out, (len(active), channels), arrays.dtype, "values")
    book = active.rules(k, reverse=True)
    _core.scatter3d_active(book, out=filled, **arrays.taken, **arrays.options(num_threads))
    return result


def require_set(active: Any) -> None:
    """Raises InvalidArgument for what is no `ActiveSet`."""
    if not isinstance(active, ActiveSet):
        raise InvalidArgument(f"active must be an ActiveSet, got {type(active).__name__}")


def weight_shape(weight: Any) -> tuple[int, int, int]:
    """O, C and k of weights."""
    shape = tuple(_array("weight", weight).shape)
    if len(shape) != 5 or len(set(shape[2:])) != 1:
        raise InvalidArgument(f"weight must have the shape (O, C, k, k, k), got {shape}")
    return shape[0], shape[1], shape[2]


def _rebuilt(
    grid_shape: tuple[int, ...], coordinates: Any, boundary: str, dilate: int, batches: int
) -> ActiveSet:
    return ActiveSet(grid_shape, coordinates, boundary, dilate=dilate, batches=batches)


def _array(name: str, values: Any) -> Any:
    if not (hasattr(values, "shape") and hasattr(values, "dtype")):
        raise InvalidArgument(f"{name} must be an array, got {type(values).__name__}")
    return values


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    kind = Kind.of(like)
    if kind.name.startswith("torch"):
        return like.new_zeros(shape)
    return (sys.modules["cupy"] if kind.name == "cupy" else np).zeros(shape, dtype=like.dtype)


def _on_host(values: Any, kind: Kind) -> npt.NDArray[Any]:
    if kind.name == "cupy":
        values = values.get()
    elif kind.name.startswith("torch"):
        values = values.detach().cpu()
    return np.asarray(values)


def _integers(name: str, values: Any, kind: Kind) -> npt.NDArray[np.int64]:
    array = _on_host(values, kind)
    if array.size and array.dtype.kind not in "iu":
        raise InvalidArgument(f"{name} must be integers, got {array.dtype}")
    if array.ndim != 2 and array.size:
        raise InvalidArgument(f"{name} must have the shape (M, 3) or (M, 4), got {array.shape}")
    return array.astype(np.int64, order="C", copy=False)
