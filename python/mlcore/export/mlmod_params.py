"""MLMOD's XML files (`*.mlmod_params`): every mode, every tag, checked.

MLMOD: Atzberger, J. Open Source Softw. 8(89), 5620 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from mlcore.errors import InvalidArgument
from mlcore.io.atomic import write_text

__all__ = ["HOOKS", "MASKS", "MODES", "checked_tags", "parameters_text", "write_parameters"]

HOOKS = ("INITIAL_INTEGRATE", "FINAL_INTEGRATE", "POST_FORCE")
MASKS = ("X", "V", "F", "Type", "Time")


@dataclass(frozen=True)
class Tag:
    """One parameter: how its value is written, and what stands when it is left out.

    Args:
        write: the text of a value; raises ValueError for what is none.
        default: what stands for it where it is left out.
        optional: nothing stands for it there.
    """

    write: Callable[[Any], str]
    default: Any = None
    optional: bool = False


def _real(value: Any) -> str:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return repr(number)


def _positive(value: Any) -> str:
    if not float(value) > 0:
        raise ValueError("must be positive")
    return _real(value)


def _not_negative(value: Any) -> str:
    if not float(value) >= 0:
        raise ValueError("must not be negative")
    return _real(value)


def _flag(value: Any) -> str:
    if value not in (0, 1, "0", "1"):
        raise ValueError("must be 0 or 1")
    return "1" if int(value) else "0"


def _steps(value: Any) -> str:
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError("must be a whole number of at least 1")
    return str(value)


def _name(value: Any) -> str:
    text = str(value)
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _words(allowed: tuple[str, ...]) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        words = value.split() if isinstance(value, str) else list(value)
        if not words or any(w not in allowed for w in words) or len(set(words)) < len(words):
            raise ValueError(f"must be some of {' '.join(allowed)}")
        return " ".join(w for w in allowed if w in words)

    return write


_HOOK, _MASK = _words(HOOKS), _words(MASKS)
_NOISE = {
    "delta": Tag(_not_negative),
    "KBT": Tag(_not_negative),
    "flag_stochastic": Tag(_flag),
    "flag_thm_drift": Tag(_flag),
}
_PLACE = {"base_name": Tag(_name), "base_dir": Tag(_name, "./mlmod")}
_FORCE = {
    **_PLACE,
    "F_filename": Tag(_name),
    "mask_fix": Tag(_HOOK, "POST_FORCE"),
    "mask_input": Tag(_MASK, "X"),
}
_PAIR = {"M_ii_filename": Tag(_name), "M_ij_filename": Tag(_name)}
MODES: dict[str, dict[str, Tag]] = {
    "dX_MF": {
        "eta": Tag(_positive),
        "a": Tag(_positive),
        "epsilon": Tag(_not_negative),
        "mask_fix": Tag(_HOOK, "FINAL_INTEGRATE"),
        "mask_input": Tag(_MASK, "X"),
    },
    "dX_MF_ML1": _PAIR,
    "dX_MF_Q1_ML1_Pair": {**_PAIR, **_NOISE},
    "dX_MF_Q1_ML1_N2N": {"M_filename": Tag(_name), **_NOISE},
    "F_ML1": _FORCE,
    "F_X_ML1": _FORCE,
    "F_Pair_ML1": {**_FORCE, "cutoff": Tag(_positive, optional=True)},
    "QoI_ML1": {
        **_PLACE,
        "qoi_filename": Tag(_name),
        "mask_fix": Tag(_HOOK),
        "mask_input": Tag(_MASK),
        "skip_step": Tag(_steps, 1),
    },
    "Dyn_ML1": {
        **_PLACE,
        "dyn1_filename": Tag(_name),
        "dyn2_filename": Tag(_name),
        "mask_fix": Tag(_HOOK),
        "mask_input": Tag(_MASK),
    },
}
"""Tags of every mode of MLMOD, and the cutoff that mlcore's `fix mlmod` takes for pairs."""

_IN_PLACE_OF_PAIR = "bundle"


def checked_tags(mode: str, tags: Mapping[str, Any]) -> dict[str, str]:
    """All tags of a mode as text, defaults filled in.

    The pair modes take `bundle` in place of M_ii_filename and M_ij_filename: `fix mlmod` of mlcore
    then evaluates the bundle.

    Raises:
        InvalidArgument: naming mode or tag.
    """
    if mode not in MODES:
        raise InvalidArgument(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    known = dict(MODES[mode])
    if _IN_PLACE_OF_PAIR in tags and "M_ii_filename" in known:
        del known["M_ii_filename"], known["M_ij_filename"]
        known = {_IN_PLACE_OF_PAIR: Tag(_name), **known}
    for name in tags:
        if name not in known:
            raise InvalidArgument(f"{mode} has no tag {name!r}; it takes {', '.join(known)}")
    found = {}
    for name, tag in known.items():
        value = tags.get(name, tag.default)
        if value is None and tag.optional:
            continue
        if value is None:
            raise InvalidArgument(f"{mode} needs a value of the tag {name!r}")
        try:
            found[name] = tag.write(value)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"tag {name!r} of {mode}: {value!r}: {error}") from error
    if found.get("flag_thm_drift") == "1" and not float(found["delta"]) > 0:
        raise InvalidArgument("tag 'delta' must be positive where flag_thm_drift is 1")
    return found


def parameters_text(mode: str, tags: Mapping[str, Any]) -> str:
    """The XML of a mode. Raises InvalidArgument naming mode or tag."""
    lines = [
        f"    <{name} value={quoteattr(value)}/>"
        for name, value in checked_tags(mode, tags).items()
    ]
    body = "\n".join(lines)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<MLMOD>\n'
    return f'{head}  <model_data type="{mode}">\n{body}\n  </model_data>\n</MLMOD>\n'


def write_parameters(path: str | Path, mode: str, tags: Mapping[str, Any]) -> None:
    """Write the XML of a mode, whole or not at all. Paths in it are as LAMMPS will look for them.

    Raises:
        InvalidArgument: naming mode or tag.
    """
    write_text(path, parameters_text(mode, tags))
