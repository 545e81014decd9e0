"""The report is one file that needs nothing else; pictures come out whole and labelled."""

import re
from html.parser import HTMLParser

import mlcore
import numpy as np
import pytest
from mlcore.mobility import plots
from mlcore.mobility.config import Units
from mlcore.mobility.observables import Curve, DiffusionSpectrum
from mlcore.mobility.report import Number, Picture, Report, Section, Table, rounded, write_report


class Elements(HTMLParser):
    """Collects tags, checks nesting."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


UNITS = Units(length="a0", energy="kBT", time="t0")
HISTORY = [{"epoch": epoch, "loss": 1 / epoch} for epoch in (1, 2, 9)]
K = np.array([0.26, 0.37, 0.45])


def panel():
    edges = np.array([4.0, 6, 8, 12])
    r = np.array([5.0, 7, 10])
    par, error = np.array([3e-3, 2e-3, -1e-3]), np.full(3, 1e-4)
    points = plots.PairPoints("data", edges, r, par, error, par / 2, error, np.arange(3) > 0)
    lines = [plots.PairLine(role, role, r, par, par / 2) for role in ("learned", "theory")]
    return plots.PairPanel("active", "pair mobility", points, lines)


def motion():
    lags = np.array([10.0, 20.0, 40.0])
    curve = Curve(lags, 0.06 * lags, 0.001 * lags)
    waves = np.exp(-0.01 * K[:, None] ** 2 * lags)
    spectrum = DiffusionSpectrum(
        K, np.full(3, 0.01), np.full(3, 1e-3), lags, waves, 0.01 * waves, np.ones(3), (10.0, 40.0)
    )
    roles = ("data", "learned", "theory")
    named = {role: role for role in roles}
    return plots.Dynamics(
        "N12", "N = 12", named, dict.fromkeys(roles, curve), dict.fromkeys(roles, spectrum)
    )


FIGURES = {
    "pair": lambda: plots.plot_pair(panel(), UNITS),
    "motion": lambda: plots.plot_dynamics(motion(), UNITS),
    "cost": lambda: plots.plot_cost(["explicit solvent", "learned"], [0.03, 0.001], UNITS),
    "learning": lambda: plots.plot_learning(
        {"neural": [{"epoch": e, "loss": 1 / e} for e in (1, 2, 9)]}
    ),
}


@pytest.fixture
def picture(tmp_path):
    return plots.save(FIGURES["cost"](), tmp_path / "cost.png")


def render(tmp_path, **changes):
    report = Report(
        **{
            "title": "Title <b>",
            "lead": "Lead & more.",
            "numbers": [Number("self", "1.0 ± 0.1", "should be 1")],
            "sections": [],
            "provenance": {"mlcore": mlcore.__version__},
            "files": [("a.dump", "ab" * 32)],
            "configuration": 'kBT = 1 # <&>"',
        }
        | changes
    )
    return write_report(report, tmp_path / "report.html").read_text()


def test_the_report_is_self_contained_and_well_formed(tmp_path, picture):
    table = Table(["bin", "value"], [["4-5", "1"], ["5-6", "<2>"]], "a note", marked=1)
    text = render(
        tmp_path, sections=[Section("Part", "One.\n\nTwo.", [Picture(picture, "a cost")], [table])]
    )
    parser = Elements()
    parser.feed(text)
    assert parser.open == []
    assert parser.seen.count("table") == 3 and parser.seen.count("img") == 1
    assert all(link.startswith("data:image/png;base64,") for link in parser.links)
    assert "http" not in text and "prefers-color-scheme: dark" in text
    assert "Title &lt;b&gt;" in text and "&lt;2&gt;" in text and "Lead &amp; more." in text
    assert text.count('class="marked"') == 1 and mlcore.__version__ in text


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_are_written_and_not_empty(tmp_path, name):
    from matplotlib.image import imread

    image = imread(plots.save(FIGURES[name](), tmp_path / f"{name}.png"))
    assert image.shape[0] > 200 and image.shape[1] > 800
    assert 0.005 < np.mean(image[..., :3].min(axis=2) < 0.9) < 0.6


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_have_labels_with_units(name):
    for axes in FIGURES[name]().axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel() or axes.get_yticklabels()
    joined = " ".join(a.get_xlabel() + a.get_ylabel() for a in FIGURES["pair"]().axes)
    assert "10⁻³ a0²/(kBT·t0)" in joined and "distance r (a0)" in joined


def test_a_broken_picture_is_named_and_nothing_is_written(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    for path, told in ((bad, "not a PNG"), (tmp_path / "absent.png", "No such file")):
        with pytest.raises(mlcore.FileFormatError, match=told):
            render(tmp_path, sections=[Section("Part", "", [Picture(path, "")])])
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.98765, 0.0321), "0.988 ± 0.032"),
        ((11.64e-3, 0.07e-3, 1e3), "11.640 ± 0.070"),
        ((-123.4, 12.3), "−123 ± 12"),
        ((0.5,), "0.5"),
        ((0.5, float("nan")), "0.5"),
    ],
)
def test_rounding_follows_the_error(arguments, text):
    assert rounded(*arguments) == text


def test_the_template_has_no_foreign_address():
    template = mlcore.mobility.report.__file__.replace("report.py", "templates/report.html")
    assert not re.search(r"(https?:)?//", open(template).read())  # noqa: PTH123, SIM115
