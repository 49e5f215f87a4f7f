"""Ground truth comes in, as JSON or CSV, row by row, and is shown with its history."""

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self

from apiflask import APIBlueprint
from flask import current_app, json, request
from pydantic import BaseModel, Field, ValidationError, model_validator

from api import bodies
from api.access import needs
from api.batches import Query
from api.moments import When
from api.problems import Problem
from api.texts import Text
from api.wiring import parts, who
from db import labels
from db.keys import Scope
from db.labels import Given, GroundTruth, Kept, Source, Truth

blueprint = APIBlueprint("labels", __name__, url_prefix="/v1/labels", tag="Labels")

MOST_ROWS: Final = 10_000
_WORDS = {
    "result_unknown": "there is no result of this id",
    "image_unknown": "no image with these bytes was ever submitted",
}


class LabelRow(BaseModel, extra="forbid"):
    """What was found, by whom, on exactly one study, image or result."""

    accession: Annotated[Text, Field(max_length=64)] | None = Field(default=None, description="The study's number")
    image_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="As results name it"
    )
    result_id: Annotated[str, Field(pattern="^result_[0-9a-f]+$")] | None = None
    label: Truth
    source: Source
    given_by: Annotated[Text, Field(max_length=200)] = Field(description="Who found it; no patient")
    found_at: When | None = Field(default=None, description="When it was found")
    patient: Annotated[Text, Field(max_length=200)] | None = Field(
        default=None, description="Your pseudonym; only its SHA-256 is kept"
    )

    @model_validator(mode="after")
    def _of_one_thing(self) -> Self:
        if sum(one is not None for one in (self.accession, self.image_sha256, self.result_id)) != 1:
            raise ValueError("give exactly one of accession, image_sha256 and result_id")
        return self


class LabelRows(BaseModel, extra="forbid"):
    labels: list[LabelRow]


class RowAnswer(BaseModel):
    row: int = Field(description="Counted from 1, without the header")
    status: int = Field(description="200 or 422")
    id: int | None
    images: int = Field(description="Stored images that it is of, so far")
    detail: str | None = Field(description="Why it was refused")


class LabelsAnswer(BaseModel):
    kept: int
    refused: int
    rows: list[RowAnswer]


class LabelAnswer(BaseModel):
    id: int
    accession: str | None
    image_sha256: str | None
    label: Truth
    source: Source
    given_by: str
    patient: str | None = Field(description="SHA-256 of the pseudonym")
    found_at: datetime | None
    actor: str
    created_at: datetime

    @classmethod
    def of(cls, label: GroundTruth) -> "LabelAnswer":
        return cls(**{name: getattr(label, name) for name in cls.model_fields})


class LabelList(BaseModel):
    data: list[LabelAnswer]
    has_more: bool
    after: str | None = Field(description="Pass as `after` for the next page")


class LabelsQuery(Query):
    accession: str | None = Field(default=None, max_length=64)
    image_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = Field(default=None, pattern="^[0-9]{1,12}$", description="`after` of the page before")


@blueprint.post("")
@needs(Scope.REVIEW)
@blueprint.output(LabelsAnswer)
@blueprint.doc(summary="Give labels as JSON or CSV; each row has its own answer", responses=[400, 413, 415, 422])
def give() -> LabelsAnswer:
    rows = list(_rows())
    if not 0 < len(rows) <= MOST_ROWS:
        raise Problem(422, "labels_count", f"Give 1 to {MOST_ROWS} labels; there are {len(rows)}.")
    checked = [_checked(row) for row in rows]
    with parts().database.write() as session:
        kept = iter(labels.give(session, [one for one in checked if isinstance(one, Given)], actor=who()))
        answers = [
            _answer(number, next(kept) if isinstance(one, Given) else one)
            for number, one in enumerate(checked, start=1)
        ]
    good = sum(answer.id is not None for answer in answers)
    if not good:
        told = [answer.model_dump() for answer in answers]
        raise Problem(422, "labels_refused", "None of the labels can be kept; `rows` says why.", rows=told)
    current_app.logger.info("kept %d labels, refused %d", good, len(answers) - good)
    return LabelsAnswer(kept=good, refused=len(answers) - good, rows=answers)


@blueprint.get("")
@needs(Scope.READ)
@blueprint.input(LabelsQuery, location="query", arg_name="query")
@blueprint.output(LabelList)
@blueprint.doc(summary="Labels, newest first; of one image the newest holds")
def index(query: LabelsQuery) -> LabelList:
    with parts().database.read() as session:
        found = labels.newest(
            session,
            limit=query.limit + 1,
            after=int(query.after) if query.after else None,
            accession=query.accession,
            image_sha256=query.image_sha256,
        )
        page = [LabelAnswer.of(label) for label in found[: query.limit]]
    more = len(found) > query.limit
    return LabelList(data=page, has_more=more, after=str(page[-1].id) if more else None)


def _rows() -> Iterator[Any]:
    """The body's rows as they came, unchecked."""
    body = bodies.whole()
    if request.mimetype not in {"application/json", "text/csv"}:
        raise Problem(415, "unsupported_media_type", "Send application/json or text/csv.")
    try:
        text = body.decode("utf-8-sig")
        if request.mimetype == "text/csv":
            yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
        else:
            yield from json.loads(text)["labels"]
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        words = 'Send UTF-8: {"labels": [...]}, or CSV whose first line names the columns.'
        raise Problem(400, "malformed_body", words) from error


def _checked(row: Any) -> Given | str:
    """The row, or why it is refused. A cell that is empty was not given."""
    if isinstance(row, Mapping):
        row = {name or "": value for name, value in row.items() if value not in {"", None}} if _plain(row) else None
    try:
        return Given(**vars(LabelRow.model_validate(row)))
    except ValidationError as error:
        told = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        return "; ".join(f"{name}: {words}" if name else words for name, words in told)


def _plain(row: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, str | int | float | None) for value in row.values())


def _answer(number: int, answer: Kept | str) -> RowAnswer:
    if isinstance(answer, Kept):
        if answer.label:
            return RowAnswer(row=number, status=200, id=answer.label.id, images=answer.images, detail=None)
        answer = _WORDS[answer.refused or ""]
    return RowAnswer(row=number, status=422, id=None, images=0, detail=answer)


def describe(spec: Any) -> Any:
    """Add the body of `give` to the OpenAPI document."""
    content = {
        "application/json": {"schema": LabelRows.model_json_schema(ref_template="#/components/schemas/{model}")},
        "text/csv": {"schema": {"type": "string"}},
    }
    schemas = content["application/json"]["schema"].pop("$defs", {})
    spec.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    spec["paths"]["/v1/labels"]["post"]["requestBody"] = {"required": True, "content": content}
    return spec
