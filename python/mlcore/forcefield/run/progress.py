"""The bar of a fit: best score, evaluations per second, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["bar"]


@contextlib.contextmanager
def bar(budget: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar on standard error that is fed with the events of a fit."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[stage]:>14}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("best {task.fields[best]}"),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as shown:
        task = shown.add_task("", total=budget, stage="", best="-", rate="-")
        start, first = time.monotonic(), 0

        def listen(event: Mapping[str, Any]) -> None:
            nonlocal start, first
            done = int(event.get("evaluations", 0))
            if event["event"] == "started":
                start, first = time.monotonic(), done
            best, seconds = event.get("best"), time.monotonic() - start
            rate = (done - first) / seconds if seconds > 0.5 else None
            shown.update(
                task,
                completed=done,
                best="-" if best is None else f"{best:.6g}",
                rate="-" if rate is None else f"{rate:.3g}",
                **({"stage": event["stage"]} if "stage" in event else {}),
            )

        yield listen
