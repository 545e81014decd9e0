"""Kinds of forms: records, and those that need code of their own to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms.documents import Document
from mlcore.forcefield.forms.eam import Eam
from mlcore.forcefield.forms.eam_table import EamTable
from mlcore.forcefield.forms.overlay import Overlay
from mlcore.forcefield.forms.record import Form
from mlcore.forcefield.forms.snap import Bispectrum

__all__ = ["KINDS", "form_of", "schema"]

KINDS: dict[str, type[Form]] = {
    "record": Form,
    "eam": Eam,
    "eam/table": EamTable,
    "bispectrum": Bispectrum,
    "document": Document,
    "overlay": Overlay,
}


def form_of(record: Mapping[str, Any], where: str = "form") -> Form:
    """The form of a JSON record.

    Args:
        record: as `Form.model_dump(mode="json")` gives it.
        where: how errors call it.

    Raises:
        InvalidArgument: it is no such record; the message names the field.
    """
    if not isinstance(record, Mapping):
        raise InvalidArgument(f"{where}: must be a record with names, got {type(record).__name__}")
    kind = record.get("kind", "record")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidArgument(f"{where}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    try:
        return KINDS[kind].model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidArgument(f"{where}: {field}{': ' if field else ''}{first['msg']}") from None


def schema() -> dict[str, Any]:
    """JSON schema of every kind of record, by kind."""
    return {kind: form.model_json_schema() for kind, form in KINDS.items()}
