"""The benchmark of the GPU, tried with its arrays on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = str(Path(__file__).parents[3] / "bench")
TRY = f"""
import json, sys
sys.path.insert(0, {BENCH!r})
import numpy as np, torch
import gpu
from harness import Setup, timed
from mlcore.mobility import RPY

rows = []
for case in gpu.cases(Setup(1, True, "", 0.001, {{}}), "cpu"):
    rows += timed(case, 1, 0.001).values()
print(json.dumps([(r.workload, r.call, r.seconds, r.limit, r.rate) for r in rows]))
x = np.random.default_rng(0).random((30, 3)) * 8
print(json.dumps(float(np.abs(gpu.torch_rpy(torch.tensor(x)).numpy() - RPY(1, 1).matrix(x)).max())))
print(json.dumps(len(list(gpu.cases(Setup(2, True, "", 0.001, {{}}), "cpu")))))
"""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line[:1] in "[0123456789"]


def test_every_operation_has_rows(printed: list[str]) -> None:
    rows = json.loads(printed[-3])
    ours = [row for row in rows if row[1] == "mlcore"]
    words = (
        "neighbors,neighbors kept,spread,gather,conv3d,conv3d_active,RPY,cholesky,noise,LSTM,mlp,"
        "pair,bonds forces,bonds loss,verlet,brownian rpy euler_maruyama,brownian rpy midpoint"
    )
    for word in words.split(","):
        assert any(row[0].startswith(word) for row in ours), word
    assert all(row[2] > 0 for row in ours)
    measured = [row for row in ours if row[3]]
    assert len(measured) > 10 and all(row[4].endswith("/s") for row in measured)


def test_the_dense_peer_is_right(printed: list[str]) -> None:
    assert json.loads(printed[-2]) < 1e-14


def test_threads_of_the_cpu_do_not_repeat_it(printed: list[str]) -> None:
    assert json.loads(printed[-1]) == 0
