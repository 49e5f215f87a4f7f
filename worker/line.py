"""The line: claim images, decode them in children, predict them in one batch, store what was found."""

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import DBAPIError

from db import queue
from db.blobs import Blobs
from db.database import Database
from db.queue import Claim, Claimed, Failure, Fenced, Finding
from db.tables import Lane
from settings import Settings
from worker.decision import ModelUnusable
from worker.decoders import Decoded, Decoders, DecodersUnusable
from worker.drift import Inputs
from worker.examination import examine, failure
from worker.judge import Judge
from worker.models import Models
from worker.pace import Pace
from worker.rejection import ImageRejected
from worker.trial import Guilty, Trial, TrialImpossible
from worker.turns import Turns

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_TRIAL_AGAIN_SECONDS = 10


class StorageAway(Exception):
    """The directory of the images cannot be read at all; that is no fault of an image."""


class Line:
    """Threads call `work` side by side: while one decodes, another predicts."""

    def __init__(
        self, database: Database, blobs: Blobs, models: Models, decoders: Decoders, settings: Settings, *, worker: str
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._models = models
        self._decoders = decoders
        self._settings = settings
        self._worker = worker
        self._turns = Turns()
        self.pace = Pace()
        self.inputs = Inputs()
        self.judge = Judge(models, batch_size=settings.batch_size, longest_seconds=settings.lease_seconds)
        self.problem: str | None = None
        self._no_trial_before = 0.0

    def warm_up(self, version: str) -> None:
        """Load the version that will be asked for first; other batches need not wait where it is unusable."""
        try:
            self._models.get(version)
        except ModelUnusable as error:
            self.problem = str(error)
            log.error("%s", error)  # noqa: TRY400 - it says all of it

    def work(self, stopping: Callable[[], bool]) -> int:
        """Work until no lane holds anything for this worker, and return how many images were finished."""
        finished = 0
        with self.pace.working():
            while not stopping() and (done := self.step()) is not None:
                finished += done
        return finished

    def step(self) -> int | None:
        """Take one micro-batch from the most pressing lane through to SQL; None where there is nothing to do."""
        for lane in Lane:
            done = None
            if self._suspected(lane):
                with self._turns.alone():
                    done = self._one_claim(lane, alone=True)
            if done is None:  # also where another thread took the suspect
                with self._turns.together():
                    done = self._one_claim(lane, alone=False)
            if done is not None:
                return done
        return None

    def _suspected(self, lane: Lane) -> bool:
        if time.monotonic() < self._no_trial_before:
            return False
        with self._database.read() as session:
            return queue.has_suspects(session, lane, without=self._models.unusable())

    def _one_claim(self, lane: Lane, *, alone: bool) -> int | None:
        """Return how many images were finished; None where there are none, or where no claim has a chance now."""
        with self._database.write() as session:
            claim = queue.claim(
                session,
                lane,
                self._settings.batch_size,
                lease_seconds=self._settings.lease_seconds,
                alone=alone,
                without=self._models.unusable(),
            )
        if claim is None:
            return None
        try:
            findings, failures = self._examine(claim)
        except ModelUnusable as error:
            self._hand_back(claim, error)
            return 0  # the next claim is without that version
        except (DecodersUnusable, StorageAway, TrialImpossible) as error:
            if isinstance(error, TrialImpossible):
                self._no_trial_before = time.monotonic() + _TRIAL_AGAIN_SECONDS
            self._hand_back(claim, error)
            return None
        except Exception:
            self._let_go(claim)
            raise
        if not self._models.unusable():
            self.problem = None
        return self._store(claim, findings, failures)

    def _examine(self, claim: Claim) -> tuple[list[Finding], list[Failure]]:
        answers = self._decoders.decode(
            [self._blobs.path(image.sha256) for image in claim.images],
            meanwhile=lambda: self._hold_on(claim),
            every=self._settings.lease_seconds / 3,
        )
        if any(isinstance(answer, ImageRejected) and answer.code == "image_lost" for answer in answers):
            self._check_storage(claim)
        failures = []
        readable: dict[str, list[tuple[Claimed, Decoded]]] = {}
        for image, answer in zip(claim.images, answers, strict=True):
            if isinstance(answer, ImageRejected):
                failures.append(failure(image, answer.code))
            else:
                readable.setdefault(image.model_version, []).append((image, answer))
        findings = []
        if not all(self._models.holds(version) for version in readable):
            self._hold_on(claim)  # loading takes its time
        judge = self._trial(claim) if claim.on_trial else self.judge
        for version, images in readable.items():
            try:
                found, unanswered = examine(self._models, judge, version, images)
            except Guilty as guilty:
                log.warning("image %d: %s", claim.images[0].id, guilty)
                found, unanswered = [], [failure(claim.images[0], "worker_died")]
            numbered = {finding.image.id for finding in found if finding.raw_probability is not None}
            self.inputs.add([(image.batch_id, seen.grey) for image, seen in images if image.id in numbered])
            findings += found
            failures += unanswered
        return findings, failures

    def _trial(self, claim: Claim) -> Trial:
        hold_on = partial(self._hold_on, claim)
        return Trial(self._settings, gate_version=self.judge.gate_version, meanwhile=hold_on)

    def _hold_on(self, claim: Claim) -> None:
        """Slow is not silent: the lease begins anew."""
        with contextlib.suppress(DBAPIError), self._database.write() as session:
            queue.hold_on(session, claim, lease_seconds=self._settings.lease_seconds)

    def _check_storage(self, claim: Claim) -> None:
        """One lost blob is lost; where the model's own blob cannot be read either, the directory is away."""
        for version in {image.model_version for image in claim.images}:
            try:
                with self._blobs.path(self._models.get(version).weights_sha256).open("rb") as weights:
                    weights.read(1)
            except OSError as error:
                raise StorageAway(f"the directory of the images cannot be read: {error.strerror}") from error

    def _store(self, claim: Claim, findings: list[Finding], failures: list[Failure]) -> int:
        """Store it, trying again while the database is away and the lease may still be ours."""
        give_up = time.monotonic() + self._settings.lease_seconds
        while True:
            try:
                with self._database.write() as session:
                    queue.finish(session, claim, findings, failures, worker=self._worker)
            except Fenced as fenced:
                log.warning("fenced: %s; nothing of it was stored", fenced)
                return 0
            except DBAPIError:
                if time.monotonic() > give_up:
                    raise
                log.warning("the database is away; %d finished images wait", len(claim.images))
                time.sleep(_RETRY_SECONDS)
            else:
                self.pace.add(len(claim.images))
                return len(claim.images)

    def _hand_back(self, claim: Claim, error: Exception) -> None:
        self.problem = str(error)
        log.error("%d images go back to the queue: %s", len(claim.images), error)
        with self._database.write() as session:
            queue.give_back(session, claim, worker=self._worker)

    def _let_go(self, claim: Claim) -> None:
        """An error that nobody foresaw: one of these images may be the reason."""
        with contextlib.suppress(DBAPIError), self._database.write() as session:
            queue.let_go(session, claim)
