"""A batch's results as JSON, NDJSON and CSV, streamed."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Final

from api.schemas import BatchAnswer, ImageAnswer
from db import batches
from db.batches import Line, Progress
from db.database import Database

_NOW = (
    *("custom_id", "state", "code", "label", "probability", "model_version", "sha256", "reasons"),
    *("threshold", "band_low", "band_high"),
)
_FIRST = ("label", "probability", "model_version")
_NOTES = "notes"
COLUMNS: Final = (*_NOW, *(f"original_{name}" for name in _FIRST), _NOTES)  # a new one comes last
_PIECE = 32_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def gathered(lines: Iterable[str]) -> Iterator[str]:
    """Yield the same text in pieces of at least 32,000 characters: each costs a chunk of HTTP, whatever is in it."""
    piece = io.StringIO()
    for line in lines:
        piece.write(line)
        if piece.tell() >= _PIECE:
            yield piece.getvalue()
            piece = io.StringIO()
    if piece.tell():
        yield piece.getvalue()


def as_csv(database: Database, batch_id: str) -> Iterator[str]:
    """Yield a header and one row per image, in the order of submission."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    with database.read() as session:
        for line in batches.lines(session, batch_id):
            writer.writerow(_cells(line))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cells(line: Line) -> list[str]:
    """What stands now, and behind it, where that is an amendment, what was said first."""
    now = [_cell(getattr(line, name)) for name in _NOW]
    return [*now, *(_cell(getattr(line.original, name, None)) for name in _FIRST), _cell(line.notes)]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, list):
        return " ".join(value)
    # A spreadsheet runs a cell that begins like a formula; the quote makes it text.
    return f"'{value}" if str(value).startswith(_FORMULA) else str(value)


def as_json(database: Database, progress: Progress) -> Iterator[str]:
    """Yield the ResultList of the batch piece by piece."""
    yield f'{{"batch": {BatchAnswer.of(progress).model_dump_json()}, "data": ['
    with database.read() as session:
        for number, line in enumerate(batches.lines(session, progress.id)):
            yield (",\n" if number else "\n") + json.dumps(ImageAnswer.of(line).model_dump(mode="json"))
    yield "\n]}\n"


def as_ndjson(database: Database, batch_id: str) -> Iterator[str]:
    """Yield one JSON object for each image, a line each."""
    with database.read() as session:
        for line in batches.lines(session, batch_id):
            yield json.dumps(ImageAnswer.of(line).model_dump(mode="json")) + "\n"
