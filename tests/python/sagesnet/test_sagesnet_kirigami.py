"""Sheets with cuts: patterns, the labelled set's files, the scalar head and the search."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.sagesnet import SagesNet
from mlcore.sagesnet.kirigami import head, labelled, sheet
from mlcore.sagesnet.kirigami.head import OPTIONS, Ensemble, StrainHead, fit_strain, scores
from mlcore.sagesnet.kirigami.labelled import read_labelled
from mlcore.sagesnet.kirigami.lattice import SheetLattice
from mlcore.sagesnet.kirigami.search import (
    Label,
    SearchOptions,
    ensemble_surrogate,
    plot,
    search,
)
from mlcore.sagesnet.lattice import DenseLattice

BESIDE = Path(__file__).parents[4] / "shared" / "data" / "kirigami"
FOLDER = Path(os.environ.get("MLCORE_KIRIGAMI", BESIDE))
needs_data = pytest.mark.skipif(
    not (FOLDER / labelled.STRAINS).exists(),
    reason=f"no labelled set in {FOLDER} (it is not shipped; MLCORE_KIRIGAMI names its folder)",
)
SMALL = {"channels": 12, "layers": 1, "width": 16}


def formula(cuts: np.ndarray) -> np.ndarray:
    """A strain of our own making: overlap of cuts in neighbouring rows, and a free edge."""
    covered = sheet.coverage(cuts).astype(float)
    overlap = (covered * np.roll(covered, 1, axis=1)).mean(axis=(1, 2))
    edge = covered[:, :, :5].mean(axis=(1, 2))
    return 5 + 20 * overlap + 10 * edge**2


def drawn(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, sheet.KINDS, (n, 4))


# ------------------------------------------------------------------------------------- patterns
def test_as_much_is_covered_as_is_cut_and_cuts_wrap() -> None:
    covered = sheet.coverage(np.array([[0, 1, 5, 12]]))[0]
    width = 4 * (sheet.PLACES[1] - sheet.PLACES[0]) / sheet.COLUMNS
    assert covered.sum(axis=1) * width == pytest.approx([0, 60, 100, 140], abs=1e-3)
    assert covered[3, 0] == 1 and covered[3, -1] == 1 and covered[3, 12] == 0
    assert covered[1, 2] == pytest.approx(0.5, abs=1e-3)


def test_partners_are_one_sheet_and_others_are_not() -> None:
    cuts = drawn(50, 0)
    keys = sheet.canonical(cuts)
    for k in range(8):
        assert np.array_equal(sheet.canonical(sheet.partners(cuts)[:, k]), keys)
    everything = sheet.all_patterns()
    assert everything.shape == (13**4, 4)
    assert len(np.unique(sheet.canonical(everything))) == 4186


@pytest.mark.parametrize("wrong", [[[0, 1, 2]], [[0, 1, 2, 13]], [[-1, 0, 0, 0]], [[0.5, 0, 0, 0]]])
def test_what_is_no_pattern_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(InvalidArgument, match="cuts"):
        sheet.coverage(np.array(wrong))


@pytest.mark.parametrize("extents", [(4, 4, 1), (3, 2, 4), (1, 1, 5), (4, 20, 1)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_the_lattice_of_sheets_scatters_as_others_do(
    extents: tuple[int, int, int], kernel: int
) -> None:
    torch.manual_seed(0)
    values = torch.randn(3, *extents, 4, dtype=torch.float64)
    weight = torch.randn(4, 5, kernel, kernel, kernel, dtype=torch.float64)
    ours, other = (L(extents).scatter(values, weight) for L in (SheetLattice, DenseLattice))
    torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)


# ----------------------------------------------------------------------------------------- files
def _lines() -> tuple[list[str], list[str]]:
    def cut(kind: int) -> str:
        if kind == 0:
            return "(0.0, 0.0)"
        return f"({sheet.PLACES[(kind - 1) // 3]}, {sheet.LENGTHS[(kind - 1) % 3]})"

    patterns = [
        f"{k}, ({', '.join(map(cut, row))})" for k, row in enumerate(sheet.all_patterns(), 1)
    ]
    strains = [f"{k}\t200.0\t{200 + k / 1000}\t{k / 100}" for k in range(1, len(patterns) + 1)]
    return ["## header", *patterns], ["## header", *strains]


def _write(folder: Path, patterns: list[str], strains: list[str]) -> None:
    (folder / labelled.PATTERNS).write_text("\n".join(patterns) + "\n")
    (folder / labelled.STRAINS).write_text("\n".join(strains) + "\n")


def test_files_of_the_set_s_form_are_read_where_others_than_the_known_are_allowed(
    tmp_path: Path,
) -> None:
    _write(tmp_path, *_lines())
    read = read_labelled(tmp_path, known=False)
    assert len(read) == 13**4 and np.array_equal(read.cuts, sheet.all_patterns())
    assert read.strain[999] == pytest.approx(0.5) and read.stress[999] == 10.0
    with pytest.raises(FileFormatError, match="SHA-256"):
        read_labelled(tmp_path)


@pytest.mark.parametrize(
    ("which", "line", "text", "message"),
    [
        (0, 3, "3, ((0.0, 0.0), (0.0, 0.0))", "line 4: not an id and 4 cuts"),
        (0, 2, "2, ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (25.0, 60.0))", "line 3: no cut"),
        (0, 2, "7, ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))", "id must be 2"),
        (0, 2, "2, ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))", "in order"),
        (1, 5, "5 200.0 nan 1.0", "line 6: not an id and three numbers"),
        (1, 5, "5 200.0 x 1.0", "line 6"),
        (1, 5, "5 200.0 199.0 1.0", "0 < initial <= broken"),
        (1, 5, "", "id must be 5"),
    ],
)
def test_damaged_files_are_refused_by_line(
    tmp_path: Path, which: int, line: int, text: str, message: str
) -> None:
    files = _lines()
    files[which][line] = text
    _write(tmp_path, *files)
    with pytest.raises(FileFormatError, match=message):
        read_labelled(tmp_path, known=False)


@needs_data
def test_the_labelled_set_is_what_its_readme_says() -> None:
    read = read_labelled(FOLDER)
    assert len(read) == 28561
    assert read.strain.mean() == pytest.approx(9.58, abs=0.005)
    assert read.strain.std() == pytest.approx(4.24, abs=0.005)
    assert read.strain.argmax() + 1 == 13854 and read.strain.max() == pytest.approx(39.40, abs=5e-3)


# ------------------------------------------------------------------------------------------ head
def test_partners_have_one_strain_and_a_shift_along_rows_another() -> None:
    torch.manual_seed(0)
    head = StrainHead(**SMALL).double()
    for layer in head.net.predictors[1].layers:  # an untrained update is zero
        torch.nn.init.normal_(layer.update.weight, std=0.3)
    cuts = drawn(4, 1) % 12 + 1
    with torch.no_grad():
        told = head(torch.from_numpy(sheet.coverage(sheet.partners(cuts).reshape(-1, 4))).double())
        shifted = head(torch.from_numpy(np.roll(sheet.coverage(cuts), 5, axis=2)).double())
    told = told.reshape(4, 8)
    assert float((told - told[:, :1]).abs().max()) < 1e-12
    assert float((shifted - told[:, 0]).abs().max()) > 1e-4


def test_a_head_learns_a_formula_from_few_labels() -> None:
    cuts, unseen = drawn(300, 2), drawn(500, 3)
    options = dataclasses.replace(OPTIONS, epochs=10)
    made = fit_strain(cuts, formula(cuts), members=2, head=SMALL, options=options, seed=1)
    mean, spread = made.predict(unseen)
    assert scores(mean, formula(unseen)).r2 > 0.6
    assert spread.shape == (500,) and (spread >= 0).all() and spread.max() > 0
    again = fit_strain(cuts, formula(cuts), members=2, head=SMALL, options=options, seed=1)
    assert np.array_equal(again.predict(unseen)[0], mean)


def test_the_net_below_a_head_is_saved_as_others_are(tmp_path: Path) -> None:
    net = StrainHead(**SMALL).net
    net.save(tmp_path / "net")
    state = torch.from_numpy(sheet.coverage(drawn(2, 7)))[..., None]
    loaded = SagesNet.load(tmp_path / "net")
    assert torch.equal(loaded.encode([state], 1).h, net.encode([state], 1).h)
    assert torch.equal(loaded.step(state), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strain": np.zeros(19)}, "strain"),
        ({"strain": np.full(20, np.nan)}, "strain"),
        ({"members": 0}, "members"),
        ({"held_out": 0.001}, "held_out"),
    ],
)
def test_bad_labels_are_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"cuts": drawn(20, 0), "strain": np.ones(20)} | change
    with pytest.raises(InvalidArgument, match=message):
        fit_strain(**given)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- search
def knows(cuts: np.ndarray, strain: np.ndarray, asked: np.ndarray, seed: int) -> object:
    """A surrogate that is right but for what noise the seed makes."""
    noise = np.random.default_rng(seed).normal(0, 0.2, len(asked))
    return formula(asked) + noise, np.ones(len(asked))


def test_a_search_finds_the_best_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pool = np.unique(drawn(2000, 4), axis=0)
    truth = formula(pool)
    options = SearchOptions(rounds=4, per_round=50)
    asked: list[int] = []

    def label(cuts: np.ndarray) -> np.ndarray:
        asked.append(len(cuts))
        return formula(cuts)

    whole = search(pool, label, None, options=options, surrogate=knows)
    assert asked == [50] * 4 and len(np.unique(whole.chosen)) == 200
    assert whole.best()[-1] == truth.max() and whole.found(truth, 50)[-1] >= 40
    assert np.array_equal(whole.strain, truth[whole.chosen])

    def fails(cuts: np.ndarray) -> np.ndarray:
        if len(asked) == 6:
            raise RuntimeError("out of time")
        return label(cuts)

    with pytest.raises(RuntimeError):
        search(pool, fails, tmp_path, options=options, surrogate=knows)
    assert len(list(tmp_path.glob("round_*.json"))) == 2
    resumed = search(pool, label, tmp_path, options=options, surrogate=knows)
    assert len(asked) == 8
    assert np.array_equal(resumed.chosen, whole.chosen)
    plot({"knows": [whole, resumed]}, truth, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 1000


def test_a_search_by_heads_beats_chance() -> None:
    pool = np.unique(drawn(1500, 5), axis=0)
    truth = formula(pool)
    heads = ensemble_surrogate(2, dataclasses.replace(OPTIONS, epochs=15), SMALL)
    run = search(pool, formula, options=SearchOptions(rounds=3, per_round=60), surrogate=heads)
    assert run.found(truth, 50)[-1] >= 3 * 50 * 180 / len(pool)


def test_a_folder_of_another_search_or_damaged_is_refused(tmp_path: Path) -> None:
    pool = np.unique(drawn(200, 6), axis=0)
    options = SearchOptions(rounds=2, per_round=10)
    search(pool, formula, tmp_path, options=options, surrogate=knows)
    with pytest.raises(Error, match="another pool or other settings"):
        search(pool, formula, tmp_path, options=SearchOptions(2, 11), surrogate=knows)
    path = tmp_path / "round_002.json"
    path.write_text((tmp_path / "round_001.json").read_text())
    with pytest.raises(FileFormatError, match="chosen once"):
        search(pool, formula, tmp_path, options=options, surrogate=knows)
    path.write_text('{"chosen": [1]}')
    with pytest.raises(FileFormatError, match="round_002"):
        search(pool, formula, tmp_path, options=options, surrogate=knows)
    with pytest.raises(InvalidArgument, match="pool"):
        search(pool, formula, options=SearchOptions(10, 100), surrogate=knows)
    with pytest.raises(InvalidArgument, match="label"):
        search(pool, lambda cuts: cuts, options=options, surrogate=knows)


# ----------------------------------------------------------------------------------------- files
@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    cuts = drawn(60, 8)
    options = dataclasses.replace(OPTIONS, epochs=2)
    return fit_strain(cuts, formula(cuts), members=2, head=SMALL, options=options)


def test_an_ensemble_is_loaded_equal_to_the_bit(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path / "heads", training={"epochs": 2})
    again = Ensemble.load(tmp_path / "heads")
    unseen = drawn(200, 9)
    assert np.array_equal(again.members(unseen), ensemble.members(unseen))
    assert np.ptp(ensemble.members(unseen), axis=0).min() > 0
    assert again.results == ensemble.results and len(again.results[1].history) == 2
    for one, other in zip(ensemble.heads, again.heads, strict=True):
        assert one.arguments == other.arguments and not other.training
        assert all(torch.equal(a, other.state_dict()[k]) for k, a in one.state_dict().items())
    Ensemble(ensemble.heads[:1]).save(tmp_path / "heads")
    assert Ensemble.load(tmp_path / "heads").predict(unseen)[1].max() == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("manifest.json", '"members": 2', '"members": 3', "not those of 3 heads"),
        ("manifest.json", '"members": 2', '"members": 0', "heads.members"),
        ("manifest.json", '"width": 16', '"width": 17', "is of shape"),
        ("manifest.json", '"width": 16', '"width": 99999999', "at most 1000"),
        ("manifest.json", '"width": 16', '"deep": 16', "heads.width is missing"),
        ("manifest.json", "strain heads", "sagesnet", "field kind"),
        ("manifest.json", '"heads": {', '"heads": [', "JSON"),
        ("results.json", '"best"', '"worst"', "list of objects"),
        ("results.json", "[", "{", "results.json"),
        ("weights.safetensors", "heads.0", "heads.9", "sha256"),
    ],
)
def test_damaged_ensembles_are_refused(
    ensemble: Ensemble, tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    ensemble.save(tmp_path / "heads")
    path = tmp_path / "heads" / file
    assert old.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(FileFormatError, match=message):
        Ensemble.load(tmp_path / "heads")


def test_what_is_no_ensemble_is_neither_written_nor_read(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="one or more"):
        Ensemble([]).save(tmp_path / "none")
    with pytest.raises(InvalidArgument, match="equal shape"):
        Ensemble([ensemble.heads[0], StrainHead(8, 1, 16)]).save(tmp_path / "none")
    with pytest.raises(FileFormatError, match="no bundle|not a bundle"):
        Ensemble.load(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(Error, match="other content"):
        ensemble.save(tmp_path / "other")


def test_a_search_taken_up_again_trains_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops among the labels of its second round; trainings are counted, not replaced."""
    pool = np.unique(drawn(200, 6), axis=0)
    trained, labelled = [], []
    monkeypatch.setattr(
        head, "fit_strain", lambda *a, **k: trained.append(1) or fit_strain(*a, **k)
    )
    options = SearchOptions(rounds=2, per_round=20)
    training = dataclasses.replace(OPTIONS, epochs=2)

    def run(folder: Path, label: Label, kept: Path) -> np.ndarray:
        ask = ensemble_surrogate(2, training, SMALL, kept)
        return search(pool, label, folder, options=options, surrogate=ask).chosen

    def fails(cuts: np.ndarray) -> np.ndarray:
        labelled.append(len(cuts))
        if len(labelled) == 2:
            raise RuntimeError("the machine went down")
        return formula(cuts)

    with pytest.raises(RuntimeError):
        run(tmp_path / "rounds", fails, tmp_path / "kept")
    assert len(trained) == 1
    chosen = run(tmp_path / "rounds", formula, tmp_path / "kept")
    assert len(trained) == 1
    # without what was kept, or with other labels, it is trained, and the first chooses the same
    assert np.array_equal(run(tmp_path / "anew", formula, tmp_path / "elsewhere"), chosen)
    assert len(trained) == 2
    run(tmp_path / "others", lambda cuts: -formula(cuts), tmp_path / "kept")
    assert len(trained) == 3
    assert len(Ensemble.load(tmp_path / "kept" / "ensemble_2").heads) == 2
