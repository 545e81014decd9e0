"""Arrays in, arrays of the same kind out: NumPy, torch (CPU, CUDA), CuPy and ``ase.Atoms``.

The room behind the faces of the operations. One on particles reads

    particles = Particles.of(x, cell, pbc)
    array, result = particles.output(out, (n, 3))
    _core.operation(*particles.box, particles.x, array, stream=particles.kind.stream())
    return result

and one on any other array

    array, kind = real("values", values)
    filled, result = kind.output(out, shape)

What runs on the CPU alone takes `host` in place of `real`, or names itself to `Particles.of`, and
gives what it made back by ``kind.like``.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.errors import BackendUnavailable, InvalidArgument

if TYPE_CHECKING:
    import ase
    import torch

    Positions = ase.Atoms | npt.ArrayLike | torch.Tensor
    Pbc = bool | Sequence[bool] | npt.NDArray[np.bool_] | None

__all__ = [
    "Box",
    "Kind",
    "Particles",
    "apart",
    "box",
    "flag",
    "host",
    "integer",
    "is_atoms",
    "number",
    "one_of",
    "positive",
    "precision",
    "real",
    "thread_count",
]

_POOLED = 1 << 16  # bytes from which memory is taken from the pool, see mlcore/buffer.hpp
Array = npt.NDArray[np.float64]
Box = tuple[Array, tuple[bool, bool, bool]]


@dataclass(frozen=True)
class Kind:
    """What an argument was, so that a result can be alike.

    Attributes:
        name: "numpy", "torch", "torch-cuda", "cupy", or "other-gpu" (known only to be refused).
        device: of a tensor.
    """

    name: str
    device: Any = None

    @classmethod
    def of(cls, values: Any) -> Kind:
        """The kind of an argument; what is not an array becomes NumPy's."""
        if type(values) is np.ndarray:
            return _NUMPY
        if _is_instance(values, "torch", "Tensor"):
            names = {"cpu": "torch", "cuda": "torch-cuda"}
            return cls(names.get(values.device.type, "other-gpu"), values.device)
        if hasattr(values, "__cuda_array_interface__"):
            return cls("cupy" if _is_instance(values, "cupy", "ndarray") else "other-gpu")
        return cls("numpy")

    @property
    def on_cpu(self) -> bool:
        return self.name in ("numpy", "torch")

    def require_cpu(self, name: str, runs: str) -> None:
        """Raises BackendUnavailable: "``runs`` on the CPU; ``name`` lies on ..."."""
        if not self.on_cpu:
            raise BackendUnavailable(
                f"{runs} on the CPU; {name} lies on {self._place()}: copy it to the host"
            )

    def require_device_of(self, first: Kind, name: str, name_of_first: str) -> None:
        """Raises InvalidArgument where one array is elsewhere than the other."""
        both_torch = self.name == first.name == "torch-cuda"
        if self.on_cpu != first.on_cpu or (both_torch and self.device != first.device):
            raise InvalidArgument(
                f"all arrays must live on the same device, but {name_of_first} is on "
                f"{first._place()} and {name} on {self._place()}"
            )

    def _place(self) -> str:
        return "the CPU" if self.on_cpu else str(self.device or "a GPU")

    def take(
        self, name: str, values: Any, dtype: npt.DTypeLike = np.float64, detach: bool = False
    ) -> Any:
        """C-contiguous real numbers as the core reads them: NumPy on the CPU, else where they are.

        Raises:
            InvalidArgument: they are no real numbers, or a tensor requires gradients (unless
                ``detach``).
        """
        if self.name.startswith("torch"):
            return self._take_tensor(name, values, dtype, detach)
        if self.name == "other-gpu":
            raise InvalidArgument(
                f"{name} must lie on the CPU, or be a torch CUDA tensor or a CuPy array, got "
                f"{type(values).__name__} on {self.device or 'a GPU'}"
            )
        if self.name == "cupy":
            return sys.modules["cupy"].ascontiguousarray(values, dtype=dtype)
        try:
            array = np.asarray(values)
            if array.dtype.kind not in "fiubO" or (_whole(dtype) and array.dtype.kind in "fO"):
                raise TypeError(f"got the dtype {array.dtype}")
            if array.dtype.kind == "O" and any(value is None for value in array.flat):
                raise TypeError("got None")
            return array.astype(dtype, order="C", copy=False)
        except (TypeError, ValueError) as error:
            what = "integers" if _whole(dtype) else "real numbers"
            raise InvalidArgument(f"{name} must be an array of {what}: {error}") from None

    def _take_tensor(self, name: str, values: Any, dtype: npt.DTypeLike, detach: bool) -> Any:
        if values.is_complex() or (_whole(dtype) and values.is_floating_point()):
            what = "integers" if _whole(dtype) else "real numbers"
            raise InvalidArgument(f"{name} must be an array of {what}, got {values.dtype}")
        if values.layout is not sys.modules["torch"].strided:
            raise InvalidArgument(f"{name} must be a dense tensor, got {values.layout}")
        if values.requires_grad and not detach:
            raise InvalidArgument(
                f"{name} requires gradients, which do not flow through here; detach it"
            )
        values = values.detach().to(_torch_dtype(dtype)).contiguous().resolve_neg()
        return values.numpy() if self.on_cpu else values

    def output(
        self,
        out: Any,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = np.float64,
        like: str = "x",
        name: str = "out",
    ) -> tuple[Any, Any]:
        """Where a result goes: (the array the core fills, the same as the caller gets it).

        Args:
            out: the caller's array, or None for a new one.
            shape: of the result.
            dtype: of the result.
            like: name of the argument whose kind this is, for messages.
            name: of ``out``, for messages.

        Raises:
            InvalidArgument: ``out`` has another kind, shape or dtype, is not C-contiguous or cannot
                be written to.
        """
        if out is None:
            out = self._empty(shape, dtype)
        elif not _fits(self, out, shape, dtype):
            self._check_output(out, shape, np.dtype(dtype).name, like, name)
        return (self.take(name, out, dtype) if self.name == "torch" else out), out

    def _check_output(
        self, out: Any, shape: tuple[int, ...], dtype: str, like: str, name: str
    ) -> None:
        if not hasattr(out, "shape") or not hasattr(out, "dtype"):
            raise InvalidArgument(f"{name} must be an array, got {type(out).__name__}")
        kind = Kind.of(out)
        kind.require_device_of(self, name, like)
        if kind.name != self.name:
            raise InvalidArgument(
                f"{name} must be of the kind of {like} ({self.name}), got {kind.name}"
            )
        if tuple(out.shape) != shape:
            raise InvalidArgument(f"{name} must have the shape {shape}, got {tuple(out.shape)}")
        packed = out.is_contiguous() if self.device is not None else out.flags.c_contiguous
        if str(out.dtype) not in (dtype, f"torch.{dtype}") or not packed:
            raise InvalidArgument(
                f"{name} must be C-contiguous {dtype}, got {out.dtype}, "
                f"{'' if packed else 'not '}C-contiguous"
            )
        if isinstance(out, np.ndarray) and not out.flags.writeable:
            raise InvalidArgument(f"{name} must be writeable")

    def _empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        if self.on_cpu and (size := _bytes(shape, dtype)) >= _POOLED:
            try:
                return self.like(_core.empty(shape, np.dtype(dtype)))
            except MemoryError:
                raise MemoryError(
                    f"a result of the shape {shape} takes {size / 2**30:.3g} GiB, more than there is"
                ) from None
        if self.name.startswith("torch"):
            torch = sys.modules["torch"]
            return torch.empty(shape, dtype=_torch_dtype(dtype), device=self.device)
        return (sys.modules["cupy"] if self.name == "cupy" else np).empty(shape, dtype=dtype)

    def like(self, array: npt.NDArray[Any]) -> Any:
        """A NumPy array as this kind, without a copy; CPU kinds only."""
        return sys.modules["torch"].from_numpy(array) if self.name == "torch" else array

    def array(self, values: npt.NDArray[Any]) -> Any:
        """A NumPy array as this kind, on its device."""
        if self.name == "cupy":
            return sys.modules["cupy"].asarray(values)
        if self.name == "torch-cuda":
            return sys.modules["torch"].as_tensor(values, device=self.device)
        return self.like(values)

    def stream(self) -> int:
        """Address of the current CUDA stream, 0 on the CPU."""
        if self.name == "torch-cuda":
            return int(sys.modules["torch"].cuda.current_stream(self.device).cuda_stream)
        if self.name == "cupy":
            return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
        return 0


_NUMPY = Kind("numpy")


def _fits(kind: Kind, out: Any, shape: tuple[int, ...], dtype: npt.DTypeLike) -> bool:
    """The common case of `Kind._check_output`, in a microsecond."""
    return (
        kind is _NUMPY
        and type(out) is np.ndarray
        and out.dtype == dtype
        and out.shape == shape
        and out.flags.c_contiguous
        and out.flags.writeable
    )


def real(name: str, values: Any, dtype: npt.DTypeLike = np.float64) -> tuple[Any, Kind]:
    """Real numbers as the core reads them, and what kind they were; see `Kind.take`."""
    kind = Kind.of(values)
    return kind.take(name, values, dtype), kind


def host(
    name: str,
    values: Any,
    runs: str,
    dtype: npt.DTypeLike = np.float64,
    detach: bool = False,
) -> npt.NDArray[Any]:
    """NumPy array of real numbers; see `Kind.take` and `Kind.require_cpu`."""
    kind = Kind.of(values)
    kind.require_cpu(name, runs)
    array: npt.NDArray[Any] = kind.take(name, values, dtype, detach)
    return array


def precision(*values: Any) -> np.dtype[Any]:
    """float32 where every argument is an array of it, else float64."""
    return _SINGLE if all(_is_single(value) for value in values) else _DOUBLE


_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def _is_single(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype == _SINGLE if isinstance(dtype, np.dtype) else str(dtype) == "torch.float32"


def number(name: str, value: Any) -> float:
    """A real number as float; InvalidArgument for what is none, text included."""
    try:
        return _float(value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{name} must be a number, got {value!r}") from None


def positive(name: str, value: Any) -> float:
    """A number as float; InvalidArgument unless it is positive and finite."""
    try:
        found = _float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise InvalidArgument(f"{name} must be positive and finite, got {value!r}")
    return found


def _float(value: Any) -> float:
    if isinstance(value, (str, bytes)) or getattr(getattr(value, "dtype", None), "kind", "") == "c":
        raise TypeError
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or False, or a whole number that is one of them; InvalidArgument else."""
    if not (isinstance(value, (bool, np.bool_, int, np.integer)) and value in (0, 1)):
        raise InvalidArgument(f"{name} must be True or False, got {value!r}")
    return bool(value)


def one_of(name: str, value: Any, *options: str) -> str:
    """One of some words; InvalidArgument for anything else."""
    if not (isinstance(value, str) and value in options):
        *rest, last = (f'"{option}"' for option in options)
        words = f"{', '.join(rest)} or {last}"
        given = f'"{value}"' if isinstance(value, str) else repr(value)
        raise InvalidArgument(f"{name} must be {words}, got {given}")
    return value


def integer(name: str, value: Any) -> int:
    """A whole number as int; InvalidArgument for what is none, 2.0 included."""
    try:
        return operator.index(value)
    except TypeError:
        raise InvalidArgument(f"{name} must be an integer, got {value!r}") from None


def thread_count(num_threads: int | None) -> int:
    """What a caller says about threads, as the core takes it: 0 for the library-wide setting."""
    number = 0 if num_threads is None else integer("num_threads", num_threads)
    if not 0 <= number <= 1024:
        raise InvalidArgument(
            f"num_threads must lie in 0..1024 (0, None: library-wide setting), got {number}"
        )
    return number


def apart(out: Any, **inputs: Any) -> None:
    """Raises InvalidArgument where ``out`` shares memory with an input it is computed from.

    Args:
        out: C-contiguous array the core is to fill.
        inputs: C-contiguous arrays as the core reads them, by the caller's names; or None.
    """
    first, last = _span(out)
    for name, values in inputs.items():
        begin, end = (0, 0) if values is None else _span(values)
        if first < end and begin < last:
            raise InvalidArgument(f"out and {name} share memory; give out memory of its own")


def _span(array: Any) -> tuple[int, int]:
    """Addresses of the first byte of a C-contiguous array and of that after its last one."""
    if isinstance(array, np.ndarray):
        begin, size = array.__array_interface__["data"][0], array.nbytes
    elif hasattr(array, "data_ptr"):
        begin, size = array.data_ptr(), array.numel() * array.element_size()
    else:
        begin, size = array.data.ptr, array.nbytes
    return (begin, begin + size) if size else (0, 0)


def is_atoms(value: Any) -> bool:
    """Whether this is ``ase.Atoms``, or looks like it."""
    return all(hasattr(value, name) for name in ("positions", "numbers", "cell", "pbc"))


def box(cell: Any, pbc: Any, periodic: bool = True, detach: bool = False) -> Box:
    """A periodic cell as the core takes it.

    Args:
        cell: (3, 3) row vectors, (3,) edge lengths, ``ase`` cell, or None.
        pbc: one flag or three; None: ``periodic`` where there is a cell.
        periodic: what pbc=None means.
        detach: takes a tensor that requires gradients.

    Returns:
        (3, 3) rows, zero without a cell, and three flags.

    Raises:
        InvalidArgument: a shape or value is wrong, or pbc is set without a cell.
    """
    if cell is None and pbc is None:
        return np.zeros((3, 3)), (False, False, False)
    flags = np.asarray((periodic and cell is not None) if pbc is None else pbc)
    if flags.shape not in ((), (3,)) or flags.dtype.kind not in "biuf":
        raise InvalidArgument(f"pbc must be one flag or three, got {pbc!r}")
    a, b, c = np.broadcast_to(flags.astype(bool), 3).tolist()
    if cell is None:
        if a or b or c:
            raise InvalidArgument("pbc is set, but there is no cell; give the cell or pbc=False")
        return np.zeros((3, 3)), (False, False, False)
    rows = host("cell", getattr(cell, "array", cell), "cells are read", detach=detach)
    if rows.shape == (3,):
        rows = np.diag(rows)
    if rows.shape != (3, 3):
        raise InvalidArgument(f"cell must have the shape (3, 3) or (3,), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise InvalidArgument("cell must be finite")
    return np.ascontiguousarray(rows), (a, b, c)


@dataclass(frozen=True)
class Particles:
    """Positions as the core takes them, with their box and what kind they were.

    Attributes:
        x: (B, n, 3).
        kind: of the caller's positions.
        batched: whether the caller gave the leading dimension.
        box: cell and flags, as `box` gives them.
        name: of the caller's argument.
        dtype: of x, and of other arguments and results.
    """

    x: Any
    kind: Kind
    batched: bool
    box: Box
    name: str
    dtype: npt.DTypeLike = np.float64

    @classmethod
    def of(
        cls,
        x: Any,
        cell: Any,
        pbc: Any,
        *,
        name: str = "x",
        cpu: str = "",
        dtype: npt.DTypeLike = np.float64,
    ) -> Particles:
        """Positions (n, 3) or (B, n, 3) or Atoms, which bring cell and pbc where those are None.

        Args:
            x, cell, pbc: the caller's; see `box`.
            name: of x in messages.
            cpu: who "runs" on the CPU alone, e.g. "dynamics run"; "" takes GPU arrays too.
            dtype: of x, `vectors` and `output`; see `precision`.
        """
        if is_atoms(x):
            cell = x.cell if cell is None else cell
            pbc = x.pbc if pbc is None else pbc
            x = x.positions
        kind = Kind.of(x)
        if cpu:
            kind.require_cpu(name, cpu)
        array = kind.take(name, x, dtype)
        shape = tuple(array.shape)
        if len(shape) not in (2, 3) or shape[-1] != 3:
            raise InvalidArgument(f"{name} must have the shape (n, 3) or (B, n, 3), got {shape}")
        batched = len(shape) == 3
        batch = array if batched else array[None]
        return cls(batch, kind, batched, box(cell, pbc), name, dtype)

    def single(self) -> Any:
        """(n, 3) positions; InvalidArgument for a batch."""
        if self.batched:
            raise InvalidArgument(
                f"{self.name} must have the shape (n, 3), got {tuple(self.x.shape)}"
            )
        return self.x[0]

    def real(self, name: str, values: Any) -> Any:
        """Another argument on the device of the positions."""
        array, kind = real(name, values, self.dtype)
        kind.require_device_of(self.kind, name, self.name)
        return array

    def vectors(self, name: str, values: Any) -> Any:
        """Another argument of the shape of the positions, as (B, n, 3)."""
        array = self.real(name, values)
        shape = tuple(self.x.shape if self.batched else self.x.shape[1:])
        if tuple(array.shape) != shape:
            raise InvalidArgument(
                f"{name} must have the shape {shape} of {self.name}, got {tuple(array.shape)}"
            )
        return array if self.batched else array[None]

    def output(self, out: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """`Kind.output` of one result of ``shape`` per configuration: the core fills (B, *shape)."""
        full = (self.x.shape[0], *shape) if self.batched else shape
        array, result = self.kind.output(out, full, self.dtype, like=self.name)
        return (array if self.batched else array[None]), result


def _is_instance(values: Any, module: str, name: str) -> bool:
    found = sys.modules.get(module)  # such an array exists only where its library is imported
    return found is not None and isinstance(values, getattr(found, name))


def _bytes(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size >= 1 << 62:
        raise InvalidArgument(f"a result of the shape {shape} does not fit into memory")
    return size


def _whole(dtype: npt.DTypeLike) -> bool:
    return np.dtype(dtype).kind in "iu"


def _torch_dtype(dtype: npt.DTypeLike) -> Any:
    return getattr(sys.modules["torch"], np.dtype(dtype).name)
