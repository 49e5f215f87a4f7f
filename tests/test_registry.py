"""Model versions, aliases, heartbeats and slots, on both databases."""

import pytest

from db import heartbeats, proof, registry, slots
from db.blobs import Blobs
from db.database import Database
from tests.service import CARD


def test_without_a_model_the_error_says_what_to_do(database: Database) -> None:
    with database.read() as session, pytest.raises(registry.NoChampion, match="cxr migrate"):
        registry.champion(session)


def test_a_version_is_registered_once_and_audited(database: Database, blobs: Blobs) -> None:
    for weights in (b"weights", b"other weights"):
        with database.write() as session:
            model = registry.register(session, blobs, CARD, weights, actor="test")
        assert blobs.read(model.weights_sha256) == b"weights"
    with database.read() as session:
        assert proof.verify(session) == proof.Verdict(1, None)


def test_an_alias_moves(database: Database, blobs: Blobs) -> None:
    with database.write() as session:
        for version in ("a", "b"):
            card = registry.Card(**vars(CARD) | {"version": version})
            registry.register(session, blobs, card, version.encode(), actor="test")
            registry.appoint(session, registry.CHAMPION, version, actor="test")
    with database.read() as session:
        assert registry.champion(session).version == "b"
        assert proof.verify(session).rows == 4


def test_a_worker_lives_until_it_leaves(database: Database) -> None:
    for problem in (None, "weights damaged"):
        with database.write() as session:
            heartbeats.beat(session, "w1", device="CPU", problem=problem)
    with database.read() as session:
        assert heartbeats.signs(session) == [heartbeats.Sign("w1", "CPU", "weights damaged", alive=True)]
    with database.write() as session:
        heartbeats.leave(session, "w1")
    with database.read() as session:
        assert heartbeats.signs(session) == []


def test_a_slot_is_taken_once(database: Database) -> None:
    day = 10
    assert slots.take(database, "task", digits=day)
    assert not slots.take(database, "task", digits=day)
    assert slots.take(database, "other task", digits=day)
