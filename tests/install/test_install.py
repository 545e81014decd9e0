"""The package as others get it: a wheel, and a plain `cmake --install`, both used from outside."""

from __future__ import annotations

import os
import subprocess
import sys
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
def wheel_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a new environment with mlcore's wheel and only what its import needs."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", folder,
        "--config-settings=cmake.define.MLCORE_CUDA=OFF",
        f"--config-settings=build-dir={folder}/build")  # fmt: skip
    wheels = list(folder.glob("mlcore-*.whl"))
    assert len(wheels) == 1
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", wheels[0], "numpy", "scipy-openblas32",
        "--constraint", ROOT / "constraints.txt")  # fmt: skip
    return python


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
def test_find_package_from_cmake_install(tmp_path: Path) -> None:
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    run("cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DMLCORE_CUDA=OFF",
        f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DPython_EXECUTABLE={sys.executable}")  # fmt: skip
    run("cmake", "--build", build)
    run("cmake", "--install", build)
    assert "mobility 0.0081" in build_and_run_consumer(
        tmp_path / "consumer", f"-DCMAKE_PREFIX_PATH={prefix}"
    )
