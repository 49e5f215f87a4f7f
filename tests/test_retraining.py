"""Retraining: which labels count, and one run at a time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from db import batches, labels, runs, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.chains import AuditRow
from db.clock import now
from db.database import Database
from db.labels import Truth
from db.retraining import RetrainingRun
from db.runs import LeaseLost, RunFinished, RunState, RunUnfinished
from db.tables import Batch, Lane
from tests.labelled import classified, label, picture
from tests.service import until
from tests.uploading import Api
from training import harvest, lease
from training.data import Radiographs
from training.harvest import Labelled
from training.index import FROZEN_FOLD
from worker import decoder
from worker.decoders import Decoders

POSITIVE, NEGATIVE = Truth.POSITIVE, Truth.NEGATIVE


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1, seconds=20, address_space=2 << 30)
    yield made
    made.close()


def labelled(database: Database) -> list[Labelled]:
    with database.read() as session:
        return harvest.labelled(session)


def of(hospital: str, sha256: str, *, positive: bool, patient: str) -> Labelled:
    return Labelled(sha256, positive, patient, hospital, "rt_pcr")


# Which labels count


@pytest.mark.usefixtures("champion")
def test_of_labels_that_contradict_each_other_the_newest_is_trained_on(database: Database, blobs: Blobs) -> None:
    first, second = classified(database, blobs, picture(1), picture(2))
    for truth in (POSITIVE, NEGATIVE):
        label(database, first, truth, "P-1")
    label(database, second, POSITIVE)
    assert labelled(database) == [
        Labelled(first, False, labels.pseudonym("P-1"), tenancy.DEFAULT, "rt_pcr"),
        Labelled(second, True, second, tenancy.DEFAULT, "rt_pcr"),
    ]


@pytest.mark.usefixtures("champion")
def test_synthetic_purged_and_unscored_images_are_not_trained_on(database: Database, blobs: Blobs) -> None:
    for truth, sha256 in zip((POSITIVE,) * 2, classified(database, blobs, picture(1), picture(2)), strict=True):
        label(database, sha256, truth)
    with database.write() as session:
        session.execute(update(Batch).values(purged_at=now()))
    (drawn,) = classified(database, blobs, picture(3), synthetic=True)
    label(database, drawn, POSITIVE)
    with database.of(tenancy.DEFAULT).write() as session:
        sha256 = blobs.put(picture(4))
        batches.add(session, [Item("4.png", sha256, 1, "image/png")], lane=Lane.ROUTINE, actor="test")
    label(database, sha256, POSITIVE)
    assert labelled(database) == []


def test_a_new_image_never_reaches_the_frozen_fold_and_none_of_it_is_trained_on(
    radiographs: Radiographs, folder: Path, blobs: Blobs, decoders: Decoders
) -> None:
    frozen = next(entry for entry in radiographs.entries if entry.fold == FROZEN_FOLD)
    known = next(entry for entry in radiographs.entries if entry.fold == 0)
    again = blobs.put((folder / frozen.file).read_bytes() + b"other bytes, the same pixels")
    theirs, ours, other = (blobs.put(picture(seed)) for seed in (1, 2, 3))
    new = [
        of("st-anna", again, positive=True, patient="x"),
        of("st-anna", theirs, positive=True, patient=labels.pseudonym(frozen.patient)),
        of("st-anna", ours, positive=True, patient=labels.pseudonym(known.patient)),
        of("st-berta", other, positive=False, patient=labels.pseudonym("somebody")),
    ]
    together, used = harvest.joined(radiographs, new, blobs, decoders)
    assert used == new[2:]
    assert [entry.source for entry in together.entries[-2:]] == ["st-anna", "st-berta"]
    told = harvest.told(new, used)
    assert told == {
        "images": 2,
        "left_out": 2,
        "positive": 1,
        "by": {"rt_pcr": 2},
        "hospitals": {"st-anna": 1, "st-berta": 1},
    }
    assert [(entry.file, entry.positive) for entry in together.entries[-2:]] == [(ours, True), (other, False)]
    assert together.entries[-2].fold == 0
    assert [entry for entry in together.entries if entry.fold == FROZEN_FOLD] == [
        entry for entry in radiographs.entries if entry.fold == FROZEN_FOLD
    ]
    assert together.fingerprint != radiographs.fingerprint
    everybody = [
        harvest.joined(radiographs, [of("st-anna", other, positive=True, patient=str(number))], blobs, decoders)[0]
        for number in range(20)
    ]
    assert FROZEN_FOLD not in {one.entries[-1].fold for one in everybody}


def test_a_new_label_for_a_picture_of_the_base_data_replaces_the_old_one(
    radiographs: Radiographs, folder: Path, blobs: Blobs, decoders: Decoders
) -> None:
    known = next(entry for entry in radiographs.entries if entry.fold == 0)
    sha256 = blobs.put((folder / known.file).read_bytes())
    new = [of("st-anna", sha256, positive=not known.positive, patient="x")]
    together, used = harvest.joined(radiographs, new, blobs, decoders)
    assert (used, len(together.entries)) == (new, len(radiographs.entries))
    (mine,) = [entry for entry in together.entries if entry.patient == known.patient]
    assert mine.positive != known.positive
    assert (mine.fold, mine.source) == (known.fold, known.source)


def test_a_patient_is_known_by_pixels_too_and_is_in_one_fold_or_not_at_all(
    radiographs: Radiographs, folder: Path, blobs: Blobs, decoders: Decoders
) -> None:
    def of_fold(fold: int) -> str:
        known = next(entry for entry in radiographs.entries if entry.fold == fold)
        return blobs.put((folder / known.file).read_bytes())

    others = [blobs.put(picture(seed)) for seed in (1, 2, 3)]
    again = blobs.put(picture(3) + b"other bytes, the same pixels")
    new = [
        of("st-anna", others[0], positive=True, patient="P-1"),
        of("st-anna", of_fold(FROZEN_FOLD), positive=True, patient="P-1"),
        *(of("st-anna", sha256, positive=True, patient="P-2") for sha256 in (others[1], of_fold(1), of_fold(4))),
        *(of("st-anna", sha256, positive=sha256 == again, patient=sha256) for sha256 in (others[2], again)),
    ]
    together, used = harvest.joined(radiographs, new, blobs, decoders)
    assert used == [*new[2:5], new[6]], "none of the frozen fold's patient, and of the same pixels the newest label"
    assert [entry.fold for entry in together.entries[-4:-1]] == [4, 1, 4], "the base data stays where it is"
    assert together.entries[-1].positive


def test_what_a_run_began_with_is_remembered_and_damage_or_an_older_shape_counts_as_nothing(tmp_path: Path) -> None:
    path, found = tmp_path / "run" / "labels.json", [of("st-anna", "f" * 64, positive=True, patient="x")]
    assert harvest.remembered(path, found) == found
    assert harvest.remembered(path, []) == found
    whole = path.read_text()
    for older in (whole[:20], whole.replace('"by"', '"before"')):
        path.write_text(older)
        assert harvest.remembered(path, found * 2) == found * 2
        assert harvest.remembered(path, []) == found * 2


def test_a_corrupt_image_and_one_that_is_gone_are_left_out(
    radiographs: Radiographs, blobs: Blobs, decoders: Decoders
) -> None:
    whole = picture(1)
    rows = [
        of("st-anna", sha256, positive=True, patient=sha256)
        for sha256 in (blobs.put(whole), blobs.put(whole[: len(whole) // 2]), "f" * 64)
    ]
    together, used = harvest.joined(radiographs, rows, blobs, decoders)
    assert used == rows[:1]
    assert np.array_equal(together.greys[-1], decoder.decoded(whole).grey)


# One run at a time


def ask(database: Database) -> str:
    with database.write() as session:
        return runs.ask(session, RetrainingRun, actor="test").id


def claim(database: Database, *, lease_seconds: int = 60) -> RetrainingRun | None:
    with database.write() as session:
        return runs.claim(session, RetrainingRun, lease_seconds=lease_seconds, actor="t")


def test_there_is_one_unfinished_run_at_a_time(database: Database) -> None:
    first = ask(database)
    with pytest.raises(RunUnfinished, match=first):
        ask(database)
    run = claim(database)
    assert run
    assert claim(database) is None
    with database.write() as session:
        runs.finish(session, run, RunState.FAILED, actor="t", problem="it had to")
    assert ask(database) != first


def test_a_run_whose_trainer_is_silent_goes_to_another_and_the_first_is_fenced(database: Database) -> None:
    ask(database)
    first, second = claim(database, lease_seconds=-1), claim(database)
    assert first
    assert second
    assert (second.id, second.attempts) == (first.id, 2)
    with pytest.raises(LeaseLost), database.write() as session:
        runs.hold_on(session, first, lease_seconds=60, epoch=9)
    with pytest.raises(LeaseLost), database.write() as session:
        runs.finish(session, first, RunState.FAILED, actor="t", problem="late")
    with database.write() as session:
        assert not runs.hold_on(session, second, lease_seconds=60, epoch=3)
    with database.read() as session:
        run = runs.find(session, RetrainingRun, first.id)
        assert run
        assert (run.state, run.epoch) == ("running", 3)


def test_work_that_lasts_longer_than_a_lease_keeps_its_run(database: Database) -> None:
    run_id, run = ask(database), claim(database, lease_seconds=1)
    assert run
    assert run.lease_until
    ends = run.lease_until
    with lease.holding(database, run, 1, threading.Event()) as held:

        def renewed() -> bool:
            with database.read() as session:
                found = runs.find(session, RetrainingRun, run_id)
            return bool(found and found.lease_until and found.lease_until > ends)

        until(renewed, "the lease is renewed, though the work tells nothing", seconds=5)
        held.check()
        assert claim(database) is None


def test_a_run_is_cancelled_at_once_while_it_waits_and_is_told_so_while_it_runs(database: Database) -> None:
    waiting = ask(database)
    with database.write() as session:
        runs.cancel(session, RetrainingRun, waiting, actor="test")
    ask(database)
    run = claim(database)
    assert run
    with database.write() as session:
        runs.cancel(session, RetrainingRun, run.id, actor="test")
    with database.write() as session:
        assert runs.hold_on(session, run, lease_seconds=60)
        runs.finish(session, run, RunState.CANCELLED, actor="t")
    with pytest.raises(RunFinished), database.write() as session:
        runs.cancel(session, RetrainingRun, waiting, actor="test")
    with database.read() as session:
        assert [run.state for run in runs.newest(session, RetrainingRun, limit=9)] == ["cancelled", "cancelled"]
        told = session.scalars(select(AuditRow.action).where(AuditRow.action.like("retraining.%"))).all()
    assert told.count("retraining.cancelled") == 2


def test_the_same_over_http(api: Api) -> None:
    def call(path: str = "", **more: Any) -> Any:
        return api.client.open(f"/v1/retraining-runs{path}", **more)

    asked = call(method="POST")
    run_id = asked.json["id"]
    assert (asked.status_code, asked.headers["Location"]) == (202, f"/v1/retraining-runs/{run_id}")
    again = call(method="POST")
    assert (again.status_code, again.json["code"], again.json["run"]) == (409, "retraining_unfinished", run_id)
    assert call(f"/{run_id}").json["state"] == "queued"
    assert call(f"/{run_id}/cancel", method="POST").json["state"] == "cancelled"
    assert call(f"/{run_id}/cancel", method="POST").json["code"] == "retraining_finished"
    assert [run["id"] for run in call().json["data"]] == [run_id]
    for path, method in (("/retraining_0", "GET"), ("/retraining_0/cancel", "POST")):
        assert call(path, method=method).json["code"] == "retraining_unknown"
