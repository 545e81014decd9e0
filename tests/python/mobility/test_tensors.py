"""Mobility tensors against closed forms, symmetries and the slow reference."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import ase
import mpmath
import numpy as np
import pytest
from devices import device_named
from mlcore import _core
from mlcore.errors import InvalidArgument
from mlcore.mobility import RPY, Oseen, PairMobility

torch = pytest.importorskip("torch")

TRICLINIC = np.array([[9.0, 0.5, -1.0], [2.0, 8.0, 0.3], [-1.5, 2.5, 10.0]])


def positions(n: int, length: float = 12.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 3)) * length


def table(background: RPY | Oseen | None = None) -> PairMobility:
    def par(r: np.ndarray) -> np.ndarray:
        return (1 - (r / 5) ** 2) ** 3 * np.exp(-0.2 * r**2)

    def perp(r: np.ndarray) -> np.ndarray:
        return par(r) * (1 - 0.15 * r**2)

    return PairMobility.from_functions(1.2, 5.0, par, perp, knots=300, background=background)


MOBILITIES = {
    "rpy": RPY(1.1, 0.7),
    "oseen": Oseen(0.7, 1.1),
    "table": table(),
    "table on rpy": table(RPY(1.1, 0.7)),
}
BOXES = {"open": None, "cubic": np.eye(3) * 10, "triclinic": TRICLINIC}
each_mobility = pytest.mark.parametrize("name", MOBILITIES)
each_box = pytest.mark.parametrize("box", BOXES)


def rotation(seed: int = 3) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def rotated(matrix: np.ndarray, q: np.ndarray) -> np.ndarray:
    n = len(matrix) // 3
    blocks = matrix.reshape(n, 3, n, 3)
    return np.einsum("pa,iajb,qb->ipjq", q, blocks, q).reshape(3 * n, 3 * n)


def blocks_of_pair(mobility: Any, r: float) -> np.ndarray:
    return mobility.matrix(np.array([[0.0, 0, 0], [r, 0, 0]]))


# -- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.0, 1e-9, 0.3, 1.0, 1.999999, 2.0, 2.2, 3.7, 50.0, 1e6])
def test_rpy_pair_to_forty_digits(r: float) -> None:
    a, eta = mpmath.mpf(1), mpmath.mpf("0.3")
    with mpmath.workdps(40):
        mu = 1 / (6 * mpmath.pi * eta * a)
        s = mpmath.mpf(r)
        if s < 2:
            par, perp = mu * (1 - 3 * s / 16), mu * (1 - 9 * s / 32)
        else:
            par = mu * (3 / (2 * s) - 1 / s**3)
            perp = mu * (3 / (4 * s) + 1 / (2 * s**3))
    m = blocks_of_pair(RPY(1.0, 0.3), r)
    scale = float(perp)
    assert m[0, 3] == pytest.approx(float(par), abs=4e-15 * scale)
    assert m[1, 4] == pytest.approx(float(perp), abs=4e-15 * scale)
    assert m[0, 0] == pytest.approx(float(mu), rel=1e-15)
    if r > 0:
        assert RPY(1.0, 0.3).pair(r) == pytest.approx((float(par), float(perp)), rel=1e-14)


def test_oseen_pair() -> None:
    m = blocks_of_pair(Oseen(0.3, 1.0), 1.7)
    assert m[0, 3] == pytest.approx(1 / (4 * np.pi * 0.3 * 1.7), rel=1e-15)
    assert m[1, 4] == pytest.approx(1 / (8 * np.pi * 0.3 * 1.7), rel=1e-15)
    assert m[0, 0] == pytest.approx(1 / (6 * np.pi * 0.3), rel=1e-15)


def test_periodic_rpy_against_its_defining_fourier_sum() -> None:
    """Sum of sinc(ka)^2 (I - kk)/k^2, overlap included; its tail falls off as 1/k."""
    a, eta, length = 2.0, 1.3, 7.0
    x = np.array([[0.0, 0, 0], [1.7, 0.9, -0.6], [3.0, 2.5, 1.0]])
    g = np.arange(-60, 61)
    n = np.stack(np.meshgrid(g, g, g, indexing="ij"), -1).reshape(-1, 3)
    n = n[((n * n).sum(1) <= 3600) & (n.any(1))]
    k = 2 * np.pi / length * n
    k2 = (k * k).sum(1)
    weight = np.sinc(np.sqrt(k2) * a / np.pi) ** 2 / (eta * length**3 * k2)
    m = RPY(a, eta).matrix(x, [length] * 3)
    scale = 1 / (6 * np.pi * eta * a)
    for i in range(3):
        wave = weight * np.cos((x[i] - x[0]) @ k.T)
        block = np.eye(3) * wave.sum() - np.einsum("k,ka,kb->ab", wave / k2, k, k)
        tail = 1 / (np.pi * a * k2.max() ** 0.5)  # what the cut leaves out of the self part
        slack = 0.06 * tail if i == 0 else 0.02 * tail
        missing = np.eye(3) * scale * tail if i == 0 else 0
        np.testing.assert_allclose(m[:3, 3 * i : 3 * i + 3], block + missing, atol=slack * scale)


def test_hasimoto_self_mobility() -> None:
    """The self mobility of the colloids of the example: a = 2, L = 24, eta = 2.497."""
    m = RPY(2.0, 2.497).matrix(np.zeros((1, 3)), [24.0] * 3)
    z, mu = 2 / 24, 1 / (6 * np.pi * 2.497 * 2)
    expected = mu * (1 - 2.8372974794806 * z + 4 * np.pi / 3 * z**3)
    np.testing.assert_allclose(m, np.eye(3) * expected, rtol=1e-9, atol=1e-12)
    assert m[0, 0] == pytest.approx(8.14e-3, rel=1e-3)


def test_large_box_tends_to_free_space() -> None:
    x = positions(5, 6.0)
    free = RPY(1.0, 1.0).matrix(x)
    mu = 1 / (6 * np.pi)
    shift = np.kron(np.ones((5, 5)), np.eye(3)) * mu * 2.8372974794806
    for length in (200.0, 2000.0):  # what is left is of the order r^2 / L^3
        periodic = RPY(1.0, 1.0).matrix(x, [length] * 3)
        correction = shift / length
        assert np.abs(periodic + correction - free).max() < 200 * mu / length**3


# -- structure ----------------------------------------------------------------------------------


@each_mobility
@each_box
def test_symmetric_and_apply_is_the_product(name: str, box: str) -> None:
    mobility, x = MOBILITIES[name], positions(23)
    forces = np.random.default_rng(1).normal(size=(23, 3))
    m = mobility.matrix(x, BOXES[box])
    assert (m == m.T).all()
    np.testing.assert_allclose(
        mobility.apply(x, forces, BOXES[box]).ravel(), m @ forces.ravel(), atol=2e-9
    )


@pytest.mark.parametrize("fraction", [0.05, 0.3])
@pytest.mark.parametrize("n", [2, 40, 200])
@pytest.mark.parametrize("periodic", [False, True])
def test_rpy_is_positive_definite_with_overlaps(n: int, fraction: float, periodic: bool) -> None:
    length = (n * 4 / 3 * np.pi / fraction) ** (1 / 3)
    x = positions(n, length, seed=n)
    m = RPY(1.0, 1.0).matrix(x, [length] * 3 if periodic else None)
    assert np.linalg.eigvalsh(m)[0] > 1e-4 / (6 * np.pi)


@each_mobility
@each_box
def test_translation_and_rotation(name: str, box: str) -> None:
    mobility, x, cell = MOBILITIES[name], positions(9), BOXES[box]
    m = mobility.matrix(x, cell)
    np.testing.assert_allclose(mobility.matrix(x + np.array([3.1, -70.2, 9.9]), cell), m, atol=1e-9)
    q = rotation()
    turned = None if cell is None else cell @ q.T
    np.testing.assert_allclose(mobility.matrix(x @ q.T, turned), rotated(m, q), atol=1e-9)
    forces = np.random.default_rng(2).normal(size=(9, 3))
    np.testing.assert_allclose(
        mobility.apply(x @ q.T, forces @ q.T, turned),
        mobility.apply(x, forces, cell) @ q.T,
        atol=1e-8,
    )


@each_mobility
def test_equal_lattices_give_equal_matrices(name: str) -> None:
    mobility, x = MOBILITIES[name], positions(9)
    m = mobility.matrix(x, TRICLINIC)
    other = TRICLINIC[[2, 0, 1]] * [[1], [-1], [1]]  # rows permuted, one reversed
    np.testing.assert_allclose(mobility.matrix(x, other), m, atol=1e-9)
    sheared = TRICLINIC.copy()
    sheared[0] += 2 * TRICLINIC[1] - TRICLINIC[2]  # another basis, very skew
    np.testing.assert_allclose(mobility.matrix(x, sheared), m, atol=1e-9)
    moved = x + np.random.default_rng(5).integers(-3, 4, (9, 3)) @ TRICLINIC
    np.testing.assert_allclose(mobility.matrix(moved, TRICLINIC), m, atol=1e-9)


@each_mobility
def test_doubled_cell_moves_like_the_single_one(name: str) -> None:
    """The same forces on a particle and its copy in a doubled cell: the same velocity."""
    mobility, x = MOBILITIES[name], positions(5)
    forces = np.random.default_rng(4).normal(size=(5, 3))
    double = TRICLINIC * [[2], [1], [1]]
    copies, pushes = np.concatenate([x, x + TRICLINIC[0]]), np.concatenate([forces, forces])
    np.testing.assert_allclose(
        mobility.apply(copies, pushes, double)[:5],
        mobility.apply(x, forces, TRICLINIC),
        atol=2e-9,
    )


def reference(mobility: Any, what: str, x: np.ndarray, cell: Any, *forces: np.ndarray) -> Any:
    n = len(x)
    out = np.empty((1, 3 * n, 3 * n) if what == "matrix" else (1, n, 3))
    rows = np.zeros((3, 3)) if cell is None else cell
    arrays = [array[None] for array in (x, *forces)]
    function = getattr(_core, f"mobility_{what}")
    function(mobility.core_model, rows, (cell is not None,) * 3, *arrays, out, reference=True)
    return out[0]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("n", [1, 6, 33])
@each_mobility
@each_box
def test_matches_the_reference(name: str, box: str, n: int, device: str) -> None:
    where, mobility, cell = device_named(device), MOBILITIES[name], BOXES[box]
    if n > 6 and box != "open":
        n = 10
    x, forces = positions(n), np.random.default_rng(1).normal(size=(n, 3))
    m = where.get(mobility.matrix(where.put(x), cell))
    np.testing.assert_allclose(m, reference(mobility, "matrix", x, cell), atol=1e-10)
    assert (m == m.T).all()
    v = where.get(mobility.apply(where.put(x), where.put(forces), cell))
    np.testing.assert_allclose(v, reference(mobility, "apply", x, cell, forces), atol=2e-9)
    d = where.get(mobility.divergence(where.put(x), cell))
    np.testing.assert_allclose(d, reference(mobility, "divergence", x, cell), atol=1e-12)
    pair = np.stack([x, x[::-1]])
    batch = where.get(mobility.matrix(where.put(pair), cell))
    np.testing.assert_allclose(batch[0], m, atol=1e-13)


@pytest.mark.gpu
def test_errors_on_the_gpu() -> None:
    where, x = device_named("cuda"), positions(5)
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InvalidArgument, match="x must be finite.*entry 10 "):
        RPY(1.0, 1.0).matrix(where.put(broken))
    with pytest.raises(InvalidArgument, match="particles 0 and 1 coincide"):
        Oseen(1.0, 1.0).apply(where.put(np.ones((2, 3))), where.put(np.ones((2, 3))))
    close = where.put(np.array([[0, 0, 0], [0, 1e-60, 0.0]]))
    for cell in (None, [9.0] * 3):
        for call in (Oseen(1.0, 1.0).matrix, Oseen(1.0, 1.0).divergence):
            with pytest.raises(InvalidArgument, match="particles 0 and 1 coincide"):
                call(close, cell)
    with pytest.raises(InvalidArgument, match="same device"):
        RPY(1.0, 1.0).apply(where.put(x), x)


@pytest.mark.parametrize("kernel", ["rpy", "oseen"])
def test_splitting_parameter_does_not_matter(kernel: str) -> None:
    x = positions(6)[None]
    results = []
    for splitting in (0.0, 0.25, 0.5, 0.9):
        model = _core.MobilityModel(
            kernel=kernel, radius=1.1, viscosity=0.7, tolerance=1e-12, splitting=splitting
        )
        out = np.empty((1, 18, 18))
        _core.mobility_matrix(model, TRICLINIC, (True,) * 3, x, out)
        results.append(out)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=2e-13)


@pytest.mark.parametrize("cell", [None, [11.0] * 3])
def test_continuous_where_spheres_touch(cell: Any) -> None:
    rpy = RPY(1.0, 1.0)
    below, above = (
        rpy.matrix(np.array([[0.0, 0, 0], [2 + e, 0, 0]]), cell) for e in (-1e-10, 1e-10)
    )
    np.testing.assert_allclose(below, above, atol=1e-10)


def test_table_in_a_slab() -> None:
    """A table alone may be periodic along any axes."""
    mobility = table()
    x = positions(4, 6.0)
    cell = np.diag([6.0, 6.0, 0.0])
    images = [x + np.array([6.0 * i, 6.0 * j, 0]) for i in range(-2, 3) for j in range(-2, 3)]
    images.sort(key=lambda y: float(np.abs(y - x).max()))
    free = mobility.matrix(np.concatenate(images)).reshape(100, 3, 100, 3)
    summed = free[:4].reshape(4, 3, 25, 4, 3).sum(2).reshape(12, 12)
    np.testing.assert_allclose(mobility.matrix(x, cell, [True, True, False]), summed, atol=1e-12)


# -- divergence ---------------------------------------------------------------------------------


@each_mobility
@each_box
def test_divergence_by_finite_differences(name: str, box: str) -> None:
    mobility, x, h = MOBILITIES[name], positions(6, 6.0), 1e-4
    expected = np.zeros((6, 3))
    for j in range(6):
        for b in range(3):
            step = np.zeros((6, 3))
            step[j, b] = h
            forward, backward = (
                mobility.matrix(x + s * step, BOXES[box])[:, 3 * j + b] for s in (1, -1)
            )
            expected += ((forward - backward) / (2 * h)).reshape(6, 3)
    divergence = mobility.divergence(x, BOXES[box])
    np.testing.assert_allclose(divergence, expected, atol=3e-6)
    if name in ("rpy", "oseen"):
        assert (divergence == 0).all()
    else:
        assert np.abs(divergence).max() > 0.05


# -- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [None, RPY(0.8, 1.0), Oseen(1.0, 0.8)])
def test_table_interpolates_the_functions(background: RPY | Oseen | None) -> None:
    mobility = table(background)
    for r in (0.7, 1.9, 3.3, 4.999, 5.0, 8.0):
        par, perp = mobility.pair(r)
        m = blocks_of_pair(mobility, r)
        assert m[0, 3] == pytest.approx(float(par), abs=1e-13)
        assert m[1, 4] == pytest.approx(float(perp), abs=1e-13)
        far = (0.0, 0.0) if background is None else background.pair(r)
        exact = (1 - (r / 5) ** 2) ** 3 * np.exp(-0.2 * r**2) if r < 5 else 0.0
        assert float(par - far[0]) == pytest.approx(exact, abs=1e-8)
        assert float(perp - far[1]) == pytest.approx(exact * (1 - 0.15 * r**2), abs=1e-8)
    extra = 0 if background is None else 1 / (6 * np.pi * 0.8)
    assert blocks_of_pair(mobility, 9.0)[0, 0] == pytest.approx(1.2 + extra)


def test_table_attributes() -> None:
    mobility = table(RPY(0.8, 1.0))
    assert mobility.self_mobility == 1.2
    assert mobility.table.cutoff == 5.0
    assert mobility.table.par.shape == (300,)
    assert isinstance(mobility.background, RPY)
    assert "knots=300" in repr(mobility)
    with pytest.raises(ValueError, match="read-only"):
        mobility.table.par[0] = 1


# -- sizes, kinds and errors --------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 63, 64, 65])
@each_box
def test_any_size(n: int, box: str) -> None:
    mobility, x = MOBILITIES["table on rpy"], positions(65)
    whole = mobility.matrix(x, BOXES[box])
    m = mobility.matrix(x[:n], BOXES[box])
    assert m.shape == (3 * n, 3 * n)
    np.testing.assert_allclose(m, whole[: 3 * n, : 3 * n], atol=1e-10)
    v = mobility.apply(x[:n], x[:n], BOXES[box])
    np.testing.assert_allclose(v.ravel(), m @ x[:n].ravel(), atol=1e-7)
    assert mobility.divergence(x[:n], BOXES[box]).shape == (n, 3)


@each_mobility
@each_box
def test_batches(name: str, box: str) -> None:
    mobility, cell = MOBILITIES[name], BOXES[box]
    x = positions(3 * 7).reshape(3, 7, 3)
    m, v, d = (
        mobility.matrix(x, cell),
        mobility.apply(x, x[::-1], cell),
        mobility.divergence(x, cell),
    )
    for b in range(3):
        assert (m[b] == mobility.matrix(x[b], cell)).all()
        assert (v[b] == mobility.apply(x[b], x[2 - b], cell)).all()
        assert (d[b] == mobility.divergence(x[b], cell)).all()
    assert mobility.matrix(np.zeros((0, 4, 3)), cell).shape == (0, 12, 12)


@each_mobility
@each_box
def test_threads_do_not_change_results(name: str, box: str) -> None:
    mobility, cell, x = MOBILITIES[name], BOXES[box], positions(90)
    one = [mobility.matrix(x, cell, num_threads=1), mobility.apply(x, x, cell, num_threads=1)]
    for threads in (2, 7):
        assert (mobility.matrix(x, cell, num_threads=threads) == one[0]).all()
        assert (mobility.apply(x, x, cell, num_threads=threads) == one[1]).all()


_LEVEL = """
import sys
import numpy as np
from mlcore.mobility import RPY
x = np.random.default_rng(0).random((37, 3)) * 12
rpy = RPY(1.1, 0.7)
np.savez(sys.argv[1], free=rpy.matrix(x), periodic=rpy.matrix(x, [10.0] * 3),
         apply=rpy.apply(x, x, [10.0] * 3))
"""


def test_simd_levels_agree(tmp_path: Any) -> None:
    results = {}
    for level in ("baseline", "avx2", "avx512"):
        path = tmp_path / f"{level}.npz"
        environment = {**os.environ, "MLCORE_SIMD": level}
        subprocess.run([sys.executable, "-c", _LEVEL, str(path)], env=environment, check=True)
        results[level] = dict(np.load(path))
    for level in ("avx2", "avx512"):
        for key, value in results["baseline"].items():
            np.testing.assert_allclose(results[level][key], value, rtol=0, atol=1e-12)


def test_out_is_filled_and_returned() -> None:
    rpy, x = RPY(1.0, 1.0), positions(4)
    for out in (np.full((12, 12), np.nan), torch.full((12, 12), torch.nan, dtype=torch.float64)):
        source = torch.as_tensor(x) if isinstance(out, torch.Tensor) else x
        assert rpy.matrix(source, out=out) is out
        np.testing.assert_array_equal(np.asarray(out), rpy.matrix(x))
    out = np.full((4, 3), np.nan)
    assert rpy.apply(x, x, out=out) is out
    np.testing.assert_array_equal(out, rpy.apply(x, x))
    assert rpy.divergence(x, out=out) is out
    assert (out == 0).all()


@pytest.mark.parametrize(
    "out",
    [
        np.empty((12, 11)),
        np.empty((12, 12), np.float32),
        np.empty((12, 24))[:, ::2],
        np.empty((12, 12), order="F"),
        torch.empty((12, 12), dtype=torch.float64),
    ],
)
def test_wrong_out(out: Any) -> None:
    with pytest.raises(InvalidArgument, match="out"):
        RPY(1.0, 1.0).matrix(positions(4), out=out)


def test_read_only_out() -> None:
    out = np.empty((12, 12))
    out.setflags(write=False)
    with pytest.raises(InvalidArgument, match="out must be writeable"):
        RPY(1.0, 1.0).matrix(positions(4), out=out)


def test_any_layout_and_dtype() -> None:
    rpy, x = RPY(1.0, 1.0), positions(6)
    expected = rpy.matrix(x)
    wide = np.zeros((12, 6))
    wide[::2, ::2] = x
    np.testing.assert_array_equal(rpy.matrix(wide[::2, ::2]), expected)
    np.testing.assert_array_equal(rpy.matrix(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(rpy.matrix(x.tolist()), expected)
    np.testing.assert_array_equal(rpy.matrix(np.rint(x).astype(int)), rpy.matrix(np.rint(x)))


def test_torch_in_torch_out() -> None:
    rpy, x = RPY(1.0, 1.0), positions(6)
    tensor = torch.as_tensor(x)
    m = rpy.matrix(tensor, [20.0] * 3)
    assert isinstance(m, torch.Tensor)
    assert m.dtype == torch.float64
    np.testing.assert_array_equal(m.numpy(), rpy.matrix(x, [20.0] * 3))
    v = rpy.apply(tensor.float(), tensor.T.contiguous().T)
    assert isinstance(v, torch.Tensor)
    with pytest.raises(InvalidArgument, match="detach"):
        rpy.matrix(tensor.clone().requires_grad_())


def test_atoms_bring_their_cell() -> None:
    rpy, x = RPY(1.0, 1.0), positions(6)
    atoms = ase.Atoms("Ar6", positions=x, cell=TRICLINIC, pbc=True)
    np.testing.assert_array_equal(rpy.matrix(atoms), rpy.matrix(x, TRICLINIC))
    np.testing.assert_array_equal(rpy.matrix(atoms, pbc=False), rpy.matrix(x))
    atoms.pbc = False
    np.testing.assert_array_equal(rpy.matrix(atoms), rpy.matrix(x))


@each_mobility
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(name: str, bad: float) -> None:
    mobility, x = MOBILITIES[name], positions(4)
    broken = x.copy()
    broken[2, 1] = bad
    for call in (
        lambda: mobility.matrix(broken),
        lambda: mobility.matrix(broken, [9.0] * 3),
        lambda: mobility.apply(broken, x),
        lambda: mobility.apply(x, broken),
        lambda: mobility.divergence(broken),
    ):
        with pytest.raises(InvalidArgument, match="must be finite"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RPY(1.0, 1.0).matrix(np.zeros((4, 2))), "x must have the shape"),
        (lambda: RPY(1.0, 1.0).matrix(np.zeros(3)), "x must have the shape"),
        (lambda: RPY(1.0, 1.0).matrix([["a", "b", "c"]]), "x must be an array of real numbers"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4) + 1j), "x must be an array of real numbers"),
        (lambda: RPY(1.0, 1.0).matrix(torch.ones(4, 3) + 1j), "x must be an array of real numbers"),
        (lambda: RPY(1.0, 1.0).apply(positions(4), positions(5)), "forces must have the shape"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), np.eye(2)), "cell must have the shape"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), [1, 1, np.nan]), "cell must be finite"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), np.ones((3, 3))), "linearly dependent"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), [9, 9, 0]), "cell vector 2 is zero"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), [9, 9, 9], [1, 1]), "pbc must be one flag"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), [9, 9, 9], [1, 1, 0]), "all true or all false"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), None, True), "there is no cell"),
        (lambda: RPY(1.0, 1.0).matrix(positions(4), num_threads=-1), "num_threads"),
        (lambda: RPY(0.0, 1.0), "radius must be positive"),
        (lambda: RPY(1.0, np.nan), "viscosity must be positive"),
        (lambda: RPY(1.0, 1.0, 1.0), "tolerance must lie"),
        (lambda: Oseen(1.0, 1.0).matrix(np.ones((2, 3))), "particles 0 and 1 coincide"),
        (
            lambda: Oseen(1.0, 1.0).matrix(np.array([[1.0, 1, 1], [10, 1, 1]]), [9.0] * 3),
            "particles 0 and 1 coincide",
        ),
        (lambda: PairMobility(np.inf, 1, [1, 0], [0, 0], [1, 0], [0, 0]), "self_mobility"),
        (lambda: PairMobility(1, 0, [1, 0], [0, 0], [1, 0], [0, 0]), "cutoff must be positive"),
        (lambda: PairMobility(1, 1, [1, 0, 0], [0, 0], [1, 0], [0, 0]), "equal lengths"),
        (lambda: PairMobility(1, 1, [1], [0], [1], [0]), "equal lengths of at least 2"),
        (lambda: PairMobility(1, 1, [1, np.nan], [0, 0], [1, 0], [0, 0]), "par must be finite"),
        (
            lambda: PairMobility(1, 1, [1, 0], [0, 0], [1, 0], [0, 0], background="rpy"),  # type: ignore[arg-type]
            "background must be",
        ),
        (lambda: PairMobility.from_functions(1, 1, np.cos, np.cos, knots=3), "knots"),
        (lambda: PairMobility.from_functions(1, 1, lambda r: r[1:], np.cos), "par must return"),
        (lambda: RPY(1.0, 1.0).pair(-1.0), "r must not be negative"),
    ],
)
def test_errors_name_the_argument(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_copies_and_pickles() -> None:
    import copy
    import pickle

    x = positions(5)
    table = PairMobility.from_functions(
        0.3, 5.0, lambda r: (1 - r / 5) ** 3, lambda r: 0.5 * (1 - r / 5) ** 3, background=RPY(1, 2)
    )
    for mobility in (RPY(1.0, 2.0), RPY(np.full(5, 0.4), 2.0), Oseen(1.0, 0.1), table):
        for other in (copy.deepcopy(mobility), pickle.loads(pickle.dumps(mobility))):
            np.testing.assert_array_equal(other.matrix(x), mobility.matrix(x))
            assert repr(other) == repr(mobility)
