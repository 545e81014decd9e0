"""``mlcore forcefield active``: which structures to label next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlcore.cli.forcefield.say import AsJson, say

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.active import Label

__all__ = ["COMMANDS"]


def active(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Of a fit; its data are what is known.")
    ],
    pool: Annotated[
        Path, typer.Option("--pool", help="Data set or file of structures that may be labelled.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the rounds; CONFIG's name and -active.")
    ] = None,
    label: Annotated[
        Literal["pool", "vasp"],
        typer.Option("--label", help="pool: take the labels it has; vasp: that of the settings."),
    ] = "pool",
    vasp: Annotated[
        str | None, typer.Option("--vasp", help="Options of VASP as JSON; see codes.Vasp.")
    ] = None,
    pick: Annotated[
        Literal["committee", "dopt", "random"], typer.Option("--pick", help="How to choose.")
    ] = "committee",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Of labelling.")] = 4,
    per_round: Annotated[int, typer.Option("--per-round", min=1, help="Structures each.")] = 2,
    members: Annotated[int, typer.Option("--members", min=2, help="Of the committee.")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is random.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit, ask where the fit knows least, label that, fit again; resumed where it stopped."""
    from mlcore.cli.forcefield.data import _loaded
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.active import active_learning
    from mlcore.forcefield.config import load

    told = load(config)
    data = told.dataset()
    if data is None:
        raise InvalidArgument(f"{config}: has no data to begin with")
    made = told.model.build()
    folder = out or config.with_name(config.stem + "-active")
    offered = _loaded(pool).structures
    found = active_learning(
        made,
        told.parameters.build(made),
        folder,
        label=_known if label == "pool" else _by_vasp(vasp, data.species, folder),
        start=data.structures,
        pool=offered,
        pick=pick,
        rounds=rounds,
        per_round=per_round,
        members=members,
        seed=seed,
    )
    content = [
        {"round": r.number, "labelled": r.labelled, "train": r.train, "picked": r.picked,
         "grades": r.grades, "values": r.values} for r in found.rounds
    ]  # fmt: skip
    say({"folder": folder, "rounds": content}, found.table(), as_json)


def _known(atoms: Atoms) -> Atoms:
    """The labels a structure of the pool has already."""
    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.structures import labels

    if {"energy", "forces"} - set(labels(atoms).known()):
        name = atoms.get_chemical_formula()
        raise InvalidArgument(
            f"--pool: {name} has no energy and forces; --label vasp computes them"
        )
    return atoms


def _by_vasp(options: str | None, species: Sequence[str], folder: Path) -> Label:
    import dataclasses
    import json

    from mlcore.errors import InvalidArgument
    from mlcore.forcefield.active import code_label
    from mlcore.forcefield.codes import Vasp
    from mlcore.forcefield.settings import Settings

    try:
        told: Any = json.loads(options or "{}")
    except ValueError as error:
        raise InvalidArgument(f"--vasp: no JSON: {error}") from None
    machine = Settings.load()
    potcars = machine.vasp_potcars
    known: dict[str, Any] = {
        "command": machine.vasp_command,
        "potcars": potcars and {name: potcars / name / "POTCAR" for name in species},
        "templates": machine.templates,
        "timeout": machine.code_timeout,
    }
    fields = {field.name for field in dataclasses.fields(Vasp)}
    strange = sorted(set(told) - fields) if isinstance(told, dict) else ["what is no table"]
    if strange:
        raise InvalidArgument(f"--vasp: {strange[0]}: no such option; {', '.join(sorted(fields))}")
    given = {name: value for name, value in known.items() if value is not None} | told
    for name in ("command", "potcars"):
        if name not in given:
            raise InvalidArgument(f"--label vasp: the settings name no vasp_{name}")
    place = folder if machine.scratch is None else machine.scratch
    return code_label(Vasp(**given), place / "vasp")


COMMANDS = (active,)
