"""A model with everything in it, not fitted but set."""

from __future__ import annotations

import numpy as np
import pytest
from mlcore.mobility import models
from mlcore.mobility.models.base import PairModel, PairParameters


def made(background: str = "rpy") -> PairModel:
    """RPY (or nothing) plus a few shells plus a local part."""
    model = models.KernelRidgePairModel(background, 8.0, shells=12, radius=1.5, viscosity=2.0)
    weights = 2e-4 * np.exp(-model.basis.wavenumbers)
    model.set_parameters(PairParameters(1.5, 2.0, 3e-3, weights))
    return model


@pytest.fixture
def model() -> PairModel:
    return made()
