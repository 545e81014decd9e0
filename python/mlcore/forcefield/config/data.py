"""Training data in a config: where it is, and what energies, forces and stresses of groups count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from mlcore.errors import InvalidArgument
from mlcore.forcefield.config.files import Location
from mlcore.forcefield.config.structures import Positive, Section, with_species

if TYPE_CHECKING:
    from mlcore.forcefield.structures import Dataset
    from mlcore.forcefield.targets import Target

__all__ = ["Data", "GroupWeights", "Held", "Tolerances"]

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Tolerances(Section):
    """How far off is still good."""

    energy: Positive = 0.02
    """eV per atom."""
    forces: Positive = 0.2
    """Root mean square, eV/A."""
    stress: Positive = 0.003
    """Root mean square, eV/A^3; 0.003 is about 0.5 GPa."""


class GroupWeights(Section):
    """What the structures of a group count."""

    energy: Weight = 1.0
    """Weight of each energy; 0 leaves it out."""
    forces: Weight = 1.0
    """Weight of the forces of each structure."""
    stress: Weight = 0.0
    """Weight of the stress of each structure."""
    sigma: Tolerances | None = None
    """Tolerances of this group, instead of those of all data."""
    level: Annotated[int, Field(ge=0)] = 0
    """Rank in a hierarchical objective."""
    held_out: bool = False
    """The result is judged by it and the search never sees it."""


class Held(Section):
    """Structures that are kept from the search, chosen by chance."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Of every group."""
    seed: int = 0
    """Of the choice."""


class Data(Section):
    """Labelled structures: a data set, or files of structures as groups."""

    folder: Location | None = None
    """A data set, as `mlcore forcefield data import` makes it."""
    files: dict[str, Location] = Field(default_factory=dict)
    """Group -> file of structures with energies, forces, stresses."""
    groups: dict[str, GroupWeights] = Field(default_factory=dict)
    """Group -> what it counts; a group not named counts as said in `weights`."""
    weights: GroupWeights = GroupWeights()
    """Of groups not named under `groups`."""
    sigma: Tolerances = Tolerances()
    """Tolerances."""
    held_out: Held | None = None
    """Structures of every group by which the result is judged."""

    @model_validator(mode="after")
    def _some(self) -> Data:
        if self.folder is None and not self.files:
            raise ValueError("name a folder or files")
        return self

    def load(self) -> Dataset:
        """The structures.

        Raises:
            FileFormatError: a file is wrong.
            InvalidArgument: a group has a weight and is not there.
        """
        from mlcore.forcefield.structures import Dataset, read_group

        found = Dataset() if self.folder is None else Dataset.load(self.folder)
        for name, file in self.files.items():
            found = found.merge(Dataset({name: read_group(file)}))
        for name in self.groups:
            self.check_group(name, found.groups)
        _name_all(found)
        return found

    def check_group(self, name: str, known: Iterable[str]) -> None:
        """Refuse a group that is not there.

        Raises:
            InvalidArgument: naming it.
        """
        there = list(known)
        if name not in there:
            raise InvalidArgument(f"data.groups: no group {name!r}; there are {', '.join(there)}")

    def targets(self, data: Dataset) -> tuple[list[Target], list[Target]]:
        """Those of the search, and those held out.

        Raises:
            InvalidArgument: nothing has a label that counts.
        """
        return self.targets_of(*self._parts(data))

    def targets_of(self, train: Dataset, test: Dataset) -> tuple[list[Target], list[Target]]:
        """The same of structures of the search, and of those held out."""
        found = list(self._targets(train)), list(self._targets(test))
        if not found[0]:
            raise InvalidArgument(
                "data: no structure of the search has a label whose weight is positive"
            )
        return found

    def of_group(self, name: str) -> GroupWeights:
        return self.groups.get(name, self.weights)

    def _parts(self, data: Dataset) -> tuple[Dataset, Dataset]:
        from mlcore.forcefield.structures import Dataset

        whole = [g for g in data.groups if self.of_group(g).held_out]
        rest = [g for g in data.groups if g not in whole]
        test = data.only(*whole) if whole else Dataset()
        train = data.only(*rest) if rest else Dataset()
        if self.held_out is not None and len(train) > 1:
            train, more = train.split(self.held_out.fraction, seed=self.held_out.seed)
            test = test.merge(more)
        return train, test

    def _targets(self, data: Dataset) -> Iterator[Target]:
        from mlcore.forcefield.structures import labels
        from mlcore.forcefield.targets import Energies, Forces, Stress

        kinds: Mapping[str, Any] = {"energy": Energies, "forces": Forces, "stress": Stress}
        for group in data.groups:
            counts = self.of_group(group)
            sigma = counts.sigma or self.sigma
            for label, kind in kinds.items():
                weight = getattr(counts, label)
                known = [a for a in data[group] if label in labels(a).known()]
                if label == "stress":
                    known = [a for a in known if a.pbc.all()]
                if not weight or not known:
                    continue
                yield kind(
                    [with_species(a) for a in known],
                    [getattr(labels(a), label) for a in known],
                    sigma=getattr(sigma, label),
                    names=[f"{label} of {a.info['name']}" for a in known],
                    name=f"{label} of {group}",
                    group=group,
                    level=counts.level,
                    weight=weight,
                )


def _name_all(data: Dataset) -> None:
    """Give every structure a name: its own where it is its alone, else its group and number."""
    own = [str(atoms.info.get("name", "")) for atoms in data]
    numbered = [f"{name} {k}" for name in data.groups for k in range(len(data[name]))]
    times = Counter(own)
    for atoms, name, other in zip(data, own, numbered, strict=True):
        atoms.info["name"] = name if name and times[name] == 1 else other
