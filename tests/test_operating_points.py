"""A hospital's own operating point: chosen on its own labels, in force there and nowhere else."""

import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, text, update

import up
from db import batches, labels, operating_points, queue, registry, tenancy, tenants
from db.batches import Item
from db.blobs import Blobs
from db.chains import AuditRow
from db.clock import now
from db.database import Database
from db.labels import Given, Source, Truth
from db.queue import Finding
from db.tables import Label, Lane, Model, Result
from settings import Settings
from tests import postgres
from tests.recalling import Recalled, classified, recalled
from training.points import LEAST
from worker.models import Models

__all__ = ["classified", "recalled"]

OTHER = "st-anna"


@pytest.fixture
def hospital(recalled: Recalled) -> Recalled:
    with recalled.database.write() as session:
        tenants.add(session, OTHER, actor="test")
    return recalled


def scored(
    recalled: Recalled,
    *,
    positives: int = LEAST,
    negatives: int = LEAST,
    first: int = 0,
    patients: int = 0,
    synthetic: bool = False,
) -> None:
    """Labelled results of as many patients: the negatives from 0.1 to 0.5, the positives from 0.4 to 0.9.

    Pictures are numbered from `first` on, patients from `patients` on.
    """
    version = recalled.shipped
    scores = [*np.linspace(0.1, 0.5, negatives), *np.linspace(0.4, 0.9, positives)]
    sha256s = [f"{first + number:064x}" for number in range(len(scores))]
    with recalled.database.of(tenancy.DEFAULT).write() as session:
        items = [Item(f"{sha256}.png", sha256, 1, "image/png") for sha256 in sha256s]
        batches.add(session, items, lane=Lane.ROUTINE, actor="test", synthetic=synthetic)
    with recalled.database.write() as session:
        claim = queue.claim(session, Lane.ROUTINE, 1000, lease_seconds=60, alone=False)
        assert claim
        weights = session.get_one(Model, version).weights_sha256
        found = [
            Finding(image, None, weights, "", score, score, 0.03, Label.POSITIVE, (), 0, 0)
            for image, score in zip(claim.images, map(float, scores), strict=True)
        ]
        queue.finish(session, claim, found, [], worker="test")
    truths = [Truth.NEGATIVE] * negatives + [Truth.POSITIVE] * positives
    with recalled.database.of(tenancy.DEFAULT).write() as session:
        rows = [
            Given(truth, Source.RT_PCR, "laboratory", image_sha256=sha256, patient=f"P{patients + number}")
            for number, (sha256, truth) in enumerate(zip(sha256s, truths, strict=True))
        ]
        assert all(kept.label for kept in labels.give(session, rows, actor="test"))


def point_at(database: Database, version: str, tenant: str) -> tuple[float, tuple[float, float]] | None:
    with database.read() as session:
        return operating_points.holding(session, version, [tenant]).get(tenant)


def test_it_is_chosen_for_the_stated_sensitivity_and_stands_in_the_audit(hospital: Recalled) -> None:
    scored(hospital)
    told = hospital.told("operating-point", "--sensitivity", "0.9", "--specificity", "0.9")
    positives, negatives = np.linspace(0.4, 0.9, LEAST), np.linspace(0.1, 0.5, LEAST)
    assert (positives >= told["threshold"]).mean() == pytest.approx(0.9)
    assert told["band_low"] <= told["threshold"] <= told["band_high"]
    assert (negatives < told["band_high"]).mean() >= 0.9
    assert (told["images"], told["positives"]) == (2 * LEAST, LEAST)
    with hospital.database.of(tenancy.DEFAULT).read() as session:
        row = session.scalars(select(AuditRow).where(AuditRow.action == "model.operating_point")).one()
    assert row.subject == hospital.shipped
    assert row.actor.startswith("cli:")


def test_workers_decide_by_it_at_that_hospital_and_nowhere_else(hospital: Recalled) -> None:
    before = hospital.lines()
    with hospital.database.write() as session:
        operating_points.put(session, hospital.shipped, OTHER, (0.02, (0.01, 0.02)), on={}, actor="test")
        operating_points.put(session, hospital.shipped, tenancy.DEFAULT, (1.0, (0.0, 1.0)), on={}, actor="test")
    hospital.batch_id = hospital.submit()
    after = hospital.lines()
    assert {line.label for line in before} >= {"positive"}
    assert {line.label for line in after} == {"inconclusive"}
    assert [line.probability for line in after] == [line.probability for line in before]
    assert {line.threshold for line in after if line.probability is not None} == {1.0}
    with hospital.database.read() as session:
        kept = {row.threshold for row in session.scalars(select(Result).where(Result.batch_id != hospital.batch_id))}
    assert kept == {0.03}, "results that were there stay"


def test_what_was_predicted_outlives_an_outage_of_the_database(tmp_path: Path) -> None:
    with postgres.own() as server:
        settings = Settings.from_environment({"CXR_HOME": str(tmp_path), "DATABASE_URL": server.database()})
        up.bring_up_to_date(settings)
        database = Database(settings.database_url)
        with database.read() as session:
            champion = registry.champion(session).version
        models = Models(database, Blobs(settings.blobs), batch_size=1)
        own = models.get(champion).decision
        server.stop(signal.SIGQUIT)
        threading.Timer(1, server.start).start()
        assert models.decisions(champion, [tenancy.DEFAULT]) == {tenancy.DEFAULT: own}
        database.close()


def test_results_are_confirmed_by_the_point_that_held_when_they_were_made(hospital: Recalled) -> None:
    for threshold in (1.0, 0.5):
        with hospital.database.write() as session:
            point = (threshold, (0.0, 1.0))
            operating_points.put(session, hospital.shipped, tenancy.DEFAULT, point, on={}, actor="test")
        hospital.batch_id = hospital.submit()
        hospital_line = next(line for line in hospital.lines() if line.probability is not None)
        assert hospital.told("verify", str(hospital_line.result_id))["confirmed"] is True
    hospital.told("operating-point", "--reset")
    assert hospital.told("verify", str(hospital_line.result_id))["confirmed"] is True
    with hospital.database.write() as session:
        session.execute(text("UPDATE results SET threshold = 0.7 WHERE id = :id"), {"id": hospital_line.result_id})
    assert "the threshold and band: kept (0.7" in hospital.run("verify", str(hospital_line.result_id)).stdout


def test_reset_puts_the_versions_own_back(hospital: Recalled) -> None:
    scored(hospital)
    assert hospital.told("operating-point")["own"] is True
    assert point_at(hospital.database, hospital.shipped, tenancy.DEFAULT)
    assert point_at(hospital.database, hospital.shipped, OTHER) is None
    told = hospital.told("operating-point", "--reset")
    assert (told["own"], told["threshold"]) == (False, 0.03)
    assert point_at(hospital.database, hospital.shipped, tenancy.DEFAULT) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--site", "nowhere"], "there is no tenant nowhere"),
        (["--model", "cnn-none"], "cnn-none"),
        (["--site", OTHER], "0 positive and 0 negative patients"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_changes_nothing(hospital: Recalled, words: list[str], said: str) -> None:
    scored(hospital)
    answer = hospital.run("operating-point", *words)
    assert (answer.exit_code != 0, said in answer.stderr) == (True, True)
    with hospital.database.read() as session:
        assert session.scalars(select(operating_points.OperatingPoint)).all() == []


def test_too_few_patients_are_not_chosen_on(hospital: Recalled) -> None:
    scored(hospital, positives=LEAST - 1)
    answer = hospital.run("operating-point")
    assert f"{LEAST - 1} positive and {LEAST} negative patients" in answer.stderr


def test_synthetic_images_do_not_count(hospital: Recalled) -> None:
    scored(hospital, synthetic=True)
    assert "0 positive and 0 negative" in hospital.run("operating-point").stderr


@pytest.mark.parametrize(("first", "patients", "said"), [(0, 1000, "0 positive and 0"), (1000, 0, "0 positive and 0")])
def test_pictures_and_patients_that_the_version_may_have_been_trained_on_do_not_count(
    hospital: Recalled, first: int, patients: int, said: str
) -> None:
    """The same pictures once more, and other pictures of the same patients, of which labels came before the version."""
    scored(hospital)
    with hospital.database.write() as session:
        session.execute(update(Model).values(registered_at=now()))
    scored(hospital, first=first, patients=patients)
    assert said in hospital.run("operating-point").stderr


def test_other_pictures_of_other_patients_count(hospital: Recalled) -> None:
    scored(hospital)
    with hospital.database.write() as session:
        session.execute(update(Model).values(registered_at=now()))
    scored(hospital, first=1000, patients=1000)
    assert hospital.told("operating-point")["images"] == 2 * LEAST
