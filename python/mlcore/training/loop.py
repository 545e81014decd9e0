"""The training loop. The only module of this package that imports torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import Error, FileFormatError
from mlcore.io.tensors import parse_json, read_tensors, write_tensors
from mlcore.training.curve import plot_learning_curve
from mlcore.training.options import TrainingOptions, TrainingResult
from mlcore.training.record import MetricsLog

__all__ = ["Measured", "Objective", "train"]

_KEY = "mlcore-checkpoint"
# of a training with "warm-up": the part of it that rises, and the part of the rate it begins at
_WARM, _COLD = 0.3, 0.04


class Objective(Protocol):
    """What is minimised.

    `size` samples; `loss` the mean loss over the samples named; `validation` the loss of held-out
    data (None: monitor the training loss); `identity` what must be equal to resume a run.
    """

    @property
    def size(self) -> int: ...
    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor: ...
    def validation(self, module: torch.nn.Module) -> float | None: ...
    def identity(self) -> str: ...


@runtime_checkable
class Measured(Protocol):
    """An objective that tells more of every epoch than its losses, after `validation`."""

    def measures(self, module: torch.nn.Module) -> dict[str, float]: ...


class _Run:
    """State of a training run that a checkpoint holds."""

    def __init__(self, module: torch.nn.Module, options: TrainingOptions, identity: str) -> None:
        self.module = module
        self.options = options
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.epoch = 0
        self.best = math.inf
        self.best_epoch = 0
        self.best_state = self.copy()
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.start = time.perf_counter()
        told = json.dumps([options.identity(), identity], sort_keys=True)
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()

    def copy(self) -> dict[str, torch.Tensor]:
        """The module's parameters, detached."""
        return {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    def rate(self) -> float:
        """Learning rate of the coming epoch."""
        if self.options.schedule == "constant":
            return self.options.learning_rate
        warm = _WARM if self.options.schedule == "warm-up" else 0.0
        if self.part < warm:
            last, way = _COLD, 1 - self.part / warm
        else:
            last, way = self.options.final_part, (self.part - warm) / (1 - warm)
        fall = 0.5 * (1 + math.cos(math.pi * way))
        return self.options.learning_rate * (last + (1 - last) * fall)

    def batches(self, size: int) -> list[torch.Tensor]:
        """Samples of every step of the coming epoch; a function of seed and epoch alone."""
        everything = torch.arange(size)
        wanted = self.options.batch_size
        if wanted is None or wanted >= size:
            return [everything]
        order = np.random.default_rng([self.options.seed, self.epoch]).permutation(size)
        return list(torch.split(torch.from_numpy(order), wanted))

    def note(self, record: dict[str, float], before: dict[str, torch.Tensor]) -> None:
        """Keep the best parameters: those after the epoch by validation, else those before it."""
        validated = "validation" in record
        monitored = record["validation" if validated else "loss"]
        if monitored < self.best - self.options.min_improvement:
            self.best, self.best_epoch = monitored, self.epoch
            self.best_state = self.copy() if validated else before

    @property
    def elapsed(self) -> float:
        """Seconds so far, those before a resume included."""
        return time.perf_counter() - self.start

    @property
    def part(self) -> float:
        """Of all epochs or of the time that is over, from 0 to 1."""
        of_time = self.elapsed / (self.options.seconds or math.inf)
        return min(max(self.epoch / self.options.epochs, of_time), 1.0)

    @property
    def timed_out(self) -> bool:
        """Whether the time is used up."""
        return self.options.seconds is not None and self.elapsed >= self.options.seconds

    @property
    def done(self) -> bool:
        """Whether all epochs are, or the time is used up."""
        return self.epoch >= self.options.epochs or (self.epoch > 0 and self.timed_out)

    @property
    def stalled(self) -> bool:
        """Whether patience is used up."""
        patience = self.options.patience
        return patience is not None and self.epoch - self.best_epoch >= patience

    # -- checkpoints ----------------------------------------------------------------------------
    def save(self, path: Path) -> None:
        """Write everything needed to go on, whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {}
        for prefix, state in (("model/", self.module.state_dict()), ("best/", self.best_state)):
            tensors |= {prefix + k: v.detach().cpu().numpy() for k, v in state.items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{k}": v.cpu().numpy() for k, v in entry.items()}
        meta = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "history": self.history,
        }
        write_history = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
        write_tensors(path, tensors | {"state": write_history}, {_KEY: "1"})

    def load(self, path: Path) -> None:
        """Take back a checkpoint.

        Raises:
            FileFormatError: damaged, or of another model.
            Error: of other settings or data.
        """
        tensors, metadata = read_tensors(path)
        if metadata.get(_KEY) != "1" or "state" not in tensors:
            raise FileFormatError(f"{path}: field {_KEY!r} is missing: not a checkpoint of mlcore")
        meta = parse_json(tensors.pop("state").astype(np.uint8).tobytes(), f"{path}: state")
        numbers = ("epoch", "best", "best_epoch", "seconds")
        if not isinstance(meta, dict) or not isinstance(meta.get("history"), list):
            raise FileFormatError(f"{path}: state: field 'history' is missing or no list")
        for name in numbers:
            value = meta.get(name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise FileFormatError(f"{path}: state: field {name!r} must be a number: {value!r}")
        for record in meta["history"]:
            ok = isinstance(record, dict) and all(
                isinstance(v, (int, float)) for v in record.values()
            )
            if not ok or not {"epoch", "loss"} <= set(record):
                raise FileFormatError(f"{path}: state: field 'history' holds {record!r}")
        if meta.get("fingerprint") != self.fingerprint:
            raise Error(
                f"{path}: belongs to a run with other settings or data; use the same ones, "
                "another directory, or start anew without resume"
            )
        self._take(path, tensors)
        self.epoch, self.best_epoch = int(meta["epoch"]), int(meta["best_epoch"])
        self.best, self.seconds = float(meta["best"]), float(meta["seconds"])
        self.history = meta["history"]

    def _take(self, path: Path, tensors: dict[str, NDArray[Any]]) -> None:
        def fetch(name: str, like: torch.Tensor) -> torch.Tensor:
            if name not in tensors:
                raise FileFormatError(f"{path}: tensor {name!r} is missing")
            array = torch.from_numpy(tensors[name])
            if array.shape != like.shape or array.dtype != like.dtype:
                want = f"{like.dtype} {tuple(like.shape)}"
                raise FileFormatError(
                    f"{path}: tensor {name!r} is {array.dtype} {tuple(array.shape)}, not {want}"
                )
            return array

        state = self.module.state_dict()
        current = {k: fetch(f"model/{k}", v) for k, v in state.items()}
        self.best_state = {k: fetch(f"best/{k}", v) for k, v in state.items()}
        optimizer = self.optimizer.state_dict()
        # of parameters that no loss has asked for yet Adam knows nothing
        known = {int(name.split("/")[1]) for name in tensors if re.match(r"adam/\d+/", name)}
        optimizer["state"] = {
            index: {
                "step": fetch(f"adam/{index}/step", torch.tensor(0.0)),
                "exp_avg": fetch(f"adam/{index}/exp_avg", p),
                "exp_avg_sq": fetch(f"adam/{index}/exp_avg_sq", p),
            }
            for index, p in enumerate(self.module.parameters())
            if index in known
        }
        self.module.load_state_dict(current)
        self.optimizer.load_state_dict(optimizer)


def _progress(options: TrainingOptions, label: str) -> tuple[Any, Callable[[float, str], None]]:
    """A progress bar (or nothing), in epochs or seconds, and what moves it to a part of them."""
    import contextlib

    if not options.progress:
        return contextlib.nullcontext(), lambda part, text: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True))
    total = options.epochs if options.seconds is None else max(round(options.seconds), 1)
    task = bar.add_task(label, total=total, text="")
    return bar, lambda part, text: bar.update(task, completed=round(part * total), text=text)


def _epoch(run: _Run, objective: Objective) -> dict[str, float]:
    """One pass over the data."""
    rate = run.rate()
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    total, seen = 0.0, 0
    for samples in run.batches(objective.size):
        if seen and run.timed_out:
            break
        run.optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(run.module, samples)
        if not torch.isfinite(loss):
            raise Error(f"loss is {loss.item()} in epoch {run.epoch + 1}: lower the learning rate")
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach()) * len(samples)
        seen += len(samples)
        if _clipped(run):
            run.optimizer.step()
    run.epoch += 1
    record = {"epoch": run.epoch, "loss": total / seen, "learning_rate": rate}
    held_out = objective.validation(run.module)
    if held_out is not None:
        if not math.isfinite(held_out):
            told = f"in epoch {run.epoch} on the data held out: lower the learning rate"
            raise Error(f"loss is {held_out} {told}")
        record["validation"] = held_out
    if isinstance(objective, Measured):
        record |= objective.measures(run.module)
    return record


def _clipped(run: _Run) -> bool:
    """Whether there is a step to be made: what is clipped may be too large for any number."""
    if run.options.clip is None:
        return True
    norm = torch.nn.utils.clip_grad_norm_(run.module.parameters(), run.options.clip)
    return bool(torch.isfinite(norm))


def train(
    module: torch.nn.Module,
    objective: Objective,
    options: TrainingOptions | None = None,
    label: str = "training",
) -> TrainingResult:
    """Minimise an objective over the parameters of a module with Adam.

    The module ends with the parameters of its best epoch. With a directory, a checkpoint is written
    every `checkpoint_every` epochs and at the end; a run killed at any moment and resumed gives the
    same numbers as one that was not.

    Raises:
        Error: a loss is not finite, a file cannot be written, or the checkpoint is of another run.
        FileFormatError: a damaged checkpoint.
    """
    options = options or TrainingOptions()
    run = _Run(module, options, objective.identity())
    folder = None if options.directory is None else Path(options.directory)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"directory {folder}: cannot be made: {error.strerror}") from error
        checkpoint = folder / "checkpoint.safetensors"
        if options.resume and checkpoint.exists():
            run.load(checkpoint)
    run.start = time.perf_counter() - run.seconds
    bar, move = _progress(options, label)
    log = None if folder is None else MetricsLog(folder / "metrics.jsonl", run.history)
    try:
        with bar:
            while not run.done and not run.stalled:
                before = run.copy()
                record = _epoch(run, objective)
                run.history.append(record)
                run.note(record, before)
                run.seconds = run.elapsed
                if log is not None:
                    log.write(record)
                if folder is not None and run.epoch % options.checkpoint_every == 0:
                    run.save(checkpoint)
                move(run.part, f"loss {record['loss']:.6g}")
    finally:
        if log is not None:
            log.close()
    if folder is not None:
        run.save(checkpoint)
        plot_learning_curve(run.history, folder / "learning_curve.png")
    module.load_state_dict(run.best_state)
    reason = "early stop" if run.stalled and not run.done else "finished"
    return TrainingResult(run.best, run.best_epoch, run.epoch, reason, run.seconds, run.history)
