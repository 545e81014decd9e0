"""Several models of one kind: their mean, and how far they are apart where data are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcore.errors import InvalidArgument
from mlcore.export import Contract
from mlcore.export.native import Native
from mlcore.forces.external import ExternalForce
from mlcore.forces.frames import read_frames, split
from mlcore.forces.model import Dtype, ForceFit, ForceModel
from mlcore.forces.neighbor import NeighborForce
from mlcore.forces.pair import PairForce, tabulate
from mlcore.training import TrainingOptions

__all__ = ["Committee"]


class Committee(ForceModel):
    """Members of equal settings and different seeds, each fitted to frames drawn with replacement.

    Forces and energies are the means over the members; `spread` tells how far the members' forces
    are apart, atom by atom: what the data do not tell.

    Args:
        model: settings of all members; its seed is that of the first.
        members: how many, at least 2.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(self, model: NeighborForce | ExternalForce, members: int = 4) -> None:
        if not isinstance(model, (NeighborForce, ExternalForce)):
            raise InvalidArgument(
                f"model must be a PairForce, ManyBodyForce or ExternalForce: {model}"
            )
        if not isinstance(members, int) or isinstance(members, bool) or members < 2:
            raise InvalidArgument(f"members must be a whole number of at least 2, not {members!r}")
        super().__init__(model.kinds.given, model.kinds.units)
        self.members = [model.renewed(model.seed + k) for k in range(members)]

    def fit(
        self,
        frames: Any,
        *,
        validation: Any = 0.1,
        checkpoint: str | Path | None = None,
        **options: Any,
    ) -> list[ForceFit]:
        """Fit every member; the frames held out are the same for all.

        What was learned before is lost, but kept by all members where an error is raised.

        Args:
            frames, validation, checkpoint, options: see the members' fit; every member has a folder
                of its own in `checkpoint`, or in the directory of `training`, and batches of its
                own. Called again alike after a stop, members that were done are not trained again.

        Raises:
            InvalidArgument: naming the argument.
        """
        seed = self.members[0].seed
        found = read_frames(frames, self.kinds)
        learned, held_out = split(found, validation, self.kinds, seed)
        if checkpoint is not None:
            Path(checkpoint).mkdir(parents=True, exist_ok=True)
        fitted = [member.renewed(member.seed) for member in self.members]
        results = []
        for number, member in enumerate(fitted):
            rng = np.random.default_rng([seed, number])
            drawn = [learned[int(k)] for k in rng.integers(0, len(learned), len(learned))]
            folder = None if checkpoint is None else Path(checkpoint) / f"member_{number}"
            told = _of_member(options, number)
            results.append(
                member.fit(drawn, validation=held_out or None, checkpoint=folder, **told)
            )
        self.members, self._cached = fitted, None
        return results

    def networks(self) -> list[torch.nn.Module]:
        return [network for member in self.members for network in member.networks()]

    def contract(self, dtype: Dtype = "float64") -> Contract:
        return self.members[0].contract(dtype)

    def native(self) -> list[Native] | None:
        pairs = [m for m in self.members if isinstance(m, PairForce)]
        if pairs:
            self.networks()
            return list(tabulate(pairs))
        each = [member.native() for member in self.members]
        return None if any(e is None for e in each) else [n for e in each for n in e or ()]

    def notes(self) -> dict[str, Any]:
        told = self.members[0].notes()
        return {**told, "model": f"Committee of {len(self.members)} {told['model']}"}


def _of_member(options: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Arguments of the fit of a member: batches and a folder of its own."""
    training = options.get("training")
    if not isinstance(training, TrainingOptions):
        return dict(options)
    own = replace(training, seed=training.seed + number)
    if own.directory is not None:
        own = replace(own, directory=Path(own.directory) / f"member_{number}")
    return {**options, "training": own}
