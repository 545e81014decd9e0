"""The training loop: resume gives the same numbers, stops early, refuses damaged checkpoints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.training import TrainingOptions, plot_learning_curve, read_metrics

torch = pytest.importorskip("torch")

from mlcore.training import train  # noqa: E402

SCRIPT = """
import sys, time, torch
sys.path.insert(0, {here!r})
from test_loop import Fit, network
from mlcore.training import TrainingOptions, train
class Slow(Fit):
    def validation(self, module):
        time.sleep(0.01)
        return super().validation(module)
train(network(), Slow(), TrainingOptions(epochs=60, batch_size=8, directory={folder!r},
      checkpoint_every=5, patience=None, seed=3))
"""


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(1, 8, dtype=torch.float64),
        torch.nn.Tanh(),
        torch.nn.Linear(8, 1, dtype=torch.float64),
    )


class Fit:
    """Fit a sine; eight held-out points."""

    size = 40

    def __init__(self, shift: float = 0.0) -> None:
        x = torch.linspace(-2, 2, 48, dtype=torch.float64)[:, None]
        keep = torch.arange(48) % 6 != 0
        self.x, self.y = x[keep], torch.sin(2 * x[keep]) + shift
        self.xv, self.yv = x[~keep], torch.sin(2 * x[~keep]) + shift
        self.shift = shift

    def identity(self) -> str:
        return f"sine {self.shift}"

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        return ((module(self.x[samples]) - self.y[samples]) ** 2).mean()

    def validation(self, module: torch.nn.Module) -> float | None:
        with torch.no_grad():
            return float(((module(self.xv) - self.yv) ** 2).mean())


def _values(module: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()


def _options(folder: Path | None, **changes: object) -> TrainingOptions:
    base = {"epochs": 60, "batch_size": 8, "checkpoint_every": 5, "patience": None, "seed": 3}
    return TrainingOptions(directory=folder, **{**base, **changes})  # type: ignore[arg-type]


def test_learns_and_keeps_the_best_parameters(tmp_path: Path) -> None:
    module, fit = network(), Fit()
    result = train(module, fit, _options(tmp_path / "run", epochs=150))
    assert result.best < 0.05 < result.history[0]["validation"]
    assert fit.validation(module) == pytest.approx(result.best, rel=1e-12)
    assert result.best == min(r["validation"] for r in result.history)
    assert result.reason == "finished" and result.epochs == 150
    records = read_metrics(tmp_path / "run/metrics.jsonl")
    assert records == result.history
    png = (tmp_path / "run/learning_curve.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 5000
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "learning_curve.png",
        "metrics.jsonl",
    ]


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = SCRIPT.format(here=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code])
    checkpoint = folder / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = json.loads(read_tensors(checkpoint)[0]["state"].tobytes())["epoch"]
    assert 5 <= done < 60
    resumed, whole = network(), network()
    result = train(resumed, Fit(), _options(folder, resume=True))
    reference = train(whole, Fit(), _options(tmp_path / "whole"))
    assert np.array_equal(_values(resumed), _values(whole))
    assert result.history == reference.history
    assert read_metrics(folder / "metrics.jsonl") == reference.history
    assert not list(folder.glob("*.tmp"))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first, second = network(), network()
    a = train(first, Fit(), _options(tmp_path))
    b = train(second, Fit(), _options(tmp_path, resume=True))
    assert a.history == b.history and b.epochs == 60
    assert np.array_equal(_values(first), _values(second))


def test_stops_early(tmp_path: Path) -> None:
    options = _options(None, epochs=500, patience=5, min_improvement=0.05)
    result = train(network(), Fit(), options)
    assert result.reason == "early stop"
    assert result.epochs == result.best_epoch + 5 < 500


def test_seed_decides_the_batches() -> None:
    values = []
    for seed in (1, 1, 2):
        module = network()
        train(module, Fit(), _options(None, epochs=5, seed=seed))
        values.append(_values(module))
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_the_time_is_a_limit(capfd: pytest.CaptureFixture[str]) -> None:
    """Training ends with it, in the middle of an epoch too, and the learning rate has fallen."""

    class Waits(Fit):
        def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
            time.sleep(0.01)
            return super().loss(module, samples)

    options = _options(None, epochs=10**6, seconds=0.6, progress=True)
    result = train(network(), Waits(), options)
    batches = -(-Fit().size // options.batch_size)  # each waits for at least 0.01 s
    assert result.seconds >= 0.6 and 1 <= result.epochs <= 60 // batches + 1
    rates = [record["learning_rate"] for record in result.history]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.9 * options.learning_rate
    assert "1/1" in capfd.readouterr().err
    brief = train(network(), Waits(), _options(None, epochs=3, batch_size=1, seconds=0.03))
    assert brief.epochs == 1 and brief.seconds < 0.3
    unlimited, limited = _options(None, epochs=5), _options(None, epochs=5, seconds=1e6)
    modules = [network(), network()]
    for module, chosen in zip(modules, (unlimited, limited), strict=True):
        train(module, Fit(), chosen)
    np.testing.assert_allclose(_values(modules[0]), _values(modules[1]), rtol=1e-6)


def test_where_the_learning_rate_ends() -> None:
    for part in (0.01, 0.2, 1.0):
        options = _options(None, epochs=40, final_part=part)
        rates = [r["learning_rate"] for r in train(network(), Fit(), options).history]
        assert rates[0] == pytest.approx(options.learning_rate)
        assert rates[-1] == pytest.approx(part * options.learning_rate, abs=0.002 * rates[0])


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    train(network(), Fit(), _options(tmp_path, epochs=5))
    with pytest.raises(Error, match="other settings or data"):
        train(network(), Fit(shift=1.0), _options(tmp_path, epochs=5, resume=True))
    with pytest.raises(Error, match="other settings or data"):
        train(network(), Fit(), _options(tmp_path, epochs=6, resume=True))


def test_diverging_loss_is_an_error() -> None:
    class Bad(Fit):
        def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
            return super().loss(module, samples) * float("nan")

    with pytest.raises(Error, match="learning rate"):
        train(network(), Bad(), _options(None))


def test_diverging_validation_is_an_error(tmp_path: Path) -> None:
    class Bad(Fit):
        def validation(self, module: torch.nn.Module) -> float:
            return float("nan")

    with pytest.raises(
        Error, match="loss is nan in epoch 1 on the data held out: lower the learning"
    ):
        train(network(), Bad(), _options(tmp_path))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    train(network(), Fit(), _options(tmp_path, epochs=5))
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    tensors, metadata = read_tensors(path)
    state = json.loads(tensors["state"].tobytes())

    def attempt(match: str) -> None:
        with pytest.raises(FileFormatError, match=match) as caught:
            train(network(), Fit(), _options(tmp_path, epochs=5, resume=True))
        assert str(path) in str(caught.value)

    def rewrite(changed: dict[str, object] | None = None, **arrays: object) -> None:
        out = {**tensors, **arrays}
        if changed is not None:
            text = json.dumps({**state, **changed}).encode()
            out["state"] = np.frombuffer(text, dtype=np.uint8)
        kept = {k: v for k, v in out.items() if v is not None}
        write_tensors(path, kept, metadata)  # type: ignore[arg-type]

    for content, match in (
        (whole[: len(whole) // 2], "truncated"),
        (b"", "empty"),
        (b"PK\x03\x04" + whole, "header"),
        (whole[:8] + b"{" * 500 + whole[508:], "header"),
    ):
        path.write_bytes(content)
        attempt(match)
    rewrite(None, **{"model/0.weight": None})
    attempt("model/0.weight.*missing")
    rewrite(None, **{"model/0.weight": np.zeros((2, 2))})
    attempt("model/0.weight")
    rewrite(None, **{"adam/0/exp_avg": tensors["adam/0/exp_avg"].astype(np.float32)})
    attempt("adam/0/exp_avg")
    rewrite(None, **{"best/0.weight": np.full((8, 1), np.nan)})
    attempt("NaN")
    rewrite({"epoch": "five"})
    attempt("epoch")
    rewrite({"history": [1]})
    attempt("history")
    write_tensors(path, {"a": np.zeros(3)}, {})
    attempt("not a checkpoint")


def test_unwritable_folder_and_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Error, match="directory"):
        train(network(), Fit(), _options(tmp_path / "file" / "run"))
    import mlcore.io.atomic as atomic

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    train(network(), Fit(), _options(tmp_path / "run", epochs=5))
    before = (tmp_path / "run/checkpoint.safetensors").read_bytes()
    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(Error, match="No space left"):
        train(network(), Fit(), _options(tmp_path / "run", epochs=5))
    assert (tmp_path / "run/checkpoint.safetensors").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*tmp*"))


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"schedule": "linear"}, "schedule"),
        ({"batch_size": -1}, "batch_size"),
        ({"resume": True}, "resume"),
        ({"seconds": 0.0}, "seconds"),
        ({"final_part": 0.0}, "final_part"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": float("nan")}, "weight_decay"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        TrainingOptions(**changes)  # type: ignore[arg-type]


def test_a_warm_up_rises_and_falls() -> None:
    found = train(network(), Fit(), _options(None, epochs=20, schedule="warm-up", patience=None))
    rates = [record["learning_rate"] for record in found.history]
    top = max(rates)
    assert rates.index(top) == 6 and top == pytest.approx(_options(None).learning_rate)
    assert rates[0] == pytest.approx(0.04 * top) and rates[-1] < 0.05 * top
    assert rates[:7] == sorted(rates[:7]) and rates[6:] == sorted(rates[6:], reverse=True)


def test_weights_decay_where_asked() -> None:
    sizes = []
    for decay in (0.0, 1.0):
        module = network()
        train(module, Fit(), _options(None, epochs=30, weight_decay=decay, patience=None))
        sizes.append(sum(float(p.detach().square().sum()) for p in module.parameters()))
    assert sizes[1] < sizes[0]


def test_metrics_log_survives_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "lo')
    assert read_metrics(path) == [{"epoch": 1, "loss": 2.0}]
    path.write_text('{"epoch": 1}\nnonsense\n')
    with pytest.raises(FileFormatError, match="line 2"):
        read_metrics(path)


def test_plot_needs_a_history(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="history"):
        plot_learning_curve([], tmp_path / "x.png")


def test_progress_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    train(network(), Fit(), _options(None, epochs=3, progress=True), "wiggle")
    out, err = capfd.readouterr()
    assert out == "" and "wiggle" in err and "3/3" in err


class Steep(Fit):
    """One sample's loss is finite, its slope is not."""

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        loss = super().loss(module, samples)
        steep = (0 * module[0].weight.sum()).sqrt()
        return loss + steep if 0 in samples.tolist() else loss


def test_a_slope_without_a_length_is_left_out() -> None:
    module = network()
    options = TrainingOptions(
        epochs=20, batch_size=8, learning_rate=1e-2, clip=1.0, patience=None, seed=3
    )
    result = train(module, Steep(), options)
    assert np.isfinite(_values(module)).all()
    assert result.history[-1]["loss"] < 0.9 * result.history[0]["loss"]
