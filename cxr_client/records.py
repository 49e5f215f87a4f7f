"""What the server answers about labels, runs, webhooks, keys and the audit."""

from datetime import datetime
from typing import Any

from pydantic import Field

from cxr_client.answers import Answer


class Label(Answer):
    """One label of ground truth; `patient` is the SHA-256 of a pseudonym."""

    id: int
    accession: str | None
    image_sha256: str | None
    label: str
    source: str
    given_by: str
    patient: str | None
    found_at: datetime | None
    actor: str
    created_at: datetime


class LabelRow(Answer):
    """What became of one row of ground truth: kept, of so many stored images, or why not."""

    row: int
    status: int
    id: int | None
    images: int
    detail: str | None


class Labelled(Answer):
    kept: int
    refused: int
    rows: list[LabelRow]


class RetrainingRun(Answer):
    """A run that makes a candidate: `version` once it did, `passed` what the gate says of it.

    It trains on `new_images` stored images with a label; `left_out` are those that cannot be used.
    """

    id: str
    state: str
    actor: str | None = None
    cancelling: bool
    attempts: int | None = None
    new_images: int | None = None
    left_out: int | None = None
    epoch: int
    epochs: int | None
    version: str | None
    passed: bool | None
    problem: str | None
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Reclassification(Answer):
    """A run in which another version sees every result of one anew.

    `changes` are numbers of images by the label before and the label after; `missing` those that could not be seen
    anew, by code. They are of this run, so far.
    """

    id: str
    state: str
    old_version: str = Field(alias="model")
    new_version: str = Field(alias="with")
    dry_run: bool
    cancelling: bool
    attempts: int | None = None
    total: int | None
    done: int
    changes: dict[str, dict[str, int]]
    missing: dict[str, int]
    problem: str | None
    actor: str
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state in {"queued", "running"}


class Key(Answer):
    """An API key of one's own hospital; `key` is the key itself, and is told when it is made alone."""

    id: str
    name: str
    tenant: str
    scopes: list[str]
    state: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    key: str | None = None


class AuditEvent(Answer):
    """One row of the audit; `hash` covers everything else in it and the row before."""

    tenant: str = ""
    seq: int
    at: str
    actor: str
    origin: str | None
    action: str
    subject: str
    batch_id: str | None
    detail: dict[str, Any]
    previous_hash: str
    hash: str


class AuditEnd(Answer):
    """Where a hospital's audit ends; the rows up to `pruned` were removed by retention."""

    tenant: str
    seq: int
    hash: str
    pruned: int


class Verification(Answer):
    """One result, computed again by a worker; `confirmed` is None where it cannot be any more, and `reason` says why."""

    at: str
    actor: str
    confirmed: bool | None
    asked: int | None = None
    kept_raw_probability: float | None = None
    raw_probability: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    differences: list[str] | None = None
    reason: str | None = None
    seq: int


class Webhook(Answer):
    """An address that is told how batches end; `secret` signs every message, and is told when it is made alone."""

    id: str
    url: str
    events: list[str]
    created_at: datetime
    secret: str | None = None


class Delivery(Answer):
    """One message to a webhook, and how far it got."""

    id: str
    event: str
    batch_id: str
    state: str
    attempts: int
    created_at: datetime
    last_at: datetime | None
    last_status: int | None
    last_error: str | None
    next_at: datetime | None
