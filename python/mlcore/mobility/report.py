"""A report in one HTML file: pictures inside, readable on light and dark screens, prints well."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlcore.errors import FileFormatError
from mlcore.io.atomic import write_text

__all__ = ["Number", "Picture", "Report", "Section", "Table", "rounded", "write_report"]


@dataclass(frozen=True)
class Number:
    """One figure that matters: what it is, its value, and what it should be."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    caption: str

    @property
    def uri(self) -> str:
        """The picture as a data URI.

        Raises:
            FileFormatError: the file is absent or not a PNG.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise FileFormatError(f"{self.path}: {error.strerror or error}") from error
        if not content.startswith(b"\x89PNG\r\n\x1a\n"):
            raise FileFormatError(f"{self.path}: not a PNG file")
        return "data:image/png;base64," + base64.b64encode(content).decode()


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row names it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: int | None = None
    """Row to set off from the others."""


@dataclass(frozen=True)
class Section:
    """One part of the report."""

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Report:
    """Everything the report shows."""

    title: str
    lead: str
    numbers: Sequence[Number]
    sections: Sequence[Section]
    provenance: Mapping[str, str]
    files: Sequence[tuple[str, str]] = field(default=())
    """Input files and their SHA-256."""
    configuration: str = ""


def write_report(report: Report, path: Path) -> Path:
    """Write the report as one HTML file, whole or not at all.

    Raises:
        FileFormatError: a picture is absent or not a PNG.
        Error: the file cannot be written.
    """
    import jinja2

    templates = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    write_text(path, environment.get_template("report.html").render(report=report))
    return path


def rounded(value: float, error: float | None = None, scale: float = 1.0) -> str:
    """A number with its standard error, to two digits of the error: ``0.99 ± 0.03``."""
    value *= scale
    if error is None or not 0 < error < float("inf"):
        return f"{value:.3g}"
    error *= scale
    from math import floor, log10

    digits = max(0, 1 - floor(log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")
