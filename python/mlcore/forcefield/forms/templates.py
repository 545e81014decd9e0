"""Text with holes: Jinja2 templates that can fill in numbers and nothing else.

Records come from other people. Their templates therefore see plain data alone: no attributes of
Python objects, no filters but four, no functions, and arithmetic of numbers only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["check_template", "fill"]

_HOLE = re.compile(r"\{\{ form\.(\w+) \}\}")


def fill(text: str, context: Mapping[str, Any]) -> str:
    """``text`` with its holes filled; floats with all their digits.

    Raises:
        InvalidArgument: it is no template, or asks for what is not there.
    """
    if "{" not in text:
        return text
    holes = _holes(text)
    if holes is not None:
        return _joined(*holes, context["form"])
    return _run(_template(text), context, text)


def check_template(text: str) -> str:
    """``text``, when it is a template.

    Raises:
        InvalidArgument: it is none.
    """
    if "{" in text and _holes(text) is None:
        _template(text)
    return text


def _run(made: Callable[..., str], context: Mapping[str, Any], text: str) -> str:
    from jinja2 import TemplateError

    try:
        return made(context)
    except (TemplateError, TypeError, ArithmeticError) as error:
        raise InvalidArgument(f"template {text[:60]!r}: {error}") from None


@functools.lru_cache(64)
def _holes(text: str) -> tuple[Sequence[str], Sequence[str]] | None:
    """Texts and the names between them, where names are all that is to be filled in."""
    parts = _HOLE.split(text)
    if any("{{" in part or "{%" in part or "{#" in part for part in parts[::2]):
        return None
    return parts[::2], parts[1::2]


def _joined(texts: Sequence[str], names: Sequence[str], values: Mapping[str, Any]) -> str:
    missing = [name for name in names if name not in values]
    if missing:
        raise InvalidArgument(f"template: there is no form.{missing[0]}")
    found = [texts[0]]
    for name, text in zip(names, texts[1:], strict=True):
        found += (repr(values[name]), text)
    return "".join(found)


@functools.lru_cache(256)
def _template(text: str) -> Callable[..., str]:
    from jinja2 import TemplateError

    try:
        return _environment().from_string(text).render
    except TemplateError as error:
        raise InvalidArgument(f"template {text[:60]!r}: {error}") from None


@functools.cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.runtime import LoopContext
    from jinja2.sandbox import SandboxedEnvironment

    class Plain(SandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return isinstance(obj, LoopContext) and super().is_safe_attribute(obj, attr, value)

        def getattr(self, obj: Any, attribute: str) -> Any:
            if isinstance(obj, Mapping):
                return obj.get(attribute, self.undefined(obj=obj, name=attribute))
            return super().getattr(obj, attribute)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            for side in (left, right):
                if not isinstance(side, (int, float)):
                    raise SecurityError(f"{operator} is for numbers")
            return super().call_binop(context, operator, float(left), float(right))

    made = Plain(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: repr(value) if isinstance(value, float) else value,
    )
    made.globals.clear()
    for kept in (made.filters, made.tests):
        for name in set(kept) - {"abs", "join", "length", "round", "defined"}:
            del kept[name]
    return made
