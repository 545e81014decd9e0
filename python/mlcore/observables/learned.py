"""Values learned from labelled frames."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlcore.data.ase_units import style_of
from mlcore.data.kinds import Kinds
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.export import Contract, ModelBundle, PairTable, Perceptron, load_model
from mlcore.export.contract import INPUTS
from mlcore.export.native import Native
from mlcore.neighbors import neighbor_list
from mlcore.networks.configurations import unwrapped
from mlcore.networks.layers import hidden_widths
from mlcore.networks.rows import AtomRows
from mlcore.networks.values import ConfigurationValues, NeighborValues
from mlcore.observables.base import Observable, Reduce
from mlcore.observables.fitting import (
    Network,
    ObservableFit,
    Samples,
    ValuesLoss,
    held_out,
    mean_squares,
    start,
    told_seed,
)
from mlcore.observables.frames import (
    Frame,
    digest,
    fold,
    one_size,
    read_frames,
    read_labels,
)
from mlcore.training import TrainingOptions, checked_seed

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LearnedObservable"]

Array = NDArray[np.float64]
Sees = Literal["neighbors", "atoms", "configuration"]
Invariance = Literal["none", "translation", "rotation"]
Dtype = Literal["float32", "float64"]
Labelled = tuple[list[Frame], list[Array]]

_KNOTS = 2001
_RADIAL = ("intervals", "channels", "centres", "smooth")
_CLASSES = {
    "neighbor-values": "neighbors",
    "atom-rows": "atoms",
    "configuration-values": "configuration",
}


_MOMENTA = "momenta of ase.Atoms need a model with units='metal', 'real' or 'lj' (as they are)"


class LearnedObservable(Observable):
    """K values learned from frames whose values are known.

    - "neighbors": values of an atom from smooth invariants of its neighbors; they do not change when
      space is moved, turned or mirrored, or when atoms of a type change places.
    - "atoms": values of an atom from its own position, velocity and type.
    - "configuration": values of all positions of a group, in the order of its atoms.

    Args:
        sees: see above.
        values: K.
        cutoff: beyond which neighbors are not seen, where all values change smoothly.
        types: number of atom types, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        inputs: of "atoms": some of x, v, types. Positions are those in the periodic cell.
        reduce: "mean" or "sum" of the atoms' values, or "none": (n, K) are kept. None is "mean"; a
            configuration has none.
        invariance: of "configuration". "rotation" (and translation): the group is made whole as a
            chain, centred, and turned onto the mean shape of the frames (Kabsch), which tells mirror
            images apart; "translation": it is not turned; "none": positions as they are.
        hidden, activation: layers that learn what a linear map leaves (of atoms: all); () has that
            map alone: of neighbors a sum over them of functions of the distance.
        intervals: of neighbors: Gaussians that the sum over neighbors is made of.
        channels, centres: of neighbors: radial functions of the invariants, Gaussians each is made of.
        smooth: part of the cutoff over which neighbors fade.
        units: "metal", "real" or "lj" of LAMMPS, which ASE's momenta are converted to, as
            `mlcore.forces.ExternalForce` says; needed where those are seen.
        members: networks of a committee, each fitted to frames drawn with replacement; values are
            their mean, and `spread` how far they are apart.
        seed: of the weights, the batches and the frames held out.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        sees: Sees = "neighbors",
        values: int = 1,
        *,
        cutoff: float | None = None,
        types: int | str | Sequence[str] = 1,
        inputs: Sequence[str] = ("x",),
        reduce: Reduce | None = None,
        invariance: Invariance = "rotation",
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        intervals: int = 24,
        channels: int = 8,
        centres: int = 10,
        smooth: float = 0.4,
        units: str | None = None,
        members: int = 1,
        seed: int = 0,
    ) -> None:
        if not isinstance(members, int) or isinstance(members, bool) or members < 1:
            raise InvalidArgument(f"members must be a whole number of at least 1, not {members!r}")
        if not isinstance(values, int) or isinstance(values, bool) or values < 1:
            raise InvalidArgument(f"values must be a whole number of at least 1, not {values!r}")
        self.sees: Sees = sees
        self.kinds = Kinds(types, units)
        self.cutoff, self.invariance = cutoff, invariance
        self.reduce: Reduce | None = reduce
        if reduce is None and sees in ("neighbors", "atoms"):
            self.reduce = "mean"
        self.inputs: tuple[str, ...] = ()
        if sees == "atoms":
            if isinstance(inputs, str) or not inputs or set(inputs) - {"x", "v", "types"}:
                raise InvalidArgument(f"inputs must be some of x, v, types, not {inputs!r}")
            self.inputs = tuple(name for name in INPUTS if name in inputs)
        elif sees == "configuration":
            self.inputs = ("x",) if invariance == "none" else ("x", "cell")
        self.hidden, self.activation = hidden_widths(hidden), activation
        self._radial = {
            "intervals": intervals,
            "channels": channels,
            "centres": centres,
            "smooth": smooth,
        }
        self.members, self.seed = members, checked_seed(seed)
        self.particles: int | None = None
        self.values, self.shape = values, (values,)
        self.results: list[ObservableFit] = []
        self._networks: list[Network] = []
        self._cached: tuple[str, list[Network]] | None = None
        self.contract()
        self._network(1, seed)

    # -- what it is -------------------------------------------------------------------------------
    def contract(self) -> Contract:
        return Contract(
            "qoi",
            self.sees,
            "values",
            inputs=self.inputs,
            cutoff=self.cutoff,
            types=self.kinds.count,
            particles=self.particles,
            shape=self.shape,
            reduce=self.reduce,
        )

    def _network(self, particles: int, seed: int) -> Network:
        layers: dict[str, Any] = {"hidden": self.hidden, "activation": self.activation}
        told = {**layers, "seed": seed}
        if self.sees == "neighbors":
            assert self.cutoff is not None
            told |= self._radial
            found = NeighborValues(self.cutoff, self.kinds.count, self.values, **told)
            return found if self.hidden else found.double()
        if self.sees == "atoms":
            count = self.kinds.count
            return AtomRows(self.inputs, "values", count, self.values, **told).double()
        return ConfigurationValues(particles, self.values, self.invariance, **told).double()

    def network(self) -> torch.nn.Module:
        """The first network of the committee; Error before `fit`."""
        return self.networks()[0]

    def networks(self) -> list[Network]:
        """All networks; Error before `fit`."""
        if not self._networks:
            raise Error("LearnedObservable has not been fitted: call fit() first")
        return self._networks

    def native(self) -> list[Native] | None:
        found: list[Native] = []
        for network in self.networks():
            if isinstance(network, NeighborValues):
                table = _table(network)
                if table is None:
                    return None
                found.append(table)
                continue
            weights = network.native()
            if weights is None:
                return None
            found.append(Perceptron(**weights))
        return found

    def notes(self) -> dict[str, Any]:
        told: dict[str, Any] = {"model": "LearnedObservable", "seed": self.seed}
        if self.kinds.symbols is not None:
            told["species"] = list(self.kinds.symbols)
        errors = [r.held_out_error for r in self.results]
        if errors and all(np.isfinite(e).all() for e in errors):
            told["held_out_error"] = np.mean(errors, 0).tolist()
        return told

    def export(
        self, path: str | Path, *, units: Mapping[str, str] | str | None = None, **options: Any
    ) -> ModelBundle:
        """As of every observable; units are by default those of the model, or "lj".

        Raises:
            InvalidArgument: they are not those of the model.
            Error: not fitted, the files do not agree with the model, or cannot be written.
        """
        own = self.kinds.units
        if None not in (own, units) and units != own:
            raise InvalidArgument(f"units must be those of the model, {own!r}, not {units!r}")
        return super().export(path, units=units or own or "lj", **options)

    # -- learning ---------------------------------------------------------------------------------
    def fit(
        self,
        frames: Any,
        labels: Any,
        *,
        validation: Any = 0.1,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        epochs: int = 300,
        learning_rate: float = 5e-3,
        batch_size: int | None = None,
        training: TrainingOptions | None = None,
    ) -> ObservableFit:
        """Learns from configurations with known values; what was learned before is lost, but kept
        where an error is raised.

        Args:
            frames: `mlcore.data.Trajectory`, or a sequence of trajectories, `ase.Atoms`, or positions
                (n, 3). A configuration has the same number of atoms in all of them.
            labels: (K,) for each frame, or, with reduce "none", (n, K); K = 1 may be left out.
            validation: part of the frames to hold out, or other (frames, labels), or None. The
                parameters of the best epoch (by the frames held out) are kept. A part is chosen at
                random: frames of a run hardly differ from those just before and after, so give
                frames of another run to know the error on what was never seen.
            checkpoint: folder for checkpoints, metrics and the learning curve. A run that was killed
                goes on from there when called again alike.
            progress: show a bar.
            epochs, learning_rate, batch_size: of the training; batch_size counts frames.
            training: all its settings at once; the line above is then not read.

        Returns:
            Errors of the mean of the members; `results` holds the outcome of each.

        Raises:
            InvalidArgument: naming the argument.
            Error: the loss is not finite, or the checkpoint is of another run.
        """
        begin = time.perf_counter()
        learned, held = self._split(frames, labels, validation)
        particles = self._particles([*learned[0], *held[0]])
        settings = TrainingOptions.of_fit(
            training,
            checkpoint=checkpoint,
            progress=progress,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=self.seed,
        )
        fitted = [
            self._member(self._drawn(learned, number), held, particles or 1, number, settings)
            for number in range(self.members)
        ]
        self._networks, self.results = map(list, zip(*fitted, strict=True))
        self.particles, self._cached = particles, None
        if self.members == 1:
            return self.results[0]
        errors = self._error(learned), self._error(held)
        return ObservableFit(None, *errors, time.perf_counter() - begin)

    def _split(self, frames: Any, labels: Any, validation: Any) -> tuple[Labelled, Labelled]:
        """Frames and labels to learn from, and those held out."""
        found = read_frames(frames, self.kinds)
        per_atom = self.reduce == "none"
        known = read_labels(labels, found, self.values, per_atom)
        if isinstance(validation, (tuple, list)):
            if len(validation) != 2:
                raise InvalidArgument("validation must be a part, or the two (frames, labels)")
            others = read_frames(validation[0], self.kinds, "validation")
            told = read_labels(validation[1], others, self.values, per_atom, "validation")
            return (found, known), (others, told)
        held = held_out(validation, len(found), self.seed)

        def part(flag: bool) -> Labelled:
            chosen = np.flatnonzero(held == flag)
            return [found[k] for k in chosen], [known[k] for k in chosen]

        return part(False), part(True)

    def _particles(self, frames: list[Frame]) -> int | None:
        if "v" in self.inputs and any(frame.v is None for frame in frames):
            raise InvalidArgument(f"frames must have velocities: the model sees v; {_MOMENTA}")
        return one_size(frames) if self.sees == "configuration" else None

    def _drawn(self, learned: Labelled, number: int) -> Labelled:
        """What a member learns from."""
        if self.members == 1:
            return learned
        count = len(learned[0])
        drawn = np.random.default_rng([self.seed, number]).integers(0, count, count)
        return [learned[0][k] for k in drawn], [learned[1][k] for k in drawn]

    def _member(
        self,
        learned: Labelled,
        held: Labelled,
        particles: int,
        number: int,
        settings: TrainingOptions,
    ) -> tuple[Network, ObservableFit]:
        begin = time.perf_counter()
        network = self._network(particles, self.seed + number)
        if isinstance(network, ConfigurationValues):
            network.refer_to(torch.stack([frame.whole() for frame in learned[0]]))
        samples = self._samples(network, *learned)
        others = self._samples(network, *held) if held[0] else None
        told = f"{digest(*learned)} {digest(*held)}"
        loss = ValuesLoss(network, self.reduce, samples, others, told)
        start(network, loss)
        outcome = None
        if self.hidden:
            from mlcore.training.loop import train

            size = settings.batch_size or loss.at_once
            settings = replace(settings, batch_size=size, seed=settings.seed + number)
            if settings.directory is not None and self.members > 1:
                folder = Path(settings.directory) / f"member_{number}"
                settings = replace(settings, directory=folder)
            outcome = train(network, loss, settings, "LearnedObservable")
        network.eval()
        error = np.sqrt(mean_squares(loss, network, samples))
        away = np.full(self.shape, math.nan)
        if others is not None:
            away = np.sqrt(mean_squares(loss, network, others))
        return network, ObservableFit(outcome, error, away, time.perf_counter() - begin)

    def _samples(self, network: Network, frames: list[Frame], labels: list[Array]) -> Samples:
        dtype = network.out_scale.dtype
        given = []
        for frame in frames:
            inputs = self._inputs(frame, dtype)
            if isinstance(network, AtomRows):
                inputs = (network.rows(*inputs),)
            elif isinstance(network, ConfigurationValues):
                x = inputs[0] if self.invariance == "none" else unwrapped(*inputs)
                inputs = (network.prepared(x).reshape(1, -1),)
            given.append(inputs)
        whole = self.sees == "configuration"
        counts = [1 if whole else len(frame.x) for frame in frames]
        rows = [torch.from_numpy(np.atleast_2d(label)).to(dtype) for label in labels]
        return Samples(given, counts, rows)

    def _inputs(self, frame: Frame, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What the networks are given, in the order of bundles."""
        if self.sees == "neighbors":
            assert self.cutoff is not None
            box = frame.cell if frame.repeats.any() else None
            i, j, D = neighbor_list(
                "ijD", frame.x, self.cutoff, box, tuple(frame.repeats), index_dtype="int64"
            )
            whole = (torch.from_numpy(np.asarray(a)) for a in (i, j, frame.types))
            return (torch.from_numpy(np.asarray(D)).to(dtype), *whole)
        if "v" in self.inputs and frame.v is None:
            raise InvalidArgument(f"velocities are needed: the model sees v; {_MOMENTA}")
        x = frame.x if "cell" in self.inputs else fold(frame.x, frame.cell)
        told = {"x": x, "v": frame.v, "types": frame.types, "cell": frame.cell}
        found = (torch.from_numpy(np.array(told[name])) for name in self.inputs)
        return tuple(t if t.dtype == torch.int64 else t.to(dtype) for t in found)

    # -- evaluation -------------------------------------------------------------------------------
    def _frozen(self, dtype: Dtype) -> list[Network]:
        if self._cached is None or self._cached[0] != dtype:
            replace(self.contract(), dtype=dtype)  # checks it
            wanted = getattr(torch, dtype)
            copies = [copy.deepcopy(m).to(wanted).eval() for m in self.networks()]
            self._cached = (dtype, [m.requires_grad_(False) for m in copies])
        return self._cached[1]

    def _of(self, frame: Frame, dtype: Dtype = "float64") -> Array:
        """(members, n, K), or (members, K)."""
        networks = self._frozen(dtype)
        if self.particles not in (None, len(frame.x)):
            raise InvalidArgument(f"atoms hold {len(frame.x)} atoms, made for {self.particles}")
        inputs = self._inputs(frame, getattr(torch, dtype))
        each = torch.stack([network(*inputs) for network in networks]).double()
        if self.reduce in ("mean", "sum"):
            each = each.mean(1) if self.reduce == "mean" else each.sum(1)
        return np.asarray(each.numpy())

    def _error(self, labelled: Labelled) -> Array:
        if not labelled[0]:
            return np.full(self.shape, math.nan)
        away = [self._of(f).mean(0) - label for f, label in zip(*labelled, strict=True)]
        flat = np.concatenate([a.reshape(-1, self.values) for a in away])
        return np.asarray(np.sqrt((flat**2).mean(0)))

    def __call__(
        self,
        atoms: Atoms | ArrayLike,
        *,
        cell: ArrayLike | None = None,
        pbc: bool | tuple[bool, bool, bool] = False,
        types: ArrayLike | None = None,
        velocities: ArrayLike | None = None,
        dtype: Dtype = "float64",
    ) -> Array:
        """Values (K,), or (n, K) with reduce "none"; of a committee their mean.

        Args:
            atoms, cell, pbc, types: as for every observable; types of `ase.Atoms` are its symbols or
                its array `type`.
            velocities: (n, 3), where the model sees them; None are those of the Atoms.
            dtype: precision of the networks.

        Raises:
            InvalidArgument: naming the argument.
            Error: not fitted.
        """
        frame = Frame.of(atoms, self.kinds, cell, pbc, types, velocities)
        found: Array = self._of(frame, dtype).mean(0)
        return found

    def spread(
        self,
        atoms: Atoms | ArrayLike,
        *,
        cell: ArrayLike | None = None,
        pbc: bool | tuple[bool, bool, bool] = False,
        types: ArrayLike | None = None,
        velocities: ArrayLike | None = None,
    ) -> Array:
        """How far the members are apart: (K,) standard deviations, or (n,) with reduce "none":
        sqrt(mean |a - mean a|^2) over the members. Arguments as for the values."""
        each = self._of(Frame.of(atoms, self.kinds, cell, pbc, types, velocities))
        squares = ((each - each.mean(0)) ** 2).mean(0)
        return np.asarray(np.sqrt(squares.sum(-1) if self.reduce == "none" else squares))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads one back from its bundle. No code of it is run.

        Raises:
            FileFormatError: damaged, or not a bundle of a learned observable.
        """
        bundle = load_model(path)
        told = bundle.manifest["network"]
        contract = bundle.contract
        if bundle.kind != "qoi" or _CLASSES.get(told["class"]) != contract.sees:
            raise FileFormatError(f"{path}: holds no learned observable, but {told['class']!r}")
        networks: Any = bundle.networks("float64")
        a = networks[0].arguments
        names = ("invariance", "hidden", "activation", *_RADIAL)
        try:
            model = cls(
                contract.sees,
                a.get("values", a.get("outputs")),
                cutoff=contract.cutoff,
                types=bundle.species or contract.types,
                inputs=contract.inputs,
                reduce=contract.reduce,
                units=style_of(bundle.units),
                members=bundle.members,
                seed=told_seed(bundle),
                **{name: a[name] for name in names if name in a},
            )
            model.particles = contract.particles
            with torch.device("meta"):  # particles may be more than there is memory for
                same = model._network(model.particles or 1, 0).arguments == a
        except InvalidArgument as error:
            raise FileFormatError(f"{path}: manifest.json: field model: {error}") from error
        if not same or model.contract() != replace(contract, dtype="float64"):
            raise FileFormatError(f"{path}: manifest.json: field model does not fit its network")
        model._networks = networks
        return model


def _table(network: NeighborValues) -> PairTable | None:
    """The summand of a sum over neighbors, on knots close enough for Hermite's polynomials."""
    first = 1e-3 * network.cutoff
    r = torch.linspace(first, network.cutoff, _KNOTS, dtype=torch.float64, requires_grad=True)
    value = copy.deepcopy(network).double().summand(r)
    if value is None:
        return None
    (slope,) = torch.autograd.grad(value.sum(), r)
    return PairTable(first, network.cutoff, value.detach().numpy()[None], slope.numpy()[None])
