"""Unequal radii, the regularised Stokeslet, the wall, and single precision."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import requested
from mlcore import _core
from mlcore.errors import InvalidArgument
from mlcore.mobility import RPY, Oseen, PairMobility, RegularizedOseen, WallRPY
from scipy.special import kv, spherical_jn

torch = pytest.importorskip("torch")

A, ETA = 1.1, 0.7


def radii(n: int, seed: int = 2) -> np.ndarray:
    return 0.2 + 2.0 * np.random.default_rng(seed).random(n)


def above(n: int, length: float = 9.0, seed: int = 0) -> np.ndarray:
    """Positions (n, 3) over the wall, overlapping among others."""
    return np.random.default_rng(seed).random((n, 3)) * length + [0, 0, A]


def table() -> PairMobility:
    return PairMobility.from_functions(
        0.3, 5.0, lambda r: (1 - r / 5) ** 3, lambda r: 0.5 * (1 - r / 5) ** 3, knots=64
    )


def tabulated(background: Any) -> PairMobility:
    t = table().table
    return PairMobility(0.3, 5.0, t.par, t.dpar, t.perp, t.dperp, background=background)


KERNELS: dict[str, Callable[[int], Any]] = {
    "rpy": lambda n: RPY(A, ETA),
    "oseen": lambda n: Oseen(ETA, A),
    "unequal": lambda n: RPY(radii(n), ETA),
    "regularised": lambda n: RegularizedOseen(ETA, 1.5 * A),
    "wall": lambda n: WallRPY(A, ETA),
    "table on unequal": lambda n: tabulated(RPY(radii(n), ETA)),
    "table on regularised": lambda n: tabulated(RegularizedOseen(ETA, 1.5 * A)),
    "table on wall": lambda n: tabulated(WallRPY(A, ETA)),
}
each_kernel = pytest.mark.parametrize("name", KERNELS)
positive_kernels = pytest.mark.parametrize("name", ["rpy", "unequal", "regularised", "wall"])


def pair_blocks(mobility: Any, r: float) -> tuple[float, float]:
    """par, perp of two particles at a distance r along x."""
    m = mobility.matrix(np.array([[0.0, 0, 0], [r, 0, 0]]))
    return float(m[0, 3]), float(m[1, 4])


def fourier_pair(shape: Callable[[np.ndarray], np.ndarray], r: float) -> tuple[float, float]:
    """par, perp of forces of a given Fourier transform: an integral over wave numbers."""
    k = (np.arange(400_000) + 0.5) * 2e-3
    kr = k * r
    j0, j1 = spherical_jn(0, kr), spherical_jn(1, kr)
    scale = 2e-3 / (2 * np.pi**2 * ETA)
    weight = scale * shape(k)
    return float(weight @ (2 * j1 / kr)), float(weight @ (j0 - j1 / kr))


# -- unequal radii ------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.05, 0.3, 0.5999, 0.6001, 1.1, 1.9, 2.1999, 2.2001, 3.5, 12.0])
def test_unequal_spheres_are_spheres_of_surface_forces(r: float) -> None:
    """The tensor is that of forces on two shells, whose transforms are sin(ka)/ka, sin(kb)/kb."""
    a, b = 1.4, 0.8
    exact = fourier_pair(lambda k: np.sinc(k * a / np.pi) * np.sinc(k * b / np.pi), r)
    assert pair_blocks(RPY([a, b], ETA), r) == pytest.approx(exact, abs=3e-6)
    assert pair_blocks(RPY([b, a], ETA), r) == pair_blocks(RPY([a, b], ETA), r)


def test_unequal_self_part_and_coincidence() -> None:
    m = RPY([1.4, 0.8], ETA).matrix(np.ones((2, 3)))
    mobility = 1 / (6 * np.pi * ETA * np.array([1.4, 0.8]))
    np.testing.assert_allclose(np.diag(m), np.repeat(mobility, 3), rtol=1e-15)
    np.testing.assert_allclose(m[:3, 3:], np.eye(3) * mobility[0], rtol=1e-15)


@pytest.mark.parametrize("cell", [None, [9.0] * 3])
@pytest.mark.parametrize("r", [0.0, 1e-150, 1e-110, 1e-60, 9e-41])
def test_oseen_refuses_particles_that_all_but_coincide(r: float, cell: Any) -> None:
    mobility, x = Oseen(ETA, A), above(30, 4.0)
    x[5], x[17] = 0.0, [0.0, -r, 0.0]
    f, adjoint = above(30, 1.0), above(30, 2.0)
    for call in (
        lambda: mobility.matrix(x, cell),
        lambda: mobility.apply(x, f, cell),
        lambda: mobility.divergence(x, cell),
        lambda: mobility.position_gradient(x, f, adjoint, cell),
    ):
        with pytest.raises(InvalidArgument, match="particles 5 and 17 coincide"):
            call()


def test_oseen_is_finite_where_particles_are_apart() -> None:
    mobility = Oseen(ETA, A)
    x = np.array([[0.0, 0, 0], [1.1e-40, 0, 0], [1, 0, 0]])
    assert mobility.matrix(x)[0, 3] == pytest.approx(1 / (4 * np.pi * ETA * 1.1e-40))
    assert np.isfinite(mobility.apply(x, np.ones((3, 3)))).all()
    assert np.isfinite(mobility.position_gradient(x, np.ones((3, 3)), np.ones((3, 3)))).all()
    assert (mobility.divergence(x) == 0).all()
    close = np.array([[0.0, 0, 0], [9e-10, 0, 0]], np.float32)
    for call in (
        lambda: mobility.matrix(close),
        lambda: mobility.apply(close, close),
        lambda: mobility.divergence(close),
    ):
        with pytest.raises(InvalidArgument, match="particles 0 and 1 coincide"):
            call()


@pytest.mark.parametrize("meeting", [0.6, 2.2])
def test_unequal_branches_meet(meeting: float) -> None:
    def value(r: float) -> np.ndarray:
        return np.array(pair_blocks(RPY([1.4, 0.8], ETA), r))

    h = 1e-6
    np.testing.assert_allclose(value(meeting - 1e-12), value(meeting + 1e-12), atol=1e-12)
    left = (value(meeting - h) - value(meeting - 2 * h)) / h
    right = (value(meeting + 2 * h) - value(meeting + h)) / h
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_unequal_radii_that_are_equal() -> None:
    x = above(20, 5.0)
    one, many = RPY(A, ETA).matrix(x), RPY(np.full(20, A), ETA).matrix(x)
    np.testing.assert_allclose(many, one, atol=1e-15)


# -- regularised Stokeslet ----------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.02, 0.7, 1.5, 4.0, 9.0])
def test_regularised_oseen_is_a_blob_of_force(r: float) -> None:
    """15 e^4 / (8 pi (r^2 + e^2)^(7/2)) has the transform (ke)^2 K_2(ke) / 2."""
    e = 0.9
    exact = fourier_pair(lambda k: 0.5 * (k * e) ** 2 * kv(2, k * e), r)
    mobility = RegularizedOseen(ETA, e)
    assert pair_blocks(mobility, r) == pytest.approx(exact, rel=1e-6)
    assert [float(v) for v in mobility.pair(r)] == pytest.approx(exact, rel=1e-6)


def test_regularised_oseen_self_part_and_limit() -> None:
    m = RegularizedOseen(ETA, 0.9).matrix(np.zeros((1, 3)))
    np.testing.assert_allclose(m, np.eye(3) / (4 * np.pi * ETA * 0.9), rtol=1e-14)
    far = np.array([[0.0, 0, 0], [900.0, 0, 0]])
    point = Oseen(ETA, 1.0).matrix(far)[:3, 3:]
    np.testing.assert_allclose(RegularizedOseen(ETA, 0.9).matrix(far)[:3, 3:], point, rtol=3e-6)


# -- the wall -----------------------------------------------------------------------------------


def blake(x: Any, y: Any) -> list[list[Any]]:
    """Images of a point force at y as Blake (1971) gives them, times 8 pi eta."""
    h, image = y[2], [x[0] - y[0], x[1] - y[1], x[2] + y[2]]
    size = mpmath.sqrt(sum(c * c for c in image))

    def delta(a: int, b: int) -> int:
        return int(a == b)

    def entry(a: int, b: int) -> Any:
        stokeslet = delta(a, b) / size + image[a] * image[b] / size**3
        dipole = h * (delta(a, b) / size**3 - 3 * image[a] * image[b] / size**5)
        doublet = (
            -delta(a, 2) * image[b] / size**3
            + (delta(a, b) * image[2] + image[a] * delta(2, b)) / size**3
            - 3 * image[a] * image[2] * image[b] / size**5
        )
        return -stokeslet + 2 * h * (1 if b < 2 else -1) * (dipole - doublet)

    return [[entry(a, b) for b in range(3)] for a in range(3)]


def faxen(f: Callable[[Any], Any], p: Any) -> Any:
    """(1 + a^2/6 Laplacian) f at p by differences."""
    h = mpmath.mpf(10) ** -10
    moved = [
        f([c + s * h * (k == axis) for k, c in enumerate(p)]) for axis in range(3) for s in (-1, 1)
    ]
    middle = f(p)
    return [
        [
            middle[a][b]
            + mpmath.mpf(A) ** 2 / 6 * (sum(m[a][b] for m in moved) - 6 * middle[a][b]) / h**2
            for b in range(3)
        ]
        for a in range(3)
    ]


@pytest.mark.parametrize("second", [[0.2, 0.9, 2.6], [1.9, -0.1, 1.9], [1.3, -0.4, 1.15]])
def test_wall_against_blakes_images(second: list[float]) -> None:
    """Differentiated numerically, overlapping spheres included; and the self part."""
    first = [1.3, -0.4, 1.7]
    x = np.array([first, second])
    wall = WallRPY(A, ETA).matrix(x) - RPY(A, ETA).matrix(x)
    with mpmath.workdps(50):
        places = [[mpmath.mpf(c) for c in p] for p in (first, second)]
        for i in range(2):
            for j in range(2):
                images = faxen(lambda y, i=i: faxen(lambda p: blake(p, y), places[i]), places[j])
                exact = np.array([[float(v) for v in row] for row in images])
                block = wall[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
                np.testing.assert_allclose(block * 8 * np.pi * ETA, exact, atol=1e-10)


def test_wall_far_away_and_near() -> None:
    x = above(12, 6.0)
    far = x + [0, 0, 1e7]
    scale = 1 / (6 * np.pi * ETA * A)
    free = RPY(A, ETA).matrix(x)
    np.testing.assert_allclose(WallRPY(A, ETA).matrix(far), free, atol=1e-6 * scale)
    heights = A * np.geomspace(1, 100, 40)
    own = [np.diag(WallRPY(A, ETA).matrix(np.array([[0, 0, z]]))) / scale for z in heights]
    assert (np.diff(own, axis=0)[:, [0, 2]] > 0).all()
    np.testing.assert_allclose(own[0], [0.5, 0.5, 0.25], rtol=1e-14)
    s = A / 3.0
    along = 1 - 9 / 16 * s + s**3 / 8 - s**5 / 16
    up = 1 - 9 / 8 * s + s**3 / 2 - s**5 / 8
    single = np.diag(WallRPY(A, ETA).matrix(np.array([[5.0, 1.0, 3.0]]))) / scale
    np.testing.assert_allclose(single, [along, along, up], rtol=1e-14)


def test_no_slip() -> None:
    """A point force's flow, which a tiny sphere follows, vanishes at the wall."""
    a = 1e-4
    m = WallRPY(a, ETA).matrix(np.array([[0.3, 0.2, 1.0], [0.9, -0.4, a]]))
    free = RPY(a, ETA).matrix(np.array([[0.3, 0.2, 1.0], [0.9, -0.4, a]]))
    assert np.abs(m[3:, :3]).max() < 1e-3 * np.abs(free[3:, :3]).max()


# -- all of them --------------------------------------------------------------------------------


def reference(mobility: Any, what: str, x: np.ndarray, *forces: np.ndarray) -> Any:
    n = len(x)
    out = np.empty((1, 3 * n, 3 * n) if what == "matrix" else (1, n, 3))
    arrays = [array[None] for array in (x, *forces)]
    function = getattr(_core, f"mobility_{what}")
    open_box = (np.zeros((3, 3)), (False,) * 3)
    function(mobility.core_model, *open_box, *arrays, out, reference=True)
    return out[0]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("n", [0, 1, 5, 16, 33, 270])
@each_kernel
def test_matches_the_reference(name: str, n: int, device: str) -> None:
    where, mobility = device_named(device), KERNELS[name](n)
    x, forces = above(n), np.random.default_rng(1).normal(size=(n, 3))
    m = where.get(mobility.matrix(where.put(x)))
    np.testing.assert_allclose(m, reference(mobility, "matrix", x), atol=1e-13)
    assert (m == m.T).all()
    v = where.get(mobility.apply(where.put(x), where.put(forces)))
    np.testing.assert_allclose(v, reference(mobility, "apply", x, forces), atol=1e-11)
    d = where.get(mobility.divergence(where.put(x)))
    np.testing.assert_allclose(d, reference(mobility, "divergence", x), atol=1e-12)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("n", [1, 16, 700])
@each_kernel
def test_single_precision(name: str, n: int, device: str) -> None:
    where, mobility = device_named(device), KERNELS[name](n)
    x = above(n, 14.0).astype(np.float32)
    x[:, 2] = np.maximum(x[:, 2], np.float32(1.1001))
    forces = np.random.default_rng(1).normal(size=(n, 3)).astype(np.float32)
    wide, force = x.astype(float), forces.astype(float)
    m, v = mobility.matrix(where.put(x)), mobility.apply(where.put(x), where.put(forces))
    d = mobility.divergence(where.put(x))
    exact = mobility.matrix(wide)
    for got in (m, v, d):
        assert str(got.dtype).endswith("float32")
    np.testing.assert_allclose(where.get(m), exact, atol=1e-6 * exact.max())
    bound = np.abs(exact) @ np.abs(force).ravel()
    error = np.abs(where.get(v).ravel() - exact @ force.ravel())
    assert (error <= 1e-6 * bound).all()
    np.testing.assert_allclose(where.get(d), mobility.divergence(wide), atol=1e-6)


def test_precisions_mix_upwards() -> None:
    rpy, x = RPY(A, ETA), above(6)
    single = x.astype(np.float32)
    assert rpy.apply(single, x).dtype == np.float64
    assert rpy.apply(x, single).dtype == np.float64
    np.testing.assert_array_equal(rpy.apply(single, x), rpy.apply(single.astype(float), x))
    out = np.empty((18, 18), np.float32)
    assert rpy.matrix(single, out=out) is out
    with pytest.raises(InvalidArgument, match="out must be C-contiguous float32"):
        rpy.matrix(single, out=np.empty((18, 18)))
    tensor = torch.as_tensor(single)
    assert rpy.apply(tensor, tensor).dtype == torch.float32
    periodic = rpy.apply(single, single, [9.0] * 3)
    assert periodic.dtype == np.float32
    np.testing.assert_allclose(
        periodic, rpy.apply(single.astype(float), single.astype(float), [9.0] * 3), atol=1e-5
    )


@positive_kernels
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 24), length=st.floats(0.1, 12.0))
def test_positive_definite_however_crowded(name: str, seed: int, n: int, length: float) -> None:
    x = above(n, length, seed)
    mobility = RPY(radii(n, seed), ETA) if name == "unequal" else KERNELS[name](n)
    values = np.linalg.eigvalsh(mobility.matrix(x))
    assert values[0] > -1e-13 * values[-1]


@each_kernel
@settings(max_examples=15, deadline=None)
@given(n=st.integers(0, 40), batch=st.integers(0, 3), seed=st.integers(0, 999))
def test_shapes(name: str, n: int, batch: int, seed: int) -> None:
    mobility = KERNELS[name](n)
    x = above(batch * n, 12.0, seed).reshape(batch, n, 3)
    m, v = mobility.matrix(x), mobility.apply(x, x[::-1])
    assert m.shape == (batch, 3 * n, 3 * n)
    assert v.shape == x.shape
    for b in range(batch):
        np.testing.assert_allclose(v[b].ravel(), m[b] @ x[batch - 1 - b].ravel(), atol=1e-11)
        np.testing.assert_array_equal(m[b], mobility.matrix(x[b]))
        np.testing.assert_array_equal(v[b], mobility.apply(x[b], x[batch - 1 - b]))


@each_kernel
def test_divergence_by_finite_differences(name: str) -> None:
    n, h = 6, 1e-4
    mobility, x = KERNELS[name](n), above(6, 4.0) + [0, 0, 0.3]
    expected = np.zeros((n, 3))
    for j in range(n):
        for b in range(3):
            step = np.zeros((n, 3))
            step[j, b] = h
            ahead, behind = (mobility.matrix(x + s * step)[:, 3 * j + b] for s in (1, -1))
            expected += ((ahead - behind) / (2 * h)).reshape(n, 3)
    np.testing.assert_allclose(mobility.divergence(x), expected, atol=3e-6)
    if name in ("unequal", "regularised"):
        assert (mobility.divergence(x) == 0).all()


@each_kernel
def test_position_gradient_by_finite_differences(name: str) -> None:
    n, h = 7, 1e-5
    mobility, x = KERNELS[name](n), above(7, 6.0) + [0, 0, 0.1]
    forces, adjoint = np.random.default_rng(3).normal(size=(2, n, 3))
    gradient = mobility.position_gradient(x, forces, adjoint)
    for k in range(3 * n):
        step = np.zeros(3 * n)
        step[k] = h
        ahead, behind = (
            (adjoint * mobility.apply(x + s * step.reshape(n, 3), forces)).sum() for s in (1, -1)
        )
        slope = (ahead - behind) / (2 * h)
        assert gradient.ravel()[k] == pytest.approx(slope, abs=1e-7 * np.abs(gradient).max() + 1e-8)
    out = np.empty((n, 3))
    assert mobility.position_gradient(x, forces, adjoint, out=out) is out


@each_kernel
def test_threads_do_not_change_results(name: str) -> None:
    n = 1200
    mobility, x = KERNELS[name](n), above(n, 40.0)
    for array in (x, x.astype(np.float32)):
        if array.dtype == np.float32:
            array[:, 2] += np.float32(1e-3)
        one = mobility.apply(array, array, num_threads=1)
        for threads in (2, 7):
            np.testing.assert_array_equal(mobility.apply(array, array, num_threads=threads), one)
    small = x[:200]
    few = KERNELS[name](200)
    one = few.matrix(small, num_threads=1), few.position_gradient(small, small, small)
    np.testing.assert_array_equal(few.matrix(small, num_threads=2), one[0])
    two = few.position_gradient(small, small, small, num_threads=2)
    np.testing.assert_array_equal(two, one[1])


_LEVEL = """
import sys
import numpy as np
from mlcore.mobility import RPY, RegularizedOseen, WallRPY
x = np.random.default_rng(0).random((300, 3)) * 20 + [0, 0, 1.1]
radii = 0.1 + np.random.default_rng(1).random(300)
result = {}
for k, m in enumerate((RPY(1.1, 0.7), RPY(radii, 0.7), RegularizedOseen(0.7, 1.6), WallRPY(1.1, 0.7))):
    result[f"m{k}"], result[f"v{k}"] = m.matrix(x)[:40], m.apply(x, x)
    result[f"g{k}"] = m.position_gradient(x, x, x[::-1])
    single = (x + 1e-3).astype(np.float32)
    result[f"s{k}"] = m.apply(single, single) / m.apply(single.astype(float), single.astype(float))
np.savez(sys.argv[1], **result)
"""


def test_simd_levels_agree(tmp_path: Path) -> None:
    results = {}
    for level in ("baseline", "avx2", "avx512"):
        path = tmp_path / f"{level}.npz"
        environment = {**os.environ, "MLCORE_SIMD": level}
        subprocess.run([sys.executable, "-c", _LEVEL, str(path)], env=environment, check=True)
        results[level] = dict(np.load(path))
    for level in ("avx2", "avx512"):
        for key, value in results["baseline"].items():
            size = np.abs(value).max()
            allowed = 3e-6 if key.startswith("s") else 1e-13
            np.testing.assert_allclose(results[level][key], value, atol=allowed * size, err_msg=key)


@pytest.mark.parametrize(
    ("mobility", "dtype"),
    [
        ("RPY(1.0, 1.0)", "float64"),
        ("RPY(1.0, 1.0)", "float32"),
        ("Oseen(1.0, 1.0)", "float64"),
        ("WallRPY(1.0, 1.0)", "float64"),
    ],
)
def test_apply_allocates_nothing(mobility: str, dtype: str) -> None:
    setup = f"""
import numpy as np
from mlcore.mobility import RPY, Oseen, WallRPY
x = (np.random.default_rng(0).random((5000, 3)) * 60 + 1.5).astype("{dtype}")
v, mobility = np.empty_like(x), {mobility}
"""
    assert requested("mobility.apply(x, x, out=v)", setup) < 1000


def test_periodic_apply_allocates_nothing() -> None:
    setup = """
import numpy as np
from mlcore.mobility import RPY
x = np.random.default_rng(0).random((400, 3)) * 40
v, mobility, cell = np.empty_like(x), RPY(1.0, 1.0), np.eye(3) * 40
"""
    assert requested("mobility.apply(x, x, cell, out=v)", setup) < 2000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WallRPY(1.0, 1.0).matrix([[0, 0, 2.0], [0, 0, 0.99]]), "particle 1 lies at z = 0"),
        (lambda: WallRPY(1.0, 1.0).apply([[0, 0, -2.0]], [[0, 0, 1]]), "closer to the wall"),
        (lambda: WallRPY(1.0, 1.0).divergence([[0, 0, 0.5]]), "closer to the wall"),
        (lambda: WallRPY(1.0, 1.0).matrix(above(3), [9.0] * 3), "open space alone"),
        (lambda: RegularizedOseen(1.0, 1.0).matrix(above(3), [9.0] * 3), "open space alone"),
        (lambda: RPY([1.0, 2.0, 1.0], 1.0).matrix(above(3), [9.0] * 3), "open space alone"),
        (lambda: RPY([1.0, 2.0], 1.0).matrix(above(3)), r"one radius per particle \(3\), got 2"),
        (lambda: RPY([1.0, -2.0], 1.0), "radius must be positive"),
        (lambda: RPY([1.0, np.nan], 1.0), "radius must be finite"),
        (lambda: RPY([1.0, 2.0], 1.0).pair(2.0), "several radii"),
        (lambda: WallRPY(1.0, 1.0).pair(2.0), "distance alone"),
        (lambda: RegularizedOseen(1.0, 0.0), "epsilon must be positive"),
        (lambda: WallRPY(0.0, 1.0), "radius must be positive"),
        (lambda: Oseen(1.0, 1.0).apply(np.ones((300, 3)), np.ones((300, 3))), "coincide"),
        (lambda: RPY(1.0, 1.0).position_gradient(above(3), above(3), above(2)), "adjoint must"),
        (
            lambda: RPY(1.0, 1.0).apply(np.full((2, 3), np.nan, np.float32), np.ones((2, 3), "f4")),
            "x must be finite",
        ),
        (
            lambda: Oseen(1.0, 1.0).matrix(np.ones((2, 3), np.float32)),
            "particles 0 and 1 coincide",
        ),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


@pytest.mark.parametrize(("dtype", "most"), [("f8", 1e100), ("f4", 1e15)])
@pytest.mark.parametrize("mobility", [RPY(A, ETA), Oseen(ETA, A), RegularizedOseen(ETA, A)])
def test_positions_whose_powers_overflow_are_refused(mobility, dtype, most):
    x, forces = np.array([[0, 0, 0], [most / 2, 0, 0]], dtype), np.ones((2, 3), dtype)
    assert np.isfinite(mobility.matrix(x)).all()
    assert np.isfinite(mobility.apply(x, forces)).all()
    for call in (mobility.matrix, lambda x: mobility.apply(x, forces)):
        with pytest.raises(InvalidArgument, match=r"x must be finite and at most 1e1.*entry 3"):
            call(3 * x)
    with pytest.raises(InvalidArgument, match="forces must be finite"):
        mobility.apply(x, forces * np.float32(np.nan))
