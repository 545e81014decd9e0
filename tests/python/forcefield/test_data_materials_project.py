"""The Materials Project's answers, replayed: structures, energies, provenance, and each way to fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from mlcore.errors import BackendUnavailable, Error, FileFormatError, InvalidArgument
from mlcore.forcefield.structures import Dataset, labels
from mlcore.forcefield.structures.materials_project import FIELDS, fetch

RECORDED = Path(__file__).parent / "recorded" / "materials_project_mp-149.json"
SECRET = "s3cret-key"


def answer() -> dict:
    return copy.deepcopy(json.loads(RECORDED.read_text()))


class Service:
    """Gives one answer after the other and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception | dict) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        now = self.answers.pop(0)
        if isinstance(now, Exception):
            raise now
        return httpx.Response(200, json=now) if isinstance(now, dict) else now

    def fetch(self, ids: object = "mp-149", **options: object):  # type: ignore[no-untyped-def]
        transport = httpx.MockTransport(self)
        given = {"key": SECRET, "sleep": self.slept.append, **options}
        return fetch(ids, transport=transport, **given)  # type: ignore[arg-type]


def test_silicon() -> None:
    service = Service(answer())
    group = service.fetch()
    (atoms,) = group.structures
    assert str(atoms.symbols) == "Si2"
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(2.36803, abs=1e-4)
    assert atoms.get_volume() == pytest.approx(40.8883, abs=1e-3)
    assert labels(atoms).energy == 2 * -5.423390655
    assert labels(atoms).forces is None
    assert atoms.info["material_id"] == "mp-149"
    assert atoms.info["spacegroup"] == "Fd-3m"
    (request,) = service.asked
    assert request.headers["X-API-KEY"] == SECRET
    assert request.url.host == "api.materialsproject.org"
    assert request.url.path == "/materials/summary/"
    assert request.url.params["material_ids"] == "mp-149"
    assert request.url.params["_fields"].split(",") == list(FIELDS)


def test_provenance_is_kept_on_disk_and_the_key_is_not(tmp_path: Path) -> None:
    Dataset({"mp": Service(answer()).fetch()}).save(tmp_path / "set")
    record = Dataset.load(tmp_path / "set").groups["mp"].provenance
    assert record.source == "Materials Project: mp-149"
    assert record.date == "2022-10-05"
    assert "APL Materials" in record.citation
    assert record.license == "CC BY 4.0"
    assert record.notes == ("energies: uncorrected",)
    for file in (tmp_path / "set").iterdir():
        assert SECRET not in file.read_text()


def test_corrected_energies() -> None:
    table = answer()
    table["data"][0]["energy_per_atom"] = -6.0
    group = Service(table).fetch(corrected=True)
    assert labels(group.structures[0]).energy == -12.0
    assert group.provenance.key_map == {"energy": "energy_per_atom"}


def test_many_ids_are_asked_in_pages_and_come_in_order() -> None:
    ids = [f"mp-{k}" for k in range(150)]

    class Echo(Service):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            table = answer()
            (entry,) = table["data"]
            wanted = request.url.params["material_ids"].split(",")
            table["data"] = [{**entry, "material_id": i} for i in reversed(wanted)]
            return httpx.Response(200, json=table)

    service = Echo()
    group = service.fetch([*ids, "mp-3"])
    assert [a.info["material_id"] for a in group.structures] == ids
    assert len(service.asked) == 2


def test_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "from-outside")
    service = Service(answer())
    service.fetch(key=None)
    assert service.asked[0].headers["X-API-KEY"] == "from-outside"
    for wrong in ("", "two\nlines"):
        monkeypatch.setenv("MP_API_KEY", wrong)
        with pytest.raises(InvalidArgument, match="set MP_API_KEY"):
            Service().fetch(key=None)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            401,
            {"message": "No API key found in request"},
            InvalidArgument,
            "key: .*401.*No API key",
        ),
        (403, {"message": "Forbidden"}, InvalidArgument, "key: .*refuses"),
        (
            404,
            {"detail": "Not Found"},
            BackendUnavailable,
            r"/materials/summary/ \(404\): Not Found",
        ),
        (422, {"detail": [{"msg": "bad id"}]}, InvalidArgument, "422.*bad id"),
        (418, "<html>tea\x1b[31m</html>", BackendUnavailable, r"status 418: <html>tea\[31m"),
    ],
)
def test_refusals(status: int, body: object, kind: type[Error], message: str) -> None:
    given = {"text": body} if isinstance(body, str) else {"json": body}
    service = Service(httpx.Response(status, **given))  # type: ignore[arg-type]
    with pytest.raises(kind, match=message) as caught:
        service.fetch()
    assert len(service.asked) == 1
    assert SECRET not in str(caught.value)


def test_a_busy_service_is_asked_again() -> None:
    busy = httpx.Response(429, headers={"Retry-After": "7"})
    service = Service(busy, httpx.Response(503), httpx.ConnectError("no route"), answer())
    assert len(service.fetch().structures) == 1
    assert service.slept == [7.0, 2.0, 4.0]


def test_a_service_that_stays_busy() -> None:
    service = Service(*[httpx.Response(429, headers={"Retry-After": "9999"})] * 3)
    with pytest.raises(BackendUnavailable, match=r"busy: status 429 \(3 attempts\)"):
        service.fetch(retries=2)
    assert service.slept == [60.0, 60.0]
    service = Service(*[httpx.ConnectError("no route")] * 2)
    with pytest.raises(BackendUnavailable, match="cannot be reached: ConnectError: no route"):
        service.fetch(retries=1)


@pytest.mark.parametrize("ids", ["149", "mp-149; drop", [], ["mp-1", 3], "mp-1,mp-2"])
def test_wrong_ids(ids: object) -> None:
    with pytest.raises(InvalidArgument, match="ids must be"):
        Service().fetch(ids)


def test_an_id_that_is_not_known() -> None:
    with pytest.raises(InvalidArgument, match="knows no mp-99999999"):
        Service(answer()).fetch(["mp-149", "mp-99999999"])


def _site(table: dict) -> dict:
    return table["data"][0]["structure"]["sites"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("data"), "no list `data`"),
        (lambda t: t["data"][0].pop("structure"), "structure: Field required"),
        (lambda t: _site(t).update(abc=[0, 0]), r"structure\.sites\.0\.abc"),
        (lambda t: _site(t)["species"][0].update(occu=0.5), "partly filled"),
        (lambda t: _site(t)["species"][0].update(element="Unobtainium"), "no element"),
        (
            lambda t: t["data"][0]["structure"]["lattice"].update(matrix=[[0, 0, 1]] * 3),
            "no volume",
        ),
    ],
)
def test_wrong_answers(change: Callable[[dict], object], message: str) -> None:
    table = answer()
    change(table)
    with pytest.raises(FileFormatError, match=message):
        Service(table).fetch()


def test_no_json() -> None:
    with pytest.raises(FileFormatError, match="not valid JSON"):
        Service(httpx.Response(200, text="<html>")).fetch()


def test_no_plain_http() -> None:
    with pytest.raises(InvalidArgument, match="https"):
        Service().fetch(endpoint="http://example.org")


def test_older_dates() -> None:
    table = answer()
    table["data"][0]["last_updated"] = {"$date": "2021-01-02T03:04:05"}
    assert Service(table).fetch().provenance.date == "2021-01-02"
