"""``mlcore integrators``: runs of reference systems, integrators of large steps taught by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcore.cli.remote import remotely
from mlcore.threads import share_cores

if TYPE_CHECKING:
    from mlcore.integrators.config import Config
    from mlcore.md import Dataset

__all__ = ["app"]

app = typer.Typer(
    help="Teach and judge integrators of large steps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="TOML file, see mlcore.integrators.config.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", help="Start over, or go on from what is finished.")
]
Told = Annotated[
    Path | None,
    typer.Option("--progress", metavar="FILE", help="Told where it stands while it runs."),
]


@app.command()
def sweep(config: ConfigFile, out: Out = Path("out/integrators"), fresh: Fresh = False) -> None:
    """Make the runs of CONFIG and keep them in OUT/runs.h5."""
    share_cores()
    from mlcore.errors import FileFormatError
    from mlcore.integrators.config import load_config

    told = load_config(config)
    if told.runs is None:
        raise FileFormatError(f"{config}: has no section runs")
    data = _runs(told, out, fresh)
    _, frames, particles, dim = data.positions.shape
    typer.echo(
        f"{out / 'runs.h5'}: {len(data)} runs of {data.system}, {frames} frames "
        f"{data.interval:g} apart, {particles} particles in {dim} dimensions"
    )


@app.command()
@remotely("integrators")
def fit(
    config: ConfigFile,
    out: Out = Path("out/integrators"),
    fresh: Fresh = False,
    judge: Annotated[
        bool, typer.Option("--report/--no-report", help="Also OUT/report.html, .json and a motion.")
    ] = False,
    progress: Told = None,
) -> None:
    """Teach the integrator of CONFIG, keep it in OUT and judge it by runs it has not seen."""
    share_cores()
    import inspect

    from mlcore.integrators.config import load_config
    from mlcore.io.standing import Standing

    tell = Standing(progress)
    told = load_config(config)
    model = told.model.make()
    tell("making the runs" if told.runs else "reading the runs")
    data = _runs(told, out, fresh)
    tell("training")
    train, held_out = data.split(1 - told.fit.held_out, told.fit.seed)
    known = inspect.signature(model.fit).parameters
    options = told.fit.arguments | ({"progress": True} if "progress" in known else {})
    if "checkpoint" in known:
        options["checkpoint"] = out / "training"
    strides = [train.stride(k) for k in told.fit.strides]
    model.fit(strides[0] if len(strides) == 1 else strides, **options)
    file = out / "integrator.safetensors"
    model.save(file)
    typer.echo(f"{file}: {model!r}")
    for k in told.fit.strides:
        _judge(model, held_out.stride(k), told.fit.horizon)
    if judge:
        _reported(model, held_out.stride(told.fit.strides[0]), told.fit.horizon, out, tell)


@app.command()
def report(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Files of integrators, or verlet:STEP."),
    ],
    data: Annotated[
        Path, typer.Option("--data", help="HDF5 file of runs that were not trained on.")
    ],
    out: Annotated[Path, typer.Option("--out", help="HTML file.")] = Path("report.html"),
    numbers: Annotated[
        Path | None, typer.Option("--json", help="Also the numbers, as a JSON file.")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Frames given; 5, or what a model needs.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option("--interval", help="Large step; that of the data by default.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Predicted; all there are by default.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", help="The first of the file; all by default.")
    ] = None,
) -> None:
    """Judge integrators by runs they have not seen, side by side: a table, and OUT with pictures."""
    share_cores()
    import hashlib

    from mlcore.errors import InvalidArgument
    from mlcore.integrators import evaluate
    from mlcore.md import Dataset

    if runs is not None and runs < 1:
        raise InvalidArgument(f"--runs must be at least 1, got {runs}")
    known = Dataset.load(data)[:runs]
    made = evaluate(
        _named(models),
        known,
        window=window,
        interval=interval,
        frames=frames,
        progress=lambda text: typer.echo(f"... {text}", err=True),
    )
    typer.echo(str(made))
    files = [path for path in (Path(m) for m in models) if path.is_file()]
    marks = [(str(f), hashlib.sha256(f.read_bytes()).hexdigest()) for f in (*files, data)]
    made.save(out, marks)
    if numbers is not None:
        made.to_json(numbers)
    typer.echo(f"in {out}")


def _reported(
    model: Any, data: Dataset, horizon: float | None, out: Path, tell: Callable[[str], None]
) -> None:
    """A report of runs that were left out, and the first of them as the model moves it."""
    import numpy as np

    from mlcore.integrators import evaluate
    from mlcore.io import atomic_path

    length = getattr(model, "window", 5)
    if horizon is not None:
        data = data.frames(slice(length + round(horizon / data.interval)))
    made = evaluate(
        {"learned": model}, data, progress=lambda text: tell(f"judging: {text.lower()}")
    )
    made.save(out / "report.html")
    made.to_json(out / "report.json")
    first = data[:1]
    found = model.rollout(first.frames(slice(length)), first.positions.shape[1] - length)
    moved = {"learned": found.positions[0], "true": first.positions[0, length:]}
    with atomic_path(out / "motion.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, times=found.times, box=data.system_of(0).box or 0.0, **moved)


def _named(models: list[str]) -> dict[str, Any]:
    """Integrators by the names of their files, made different where they are the same."""
    from mlcore.errors import InvalidArgument
    from mlcore.integrators import VerletIntegrator, load

    found: dict[str, Any] = {}
    for model in models:
        if model.startswith("verlet:"):
            try:
                name, one = model.replace(":", " "), VerletIntegrator(float(model[7:]))
            except ValueError as error:
                raise InvalidArgument(f"{model}: STEP must be a positive number") from error
        else:
            name, one = Path(model).stem, load(model)
        while name in found:
            name += "'"
        found[name] = one
    return found


def _runs(told: Config, out: Path, fresh: bool) -> Dataset:
    import shutil

    if fresh:
        (out / "runs.h5").unlink(missing_ok=True)
        shutil.rmtree(out / "training", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    return told.dataset(out, progress=True)


def _judge(model: Any, data: Dataset, horizon: float | None) -> None:
    """Errors on runs that were left out: with the truth at every step, and without."""
    import numpy as np

    from mlcore.integrators.metrics import horizon as first_above
    from mlcore.integrators.metrics import separation

    length = getattr(model, "window", 5)
    frames = data.positions.shape[1]
    if horizon is not None:
        frames = min(frames, length + round(horizon / data.interval))
    if frames <= length:
        typer.echo(f"steps of {data.interval:g}: runs are too short to be judged by")
        return
    data = data.frames(slice(frames))
    box = data.system_of(0).box
    truth = data.positions[:, length:]
    told = [f"steps of {data.interval:g}, {len(data)} runs left out"]
    if hasattr(model, "teacher_forced"):
        found = model.teacher_forced(data)
        if found.accepted.any():
            error = separation(found.positions, truth, box)[found.accepted].mean()
            told.append(f"one step from true windows {error:.1e}")
    found = model.rollout(data.frames(slice(length)), frames - length)
    refused = [reason for reason in found.refused if reason]
    if found.accepted.any():
        error = separation(found.positions, truth, box)[found.accepted]
        last = found.times[-1]
        for time in sorted({min(10.0, last), last}):
            told.append(f"own roll-out to t = {time:g} {error[:, found.times <= time].mean():.1e}")
        when = np.median(first_above(found.times, error))
        told.append(
            f"error above 0.1 from t = {when:g}" if np.isfinite(when) else "never above 0.1"
        )
    typer.echo("; ".join(told))
    if refused:
        typer.echo(f"  refused {len(refused)}: {refused[0]}")
