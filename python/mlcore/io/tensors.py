"""Safetensors files, read with suspicion and written atomically.

The reader checks everything before it trusts anything: size of the header, nesting, names, dtypes,
shapes, offsets, finite numbers. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import FileFormatError
from mlcore.io.atomic import write_bytes

__all__ = ["parse_json", "read_bytes", "read_tensors", "write_tensors"]

MAX_HEADER_BYTES = 1 << 20
MAX_JSON_DEPTH = 32
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_CODES = {np.dtype(code).newbyteorder("="): name for name, code in _DTYPES.items()}


def read_bytes(path: str | Path, limit: int, field: str = "file") -> bytes:
    """The whole file, or FileFormatError when absent, unreadable, empty or longer than limit bytes."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileFormatError(f"{path}: {field} cannot be read: {reason}") from error
    if not data:
        raise FileFormatError(f"{path}: {field} is empty")
    if len(data) > limit:
        raise FileFormatError(f"{path}: {field} is larger than {limit} bytes")
    return data


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings."""
    deepest = depth = 0
    inside = escaped = False
    for letter in text:
        if inside:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                inside = False
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def parse_json(data: bytes, where: str) -> Any:
    """JSON of at most 32 levels; NaN, infinities and repeated keys are errors.

    Raises:
        FileFormatError: with `where` at the front of the message.
    """

    def reject(name: str) -> None:
        raise FileFormatError(f"{where}: {name} is not a number allowed in JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise FileFormatError(f"{where}: key {key!r} appears twice")
            found[key] = value
        return found

    try:
        text = data.decode("utf-8")
        if _depth(text) > MAX_JSON_DEPTH:
            raise FileFormatError(f"{where}: nested deeper than {MAX_JSON_DEPTH} levels")
        return json.loads(text, parse_constant=reject, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        message = (
            f"{where}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        )
        raise FileFormatError(message) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise FileFormatError(f"{where}: not valid JSON: {error}") from error


def _entry(where: str, name: str, entry: Any, size: int) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape and byte range of one header entry, checked against the size of the data part."""
    field = f"{where}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"{field}: needs exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise FileFormatError(f"{field}: dtype {code!r} is not one of {', '.join(_DTYPES)}")
    for label, numbers in (("shape", shape), ("data_offsets", offsets)):
        ok = isinstance(numbers, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in numbers)
        if not ok:
            raise FileFormatError(f"{field}: {label} must be a list of non-negative integers")
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise FileFormatError(
            f"{field}: data_offsets {offsets} leave the {size} data bytes: truncated file?"
        )
    count = 1
    for extent in shape:
        count *= extent
    if count * np.dtype(_DTYPES[code]).itemsize != offsets[1] - offsets[0]:
        raise FileFormatError(
            f"{field}: shape {shape} of {code} does not fill {offsets[1] - offsets[0]} bytes"
        )
    return code, tuple(shape), offsets[0], offsets[1]


def read_tensors(
    path: str | Path, *, limit: int = 1 << 30, finite: bool = True, data: bytes | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and string metadata of a safetensors file.

    Args:
        path: file to read (only named in messages when `data` is given).
        limit: largest file accepted, bytes.
        finite: refuse NaN and infinities.
        data: bytes already read.

    Returns:
        tensors by name (writable copies, native byte order) and the `__metadata__` strings.

    Raises:
        FileFormatError: absent, no permission, empty, truncated, oversized header, wrong types, overlaps.
    """
    where = str(path)
    raw = read_bytes(path, limit, "safetensors file") if data is None else data
    if len(raw) < 8:
        raise FileFormatError(
            f"{where}: truncated: {len(raw)} bytes, the header length alone takes 8"
        )
    (length,) = struct.unpack("<Q", raw[:8])
    if length > MAX_HEADER_BYTES:
        raise FileFormatError(
            f"{where}: header of {length} bytes is larger than {MAX_HEADER_BYTES}"
        )
    if 8 + length > len(raw):
        raise FileFormatError(f"{where}: truncated: header of {length} bytes, file of {len(raw)}")
    header = parse_json(raw[8 : 8 + length], f"{where}: header")
    if not isinstance(header, dict):
        raise FileFormatError(f"{where}: header must be a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError(f"{where}: __metadata__ must map strings to strings")
    body = memoryview(raw)[8 + length :]
    tensors: dict[str, NDArray[Any]] = {}
    ranges = []
    for name, entry in header.items():
        code, shape, start, stop = _entry(where, name, entry, len(body))
        ranges.append((start, stop))
        array = np.frombuffer(body[start:stop], dtype=_DTYPES[code]).reshape(shape)
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FileFormatError(f"{where}: tensor {name!r} holds NaN or infinite numbers")
        tensors[name] = array.astype(array.dtype.newbyteorder("="))
    ranges.sort()
    edges = [0, *(stop for _, stop in ranges)]
    if [start for start, _ in ranges] != edges[:-1] or edges[-1] != len(body):
        raise FileFormatError(
            f"{where}: data_offsets must cover the {len(body)} data bytes exactly once"
        )
    return tensors, metadata


def write_tensors(
    path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file (F64, F32, I64, I32, U8) under a temporary name, then rename it."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts = []
    offset = 0
    # largest items first keeps every tensor aligned to its item size
    for name in sorted(tensors, key=lambda n: (-np.asarray(tensors[n]).dtype.itemsize, n)):
        array = np.asarray(tensors[name])
        code = _CODES[array.dtype.newbyteorder("=")]
        block = np.ascontiguousarray(array, dtype=_DTYPES[code]).tobytes()
        span = [offset, offset + len(block)]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": span}
        parts.append(block)
        offset += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise FileFormatError(
            f"{path}: header would take {len(text)} bytes, more than {MAX_HEADER_BYTES}"
        )
    write_bytes(path, struct.pack("<Q", len(text)) + text + b"".join(parts))
