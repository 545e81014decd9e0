"""``mlcore sagesnet``: nets of cells taught, run and looked at; sheets of carbon pulled to learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlcore.cli.forcefield.say import AsJson, numbers, say
from mlcore.cli.remote import remotely
from mlcore.threads import share_cores

if TYPE_CHECKING:
    from mlcore.sagesnet import SagesNet
    from mlcore.sagesnet.config import Config, Data
    from mlcore.sagesnet.files import Moments, Reading

__all__ = ["app"]

app = typer.Typer(
    help="Simulate matter on cells, over many scales.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="That `fit` wrote, or of a net.")]
Axis = Annotated[int, typer.Option("--axis", min=0, max=2, help="Along which pictures look.")]
Layer = Annotated[
    int | None, typer.Option("--layer", help="Of cells in pictures; the middle one by default.")
]
Colour = Annotated[
    str | None, typer.Option("--colour", help="Column by which pictures are coloured.")
]
Seconds = Annotated[float, typer.Option("--seconds", help="Each frame of a GIF is shown.")]
Units = Annotated[
    Literal["metal", "real"] | None, typer.Option("--units", help="Of LAMMPS' files without.")
]
Element = Annotated[
    list[str] | None, typer.Option("--element", help="Of LAMMPS' types, in order; repeat it.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No bar.")]


@app.command()
@remotely("sagesnet")
def fit(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file, see mlcore.sagesnet.config.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")] = Path(
        "out/sagesnet"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Start over, or go on from what is finished.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Teach the net of CONFIG level by level, and keep it in OUT/net.

    What was stopped goes on when the same line is given again. OUT/training/level_K/learning_curve.png
    shows each level's training, OUT/summary.json tells all of them.
    """
    share_cores()
    import json
    import shutil

    from mlcore.io import write_text
    from mlcore.sagesnet.config import load_config

    told = load_config(config)
    data = told.data()
    net = told.net(data)
    if fresh:
        shutil.rmtree(out / "training", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    levels = _taught(net, told, data, out / "training", not quiet)
    heads = _doubting(net, told, data, out / "training", not quiet)
    summary = {
        "runs": len(data.train),
        "held_out": len(data.held_out),
        "states": sum(len(run.states) for run in data.train),
        "levels": levels,
        "confidence": heads,
        "reading": _plain_reading(told.reading()),
    }
    net.save(out / "net", training=summary)
    write_text(out / "summary.json", json.dumps(summary, indent=1) + "\n")
    lines = [
        f"level {one['level']}: loss {one['best']:.3g} in epoch {one['best_epoch']} of "
        f"{one['epochs']}, {one['reason']}, {one['seconds']:.0f} s{_rank(one)}"
        for one in levels
    ]
    say(summary | {"net": out / "net"}, "\n".join([*lines, f"in {out / 'net'}"]), as_json)


@app.command()
def run(
    folder: Folder,
    start: Annotated[
        Path,
        typer.Argument(
            metavar="START",
            help=".npy of an automaton; extxyz, LAMMPS dump or data; DATASET/RUN.h5 of `pull`.",
        ),
    ],
    steps: Annotated[int, typer.Option("--steps", min=0, help="Of level 0.")],
    out: Annotated[
        list[Path],
        typer.Option(
            "--out",
            help="Atoms .extxyz .lammpstrj .vtp, automata .vti, both .npy .pvd .png .gif; "
            ".vti .vtp .png: the last moment alone; repeat it.",
        ),
    ],
    level: Annotated[int, typer.Option("--level", min=0, help="That does the steps.")] = 0,
    record: Annotated[
        int, typer.Option("--record", min=1, help="Keep each so many-th step of the level.")
    ] = 1,
    frame: Annotated[int, typer.Option("--frame", min=0, help="Of START to begin at.")] = 0,
    tiles: Annotated[
        int | None, typer.Option("--tiles", min=1, help="Cut the grid into so many.")
    ] = None,
    engine: Annotated[
        Literal["threads", "processes"], typer.Option("--engine", help="That runs the tiles.")
    ] = "threads",
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", help="NAME=NUMBER that acts from outside; repeat it."),
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Tell how wrong each cell is expected to be.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="K, that atoms are held at by chance.")
    ] = None,
    damping: Annotated[
        float, typer.Option("--damping", help="fs, within which they forget their velocities.")
    ] = 1000.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of that chance.")] = 0,
    axis: Axis = 2,
    layer: Layer = None,
    colour: Colour = None,
    seconds: Seconds = 0.1,
    units: Units = None,
    element: Element = None,
    quiet: Quiet = False,
    told: Annotated[
        Path | None,
        typer.Option("--progress", metavar="FILE", help="Told where it stands while it runs."),
    ] = None,
) -> None:
    """Run a net from START and write what it makes of it to OUT."""
    share_cores()
    from mlcore.errors import InvalidArgument
    from mlcore.io.standing import Standing
    from mlcore.sagesnet.films import AtomFilm, CellFilm, Look, film_of

    tell = Standing(told)
    net, training = _known(folder)
    if temperature is not None:
        _hold(net, temperature, damping, seed, level, tiles)
    for path in out:
        (AtomFilm if net.cells.kind == "atoms" else CellFilm).checked(path)
    look = Look(axis, layer, seconds, colour)
    moments = _start(start, net, training, frame, level, units, element)
    around = _around(net, environment)
    frames = moments.states[frame : frame + net.span(level)] if level else moments.states[frame]

    def watch(step: int, state: object) -> None:
        tell(f"step {step} of {steps}", step / max(steps, 1))

    asked = {"level": level, "record": record, "environment": around, "progress": not quiet}
    asked["watch"] = watch
    if tiles is None:
        made = net.rollout(frames, steps, confidence="predictor" if confidence else None, **asked)
    elif confidence:
        raise InvalidArgument("--confidence is told of a whole grid, not of --tiles")
    else:
        made = net.tile(tiles, engine=engine).rollout(frames, steps, **asked)
    film = film_of(
        made.states, made.steps, moments, dt=getattr(net.cells, "dt", 1.0), told=made.told
    )
    for path in out:
        film.write(path, look)
        typer.echo(f"{path}: {len(made.steps)} moments to step {made.steps[-1]} of level 0")


@app.command()
def info(folder: Folder, as_json: AsJson = False) -> None:
    """Tell of a net: its levels, how far they reach, what they weigh, how they were taught."""
    net, training = _known(folder)
    known = {
        one["level"]: one for one in training.get("levels", []) if isinstance(one.get("level"), int)
    }
    rows = [_level(net, k) | {"training": known.get(k, {})} for k in range(len(net.levels))]
    content = {
        "cells": {"kind": net.cells.kind} | net.cells.arguments,
        "environment": list(net.environment),
        "parameters": _weights(net),
        "levels": rows,
        "confidence": sorted(net.confidence),
        "feedback": sorted(net.feedback),
    }
    say(content, _table(content), as_json)


@app.command()
def pull(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATTERN...]", help="Of cuts: 1 left, 0 cut, row after row."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the set; added to if it is there.")
    ] = Path("out/carbon"),
    random: Annotated[int, typer.Option("--random", min=0, help="So many patterns by chance.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of those.")] = 0,
    velocities: Annotated[
        int, typer.Option("--velocities", min=1, help="Runs of a pattern, each with other ones.")
    ] = 1,
    design: Annotated[
        Literal["tiny", "reduced", "paper"],
        typer.Option("--design", help="Grid of cuts 1 x 3, 3 x 5 or that of the paper, 3 x 5."),
    ] = "reduced",
    rate: Annotated[float, typer.Option("--rate", help="Of strain, per ps.")] = 0.02,
    until: Annotated[float, typer.Option("--until", help="Strain at the latest.")] = 0.9,
    temperature: Annotated[float, typer.Option("--temperature", help="K.")] = 4.2,
    lj: Annotated[bool, typer.Option("--lj", help="Forces without bonds too, slower.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pull cut sheets of graphene apart by LAMMPS and AIREBO: frames and labels to learn from.

    What is finished is not run again.
    """
    from mlcore.errors import Error, InvalidArgument
    from mlcore.sagesnet.carbon import PAPER, REDUCED, TINY, Dataset, Pull, random_patterns

    made = {"tiny": TINY, "reduced": REDUCED, "paper": PAPER}[design]
    wanted = list(dict.fromkeys([*(patterns or []), *random_patterns(random, seed, made)]))
    if not wanted:
        raise InvalidArgument("PATTERN or --random must be given")
    data = Dataset(out, Pull(rate=rate, until=until, temperature=temperature, lj=lj), made)
    report = data.generate(wanted, range(1, velocities + 1))
    rows = [
        {"run": name, "atoms": len(data[name].start), "frames": len(data[name])}
        | {"strain": data[name].label.strain, "stress": data[name].label.stress}
        for name in (*report.found, *report.made)
    ]
    lines = [
        f"{one['run']}: {one['atoms']} atoms, {one['frames']} frames, "
        f"yields at strain {one['strain']:.3f}, {one['stress']:.1f} GPa"
        for one in rows
    ]
    if rows:
        say({"folder": out, "runs": rows, "failed": report.failed}, "\n".join(lines), as_json)
    if report.failed:
        name, reason = next(iter(report.failed.items()))
        raise Error(f"{len(report.failed)} of {len(wanted) * velocities} failed: {name}: {reason}")


@app.command()
def view(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="File or run as START of `run`; folder of `pull` or `fit`: curves, as PNG.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="As that of `run`.")],
    axis: Axis = 2,
    layer: Layer = None,
    colour: Colour = None,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Each n-th frame.")] = 1,
    seconds: Seconds = 0.1,
    units: Units = None,
    element: Element = None,
) -> None:
    """Draw frames, or write them to another kind of file; draw the curves of a folder."""
    from mlcore.sagesnet.files import Reading
    from mlcore.sagesnet.films import Look, film_from

    if source.is_dir():
        _draw_curves(source, out)
    else:
        reading = Reading(stride, units=units, elements=_types(element))
        film_from(source, reading, colour).write(out, Look(axis, layer, seconds, colour))
    typer.echo(f"in {out}")


# -- what is done for them -------------------------------------------------------------------------


def _taught(
    net: SagesNet[Any], told: Config, data: Data, folder: Path, progress: bool
) -> list[dict[str, Any]]:
    """Train all levels, and tell of each."""
    rows = []
    for k in range(len(net.levels)):
        (result,) = net.fit(
            data.train,
            levels=[k],
            validation=data.held_out,
            options=told.options(folder, progress),
            schedule=told.schedule(told.steps(data.train, k)),
        )
        last = result.history[-1]
        kept = {n: last[n] for n in ("loss", "validation", "effective_rank") if n in last}
        named = ("best", "best_epoch", "epochs", "reason", "seconds")
        rows.append({"level": k} | {name: getattr(result, name) for name in named} | kept)
    return rows


def _doubting(
    net: SagesNet[Any], told: Config, data: Data, folder: Path, progress: bool
) -> list[dict[str, Any]]:
    """Fit heads of confidence, where they are asked for."""
    if told.confidence is None:
        return []
    import torch

    from mlcore.errors import InvalidArgument
    from mlcore.sagesnet.confidence import Of, fit_confidence
    from mlcore.training.options import TrainingOptions

    if len(data.held_out) < 2:
        raise InvalidArgument("confidence needs two runs or more that are held out")
    learned, calibration = data.held_out[::2], data.held_out[1::2]
    of_level: list[tuple[int, Of]] = [(k, "predictor") for k in range(len(net.levels))]
    of_level += [(k, "lift") for k in range(1, len(net.levels))]
    rows = []
    for level, of in of_level:
        torch.manual_seed(told.seed)
        options = TrainingOptions(
            epochs=told.confidence.epochs,
            learning_rate=told.confidence.learning_rate,
            batch_size=2048,
            patience=None,
            seed=told.seed,
            directory=folder / f"confidence_{of}_{level}",
            resume=True,
            progress=progress,
        )
        result = fit_confidence(
            net,
            learned,
            calibration,
            level=level,
            of=of,
            horizon=told.confidence.horizon,
            part=told.confidence.part,
            options=options,
        )
        rows.append({"level": level, "of": of, "epochs": result.epochs, "best": result.best})
    return rows


def _known(folder: Path) -> tuple[SagesNet[Any], Mapping[str, Any]]:
    """A net, and what its file tells of its training."""
    from mlcore.export.manifest import ManifestReader
    from mlcore.sagesnet import SagesNet

    place = folder / "net" if (folder / "net").is_dir() else folder
    net = SagesNet.load(place)
    training = ManifestReader(place).manifest.get("training")
    return net, training if isinstance(training, dict) else {}


def _start(
    path: Path,
    net: SagesNet[Any],
    training: Mapping[str, Any],
    frame: int,
    level: int,
    units: str | None,
    element: list[str] | None,
) -> Moments:
    """The run of a file that has the frames a rollout begins with."""
    from dataclasses import replace

    from mlcore.errors import InvalidArgument
    from mlcore.sagesnet.files import read_moments

    reading = replace(_reading(training), units=units, elements=_types(element))
    runs = read_moments(path, net.cells.kind, reading)
    if len(runs) != 1:
        raise InvalidArgument(
            f"START: {path} holds {len(runs)} runs, name one of them, {path}/NAME.h5"
        )
    if not 0 <= level < len(net.levels):
        raise InvalidArgument(f"--level must be from 0 to {len(net.levels) - 1}, got {level}")
    needed, have = frame + net.span(level), len(runs[0].states)
    if needed > have:
        raise InvalidArgument(f"START: {path} has {have} frames, {needed} are needed")
    return runs[0]


def _hold(
    net: SagesNet[Any], temperature: float, damping: float, seed: int, level: int, tiles: int | None
) -> None:
    """Let a thermostat act in every step of a net of atoms."""
    from mlcore.errors import InvalidArgument
    from mlcore.sagesnet.atoms.thermostat import Thermostat

    if net.cells.kind != "atoms" or level or tiles is not None:
        raise InvalidArgument("--temperature is for atoms on level 0, without --tiles")
    cells: Any = net.cells
    cells.thermostat = Thermostat(temperature, damping, seed)


def _around(net: SagesNet[Any], words: list[str] | None) -> Any:
    """(1, E) of what acts from outside; None where the net knows nothing of it."""
    import torch

    from mlcore.errors import InvalidArgument

    given = numbers(words or [], "--environment")
    if sorted(given) != sorted(net.environment):
        wanted = ", ".join(net.environment) or "nothing"
        raise InvalidArgument(
            f"--environment must name {wanted}, got {', '.join(given) or 'nothing'}"
        )
    return torch.tensor([[given[name] for name in net.environment]]) if given else None


def _reading(training: Mapping[str, Any]) -> Reading:
    """How files became states in a net's training; as by default where its file does not say."""
    from pydantic import TypeAdapter, ValidationError

    from mlcore.errors import FileFormatError
    from mlcore.io.toml import wrong_fields
    from mlcore.sagesnet.files import Reading

    try:
        return TypeAdapter(Reading).validate_python(training.get("reading", {}))
    except ValidationError as error:
        raise FileFormatError(f"training.reading of the net: {wrong_fields(error)}") from None


def _plain_reading(reading: Reading) -> dict[str, Any]:
    return {name: getattr(reading, name) for name in ("edge", "slots", "room", "multiple")}


def _types(elements: list[str] | None) -> tuple[int, ...] | None:
    from ase.data import atomic_numbers

    from mlcore.errors import InvalidArgument

    odd = [e for e in elements or () if e not in atomic_numbers]
    if odd:
        raise InvalidArgument(f"--element: no elements are {', '.join(odd)}")
    return tuple(atomic_numbers[e] for e in elements) if elements else None


def _weights(module: Any) -> int:
    return sum(int(p.numel()) for p in module.parameters())


def _level(net: SagesNet[Any], level: int) -> dict[str, Any]:
    """Lengths in cells and steps of level 0."""
    predictor, lift = net.predictors[level], net.lift(level) if level else None
    spaces = [net.lift(k).space for k in range(1, level + 1)]
    edges = [math.prod(space[axis] for space in spaces) for axis in range(3)]
    return {
        "level": level,
        "cell": edges,
        "steps": net.span(level),
        "reach": [int(predictor.reach) * n for n in edges],  # type: ignore[arg-type]
        "predictor": _weights(predictor),
        "lift": 0 if lift is None else _weights(lift),
        "compression": 1 if lift is None else lift.compression,
    }


def _rank(told: Mapping[str, Any]) -> str:
    rank = told.get("effective_rank")
    return "" if rank is None else f", effective rank {rank:.1f}"


def _table(content: Mapping[str, Any]) -> str:
    cells = ", ".join(f"{name} {value}" for name, value in content["cells"].items())
    lines = [cells, f"environment: {', '.join(content['environment']) or 'none'}"]
    lines.append(f"{content['parameters']} parameters")
    for one in content["levels"]:
        size, reach = ("x".join(map(str, one[name])) for name in ("cell", "reach"))
        line = (
            f"level {one['level']}: cells of {size}, {one['steps']} steps at once, reaches {reach}"
        )
        line += f" cells, predictor {one['predictor']}"
        if one["lift"]:
            line += f", lift {one['lift']} parameters ({one['compression']} to 1)"
        lines.append(line)
        told = one["training"]
        if told:
            lines.append(
                f"  loss {told['best']:.3g} in epoch {told['best_epoch']} of {told['epochs']}, "
                f"{told['seconds']:.0f} s{_rank(told)}"
            )
    for part in ("confidence", "feedback"):
        if content[part]:
            lines.append(f"{part}: {', '.join(content[part])}")
    return "\n".join(lines)


def _draw_curves(folder: Path, out: Path) -> None:
    """Stress of a set's runs, or losses of a training, as a PNG."""
    import json

    from mlcore.errors import FileFormatError, InvalidArgument
    from mlcore.sagesnet.render import curves_frame, save_png

    if out.suffix != ".png":
        raise InvalidArgument(f"--out must end in .png for curves, got {out.name}")
    logs = sorted(folder.glob("training/*/metrics.jsonl"))
    if logs:
        lines = {}
        for log in logs:
            try:
                records = [json.loads(line) for line in log.read_text().splitlines()]
                points = [(r["epoch"], r.get("validation", r["loss"])) for r in records]
            except (ValueError, KeyError, TypeError) as error:
                raise FileFormatError(f"{log}: not the log of a training") from error
            lines[log.parent.name.replace("_", " ")] = points
        frame = curves_frame(lines, x="epoch", y="loss", logarithmic=True)
    else:
        from mlcore.sagesnet.carbon import Dataset

        runs = {one.name: one.curve[:, 1:3].tolist() for one in Dataset(folder)}
        if not runs:
            raise InvalidArgument(f"SOURCE: {folder} holds no finished run")
        frame = curves_frame(runs, x="strain", y="stress / GPa")
    save_png(out, frame)
