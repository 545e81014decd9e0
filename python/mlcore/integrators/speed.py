"""What a large step saves, by the paper's definition and by compiled small steps."""

from __future__ import annotations

from mlcore.arrays import integer, positive
from mlcore.errors import InvalidArgument

__all__ = ["break_even_force", "net_speedup"]


def net_speedup(
    verlet_step: float,
    model_step: float,
    *,
    steps: float,
    interval: float,
    dt: float,
    window: int = 5,
) -> float:
    """S_p = t_V S_T / (S_V t_V + (S_T - S_V) t_R dt / interval), S_V = interval (window - 1) / dt.

    Source: arXiv:2004.06493, Eq 3.

    Args:
        verlet_step: t_V, seconds of one small step.
        model_step: t_R, seconds of one large step.
        steps: S_T, small steps of the whole run, of which the window takes S_V.
        interval: the large step.
        dt: the small step.
        window: frames the model needs to begin.

    Raises:
        InvalidArgument: a number is not positive, or the window is longer than the run.
    """
    t_v, t_r = positive("verlet_step", verlet_step), positive("model_step", model_step)
    total, large, small = (
        positive("steps", steps),
        positive("interval", interval),
        positive("dt", dt),
    )
    if integer("window", window) < 1:
        raise InvalidArgument(f"window must be at least 1, got {window}")
    kick = large * (window - 1) / small
    if kick > total:
        raise InvalidArgument(f"the window takes {kick:g} steps, more than the run's {total:g}")
    return t_v * total / (kick * t_v + (total - kick) * t_r * small / large)


def break_even_force(model_step: float, evaluations: float) -> float:
    """Seconds a force evaluation must take for a large step to cost as much as the small ones it saves.

    Args:
        model_step: seconds of one large step.
        evaluations: of the force that it replaces: interval over the largest acceptable small step.
    """
    return positive("model_step", model_step) / positive("evaluations", evaluations)
