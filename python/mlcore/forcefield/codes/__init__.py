"""Programs that compute energies, forces and properties: VASP, LAMMPS, any command."""

from __future__ import annotations

from mlcore.forcefield.codes.code import Code, label
from mlcore.forcefield.codes.command import Command, Json, Output, Pattern
from mlcore.forcefield.codes.lammps_command import LammpsCommand
from mlcore.forcefield.codes.process import CodeFailed
from mlcore.forcefield.codes.templates import render
from mlcore.forcefield.codes.vasp import STATIC, Vasp

__all__ = [
    "STATIC",
    "Code",
    "CodeFailed",
    "Command",
    "Json",
    "LammpsCommand",
    "Output",
    "Pattern",
    "Vasp",
    "label",
    "render",
]
