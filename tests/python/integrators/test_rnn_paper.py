"""examples/rnn_paper: a potential and a cluster, in its smallest form; what is done is not made again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "rnn_paper" / "rnn_paper.py"
NAMES = ("double_well", "3_box")


def study(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), "--out", str(folder), *words]
    for name in NAMES:
        command += ["--only", name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_study_and_its_resumption(tmp_path: Path) -> None:
    done = study(tmp_path, "--tiny")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    well, cluster = (json.loads((tmp_path / "results" / f"{n}.json").read_text()) for n in NAMES)
    told = well["lstm"]["0.4"]
    assert 0 < told["forced"] < 10 and told["own"]["10"] > 0 and told["refused_runs"] == 0
    exact = well["works"]["action-angle, 0.4"]
    assert exact["named_largest"] < 1e-8 and exact["horizon"] is None
    assert well["works"]["periodic"]["named_largest"] < 1e-8
    assert well["works"]["splitting, 0.4"]["named_largest"] < 1e-6
    assert 0.7 < well["truth"]["verlet"]["0.01"]["growth"][1] < 1.3
    assert cluster["nbody"]["0.05"]["horizon"] > cluster["lstm"]["0.4"]["horizon"]
    assert cluster["scalar"]["held"] is False and cluster["scalar"]["mean"] == pytest.approx(
        4.3e-3, rel=0.02
    )
    gates = [gate for one in (well, cluster) for g in one["gates"].values() for gate in g]
    assert len(gates) == 16 and all(gate[1] is not False for gate in gates)

    for name in ("pictures/double_well.png", "pictures/3_box.png", "rnn_paper.html"):
        assert (tmp_path / name).stat().st_size > 10_000
    page = (tmp_path / "rnn_paper.html").read_text()
    assert "data:image/png;base64," in page and '<img src="http' not in page
    assert (tmp_path / "summary.md").read_text() == done.stdout

    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    kept |= {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.h5")}
    first = tmp_path / "results" / "double_well.json"
    kept[first] = first.stat().st_mtime_ns
    (tmp_path / "results" / "3_box.json").unlink()
    again = study(tmp_path, "--tiny")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "learning" not in again.stderr and "double_well: done before" in again.stderr
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    redone = json.loads((tmp_path / "results" / "3_box.json").read_text())
    assert redone["lstm"]["0.4"]["forced"] == cluster["lstm"]["0.4"]["forced"]
    assert redone["lyapunov"] == cluster["lyapunov"]

    other = study(tmp_path, "--quick")
    assert other.returncode != 0 and "choose another --out" in other.stderr
