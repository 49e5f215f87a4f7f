"""Results by themselves: one by its id, and a search."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from db import queue
from db.identifiers import Identifiers
from db.tables import Image, Label, Lane, Result
from tests.queueing import finding
from tests.uploading import Api, Radiograph

ADDRESS = "/v1/results"


@pytest.fixture
def classified(api: Api, radiograph: Radiograph) -> Api:
    """Six images, one after the other, the even ones with an accession number."""
    for number in range(6):
        api.submit({f"{number}.png": radiograph(number)})
        with api.parts.database.write() as session:
            held = queue.claim(session, Lane.ROUTINE, 1, lease_seconds=60, alone=False)
            assert held
            known = Identifiers(f"1.{number}", f"2.{number}", "A1") if number % 2 == 0 else None
            queue.finish(session, held, [finding(held.images[0], known)], [], worker="w1")
    return api


def search(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer: Any = api.client.get(f"{ADDRESS}?{query}").json
    found: list[dict[str, Any]] = answer["data"]
    return found


def test_a_result_says_all_that_made_it(classified: Api) -> None:
    newest = search(classified)[0]
    one: Any = classified.client.get(f"{ADDRESS}/{newest['id']}").json
    assert one == newest
    assert (one["custom_id"], one["model_version"], one["label"]) == ("5.png", "test-1", "negative")
    assert "not a medical device" in one["notice"]
    assert classified.client.get(f"{ADDRESS}/result_0").status_code == 404


def test_a_search_finds_by_accession_model_and_label(classified: Api) -> None:
    assert [one["custom_id"] for one in search(classified, "accession=A1")] == ["4.png", "2.png", "0.png"]
    assert len(search(classified, "model=test-1")) == 6
    assert search(classified, "model=test-2") == []
    assert search(classified, f"label={Label.POSITIVE}") == []


def test_a_search_finds_by_time(classified: Api) -> None:
    with classified.parts.database.write() as session:
        ids = list(session.scalars(select(Result.id).join(Image).where(Image.custom_id.in_(["0.png", "1.png"]))))
        at = session.scalars(select(Result.created_at)).first()
        assert at
        session.execute(update(Result).where(Result.id.in_(ids)).values(created_at=at - timedelta(days=2)))
    day_ago = (at - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert len(search(classified, f"from={day_ago}")) == 4
    assert [one["custom_id"] for one in search(classified, f"to={day_ago}")] == ["1.png", "0.png"]
    assert classified.client.get(f"{ADDRESS}?from=yesterday").status_code == 400
    assert classified.client.get(f"{ADDRESS}?from=2026-01-01T00:00:00").status_code == 400, "without a zone"


def test_a_search_goes_page_by_page(classified: Api) -> None:
    names, after = [], ""
    while after is not None:
        page: Any = classified.client.get(f"{ADDRESS}?limit=4" + (f"&after={after}" if after else "")).json
        names += [one["custom_id"] for one in page["data"]]
        after = page["after"]
    assert names == [f"{number}.png" for number in reversed(range(6))]


@pytest.mark.parametrize(
    "moment", ["2026", "1790000000", "0.5", "2026-11-22", "2026-11-22T00:00:00", "0001-01-01T00:00:00%2B14:00"]
)
def test_a_time_that_could_be_misread_is_refused(api: Api, moment: str) -> None:
    """A bare year would pass for seconds since 1970, and a search would find everything."""
    assert api.client.get(f"{ADDRESS}?from={moment}").status_code == 400
