"""Pictures: slices of grids, voxels in perspective, atoms coloured by a number; PNG, and GIF of many.

    frames = [slice_frame(state[0], axis=0) for state in run.states]
    save_gif("life.gif", frames)
    save_png("sheet.png", atoms_frame(atoms, expected, title="expected loss"))

A frame is (height, width, 3) uint8. Nothing is shown on a screen.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.io.atomic import write_bytes

__all__ = ["atoms_frame", "curves_frame", "save_gif", "save_png", "slice_frame", "voxels_frame"]

Frame = npt.NDArray[np.uint8]
Values = Tensor | npt.ArrayLike
Limits = tuple[float, float] | None
_MOST = 4096


def slice_frame(
    values: Values,
    *,
    axis: int = 2,
    index: int = 0,
    limits: Limits = None,
    colours: str = "viridis",
    pixels: int = 8,
) -> Frame:
    """One layer of a grid, a square for each cell, without axes.

    Args:
        values: (X, Y, Z).
        axis: the layer's normal; the first of the others runs down.
        index: of the layer.
        limits: of the colours; None: those of the layer's values.
        colours: name of a colour map of matplotlib.
        pixels: edge of a cell.

    Raises:
        InvalidArgument: naming what is out of range.
    """
    box = _grid(values)
    if axis not in (0, 1, 2) or not -box.shape[axis] <= index < box.shape[axis]:
        raise InvalidArgument(f"axis {axis!r} and index {index!r} are no layer of {box.shape}")
    layer = np.take(box, index, axis=axis)
    if not isinstance(pixels, int) or not 1 <= pixels * max(layer.shape) <= _MOST:
        raise InvalidArgument(f"pixels must be from 1 to {_MOST // max(layer.shape)}: {pixels!r}")
    coloured = _coloured(layer, limits, colours)
    return coloured.repeat(pixels, axis=0).repeat(pixels, axis=1)


def voxels_frame(
    values: Values,
    *,
    shown: Values | None = None,
    limits: Limits = None,
    colours: str = "viridis",
    size: float = 4.0,
    view: tuple[float, float] = (25.0, -60.0),
    title: str = "",
) -> Frame:
    """Cells of a grid as cubes in perspective; meant for some thousands of cells.

    Args:
        values: (X, Y, Z), by which cubes are coloured.
        shown: (X, Y, Z), where there is a cube; None: where the value is not 0.
        limits: of the colours; None: those of the values shown.
        colours: name of a colour map of matplotlib.
        size: of the picture, in 100 pixels.
        view: elevation and azimuth, degrees.
        title: above it.

    Raises:
        InvalidArgument: the grids are not of one box.
    """
    box = _grid(values)
    there = box != 0 if shown is None else _grid(shown) != 0
    if there.shape != box.shape:
        raise InvalidArgument(f"shown must be of the box {box.shape}, got {there.shape}")
    tint = np.zeros((*box.shape, 3))
    if there.any():
        tint[there] = _coloured(box[there], limits, colours) / 255
    figure = _figure(size, size)
    axes: Any = figure.add_subplot(projection="3d")
    axes.voxels(there, facecolors=tint, edgecolor=(0, 0, 0, 0.2), linewidth=0.3)
    axes.view_init(*view)
    axes.set_aspect("equal")
    if title:
        axes.set_title(title)
    return _drawn(figure)


def atoms_frame(
    atoms: Atoms,
    values: Values | None = None,
    *,
    axis: int = 2,
    limits: Limits = None,
    colours: str = "viridis",
    radius: float = 0.7,
    bonds: npt.ArrayLike | None = None,
    size: float = 6.0,
    title: str = "",
) -> Frame:
    """Atoms seen along an axis, those in front over those behind, with a bar of colours.

    Args:
        atoms: of a sheet, say.
        values: (n,) by which they are coloured; None: their atomic numbers.
        axis: 0, 1 or 2, along which one looks.
        limits: of the colours; None: those of the values.
        colours: name of a colour map of matplotlib.
        radius: of an atom, A.
        bonds: (b, 2) pairs of rows between which lines are drawn.
        size: of the picture's longer side, in 100 pixels.
        title: above it.

    Raises:
        InvalidArgument: values or bonds are not of the atoms, or there are none.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import EllipseCollection, LineCollection
    from matplotlib.colors import Normalize

    told = _numbers(atoms.numbers if values is None else values)
    if len(atoms) == 0 or told.shape != (len(atoms),):
        raise InvalidArgument(f"values must be ({len(atoms)},) of at least one atom: {told.shape}")
    if axis not in (0, 1, 2):
        raise InvalidArgument(f"axis must be 0, 1 or 2, got {axis!r}")
    low, high = _range(told, limits)
    flat = atoms.positions[:, [k for k in range(3) if k != axis]]
    width, height = np.ptp(flat, axis=0) + 4 * radius
    scale = size / max(width, height)
    figure = _figure(max(scale * width, 1.5) + 1.2, max(scale * height, 1.2) + 0.6)
    axes: Any = figure.add_subplot()
    paint = ScalarMappable(Normalize(low, high), colours)
    if bonds is not None:
        pairs = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
        if pairs.size and not (pairs.min() >= 0 and pairs.max() < len(atoms)):
            raise InvalidArgument(f"bonds must be pairs of rows from 0 to {len(atoms) - 1}")
        axes.add_collection(LineCollection(list(flat[pairs]), colors="0.6", linewidths=0.8))
    order = np.argsort(atoms.positions[:, axis], kind="stable")
    wide = np.full(len(atoms), 2 * radius)
    discs = EllipseCollection(
        wide,
        wide,
        np.zeros(len(atoms)),
        offsets=flat[order],
        units="xy",
        offset_transform=axes.transData,
        facecolors=paint.to_rgba(told[order]),
        edgecolors="0.2",
        linewidths=0.2,
    )
    axes.add_collection(discs)
    for set_limits, column in ((axes.set_xlim, 0), (axes.set_ylim, 1)):
        set_limits(flat[:, column].min() - 2 * radius, flat[:, column].max() + 2 * radius)
    axes.set_aspect("equal")
    names = [name for k, name in enumerate("xyz") if k != axis]
    axes.set(xlabel=f"{names[0]} / Å", ylabel=f"{names[1]} / Å", title=title)
    figure.colorbar(paint, ax=axes)
    figure.set_layout_engine("tight")
    return _drawn(figure)


def curves_frame(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str = "",
    y: str = "",
    logarithmic: bool = False,
    size: float = 6.0,
) -> Frame:
    """Lines with their names; those beyond ten are not named.

    Args:
        curves: by name, points.
        x, y: what the axes are.
        logarithmic: whether y is, where all of it is positive.
        size: of the picture's longer side, in 100 pixels.

    Raises:
        InvalidArgument: there are no curves, or one is not of points.
    """
    lines = {name: _numbers(points) for name, points in curves.items()}
    if not lines or any(one.ndim != 2 or one.shape[1] != 2 for one in lines.values()):
        raise InvalidArgument("curves must be some, each of points (x, y)")
    figure = _figure(size, 0.6 * size)
    axes: Any = figure.add_subplot()
    for name, points in lines.items():
        axes.plot(*points.T, label=name, linewidth=1)
    if logarithmic and all((one[:, 1] > 0).all() for one in lines.values()):
        axes.set_yscale("log")
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    if len(lines) <= 10:
        axes.legend()
    figure.set_layout_engine("tight")
    return _drawn(figure)


def save_png(path: str | os.PathLike[str], frame: Frame) -> None:
    """One frame, whole or not at all.

    Raises:
        InvalidArgument: it is no (height, width, 3) uint8.
    """
    out = io.BytesIO()
    _image(frame).save(out, format="PNG")
    write_bytes(path, out.getvalue())


def save_gif(
    path: str | os.PathLike[str], frames: Sequence[Frame], *, seconds: float = 0.1
) -> None:
    """Frames one after the other, again and again.

    Args:
        path: file.
        frames: of one size.
        seconds: that each is shown, in steps of 0.01.

    Raises:
        InvalidArgument: no frames, of several sizes, or a time too short.
    """
    if len({np.shape(frame) for frame in frames}) != 1:
        raise InvalidArgument("frames must be some, and of one size")
    if not seconds >= 0.02:
        raise InvalidArgument(f"seconds must be at least 0.02, which viewers know: {seconds!r}")
    first, *rest = [_image(frame) for frame in frames]
    out = io.BytesIO()
    first.save(
        out,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=round(1000 * seconds),
        loop=0,
        optimize=False,
    )
    write_bytes(path, out.getvalue())


def _numbers(values: Values) -> npt.NDArray[np.float64]:
    held = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(held, dtype=np.float64)


def _grid(values: Values) -> npt.NDArray[np.float64]:
    box = _numbers(values)
    if box.ndim != 3 or not box.size:
        raise InvalidArgument(f"values must be (X, Y, Z), got {box.shape}")
    return box


def _range(values: npt.NDArray[np.float64], limits: Limits) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    of_values = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    low, high = of_values if limits is None else limits
    if not low <= high:
        raise InvalidArgument(f"limits must rise, got {limits!r}")
    return float(low), float(high if high > low else low + 1)


def _coloured(values: npt.NDArray[np.float64], limits: Limits, colours: str) -> Frame:
    """(..., 3) uint8; what is no number is grey."""
    from matplotlib import colormaps

    if colours not in colormaps:
        raise InvalidArgument(f"colours must be a colour map of matplotlib, got {colours!r}")
    low, high = _range(values, limits)
    known = np.isfinite(values)
    part = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1)
    tints = colormaps[colours](part, bytes=True)[..., :3]
    coloured: Frame = np.where(known[..., None], tints, np.uint8(128)).astype(np.uint8)
    return coloured


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def _drawn(figure: Any) -> Frame:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _image(frame: Frame) -> Any:
    from PIL import Image

    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise InvalidArgument(
            f"frame must be (height, width, 3) uint8: {array.dtype} {array.shape}"
        )
    return Image.fromarray(array)
