"""Nets in folders, and trainings that are killed and gone on with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.sagesnet import AutomatonCells, Level, LiftSchedule, Run, SagesNet
from mlcore.training import TrainingOptions
from stopping import stopped_after


def _net(seed: int = 0) -> SagesNet[torch.Tensor]:
    torch.manual_seed(seed)
    levels = [
        Level(width=8, residual=False),
        Level(space=(2, 1, 1), time=2, layers=1, width=8, lift_width=16),
        Level(space=2, time=2, frames=1, kernel=5, width=4),
    ]
    return SagesNet(AutomatonCells(channels=8), levels, ["heat", "pull"])


def _start(seed: int = 1) -> torch.Tensor:
    return torch.randint(2, (2, 8, 4, 4), generator=torch.Generator().manual_seed(seed))


AROUND = torch.tensor([[0.5, -1.0], [0.0, 2.0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rollouts_before_and_after_a_file_are_equal_to_the_bit(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    net = _net().to(dtype)
    net.save(tmp_path / "net", training={"note": "none"})
    again = SagesNet.load(tmp_path / "net")
    assert again.description() == net.description()
    around = AROUND.to(dtype)
    for level, steps in ((0, 6), (1, 4), (2, 8)):
        frames = [_start(s) for s in range(net.span(level))]
        runs = [one.rollout(frames, steps, level=level, environment=around) for one in (net, again)]
        for a, b in zip(runs[0].states, runs[1].states, strict=True):
            assert torch.equal(a, b)
        for x, y in zip(runs[0].grids, runs[1].grids, strict=True):
            assert torch.equal(x.h, y.h)
    # in the middle of a run too, where a cell's vector is all there is
    grid = net.predict(net.encode([_start()]), around)
    assert torch.equal(grid.h, again.predict(again.encode([_start()]), around).h)


def test_a_net_takes_the_place_of_a_net_and_of_nothing_else(tmp_path: Path) -> None:
    _net(0).save(tmp_path / "net")
    _net(1).save(tmp_path / "net")
    loaded = SagesNet.load(tmp_path / "net")
    assert torch.equal(loaded.state_dict()["cells.code.weight"], _net(1).cells.code.weight)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(Error, match="other content"):
        _net().save(tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net", "other"]


def test_a_weight_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    net = _net()
    with torch.no_grad():
        net.cells.code.weight[0, 0] = float("nan")
    with pytest.raises(InvalidArgument, match=r"cells\.code\.weight"):
        net.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def _edited(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["net"] |= changes
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cells": {"kind": "os.system", "command": "true"}}, "not known here"),
        ({"cells": {"kind": "automaton", "states": -1}}, "no such net"),
        ({"cells": {"kind": "automaton", "states": 3, "channels": 8}}, "is of shape"),
        ({"levels": [{"space": 1, "pickle": 1}]}, "unknown pickle"),
        ({"levels": []}, "levels"),
        ({"levels": [{}]}, "do not fit"),
        ({"environment": "heat"}, "net.environment"),
        ({"hook": "x"}, "unknown hook"),
    ],
)
def test_manifests_are_taken_with_suspicion(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    _net().save(tmp_path / "net")
    _edited(tmp_path / "net", **changes)
    with pytest.raises(FileFormatError, match=told):
        SagesNet.load(tmp_path / "net")


def test_damaged_weights_are_found(tmp_path: Path) -> None:
    _net().save(tmp_path / "net")
    path = tmp_path / "net" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="sha256"):
        SagesNet.load(tmp_path / "net")
    path.unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        SagesNet.load(tmp_path / "net")
    with pytest.raises(FileFormatError, match="no bundle|not a bundle"):
        SagesNet.load(tmp_path / "nowhere")


def _runs() -> list[Run[torch.Tensor]]:
    """Rule 128 on a ring: a cell lives where it and both neighbours did."""
    runs = []
    for seed in range(3):
        state = torch.randint(
            4, (4, 16, 1, 1), generator=torch.Generator().manual_seed(seed)
        ).clamp(max=1)
        states = [state]
        for _ in range(5):
            last = states[-1]
            states.append(last & last.roll(1, 1) & last.roll(-1, 1))
        runs.append(Run(states))
    return runs


def _untrained() -> SagesNet[torch.Tensor]:
    torch.manual_seed(3)
    levels = [Level(width=8), Level(space=(2, 1, 1), time=2, frames=1, width=8, lift_width=16)]
    return SagesNet(AutomatonCells(channels=8), levels)


@pytest.mark.parametrize("level", [0, 1])
def test_killed_and_resumed_is_as_if_never_killed(tmp_path: Path, level: int) -> None:
    options = TrainingOptions(epochs=6, batch_size=3, checkpoint_every=1)
    schedule = LiftSchedule(steps=20)

    def fit(net: SagesNet[torch.Tensor], folder: str, levels: range, resume: bool = False) -> None:
        own = replace(options, directory=tmp_path / folder, resume=resume)
        net.fit(_runs(), levels=levels, options=own, schedule=schedule)

    every = range(level + 1)
    whole = _untrained()
    fit(whole, "whole", every)
    killed = _untrained()
    fit(killed, "killed", every[:-1])
    with stopped_after(3):
        fit(killed, "killed", every[-1:])
    resumed = _untrained()
    fit(resumed, "killed", every, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def _shifted(runs: list[Run[torch.Tensor]]) -> list[Run[torch.Tensor]]:
    return [replace(run, states=[state.roll(1, 1) for state in run.states]) for run in runs]


@pytest.mark.parametrize("level", [0, 1])
def test_a_training_is_not_gone_on_with_on_other_runs(tmp_path: Path, level: int) -> None:
    options = TrainingOptions(epochs=1, directory=tmp_path, resume=True)
    runs = _runs()
    held = runs[-1:]
    net = _untrained()
    net.fit(runs, validation=held, levels=range(level + 1), options=options)
    net = _untrained()
    net.fit(runs, validation=held, levels=range(level), options=options)
    around = [replace(runs[0], environment=torch.zeros(4, 0)), *runs[1:]]
    for others, told in (
        (_shifted(runs), held),
        (runs[:-1], held),
        ([Run(run.states[:-1]) for run in runs], held),
        (around, held),
        (runs, _shifted(held)),
    ):
        with pytest.raises(Error, match="other settings or data"):
            net.fit(others, validation=told, levels=[level], options=options)
    assert net.fit(_runs(), validation=held, levels=[level], options=options)[0].epochs == 1
