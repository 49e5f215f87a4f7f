"""The whole line, from HTTP to SQL, with real processes."""

import csv
import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from PIL import Image
from sqlalchemy import select

import up
from db import keys
from db.chains import AuditRow
from db.database import Database
from db.heartbeats import Worker
from db.tables import ImageState, Outcome, Result
from settings import Settings
from tests.pictures import saved
from tests.service import Service, free_port, until, zipped
from training.phantoms import phantom
from up import StartFailed
from worker.decision import Decision

Radiograph = Callable[[int], bytes]


def test_a_corrupt_image_fails_alone(service: Service, radiograph: Radiograph) -> None:
    whole = radiograph(1)
    lines = service.wait(service.submit({"a.png": whole, "b.png": whole[: len(whole) // 2], "c.txt": b"no image"}))
    assert [(line.state, line.code) for line in lines] == [
        (ImageState.CLASSIFIED, None),
        (ImageState.REJECTED, "truncated"),
        (ImageState.REJECTED, "unsupported_type"),
    ]


def test_a_result_says_who_made_it_from_what(service: Service) -> None:
    data = saved(Image.fromarray(phantom(2)))
    (line,) = service.wait(service.submit({"a.png": data}))
    with service.database.read() as session:
        result = session.get_one(Result, line.result_id)
    assert result.image_sha256 == hashlib.sha256(data).hexdigest()
    assert result.model_version == service.progress(result.batch_id).model_version
    assert result.probability is not None
    assert 0 <= result.probability <= 1
    band = (result.band_low, result.band_high)
    stored = Decision(result.threshold, 1, 0, None if None in band else band)  # type: ignore[arg-type]
    assert result.label == stored.label(result.probability)
    assert (result.preprocessing, len(result.weights_sha256)) == ("lungs128-1", 64)


def test_every_image_of_a_night_is_answered_once(service: Service, radiograph: Radiograph) -> None:
    files = {f"night/{number}.png": radiograph(number) for number in range(300)}
    batch_id = service.submit(files)
    lines = service.wait(batch_id)
    assert [line.custom_id for line in lines] == list(files)
    assert service.progress(batch_id).outcome == Outcome.ALL_CLASSIFIED
    with service.database.read() as session:
        subjects = session.scalars(select(AuditRow.subject).where(AuditRow.batch_id == batch_id)).all()
    assert len(subjects) == len(set(subjects)) + 1 == 302  # the batch itself twice: submitted and completed
    assert service.audit().problem is None


def test_a_zip_is_a_batch(service: Service, radiograph: Radiograph) -> None:
    body = zipped({"x/1.png": radiograph(3), "x/2.png": radiograph(4)})
    answer = service.http.post("/v1/batches", content=body, headers={"Content-Type": "application/zip"})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/batches/{answer.json()['id']}"
    assert [line.custom_id for line in service.wait(answer.json()["id"])] == ["x/1.png", "x/2.png"]


def test_urgent_overtakes_routine(service: Service, radiograph: Radiograph) -> None:
    routine = service.submit({f"{number}.png": radiograph(number) for number in range(400)})
    urgent = service.submit({"urgent.png": radiograph(1)}, lane="urgent")
    service.wait(urgent)
    service.wait(routine)
    first, last = service.progress(urgent).finished_at, service.progress(routine).finished_at
    assert first is not None
    assert last is not None
    assert first < last


def test_results_come_as_csv_and_json(service: Service) -> None:
    batch_id = service.submit({"=1+1.png": saved(Image.fromarray(phantom(5))), "b.png": b"no image"})
    service.wait(batch_id)
    path = f"/v1/batches/{batch_id}/results"
    answer = service.http.get(path, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    first = ["custom_id", "state", "code", "label", "probability", "model_version", "sha256", "reasons"]
    decided = ["threshold", "band_low", "band_high"]
    assert set(rows[0]) >= {*first, *decided}
    assert list(rows[0])[: len(first)] == first, "a new column comes last"
    assert rows[0]["custom_id"] == "'=1+1.png"  # else a spreadsheet runs it
    assert (rows[1]["code"], rows[1]["label"], rows[1]["probability"]) == ("unsupported_type", "", "")
    told = service.http.get(path).json()
    assert told["data"][0]["probability"] == pytest.approx(float(rows[0]["probability"]), abs=1e-6)
    assert "not a medical device" in told["batch"]["notice"]
    assert service.http.get(f"{path}.csv").text == answer.text
    assert service.http.get(f"{path}.json").json() == told
    assert service.http.get(path, headers={"Accept": "image/png"}).status_code == 406


def test_the_pages_show_the_batch(service: Service, radiograph: Radiograph) -> None:
    batch_id = service.submit({"<script>alert(1)</script>.png": radiograph(6)})
    service.wait(batch_id)
    start, page = service.http.get("/"), service.http.get(f"/batches/{batch_id}")
    assert f"/batches/{batch_id}" in start.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script>alert" not in page.text
    assert "not a medical device" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_page_of_another_site_cannot_submit(service: Service, radiograph: Radiograph) -> None:
    files = {"images": ("a.png", radiograph(1))}
    answer = service.http.post("/v1/batches", files=files, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


@pytest.mark.long
def test_two_instances_with_different_homes_do_not_disturb_each_other(
    service: Service, radiograph: Radiograph, tmp_path: Path
) -> None:
    settings = Settings.from_environment({"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port())})
    up.bring_up_to_date(settings)
    with Service.started(settings) as other:
        batch_id = other.submit({"a.png": radiograph(1)})
        other.wait(batch_id)
        assert service.http.get(f"/v1/batches/{batch_id}").status_code == 404
    assert service.http.get("/readyz").status_code == 200


def test_a_second_instance_of_the_same_home_is_refused(service: Service) -> None:
    with pytest.raises(StartFailed, match="already runs"), Service.started(service.settings):
        pass
    other_home = replace(service.settings, home=service.settings.home / "other")
    with pytest.raises(StartFailed, match="CXR_PORT"), Service.started(other_home):
        pass
    assert service.http.get("/readyz").status_code == 200


@dataclass(frozen=True)
class Start:
    """What one `cxr up` wrote for scripts and for people, what it started, and how many workers its database knew of."""

    told: str
    said: list[str]
    processes: list[psutil.Process]
    workers: int


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("started")


@pytest.fixture(scope="module")
def first(home: Path) -> Start:
    """The home's first start, stopped by SIGTERM."""
    return _started(home)


def test_sigterm_ends_every_process(first: Start) -> None:
    assert first.told.startswith("ready: http://127.0.0.1:")
    assert len(first.processes) >= 6  # Valkey, gunicorn and its worker, beat, the worker and its decoders
    until(lambda: not any(process.is_running() for process in first.processes), "no process is left", seconds=10)


@pytest.mark.long
def test_the_first_start_alone_shows_the_key(first: Start, home: Path) -> None:
    key = (home / "key").read_text().strip()
    assert [any(key in line for line in start.said) for start in (first, _started(home))] == [True, False]


def test_the_key_that_is_shown_can_be_read_by_its_owner_alone(first: Start, home: Path) -> None:
    kept = home / "key"
    key = kept.read_text().strip()
    assert [line.split()[-1] for line in first.said if line.startswith("admin key")] == [key]
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(_database(home)) as database, database.write() as session:
        assert keys.caller(session, key).scopes == frozenset(keys.Scope)


def test_a_stopped_worker_takes_its_leave(first: Start, home: Path) -> None:
    assert first.workers == 1
    assert _workers(home) == 0


def _started(home: Path) -> Start:
    """Start it, look at it once it serves, and stop it."""
    said = []
    command = [str(Path(sys.executable).with_name("cxr")), "up"]
    place = {"CXR_HOME": str(home), "CXR_PORT": str(free_port())}
    with subprocess.Popen(
        command, env=os.environ | place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout
        assert started.stderr
        for line in started.stderr:
            said.append(line)
            if "Ctrl-C stops" in line:
                processes = psutil.Process(started.pid).children(recursive=True)
                workers = _workers(home)
                started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 0
        return Start(started.stdout.read(), said, processes, workers)


def _database(home: Path) -> Database:
    return Database(f"sqlite:///{home / 'cxr.db'}")


def _workers(home: Path) -> int:
    with closing(_database(home)) as database, database.read() as session:
        return len(session.scalars(select(Worker.id)).all())
