"""Recall: amendments beside the originals, once each, whatever is killed; and every answer shows which one stands."""

import csv
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from api.app import create_app
from db import amendments, batches, proof
from db.chains import AuditRow
from db.tables import BatchState, Result
from tests.access import show_key
from tests.recalling import COUNT, STRICT, Recalled, classified, recalled

__all__ = ["classified", "recalled"]


def rows(recalled: Recalled) -> dict[str, Result]:
    with recalled.database.read() as session:
        return {row.id: row for row in session.scalars(select(Result))}


def recall(recalled: Recalled, *more: str) -> dict[str, Any]:
    return recalled.told("reclassify", "--model", recalled.shipped, "--with", STRICT, *more)


@pytest.fixture
def get(recalled: Recalled) -> Iterator[Callable[[str], Any]]:
    app = create_app(recalled.settings)
    yield show_key(app.test_client()).get
    app.extensions["cxr"].database.close()


def test_a_recall_adds_amendments_and_leaves_every_original_as_it_was(recalled: Recalled) -> None:
    before = rows(recalled)
    told = recall(recalled)
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
    assert told["amended_now"] == told["amended_in_all"] == COUNT


_NAMES = [column.name for column in Result.__table__.columns]


def test_a_recall_says_how_many_labels_changed_and_which_way(recalled: Recalled) -> None:
    positive = sum(line.label == "positive" for line in recalled.lines())
    assert positive
    told = recall(recalled)
    assert (told["labels_changed"], told["changes"]) == (positive, {"positive to negative": positive})
    words = recalled.run("reclassify", "--model", recalled.shipped, "--with", STRICT).stdout
    assert f"0 results amended now, {COUNT} in all" in words, "again, it does nothing, and still says what changed"
    assert f"  positive to negative: {positive}" in words


def test_a_dry_run_counts_the_same_and_keeps_nothing(recalled: Recalled) -> None:
    dry = recall(recalled, "--dry-run")
    assert len(rows(recalled)) == COUNT
    assert (dry["amended_now"], dry["amended_in_all"]) == (0, COUNT)
    assert recall(recalled)["changes"] == dry["changes"]


def test_a_recall_never_touches_the_batch(recalled: Recalled) -> None:
    def standing() -> batches.Progress | None:
        with recalled.database.read() as session:
            return batches.progress(session, recalled.batch_id)

    before = standing()
    assert before
    assert before.state == BatchState.COMPLETED
    recall(recalled)
    assert standing() == before


class _Killed(Exception):
    pass


def test_a_recall_that_was_killed_goes_on_where_it_was(recalled: Recalled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_BATCH_SIZE", "2")
    recalled.settings = type(recalled.settings).from_environment(
        recalled.settings.environment() | {"CXR_BATCH_SIZE": "2"}
    )
    store, calls = amendments.store, []

    def dies_in_the_second(*given: Any, **more: Any) -> amendments.Changes:
        calls.append(1)
        changes = store(*given, **more)
        if len(calls) == 2:
            raise _Killed  # inside the transaction, with everything written
        return changes

    with monkeypatch.context() as dying:
        dying.setattr(amendments, "store", dies_in_the_second)
        answer = recalled.run("reclassify", "--model", recalled.shipped, "--with", STRICT)
        assert isinstance(answer.exception, _Killed)
    assert len(rows(recalled)) == COUNT + 2
    told = recall(recalled)
    assert (told["amended_now"], told["amended_in_all"]) == (COUNT - 2, COUNT)
    assert len(rows(recalled)) == 2 * COUNT
    with recalled.database.read() as session:
        assert proof.verify(session).problem is None
        rows_told = select(func.count()).select_from(AuditRow).where(AuditRow.action == "result.amended")
        assert session.scalars(rows_told).one() == COUNT


def test_what_two_recalls_saw_at_once_is_kept_once(recalled: Recalled) -> None:
    """Both have computed all of it before either stores it."""
    seen: list[Any] = []
    store = amendments.store

    def later(*given: Any, **more: Any) -> amendments.Changes:
        seen.append((given[1:], more))
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amendments, "store", later)
        for _ in range(2):
            recall(recalled)
    (first, second) = seen
    for expected, (given, more) in ((COUNT, first), (0, second)):
        with recalled.database.write() as session:
            assert sum(store(session, *given, **more).values()) == expected
    assert len(rows(recalled)) == 2 * COUNT


def test_an_image_that_was_purged_is_named_and_the_others_are_amended(recalled: Recalled) -> None:
    recalled.purge(recalled.lines()[0])
    answer = recalled.run("reclassify", "--model", recalled.shipped, "--with", STRICT)
    assert answer.exit_code == 1
    assert f"{COUNT - 1} results amended now" in answer.stdout
    assert "not seen anew, image_lost: 1" in answer.stdout


def test_versions_that_nobody_knows_are_refused(recalled: Recalled) -> None:
    for old, new in (("nothing", STRICT), (recalled.shipped, "nothing"), (STRICT, STRICT)):
        answer = recalled.run("reclassify", "--model", old, "--with", new)
        assert answer.exit_code == 1, answer.output
    assert len(rows(recalled)) == COUNT


def test_a_result_is_amended_once_at_most(recalled: Recalled) -> None:
    recall(recalled)
    amended = next(row for row in rows(recalled).values() if row.amends)
    with pytest.raises(IntegrityError), recalled.database.write() as session:
        values = {name: getattr(amended, name) for name in _NAMES} | {
            "id": "result_x",
            "model_version": recalled.shipped,
        }
        session.execute(Result.__table__.insert().values(**values))  # type: ignore[attr-defined]


def test_a_recall_can_be_recalled(recalled: Recalled) -> None:
    """A third version amends the second; the originals of the first are not asked for again."""
    recall(recalled)
    assert recalled.told("reclassify", "--model", STRICT, "--with", recalled.shipped)["amended_in_all"] == 0
    assert recall(recalled)["amended_now"] == 0


# What the answers show


def test_one_result_says_what_it_amends_or_what_amended_it(recalled: Recalled, get: Any) -> None:
    first = recalled.lines()[0]
    assert get(f"/v1/results/{first.result_id}").json["amended_by"] is None
    recall(recalled)
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
    recall(recalled)
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
