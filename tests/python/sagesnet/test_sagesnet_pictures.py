"""Pictures and files for other viewers, read back by other programs where there are some."""

import base64
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from ase.build import graphene
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.render import atoms_frame, save_gif, save_png, slice_frame, voxels_frame
from mlcore.sagesnet.vtk import write_pvd, write_vti, write_vtp
from PIL import Image

KINDS = {"Float64": "<f8", "Float32": "<f4", "Int64": "<i8", "UInt8": "|u1"}


def _read(path: Path) -> tuple[ElementTree.Element, dict[str, np.ndarray]]:
    root = ElementTree.parse(path).getroot()
    arrays = {}
    for element in root.iter("DataArray"):
        raw = base64.b64decode(element.text or "")
        (length,) = struct.unpack("<Q", raw[:8])
        assert length == len(raw) - 8
        array = np.frombuffer(raw[8:], KINDS[element.attrib["type"]])
        parts = int(element.attrib["NumberOfComponents"])
        arrays[element.attrib["Name"]] = array.reshape(-1, parts) if parts > 1 else array
    return root, arrays


def test_grids_in_vtk_files_are_those_written(tmp_path: Path) -> None:
    values = torch.arange(24.0, dtype=torch.float32).reshape(2, 3, 4)
    vectors = np.random.default_rng(0).normal(size=(2, 3, 4, 3))
    write_vti(
        tmp_path / "a.vti",
        {"h": values, "v": vectors, "alive": values > 3},
        spacing=(2.0, 2.5, 1.0),
        origin=(0.0, -1.0, 0.0),
    )
    root, arrays = _read(tmp_path / "a.vti")
    image = root.find("ImageData")
    assert image is not None
    assert image.attrib["WholeExtent"] == "0 2 0 3 0 4"
    assert [float(x) for x in image.attrib["Spacing"].split()] == [2.0, 2.5, 1.0]
    assert np.array_equal(arrays["h"].reshape(4, 3, 2).T, values.numpy())
    assert np.array_equal(arrays["v"].reshape(4, 3, 2, 3).transpose(2, 1, 0, 3), vectors)
    assert arrays["alive"].sum() == 20


def test_atoms_in_vtk_files_are_those_written(tmp_path: Path) -> None:
    atoms = graphene(size=(3, 2, 1), vacuum=5)
    atoms.set_velocities(np.random.default_rng(1).normal(size=(len(atoms), 3)))
    strain = np.linspace(0, 1, len(atoms))
    write_vtp(tmp_path / "a.vtp", atoms, {"strain": strain}, bonds=[[0, 1], [2, 3]])
    root, arrays = _read(tmp_path / "a.vtp")
    assert np.array_equal(arrays["Points"], atoms.positions)
    assert np.allclose(arrays["velocity"], atoms.get_velocities())
    assert np.array_equal(arrays["strain"], strain)
    assert (arrays["number"] == 6).all()
    piece = root.find("PolyData/Piece")
    assert piece is not None
    assert (piece.attrib["NumberOfPoints"], piece.attrib["NumberOfLines"]) == ("12", "2")
    write_pvd(tmp_path / "a.pvd", [tmp_path / "a.vtp"] * 2, [0.0, 0.5])
    series = list(ElementTree.parse(tmp_path / "a.pvd").getroot().iter("DataSet"))
    assert [one.attrib["file"] for one in series] == ["a.vtp", "a.vtp"]
    assert [float(one.attrib["timestep"]) for one in series] == [0.0, 0.5]


def test_vtk_itself_reads_them(tmp_path: Path) -> None:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    values = np.arange(24.0).reshape(2, 3, 4)
    vectors = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
    turned = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    write_vti(
        tmp_path / "a.vti",
        {"h": values, "v": vectors, "alive": values > 3},
        spacing=(1, 2, 3),
        origin=(5, 0, -1),
        directions=turned,
    )
    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(tmp_path / "a.vti"))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == (3, 4, 5)
    held = vtk_to_numpy(image.GetCellData().GetArray("h"))
    assert np.array_equal(held.reshape(4, 3, 2).T, values)
    arrows = vtk_to_numpy(image.GetCellData().GetArray("v")).reshape(4, 3, 2, 3)
    assert np.array_equal(arrows.transpose(2, 1, 0, 3), vectors)
    assert vtk_to_numpy(image.GetCellData().GetArray("alive")).sum() == 20
    # corner (1, 2, 0) of the grid in space: along each axis so many spacings
    place = [0.0] * 3
    image.TransformContinuousIndexToPhysicalPoint(1.0, 2.0, 0.0, place)
    assert np.allclose(place, np.array([5, 0, -1]) + turned[0] * 1 + turned[1] * 2 * 2)
    atoms = graphene(size=(2, 2, 1), vacuum=5)
    write_vtp(tmp_path / "a.vtp", atoms, {"x": atoms.positions[:, 0]}, bonds=[[0, 1]])
    points = vtk.vtkXMLPolyDataReader()
    points.SetFileName(str(tmp_path / "a.vtp"))
    points.Update()
    poly = points.GetOutput()
    assert np.allclose(vtk_to_numpy(poly.GetPoints().GetData()), atoms.positions)
    assert np.array_equal(vtk_to_numpy(poly.GetPointData().GetArray("x")), atoms.positions[:, 0])
    assert (poly.GetNumberOfVerts(), poly.GetNumberOfLines()) == (8, 1)


def test_slices_show_each_cell_in_its_place(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 2))
    values[1, 2, 1] = 1.0
    values[2, 0, 1] = np.nan
    frame = slice_frame(torch.tensor(values), axis=2, index=1, pixels=5, colours="gray")
    assert frame.shape == (15, 20, 3)
    assert (frame[5:10, 10:15] == 255).all()
    assert (frame[10:15, 0:5] == 128).all()
    assert frame.astype(int).sum() == 25 * 3 * (255 + 128)
    save_png(tmp_path / "a.png", frame)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), frame)


def test_a_film_has_all_of_its_frames(tmp_path: Path) -> None:
    frames = [slice_frame(np.eye(6)[..., None] * k, limits=(0, 3), pixels=4) for k in range(4)]
    save_gif(tmp_path / "a.gif", frames, seconds=0.05)
    with Image.open(tmp_path / "a.gif") as film:
        assert getattr(film, "n_frames", 1) == 4
        assert film.info["duration"] == 50
        film.seek(3)
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert abs(shown - frames[3]).max() <= 2


def test_cubes_and_atoms_are_drawn_in_their_colours() -> None:
    box = np.zeros((3, 3, 3))
    box[1, 1, 1] = 5.0
    empty, one = voxels_frame(0 * box), voxels_frame(box, limits=(0, 5), colours="autumn")
    assert one.shape == empty.shape
    assert (one != empty).any()
    yellow = (one[..., 0] > 200) & (one[..., 1] > 200) & (one[..., 2] < 60)
    assert yellow.sum() > 50
    atoms = graphene(size=(4, 3, 1), vacuum=5)
    values = np.zeros(len(atoms))
    cold = atoms_frame(atoms, values, limits=(0, 1), colours="autumn", title="none")
    values[0] = 1.0
    hot = atoms_frame(atoms, values, limits=(0, 1), colours="autumn", title="none", bonds=[[0, 1]])
    assert cold.shape == hot.shape
    assert 20 < (cold != hot).any(axis=-1).sum() < 0.1 * cold[..., 0].size


def test_wrong_pictures_are_named(tmp_path: Path) -> None:
    box = np.zeros((2, 2, 2))
    atoms = graphene(vacuum=5)
    for wrong, told in (
        (lambda: slice_frame(np.zeros((2, 2))), "values"),
        (lambda: slice_frame(box, index=2), "index"),
        (lambda: slice_frame(box, colours="mud"), "colours"),
        (lambda: slice_frame(box, limits=(1, 0)), "limits"),
        (lambda: slice_frame(box, pixels=10**6), "pixels"),
        (lambda: voxels_frame(box, shown=np.zeros((1, 2, 2))), "shown"),
        (lambda: atoms_frame(atoms, [1.0]), "values"),
        (lambda: atoms_frame(atoms, bonds=[[0, 9]]), "bonds"),
        (lambda: save_gif(tmp_path / "a.gif", []), "frames"),
        (lambda: save_png(tmp_path / "a.png", np.zeros((2, 2))), "frame"),  # type: ignore[arg-type]
        (lambda: write_vti(tmp_path / "a.vti", {}), "cells"),
        (lambda: write_vti(tmp_path / "a.vti", {"x": np.array([[["a"]]])}), "VTK"),
        (lambda: write_vtp(tmp_path / "a.vtp", atoms, {"x": [1.0]}), "points"),
        (lambda: write_vtp(tmp_path / "a.vtp", atoms, bonds=[[0, 2]]), "bonds"),
        (lambda: write_pvd(tmp_path / "a.pvd", [], []), "files"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            wrong()
    assert not list(tmp_path.iterdir())
