"""Texts as callers write them: without control characters, of which no database takes every one."""

from typing import Annotated, TypeAlias

from pydantic import StringConstraints

Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$")]
