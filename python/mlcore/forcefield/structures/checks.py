"""Errors in training data: what strangers' files are wrong in, told before a fit believes it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mlcore.forcefield.structures.dataset import Dataset, species
from mlcore.forcefield.structures.labels import LABELS, Labels, full_stress, labels

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["FACTORS", "Finding", "Findings", "check"]

FloatArray = npt.NDArray[np.float64]
Severity = Literal["error", "warning", "note"]

FACTORS = {
    "hartree": 27.211386,
    "rydberg": 13.605693,
    "kcal/mol": 23.060548,
    "kJ/mol": 96.485332,
    "hartree/bohr": 51.422067,
    "rydberg/bohr": 25.711034,
    "kJ/mol/nm": 964.85332,
    "meV": 1000.0,
    "GPa": 160.21766,
    "kbar": 1602.1766,
    "bar": 1602176.6,
}
"""eV, eV/Angstrom or eV/Angstrom^3 in or over other units, by name."""

_ENERGY = ("hartree", "rydberg", "kcal/mol", "kJ/mol", "meV")
_FORCE = ("hartree/bohr", "rydberg/bohr", "kcal/mol", "kJ/mol", "kJ/mol/nm", "meV")
_STRESS = ("GPa", "kbar", "bar")
_CUTOFF = 6.0
_NEAREST = 24
_REACH = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        kind: nan, missing, duplicate, units, sign, short-distance, energy-outlier, net-force, cell.
        severity: "error" (wrong), "warning" (look at it), "note".
        structure: index in the data set; None for a whole group.
        group: name of the group.
        message: in words.
    """

    kind: str
    severity: Severity
    structure: int | None
    group: str
    message: str

    def __str__(self) -> str:
        place = (
            self.group if self.structure is None else f"{self.group}, structure {self.structure}"
        )
        return f"{self.severity}: {self.kind}: {place}: {self.message}"


class Findings:
    """What `check` found; empty where all is well.

    Attributes:
        found: errors first.
        shortest: (structures,) distance of the nearest two atoms, Angstrom; inf: none within 5.
    """

    def __init__(self, dataset: Dataset, found: list[Finding], shortest: FloatArray) -> None:
        order = {"error": 0, "warning": 1, "note": 2}
        self.dataset = dataset
        self.found = sorted(found, key=lambda f: order[f.severity])
        self.shortest = shortest

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def of(self, kind: str) -> list[Finding]:
        """Those of one kind."""
        return [f for f in self.found if f.kind == kind]

    @property
    def errors(self) -> list[Finding]:
        """Those that are certainly wrong."""
        return [f for f in self.found if f.severity == "error"]

    @cached_property
    def flagged(self) -> list[int]:
        """Structures with an error or warning, of their own or of their group."""
        whole = {f.group for f in self.found if f.structure is None and f.severity != "note"}
        own = {f.structure for f in self.found if f.severity != "note"}
        groups = self.dataset.group_of
        return [k for k in range(len(self.dataset)) if k in own or groups[k] in whole]

    def __str__(self) -> str:
        if not self.found:
            return f"{len(self.dataset)} structures: nothing found"
        counts = {s: sum(f.severity == s for f in self.found) for s in ("error", "warning", "note")}
        told = ", ".join(f"{n} {s}{'s' * (n > 1)}" for s, n in counts.items() if n)
        return "\n".join([f"{len(self.dataset)} structures: {told}", *map(str, self.found)])

    def json(self) -> str:
        """{"structures", "hash", "findings": [...]}."""
        found = {
            "structures": len(self.dataset),
            "hash": self.dataset.hash,
            "findings": [asdict(f) for f in self.found],
        }
        return json.dumps(found, indent=1)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Energies over volumes, forces, shortest distances; structures with findings are ringed.

        Args:
            path: .png, .svg or .pdf.
        """
        from mlcore.forcefield.structures.check_plot import draw

        draw(self, self.shortest, path)


def check(
    dataset: Dataset,
    *,
    tolerance: float = 0.01,
    outlier: float = 6.0,
    progress: Callable[[str], None] | None = None,
) -> Findings:
    """Looks for everything that is usually wrong.

    Args:
        dataset: what to look at.
        tolerance: distances that differ by less are the same, for duplicates, Angstrom.
        outlier: robust z of an energy per atom beyond which it is told.
        progress: called with the name of each check.

    Returns:
        what was found.
    """
    seen = _Seen(dataset)
    found: list[Finding] = []
    steps: dict[str, Callable[[], list[Finding]]] = {
        "numbers": lambda: _finite(seen) + _missing(seen) + _cells(seen),
        "distances": lambda: _short(seen),
        "energies": lambda: _energies(seen, outlier),
        "work": lambda: _work(seen),
        "forces": lambda: _magnitudes(seen) + _net(seen),
        "duplicates": lambda: _duplicates(seen, tolerance),
    }
    for name, step in steps.items():
        if progress is not None:
            progress(name)
        found += step()
    return Findings(dataset, found, seen.shortest)


class _Seen:
    """A data set, its labels and its shortest distances."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.structures = dataset.structures
        self.group = dataset.group_of
        self.labels = [labels(a) for a in self.structures]
        self.kinds = [species(a) for a in self.structures]
        self.sound = [_is_finite(a) for a in self.structures]
        self.shortest = np.full(len(self.structures), np.inf)
        self.slip: dict[str, float] = {}
        self.members: dict[str, list[int]] = {}
        for k, name in enumerate(self.group):
            self.members.setdefault(name, []).append(k)

    @cached_property
    def slopes(self) -> dict[str, dict[str, float]]:
        """Energy difference per work of forces and of stress, by group, where it can be told."""
        found: dict[str, dict[str, float]] = {}
        for name, members in self.members.items():
            rows = _pairs(self, members)
            told = {label: _slope(rows, k) for k, label in ((1, "forces"), (2, "stress"))}
            found[name] = {label: slope for label, slope in told.items() if slope is not None}
        return found

    def consistent(self, name: str) -> bool:
        """Whether energies of a group are proved by its forces or stresses."""
        slopes = self.slopes[name].values()
        return bool(slopes) and all(0.3 < slope < 3 for slope in slopes)

    def one(self, kind: str, severity: Severity, k: int, message: str) -> Finding:
        return Finding(kind, severity, k, self.group[k], message)


def _is_finite(atoms: Atoms) -> bool:
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(np.asarray(atoms.cell)).all())


# ------------------------------------------------------------------------------- one at a time
def _finite(seen: _Seen) -> list[Finding]:
    found = []
    for k, known in enumerate(seen.labels):
        if not seen.sound[k]:
            found.append(seen.one("nan", "error", k, "positions or cell are not finite"))
        for name in known.known():
            if not np.isfinite(getattr(known, name)).all():
                found.append(seen.one("nan", "error", k, f"{name}: not finite"))
    return found


def _missing(seen: _Seen) -> list[Finding]:
    found = []
    for k, known in enumerate(seen.labels):
        if not known.known():
            found.append(seen.one("missing", "warning", k, "no energy, forces or stress"))
    for name, members in seen.members.items():
        for label in LABELS:
            without = [k for k in members if getattr(seen.labels[k], label) is None]
            some = [k for k in without if seen.labels[k].known()]
            if some and len(without) < len(members):
                told = f"{label} known for {len(members) - len(without)} of {len(members)}"
                found.append(Finding("missing", "warning", None, name, told))
    return found


def _cells(seen: _Seen) -> list[Finding]:
    found = []
    for k, atoms in enumerate(seen.structures):
        stress = seen.labels[k].stress
        if stress is not None and not atoms.pbc.all():
            axes = "".join(x for x, p in zip("xyz", atoms.pbc, strict=True) if not p)
            message = f"a stress, but not periodic along {axes}"
            found.append(seen.one("cell", "warning", k, message))
    return found


def _short(seen: _Seen) -> list[Finding]:
    """Distances against the sum of covalent radii; of beads and X, against half an Angstrom."""
    from ase.data import covalent_radii

    from mlcore.neighbors import neighbor_list

    found = []
    for k, atoms in enumerate(seen.structures):
        if not seen.sound[k]:
            continue
        radii = np.where(atoms.numbers > 0, covalent_radii[atoms.numbers], 0.35)
        i, j, d = neighbor_list("ijd", atoms, _REACH, half=True)
        if not len(d):
            continue
        seen.shortest[k] = d.min()
        ratio = d / (radii[i] + radii[j])
        worst = int(np.argmin(ratio))
        if ratio[worst] < 0.7:
            pair = f"{seen.kinds[k][i[worst]]}{i[worst]}-{seen.kinds[k][j[worst]]}{j[worst]}"
            message = f"{pair} are {d[worst]:.3f} Angstrom apart"
            severity: Severity = "error" if ratio[worst] < 0.5 else "warning"
            found.append(seen.one("short-distance", severity, k, message))
    return found


def _net(seen: _Seen) -> list[Finding]:
    found = []
    for k, known in enumerate(seen.labels):
        if known.forces is None or len(known.forces) < 2 or not np.isfinite(known.forces).all():
            continue
        net = float(np.linalg.norm(known.forces.mean(axis=0)))
        rms = float(np.sqrt((known.forces**2).sum(axis=1).mean()))
        if net > max(0.005, 0.02 * rms):
            message = f"forces sum to {net:.3g} eV/Angstrom per atom, they are {rms:.3g}"
            found.append(seen.one("net-force", "warning", k, message))
    return found


# ------------------------------------------------------------------------------- energies
def _energies(seen: _Seen, outlier: float) -> list[Finding]:
    """Energies against a robust baseline: one number per species."""
    ks = [k for k, known in enumerate(seen.labels) if _usable(known.energy) and seen.sound[k]]
    if len(ks) < 4:
        return []
    energy = np.array([seen.labels[k].energy for k in ks])
    good = np.array([seen.consistent(seen.group[k]) for k in ks])
    base = _baseline([seen.kinds[k] for k in ks], energy, good)
    sizes = np.array([len(seen.kinds[k]) for k in ks])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _slips(seen, ks, energy / base)
    slipped = {f.structure for f in found} | {k for f in found for k in _whole(seen, f)}
    rest = dict(zip(ks, ((energy - base) / sizes).tolist(), strict=True))
    for members in _populations(seen, [k for k in ks if k not in slipped]):
        z = _robust_z(np.array([rest[k] for k in members]))
        for k, score in zip(members, z, strict=True):
            if abs(score) > outlier:
                message = f"energy {rest[k]:+.4f} eV/atom off the composition's, z {score:+.1f}"
                found.append(seen.one("energy-outlier", "warning", k, message))
    return found


def _whole(seen: _Seen, finding: Finding) -> list[int]:
    return seen.members[finding.group] if finding.structure is None else []


def _populations(seen: _Seen, ks: list[int]) -> list[list[int]]:
    """Groups, and all structures of small groups together."""
    known = set(ks)
    groups = [[k for k in members if k in known] for members in seen.members.values()]
    small = [k for group in groups if len(group) < 5 for k in group]
    return [group for group in groups if len(group) >= 5] + [small]


def _usable(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _baseline(
    kinds: list[list[str]], energy: FloatArray, good: npt.NDArray[np.bool_]
) -> FloatArray:
    """Least absolute deviations of energies per atom, by reweighted least squares.

    Energies that are proved to be in eV decide alone, where they know every species.
    """
    names = sorted({s for kind in kinds for s in kind})
    counts = np.array([[kind.count(s) for s in names] for kind in kinds], dtype=float)
    sizes = counts.sum(axis=1)
    share, y = counts / sizes[:, None], energy / sizes
    use = good if (counts[good] > 0).any(axis=0).all() else np.ones(len(y), dtype=bool)
    start = np.median(y[use])
    rest = y - start
    for _ in range(100):
        weight = use / np.maximum(np.abs(rest), 1e-6 * max(1.0, abs(start)))
        root = np.sqrt(weight)
        mu = np.linalg.lstsq(share * root[:, None], (y - start) * root, rcond=None)[0]
        rest = y - start - share @ mu
    return np.asarray((y - rest) * sizes)


def _robust_z(values: FloatArray) -> FloatArray:
    if len(values) < 5:
        return np.zeros(len(values))
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.asarray((values - middle) / max(float(spread), 1e-3))


def _unit(ratio: float, names: tuple[str, ...], slack: float) -> str:
    """The units that make this ratio, either way, within a factor `slack`; nearest first."""
    if not 0 < ratio < np.inf:
        return ""
    off = {n: abs(abs(np.log(ratio)) - np.log(FACTORS[n])) for n in names}
    return " or ".join(n for n in sorted(names, key=off.__getitem__) if off[n] < np.log(slack))


def _slips(seen: _Seen, ks: list[int], ratios: FloatArray) -> list[Finding]:
    """Groups, and single structures, whose energies are what others' are in another unit."""
    found = []
    of = dict(zip(ks, ratios.tolist(), strict=True))
    for name, members in seen.members.items():
        held = [of[k] for k in members if k in of]
        if len(held) > 1 and 0 < max(held) < 1.5 * min(held):
            ratio = float(np.median(held))
            unit = _unit(ratio, _ENERGY, 1.6)
            if unit:
                seen.slip[name] = ratio
                message = f"energies per atom are {ratio:.4g} times the others': {unit}?"
                found.append(Finding("units", "error", None, name, message))
                continue
        for k in members:
            unit = _unit(of.get(k, 0.0), _ENERGY, 1.15)
            if unit:
                message = f"energy per atom is {of[k]:.4g} times the others': {unit}?"
                found.append(seen.one("units", "warning", k, message))
    return found


# ------------------------------------------------------------------------------- work and energy
def _work(seen: _Seen) -> list[Finding]:
    """Energy differences of near structures against the work of their forces and stresses."""
    found = []
    for name, slopes in seen.slopes.items():
        for label, slope in slopes.items():
            if slope < 0:
                message = f"energies rise where {label} say they fall (slope {slope:.2f})"
                found.append(Finding("sign", "error", None, name, f"{label}: {message}"))
            # energies that are known to be in another unit are told already
            ratio = abs(slope) / seen.slip.get(name, 1.0)
            units = _FORCE if label == "forces" else _STRESS
            unit = _unit(ratio, units, 1.5) if ratio < 0.2 or ratio > 5 else ""
            if unit:
                off = "large" if ratio < 1 else "small"
                times = max(ratio, 1 / ratio)
                message = f"{label}: too {off} by about {times:.3g} for the energies: {unit}?"
                found.append(Finding("units", "error", None, name, message))
    return found


def _pairs(seen: _Seen, members: list[int]) -> FloatArray:
    """(p, 3): energy difference, work of the forces, work of the stress, eV, of pairs of structures.

    Trapezoidal rule; pairs of the same atoms whose scaled positions are near.
    """
    rows: list[tuple[float, float, float]] = []
    usable = [k for k in members if _usable(seen.labels[k].energy) and seen.sound[k]]
    for at, a in enumerate(usable):
        for b in usable[at + 1 : at + 4]:
            row = _pair(seen.structures[a], seen.structures[b], seen.labels[a], seen.labels[b])
            if row is not None:
                rows.append(row)
    return np.array(rows).reshape(-1, 3)


def _pair(a: Atoms, b: Atoms, la: Labels, lb: Labels) -> tuple[float, float, float] | None:
    if len(a) != len(b) or (a.numbers != b.numbers).any() or (a.pbc != b.pbc).any():
        return None
    ca, cb = np.asarray(a.cell), np.asarray(b.cell)
    assert la.energy is not None and lb.energy is not None
    if a.pbc.all() and abs(np.linalg.det(ca)) > 0 and abs(np.linalg.det(cb)) > 0:
        return _periodic_pair(a, b, la, lb, ca, cb)
    if not np.array_equal(ca, cb) or la.forces is None or lb.forces is None or a.pbc.any():
        return None
    step = b.positions - a.positions
    if np.abs(step).max() > 0.6:
        return None
    return lb.energy - la.energy, -float(np.sum((la.forces + lb.forces) / 2 * step)), 0.0


def _periodic_pair(
    a: Atoms, b: Atoms, la: Labels, lb: Labels, ca: FloatArray, cb: FloatArray
) -> tuple[float, float, float] | None:
    scaled = np.linalg.solve(cb.T, b.positions.T).T - np.linalg.solve(ca.T, a.positions.T).T
    step = (scaled - np.round(scaled)) @ ((ca + cb) / 2)
    gradient = np.linalg.solve(ca, cb)
    strain = (gradient + gradient.T) / 2 - np.eye(3)
    if np.abs(step).max() > 0.6 or np.abs(strain).max() > 0.08:
        return None
    moved, strained = np.abs(step).max() > 1e-9, np.abs(strain).max() > 1e-9
    forces = la.forces is not None and lb.forces is not None
    stress = la.stress is not None and lb.stress is not None
    if (moved and not forces) or (strained and not stress):
        return None
    work = pull = 0.0
    if moved and la.forces is not None and lb.forces is not None:
        work = -float(np.sum((la.forces + lb.forces) / 2 * step))
    if strained and la.stress is not None and lb.stress is not None:
        held_a = abs(np.linalg.det(ca)) * full_stress(la.stress)
        held_b = abs(np.linalg.det(cb)) * full_stress(lb.stress)
        pull = float(np.sum((held_a + held_b) / 2 * strain))
    assert la.energy is not None and lb.energy is not None
    return lb.energy - la.energy, work, pull


def _slope(rows: FloatArray, column: int) -> float | None:
    """Energy difference per work where one of the two works does it all and they agree in shape."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    other = rows[:, 3 - column]
    rows = rows[(np.abs(rows[:, column]) > 1e-6) & (np.abs(other) <= 1e-12)]
    if len(rows) < 3:
        return None
    energy, work = rows[:, 0], rows[:, column]
    both = float(energy @ work)
    if abs(both) < 0.9 * float(np.linalg.norm(energy) * np.linalg.norm(work)):
        return None
    return both / float(work @ work)


def _magnitudes(seen: _Seen) -> list[Finding]:
    """Forces of a group far larger or smaller than all others', by a factor between units."""
    size = {}
    for name, members in seen.members.items():
        norms = [seen.labels[k].forces for k in members]
        values = [float(np.sqrt(np.mean(f**2))) for f in norms if f is not None and f.size]
        values = [v for v in values if np.isfinite(v) and v > 1e-4]
        if values:
            size[name] = float(np.median(values))
    found = []
    for name, value in size.items():
        others = [v for other, v in size.items() if other != name]
        if len(others) < 2:
            continue
        ratio = value / float(np.median(others))
        unit = _unit(ratio, _FORCE, 1.5) if ratio > 15 or ratio < 1 / 200 else ""
        if unit:
            message = f"forces are {ratio:.3g} times those of the other groups: {unit}?"
            found.append(Finding("units", "warning", None, name, message))
    return found


# ------------------------------------------------------------------------------- duplicates
def _duplicates(seen: _Seen, tolerance: float) -> list[Finding]:
    found = []
    first: dict[str, int] = {}
    different: list[int] = []
    for k, atoms in enumerate(seen.structures):
        if not seen.sound[k]:
            continue
        same = first.setdefault(_digest(atoms, seen.kinds[k]), k)
        if same == k:
            different.append(k)
        else:
            found.append(_duplicate(seen, same, k, "the same as"))
    for a, b in _alike(seen, different, tolerance):
        found.append(_duplicate(seen, a, b, "the same, moved, turned or repeated, as"))
    return found


def _digest(atoms: Atoms, kinds: list[str]) -> str:
    parts = [atoms.positions, np.asarray(atoms.cell), atoms.pbc]
    text = b"".join(np.ascontiguousarray(p).tobytes() for p in parts) + " ".join(kinds).encode()
    return hashlib.sha256(text).hexdigest()


def _duplicate(seen: _Seen, a: int, b: int, how: str) -> Finding:
    place = f"structure {a} ({seen.group[a]})"
    ea, eb = seen.labels[a].energy, seen.labels[b].energy
    if ea is not None and eb is not None:
        off = eb / len(seen.kinds[b]) - ea / len(seen.kinds[a])
        if abs(off) > 0.002:
            message = f"{how} {place}, but the energy is {off:+.4f} eV/atom off"
            return seen.one("duplicate", "error", b, message)
    return seen.one("duplicate", "warning", b, f"{how} {place}")


def _alike(seen: _Seen, ks: list[int], tolerance: float) -> list[tuple[int, int]]:
    """Pairs whose atoms all have the same surroundings, compared by sorted distances."""
    from scipy.spatial import cKDTree

    classes: dict[tuple[object, ...], list[int]] = {}
    for k in ks:
        classes.setdefault(_formula(seen.kinds[k]) + tuple(seen.structures[k].pbc), []).append(k)
    pairs = []
    for members in classes.values():
        if len(members) < 2:
            continue
        names = sorted(set(seen.kinds[members[0]]))
        around = {k: _surroundings(seen.structures[k], seen.kinds[k], names) for k in members}
        ranges = np.array([_range(around[k], seen.kinds[k], names) for k in members])
        near = cKDTree(ranges).query_pairs(tolerance, p=np.inf)
        taken: set[int] = set()
        for i, j in sorted(near):
            a, b = members[i], members[j]
            if b not in taken and _match(seen, around, a, b, tolerance):
                taken.add(b)
                pairs.append((a, b))
    return pairs


def _formula(kinds: list[str]) -> tuple[object, ...]:
    names = sorted(set(kinds))
    counts = [kinds.count(n) for n in names]
    divisor = int(np.gcd.reduce(counts))
    return tuple((n, c // divisor) for n, c in zip(names, counts, strict=True))


def _surroundings(atoms: Atoms, kinds: list[str], names: list[str]) -> FloatArray:
    """(n, species * 24): sorted distances to the nearest atoms of each species, up to 6 Angstrom."""
    from mlcore.neighbors import neighbor_list

    code = np.array([names.index(s) for s in kinds])
    i, j, d = neighbor_list("ijd", atoms, _CUTOFF)
    out = np.full((len(atoms), len(names), _NEAREST), _CUTOFF)
    order = np.lexsort((d, code[j], i))
    i, kind, d = i[order], code[j][order], d[order]
    key = i.astype(np.int64) * len(names) + kind
    starts = np.r_[0, np.flatnonzero(np.diff(key)) + 1] if len(key) else np.zeros(0, int)
    rank = np.arange(len(key)) - np.repeat(starts, np.diff(np.r_[starts, len(key)]))
    keep = rank < _NEAREST
    out[i[keep], kind[keep], rank[keep]] = d[keep]
    return out.reshape(len(atoms), -1)


def _range(around: FloatArray, kinds: list[str], names: list[str]) -> FloatArray:
    """Least and largest of each distance over the atoms of each species: near where `_match` holds."""
    mask = np.array(kinds)
    parts = [around[mask == n] for n in names]
    return np.concatenate([part for x in parts for part in (x.min(axis=0), x.max(axis=0))])


def _match(seen: _Seen, around: dict[int, FloatArray], a: int, b: int, tolerance: float) -> bool:
    from scipy.spatial import cKDTree

    kinds_a, kinds_b = np.array(seen.kinds[a]), np.array(seen.kinds[b])
    for name in set(seen.kinds[a]):
        x, y = around[a][kinds_a == name], around[b][kinds_b == name]
        for one, other in ((x, y), (y, x)):
            distance, _ = cKDTree(other).query(one, p=np.inf, distance_upper_bound=tolerance)
            if not np.isfinite(distance).all():
                return False
    return True
