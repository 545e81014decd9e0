"""``python -m mlcore.forcefield``: lists the entry points, or runs a command."""

from mlcore.forcefield.entry import main

raise SystemExit(main())
