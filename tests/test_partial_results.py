"""What a batch that is not finished says so far, to who asks for it in part."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.queueing import finish, taken
from tests.uploading import Api, Radiograph

ROWS: dict[str, Callable[[str], Any]] = {
    "json": lambda text: json.loads(text)["data"],
    "ndjson": lambda text: [json.loads(line) for line in text.splitlines()],
    "csv": lambda text: list(csv.DictReader(io.StringIO(text))),
}


@pytest.mark.parametrize("form", ROWS)
def test_an_open_batch_gives_what_is_done_only_where_it_is_asked_for_in_part(
    api: Api, radiograph: Radiograph, form: str
) -> None:
    sent: Any = api.submit({f"{number}.png": radiograph(number) for number in range(2)}).json
    finish(api.parts.system, taken(api.parts.system, 1))
    path = f"/v1/batches/{sent['id']}/results.{form}"
    whole: Any = api.client.get(path)
    assert (whole.status_code, whole.json["code"], whole.json["retryable"]) == (409, "not_finished", True)
    part = api.client.get(f"{path}?partial=true")
    assert part.status_code == 200
    rows = [(row["custom_id"], row["state"], row["probability"] or None) for row in ROWS[form](part.text)]
    assert [(name, state, probability is None) for name, state, probability in rows] == [
        ("0.png", "classified", False),
        ("1.png", "queued", True),
    ]
