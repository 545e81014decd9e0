"""What is known of a structure: energy, forces and stress, and where files keep them.

In memory a labelled structure is `ase.Atoms` with a `SinglePointCalculator`: energy in eV, forces in
eV/Angstrom, stress in eV/Angstrom^3 with the sign of ASE (d energy / d strain / volume, positive under
tension) in the order xx yy zz yz xz xy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["KEYS", "LABELS", "Labels", "full_stress", "labelled", "labels", "take_labels"]

FloatArray = npt.NDArray[np.float64]

LABELS = ("energy", "forces", "stress")
KEYS: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "REF_energy", "dft_energy", "DFT_energy"),
    "forces": ("forces", "REF_forces", "dft_forces", "DFT_forces", "force"),
    "stress": ("stress", "REF_stress", "dft_stress", "DFT_stress"),
    "virial": ("virial", "REF_virial", "dft_virial", "DFT_virial", "virials"),
}
"""Names looked for in a structure's info and arrays where no key map tells them."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class Labels:
    """Energy (eV), forces (n, 3) (eV/Angstrom), stress (6,) Voigt (eV/Angstrom^3); None: not known."""

    energy: float | None = None
    forces: FloatArray | None = None
    stress: FloatArray | None = None

    def known(self) -> tuple[str, ...]:
        """Names of those that are there."""
        return tuple(name for name in LABELS if getattr(self, name) is not None)


def labels(atoms: Atoms) -> Labels:
    """The labels of a structure.

    Raises:
        InvalidArgument: the structure was changed after it was labelled.
    """
    calc: Any = atoms.calc
    results = getattr(calc, "results", None)
    if not results:
        return Labels()
    check = getattr(calc, "check_state", None)
    changed = check(atoms) if check is not None else []
    moved = [c for c in changed if c in ("positions", "numbers", "cell", "pbc")]
    if moved:
        raise InvalidArgument(f"atoms: {', '.join(moved)} changed since they were labelled")
    return Labels(
        _number(results.get("energy")), _array(results.get("forces")), _array(results.get("stress"))
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _array(value: Any) -> FloatArray | None:
    return None if value is None else np.array(value, dtype=np.float64)


def labelled(
    atoms: Atoms,
    energy: float | None = None,
    forces: npt.ArrayLike | None = None,
    stress: npt.ArrayLike | None = None,
) -> Atoms:
    """A copy of `atoms` with these labels and no others.

    Args:
        atoms: the structure; its own calculator is left behind.
        energy: eV.
        forces: (n, 3) eV/Angstrom.
        stress: (6,) Voigt or (3, 3), eV/Angstrom^3.

    Raises:
        InvalidArgument: a label has another shape, or the stress is not symmetric.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    copy: Atoms = atoms.copy()
    results: dict[str, Any] = {}
    if energy is not None:
        results["energy"] = _energy(energy)
    if forces is not None:
        results["forces"] = _forces(forces, len(atoms))
    if stress is not None:
        results["stress"] = _stress(stress)
    if results:
        copy.calc = SinglePointCalculator(copy, **results)
    return copy


def _energy(value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise InvalidArgument(f"energy must be one number, not {value!r:.60}")
    return float(array.reshape(()))


def _forces(value: npt.ArrayLike, n: int) -> FloatArray:
    array = np.asarray(value)
    if array.shape != (n, 3) or array.dtype.kind not in "iuf":
        raise InvalidArgument(
            f"forces must be ({n}, 3) numbers, not {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.float64)


def _stress(value: npt.ArrayLike) -> FloatArray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.shape not in ((6,), (9,), (3, 3)):
        raise InvalidArgument(
            f"stress must be 6 or 9 numbers, not {array.dtype} of shape {array.shape}"
        )
    array = array.astype(np.float64)
    if array.shape == (6,):
        return array
    full = array.reshape(3, 3)
    scale = np.abs(full).max()
    if scale > 0 and np.abs(full - full.T).max() > 1e-4 * scale:
        raise InvalidArgument(f"stress must be symmetric, got {full.tolist()}")
    return np.array([(full[a, b] + full[b, a]) / 2 if a != b else full[a, a] for a, b in _VOIGT])


def full_stress(stress: npt.ArrayLike) -> FloatArray:
    """(3, 3) of (6,) Voigt."""
    xx, yy, zz, yz, xz, xy = np.asarray(stress, dtype=np.float64)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def take_labels(atoms: Atoms, key_map: Mapping[str, str] | None = None) -> tuple[Atoms, list[str]]:
    """Labels out of a structure's calculator, info and arrays, in the units they are in.

    Args:
        atoms: with a calculator that holds results, or with values under the names of `KEYS`.
        key_map: where energy, forces, stress or virial are, by name; only these are then looked
            at. A virial (eV, -volume times stress) becomes a stress.

    Returns:
        the labelled copy, without the values taken, and what was done, in words.

    Raises:
        InvalidArgument: two names hold different values, a named one is not there, or a value has
            the wrong shape.
    """
    found = dict(labels(atoms).__dict__) if key_map is None else {}
    found = {name: value for name, value in found.items() if value is not None}
    copy: Atoms = atoms.copy()
    notes: list[str] = []
    names = KEYS if key_map is None else {k: (v,) for k, v in _checked(key_map).items()}
    for label, candidates in names.items():
        for key in candidates:
            place = _place(copy, label, key)
            if place is None:
                if key_map is not None:
                    raise InvalidArgument(f"key_map: no {key!r} in the structure, for {label}")
                continue
            value = _shaped(label, place[key], len(copy))
            if label in found and not _same(found[label], value):
                raise InvalidArgument(
                    f"{label}: {key!r} holds other values than {_first(notes, label)}; "
                    "tell which is meant by key_map"
                )
            if label not in found:
                notes.append(f"{label} from {key}")
            found[label] = value
            del place[key]
    if "virial" in found:
        _take_virial(copy, found, notes)
    return labelled(copy, **found), notes


def _checked(key_map: Mapping[str, str]) -> Mapping[str, str]:
    strange = sorted(set(key_map) - set(KEYS))
    if strange:
        raise InvalidArgument(f"key_map: {', '.join(strange)} is none of {', '.join(KEYS)}")
    if {"stress", "virial"} <= set(key_map):
        raise InvalidArgument("key_map: give stress or virial, not both")
    return key_map


def _place(atoms: Any, label: str, key: str) -> Any:
    home = atoms.arrays if label == "forces" else atoms.info
    return home if key in home else None


def _shaped(label: str, value: Any, n: int) -> Any:
    if label == "energy":
        return _energy(value)
    return _forces(value, n) if label == "forces" else _stress(value)


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))


def _first(notes: list[str], label: str) -> str:
    return next((n.rpartition(" ")[2] for n in notes if n.startswith(label)), "the calculator")


def _take_virial(atoms: Atoms, found: dict[str, Any], notes: list[str]) -> None:
    virial = found.pop("virial")
    volume = abs(float(np.linalg.det(np.asarray(atoms.cell))))
    if volume == 0:
        raise InvalidArgument("virial: a stress needs a cell with a volume")
    stress = -virial / volume
    notes.append("stress = -virial / volume")
    if "stress" not in found:
        found["stress"] = stress
    elif not np.allclose(found["stress"], stress, rtol=1e-3, atol=1e-6):
        raise InvalidArgument("stress: it is not -virial/volume; tell which is meant by key_map")
