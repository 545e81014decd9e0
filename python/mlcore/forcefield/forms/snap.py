"""Bispectrum components with a linear model or a small network: ``snap`` and ``mliap``.

Thompson et al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.lines import read_text
from mlcore.forcefield.forms.record import Form, FormParameter, Known, Model

__all__ = ["MLIAP_LINEAR", "MLIAP_NN", "SNAP", "Bispectrum", "components"]

_CITATION = "A. P. Thompson et al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018"
_FLAGS = {"switchflag": 1, "bzeroflag": 1, "quadraticflag": 0}
_OF_ALL = ("rcutfac", "rfac0", "rmin0")


def components(twojmax: int) -> int:
    """Number of bispectrum components up to ``twojmax`` (2 J)."""
    return sum(
        1
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    )


class Bispectrum(Form):
    """A form of bispectrum components; reads what LAMMPS' ``snap`` and ``mliap`` read.

    Attributes:
        model: ``snap``, ``linear`` or ``nn``.
        twojmax: 2 J.
        layers: nodes of the network's layers, the last of which is 1.
        activation: of all layers but the last, which is linear.
    """

    kind: Literal["bispectrum"] = "bispectrum"
    model: Literal["snap", "linear", "nn"]
    twojmax: int = Field(ge=0, le=20)
    layers: tuple[int, ...] = ()
    activation: Literal["tanh", "sigmoid", "relu", "linear"] = "tanh"

    def _check_kind(self) -> None:
        if (self.model == "nn") != bool(self.layers):
            raise ValueError("layers are for model nn, and for it alone")

    def read(self, model: Model, *paths: Path) -> dict[str, float]:
        if len(paths) != 2:
            raise InvalidArgument(f"path: {self.name} is read from two files, got {len(paths)}")
        names = [s.name for s in model.species]
        found = _read(self.model, names, *paths)
        if found.twojmax != self.twojmax:
            raise FileFormatError(f"{paths[1]}: twojmax is {found.twojmax}, not {self.twojmax}")
        values = model.defaults
        for key, numbers in found.values.items():
            entry = (names.index(key),) if key else ()
            for name, value in numbers.items():
                if name not in {p.name for p in self.parameters}:
                    raise FileFormatError(f"{paths[0]}: has {name}, which {self.name} lacks")
                values[model.name(name, entry)] = value
        return values


class _Found:
    """What files of coefficients and of descriptors say: values, flags, sizes."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, float]] = {"": {}}
        self.flags: dict[str, str] = {}
        self.twojmax = 6
        self.layers: tuple[int, ...] = ()
        self.activation = "tanh"


def _read(kind: str, names: Sequence[str], coefficients: Path, descriptor: Path) -> _Found:
    found = _Found()
    try:
        _read_descriptor(found, names, _rows(descriptor))
        words = [w for row in _rows(coefficients) for w in row]
        _READERS[kind](found, names, words)
    except (ValueError, IndexError, KeyError) as error:
        raise FileFormatError(f"{coefficients}, {descriptor}: cannot be read: {error}") from None
    return found


def _rows(path: Path) -> list[list[str]]:
    found = [line.partition("#")[0].split() for line in read_text(path).splitlines()]
    return [row for row in found if row]


def _read_descriptor(found: _Found, names: Sequence[str], rows: list[list[str]]) -> None:
    told = {row[0]: row[1:] for row in rows}
    found.twojmax = int(told["twojmax"][0])
    if not 0 <= found.twojmax <= 20:
        raise ValueError(f"twojmax is {found.twojmax}")
    for name in _OF_ALL:
        if name in told:
            found.values[""][name] = float(told[name][0])
    taken = {"twojmax", "nelems", "elems", "radelems", "welems", *_OF_ALL}
    found.flags = {word: " ".join(rest) for word, rest in told.items() if word not in taken}
    for at, name in enumerate(told.get("elems", ())):
        if name not in names:
            continue
        found.values[name] = {
            "radius": float(told["radelems"][at]), "weight": float(told["welems"][at])
        }  # fmt: skip


def _read_snap(found: _Found, names: Sequence[str], words: list[str]) -> None:
    elements, count = int(words[0]), int(words[1])
    for k in range(elements):
        at = 2 + k * (count + 3)
        if words[at] in names:
            numbers = _numbers(words, at + 3, count)
            found.values[words[at]] = {
                "radius": float(words[at + 1]), "weight": float(words[at + 2])
            } | {f"beta_{n}": value for n, value in enumerate(numbers)}  # fmt: skip
    missing = [name for name in names if name not in found.values]
    if missing:
        raise ValueError(f"nothing about {missing[0]}")


def _read_linear(found: _Found, names: Sequence[str], words: list[str]) -> None:
    elements, count = int(words[0]), int(words[1])
    _check_elements(found, names, elements)
    # the model's file knows elements by their order in the descriptor's
    for k, name in enumerate(n for n in found.values if n):
        numbers = _numbers(words, 2 + k * count, count)
        found.values[name] |= {f"beta_{n}": value for n, value in enumerate(numbers)}


def _read_nn(found: _Found, names: Sequence[str], words: list[str]) -> None:
    elements, count = int(words[0]), int(words[1])
    _check_elements(found, names, elements)
    inputs, layers = int(words[3]), int(words[4])
    shape = words[5 : 5 + 2 * layers]
    found.layers = tuple(int(w) for w in shape[1::2])
    found.activation = shape[0] if layers > 1 else "tanh"
    if shape[-2] != "linear" or len(set(shape[:-2:2])) > 1:
        raise ValueError("only networks with one activation and a linear end are taken")
    widths = (inputs, *found.layers)
    expected = sum((a + 1) * b for a, b in itertools.pairwise(widths))
    # before anything is made as large as a file says
    if min(widths) < 1 or count != expected or expected + 2 * inputs > len(words):
        raise ValueError(f"has {count} weights of a network of {expected}")
    labels = [f"scale{n}_{k}" for n in (0, 1) for k in range(inputs)]
    labels += list(_weights(inputs, found.layers))
    for k, name in enumerate(n for n in found.values if n):
        numbers = _numbers(words, 5 + 2 * layers + k * len(labels), len(labels))
        found.values[name] |= dict(zip(labels, numbers, strict=True))


def _numbers(words: Sequence[str], at: int, count: int) -> list[float]:
    """The next ``count`` numbers, all of which there must be."""
    found = [float(word) for word in words[at : at + count]]
    if len(found) < count:
        raise ValueError(f"ends after {len(words)} words")
    return found


def _check_elements(found: _Found, names: Sequence[str], elements: int) -> None:
    told = [n for n in found.values if n]
    if sorted(told) != sorted(names) or elements != len(names):
        raise ValueError(f"is for {elements} elements, of which {', '.join(told)} are wanted")


_READERS = {"snap": _read_snap, "linear": _read_linear, "nn": _read_nn}


def _weights(inputs: int, layers: Sequence[int]) -> Iterable[str]:
    """Names of a network's numbers as LAMMPS has them: of each node its bias, then its weights."""
    width = inputs
    for layer, nodes in enumerate(layers):
        for k in range(nodes):
            yield f"bias{layer}_{k}"
            yield from (f"weight{layer}_{k}_{j}" for j in range(width))
        width = nodes


class _Options(Options):
    twojmax: Annotated[int, Field(ge=0, le=20)] = 6
    chem: bool = Field(False, description="components of each triplet of elements")
    coefficients: str | None = Field(
        None, description="path of a file of coefficients or of a model, to start from"
    )
    descriptor: str | None = Field(
        None, description="path of the parameters of SNAP or of the descriptor, to start from"
    )


class _SnapOptions(_Options):
    quadratic: bool = Field(False, description="products of two components too")


class _NetworkOptions(_Options):
    layers: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field((8, 1), min_length=1)
    activation: Literal["tanh", "sigmoid", "relu"] = "tanh"


class _Family(Family):
    def make(self, species: Sequence[str], options: Any) -> Form:
        names = [s.removeprefix("bead:") for s in species]
        kind = {"snap": "snap", "mliap/linear": "linear", "mliap/nn": "nn"}[self.name]
        found = None
        if options.coefficients or options.descriptor:
            if not (options.coefficients and options.descriptor):
                raise InvalidArgument(f"options of {self.name}: give coefficients and descriptor")
            paths = (Path(options.coefficients), Path(options.descriptor))
            found = _read(kind, names, *paths)
        return _form(self, kind, tuple(species), options, found)


def _form(
    family: Family, kind: str, species: tuple[str, ...], options: Any, found: _Found | None
) -> Form:
    flags = {name: str(value) for name, value in _FLAGS.items()}
    if found is not None:
        flags |= found.flags
        if "switchinnerflag" in flags or flags.get("wselfallflag", "0") not in "01":
            raise FileFormatError("switchinnerflag is not taken")
    else:
        flags |= {"chemflag": "1"} if options.chem else {}
        flags |= {"quadraticflag": "1"} if getattr(options, "quadratic", False) else {}
    if kind != "snap":
        flags.pop("quadraticflag", None)
    twojmax = found.twojmax if found else options.twojmax
    chem = flags.get("chemflag", "0") != "0"
    inputs = components(twojmax) * (len(species) ** 3 if chem else 1)
    layers: tuple[int, ...] = ()
    if kind == "nn":
        layers = found.layers if found else options.layers
        if layers[-1] != 1:
            raise InvalidArgument(f"options of {family.name}: layers: the last must be 1")
        numbers = list(_network(inputs, layers))
    else:
        numbers = list(_linear(inputs, flags.get("quadraticflag", "0") != "0"))
    activation = found.activation if found else getattr(options, "activation", "tanh")
    descriptor = _descriptor(kind, twojmax, flags)
    coefficients = _coefficients(kind, numbers, inputs, layers, activation)
    known = () if found is None else (_known(species, found, options.coefficients),)
    return Bispectrum.model_validate(
        {
            "name": family.name, "title": f"{family.title}, 2J {twojmax}", "citation": _CITATION,
            "parameters": [*_of_descriptor(), *numbers], "cutoff": "2*rcutfac*radius",
            "files": {_FILES[kind][0]: coefficients, _FILES[kind][1]: descriptor},
            "pair_style": _STYLES[kind], "pair_coeff": [_COEFF[kind]], "known": known,
            "species": (len(species),) * 2 if chem else (1, 8), "model": kind,
            "twojmax": twojmax, "layers": layers, "activation": activation,
        }
    )  # fmt: skip


_FILES = {
    "snap": ("model.snapcoeff", "model.snapparam"),
    "linear": ("model.mliap.model", "model.mliap.descriptor"),
    "nn": ("model.mliap.model", "model.mliap.descriptor"),
}
_STYLES = {
    "snap": "snap",
    "linear": "mliap model linear model.mliap.model descriptor sna model.mliap.descriptor",
    "nn": "mliap model nn model.mliap.model descriptor sna model.mliap.descriptor",
}
_COEFF = {
    "snap": "pair_coeff * * model.snapcoeff model.snapparam <species>",
    "linear": "pair_coeff * * <species>",
    "nn": "pair_coeff * * <species>",
}


def _of_descriptor() -> Iterable[FormParameter]:
    def one(name: str, default: float, low: float, high: float, unit: str, text: str, slot: str):  # type: ignore[no-untyped-def]
        return FormParameter.model_validate(
            {"name": name, "default": default, "lower": low, "upper": high, "unit": unit,
             "text": text, "slot": slot}
        )  # fmt: skip

    yield one("rcutfac", 4.7, 0.5, 12.0, "A", "times the sum of two radii: the cutoff", "form")
    yield one("rfac0", 0.99363, 0.1, 1.0, "", "part of the angle that distances span", "form")
    yield one("rmin0", 0.0, 0.0, 3.0, "A", "smallest distance", "form")
    yield one("radius", 0.5, 0.1, 5.0, "", "radius, in rcutfac", "element")
    yield one("weight", 1.0, -5.0, 30.0, "", "weight of its density", "element")


def _number(name: str, default: float, bound: float, text: str) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=-bound, upper=bound, unit="", text=text, slot="element"
    )


def _linear(inputs: int, quadratic: bool) -> Iterable[FormParameter]:
    yield FormParameter(
        name="beta_0", default=0.0, lower=-20.0, upper=20.0, unit="eV", slot="element",
        text="energy of an atom alone",
    )  # fmt: skip
    count = inputs + (inputs * (inputs + 1) // 2 if quadratic else 0)
    for k in range(1, count + 1):
        yield _number(f"beta_{k}", 0.0, 10.0, f"coefficient of component {k}")


def _network(inputs: int, layers: Sequence[int]) -> Iterable[FormParameter]:
    for k in range(inputs):
        yield _number(f"scale0_{k}", 0.0, 1e6, f"mean of component {k}")
    for k in range(inputs):
        yield FormParameter(
            name=f"scale1_{k}", default=1.0, lower=1e-6, upper=1e6, scale="log", slot="element",
            text=f"spread of component {k}",
        )  # fmt: skip
    # all the same weights would stay all the same: start from one fixed draw
    random = np.random.default_rng(0)
    for name in _weights(inputs, layers):
        width = (inputs, *layers)[int(re.match(r"[a-z]+(\d+)", name)[1])]  # type: ignore[index]
        draw = float(np.round(random.normal() / np.sqrt(width), 6))
        start = 0.0 if name.startswith("bias") else draw
        yield _number(name, start, 10.0, "of the network, layer and node and input")


def _descriptor(kind: str, twojmax: int, flags: dict[str, str]) -> str:
    lines = ["rcutfac {{ form.rcutfac }}", f"twojmax {twojmax}"]
    if kind != "snap":
        lines += ["nelems {{ species|length }}", "elems {{ species|join(' ') }}"]
        for word, name in (("radelems", "radius"), ("welems", "weight")):
            lines += [f"{word}{{% for e in elements %}} {{{{ e.{name} }}}}{{% endfor %}}", ""]
    lines += ["rfac0 {{ form.rfac0 }}", "rmin0 {{ form.rmin0 }}"]
    lines += [f"{name} {value}" for name, value in flags.items()]
    return "# UNITS: metal\n" + "\n".join(lines) + "\n"


def _coefficients(
    kind: str, numbers: Sequence[FormParameter], inputs: int, layers: Sequence[int], activation: str
) -> str:
    count = len(numbers) - (2 * inputs if kind == "nn" else 0)
    lines = ["# UNITS: metal", f"{{{{ species|length }}}} {count}"]
    if kind == "nn":
        shape = [f"{activation} {n}" for n in layers[:-1]] + ["linear 1"]
        lines += [f"NET {inputs} {len(layers)} {' '.join(shape)}"]
    lines += ["{% for e in elements %}"]
    if kind == "snap":
        lines += ["{{ e.name }} {{ e.radius }} {{ e.weight }}"]
    # LAMMPS takes at most thirty numbers from a line of a network
    lines += [f"{{{{ e.{p.name} }}}}" for p in numbers]
    return "\n".join([*lines, "{% endfor %}", ""])


def _known(species: tuple[str, ...], found: _Found, source: str) -> Known:
    return Known(name=Path(source).name, species=species, values=found.values)


SNAP = _Family("snap", "Bispectrum components, linear", _SnapOptions, ("Ta",))
MLIAP_LINEAR = _Family("mliap/linear", "Bispectrum components by mliap, linear", _Options, ("Ta",))
MLIAP_NN = _Family("mliap/nn", "Bispectrum components, a network", _NetworkOptions, ("Ta",))
