"""The kinds of tasks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from mlcore.errors import InvalidArgument
from mlcore.studio.kinds.face import Download, Kind, Place, Problem, Progress, Step

__all__ = ["Download", "Kind", "Place", "Problem", "Progress", "Step", "kind_of", "kinds"]


@cache
def kinds() -> Mapping[str, Kind]:
    """All of them, in the order in which they are offered."""
    from mlcore.studio.kinds.forcefield import ForceField
    from mlcore.studio.kinds.integrators import Integrators
    from mlcore.studio.kinds.mobility import Mobility
    from mlcore.studio.kinds.sagesnet import SagesNetFit
    from mlcore.studio.kinds.sagesnet_run import SagesNetRun

    every = (ForceField(), Mobility(), Integrators(), SagesNetFit(), SagesNetRun())
    return {kind.name: kind for kind in every}


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        InvalidArgument: there is none.
    """
    found = kinds().get(name)
    if found is None:
        raise InvalidArgument(f"kind: {name!r}; one of {', '.join(kinds())}")
    return found
