"""What the API answers, as pydantic models: the OpenAPI document is made from these."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from db.batches import Line, Original, Progress
from db.forecast import Forecast
from db.results import Found
from db.tables import BatchState, ImageState, Label, Lane, Outcome

NOTICE = "Research software, not a medical device: no result may be used for the care of a patient."


class Counts(BaseModel):
    """Images by state; they add up to the batch's total at every moment."""

    received: int = Field(description="In a draft, not yet submitted")
    queued: int
    leased: int
    classified: int
    rejected: int
    quarantined: int
    cancelled: int
    expired: int


class BatchAnswer(BaseModel):
    id: str
    lane: Lane
    state: BatchState
    outcome: Outcome | None = Field(description="Set when completed")
    model_version: str | None = Field(description="Pinned when the batch is submitted; null before")
    synthetic: bool = Field(description="Made by code, not of patients")
    total: int = Field(description="Images so far; of a draft, that are there")
    announced: int | None = Field(description="Images that the draft was opened for, if it said so")
    counts: Counts
    progress: float = Field(ge=0, le=1, description="Share of images in a terminal state")
    submitted_at: datetime = Field(description="Of a draft, when it was opened")
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="Images that no worker has begun by then are given up")
    purged_at: datetime | None = Field(description="Since then the images are gone; results and audit stay")
    results_purged_at: datetime | None = Field(description="Since then the results are gone; the audit stays")
    notice: str = NOTICE

    @classmethod
    def of(cls, progress: Progress) -> "BatchAnswer":
        values = {name: getattr(progress, name) for name in cls.model_fields if hasattr(progress, name)}
        share = progress.done / progress.total if progress.total else float(not progress.open)
        return cls(**values | {"counts": Counts(**progress.counts), "progress": share})


class BatchStatus(BatchAnswer):
    queue_position: int | None = Field(description="Images that are begun before the next one of this batch")
    eta_seconds: float | None = Field(description="Until the batch is finished, at the pace of the living workers")

    @classmethod
    def at(cls, progress: Progress, forecast: Forecast | None) -> "BatchStatus":
        ahead, seconds = (forecast.ahead, forecast.seconds) if forecast else (None, None)
        return cls(**dict(BatchAnswer.of(progress)), queue_position=ahead, eta_seconds=seconds)


class Refused(BaseModel):
    custom_id: str
    code: str


class SubmittedAnswer(BatchAnswer):
    rejected: list[Refused] = Field(description="Answered already, by their headers; see `Codes of images`")

    @classmethod
    def to(cls, refused: Sequence[tuple[str, str]], progress: Progress) -> "SubmittedAnswer":
        rejected = [Refused(custom_id=name, code=code) for name, code in refused]
        return cls(**dict(BatchAnswer.of(progress)), rejected=rejected)


class BatchList(BaseModel):
    data: list[BatchAnswer]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


class OriginalAnswer(BaseModel):
    """What the image's first result said; it is kept, and another stands in its place."""

    result_id: str
    label: Label
    probability: float | None
    model_version: str

    @classmethod
    def of(cls, original: Original) -> Self:
        return cls(**vars(original))


class ImageAnswer(BaseModel):
    custom_id: str
    state: ImageState
    code: str | None
    label: Label | None
    probability: float | None = Field(
        ge=0, le=1, description="Calibrated probability of COVID-19; null where the model was not asked"
    )
    threshold: float | None = Field(description="The operating point, set for a stated sensitivity")
    band_low: float | None = Field(description="From here")
    band_high: float | None = Field(description="to below here the label is `inconclusive`; null: without a band")
    reasons: list[str] | None = Field(description="Why it is inconclusive")
    notes: list[str] | None = Field(description="What was done to its pixels that no radiograph should need")
    gate: str | None = Field(description="Which gate was asked")
    model_version: str | None
    sha256: str
    result_id: str | None
    original: OriginalAnswer | None = Field(description="Set where the result was amended: what was said first")

    @classmethod
    def of(cls, line: Line) -> "ImageAnswer":
        return cls(**vars(line) | {"original": line.original and OriginalAnswer.of(line.original)})


class ImageList(BaseModel):
    data: list[ImageAnswer]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


class ResultList(BaseModel):
    batch: BatchAnswer
    data: list[ImageAnswer]


class ResultAnswer(BaseModel):
    """Everything that is needed to compute it again."""

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
    decoding: str | None = Field(description="Which version read its pixels; null where nobody kept it")
    raw_probability: float | None = Field(description="What the CNN said, before calibration")
    probability: float | None = Field(ge=0, le=1, description="Calibrated probability of COVID-19")
    threshold: float
    band_low: float | None
    band_high: float | None
    label: Label
    reasons: list[str]
    notes: list[str] | None = Field(description="What was done to its pixels; null where nobody kept it")
    worker: str
    decode_ms: float
    predict_ms: float
    created_at: datetime
    amends: str | None = Field(description="The result that this one stands in place of")
    amended_by: str | None = Field(
        description="The result that stands in place of this one; null where this one stands"
    )
    notice: str = NOTICE

    @classmethod
    def of(cls, found: Found) -> "ResultAnswer":
        names = [name for name in cls.model_fields if name != "notice"]
        sources = (found, found.result, found.image)
        values = {name: next(getattr(one, name) for one in sources if hasattr(one, name)) for name in names}
        return cls(**values)


class ResultPage(BaseModel):
    data: list[ResultAnswer]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


class Limits(BaseModel):
    images_per_batch: int = Field(description="Also of a draft")
    bytes_per_image: int
    bytes_per_request: int = Field(description="Of files, also what they unpack to, and of a draft as a whole")
    bytes_per_json: int = Field(description="Of a body that is no file")
    bytes_per_form: int = Field(description="Of a form, and of a body without a key")
    pixels_per_image: int = Field(description="By its header: columns times rows, and times frames in DICOM")
    bytes_per_custom_id: int
    characters_per_idempotency_key: int
    paths_per_import: int = Field(description="0 where the server imports nothing")
    labels_per_request: int
    webhooks: int
    attempts_per_message: int = Field(description="To a webhook")
    seconds_to_wait: int = Field(description="At most, with `Prefer: wait`")
    hours_until_expiry: int = Field(description="Of what no worker has begun, and of a draft that is left alone")
    growth_in_zip: int = Field(description="How many times larger a zip's file may become, beyond its first MiB")
    seconds_to_decode: int = Field(description="An image that takes longer is `decode_timeout`")
    bytes_to_decode: int = Field(
        description="Address space of the process that decodes; an image that needs more is `decode_memory`"
    )
    requests_per_minute: int | None = Field(description="Of one key; null: no limit")
    images_per_day: int | None = Field(description="Of one key; null: no limit")
    bytes_per_day: int | None = Field(description="Of one key; null: no limit")
    images_waiting: int | None = Field(description="In the queue, from which on submissions get 429; null: no limit")
    formats: list[str]


class Ready(BaseModel):
    ready: bool
    problems: list[str]
    workers: int = Field(description="Workers heard of in the last two minutes")
    version: str = Field(description="Of the server")
