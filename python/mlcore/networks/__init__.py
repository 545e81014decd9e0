"""Networks that bundles can be made anew from, and what they are built of.

    from mlcore import networks
    module = networks.make("pair", {"cutoff": 2.5})

A network is a torch module with the calling convention of bundles (docs of `mlcore.export`), known
by a name, whose property `arguments` is what its class was called with. Importing this package does
not import torch; making a network does.
"""

from __future__ import annotations

from mlcore.networks.registry import NAMES, arguments_of, make, name_of, register

__all__ = ["NAMES", "arguments_of", "make", "name_of", "register"]
