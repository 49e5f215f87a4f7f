"""Images and results go by a clock each, and the audit by its own; what went is 410, and written down."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import delete, func, select, update

from db import clock, queue, retention
from db.chains import AuditRow
from db.heads import Heads
from db.idempotency import IdempotencyKey
from db.identifiers import Identifiers
from db.retention import Keep
from db.slots import Slot
from db.tables import Batch, Image, Lane, Result
from tests.queueing import finding
from tests.uploading import Api, Radiograph, multipart
from worker import schedule
from worker.schedule import Clockwork


@pytest.fixture
def classified(api: Api, radiograph: Radiograph) -> Api:
    api.submit({f"{number}.png": radiograph(number) for number in range(2)})
    with api.parts.system.write() as session:
        held = queue.claim(session, Lane.ROUTINE, 2, lease_seconds=60, alone=False)
        assert held
        known = Identifiers("1.2", "1.2.3", "ACC-4711")
        queue.finish(session, held, [finding(image, known) for image in held.images], [], worker="w1")
    return api


@pytest.fixture
def batch(classified: Api) -> str:
    return classified.images()[0].batch_id


@pytest.fixture
def result(classified: Api) -> str:
    with classified.parts.system.read() as session:
        return session.scalars(select(Result.id)).first() or ""


def ended(api: Api, *, days: int) -> None:
    with api.parts.system.write() as session:
        at = clock.read(session) - timedelta(days=days)
        session.execute(update(Batch).values(finished_at=at))


def actions(api: Api) -> list[tuple[str, str]]:
    with api.parts.system.read() as session:
        return [(row.action, row.actor) for row in session.scalars(select(AuditRow).order_by(AuditRow.seq))]


def test_nothing_goes_unless_a_clock_is_set(classified: Api) -> None:
    ended(classified, days=100_000)
    system = classified.parts.system
    assert retention.purge_images(system, classified.parts.blobs, 0) == retention.purge_results(system, 0) == 0
    assert len(classified.blobs()) == 2


def test_images_go_by_their_own_clock(classified: Api, batch: str, result: str) -> None:
    ended(classified, days=29)
    system, blobs = classified.parts.system, classified.parts.blobs
    assert retention.purge_images(system, blobs, 30) == 0
    ended(classified, days=31)
    assert retention.purge_images(system, blobs, 30) == 1
    assert retention.purge_images(system, blobs, 30) == 0, "once"
    assert classified.blobs() == []
    assert ("batch.purged", "retention") in actions(classified)
    retried: Any = classified.client.post(f"/v1/batches/{batch}/retry")
    assert (retried.status_code, retried.json["code"]) == (410, "batch_purged")
    assert classified.client.get(f"/v1/results/{result}").status_code == 200, "its result has a clock of its own"


def test_the_schedule_keeps_each_as_long_as_its_setting_says(classified: Api, tmp_path: Path) -> None:
    system, blobs = classified.parts.system, classified.parts.blobs
    app = Celery("test", broker="memory://")
    schedule.register(app, Clockwork(system, blobs, Heads(tmp_path / "audit"), Keep(images=30, results=60)))
    for days, images, results in ((29, 2, 2), (31, 0, 2), (61, 0, 0)):
        ended(classified, days=days)
        with system.write() as session:
            session.execute(delete(Slot))
        app.tasks[schedule.RETIRE]()
        with system.read() as session:
            kept = session.scalars(select(func.count()).select_from(Result)).one()
        assert (len(classified.blobs()), kept) == (images, results), f"{days} days"


def test_results_go_by_their_own_clock_and_are_410_then(classified: Api, batch: str, result: str) -> None:
    ended(classified, days=31)
    assert retention.purge_results(classified.parts.system, 32) == 0
    assert retention.purge_results(classified.parts.system, 30) == 1
    assert retention.purge_results(classified.parts.system, 30) == 0, "once"
    paths = (
        f"/v1/results/{result}",
        f"/v1/results/{result}/history",
        f"/v1/results/{result}/heatmap.png",
        f"/v1/results/{result}/verifications",
        f"/v1/batches/{batch}/results",
        f"/v1/batches/{batch}/results.csv",
        f"/v1/batches/{batch}/images",
        f"/v1/batches/{batch}/images/0.png",
    )
    for path in paths:
        answer: Any = classified.client.get(path)
        assert (answer.status_code, answer.json["code"]) == (410, "results_purged"), path
    standing: Any = classified.client.get(f"/v1/batches/{batch}").json
    assert standing["results_purged_at"]
    assert standing["counts"]["classified"] == 2
    assert "results were purged" in classified.client.get(f"/batches/{batch}").text
    assert classified.client.get("/v1/results/result_0").status_code == 404, "what never was is not gone"
    assert ("results.purged", "retention") in actions(classified)
    assert retention.purge_images(classified.parts.system, classified.parts.blobs, 30) == 1
    gone: Any = classified.client.get(f"/v1/batches/{batch}")
    assert (gone.status_code, gone.json["code"]) == (410, "results_purged"), "neither images nor results are left"


def test_nothing_that_names_a_study_is_left(classified: Api) -> None:
    ended(classified, days=31)
    retention.purge_results(classified.parts.system, 30)
    with classified.parts.system.read() as session:
        assert session.scalars(select(func.count()).select_from(Result)).one() == 0
        for image in session.scalars(select(Image)):
            assert image.custom_id == f"image:{image.id}"
            assert (image.accession, image.study_uid, image.sop_uid) == (None, None, None)


def test_no_answer_that_is_kept_for_a_key_names_an_image_any_more(api: Api, radiograph: Radiograph) -> None:
    files = multipart([("fine.png", radiograph(1)), ("Mustermann.png", b"no image")])
    first = api.post(files, headers={"Idempotency-Key": "whole"})
    draft = api.client.post("/v1/batches", json={}).headers["Location"]
    api.client.put(f"{draft}/images/fine.png", data=radiograph(2))
    api.client.put(f"{draft}/images/Mustermann.png", data=b"no image")
    second = api.client.post(f"{draft}/submit", headers={"Idempotency-Key": "draft"})
    assert [("Mustermann" in answer.text, answer.status_code) for answer in (first, second)] == [(True, 202)] * 2
    for _ in range(2):
        with api.parts.system.write() as session:
            held = queue.claim(session, Lane.ROUTINE, 2, lease_seconds=60, alone=False)
            if held:
                queue.finish(session, held, [finding(image) for image in held.images], [], worker="w1")
    ended(api, days=31)
    assert retention.purge_results(api.parts.system, 30) == 2
    with api.parts.system.read() as session:
        assert list(session.scalars(select(IdempotencyKey.body))) == [None, None]
    again = [api.post(files, headers={"Idempotency-Key": "whole"}),
             api.client.post(f"{draft}/submit", headers={"Idempotency-Key": "draft"})]  # fmt: skip
    assert [answer.status_code for answer in again] == [202, 409]
    assert not any("Mustermann" in answer.text for answer in again)


def test_an_open_batch_never_goes(api: Api, radiograph: Radiograph) -> None:
    api.submit({"waits.png": radiograph(1)})
    ended(api, days=1_000)
    assert retention.purge_images(api.parts.system, api.parts.blobs, 1) == 0
    assert retention.purge_results(api.parts.system, 1) == 0
