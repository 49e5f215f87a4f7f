"""Recall: amendments beside the originals, once each, whatever is killed; and every answer shows which one stands."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from api.app import create_app
from db import amendments, batches, proof, registry, runs
from db.chains import AuditRow
from db.clock import now
from db.reclassification import ReclassificationRun
from db.runs import LeaseLost
from db.tables import BatchState, Result
from tests.access import show_key
from tests.recalling import COUNT, STRICT, Recalled, classified, flips, recalled, rows
from worker.decoders import Decoders
from worker.judge import Judge
from worker.models import Models
from worker.reclassification import Reclassification

__all__ = ["classified", "recalled"]


@pytest.fixture
def get(recalled: Recalled) -> Iterator[Callable[[str], Any]]:
    app = create_app(recalled.settings)
    yield show_key(app.test_client()).get
    app.extensions["cxr"].database.close()


def test_a_recall_adds_amendments_and_leaves_every_original_as_it_was(recalled: Recalled) -> None:
    before = rows(recalled)
    run = recalled.recall()
    assert (run.state, run.total, run.done, run.attempts) == ("succeeded", COUNT, COUNT, 1)
    after = rows(recalled)
    assert len(after) == 2 * COUNT
    for result_id, original in before.items():
        same = after[result_id]
        assert {name: getattr(same, name) for name in _NAMES} == {name: getattr(original, name) for name in _NAMES}
    amending = [row for row in after.values() if row.amends]
    assert {row.amends for row in amending} == set(before)
    assert {row.model_version for row in amending} == {STRICT}
    for row in amending:
        assert row.raw_probability == pytest.approx(before[str(row.amends)].raw_probability, abs=1e-5)


_NAMES = [column.name for column in Result.__table__.columns]


def test_a_run_says_how_many_labels_changed_and_which_way(recalled: Recalled) -> None:
    run = recalled.recall()
    assert run.changes == flips(recalled)
    assert run.changes["positive"].keys() == {"negative"}
    again = recalled.recall()
    assert (again.state, again.done, again.changes) == ("succeeded", 0, {}), "what was amended is not amended again"


def test_a_dry_run_counts_the_same_and_keeps_nothing(recalled: Recalled) -> None:
    dry = recalled.recall(dry=True)
    assert (dry.state, dry.dry_run, len(rows(recalled))) == ("succeeded", True, COUNT)
    assert audited(recalled, "result.amended") == []
    assert recalled.recall().changes == dry.changes


def test_a_recall_never_touches_the_batch(recalled: Recalled) -> None:
    def standing() -> batches.Progress | None:
        with recalled.database.read() as session:
            return batches.progress(session, recalled.batch_id)

    before = standing()
    assert before
    assert before.state == BatchState.COMPLETED
    recalled.recall()
    assert standing() == before


def audited(recalled: Recalled, action: str) -> list[dict[str, Any]]:
    with recalled.database.read() as session:
        wanted = select(AuditRow.detail).where(AuditRow.action == action).order_by(AuditRow.seq)
        return [json.loads(detail) for detail in session.scalars(wanted)]


def test_the_audit_tells_of_the_run_and_of_every_amendment(recalled: Recalled) -> None:
    run = recalled.recall()
    (asked,) = audited(recalled, "reclassification.asked")
    assert asked == {"old_version": recalled.shipped, "new_version": STRICT, "dry_run": False}
    assert audited(recalled, "reclassification.started") == [{"attempt": 1, "after_images": 0}]
    assert audited(recalled, "reclassification.succeeded") == [{"done": COUNT, "changes": run.changes, "missing": {}}]
    amended = audited(recalled, "result.amended")
    assert ([one["run"] for one in amended], {one["amends"] for one in amended}) == (
        [run.id] * COUNT,
        {row.amends for row in rows(recalled).values() if row.amends},
    )


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("end", [_Killed(), OperationalError("COMMIT", {}, Exception("the database went away"))])
def test_a_run_that_was_cut_short_goes_on_where_it_was(
    recalled: Recalled, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    recalled.settings = replace(recalled.settings, batch_size=2)
    run_id = recalled.ask()
    store, calls = amendments.store, []

    def dies_in_the_second(*given: Any, **more: Any) -> Any:
        calls.append(1)
        kept = store(*given, **more)
        if len(calls) == 2:
            raise end  # inside the transaction, with everything written
        return kept

    with monkeypatch.context() as dying:
        dying.setattr(amendments, "store", dies_in_the_second)
        with suppress(_Killed):
            recalled.train()
    left = recalled.standing(run_id)
    assert (left.state, left.done, len(rows(recalled))) == ("running", 2, COUNT + 2)
    with recalled.database.write() as session:
        session.execute(update(ReclassificationRun).values(lease_until=now(-1)))
    recalled.train()
    run = recalled.standing(run_id)
    assert (run.state, run.attempts, run.total, run.done) == ("succeeded", 2, COUNT, COUNT)
    assert run.changes == flips(recalled)
    assert len(rows(recalled)) == 2 * COUNT
    assert len(audited(recalled, "result.amended")) == COUNT
    with recalled.database.read() as session:
        assert proof.verify(session).problem is None


def test_a_trainer_that_lost_its_run_keeps_nothing(recalled: Recalled) -> None:
    """Another one has taken it over while this one computed."""
    recalled.ask()
    first, second = (claimed(recalled, lease_seconds=seconds) for seconds in (-1, 60))

    def note(session: Session, **progress: Any) -> None:
        held = second if "total" in progress else first  # it loses it behind its first word
        runs.hold_on(session, held, lease_seconds=60, **progress)

    with working(recalled) as work, pytest.raises(LeaseLost):
        work.go_on(first, note, lambda: None, worker="t1")
    assert len(rows(recalled)) == COUNT
    assert (recalled.standing(first.id).done, audited(recalled, "result.amended")) == (0, [])


def claimed(recalled: Recalled, *, lease_seconds: int) -> ReclassificationRun:
    with recalled.database.write() as session:
        run = runs.claim(session, ReclassificationRun, lease_seconds=lease_seconds, actor="t")
    assert run
    return run


@contextmanager
def working(recalled: Recalled) -> Iterator[Reclassification]:
    models = Models(recalled.database, recalled.blobs, batch_size=8)
    judge = Judge(models, batch_size=8, longest_seconds=60)
    with closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders:
        yield Reclassification(recalled.database, recalled.blobs, decoders, models, judge, 8)


def test_a_run_that_is_cancelled_keeps_what_it_amended_so_far(
    recalled: Recalled, monkeypatch: pytest.MonkeyPatch
) -> None:
    recalled.settings = replace(recalled.settings, batch_size=2)
    run_id = recalled.ask()
    outdated, calls = amendments.outdated, []

    def cancelled_at_the_second(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            with recalled.database.write() as session:
                runs.cancel(session, ReclassificationRun, run_id, actor="test")
        return outdated(*given, **more)

    monkeypatch.setattr(amendments, "outdated", cancelled_at_the_second)
    recalled.train()
    run = recalled.standing(run_id)
    assert (run.state, run.done, len(rows(recalled))) == ("cancelled", 4, COUNT + 4)
    assert run.changes == flips(recalled)


def test_an_image_that_was_purged_is_named_and_the_others_are_amended(recalled: Recalled) -> None:
    recalled.purge(recalled.lines()[0])
    run = recalled.recall()
    assert (run.state, run.done, run.missing) == ("succeeded", COUNT, {"image_lost": 1})
    assert len(rows(recalled)) == 2 * COUNT - 1


def test_a_model_whose_weights_are_gone_ends_the_run_and_says_so(recalled: Recalled) -> None:
    with recalled.database.read() as session:
        recalled.blobs.path(registry.find(session, STRICT).weights_sha256).unlink()
    run = recalled.recall()
    assert (run.state, run.problem) == ("failed", f"the weights of {STRICT} are missing or damaged")
    assert len(rows(recalled)) == COUNT


def test_a_result_is_amended_once_at_most(recalled: Recalled) -> None:
    recalled.recall()
    amended = next(row for row in rows(recalled).values() if row.amends)
    with pytest.raises(IntegrityError), recalled.database.write() as session:
        values = {name: getattr(amended, name) for name in _NAMES} | {
            "id": "result_x",
            "model_version": recalled.shipped,
        }
        session.execute(Result.__table__.insert().values(**values))  # type: ignore[attr-defined]


def test_a_recall_can_be_recalled(recalled: Recalled) -> None:
    """A third version amends the second; the originals of the first are not asked for again."""
    recalled.recall()
    assert recalled.recall(STRICT, recalled.shipped).done == 0
    assert recalled.recall().done == 0


# What the answers show


def test_one_result_says_what_it_amends_or_what_amended_it(recalled: Recalled, get: Any) -> None:
    first = recalled.lines()[0]
    assert get(f"/v1/results/{first.result_id}").json["amended_by"] is None
    recalled.recall()
    original = get(f"/v1/results/{first.result_id}").json
    amended = get(f"/v1/results/{original['amended_by']}").json
    assert (original["model_version"], original["label"]) == (recalled.shipped, first.label)
    assert (amended["amends"], amended["amended_by"], amended["model_version"]) == (first.result_id, None, STRICT)
    listed = get(f"/v1/results?model={recalled.shipped}").json["data"]
    assert len(listed) == COUNT
    assert all(one["amended_by"] for one in listed), "the recall list says which of them still stand"
    steps = [step["action"] for step in get(f"/v1/results/{first.result_id}/history").json["steps"]]
    assert "result.amended" in steps


def test_a_batch_shows_what_stands_and_what_was_said_first(recalled: Recalled, get: Any) -> None:
    before = {line.custom_id: line for line in recalled.lines()}
    assert all(one["original"] is None for one in get(f"/v1/batches/{recalled.batch_id}/results").json["data"])
    recalled.recall()
    told = get(f"/v1/batches/{recalled.batch_id}/results").json["data"]
    assert len(told) == COUNT
    for one in told:
        first = before[one["custom_id"]]
        assert one["model_version"] == STRICT
        assert one["label"] != "positive"
        assert one["original"] == {
            "result_id": first.result_id,
            "label": first.label,
            "probability": first.probability,
            "model_version": recalled.shipped,
        }
    table = list(csv.DictReader(get(f"/v1/batches/{recalled.batch_id}/results.csv").text.splitlines()))
    for row in table:
        first = before[row["custom_id"]]
        assert (row["model_version"], row["original_model_version"]) == (STRICT, recalled.shipped)
        assert row["original_label"] == first.label
    page = get(f"/batches/{recalled.batch_id}").text
    assert page.count(f"amended by {STRICT}; before: positive") == sum(
        first.label == "positive" for first in before.values()
    )
