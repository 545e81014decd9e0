"""Forms in files of the user: records in JSON or YAML, which are data, and Python, which is code."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms.family import Family
from mlcore.forcefield.forms.kinds import form_of
from mlcore.forcefield.forms.lines import read_text
from mlcore.forcefield.forms.record import Form

__all__ = ["forms_of_file"]


def forms_of_file(path: Path) -> tuple[Form | Family, ...]:
    """Forms and families that a file holds.

    A ``.json`` or ``.yaml`` file holds one record or a list of them and is data. A ``.py`` file is
    run, and its ``FORMS`` taken.

    Raises:
        FileFormatError: it cannot be read, or holds something else.
    """
    path = path.resolve()
    try:
        stamp = path.stat()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix == ".py":
        return _of_python(path, (stamp.st_mtime_ns, stamp.st_size))
    return _of_record(path, (stamp.st_mtime_ns, stamp.st_size))


@functools.lru_cache(256)
def _of_record(path: Path, stamp: tuple[int, int]) -> tuple[Form, ...]:
    told = _parsed(path, read_text(path))
    records = told if isinstance(told, list) else [told]
    try:
        return tuple(form_of(record) for record in records)
    except InvalidArgument as error:
        raise FileFormatError(f"{path}: {error}") from None


def _parsed(path: Path, text: str) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(text)
        import yaml

        return yaml.safe_load(text)
    except ImportError:
        raise FileFormatError(f"{path}: YAML needs the package pyyaml") from None
    # yaml's errors share no base with json's
    except Exception as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None


@functools.lru_cache(256)
def _of_python(path: Path, stamp: tuple[int, int]) -> tuple[Form | Family, ...]:
    name = f"mlcore_forms_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise FileFormatError(f"{path}: {type(error).__name__}: {error}") from error
    found = getattr(module, "FORMS", None)
    if not isinstance(found, (list, tuple)) or not all(
        isinstance(one, (Form, Family)) for one in found
    ):
        raise FileFormatError(f"{path}: must set FORMS, a list of forms")
    return tuple(found)
