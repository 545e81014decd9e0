"""Settings and outcome of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from mlcore.errors import InvalidArgument

__all__ = ["TrainingOptions", "TrainingResult", "checked_seed"]


def checked_seed(seed: Any) -> int:
    """Raises InvalidArgument for what is no whole number from 0 on that 63 bits hold."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 63:
        raise InvalidArgument(f"seed must be a whole number from 0 on, not {seed!r}")
    return seed


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of a training run.

    Args:
        epochs: largest number of passes over the data.
        learning_rate: of Adam.
        schedule: "constant", "cosine" from learning_rate to a part of it over all epochs, or "warm-up",
            which begins at a 25th of learning_rate, rises over the first 30 % and then does the same.
        batch_size: samples a step; None takes all at once.
        patience: epochs without improvement after which training stops; None never stops early.
        min_improvement: smallest decrease of the monitored loss that counts.
        seed: order of the batches.
        directory: where checkpoint.safetensors, metrics.jsonl and learning_curve.png go; None
            writes nothing.
        resume: go on from the checkpoint in `directory` when there is one.
        checkpoint_every: epochs between checkpoints.
        progress: show a progress bar on standard error.
        seconds: wall time, that before a resume included, after which training ends, in the middle of
            an epoch too; the learning rate then falls with the time as with the epochs, whichever is
            further on. None sets no limit. Results depend on the machine where it ends training.
        final_part: of the learning rate, at which "cosine" and "warm-up" end.
        weight_decay: by which weights shrink in a step, in units of the learning rate (AdamW).
        clip: largest norm of the gradient of a step, to which longer ones are cut; None: any. A step
            whose norm is no number is left out.

    Raises:
        InvalidArgument: naming the setting.
    """

    epochs: int = 1000
    learning_rate: float = 1e-2
    schedule: Literal["constant", "cosine", "warm-up"] = "cosine"
    batch_size: int | None = None
    patience: int | None = 100
    min_improvement: float = 1e-6
    seed: int = 0
    directory: str | Path | None = None
    resume: bool = False
    checkpoint_every: int = 50
    progress: bool = False
    seconds: float | None = None
    final_part: float = 0.01
    weight_decay: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "checkpoint_every", "batch_size", "patience"):
            value = getattr(self, name)
            if value is None and name in ("batch_size", "patience"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgument(f"{name} must be a whole number of at least 1, not {value!r}")
        checked_seed(self.seed)
        rate = self.learning_rate
        if not (isinstance(rate, (int, float)) and 0 < rate < float("inf")):
            raise InvalidArgument(f"learning_rate must be positive, not {self.learning_rate!r}")
        if self.schedule not in ("constant", "cosine", "warm-up"):
            raise InvalidArgument(
                f"schedule must be 'constant', 'cosine' or 'warm-up', not {self.schedule!r}"
            )
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise InvalidArgument(f"clip must be positive or None, not {self.clip!r}")
        decay = self.weight_decay
        if not (isinstance(decay, (int, float)) and 0 <= decay < float("inf")):
            raise InvalidArgument(f"weight_decay must not be negative: {decay!r}")
        if not self.min_improvement >= 0:
            raise InvalidArgument(f"min_improvement must not be negative: {self.min_improvement!r}")
        if self.seconds is not None and not (
            isinstance(self.seconds, (int, float)) and 0 < self.seconds < float("inf")
        ):
            raise InvalidArgument(f"seconds must be None or positive, not {self.seconds!r}")
        if not (isinstance(self.final_part, (int, float)) and 0 < self.final_part <= 1):
            raise InvalidArgument(f"final_part must lie in (0, 1], not {self.final_part!r}")
        if self.resume and self.directory is None:
            raise InvalidArgument("resume=True needs a directory with the checkpoint")

    @classmethod
    def of_fit(
        cls,
        training: TrainingOptions | None,
        *,
        checkpoint: str | Path | None,
        progress: bool,
        epochs: int,
        learning_rate: float,
        batch_size: int | None,
        seed: int,
    ) -> Self:
        """What the arguments of a fit mean: `training`, or the epochs and so on named one by one;
        kept in `checkpoint` and shown by `progress` either way.

        Raises:
            InvalidArgument: naming the argument.
        """
        if training is None:
            made = cls(
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=batch_size,
                min_improvement=0.0,
                seed=seed,
                checkpoint_every=10,
            )
            given = replace(made, patience=max(made.epochs // 4, 50))
        elif isinstance(training, cls):
            given = training
        else:
            raise InvalidArgument(f"training must be TrainingOptions, not {training!r:.60}")
        return given.at(checkpoint, progress)

    def at(self, checkpoint: str | Path | None, progress: bool) -> Self:
        """The same, kept in a folder and resumed from there, shown by a bar.

        Raises:
            InvalidArgument: they have a directory already.
        """
        shown = replace(self, progress=True) if progress else self
        if checkpoint is None:
            return shown
        if self.directory is not None:
            raise InvalidArgument("checkpoint must be None where the settings name a directory")
        return replace(shown, directory=checkpoint, resume=True)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        told = asdict(self)
        for name in ("directory", "resume", "checkpoint_every", "progress"):
            del told[name]
        if self.seconds is None:
            del told["seconds"]
        if self.final_part == 0.01:
            del told["final_part"]
        if not self.weight_decay:
            del told["weight_decay"]
        return told


@dataclass
class TrainingResult:
    """Outcome of a training run.

    Args:
        best: lowest monitored loss (validation where there is one, else training).
        best_epoch: when it was reached; the module holds the parameters of that epoch.
        epochs: epochs run in all, those before a resume included.
        reason: "finished" or "early stop".
        seconds: wall time, that before a resume included.
        history: one record an epoch: epoch, loss, validation (where there is one), learning_rate.
    """

    best: float
    best_epoch: int
    epochs: int
    reason: str
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
