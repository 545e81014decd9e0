"""Table I: net speed-ups by Eq 3, with the paper's times and with measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import one_dimension
from mlcore.integrators import net_speedup
from settings import SMALL, WINDOW

STEPS = (0.1, 0.2, 0.4, 1.0, 2.0, 4.0)
CLAIMED = {
    "oscillator": (0.5, 1.3, 3.2, 8.6, 20.0, 45.0),
    "lennard_jones": (0.9, 1.5, 3.9, 12.8, 22.5, 42.3),
    "double_well": (0.6, 1.2, 2.8, 8.7, 17.3, 38.0),
    "rugged": (0.4, 0.8, 2.1, 4.7, 9.7, 20.6),
    "8_box": (600.0, 1000.0, 1500.0, 5500.0, 8300.0, 12000.0),
    "16_box": (3000.0, 4900.0, 7100.0, 20000.0, 28000.0, 32000.0),
}
PAPER = 0.04392, 0.0026  # seconds of a small and of a large step, 16 particles
TIME = 1e6  # of the whole run


def gain(small: float, large: float, step: float, dt: float = SMALL, window: int = WINDOW) -> float:
    """Eq 3 for a run of t = 1e6."""
    return net_speedup(small, large, steps=TIME / dt, interval=step, dt=dt, window=window)


def table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows by experiment and step."""
    rows = []
    for name, one in found.items():
        if "cost" not in one:
            continue
        small, best = one["cost"]["verlet_seconds"], one["cost"]["acceptable"]
        large = min(
            r["step_seconds"] for r in one["lstm"].values()
        )  # the same network at all steps
        other = _other(name, one)
        for k, step in enumerate(STEPS):
            row: dict[str, Any] = {
                "name": name,
                "step": step,
                "claimed": CLAIMED[name][k] if name in CLAIMED else None,
                "paper": gain(*PAPER, step) if name == "16_box" else None,
                "lstm": gain(small, large, step),
                "lstm_best": gain(small, large, step, best) if step >= best else None,
                "small": small,
                "large": large,
                "acceptable": best,
            }
            if other is not None and step >= best and (name in one_dimension.CASES or step <= 0.1):
                row["other"] = gain(small, other[0], step, best, other[1])
                row["other_seconds"] = other[0]
            rows.append(row)
    return rows


def _other(name: str, one: Mapping[str, Any]) -> tuple[float, int] | None:
    """Seconds and frames to begin with of the integrator that works."""
    if name in one_dimension.CASES:
        kinds = [r["step_seconds"] for k, r in one["works"].items() if k.startswith("action")]
        return min(kinds), WINDOW
    if one["nbody"]:
        return one["nbody"]["0.1"]["step_seconds"], 1
    return None
