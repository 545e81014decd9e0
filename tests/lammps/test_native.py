"""Bundles through the core: same matrix as Python, exact drift, periodic boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lammps_case import Array, Case, dump, system
from mlcore import random
from mlcore.export import write_bundle
from mlcore.mobility.tensors import RPY, PairMobility
from test_deterministic import push, scattered
from test_stochastic import LJ, PAIR, box, noisy, quiet

SELF = 0.13


def gaussian(r: Array) -> Array:
    return np.asarray(0.3 * SELF * np.exp(-((r / 0.8) ** 2)))


def mobility(background: RPY | None = None) -> PairMobility:
    own = SELF if background is None else 0.4 * SELF
    return PairMobility.from_functions(own, 4.8, gaussian, gaussian, background=background)


def bundle(case: Case, background: RPY | None = None) -> PairMobility:
    chosen = mobility(background)
    write_bundle(case.folder / "bundle", chosen, units="lj", training={"made by": "a test"})
    return chosen


TRICLINIC = ((0, 8, 0, 8, 0, 8), (3.0, -2.0, 2.5))
ROWS = np.array([[8.0, 0, 0], [3.0, 8, 0], [-2.0, 2.5, 8]])
BOXES: dict[str, tuple[str, tuple[float, ...], Array | None, tuple[bool, bool, bool]]] = {
    "open": ("f f f", (), None, (False,) * 3),
    "cubic": ("p p p", (), 8 * np.eye(3), (True,) * 3),
    "triclinic": ("p p p", TRICLINIC[1], ROWS, (True,) * 3),
}


@pytest.mark.parametrize("background", [None, RPY(0.4, 1.0)], ids=["short-ranged", "rpy"])
@pytest.mark.parametrize("where", BOXES)
def test_velocities_are_those_of_python(case: Case, where: str, background: RPY | None) -> None:
    boundary, tilt, cell, pbc = BOXES[where]
    x = scattered(8, 7.5)
    case.atoms(x, box(8), tilt)
    chosen = bundle(case, background)
    name = case.parameters("dX_MF_ML1", bundle="bundle")
    f, forces = push(8)
    case.ok(system(boundary) + forces + f"fix m all mlmod {name}\n" + dump() + "run 1\n")
    expected = chosen.apply(x, f, cell=cell, pbc=pbc)
    np.testing.assert_allclose(case.dump()[-1][:, 4:7], expected, rtol=1e-9, atol=1e-12)


def test_mixed_boundaries(case: Case) -> None:
    """A table alone takes any boundaries; periodic RPY is refused with the core's reason."""
    x = scattered(5, 7.5)
    case.atoms(x, box(8))
    name = case.parameters("dX_MF_ML1", bundle="bundle")
    f, forces = push(5)
    script = system("p p f") + forces + f"fix m all mlmod {name}\n" + dump() + "run 1\n"
    chosen = bundle(case)
    case.ok(script)
    expected = chosen.apply(x, f, cell=8 * np.eye(3), pbc=(True, True, False))
    np.testing.assert_allclose(case.dump()[-1][:, 4:7], expected, rtol=1e-9, atol=1e-12)
    bundle(case, RPY(0.4, 1.0))
    outcome = case.lmp(script)
    assert outcome.status == 1
    message = " ".join(outcome.output.split())
    assert "fix mlmod m: bundle 'bundle'" in message and "RPY" in message


def test_large_coordinates_lose_nothing(case: Case) -> None:
    x = np.array([[2.0, 2, 2], [2.9, 2.2, 2.1]])
    bundle(case, RPY(0.4, 1.0))
    name = case.parameters("dX_MF_ML1", bundle="bundle")
    f, forces = push(2)
    speeds = []
    for offset in (0.0, 2.0**17):
        case.atoms(x + offset, (offset, offset + 5) * 3)
        case.ok(system() + forces + f"fix m all mlmod {name}\n" + dump() + "run 1\n")
        speeds.append(case.dump()[-1][:, 4:7])
    np.testing.assert_allclose(speeds[1], speeds[0], rtol=1e-9)


def test_drift_is_exactly_the_divergence(case: Case) -> None:
    x = scattered(6, 3.0, gap=0.5)
    case.atoms(x, box(3))
    chosen = bundle(case)
    name = case.parameters(PAIR, bundle="bundle", KBT=1.5, flag_stochastic=0, flag_thm_drift=1)
    dt = 1e-3
    case.ok(system(dt=dt) + f"fix m all mlmod {name}\n" + dump() + "run 1\n")
    expected = dt * 1.5 * chosen.divergence(x)
    assert np.abs(expected).max() > 1e-5
    np.testing.assert_allclose(case.dump()[-1][:, 1:4] - x, expected, atol=1e-14)


def test_noise_is_the_documented_one(case: Case) -> None:
    """Philox keyed by seed, step and atom id; one of 2^30 streams chosen by the fix's id."""
    x = scattered(4, 5.0)
    ids = [3, 9, 4, 700]
    case.atoms(x, box(5), ids=ids)
    chosen = bundle(case)
    name = case.parameters(PAIR, bundle="bundle", **noisy(KBT=0.7))
    dt = 1e-4
    case.ok(system(dt=dt) + f"fix move all mlmod {name} seed 99\n" + dump() + "run 1\n")
    order = np.argsort(ids)
    stream = 2166136261
    for byte in b"move":
        stream = ((stream ^ byte) * 16777619) & 0xFFFFFFFF
    tags = np.sort(ids).astype(np.uint32)
    xi = random.normal(99, 2 * (stream & 0x1FFFFFFF), 1, tags)
    root = np.linalg.cholesky(chosen.matrix(x[order]))
    expected = np.sqrt(2 * 0.7 * dt) * (root @ xi.ravel()).reshape(-1, 3)
    np.testing.assert_allclose(case.dump()[-1][:, 1:4] - x[order], expected, atol=1e-13)


@pytest.mark.parametrize("where", ["cubic", "triclinic"])
def test_ranks_splits_and_restarts(case: Case, where: str) -> None:
    boundary, tilt, _, _ = BOXES[where]
    x = scattered(12, 7.5, gap=1.05)
    case.atoms(x, box(8), tilt)
    bundle(case, RPY(0.4, 1.0))
    name = case.parameters(PAIR, bundle="bundle", **noisy(KBT=0.3, flag_thm_drift=1))
    head = system(boundary, **LJ, dt=2e-4)
    fix = f"fix m all mlmod {name} seed 3\n"
    tail = "write_dump all custom {} id xu yu zu modify sort id format float %.17g\n"
    case.ok(head + fix + "run 100\n" + tail.format("one"), 1)
    case.ok(head + fix + "run 100\n" + tail.format("two"), 2)
    case.ok(head + fix + "run 50\nwrite_restart half.restart\nrun 50\n" + tail.format("split"), 1)
    restart = head.replace("read_data atoms.data", "read_restart half.restart")
    case.ok(restart + fix + "run 50\n" + tail.format("restarted"), 2)
    one, two, split, restarted = (case.dump(k)[0] for k in ("one", "two", "split", "restarted"))
    assert np.abs(one[:, 1:] - x).max() > 1e-2
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-10)
    np.testing.assert_allclose(split, one, rtol=0, atol=1e-12)
    np.testing.assert_allclose(restarted, one, rtol=0, atol=1e-10)


def test_two_dimensional_systems_are_refused(case: Case) -> None:
    case.atoms(np.array([[1.0, 1, 0]]), (0, 4, 0, 4, -0.5, 0.5))
    bundle(case)
    name = case.parameters(PAIR, bundle="bundle", **quiet())
    outcome = case.lmp("dimension 2\n" + system("p p p") + f"fix m all mlmod {name}\nrun 1\n")
    assert outcome.status == 1 and "needs dimension 3" in outcome.output


def damage(folder: Path, edit: str) -> None:
    """One way of spoiling a bundle; the recorded hash is made to fit where it is not the point."""
    import hashlib

    manifest_path, weights = folder / "manifest.json", folder / "weights.safetensors"
    manifest = json.loads(manifest_path.read_text())
    content = weights.read_bytes()
    if edit == "hash":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return
    if edit == "outside":
        manifest["files"]["../model.xml"] = {"sha256": "0" * 64}
    elif edit == "link":
        outside = folder.parent / "elsewhere.safetensors"
        outside.write_bytes(content)
        weights.unlink()
        weights.symlink_to(outside)
    elif edit == "format":
        manifest["format_version"] = 7
    elif edit == "kind":
        manifest["kind"] = "force"
    elif edit == "units":
        manifest["units"] = dict.fromkeys(("length", "energy", "time"), "metal")
    elif edit in ("length", "energy", "time"):
        manifest["units"][edit] = "real"
    elif edit == "missing field":
        del manifest["mobility"]["cutoff"]
    elif edit == "wrong type":
        manifest["mobility"]["self_mobility"] = "0.1"
    elif edit == "knots":
        manifest["mobility"]["knots"] += 1
    elif edit == "kernel":
        manifest["mobility"]["background"]["kernel"] = "oseen"
    elif edit == "unlisted":
        manifest["files"] = {}
    elif edit == "weights gone":
        weights.unlink()
    else:
        size = int.from_bytes(content[:8], "little")
        header, data = content[8 : 8 + size], content[8 + size :]
        parsed = json.loads(header)
        if edit == "half":
            content = content[: len(content) // 2]
        elif edit == "empty":
            content = b""
        elif edit == "big header":
            content = (1 << 40).to_bytes(8, "little") + content[8:]
        else:
            if edit == "nan":
                data = data[:-8] + np.array([np.nan]).tobytes()
            elif edit == "dtype":
                parsed["perp"]["dtype"] = "F32"
            elif edit == "no tensor":
                del parsed["perp"]
            elif edit == "offsets":
                parsed["perp"]["data_offsets"][1] += 8 * 10**6
            elif edit == "shape":
                parsed["perp"]["shape"] = [2**61]
            header = json.dumps(parsed).encode()
            if edit == "deep header":
                header = b"[" * 100_000
            content = len(header).to_bytes(8, "little") + header + data
        weights.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"]["weights.safetensors"]["sha256"] = digest
    manifest_path.write_text(json.dumps(manifest))


DAMAGE = {
    "hash": ("weights.safetensors", "sha256"),
    "outside": ("manifest.json", "../model.xml"),
    "link": ("manifest.json", "outside the folder"),
    "format": ("manifest.json", "format_version"),
    "kind": ("manifest.json", "kind"),
    "units": ("manifest.json", "'metal', this run has units lj"),
    "length": ("manifest.json", "units.length says 'real', this run has units lj"),
    "energy": ("manifest.json", "units.energy says 'real', this run has units lj"),
    "time": ("manifest.json", "units.time says 'real', this run has units lj"),
    "missing field": ("manifest.json", "mobility.cutoff"),
    "wrong type": ("manifest.json", "mobility.self_mobility"),
    "knots": ("weights.safetensors", "knots"),
    "kernel": ("manifest.json", "mobility.background.kernel"),
    "unlisted": ("manifest.json", "must list weights.safetensors"),
    "weights gone": ("weights.safetensors", "No such file"),
    "half": ("weights.safetensors", "truncated"),
    "empty": ("weights.safetensors", "empty"),
    "big header": ("weights.safetensors", "at most 1 MiB"),
    "deep header": ("weights.safetensors", "nested deeper"),
    "nan": ("weights.safetensors", "not finite"),
    "dtype": ("weights.safetensors", "dtype must be F64"),
    "no tensor": ("weights.safetensors", "'perp' is missing"),
    "offsets": ("weights.safetensors", "past the end"),
    "shape": ("weights.safetensors", "do not fit the shape"),
}


@pytest.mark.parametrize("edit", DAMAGE)
def test_damaged_bundle(case: Case, edit: str) -> None:
    case.atoms(scattered(2, 5.0), box(5))
    bundle(case)
    damage(case.folder / "bundle", edit)
    name = case.parameters("dX_MF_ML1", bundle="bundle")
    outcome = case.lmp(system() + f"fix m all mlmod {name}\nrun 1\n")
    assert outcome.status == 1, outcome.output
    message = " ".join(outcome.output.split())
    for word in ("fix mlmod m: bundle", *DAMAGE[edit]):
        assert word in message


MANIFESTS = {
    "absent": (None, "No such file"),
    "empty": (b"", "is empty"),
    "half": (b'{"format": "mlcore-bun', "not valid JSON"),
    "a list": (b"[]", "must hold a JSON object"),
    "deep": (b"[" * 100_000, "nested deeper"),
    "huge": (b" " * (1 << 21), "too large"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_damaged_manifest(case: Case, kind: str) -> None:
    content, message = MANIFESTS[kind]
    case.atoms(scattered(2, 5.0), box(5))
    bundle(case)
    manifest = case.folder / "bundle" / "manifest.json"
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    name = case.parameters("dX_MF_ML1", bundle="bundle")
    outcome = case.lmp(system() + f"fix m all mlmod {name}\nrun 1\n")
    assert outcome.status == 1, outcome.output
    assert "bundle/manifest.json" in outcome.output and message in outcome.output
