"""``mlcore mobility``: from trajectories to a mobility that runs, stage by stage or at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcore.threads import share_cores

if TYPE_CHECKING:
    from mlcore.mobility.pipeline import Pipeline, StageName
    from mlcore.mobility.summary import Summary

__all__ = ["app"]

app = typer.Typer(
    help="Learn a mobility from trajectories and run it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="TOML file that says what to do, see examples.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh/--resume",
        help="Start over, or go on from what is finished, in the middle of a training too.",
    ),
]


@app.command()
def estimate(config: ConfigFile, out: Out = Path("out/mobility"), fresh: Fresh = False) -> None:
    """Estimate self and pair mobilities by distance, with error bars."""
    with _pipeline(config, out, fresh, "estimate") as pipeline:
        for kind in pipeline.estimated.result["kinds"]:
            found = pipeline.estimate(kind)
            typer.echo(f"\n{kind}: self {found.self_mobility:.6g} +- {found.self_error:.2g}")
            typer.echo("     from       to          par      +-         perp      +-")
            for b in range(found.bins):
                pair = (found.par[b], found.par_error[b], found.perp[b], found.perp_error[b])
                values = "{:12.5g} {:7.1e} {:12.5g} {:7.1e}".format(*pair)
                typer.echo(f"{found.edges[b]:9.4g}{found.edges[b + 1]:9.4g} {values}")
        typer.echo(f"\nin {pipeline.estimated.folder}")


@app.command()
def train(config: ConfigFile, out: Out = Path("out/mobility"), fresh: Fresh = False) -> None:
    """Train every model with every loss; goes on where it was cut off."""
    with _pipeline(config, out, fresh, "train") as pipeline:
        for row in pipeline.trained.result["rows"]:
            gain = row["over_none"]
            typer.echo(
                f"{row['model']:<17}{row['loss']:<11} self {row['self_mobility']:.5g}  "
                f"chi2 {row['chi2']:.1f}/{row['values']}  held-out ln L over no hydrodynamics "
                f"{gain['value']:.1f} +- {gain['error']:.1f}  {row['seconds']:.1f} s"
            )
        typer.echo(f"in {pipeline.trained.folder}")


@app.command()
def export(config: ConfigFile, out: Out = Path("out/mobility"), fresh: Fresh = False) -> None:
    """Write the chosen model as a bundle with MLMOD's files, verified."""
    with _pipeline(config, out, fresh, "export") as pipeline:
        typer.echo(pipeline.exported.folder / "bundle")


@app.command()
def demo(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="TOML file; without it the colloid example."),
    ] = None,
    out: Out = Path("out/demo"),
    fresh: Fresh = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the trajectories are, instead of CONFIG's."),
    ] = None,
    progress: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Told where it stands while it runs.")
    ] = None,
) -> None:
    """Everything: estimate, train, export, run in LAMMPS, compare, report."""
    start = time.perf_counter()
    with _pipeline(config or _example(data), out, fresh, "cost", data, progress) as pipeline:
        from mlcore.mobility.summary import summarise

        summary = summarise(pipeline)
    _tell(summary, time.perf_counter() - start)


def _example(data: Path | None) -> Path:
    """The colloid example: a checkout's with its trajectories, or the wheel's without them."""
    from mlcore.errors import InvalidArgument

    name = Path("examples") / "colloids" / "demo.toml"
    roots = (Path.cwd(), *Path(__file__).resolve().parents)
    found = [root / name for root in roots if (root / name).is_file()]
    if not found:
        raise InvalidArgument(f"CONFIG: there is no {name} here; name a TOML file")
    found.sort(key=lambda file: not (file.parent / "data").is_dir())
    if data is None and not (found[0].parent / "data").is_dir():
        raise InvalidArgument(
            "--data: the example's trajectories are not part of the installed package; they are in "
            "examples/colloids/data of mlcore's source: name that folder with --data FOLDER"
        )
    return found[0]


def _tell(summary: Summary, seconds: float) -> None:
    width = max((len(number.name) for number in summary.numbers), default=0)
    typer.echo("")
    for number in summary.numbers:
        typer.echo(f"  {number.name:<{width}}  {number.value:<16}  {number.meaning}")
    typer.echo("")
    for picture in summary.pictures:
        typer.echo(f"  {picture}")
    typer.echo(f"  {summary.report}")
    typer.echo(f"\nDone in {seconds:.0f} s.")


@contextmanager
def _pipeline(
    config: Path,
    out: Path,
    fresh: bool,
    last: StageName,
    data: Path | None = None,
    standing: Path | None = None,
) -> Iterator[Pipeline]:
    """A pipeline that has run up to a stage, with its progress on standard error and in a file."""
    share_cores()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from mlcore.io.standing import Standing
    from mlcore.mobility.config import load_config
    from mlcore.mobility.pipeline import Pipeline
    from mlcore.mobility.stages import Stage

    checked = load_config(config)
    if data is not None:
        checked = checked.with_data(data)
    tell = Standing(standing)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def progress(what: str, part: float) -> None:
            known = not math.isnan(part)
            tell(what, part)
            bar.update(task, description=what, total=1.0 if known else None, completed=part or 0)

        def told(stage: str | Stage) -> None:
            if isinstance(stage, str):
                bar.reset(task, description=stage, total=None)
                return
            how = "kept" if stage.cached else f"{stage.seconds:.1f} s"
            bar.console.print(f"[green]✓[/green] {stage.name:<16} {how}", highlight=False)

        pipeline = Pipeline(checked, out, fresh, progress, told)
        pipeline.run(last)
        yield pipeline
