"""The weights of a network are parameters like any others: a genetic algorithm finds them too."""

from __future__ import annotations

from pathlib import Path

import mlcore.forcefield as ff
import numpy as np
from ase.build import bulk
from mlcore.forcefield.targets import Energies


def test_a_genetic_algorithm_teaches_a_network_what_stock_lammps_runs(tmp_path: Path) -> None:
    crystals = [bulk("Si", "diamond", 5.43 * x) for x in (0.94, 0.97, 1.0, 1.03, 1.06)]
    known = ff.model("sw", ["Si"])
    nothing = Energies(crystals, np.zeros(5), names=list("abcde"))
    with ff.Evaluator(known, [nothing]) as evaluator:
        energies = evaluator([known.defaults])[0].values["energies"] * 2
    target = Energies(crystals, energies, sigma=0.05, names=list("abcde"), relative_to=2)
    network = ff.model("mliap/nn", ["Si"], options={"twojmax": 2, "layers": [3, 1]})
    wide = {"weight0": 0.05, "bias0": 1.0, "weight1": 2.0}
    free = {
        name: ff.Free(lower=-wide[start], upper=wide[start], initial=0.0)
        for name in network.names
        if (start := name.partition("_")[0]) in wide
    }
    assert len(free) == 21
    space = ff.Space(network.parameters, free)
    result = ff.fit(
        network, space, [target], search="ga", budget=400, seed=1, folder=tmp_path / "f"
    )
    flat = float(np.mean(((energies - energies[2]) / 2 / 0.05) ** 2))
    assert result.total is not None
    # a network that says nothing has every crystal at one energy
    assert result.total < 0.2 * flat
    assert result.verified.agrees
    assert (tmp_path / "f" / "model" / "in.lammps").is_file()
