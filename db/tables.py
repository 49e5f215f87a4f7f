"""The tables that several rooms share; the database keeps the rules. A small one stands with what it is for."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    insert,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import Boolean, Float

from db import names
from db.clock import Moment
from db.tenancy import Owned, of_its_batch

# SQLite counts only INTEGER PRIMARY KEY up by itself.
Identity = BigInteger().with_variant(Integer, "sqlite")


class Lane(StrEnum):
    """Most pressing first: a worker looks for work in this order."""

    URGENT = "urgent"
    ROUTINE = "routine"


class ImageState(StrEnum):
    RECEIVED = "received"
    QUEUED = "queued"
    LEASED = "leased"
    CLASSIFIED = "classified"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


TERMINAL = frozenset(ImageState) - {ImageState.RECEIVED, ImageState.QUEUED, ImageState.LEASED}


class BatchState(StrEnum):
    RECEIVING = "receiving"
    PROCESSING = "processing"
    COMPLETED = "completed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OPEN = frozenset({BatchState.RECEIVING, BatchState.PROCESSING, BatchState.CANCELLING})


class Outcome(StrEnum):
    ALL_CLASSIFIED = "all_classified"
    PARTIAL = "partial"
    NONE_CLASSIFIED = "none_classified"


class Label(StrEnum):
    POSITIVE = "positive"
    NEGATIVE = "negative"
    INCONCLUSIVE = "inconclusive"


_NEVER_SUBMITTED = "state IN ('receiving', 'cancelling', 'cancelled', 'expired')"


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _only(condition: str) -> dict[str, Any]:
    """A partial index holds the rows of which this is true."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=names.CONVENTION)


class Tenant(Table):
    """A hospital whose data nobody else sees."""

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Moment)
    __table_args__ = (CheckConstraint("id <> '' AND id <> '*'", name="id_names_one"),)


class Model(Table):
    """A registered model version; its weights are a blob under `weights_sha256`."""

    __tablename__ = "models"
    version: Mapped[str] = mapped_column(Text, primary_key=True)
    weights_sha256: Mapped[str] = mapped_column(Text)
    preprocessing: Mapped[str] = mapped_column(Text)
    threshold: Mapped[float] = mapped_column(Float)
    calibration_slope: Mapped[float] = mapped_column(Float)
    calibration_intercept: Mapped[float] = mapped_column(Float)
    data_fingerprint: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    registered_at: Mapped[datetime] = mapped_column(Moment)
    band_low: Mapped[float | None] = mapped_column(Float)
    band_high: Mapped[float | None] = mapped_column(Float)
    __table_args__ = (
        CheckConstraint("threshold BETWEEN 0 AND 1", name="threshold_in_range"),
        CheckConstraint("threshold BETWEEN band_low AND band_high", name="band_around_threshold"),
    )


class Batch(Owned, Table):
    """What one submission asked for; its model is pinned here when it is submitted, and not while it is a draft."""

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    lane: Mapped[Lane] = mapped_column(Text)
    state: Mapped[BatchState] = mapped_column(Text)
    outcome: Mapped[Outcome | None] = mapped_column(Text)
    model_version: Mapped[str | None] = mapped_column(ForeignKey("models.version"))
    total: Mapped[int] = mapped_column(Integer)
    announced: Mapped[int | None] = mapped_column(Integer)
    synthetic: Mapped[bool] = mapped_column(Boolean)
    submitted_at: Mapped[datetime] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    purged_at: Mapped[datetime | None] = mapped_column(Moment)
    results_purged_at: Mapped[datetime | None] = mapped_column(Moment)
    __table_args__ = (
        UniqueConstraint("tenant", "id"),
        _one_of("lane", Lane),
        _one_of("state", BatchState),
        CheckConstraint("outcome IS NULL OR state = 'completed'", name="outcome_when_completed"),
        CheckConstraint(f"total >= 1 OR {_NEVER_SUBMITTED}", name="not_empty"),
        CheckConstraint(f"model_version IS NOT NULL OR {_NEVER_SUBMITTED}", name="model_pinned"),
        Index("ix_batches_state_expires_at", "state", "expires_at"),
    )


class Image(Owned, Table):
    """One submitted image and where it stands; the queue of record is these rows."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    batch_id: Mapped[str] = mapped_column(Text)
    custom_id: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(Text)
    lane: Mapped[Lane] = mapped_column(Text)
    state: Mapped[ImageState] = mapped_column(Text)
    code: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    strikes: Mapped[int] = mapped_column(Integer, default=0)
    alone: Mapped[bool] = mapped_column(Boolean, default=False)
    lease_token: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    study_uid: Mapped[str | None] = mapped_column(Text)
    sop_uid: Mapped[str | None] = mapped_column(Text)
    accession: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        of_its_batch(),
        UniqueConstraint("batch_id", "custom_id"),
        _one_of("lane", Lane),
        _one_of("state", ImageState),
        CheckConstraint("(state = 'leased') = (lease_token IS NOT NULL)", name="lease_has_token"),
        CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="lease_ends"),
        CheckConstraint("(state IN ('rejected', 'quarantined')) = (code IS NOT NULL)", name="failure_has_code"),
        Index("ix_images_batch_id_state", "batch_id", "state"),
        Index("ix_images_sha256", "sha256"),
        Index("ix_images_accession", "accession", **_only("accession IS NOT NULL")),
        # Only rows that wait or are held, so that a claim costs the same whatever the history.
        Index("ix_images_claimable", "lane", "alone", "id", **_only("state = 'queued'")),
        Index("ix_images_leased", "lease_until", **_only("state = 'leased'")),
    )


class Result(Owned, Table):
    """What one model version said of one image: enough to compute it again and get the same number.

    One that `amends` another stands in its place from then on; the other stays as it was. Each is amended once at most.
    """

    __tablename__ = "results"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    batch_id: Mapped[str] = mapped_column(Text)
    image_sha256: Mapped[str] = mapped_column(Text)
    model_version: Mapped[str] = mapped_column(ForeignKey("models.version"))
    weights_sha256: Mapped[str] = mapped_column(Text)
    preprocessing: Mapped[str] = mapped_column(Text)
    raw_probability: Mapped[float | None] = mapped_column(Float)
    probability: Mapped[float | None] = mapped_column(Float)
    threshold: Mapped[float] = mapped_column(Float)
    band_low: Mapped[float | None] = mapped_column(Float)
    band_high: Mapped[float | None] = mapped_column(Float)
    label: Mapped[Label] = mapped_column(Text)
    reasons: Mapped[list[str]] = mapped_column(JSON)
    notes: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))  # of the first ones nobody knows
    gate: Mapped[str | None] = mapped_column(Text)
    decoding: Mapped[str | None] = mapped_column(Text)  # of the older ones nobody knows
    worker: Mapped[str] = mapped_column(Text)
    decode_ms: Mapped[float] = mapped_column(Float)
    predict_ms: Mapped[float] = mapped_column(Float)
    created_at: Mapped[datetime] = mapped_column(Moment)
    amends: Mapped[str | None] = mapped_column(ForeignKey("results.id"), default=None)
    __table_args__ = (
        of_its_batch(),
        UniqueConstraint("image_id", "model_version"),
        _one_of("label", Label),
        CheckConstraint("raw_probability BETWEEN 0 AND 1", name="raw_probability_in_range"),
        CheckConstraint("probability BETWEEN 0 AND 1", name="probability_in_range"),
        CheckConstraint("label = 'inconclusive' OR probability IS NOT NULL", name="label_has_probability"),
        CheckConstraint("(probability IS NULL) = (raw_probability IS NULL)", name="probability_was_raw"),
        Index("ix_results_batch_id", "batch_id"),
        Index("ix_results_model_version", "model_version", "id"),
        Index("ix_results_amends", "amends", unique=True, **_only("amends IS NOT NULL")),
    )


def insert_rows(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows at once, without the ORM's bookkeeping for each."""
    session.execute(insert(table.metadata.tables[table.__tablename__]), rows)
