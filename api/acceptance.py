"""What every way of submitting ends with: the images are there, a model is there, 202."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flask import Response, url_for

from api import polling
from api.problems import Problem
from api.schemas import SubmittedAnswer
from api.wiring import Parts, parts
from db import batches, door, forecast, purging
from db.batches import Item
from db.registry import NoChampion


def accepted(batch_id: str) -> Response:
    """202 for a batch that was just submitted, or whose answer was lost."""
    with parts().database.read() as session:
        progress = batches.progress(session, batch_id)
        if progress is None:
            raise AssertionError(batch_id)
        answer = SubmittedAnswer.to(door.refused(session, batch_id), progress)
    with parts().system.read() as session:  # others' images wait before it too
        expected = forecast.forecast(session, progress)
    pause = polling.pause(expected.seconds if expected else None)
    headers = {"Location": url_for("batches.status", batch_id=batch_id), "Retry-After": pause}
    return Response(answer.model_dump_json(), 202, headers, content_type="application/json")


def check_kept(own: Parts, items: Sequence[Item]) -> None:
    """Raise Problem if a purge took one of the blobs since they were settled; asked after the audit row."""
    if purging.missing(own.blobs, (item.sha256 for item in items if not item.code)):
        words = "An image was purged with another batch at this very moment; send the request again."
        raise Problem(503, "purged_meanwhile", words, retryable=True)


@contextmanager
def model_needed() -> Iterator[None]:
    try:
        yield
    except NoChampion as error:
        raise Problem(503, "no_model", str(error), retryable=True) from error
