"""Networks and linear models of bispectrum components, trained here, run by stock LAMMPS.

The components and their derivatives come from LAMMPS' own ``compute snap``; torch learns the
energy of an atom as a function of them from energies, forces and stresses; what is learned are
values of a model of the form ``mliap/nn`` or ``mliap/linear``, whose files ``pair_style mliap``
reads (A. P. Thompson et al., J. Comput. Phys. 285, 316, 2015).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import BackendUnavailable, InvalidArgument
from mlcore.forcefield.evaluate.box import Box
from mlcore.forcefield.forms import Interaction, Model
from mlcore.forcefield.forms.snap import Bispectrum
from mlcore.forcefield.structures.labels import labels
from mlcore.io.atomic import write_text

__all__ = ["Components", "Trained", "components_of", "export", "fit_linear", "predict", "train"]

Array = npt.NDArray[np.float64]
MOST_ATOMS = 400
_STRAIN = 1e-4
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_NUMBERS = ("rcutfac", "rfac0", "twojmax", "nelems", "elems", "radelems", "welems")


@dataclass(frozen=True)
class Components:
    """Bispectrum components of a structure and what they do where atoms move.

    Attributes:
        types: (n,) index of the species of each atom.
        values: (n, K) components of each atom.
        gradients: (n, 3, n, K): d values[i] / d position[j, a] at [j, a, i].
        strains: (6, n, K) derivatives by strain, order xx yy zz yz xz xy; None without a volume.
        volume: A^3.
    """

    types: npt.NDArray[np.int64]
    values: Array
    gradients: Array
    strains: Array | None
    volume: float


@dataclass(frozen=True)
class Trained:
    """A model and the values found for it.

    Attributes:
        model: of the form ``mliap/nn`` or ``mliap/linear``.
        values: of all its parameters.
        losses: of the training, from the first to the last.
        errors: root mean square over the training data: ``energy`` (eV per atom), ``forces``
            (eV/A), ``stress`` (eV/A^3); only what there is data for.
    """

    model: Model
    values: dict[str, float]
    losses: tuple[float, ...]
    errors: dict[str, float]

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Files for LAMMPS; see `export`."""
        return export(self.model, self.values, folder)


@dataclass(frozen=True)
class _Labelled:
    """A structure's components beside its labels, in tolerances."""

    components: Components
    energy: float | None
    forces: Array | None
    stress: Array | None


def components_of(model: Model, structures: Sequence[Atoms]) -> list[Components]:
    """Bispectrum components of structures, as LAMMPS computes them for ``model``.

    Derivatives by positions are LAMMPS' own, those by strain central differences.

    Args:
        model: of the form ``snap``, ``mliap/linear`` or ``mliap/nn``; its default values count.
        structures: at most 400 atoms each, because derivatives are kept of all pairs of atoms.

    Raises:
        InvalidArgument: another form, or too large a structure.
    """
    words = _descriptor(model)
    return [_components(model, words, atoms) for atoms in structures]


def train(
    model: Model,
    structures: Sequence[Atoms],
    *,
    sigma_energy: float = 0.005,
    sigma_force: float = 0.1,
    sigma_stress: float = 0.003,
    iterations: int = 300,
    ridge: float = 1e-6,
    seed: int = 0,
) -> Trained:
    """Trains the network of a ``mliap/nn`` model on all labels of the structures.

    Components are shifted and scaled to mean 0 and spread 1 of each species. The loss is the mean
    squared error in tolerances, of energies per atom, force components and stress components, plus
    ``ridge`` times the mean square of the weights; the minimiser is L-BFGS on all data.

    Args:
        model: of the form ``mliap/nn``, such as
            ``ff.model("mliap/nn", ["Si"], options={"twojmax": 6, "layers": [16, 1]})``.
        structures: with energies, forces, stresses as ASE's results, each where there is one.
        sigma_energy: tolerance, eV per atom.
        sigma_force: tolerance, eV/A.
        sigma_stress: tolerance, eV/A^3.
        iterations: largest number of L-BFGS steps.
        ridge: weight of the squares of weights.
        seed: of the starting weights.

    Raises:
        BackendUnavailable: torch is not installed.
        InvalidArgument: another form, no structure, or none with a label.
    """
    torch = _torch()
    form = _form(model, "nn")
    data = _data(model, structures)
    kinds = len(model.species)
    scales = _scales(data, kinds)
    start = _start(data, kinds, form.layers, seed)
    weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in start]
    net = _Network(torch, form, kinds, scales, weights)
    batches = _batches(torch, data)
    sigma = (sigma_energy, sigma_force, sigma_stress)
    losses: list[float] = []

    def value(flat: Array) -> tuple[float, Array]:
        _set(torch, weights, flat)
        loss = _loss(net, batches, sigma)
        loss = loss + ridge * sum((w**2).mean() for w in weights)
        slopes = torch.autograd.grad(loss, weights)
        losses.append(float(loss.detach()))
        return losses[-1], np.concatenate([g.numpy().ravel() for g in slopes])

    _set(torch, weights, _minimised(value, np.concatenate([w.ravel() for w in start]), iterations))
    if not math.isfinite(losses[-1]):
        raise InvalidArgument("structures: the loss is not finite; are there absurd labels?")
    values = _values(model, form, scales, [w.detach().numpy() for w in weights])
    return Trained(model, values, tuple(losses), _errors(net, batches))


def fit_linear(
    model: Model,
    structures: Sequence[Atoms],
    *,
    sigma_energy: float = 0.005,
    sigma_force: float = 0.1,
    sigma_stress: float = 0.003,
    ridge: float = 1e-8,
) -> Trained:
    """Coefficients of a ``mliap/linear`` model by least squares; no torch is needed.

    Args:
        model: of the form ``mliap/linear``.
        structures: as of `train`.
        sigma_energy, sigma_force, sigma_stress: as of `train`.
        ridge: relative to the mean square of each column.

    Raises:
        InvalidArgument: as of `train`.
    """
    _form(model, "linear")
    data = _data(model, structures)
    kinds = len(model.species)
    rows: list[Array] = []
    wanted: list[Array] = []
    for one in data:
        c = one.components
        of = np.eye(kinds)[c.types]
        if one.energy is not None:
            sums = np.concatenate([of.sum(axis=0)[:, None], of.T @ c.values], axis=1)
            rows.append(sums.ravel()[None] / (len(of) * sigma_energy))
            wanted.append(np.array([one.energy / (len(of) * sigma_energy)]))
        if one.forces is not None:
            slope = -np.einsum("jaik,is->jask", c.gradients, of).reshape(3 * len(of), kinds, -1)
            slope = np.concatenate([np.zeros((*slope.shape[:2], 1)), slope], axis=2)
            rows.append(slope.reshape(3 * len(of), -1) / sigma_force)
            wanted.append(one.forces.ravel() / sigma_force)
        if one.stress is not None and c.strains is not None:
            slope = np.einsum("vik,is->vsk", c.strains, of) / c.volume
            slope = np.concatenate([np.zeros((6, kinds, 1)), slope], axis=2)
            rows.append(slope.reshape(6, -1) / sigma_stress)
            wanted.append(one.stress / sigma_stress)
    table, target = np.concatenate(rows), np.concatenate(wanted)
    size = np.sqrt(np.mean(table**2, axis=0))
    size[size == 0] = 1.0
    scaled = np.concatenate([table / size, math.sqrt(ridge * len(table)) * np.eye(len(size))])
    found = np.linalg.lstsq(scaled, np.concatenate([target, np.zeros(len(size))]), rcond=None)[0]
    beta = (found / size).reshape(kinds, -1)
    values = model.defaults
    for s in range(kinds):
        for k, value in enumerate(beta[s].tolist()):
            values[model.name(f"beta_{k}", (s,))] = value
    loss = float(np.mean((table @ (found / size) - target) ** 2))
    return Trained(model, values, (loss,), _linear_errors(data, beta))


def predict(
    model: Model, values: Mapping[str, float], structures: Sequence[Atoms]
) -> list[tuple[float, Array, Array | None]]:
    """Energy (eV), (n, 3) forces (eV/A) and (6,) stress (eV/A^3) of each structure, by torch.

    Raises:
        BackendUnavailable: torch is not installed.
        InvalidArgument: the model is no ``mliap/nn``.
    """
    torch = _torch()
    form = _form(model, "nn")
    scales, weights = _unpacked(model, form, values)
    tensors = [torch.tensor(w, dtype=torch.float64) for w in weights]
    net = _Network(torch, form, len(model.species), scales, tensors)
    data = [_Labelled(c, None, None, None) for c in components_of(model, structures)]
    return [row for one in data for row in _told(net, _Batch(torch, [one]))]


def export(model: Model, values: Mapping[str, float], folder: str | os.PathLike[str]) -> Path:
    """Writes the files LAMMPS reads, and ``in.potential``, which an input includes.

    Args:
        model: any.
        values: of all its parameters.
        folder: made where it is not there; the input is run in it, or told its path.

    Returns:
        Path of ``in.potential``.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    told = model.render(values)
    for name, text in told.files.items():
        write_text(place / name, text)
    lines = [f"pair_style {told.pair_style}", *told.pair_coeff, *told.commands]
    write_text(place / "in.potential", "\n".join(lines) + "\n")
    return place / "in.potential"


def _minimised(value: Any, start: Array, iterations: int) -> Array:
    from scipy.optimize import minimize

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 50, "ftol": 1e-12}
    found: Array = minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
    return found


def _set(torch: Any, weights: Sequence[Any], flat: Array) -> None:
    at = 0
    with torch.no_grad():
        for w in weights:
            w.copy_(torch.tensor(flat[at : at + w.numel()]).reshape(w.shape))
            at += w.numel()


class _Batch:
    """Structures of one size as tensors: S of them, n atoms each."""

    def __init__(self, torch: Any, data: Sequence[_Labelled]) -> None:
        def tensor(rows: Any) -> Any:
            return torch.tensor(np.array(rows), dtype=torch.float64)

        parts = [one.components for one in data]
        self.data = data
        self.count = len(parts[0].types)
        self.types = np.concatenate([c.types for c in parts])
        self.values = tensor([c.values for c in parts])
        size = (len(parts), 3 * self.count, -1)
        self.gradients = tensor([c.gradients for c in parts]).reshape(size)
        self.strains = None
        if parts[0].strains is not None:
            self.strains = tensor(
                [np.reshape(c.strains, (6, -1)) / c.volume for c in parts if c.strains is not None]
            )
        self.energy, self.has_energy = _rows(torch, [one.energy for one in data], ())
        self.forces, self.has_forces = _rows(torch, [one.forces for one in data], (self.count, 3))
        self.stress, self.has_stress = _rows(torch, [one.stress for one in data], (6,))


def _rows(torch: Any, told: Sequence[Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Labels of all structures, 0 where there is none, and where there is one."""
    there = [x is not None for x in told]
    rows = np.array([np.zeros(shape) if x is None else np.reshape(x, shape) for x in told])
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(there)


def _batches(torch: Any, data: Sequence[_Labelled]) -> list[_Batch]:
    sizes: dict[tuple[int, bool], list[_Labelled]] = {}
    for one in data:
        key = (len(one.components.types), one.components.strains is None)
        sizes.setdefault(key, []).append(one)
    return [_Batch(torch, rows) for rows in sizes.values()]


class _Network:
    """Energies of atoms by one small network for each species, and forces and stresses by these.

    ``weights`` are, for each species and layer, (nodes, 1 + inputs): bias first, as LAMMPS has them.
    """

    def __init__(
        self, torch: Any, form: Bispectrum, kinds: int, scales: list[tuple[Array, Array]],
        weights: list[Any],
    ) -> None:  # fmt: skip
        self._torch = torch
        self._layers = len(form.layers)
        self._kinds = kinds
        self._weights = weights
        self._scales = [
            tuple(torch.tensor(x, dtype=torch.float64) for x in pair) for pair in scales
        ]
        self._bend = {
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "relu": torch.relu,
            "linear": lambda x: x,
        }[form.activation]

    def __call__(self, batch: _Batch, learning: bool) -> tuple[Any, Any, Any]:
        """(S,) energies, (S, n, 3) forces and (S, 6) stresses or None."""
        values = batch.values.clone().requires_grad_(True)
        each = self._energies(values.reshape(-1, values.shape[-1]), batch.types)
        energy = each.reshape(len(values), -1).sum(axis=1)
        (slope,) = self._torch.autograd.grad(energy.sum(), values, create_graph=learning)
        column = slope.reshape(len(values), -1, 1)
        forces = -(batch.gradients @ column).reshape(len(values), -1, 3)
        stress = None if batch.strains is None else (batch.strains @ column)[..., 0]
        return energy if learning else energy.detach(), forces, stress

    def _energies(self, values: Any, types: npt.NDArray[np.int64]) -> Any:
        found = self._torch.zeros(len(types), dtype=self._torch.float64)
        for kind in range(self._kinds):
            own = self._torch.tensor(np.flatnonzero(types == kind))
            shift, spread = self._scales[kind]
            x = (values[own] - shift) / spread
            for layer in range(self._layers):
                w = self._weights[kind * self._layers + layer]
                x = x @ w[:, 1:].T + w[:, 0]
                if layer < self._layers - 1:
                    x = self._bend(x)
            found = found.index_add(0, own, x[:, 0])
        return found


def _loss(net: _Network, batches: Sequence[_Batch], sigma: Sequence[float]) -> Any:
    whole: list[Any] = [0.0, 0.0, 0.0]
    count = [0, 0, 0]
    for batch in batches:
        energy, forces, stress = net(batch, True)
        off = (energy - batch.energy) / (batch.count * sigma[0])
        squares = [(off**2, batch.has_energy)]
        squares.append(
            ((((forces - batch.forces) / sigma[1]) ** 2).mean(axis=(1, 2)), batch.has_forces)
        )
        if stress is not None:
            squares.append(
                ((((stress - batch.stress) / sigma[2]) ** 2).mean(axis=1), batch.has_stress)
            )
        for k, (square, there) in enumerate(squares):
            whole[k] = whole[k] + (square * there).sum()
            count[k] += int(there.sum())
    return sum(w / n for w, n in zip(whole, count, strict=True) if n)


def _errors(net: _Network, batches: Sequence[_Batch]) -> dict[str, float]:
    data: list[_Labelled] = []
    found: list[tuple[float, Array, Array | None]] = []
    for batch in batches:
        data += batch.data
        found += _told(net, batch)
    return _rms(data, found)


def _told(net: _Network, batch: _Batch) -> list[tuple[float, Array, Array | None]]:
    energy, forces, stress = net(batch, False)
    return [
        (
            float(energy[k]),
            np.asarray(forces[k].detach().numpy()),
            None if stress is None else np.asarray(stress[k].detach().numpy()),
        )
        for k in range(len(energy))
    ]


def _linear_errors(data: Sequence[_Labelled], beta: Array) -> dict[str, float]:
    found = []
    for one in data:
        c = one.components
        slope = beta[c.types][:, 1:]
        energy = float(np.sum(beta[c.types][:, 0]) + np.sum(slope * c.values))
        forces = -np.einsum("jaik,ik->ja", c.gradients, slope)
        stress = None
        if c.strains is not None:
            stress = np.einsum("vik,ik->v", c.strains, slope) / c.volume
        found.append((energy, forces, stress))
    return _rms(data, found)


def _rms(
    data: Sequence[_Labelled], found: Sequence[tuple[float, Array, Array | None]]
) -> dict[str, float]:
    off: dict[str, list[Array]] = {"energy": [], "forces": [], "stress": []}
    for one, (energy, forces, stress) in zip(data, found, strict=True):
        if one.energy is not None:
            off["energy"].append(np.array([(energy - one.energy) / len(forces)]))
        if one.forces is not None:
            off["forces"].append((forces - one.forces).ravel())
        if one.stress is not None and stress is not None:
            off["stress"].append(stress - one.stress)
    return {
        name: float(np.sqrt(np.mean(np.concatenate(rows) ** 2)))
        for name, rows in off.items()
        if rows
    }


def _data(model: Model, structures: Sequence[Atoms]) -> list[_Labelled]:
    if not structures:
        raise InvalidArgument("structures: at least one is needed")
    found = []
    for atoms, c in zip(structures, components_of(model, structures), strict=True):
        known = labels(atoms)
        found.append(_Labelled(c, known.energy, known.forces, known.stress))
    if all(one.energy is None for one in found):
        raise InvalidArgument("structures: none has an energy, so there is no zero to learn from")
    return found


def _scales(data: Sequence[_Labelled], kinds: int) -> list[tuple[Array, Array]]:
    """Mean and spread of every component over the atoms of each species."""
    types = np.concatenate([one.components.types for one in data])
    values = np.concatenate([one.components.values for one in data])
    found = []
    for kind in range(kinds):
        own = values[types == kind]
        if not len(own):
            raise InvalidArgument(f"structures: none holds species {kind + 1}")
        spread = own.std(axis=0)
        # a component that never changes must not be blown up
        spread = np.where(spread > 1e-6 * max(float(spread.max()), 1e-9), spread, 1.0)
        found.append((own.mean(axis=0), spread))
    return found


def _start(data: Sequence[_Labelled], kinds: int, layers: Sequence[int], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    counts = np.array(
        [np.bincount(d.components.types, minlength=kinds) for d in data if d.energy is not None],
        dtype=np.float64,
    )
    energies = np.array([d.energy for d in data if d.energy is not None])
    each = np.linalg.lstsq(counts, energies, rcond=None)[0]
    found = []
    for kind in range(kinds):
        width = data[0].components.values.shape[1]
        for k, nodes in enumerate(layers):
            made = rng.normal(0, 1 / math.sqrt(width), (nodes, width + 1))
            made[:, 0] = each[kind] if k == len(layers) - 1 else 0.0
            found.append(made)
            width = nodes
    return found


def _values(
    model: Model, form: Bispectrum, scales: list[tuple[Array, Array]], weights: list[Array]
) -> dict[str, float]:
    values = model.defaults
    layers = len(form.layers)
    for kind, pair in enumerate(scales):
        for word, row in zip(("scale0", "scale1"), pair, strict=True):
            for k, x in enumerate(row.tolist()):
                values[model.name(f"{word}_{k}", (kind,))] = x
        for layer, table in enumerate(weights[kind * layers : (kind + 1) * layers]):
            for node, row in enumerate(table.tolist()):
                values[model.name(f"bias{layer}_{node}", (kind,))] = row[0]
                for j, x in enumerate(row[1:]):
                    values[model.name(f"weight{layer}_{node}_{j}", (kind,))] = x
    return values


def _unpacked(
    model: Model, form: Bispectrum, values: Mapping[str, float]
) -> tuple[list[tuple[Array, Array]], list[Array]]:
    inputs = sum(1 for p in form.parameters if p.name.startswith("scale0_"))
    scales, weights = [], []
    for kind in range(len(model.species)):

        def one(name: str, kind: int = kind) -> float:
            return values[model.name(name, (kind,))]

        pair = [np.array([one(f"{w}_{k}") for k in range(inputs)]) for w in ("scale0", "scale1")]
        scales.append((pair[0], pair[1]))
        width = inputs
        for layer, nodes in enumerate(form.layers):
            weights.append(
                np.array(
                    [
                        [
                            one(f"bias{layer}_{n}"),
                            *(one(f"weight{layer}_{n}_{j}") for j in range(width)),
                        ]
                        for n in range(nodes)
                    ]
                )
            )
            width = nodes
    return scales, weights


def _form(model: Model, kind: str) -> Bispectrum:
    if not isinstance(model.form, Bispectrum) or model.form.model != kind:
        raise InvalidArgument(f"model: must be of the form mliap/{kind}, got {model.form.name}")
    return model.form


def _descriptor(model: Model) -> list[str]:
    """Arguments of ``compute snap`` for a model."""
    if not isinstance(model.form, Bispectrum):
        raise InvalidArgument(f"model: {model.form.name} has no bispectrum components")
    rendered = model.render(model.defaults)
    text = next(t for name, t in rendered.files.items() if "descriptor" in name or "param" in name)
    rows = [line.partition("#")[0].split() for line in text.splitlines()]
    told = {row[0]: row[1:] for row in rows if row}
    if told.get("quadraticflag", ["0"]) != ["0"]:
        raise InvalidArgument("model: products of components are not taken")
    kinds = len(model.species)
    radii = [repr(model.defaults[model.name("radius", (k,))]) for k in range(kinds)]
    weight = [repr(model.defaults[model.name("weight", (k,))]) for k in range(kinds)]
    words = [told["rcutfac"][0], told["rfac0"][0], told["twojmax"][0], *radii, *weight]
    for name, rest in told.items():
        if name == "chemflag":
            words += ["chem", str(kinds), *map(str, range(kinds))] if rest != ["0"] else []
        elif name not in (*_NUMBERS, "quadraticflag"):
            words += [name, *rest]
    return words


def _components(model: Model, words: Sequence[str], atoms: Atoms) -> Components:
    if len(atoms) > MOST_ATOMS:
        raise InvalidArgument(f"structures: at most {MOST_ATOMS} atoms each, got {len(atoms)}")
    reach = model.render(model.defaults).cutoff
    box = Box(atoms, model)
    try:
        box.use(Interaction(f"zero {reach + 1e-3!r}", ("pair_coeff * *",), cutoff=reach), Path())
        arguments = " ".join(words)
        box.lmp.command(f"compute mlcore_each all sna/atom {arguments}")
        box.lmp.command(f"compute mlcore_slopes all snap {arguments} bikflag 1 dgradflag 1")
        box.static()
        count = len(atoms)
        order = np.argsort(box.lmp.numpy.extract_atom("id")[:count])
        values = _each(box.lmp, order)
        rows = np.array(box.lmp.numpy.extract_compute("mlcore_slopes", 0, 2))[count:-1]
        gradients = np.zeros((count, 3, count, values.shape[1]))
        i, j, a = rows[:, :3].astype(np.int64).T
        # what LAMMPS keeps is the force a component makes
        gradients[j, a, i] = -rows[:, 3:]
        turned = np.einsum("jaik,ab->jbik", gradients, box._turn)
        box.lmp.command("uncompute mlcore_slopes")
        strains = _strained(box, order) if atoms.pbc.all() else None
    finally:
        box.close()
    types = np.asarray(box.types, dtype=np.int64) - 1
    return Components(types, values, turned, strains, float(box._volume))


def _strained(box: Box, order: npt.NDArray[np.int64]) -> Array:
    """(6, n, K) d components / d strain."""
    found = []
    for i, j in _VOIGT:
        change = np.zeros((3, 3))
        change[i, j] += _STRAIN / 2
        change[j, i] += _STRAIN / 2
        sides = []
        for sign in (1, -1):
            box.static(strain=np.eye(3) + sign * change)
            sides.append(_each(box.lmp, order))
        found.append((sides[0] - sides[1]) / (2 * _STRAIN))
    return np.array(found)


def _each(lmp: Any, order: npt.NDArray[np.int64]) -> Array:
    rows = np.array(lmp.numpy.extract_compute("mlcore_each", 1, 2), dtype=np.float64)
    found: Array = rows[: len(order)][order]
    return found


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise BackendUnavailable("torch is needed: pip install 'mlcore[train]'") from None
    return torch
