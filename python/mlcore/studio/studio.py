"""What requests need of a studio."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.templating import Jinja2Templates

from mlcore import __version__
from mlcore.studio import words
from mlcore.studio.accounts import Accounts
from mlcore.studio.settings import Settings
from mlcore.studio.store import Store

__all__ = ["Studio"]

_HERE = Path(__file__).parent


@dataclass
class Studio:
    """What requests need.

    Attributes:
        store, settings, accounts: of the studio.
        key: lets the one user in once, where there are no logins; None: it was used, or there are.
    """

    store: Store
    settings: Settings
    accounts: Accounts
    key: str | None = None
    templates: Jinja2Templates = field(init=False)

    def __post_init__(self) -> None:
        self.templates = Jinja2Templates(directory=str(_HERE / "templates"))
        self.templates.env.globals["version"] = __version__
        self.templates.env.trim_blocks = self.templates.env.lstrip_blocks = True
        self.templates.env.filters.update(words.FILTERS)

    def opens(self, key: str) -> bool:
        """Whether this is the key of the one user; it works once."""
        fits = self.key is not None and secrets.compare_digest(key.encode(), self.key.encode())
        if fits:
            self.key = None
        return fits
