"""What the server answers, typed and frozen. Fields that a newer server adds are kept, and break nothing."""

from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cxr_client.errors import AnswerUnknown

OPEN: Final = frozenset({"receiving", "processing", "cancelling"})
"""States of a batch that has not ended."""


class Answer(BaseModel):
    """The base: read-only, and tolerant of what it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Counts(Answer):
    """Images by state; they add up to the batch's total."""

    received: int
    queued: int
    leased: int
    classified: int
    rejected: int
    quarantined: int
    cancelled: int
    expired: int


class Batch(Answer):
    id: str
    lane: str
    state: str
    outcome: str | None
    model_version: str | None
    synthetic: bool
    total: int
    announced: int | None
    counts: Counts
    progress: float
    submitted_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None
    purged_at: datetime | None
    results_purged_at: datetime | None = None
    notice: str
    queue_position: int | None = None
    eta_seconds: float | None = None

    @property
    def open(self) -> bool:
        """Whether images of it may still change."""
        return self.state in OPEN

    @property
    def done(self) -> int:
        """How many images have their answer."""
        return round(self.progress * self.total)


class Refused(Answer):
    custom_id: str
    code: str


class Submitted(Batch):
    """The batch, with what was refused already by its header."""

    rejected: list[Refused]


class Original(Answer):  # what was said first, where another result stands in its place
    result_id: str
    label: str
    probability: float | None
    model_version: str


class Image(Answer):
    """One image of a batch where it stands; `label` and `probability` are None until it is classified.

    From `band_low` and below `band_high`, a probability decides nothing: the label is inconclusive.
    """

    custom_id: str
    state: str
    code: str | None
    label: str | None
    probability: float | None
    threshold: float | None
    band_low: float | None = None
    band_high: float | None = None
    reasons: list[str] | None
    notes: list[str] | None = None
    gate: str | None
    model_version: str | None
    sha256: str
    result_id: str | None
    original: Original | None = None


class Result(Answer):
    """One result with everything that made it."""

    id: str
    batch_id: str
    custom_id: str
    image_sha256: str
    study_uid: str | None
    sop_uid: str | None
    accession: str | None
    model_version: str
    weights_sha256: str
    preprocessing: str
    gate: str | None
    decoding: str | None = None
    raw_probability: float | None
    probability: float | None
    threshold: float
    band_low: float | None = None
    band_high: float | None = None
    label: str
    reasons: list[str]
    notes: list[str] | None = None
    worker: str
    decode_ms: float
    predict_ms: float
    created_at: datetime
    amends: str | None = None
    amended_by: str | None = None
    notice: str


class Step(Answer):
    """Something that happened to a result; `seq` is the audit's row that tells it."""

    at: datetime
    action: str
    actor: str
    origin: str | None
    detail: dict[str, Any]
    seq: int


class History(Answer):
    """The life of one result, oldest step first."""

    result: Result
    steps: list[Step]


class Limits(Answer):
    """What the server takes; None where it sets no limit, or is older than this client and does not say."""

    images_per_batch: int
    bytes_per_image: int
    bytes_per_request: int
    pixels_per_image: int
    bytes_per_custom_id: int
    growth_in_zip: int
    formats: list[str]
    bytes_per_json: int | None = None
    bytes_per_form: int | None = None
    characters_per_idempotency_key: int | None = None
    paths_per_import: int | None = None
    labels_per_request: int | None = None
    webhooks: int | None = None
    attempts_per_message: int | None = None
    seconds_to_wait: int | None = None
    hours_until_expiry: int | None = None
    seconds_to_decode: int | None = None
    bytes_to_decode: int | None = None
    requests_per_minute: int | None = None
    images_per_day: int | None = None
    bytes_per_day: int | None = None
    images_waiting: int | None = None


class Ready(Answer):
    """Whether the server takes images, and why not."""

    ready: bool
    problems: list[str]
    workers: int
    version: str | None = None
    date: datetime | None = None
    """The server's clock, by its header."""


Kind = TypeVar("Kind", bound=Answer)


def read(kind: type[Kind], told: Any) -> Kind:
    """What was told, as `kind`, or AnswerUnknown."""
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise AnswerUnknown(f"the answer is no {kind.__name__} ({fields}): do server and client fit?") from error


def data(told: Any) -> list[Any]:
    """The entries of a page, or AnswerUnknown."""
    found = told.get("data") if isinstance(told, dict) else None
    if not isinstance(found, list):
        raise AnswerUnknown("the answer holds no list: do server and client fit?")
    return found
