"""The package as others get it: a wheel, and a plain `cmake --install`, both used from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSUMER = Path(__file__).parent / "consumer"


def run(*command: object, **options: object) -> str:
    # The tools installed beside this interpreter (cmake, ninja) come first.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(c) for c in command],
        capture_output=True,
        text=True,
        env=environment,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def build_and_run_consumer(folder: Path, *cmake_options: str) -> str:
    run("cmake", "-S", CONSUMER, "-B", folder, "-G", "Ninja", *cmake_options)
    run("cmake", "--build", folder)
    return run(folder / "consumer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", folder,
        "--config-settings=cmake.define.MLCORE_CUDA=OFF",
        f"--config-settings=build-dir={folder}/build")  # fmt: skip
    wheels = list(folder.glob("mlcore-*.whl"))
    assert len(wheels) == 1
    return wheels[0]


@pytest.fixture(scope="module")
def wheel_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a new environment with mlcore's wheel and only what its import needs."""
    folder = tmp_path_factory.mktemp("lean")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", wheel, "numpy", "scipy-openblas32",
        "--constraint", ROOT / "constraints.txt")  # fmt: skip
    return python


@pytest.fixture(scope="module")
def wheel_mlcore(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a new environment: mlcore from its wheel, all other packages from ours."""
    folder = tmp_path_factory.mktemp("full")
    venv.create(folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site, ours = Path(run(python, "-c", code).strip()), Path(sysconfig.get_path("purelib"))
    # A path in a .pth file comes after the environment's own packages, and the .pth files there
    # (that of an editable mlcore) are not read. libmlcore looks for its BLAS beside the package.
    (site / "others.pth").write_text(f"{ours}\n")
    (site / "scipy_openblas32").symlink_to(ours / "scipy_openblas32")
    return folder / "bin" / "mlcore"


@pytest.mark.slow
def test_wheel_imports_fast_and_without_torch(wheel_python: Path) -> None:
    code = "import sys, mlcore; assert 'torch' not in sys.modules; print(mlcore.__version__)"
    assert run(wheel_python, "-c", code, cwd="/").strip()


@pytest.mark.slow
def test_find_package_from_wheel(wheel_python: Path, tmp_path: Path) -> None:
    where = run(wheel_python, "-c", "import mlcore; print(mlcore.get_cmake_dir())", cwd="/").strip()
    assert str(wheel_python.parents[1]) in where
    assert "mobility 0.0081" in build_and_run_consumer(tmp_path, f"-Dmlcore_DIR={where}")


@pytest.mark.slow
def test_plugin_from_wheel(
    wheel_mlcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlcore lammps build` compiles the sources inside the wheel, and stock `lmp` loads the result."""
    monkeypatch.setenv("MLCORE_CACHE", str(tmp_path / "cache"))
    environment = wheel_mlcore.parents[1]
    python = environment / "bin" / "python"
    code = "from mlcore.lammps.build import _source_folder; print(_source_folder())"
    assert Path(run(python, "-c", code, cwd="/").strip()).is_relative_to(environment.resolve())
    plugin = Path(run(wheel_mlcore, "lammps", "build", cwd="/").strip())
    assert plugin.is_relative_to(tmp_path / "cache")
    core = [line for line in run("ldd", plugin).splitlines() if "libmlcore" in line]
    assert len(core) == 1 and str(environment.resolve()) in core[0]
    (tmp_path / "in.lmp").write_text("plugin list\n")
    assert "mlmod" in run(wheel_mlcore, "lammps", "run", "in.lmp", cwd=tmp_path)


@pytest.mark.slow
def test_demo_from_wheel(wheel_mlcore: Path, tmp_path: Path) -> None:
    """The configuration is in the wheel; the trajectories are not, and the error says where from."""
    python = wheel_mlcore.parent / "python"
    done = subprocess.run(
        [wheel_mlcore, "mobility", "demo"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and list(tmp_path.iterdir()) == []
    assert done.stderr.startswith("error: --data: ") and done.stderr.count("\n") == 1
    assert "examples/colloids/data of mlcore's source" in done.stderr
    code = """if True:
        import sys
        from pathlib import Path
        from mlcore.mobility.cli import _example
        from mlcore.mobility.config import load_config
        data = Path(sys.argv[1])
        config = load_config(_example(data)).with_data(data)
        for name, section in config.data:
            print(name, *section.paths(config.folder))
        print("script", (config.folder / config.cost.script).resolve(strict=True))
    """
    data = ROOT / "examples" / "colloids" / "data"
    found = {
        name: [Path(file) for file in files]
        for name, *files in map(str.split, run(python, "-c", code, data, cwd="/").splitlines())
    }
    assert found["script"][0].is_relative_to(wheel_mlcore.parents[1].resolve())
    for name in ("active", "passive", "held_out"):
        assert found[name] and {file.parent for file in found[name]} == {data}


@pytest.mark.slow
def test_find_package_from_cmake_install(tmp_path: Path) -> None:
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    run("cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DMLCORE_CUDA=OFF",
        f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
    run("cmake", "--build", build)
    run("cmake", "--install", build)
    assert "mobility 0.0081" in build_and_run_consumer(
        tmp_path / "consumer", f"-DCMAKE_PREFIX_PATH={prefix}"
    )
