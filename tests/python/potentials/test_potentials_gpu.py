"""The CUDA side gives what the CPU gives."""

from __future__ import annotations

from typing import Any

import mlcore
import numpy as np
import pytest
from devices import device_named
from mlcore.arrays import Kind
from mlcore.potentials import Call, evaluate
from test_potentials import FORMS, candidates, structures

pytestmark = pytest.mark.gpu


def there(form: str, system: Any, given: Any, device: Any, options: dict[str, Any]) -> Any:
    """`evaluate` on the device, of tables too."""
    if form != "eam":
        return evaluate(form, system, device.put(given), **options)
    call = Call(form, system, given, False)
    call.parameters = device.put(call.parameters)
    call.kind = Kind.of(call.parameters)
    return call.run(
        deformation=call.deformation(options.get("deformation")),
        displacements=call.displacements(options.get("displacements")),
        wanted=call.wanted(options.get("wanted")),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changed", [False, True])
def test_parity(form: str, changed: bool) -> None:
    device = device_named("cuda")
    system, given = structures(form, skin=1.2), candidates(form, 5)
    rng = np.random.default_rng(5)
    options: dict[str, Any] = {}
    if changed:
        options["deformation"] = np.eye(3) + rng.normal(0, 0.02, (5, 3, 3, 3))
        options["displacements"] = rng.normal(0, 0.04, (5, system.atoms[-1], 3))
        options["wanted"] = [0, 2]
    want = evaluate(form, system, given, **options)
    found = there(form, system, given, device, options)
    for name in ("energies", "forces", "stress"):
        assert np.allclose(
            device.get(getattr(found, name)),
            getattr(want, name),
            rtol=1e-10,
            atol=1e-9,
            equal_nan=True,
        )


def test_errors_and_rows_of_nan() -> None:
    device = device_named("cuda")
    system, given = structures("tersoff"), candidates("tersoff", 3)
    with pytest.raises(mlcore.BackendUnavailable):
        evaluate("tersoff", system, device.put(given), gradient=True)
    given[1, 6] = -1
    found = evaluate("tersoff", system, device.put(given))
    assert np.isnan(device.get(found.energies)[1]).all()
    given[2, 10] = 9
    with pytest.raises(mlcore.InvalidArgument, match="candidate 2"):
        evaluate("tersoff", system, device.put(given))
    given[2, 10] = np.nan
    with pytest.raises(mlcore.InvalidArgument, match="parameters must be finite"):
        evaluate("tersoff", system, device.put(given))
