"""The report is one file that needs nothing else; the command writes it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlcore import cli, md
from mlcore.errors import Error
from mlcore.integrators import ActionAngleIntegrator, Report, VerletIntegrator, evaluate, starts
from mlcore.integrators.report import figures


class Elements(HTMLParser):
    """Collects text, links and nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Elements:
    page = Elements()
    page.feed(path.read_text())
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def liquid() -> Report:
    fixed = {"n": 16, "box": 6.7949, "epsilon": 2.0}
    data = md.sweep("lennard_jones", {"seed": [1, 2]}, fixed=fixed, dt=1e-3, time=15, every=50)
    several = {"<small> & steps": VerletIntegrator(5e-3), "large": VerletIntegrator(0.025)}
    return evaluate(several, data, exponent=3.1)


def test_one_file_with_all_in_it(liquid: Report, tmp_path: Path) -> None:
    liquid.save(tmp_path / "r.html", [("runs.h5", "abc")])
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    page = read(tmp_path / "r.html")
    assert len(page.links) == 4 and all(u.startswith("data:image/png;base64,") for u in page.links)
    assert all(base64.b64decode(u.split(",")[1])[:4] == b"\x89PNG" for u in page.links)
    for words in ("<small> & steps", "S_p (Eq 3)", "refused", "runs were not trained on", "abc"):
        assert words in page.text, words
    for title in ("Trajectory", "Conserved", "Averages", "Cost", "Honesty", "Provenance"):
        assert title in page.text
    assert "velocity Verlet, dt = 0.001" in page.text and "11.1" in page.text
    with pytest.raises(Error, match="folder"):
        liquid.save(tmp_path / "none" / "r.html")


def test_what_means_nothing_is_grey(liquid: Report) -> None:
    _, _, figure = figures(liquid)["errors"]
    left, right = figure.axes
    for axes in (left, right):
        assert [t.get_text() for t in axes.texts] == ["no meaning"]
        low, high = axes.get_xlim()
        (span,) = axes.patches
        assert span.get_x() == pytest.approx(liquid.cut)
        assert span.get_x() + span.get_width() == pytest.approx(high) and low == 0
        assert axes.get_yscale() == "log" and axes.get_xlabel() == "time t"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["<small> & steps", "large", "straight flight", "Verlet 0.001 from 0.0005"]
    t, error = liquid["large"].curves["autoregressive"]
    line = next(line for line in right.lines if line.get_label() == "large")
    np.testing.assert_array_equal(line.get_xdata(), t)
    np.testing.assert_allclose(line.get_ydata(), error)


def test_averages_have_the_range_of_the_truth(liquid: Report) -> None:
    truth = liquid["truth"].curves
    for name in ("g", "vacf", "msd"):
        low, mean, high = (truth[f"{name}{word}"][1] for word in (" low", "", " high"))
        assert (low <= mean + 1e-12).all() and (mean <= high + 1e-12).all()
    assert len(figures(liquid)["averages"][2].axes) == 3


# ---------------------------------------------------------------------------------------- command
@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    x0 = starts(md.double_well(), 1.6, 3.05, 20)
    data = md.sweep("double_well", {"x0": x0}, dt=1e-3, time=50, every=10)
    ActionAngleIntegrator(64, tolerance=1e-3).fit(data).save(folder / "learned.safetensors")
    runs = {"x0": [float(x0[3]), 2.0, 2.5]}
    md.sweep("double_well", runs, dt=1e-3, time=60, every=500, path=folder / "runs.h5")
    return folder


def test_the_command(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, numbers = tmp_path / "r.html", tmp_path / "r.json"
    model, runs = files / "learned.safetensors", files / "runs.h5"
    words = ["integrators", "report", str(model), "verlet:0.01", "--data", str(runs)]
    words += ["--interval", "1", "--out", str(out), "--json", str(numbers)]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "learned" in told.out and "verlet 0.01" in told.out
    assert "FAILED (1 of 3 were: 0)" in told.out and "... periodic" in told.err
    assert re.search(r"mean error to t = 56: true frames \| own frames", told.out)
    page = read(out)
    for file in (model, runs):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in page.text
    names = [column["name"] for column in json.loads(numbers.read_text())["columns"]]
    assert names == ["truth", "learned", "verlet 0.01", "straight flight", "periodic"]
    assert cli.main([*words[:6], "--runs", "2", "--frames", "20", "--out", str(out)]) == 0
    assert "2 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "more", "line"),
    [
        ("nosuch", [], "nosuch"),
        ("runs.h5", [], "runs.h5"),
        ("verlet:soon", [], "STEP"),
        ("verlet:-1", [], "STEP"),
        ("verlet:0.01", ["--runs", "0"], "--runs"),
        ("verlet:0.01", ["--window", "0"], "window"),
    ],
)
def test_mistakes_are_one_line(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    more: list[str],
    line: str,
) -> None:
    word = model if ":" in model else str(files / model)
    out = str(tmp_path / "r.html")
    words = ["integrators", "report", word, "--data", str(files / "runs.h5"), "--out", out, *more]
    assert cli.main(words) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("error:") and line in told[0]
    assert not Path(out).exists()
