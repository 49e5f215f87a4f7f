"""Points in time as callers write them: RFC 3339, with a zone."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BeforeValidator


def _written(value: Any) -> Any:
    """Text only: a bare number such as 2026 would pass for seconds since 1970."""
    if isinstance(value, str) and not value.lstrip("-+").replace(".", "", 1).isdecimal():
        return value
    raise ValueError("write it like 2026-11-22T00:00:00Z")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("no such year in UTC") from error


When: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_utc)]
