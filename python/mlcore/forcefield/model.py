"""``python -m mlcore.forcefield.model``: functional forms. Imported, it is the function `model`."""

import sys

from mlcore.forcefield.entry import run
from mlcore.forcefield.forms import model

if __name__ == "__main__":
    raise SystemExit(run("mlcore.cli.forcefield.forms", "app", "python -m mlcore.forcefield.model"))

# the package's `model` must stay what makes models, whoever imports this file
sys.modules[__name__] = model  # type: ignore[assignment]
