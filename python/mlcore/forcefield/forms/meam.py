"""Modified embedded atoms: LAMMPS' library of elements and a file of what is between them.

Baskes, Phys. Rev. B 46, 2727 (1992), doi:10.1103/PhysRevB.46.2727.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms.documents import Document, around, known_of
from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.lines import read_text
from mlcore.forcefield.forms.potentials import shipped_potential
from mlcore.forcefield.forms.record import Form, FormParameter

__all__ = ["MEAM"]

_CITATION = "M. I. Baskes, Phys. Rev. B 46, 2727 (1992), doi:10.1103/PhysRevB.46.2727"
# words of an entry of the library after its name, and those of them that may be fitted
_WORDS = [
    "lat", "z", "ielement", "atwt", "alpha", "b0", "b1", "b2", "b3", "alat", "esub", "asub", "t0",
    "t1", "t2", "t3", "rozero", "ibar",
]  # fmt: skip
_FITTED = {
    "alpha": (1.0, 15.0, "", "decay of the universal energy"),
    "b0": (0.0, 20.0, "", "decay of the density"),
    "b1": (0.0, 20.0, "", "decay of its angular part 1"),
    "b2": (0.0, 20.0, "", "decay of its angular part 2"),
    "b3": (0.0, 20.0, "", "decay of its angular part 3"),
    "alat": (1.0, 12.0, "A", "lattice constant of the reference"),
    "esub": (0.01, 20.0, "eV", "energy of the reference"),
    "asub": (0.05, 4.0, "", "embedding"),
    "t1": (-60.0, 60.0, "", "weight of its angular part 1"),
    "t2": (-60.0, 60.0, "", "weight of its angular part 2"),
    "t3": (-60.0, 60.0, "", "weight of its angular part 3"),
    "rozero": (0.01, 20.0, "", "scale of the density"),
}
_BETWEEN = {
    "Ec", "alpha", "rho0", "delta", "re", "Cmax", "Cmin", "attrac", "repuls", "theta",
    "gsmooth_factor", "rc", "delr",
}  # fmt: skip
_UNITS = {"Ec": "eV", "delta": "eV", "re": "A", "rc": "A", "delr": "A", "theta": "degree"}
_ENTRY = re.compile(r"^\s*(\w+)\s*(?:\(([\d\s,]+)\))?\s*=\s*(\S+)\s*$")


class _Options(Options):
    library: str | None = Field(None, description="path of a library; LAMMPS' library.meam")
    parameters: str | None = Field(None, description="path of a file of what is between elements")
    entries: dict[str, str] = Field({}, description="element -> its name in the library")
    elements: tuple[str, ...] = Field((), description="order the parameters' file counts in")


class _Meam(Family):
    def make(self, species: Sequence[str], options: Any) -> Form:
        bare = [s.removeprefix("bead:") for s in species]
        library = Path(options.library) if options.library else shipped_potential("library.meam")
        found = _library(library)
        own: dict[str, list[str]] = {}
        for name in bare:
            entry = options.entries.get(name, name)
            if entry not in found:
                raise InvalidArgument(f"species: {library} has no {entry}")
            own[name] = found[entry]
        order = list(options.elements) or bare
        if sorted(order) != sorted(bare):
            raise InvalidArgument(f"options of meam: elements must be {', '.join(bare)} in order")
        lines = _between(Path(options.parameters), order) if options.parameters else []
        between, template = _template(lines, order)
        values = {
            name: {w: _number(v) for w, v in zip(_WORDS, words, strict=True) if w in _FITTED}
            for name, words in own.items()
        }
        alone = not options.parameters
        # the file counts elements in its own order, which need not be that of the atoms' types
        counted = "<species>" if alone else " ".join(order)
        return Document(
            name="meam",
            family="meam",
            title=f"Modified embedded atoms, {library.name}",
            citation=_CITATION,
            parameters=(*_of_elements(next(iter(values.values()))), *between),
            pair_style="meam",
            pair_coeff=(f"pair_coeff * * library.meam {counted} model.meam <species>",),
            files={"library.meam": _entries(own), "model.meam": template},
            cutoff="rc",
            known=(known_of(library.name, tuple(species), values),),
            species=(1, len(bare)) if alone else (len(bare), len(bare)),
            elements=tuple(species),
        )


def _number(word: str) -> float:
    try:
        found = float(word.replace("d", "e"))
    except ValueError:
        raise FileFormatError(f"{word!r} is no number") from None
    if not math.isfinite(found):
        raise FileFormatError(f"{word!r} is not finite")
    return found


def _library(path: Path) -> dict[str, list[str]]:
    words = [
        w for line in read_text(path).splitlines() for w in line.partition("#")[0].split()
    ]  # fmt: skip
    width = len(_WORDS) + 1
    if not words or len(words) % width:
        raise FileFormatError(f"{path}: entries must have {width} words")
    found: dict[str, list[str]] = {}
    for at in range(0, len(words), width):
        found.setdefault(words[at].strip("'\""), words[at + 1 : at + width])
    return found


def _of_elements(first: dict[str, float]) -> Iterable[FormParameter]:
    for name, (lower, upper, unit, text) in _FITTED.items():
        value = first[name]
        yield FormParameter(
            name=name,
            default=value,
            lower=min(lower, value),
            upper=max(upper, value),
            unit=unit,
            text=text,
            slot="element",
        )


def _entries(own: dict[str, list[str]]) -> str:
    """One entry for each element of the model, whichever those are."""
    parts = ["# UNITS: metal\n{% for e in elements %}"]
    for name, words in own.items():
        told = dict(zip(_WORDS, words, strict=True))

        def word(w: str, told: dict[str, str] = told) -> str:
            return f"{{{{ e.{w} }}}}" if w in _FITTED else told[w]

        rows = [_WORDS[:4], _WORDS[4:12], _WORDS[12:]]
        body = "\n".join(" ".join(word(w) for w in row) for row in rows)
        parts.append(f"{{% if e.name == '{name}' %}}\n'{name}' {body}\n{{% endif %}}")
    return "".join([*parts, "{% endfor %}\n"])


def _between(path: Path, order: Sequence[str]) -> list[tuple[str, tuple[str, ...], str]]:
    """Keyword, names of its species, value, of every line."""
    found = []
    for line in read_text(path).splitlines():
        text = line.partition("#")[0]
        if not text.strip():
            continue
        match = _ENTRY.match(text)
        if match is None:
            raise FileFormatError(f"{path}: cannot be read: {line.strip()!r}")
        keyword, indices, value = match.groups()
        try:
            names = tuple(order[_index(k, len(order)) - 1] for k in (indices or "").split(",") if k)
        except ValueError as error:
            raise FileFormatError(f"{path}: {line.strip()!r}: {error}") from None
        found.append((keyword, names, value))
    return found


def _index(word: str, count: int) -> int:
    found = int(word)
    if not 1 <= found <= count:
        raise ValueError(f"there are {count} elements")
    return found


def _template(
    lines: Sequence[tuple[str, tuple[str, ...], str]], order: Sequence[str]
) -> tuple[list[FormParameter], str]:
    """Parameters of the lines, and the file with holes; of two equal lines the last counts."""
    told = {(keyword, names): value for keyword, names, value in lines}
    told.setdefault(("rc", ()), "4.0")
    told.setdefault(("delr", ()), "0.1")
    parameters, rows = [], ["# UNITS: metal"]
    for (keyword, names), value in told.items():
        at = ",".join(str(order.index(name) + 1) for name in names)
        left = f"{keyword}({at})" if names else keyword
        if keyword not in _BETWEEN:
            rows.append(f"{left} = {value}")
            continue
        number = _number(value)
        # alpha and re of a pair are not those of an element
        name = "_".join((f"{keyword}_between" if keyword == "alpha" else keyword, *names))
        lower, upper = around(number)
        parameters.append(
            FormParameter(
                name=name,
                default=number,
                lower=lower,
                upper=upper,
                unit=_UNITS.get(keyword, ""),
                text=f"{keyword} of {' and '.join(names) or 'all'}",
            )
        )
        rows.append(f"{left} = {{{{ form.{name} }}}}")
    return parameters, "\n".join(rows) + "\n"


MEAM = _Meam("meam", "Modified embedded atoms", _Options, ("Cu",))
