"""Watching a model: live rates with intervals as labels come in, drift with a bound and an alarm."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import null, update

from db import batches, drift, monitoring, queue, registry, shadows, tenancy, tenants, verdicts
from db.batches import Item
from db.database import Database
from db.labels import Given, Source, Truth, give
from db.monitoring import Rate
from db.queue import Finding
from db.shadows import Seen, ShadowReport
from db.tables import Label, Lane
from settings import Settings
from tests.access import key
from tests.service import CARD
from tests.uploading import Api
from worker import drift as counting
from worker.drift import Inputs

FLAT = {"score": [10] * drift.BINS, "brightness": [0, 0, 0, 50, 50, 0, 0, 0, 0, 0]}


def classified(database: Database, labels: Sequence[Label], scores: Sequence[float], **batch: Any) -> list[str]:
    """Submit and finish one image for each label, and return their SHA-256."""
    sha256s = [f"{number:064x}" for number in range(len(labels))]
    with database.of(tenancy.DEFAULT).write() as session:
        items = [Item(sha256, sha256, 1, "image/png") for sha256 in sha256s]
        batches.add(session, items, lane=Lane.ROUTINE, actor="test", **batch)
    with database.write() as session:
        claim = queue.claim(session, Lane.ROUTINE, 1000, lease_seconds=60, alone=False)
        assert claim
        findings = [
            Finding(
                image=image,
                identifiers=None,
                weights_sha256="",
                preprocessing="",
                raw_probability=score,
                probability=score,
                threshold=0.5,
                label=label,
                reasons=(),
                decode_ms=0,
                predict_ms=0,
            )
            for image, label, score in zip(claim.images, labels, scores, strict=True)
        ]
        queue.finish(session, claim, findings, [], worker="test")
    return sha256s


def told(database: Database, sha256s: Sequence[str], truths: Sequence[Truth]) -> None:
    with database.of(tenancy.DEFAULT).write() as session:
        rows = [
            Given(truth, Source.RT_PCR, "laboratory", image_sha256=sha256)
            for sha256, truth in zip(sha256s, truths, strict=True)
        ]
        give(session, rows, actor="test")


def judged(database: Database, reference: dict[str, list[int]] = FLAT) -> None:
    with database.write() as session:
        verdicts.record(
            session,
            CARD.version,
            [],
            champion=CARD.version,
            fold_fingerprint="fold",
            golden=[],
            reference=reference,
            actor="test",
        )


def test_the_interval_is_wilsons() -> None:
    """Against the figures of Newcombe 1998, table I: 81 of 263 and 0 of 20."""
    for right, of, low, high in ((81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)):
        interval = Rate(right, of).interval
        assert interval
        assert interval == pytest.approx((low, high), abs=1e-4)
    assert (Rate(0, 0).value, Rate(0, 0).interval) == (None, None)


@pytest.mark.usefixtures("champion")
def test_the_rates_follow_the_labels_as_they_come_in(database: Database) -> None:
    said = [Label.POSITIVE, Label.POSITIVE, Label.NEGATIVE, Label.NEGATIVE, Label.INCONCLUSIVE]
    sha256s = classified(database, said, [0.9, 0.9, 0.1, 0.1, 0.5])

    def rates() -> list[tuple[int, int, int, int, int]]:
        with database.read() as session:
            found = monitoring.performance(session, CARD.version)
        return [
            (one.sensitivity.right, one.sensitivity.of, one.specificity.right, one.specificity.of, one.inconclusive)
            for one in found
        ]

    assert rates() == []
    told(database, sha256s, [Truth.POSITIVE, Truth.NEGATIVE, Truth.POSITIVE, Truth.NEGATIVE, Truth.POSITIVE])
    assert rates() == [(1, 2, 1, 2, 1)]
    told(database, [sha256s[2]], [Truth.NEGATIVE])
    assert rates() == [(1, 1, 2, 3, 1)]


@pytest.mark.usefixtures("champion")
def test_what_was_drawn_by_code_counts_nowhere(database: Database) -> None:
    judged(database)
    sha256s = classified(database, [Label.POSITIVE], [0.9], synthetic=True)
    told(database, sha256s, [Truth.POSITIVE])
    with database.read() as session:
        batch = batches.newest(session, limit=1)[0].id
    with database.write() as session:
        drift.add(session, {batch: {"brightness": [1] * drift.BINS}})
    with database.read() as session:
        assert monitoring.performance(session, CARD.version) == []
        assert {one.images for one in monitoring.drifts(session, CARD.version)} == {0}
        assert shadows.last(session, 10) == []


@pytest.mark.usefixtures("champion")
def test_a_version_is_held_against_the_training_data_on_its_card_whoever_judged_it(database: Database) -> None:
    with database.write() as session:
        registry.find(session, CARD.version).config = CARD.config | {"reference": FLAT}
    classified(database, [Label.POSITIVE] * 100, [0.95] * 100)
    with database.read() as session:
        found = {one.feature: one.alarm for one in monitoring.drifts(session, CARD.version)}
    assert found == {"score": True, "brightness": False}
    for of_the_verdict in ({"score": [0] * 9 + [10]}, {}):
        judged(database, of_the_verdict)
        with database.read() as session:
            again = {one.feature: one.alarm for one in monitoring.drifts(session, CARD.version)}
        assert again == found, "the verdict knows the base data alone, the card all that was trained on"


@pytest.mark.usefixtures("champion")
def test_scores_and_inputs_that_moved_are_an_alarm_and_the_same_as_before_is_none(database: Database) -> None:
    judged(database)
    alike = [(place + 0.5) / drift.BINS for place in range(drift.BINS)] * 10
    classified(database, [Label.POSITIVE] * 100, alike)
    with database.read() as session:
        batch = batches.newest(session, limit=1)[0].id

    def seen() -> dict[str, tuple[int, bool]]:
        with database.read() as session:
            return {one.feature: (one.images, one.alarm) for one in monitoring.drifts(session, CARD.version)}

    assert seen() == {"score": (100, False), "brightness": (0, False)}
    inputs = Inputs()
    for _ in range(2):
        inputs.add([(batch, np.full((8, 8), 90 if place % 2 else 115, np.uint8)) for place in range(50)])
        inputs.write(database)
    assert seen()["brightness"] == (100, False)
    inputs.add([(batch, np.full((8, 8), 230, np.uint8))] * 100)
    inputs.write(database)
    assert seen()["brightness"] == (200, True)


def test_the_stability_index_is_that_of_the_formula() -> None:
    same, moved = [100, 100], [150, 50]
    assert drift.stability_index(same, same) == 0
    assert drift.stability_index(same, moved) == pytest.approx(0.25 * np.log(3), rel=0.02)
    assert drift.stability_index(same, [0, 0]) is None


def test_every_level_has_its_bin() -> None:
    assert counting.counted([0.0, 0.05, 0.1, 0.999, 1.0]) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


@pytest.mark.usefixtures("champion")
def test_a_shadow_report_says_which_labels_would_change_which_way_and_where(database: Database) -> None:
    sha256s = classified(database, [Label.POSITIVE, Label.POSITIVE, Label.NEGATIVE], [0.9, 0.9, 0.1])
    with database.read() as session:
        answered = shadows.last(session, 10)
    assert [one.sha256 for one in answered] == sha256s[::-1] or {one.sha256 for one in answered} == set(sha256s)
    said = [Label.NEGATIVE if one.label == Label.POSITIVE else None for one in answered]
    with database.write() as session:
        seen = [Seen(one, label) for one, label in zip(answered, said, strict=True)]
        report = shadows.record(session, CARD.version, seen, actor="test")
    assert (report.images, report.unreadable) == (2, 1)
    flip = {"site": tenancy.DEFAULT, "source": "image/png", "before": "positive", "after": "negative", "images": 2}
    assert report.flips == [flip]


def test_the_figures_are_shown_over_http_and_as_metrics(api: Api, metrics: Callable[[], dict[str, float]]) -> None:
    database = api.parts.database
    judged(database)
    sha256s = classified(database, [Label.POSITIVE] * 150, [0.95] * 150)
    told(database, sha256s[:2], [Truth.POSITIVE, Truth.NEGATIVE])
    answer: Any = api.client.get(f"/v1/models/{CARD.version}/monitoring").json
    assert answer["performance"][0]["sensitivity"] | {"interval": None} == {
        "right": 1,
        "of": 1,
        "value": 1.0,
        "interval": None,
    }
    assert {one["feature"]: one["alarm"] for one in answer["drift"]} == {"score": True, "brightness": False}
    found = metrics()
    assert found[f'cxr_model_drift_alarm{{model="{CARD.version}",feature="score"}}'] == 1
    assert found[f'cxr_model_drift_alarm{{model="{CARD.version}",feature="brightness"}}'] == 0
    assert found[f'cxr_model_specificity{{model="{CARD.version}",site="{tenancy.DEFAULT}"}}'] == 0
    assert found["cxr_promotion_refused"] == 0
    unknown: Any = api.client.get("/v1/models/z/monitoring")
    assert unknown.json["code"] == "model_unknown"


def test_a_hospital_sees_nothing_of_anothers_images_in_the_figures_of_a_model(
    settings: Settings, migrated_url: str
) -> None:
    """What came in, its rates, its alarms, and what a challenger says of it; the counts of both are the system's."""
    api = Api(replace(settings, database_url=migrated_url))
    system = api.parts.system
    judged(system)
    theirs = key(system, tenant="other")
    sha256s = classified(system, [Label.POSITIVE] * 150, [0.95] * 150)
    told(system, sha256s[:2], [Truth.POSITIVE, Truth.NEGATIVE])
    with system.write() as session:
        batch = batches.newest(session, limit=1)[0].id
        drift.add(session, {batch: {"brightness": [0] * 9 + [150]}})
        answered = shadows.last(session, 150)
        seen = [Seen(one, Label.NEGATIVE if place else None) for place, one in enumerate(answered)]
        shadows.record(session, CARD.version, seen, actor="test")

    def figures(mine: str) -> tuple[dict[str, int], list[str], Any]:
        headers = {"Authorization": f"Bearer {mine}"}
        client = api.client.application.test_client()
        watched: Any = client.get(f"/v1/models/{CARD.version}/monitoring", headers=headers).json
        shown: Any = client.get(f"/v1/models/{CARD.version}", headers=headers).json
        alarms = re.findall('cxr_model_drift_alarm{.*"(.+)"} 1', client.get("/metrics", headers=headers).text)
        images = {one["feature"]: one["images"] for one in watched["drift"]}
        images["rates"] = sum(one["sensitivity"]["of"] + one["specificity"]["of"] for one in watched["performance"])
        shadow = shown["shadow"] and (shown["shadow"]["images"], shown["shadow"]["unreadable"])
        return images, alarms, shadow

    assert figures(key(system)) == (
        {"score": 150, "brightness": 150, "rates": 2},
        ["brightness", "score"],
        (149, 1),
    )
    assert figures(theirs) == ({"score": 0, "brightness": 0, "rates": 0}, [], None)
    with system.write() as session:
        assert sum(drift.inputs(session, CARD.version)["brightness"]) == 150
        session.execute(update(ShadowReport).values(sites=null()))
    assert figures(key(system))[2] is None, "a report from before does not say whose images it saw"
    system.close()


def test_the_same_feature_is_counted_for_each_hospital(database: Database, champion: registry.Card) -> None:
    assert champion
    with database.write() as session:
        for tenant in ("north", "south"):
            tenants.add(session, tenant, actor="test")
    counted = {}
    for tenant, images in (("north", 3), ("south", 5)):
        with database.of(tenant).write() as session:
            item = Item("a", "0" * 64, 1, "image/png")
            counted[batches.add(session, [item], lane=Lane.ROUTINE, actor="test").id] = {"contrast": [images]}
    for _ in range(2):
        with database.write() as session:
            drift.add(session, counted)
    for seen, images in ((database.of("north"), 6), (database.of("south"), 10), (database, 16)):
        with seen.read() as session:
            assert sum(drift.inputs(session, CARD.version)["contrast"]) == images


@pytest.fixture
def metrics(api: Api) -> Callable[[], dict[str, float]]:
    """The samples, each line read as a monitoring system reads it."""

    def read() -> dict[str, float]:
        answer = api.client.get("/metrics")
        assert answer.status_code == 200
        samples = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in samples}

    return read
