"""A body that is no file: whole in memory, up to a limit."""

from typing import Final

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import Problem

MOST_BYTES: Final = 10_000_000


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


def _too_large() -> Problem:
    return Problem(413, "too_large", f"Send at most {MOST_BYTES} bytes at once; images go as files.")
