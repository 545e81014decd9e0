"""Names of networks: what a bundle may ask to be made."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from mlcore.errors import Error, InvalidArgument

if TYPE_CHECKING:
    import torch

__all__ = ["NAMES", "UNMAKEABLE", "arguments_of", "make", "name_of", "register"]

NAMES = {
    "autoencoder": "mlcore.networks.values:AutoencoderNetwork",
    "bond-order": "mlcore.networks.surroundings:BondOrder",
    "configuration-values": "mlcore.networks.values:ConfigurationValues",
    "gyration": "mlcore.networks.configurations:Gyration",
    "neighbor-count": "mlcore.networks.surroundings:NeighborCount",
    "neighbor-values": "mlcore.networks.values:NeighborValues",
    "one-step": "mlcore.networks.one_step:OneStepNetwork",
    "recurrent-step": "mlcore.networks.recurrent:RecurrentNetwork",
    "window-step": "mlcore.networks.windowed:WindowStep",
    "projection": "mlcore.networks.configurations:Projection",
    "atom-rows": "mlcore.networks.rows:AtomRows",
    "configuration-rows": "mlcore.networks.rows:ConfigurationRows",
    "many-body": "mlcore.networks.many_body:ManyBodyEnergy",
    "pair": "mlcore.networks.pair:PairEnergy",
}
"""Names of mlcore's own networks and where their classes are."""

UNMAKEABLE = (
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    MemoryError,
)
"""What classes raise that are given arguments of a file they do not take."""

_registered: dict[str, type[torch.nn.Module]] = {}
Module = TypeVar("Module", bound="type[torch.nn.Module]")


def register(name: str) -> Callable[[Module], Module]:
    """Decorator that makes a class of one's own known, so that its bundles can be rebuilt.

    The class needs a property `arguments`: keyword arguments that JSON can hold and that make an
    equal, untrained module.

    Raises:
        InvalidArgument: the name is taken.
    """

    def take(kind: Module) -> Module:
        held = _registered.get(name)
        same = held is not None and held.__qualname__ == kind.__qualname__
        if name in NAMES or (held is not None and not same):
            raise InvalidArgument(f"name {name!r} is taken by another network")
        _registered[name] = kind
        return kind

    return take


def _class(name: str) -> type[torch.nn.Module]:
    if name in _registered:
        return _registered[name]
    if name not in NAMES:
        known = ", ".join(sorted({*NAMES, *_registered}))
        raise Error(
            f"network {name!r} is not known here (known: {known}); import the module that defines "
            "it with mlcore.networks.register first"
        )
    module, _, attribute = NAMES[name].partition(":")
    found: type[torch.nn.Module] = getattr(importlib.import_module(module), attribute)
    return found


def make(name: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """An untrained network of a name.

    Raises:
        Error: nobody registered the name.
        InvalidArgument: the class does not take the arguments.
    """
    kind = _class(name)
    try:
        return kind(**arguments)
    except UNMAKEABLE as error:
        raise InvalidArgument(f"network {name!r} cannot be made: {error}") from error


def name_of(network: torch.nn.Module) -> str:
    """The name a network's class is known by.

    Raises:
        InvalidArgument: it has none.
    """
    kind = type(network)
    home = f"{kind.__module__}:{kind.__qualname__}"
    for name, place in NAMES.items():
        if place == home:
            return name
    for name, known in _registered.items():
        if known is kind:
            return name
    raise InvalidArgument(
        f"network {kind.__qualname__} has no name: decorate its class with "
        "mlcore.networks.register('a-name')"
    )


def arguments_of(network: torch.nn.Module) -> dict[str, Any]:
    """What the network's class was called with.

    Raises:
        InvalidArgument: no property `arguments`, or JSON cannot hold it.
    """
    told = getattr(network, "arguments", None)
    if not isinstance(told, Mapping):
        raise InvalidArgument(
            f"network {type(network).__qualname__} needs a property 'arguments', a dict"
        )
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(told), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"network arguments cannot be written as JSON: {error}") from error
    return found
