"""Evaluation of candidates: LAMMPS objects that stay, and the core's own kernels."""

from __future__ import annotations

from mlcore.forcefield.evaluate.evaluator import CLIP, Evaluation, Evaluator

__all__ = ["CLIP", "Evaluation", "Evaluator"]
