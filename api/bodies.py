"""A body that is no file: whole in memory, up to a limit."""

from typing import Final, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import Problem

MOST_BYTES: Final = 10_000_000

Asked = TypeVar("Asked", bound=BaseModel)


def whole() -> bytes:
    """Return the request's body, the same at every call, or raise Problem where it is too long."""
    # One more than allowed, since werkzeug cuts a body of unknown length off at its limit without a word.
    request.max_content_length = MOST_BYTES + 1
    try:
        body = request.get_data()
    except RequestEntityTooLarge as error:
        raise _too_large() from error
    if len(body) > MOST_BYTES:
        raise _too_large()
    return body


def parsed(model: type[Asked]) -> Asked:
    """The body's JSON as `model`, or Problem where it is none."""
    try:
        return model.model_validate_json(whole())
    except ValidationError as error:
        words = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Problem(422, "invalid_request", words) from error


def _too_large() -> Problem:
    return Problem(413, "too_large", f"Send at most {MOST_BYTES} bytes at once; images go as files.")
