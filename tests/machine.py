"""A model of the queue, played against the real one: after every step both must be in the same state."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from sqlalchemy import event, func, select, text, update

from db import batches, drafts, ending, leases, proof, purging, queue, tenancy
from db.batches import Item
from db.blobs import Blobs
from db.clock import now
from db.database import Database
from db.drafts import Room
from db.queue import Claim, Failure, Fenced, Finding
from db.tables import OPEN, TERMINAL, Batch, BatchState, Image, ImageState, Label, Lane

_S = ImageState
_IMAGES = text("SELECT id, state, alone, strikes, lease_token, code FROM images")
_BATCHES = text("SELECT id, state FROM batches")
_RETRIED = {_S.QUARANTINED, _S.CANCELLED, _S.EXPIRED}


@dataclass
class Picture:
    """What the model believes of one image."""

    batch: str
    lane: Lane
    state: ImageState = _S.QUEUED
    alone: bool = False
    strikes: int = 0
    token: str = ""
    code: str | None = None


@dataclass
class Belief:
    """What the model believes of one batch."""

    state: BatchState = BatchState.PROCESSING
    purged: bool = False
    lane: Lane = Lane.ROUTINE
    pinned: bool = True
    images: list[int] = field(default_factory=list)


def quick(directory: Path) -> Database:
    """SQLite, without the fsyncs that only a power cut needs."""
    database = Database(f"sqlite:///{directory / 'machine.db'}")
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return database


class Queue(RuleBasedStateMachine):
    """Submit, open drafts and fill them, claim, finish, give back, die, cancel, retry, expire, purge."""

    template: ClassVar[Path]
    directory: ClassVar[Path]
    opened: ClassVar[Database]
    claims: Bundle[Claim] = Bundle("claims")
    names: Bundle[str] = Bundle("names")

    @initialize()
    def open(self) -> None:
        self.database = self.make()
        self.blobs = Blobs(self.directory / "blobs")
        self.steps = 0
        self.shas: dict[int, str] = {}
        self.pictures: dict[int, Picture] = {}
        self.beliefs: dict[str, Belief] = {}

    def make(self) -> Database:
        """A copy of the migrated database; who opens it again has compiled its statements already."""
        shutil.copy(self.template, self.directory / "machine.db")
        return self.opened

    def teardown(self) -> None:
        if hasattr(self, "database"):
            with self.database.read() as session:
                assert proof.verify(session).problem is None
            self.database.close()

    @rule(target=names, count=st.integers(1, 5), lane=st.sampled_from(Lane))
    def submit(self, count: int, lane: Lane) -> str:
        items = [Item(f"{number}", self.keep(number), 1, "image/png") for number in range(count)]
        with self.database.of(tenancy.DEFAULT).write() as session:
            name = batches.add(session, items, lane=lane, actor="test").id
            images = list(session.scalars(select(Image.id).where(Image.batch_id == name).order_by(Image.id)))
        self.shas |= dict(zip(images, (item.sha256 for item in items), strict=True))
        self.beliefs[name] = Belief(images=images)
        self.pictures |= {image: Picture(name, lane) for image in images}
        return name

    @rule(target=names, lane=st.sampled_from(Lane))
    def open_draft(self, lane: Lane) -> str:
        with self.database.of(tenancy.DEFAULT).write() as session:
            name = drafts.begin(session, lane=lane, actor="test", synthetic=True, announced=None, expire_seconds=600).id
        self.beliefs[name] = Belief(BatchState.RECEIVING, lane=lane, pinned=False)
        return name

    @rule(name=names, number=st.integers(0, 3), rejected=st.booleans())
    def put(self, name: str, number: int, *, rejected: bool) -> None:
        belief, code = self.beliefs[name], "truncated" if rejected else None
        known = [image for image in belief.images if self.shas[image] == f"{number:064d}"]
        item = Item(f"{number}", self.keep(number), 1, "image/png", code)
        try:
            with self.database.write() as session:
                batch = batches.find(session, name)
                assert batch
                new = drafts.put(session, batch, item, actor="test", room=Room(3, 100), expire_seconds=600)
                image = session.scalars(select(func.max(Image.id))).one()
        except drafts.DraftClosed:
            assert belief.state != BatchState.RECEIVING
        except drafts.DraftFull:
            assert len(belief.images) == 3
        except drafts.OtherBytes:
            assert self.pictures[known[0]].code != code
        else:
            assert belief.state == BatchState.RECEIVING
            assert new == (not known)
            if new:
                self.shas[image] = item.sha256
                belief.images.append(image)
                self.pictures[image] = Picture(name, belief.lane, _S.REJECTED if rejected else _S.RECEIVED, code=code)

    @rule(name=names)
    def submit_draft(self, name: str) -> None:
        belief = self.beliefs[name]
        received = [image for image in belief.images if self.pictures[image].state == _S.RECEIVED]
        try:
            with self.database.write() as session:
                batch = batches.find(session, name)
                assert batch
                assert drafts.submit(session, batch, actor="test", expire_seconds=600) == len(received)
        except drafts.DraftClosed:
            assert belief.state != BatchState.RECEIVING
        except drafts.DraftEmpty:
            assert not belief.images
        else:
            belief.state, belief.pinned = BatchState.PROCESSING, True
            for image in received:
                self.pictures[image].state = _S.QUEUED
            self._close()

    @rule(target=claims, lane=st.sampled_from(Lane), limit=st.integers(1, 6), alone=st.booleans())
    def claim(self, lane: Lane, limit: int, *, alone: bool) -> Claim:
        waiting = [image for image, it in self.pictures.items()
                   if (it.state, it.lane, it.alone) == (_S.QUEUED, lane, alone)]  # fmt: skip
        if alone:
            waiting.sort(key=lambda image: self.pictures[image].strikes)
        expected = waiting[: 1 if alone else limit]
        with self.database.write() as session:
            held = queue.claim(session, lane, limit, lease_seconds=60, alone=alone)
        assert [image.id for image in held.images] == expected if held else not expected
        assert not held or held.on_trial == (alone and self.pictures[expected[0]].strikes >= queue.STRIKES_BEFORE_TRIAL)
        held = held or Claim("none", (), alone)
        for image in held.images:
            self.pictures[image.id].state, self.pictures[image.id].token = _S.LEASED, held.token
        return held

    def keep(self, number: int) -> str:
        """A blob without the fsyncs; batches share them."""
        sha256 = f"{number:064d}"
        path = self.blobs.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return sha256

    def _mine(self, held: Claim) -> list[int]:
        return [one.id for one in held.images if self.pictures[one.id].token == held.token]

    @rule(held=consumes(claims), failing=st.sets(st.integers(0, 5)))
    def finish(self, held: Claim, failing: set[int]) -> None:
        if not held.images:
            return
        kinds = {0: (_S.REJECTED, "truncated"), 1: (_S.QUARANTINED, "decoder_died")}
        failures = [Failure(one, *kinds[number % 2]) for number, one in enumerate(held.images) if number in failing]
        failed = {failure.image.id: failure for failure in failures}
        findings = [
            Finding(one, None, "w", "grey128-1", 0.2, 0.3, 0.5, Label.NEGATIVE, (), 1.0, 1.0)
            for one in held.images
            if one.id not in failed
        ]
        ours = len(self._mine(held)) == len(held.images)
        try:
            with self.database.write() as session:
                queue.finish(session, held, findings, failures, worker="w1")
        except Fenced:
            assert not ours
            return
        assert ours
        for image in self._mine(held):
            failure = failed.get(image)
            self._end(image, failure.state if failure else _S.CLASSIFIED, failure.code if failure else None)
        self._close()

    @rule(held=consumes(claims))
    def give_back(self, held: Claim) -> None:
        if not held.images:
            return
        with self.database.write() as session:
            queue.give_back(session, held, worker="w1")
        self._return(self._mine(held))

    @rule(held=claims)
    def die(self, held: Claim) -> None:
        """The lease ends; the worker may not know, and come back to finish."""
        mine = self._mine(held)
        with self.database.write() as session:
            if held.images:
                queue.let_go(session, held)
        with self.database.write() as session:
            assert leases.sweep(session, worker="sweeper") == len(mine)
        for image in mine:
            it = self.pictures[image]
            it.strikes, it.alone = it.strikes + it.alone, True
        last = [image for image in mine if self.pictures[image].strikes >= leases.MOST_STRIKES]
        for image in last:
            self._end(image, _S.QUARANTINED, "worker_died")
        self._return([image for image in mine if image not in last])

    @rule(name=names)
    def cancel(self, name: str) -> None:
        belief = self.beliefs[name]
        try:
            with self.database.write() as session:
                batch = batches.find(session, name)
                assert batch
                ending.cancel(session, batch, actor="test")
        except ending.BatchClosed:
            assert belief.state not in OPEN
            return
        assert belief.state in OPEN
        belief.state = BatchState.CANCELLING
        self._stop(name, _S.CANCELLED)

    @rule(name=names)
    def expire(self, name: str) -> None:
        with self.database.write() as session:
            session.execute(update(Batch).where(Batch.id == name).values(expires_at=now(-1)))
            ending.expire(session, worker="sweeper")
            session.execute(update(Batch).where(Batch.id == name).values(expires_at=now(600)))
        belief = self.beliefs[name]
        if belief.state == BatchState.RECEIVING:
            belief.state = BatchState.EXPIRED
        if belief.state in {BatchState.PROCESSING, BatchState.EXPIRED}:
            self._stop(name, _S.EXPIRED)

    @rule(name=names)
    def retry(self, name: str) -> None:
        belief = self.beliefs[name]
        again = [image for image in belief.images if self.pictures[image].state in _RETRIED]
        try:
            with self.database.write() as session:
                batch = batches.find(session, name)
                assert batch
                assert ending.retry(session, batch, actor="test", expire_seconds=600) == len(again)
        except ending.BatchOpen:
            assert belief.state in OPEN
        except ending.NeverSubmitted:
            assert not belief.pinned
        except ending.BatchPurged:
            assert belief.purged
        except ending.NothingToRetry:
            assert not again
        else:
            belief.state = BatchState.PROCESSING
            for image in again:
                it = self.pictures[image]
                alone = it.alone or it.code in {"worker_died", "decoder_died"}
                self.pictures[image] = Picture(it.batch, it.lane, alone=alone)

    @precondition(lambda self: self.beliefs)
    @rule(name=names)
    def purge(self, name: str) -> None:
        belief = self.beliefs[name]
        try:
            with self.database.write() as session:
                batch = batches.find(session, name)
                assert batch
                purging.mark(session, batch, actor="test")
        except ending.BatchOpen:
            assert belief.state in OPEN
            return
        assert belief.state not in OPEN
        belief.purged = True
        kept = {self.shas[image] for it in self.beliefs.values() if not it.purged for image in it.images}
        purging.remove(self.database, self.blobs, name)
        gone = {self.shas[image] for image in belief.images} - kept
        assert not any(self.blobs.path(sha256).exists() for sha256 in gone), "a purge left what nobody needs"

    def _end(self, image: int, state: ImageState, code: str | None = None) -> None:
        it = self.pictures[image]
        it.state, it.code, it.token = state, code, ""

    def _return(self, images: list[int]) -> None:
        for image in images:
            cancelled = self.beliefs[self.pictures[image].batch].state == BatchState.CANCELLING
            self._end(image, _S.CANCELLED if cancelled else _S.QUEUED)
        self._close()

    def _stop(self, name: str, target: ImageState) -> None:
        for image in self.beliefs[name].images:
            if self.pictures[image].state in {_S.QUEUED, _S.RECEIVED}:
                self._end(image, target)
        self._close()

    def _close(self) -> None:
        for belief in self.beliefs.values():
            states = {self.pictures[image].state for image in belief.images}
            if belief.state not in OPEN - {BatchState.RECEIVING} or not states <= TERMINAL:
                continue
            cancelled = belief.state == BatchState.CANCELLING
            ended = BatchState.EXPIRED if _S.EXPIRED in states else BatchState.COMPLETED
            belief.state = BatchState.CANCELLED if cancelled else ended

    @invariant()
    def the_database_agrees(self) -> None:
        if not hasattr(self, "database"):
            return
        self.steps += 1
        needed = {self.shas[image] for belief in self.beliefs.values() if not belief.purged for image in belief.images}
        assert all(self.blobs.path(sha256).exists() for sha256 in needed), "a purge took what another batch needs"
        with self.database.read() as session:
            rows = session.execute(_IMAGES).all()
            states = {row.id: row.state for row in session.execute(_BATCHES)}
            for name in list(self.beliefs)[self.steps % max(len(self.beliefs), 1) :][:1]:  # another one at each step
                progress: Any = batches.progress(session, name)
                counts = Counter(self.pictures[image].state for image in self.beliefs[name].images)
                assert {state: number for state, number in progress.counts.items() if number} == counts
                assert sum(progress.counts.values()) == progress.total
        assert states == {name: belief.state for name, belief in self.beliefs.items()}
        assert {row[0]: (row[1], bool(row[2]), *row[3:]) for row in rows} == {
            image: (it.state, it.alone, it.strikes, it.token or None, it.code) for image, it in self.pictures.items()
        }
