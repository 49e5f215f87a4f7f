"""One result, computed again: confirmed, not confirmed, or not computable any more, and never silently the latter."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db import results
from db.chains import AuditRow
from db.tables import Model, Result
from tests.recalling import COUNT, Recalled, classified, copied, recalled
from worker import verification
from worker.decoders import Decoders
from worker.judge import Judge
from worker.models import Models
from worker.verification import Bench

__all__ = ["classified", "recalled"]


@pytest.fixture(scope="module")
def bench(
    classified: Recalled, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """As a worker has one, for every result that it is asked for."""
    with (
        copied(classified, request, tmp_path_factory.mktemp("bench")) as made,
        closing(Decoders(1, seconds=20, address_space=2 << 30)) as decoders,
    ):
        models = Models(made.database, made.blobs, batch_size=8)
        yield Bench(made.database, made.blobs, decoders, models, Judge(models, batch_size=8, longest_seconds=60))


def told(recalled: Recalled, result_id: str, bench: Bench) -> dict[str, Any]:
    with recalled.database.read() as session:
        found = results.one(session, result_id)
    assert found
    return verification.told(found, bench)


def change(recalled: Recalled, result_id: str, **values: Any) -> None:
    with recalled.database.write() as session:
        session.execute(update(Result).where(Result.id == result_id).values(**values))


def test_every_result_that_a_worker_stored_is_confirmed(recalled: Recalled, bench: Bench) -> None:
    """Alone, in another shape of batch than the worker's; one from before the decoder's version was kept, too."""
    assert len(recalled.lines()) == COUNT
    change(recalled, str(recalled.lines()[0].result_id), decoding=None)
    for line in recalled.lines():
        found = told(recalled, str(line.result_id), bench)
        assert found["confirmed"] is True, found
        assert found["difference"] is None or found["difference"] <= found["tolerance"]
    answer = recalled.run("verify", str(line.result_id))
    assert (answer.exit_code, answer.stdout.splitlines()[-1]) == (0, "confirmed")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"raw_probability": 0.123456}, "raw probability: kept 0.123456"),
        ({"probability": 0.987654}, "the calibrated probability: kept 0.987654"),
        ({"label": "negative"}, "the label: kept negative, positive follows"),
        ({"threshold": 0.9}, "the threshold and band: kept (0.9"),
        ({"weights_sha256": "f" * 64}, "the weights: kept ffff"),
        ({"reasons": ["blank"], "label": "inconclusive", "probability": None, "raw_probability": None}, "the gate"),
    ],
)
def test_a_result_that_was_changed_is_not_confirmed(
    recalled: Recalled, bench: Bench, values: dict[str, Any], words: str
) -> None:
    line = next(line for line in recalled.lines() if line.label == "positive")
    change(recalled, str(line.result_id), **values)
    found = told(recalled, str(line.result_id), bench)
    assert found["confirmed"] is False
    assert any(words in difference for difference in found["differences"])


def test_what_another_decoder_saw_otherwise_is_not_said_to_be_wrong(recalled: Recalled, bench: Bench) -> None:
    """Unless it is something that the pixels have no part in."""
    result_id = next(str(line.result_id) for line in recalled.lines() if line.label == "positive")
    change(recalled, result_id, decoding="decode-1", raw_probability=0.123456)
    assert told(recalled, result_id, bench)["confirmed"] is False  # the probability does not follow from it
    stopped: dict[str, Any] = {"label": "inconclusive", "probability": None, "raw_probability": None}
    for decoding, words in (("decode-1", "decode-1"), (None, "not kept")):
        change(recalled, result_id, decoding=decoding, reasons=["blank"], **stopped)
        found = told(recalled, result_id, bench)
        assert (found["confirmed"], words in found["reason"]) == (None, True)


def test_bytes_that_were_changed_are_not_confirmed(recalled: Recalled) -> None:
    line = recalled.lines()[0]
    recalled.blobs.path(line.sha256).write_bytes(recalled.blobs.path(recalled.lines()[1].sha256).read_bytes())
    answer = recalled.run("verify", str(line.result_id))
    assert answer.exit_code == 1
    assert "image_lost" in answer.stdout
    assert "NOT confirmed" in answer.stdout


def test_what_is_gone_is_said_to_be_gone_and_not_to_be_wrong(recalled: Recalled) -> None:
    first, second, third = recalled.lines()[:3]
    recalled.purge(first)
    answer = recalled.run("verify", str(first.result_id))
    assert (answer.exit_code, "purged" in answer.stderr) == (6, True)

    change(recalled, str(second.result_id), gate="gate-of-old")
    answer = recalled.run("verify", str(second.result_id))
    assert (answer.exit_code, "gate-of-old" in answer.stderr) == (6, True)

    with recalled.database.read() as session:
        weights = session.get_one(Model, recalled.shipped).weights_sha256
    recalled.blobs.path(weights).unlink()
    answer = recalled.run("verify", str(third.result_id))
    assert (answer.exit_code, "missing or damaged" in answer.stderr) == (6, True)


def test_a_model_of_another_preprocessing_cannot_compute_it(recalled: Recalled) -> None:
    with recalled.database.write() as session:
        session.execute(text("UPDATE models SET preprocessing = 'grey64-0'"))
    answer = recalled.run("verify", str(recalled.lines()[0].result_id))
    assert (answer.exit_code, "grey64-0" in answer.stderr) == (6, True)


def test_a_result_that_is_not_there_is_named(recalled: Recalled) -> None:
    answer = recalled.run("verify", "result_0")
    assert (answer.exit_code, "result_0" in answer.stderr) == (1, True)


def test_verifying_leaves_a_row(recalled: Recalled) -> None:
    result_id = str(recalled.lines()[0].result_id)
    recalled.run("verify", result_id)
    with recalled.database.read() as session:
        row = session.scalars(select(AuditRow).order_by(AuditRow.seq.desc())).first()
    assert row
    assert (row.action, row.subject, json.loads(row.detail)["confirmed"]) == ("result.verified", result_id, True)
    assert row.actor.startswith("cli:")
