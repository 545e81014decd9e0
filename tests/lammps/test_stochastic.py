"""dX_MF_Q1_ML1_Pair and dX_MF_Q1_ML1_N2N: scheme, noise, drift, ranks, restarts, boundaries."""

from __future__ import annotations

import re

import numpy as np
import pytest
import traced_models as models
from lammps_case import Array, Case, close, dump, system
from mlcore import random
from test_deterministic import push, rpy_matrix, scattered

PAIR, WHOLE = "dX_MF_Q1_ML1_Pair", "dX_MF_Q1_ML1_N2N"
LJ = {"pair": "lj/cut 1.1224620483", "coeff": "* * 1.0 1.0"}


def noisy(**values: object) -> dict[str, object]:
    return {"delta": 1e-3, "KBT": 1.0, "flag_stochastic": 1, "flag_thm_drift": 0, **values}


def quiet(**values: object) -> dict[str, object]:
    return noisy(flag_stochastic=0, **values)


def box(length: float) -> tuple[float, ...]:
    return (0, length, 0, length, 0, length)


def test_predictor_and_corrector(case: Case) -> None:
    """One step with position-dependent forces and no noise against the formulas."""
    x = scattered(4, 4.0, gap=0.8)
    case.atoms(x, box(4))
    name = case.parameters(PAIR, **case.pair_models(), **quiet())
    dt = 1e-3
    spring = "fix trap all spring/self 2.0\nfix push all addforce 0.7 -0.3 0.2\n"
    case.ok(system(dt=dt) + spring + f"fix m all mlmod {name}\n" + dump() + "run 1\n")
    last = case.dump()[-1]
    f0 = np.tile([0.7, -0.3, 0.2], 4)
    u0 = rpy_matrix(x) @ f0
    predicted = x + dt * u0.reshape(-1, 3)
    f1 = f0 - 2.0 * (predicted - x).ravel()
    u1 = rpy_matrix(predicted) @ f1
    np.testing.assert_allclose(last[:, 1:4], x + 0.5 * dt * (u0 + u1).reshape(-1, 3), atol=1e-9)
    close(last[:, 4:7], u1.reshape(-1, 3))
    np.testing.assert_allclose(last[:, 7:10].ravel(), f1, atol=1e-9)


@pytest.mark.parametrize("mode", [PAIR, WHOLE])
def test_two_ranks_do_what_one_does(case: Case, mode: str) -> None:
    n = 16 if mode == PAIR else 8
    x = scattered(n, 6.0, gap=1.05)
    case.atoms(x, box(6))
    boundary = "p p p" if mode == PAIR else "f f f"
    files = case.pair_models() if mode == PAIR else {"M_filename": "M.pt"}
    if mode == WHOLE:
        models.save_traced(models.whole_rpy_model(n), 3 * n, case.folder / "M.pt")
    name = case.parameters(mode, **files, **noisy(KBT=0.2, flag_thm_drift=1))
    tracks = []
    for ranks in (1, 2):
        case.ok(
            system(boundary, **LJ, dt=2e-4)
            + f"fix m all mlmod {name} seed 7 psd repair\n"
            + dump(50)
            + "run 50\n",
            ranks,
        )
        tracks.append(case.dump()[-1][:, 1:4])
    assert np.abs(tracks[0] - x).max() > 1e-2
    np.testing.assert_allclose(tracks[1], tracks[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("ranks", [1, 2])
def test_split_run_and_restart_continue_the_same_trajectory(case: Case, ranks: int) -> None:
    x = scattered(12, 5.0, gap=1.0)
    case.atoms(x, box(5))
    name = case.parameters(PAIR, **case.pair_models(), **noisy(KBT=0.3))
    head = system("p p p", **LJ, dt=2e-4)
    fix = f"fix m all mlmod {name} seed 3 psd repair\n"
    tail = "write_dump all custom {} id xu yu zu modify sort id format float %.17g\n"
    case.ok(head + fix + "run 100\n" + tail.format("whole"), ranks)
    case.ok(
        head + fix + "run 50\nwrite_restart half.restart\nrun 50\n" + tail.format("split"), ranks
    )
    restart = head.replace("read_data atoms.data", "read_restart half.restart")
    case.ok(restart + fix.replace("seed 3 ", "") + "run 50\n" + tail.format("restarted"), ranks)
    whole, split, restarted = (case.dump(k)[0] for k in ("whole", "split", "restarted"))
    assert np.abs(whole[:, 1:] - x).max() > 1e-2
    np.testing.assert_allclose(split, whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(restarted, whole, rtol=0, atol=1e-12)
    case.ok(
        head + fix.replace("psd", "legacy yes psd") + "run 50\nrun 50\n" + tail.format("legacy"),
        ranks,
    )
    assert np.abs(case.dump("legacy")[0] - whole).max() > 1e-9  # takes what setup leaves


@pytest.mark.parametrize("mode", [PAIR, WHOLE])
def test_unwrapped_positions_stay_right_across_boundaries(case: Case, mode: str) -> None:
    """The same seed in a box whose boundary is crossed and in one where it is far away."""
    x = np.array([[0.05, 4.0, 3.95], [1.4, 4.0, 0.1], [3.9, 0.1, 2.0]])
    files = case.pair_models(pair=models.zero_pair_model) if mode == PAIR else {}
    models.save_traced(models.whole_self_model(3), 9, case.folder / "M.pt")
    name = case.parameters(mode, **{"M_filename": "M.pt", **files}, **noisy(KBT=0.5))
    tracks = []
    for boundary, lengths in (("p p p", box(4)), ("f f f", (-90, 90) * 3)):
        case.atoms(x, lengths)
        output = case.ok(
            system(boundary, dt=5e-3)
            + "fix push all addforce -12.0 18.0 6.0\n"
            + f"fix m all mlmod {name} seed 11\n"
            + "compute msd all msd\nthermo 20\nthermo_style custom step c_msd[4]\n"
            + 'thermo_modify format float "%.9g"\n'
            + dump(20)
            + "run 400\n"
        )
        frames = np.array([frame[:, 1:4] for frame in case.dump()])
        tracks.append(frames - frames[0])
        msd = [float(row[1]) for row in re.findall(r"^ +(\d+) +([-+.e\d]+) *$", output, re.M)]
        np.testing.assert_allclose(msd, (tracks[-1] ** 2).sum(-1).mean(-1), rtol=1e-7)
    assert np.abs(tracks[1]).max() > 4.0
    np.testing.assert_allclose(tracks[0], tracks[1], rtol=0, atol=1e-5)


def test_whole_model_is_the_pair_model(case: Case) -> None:
    """Subset group in scrambled order: both modes see the same matrix in the order of ids."""
    x = scattered(7, 6.0)
    order = np.random.default_rng(2).permutation(7)
    case.atoms(x[order], box(6), ids=[int(i) + 1 for i in order])
    models.save_traced(models.whole_rpy_model(5), 15, case.folder / "M.pt")
    pair = case.parameters(PAIR, "pair.xml", **case.pair_models(), **noisy())
    whole = case.parameters(WHOLE, "whole.xml", M_filename="M.pt", **noisy())
    f, forces = push(7)
    tracks = []
    for name in (pair, whole):
        case.ok(
            system()
            + forces
            + "group some id 1 3 4 6 7\n"
            + f"fix m some mlmod {name} seed 5\n"
            + dump(20)
            + "run 20\n"
        )
        tracks.append(case.dump()[-1][:, 1:4])
    np.testing.assert_allclose(tracks[1], tracks[0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(tracks[0][[1, 4]], x[[1, 4]])
    assert np.abs(tracks[0] - x)[[0, 2, 3, 5, 6]].min() > 0


def noise_of_fix(name: str, seed: int, step: int, tags: Array, drift: bool = False) -> Array:
    """What the fix draws: Philox keyed by seed, a stream of its id, step and atom ids."""
    stream = 2166136261
    for byte in name.encode():
        stream = ((stream ^ byte) * 16777619) & 0xFFFFFFFF
    stream = 2 * (stream & 0x1FFFFFFF) + drift
    return random.normal(seed, stream, step, tags.astype(np.uint32)).ravel()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", [PAIR, WHOLE])
def test_trajectory_with_noise_and_drift(case: Case, mode: str, ranks: int) -> None:
    """A subset group against the scheme in NumPy, with the numbers the fix draws."""
    x, chosen, dt, kT, delta = scattered(7, 5.0), [0, 1, 3, 4, 6], 1e-3, 0.6, 0.05
    case.atoms(x, box(5))
    files = case.pair_models() if mode == PAIR else {"M_filename": "M.pt"}
    models.save_traced(models.whole_rpy_model(5), 15, case.folder / "M.pt")
    name = case.parameters(mode, **files, **noisy(KBT=kT, flag_thm_drift=1, delta=delta))
    case.ok(
        system(dt=dt)
        + "fix trap all spring/self 2.0\nfix push all addforce 0.7 -0.3 0.2\n"
        + "group some id 1 2 4 5 7\natom_modify sort 3 1.0\n"
        + f"fix move some mlmod {name} seed 42\n"
        + dump(30)
        + "run 30\n",
        ranks,
    )
    start, tags = x[chosen].ravel(), np.array(chosen) + 1
    now, push = start.copy(), np.tile([0.7, -0.3, 0.2], 5)

    def mobility(positions: Array) -> Array:
        return rpy_matrix(positions.reshape(-1, 3))

    f = push
    for step in range(1, 31):
        m = mobility(now)
        w = np.sign(noise_of_fix("move", 42, step, tags, drift=True))
        ahead, behind = (mobility(now + side * delta / 2 * w) @ w for side in (1, -1))
        noise = np.sqrt(2 * kT / dt) * np.linalg.cholesky(m) @ noise_of_fix("move", 42, step, tags)
        extra = noise + kT * (ahead - behind) / delta
        first = m @ f
        predicted = now + dt * (first + extra)
        f = push - 2.0 * (predicted - start)
        now = now + dt * (extra + 0.5 * (first + mobility(predicted) @ f))
    last = case.dump()[-1]
    np.testing.assert_allclose(last[chosen, 1:4].ravel(), now, rtol=0, atol=2e-6 * now.max())
    assert np.abs(now - start).max() > 0.1
    np.testing.assert_array_equal(last[[2, 5], 1:4], x[[2, 5]])


def increments(case: Case, words: str, steps: int, mode: str = PAIR) -> Array:
    """Noise of every step in units in which it is a standard normal vector."""
    x = np.array([[0.0, 0, 0], [1.0, 0.1, 0], [0.2, 1.1, 0.3], [0.5, 0.4, 1.2]]) + 50
    case.atoms(x, box(100))
    files = case.pair_models() if mode == PAIR else {"M_filename": "M.pt"}
    models.save_traced(models.whole_rpy_model(4), 12, case.folder / "M.pt")
    name = case.parameters(mode, **files, **noisy(KBT=0.7))
    dt = 1e-7
    case.ok(
        system(dt=dt)
        + f"fix m all mlmod {name} {words}\nthermo {steps}\n"
        + dump()
        + f"run {steps}\n"
    )
    frames = np.array([frame[:, 1:4] for frame in case.dump()]).reshape(steps + 1, -1)
    root = np.linalg.cholesky(rpy_matrix(x))  # nothing moves by more than 0.1
    return np.asarray(np.linalg.solve(root, np.diff(frames, axis=0).T).T / np.sqrt(2 * 0.7 * dt))


@pytest.mark.parametrize("mode", [PAIR, WHOLE])
def test_displacements_have_the_covariance_of_the_mobility(case: Case, mode: str) -> None:
    steps = 6000
    z = increments(case, "seed 21", steps, mode)
    covariance = z.T @ z / steps
    error = np.abs(covariance - np.eye(12))
    assert error.max() < 5 * np.sqrt(2 / steps)
    variance, spread = np.mean(z * z), np.sqrt(2 / z.size)
    assert abs(variance - 1) < 4 * spread
    assert abs(1.03**2 * variance - 1) > 4 * spread  # noise 3 % too large would be seen
    assert abs(np.mean(z[1:] * z[:-1])) < 4 / np.sqrt(z.size)
    other = increments(case, "seed 22", 400)
    assert abs(np.mean(other * z[:400])) < 4 / np.sqrt(other.size)


def test_two_fixes_have_noise_of_their_own(case: Case) -> None:
    """Atoms of two groups at equal places, and one seed for both fixes."""
    x = np.array([[1.0, 1, 1], [3.0, 3, 3]])
    case.atoms(x, box(5))
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    moves = {}
    for one, two in (("a", "b"), ("b", "a")):
        case.ok(
            system()
            + "group p id 1\ngroup q id 2\n"
            + f"fix {one} p mlmod {name}\nfix {two} q mlmod {name}\n"
            + dump()
            + "run 1\n"
        )
        moves[one + two] = case.dump()[-1][:, 1:4] - x
    assert np.abs(moves["ab"] - moves["ba"]).min() > 1e-6  # depends on the id of the fix
    assert abs(moves["ab"][0] - moves["ab"][1]).min() > 1e-6  # and of the atom


@pytest.mark.parametrize("drift", [1, 0])
def test_a_particle_with_uneven_mobility_samples_uniformly(case: Case, drift: int) -> None:
    """m(x) = 1 + 0.8 cos(2 pi x): mean cos is 0 with k_B T div M, -1/2 without."""
    n = 40
    x = np.random.default_rng(0).uniform(0, 8, (n, 3))
    case.atoms(x, box(8))
    files = case.pair_models(models.cosine_self_model, models.zero_pair_model)
    name = case.parameters(PAIR, **files, **noisy(delta=1e-2, flag_thm_drift=drift))
    case.ok(
        system("p p p", dt=5e-4)
        + f"fix m all mlmod {name} seed 4 verbose 0\nthermo 10000\n"
        + "run 400\n"
        + dump(20)
        + f"run {16000 if drift else 2000}\n"
    )
    cosine = np.cos(2 * np.pi * np.array([frame[:, 1] for frame in case.dump()]))
    if drift:
        assert abs(cosine.mean()) <= 0.03
    else:
        assert cosine.mean() == pytest.approx(-0.5, abs=0.08)


def test_random_difference_has_the_divergence_as_its_mean(case: Case) -> None:
    """Pair part 0.2 exp(-r^2) I: drift of each particle is known in closed form."""
    x = np.array([[1.0, 1, 1], [1.5, 1.2, 1], [1.1, 1.8, 1.4]])
    case.atoms(x, box(4))
    files = case.pair_models(pair=models.decaying_pair_model)
    name = case.parameters(PAIR, **files, **quiet(KBT=1.5, flag_thm_drift=1, delta=0.02))
    steps, dt = 4000, 1e-9
    case.ok(system(dt=dt) + f"fix m all mlmod {name}\nthermo {steps}\n" + dump() + f"run {steps}\n")
    frames = np.array([frame[:, 1:4] for frame in case.dump()])
    drift = np.diff(frames, axis=0) / dt
    mean = drift.mean(0)
    error = drift.std(0) / np.sqrt(steps) + 2e-3
    r = x[:, None] - x[None]
    gradient = 0.4 * r * np.exp(-(r**2).sum(-1))[..., None]  # d/dx_j of 0.2 exp(-r_ij^2)
    expected = 1.5 * gradient.sum(1)
    assert np.abs(expected).max() > 0.2
    assert (np.abs(mean - expected) < 4 * error).all()
    assert error.max() < 0.02


def test_matrix_that_is_not_positive_definite(case: Case) -> None:
    """Oseen at contact: an error that names eigenvalue and pair, or a shift that is reported."""
    x = np.array([[1.0, 1, 1], [1.15, 1, 1], [3.0, 3, 3]])
    case.atoms(x, box(5))
    name = case.parameters(PAIR, **case.pair_models(pair=models.oseen_pair_model), **noisy())
    run = "thermo 1\nthermo_style custom step f_m[1] f_m[2]\nrun 3\n"
    outcome = case.lmp(system(dt=1e-6) + f"fix m all mlmod {name}\n" + run)
    assert outcome.status == 1
    found = re.search(r"smallest eigenvalue (\S+), closest pair atoms 1 and 2", outcome.output)
    assert found and "model.xml" in outcome.output
    block = models.SELF - 2 / (8 * np.pi * models.VISCOSITY * 0.15)
    assert float(found[1].rstrip(",")) == pytest.approx(block, rel=0.05)
    output = case.ok(system(dt=1e-6) + f"fix m all mlmod {name} psd repair\n" + run)
    assert len(re.findall("adds", output)) == 1
    rows = [
        line.split() for line in output.splitlines() if re.fullmatch(r" +[0-9]( +\S+){2} *", line)
    ]
    assert [row[2] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[-1][1]) == pytest.approx(-block, rel=0.05)


def test_temperature_zero_switches_the_noise_off(case: Case) -> None:
    x = scattered(3, 4.0)
    case.atoms(x, box(4))
    name = case.parameters(PAIR, **case.pair_models(), **noisy(KBT=0))
    case.ok(system() + f"fix m all mlmod {name}\n" + dump(5) + "run 5\n")
    np.testing.assert_array_equal(case.dump()[-1][:, 1:4], x)


def test_velocities_are_free_of_noise_unless_legacy(case: Case) -> None:
    x = scattered(3, 4.0)
    case.atoms(x, box(4))
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    f, forces = push(3)
    speeds = []
    for words in ("", "legacy yes"):
        case.ok(system(dt=1e-6) + forces + f"fix m all mlmod {name} {words}\n" + dump() + "run 1\n")
        speeds.append(case.dump()[-1][:, 4:7])
    np.testing.assert_allclose(
        speeds[0], (rpy_matrix(x) @ f.ravel()).reshape(-1, 3), rtol=1e-2, atol=1e-3
    )
    assert np.abs(speeds[1]).max() > 100
