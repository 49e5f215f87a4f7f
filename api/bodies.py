"""A body that is no file: whole in memory, up to a limit that holds for every request."""

from typing import Final, TypeVar

from apiflask import APIFlask
from flask import Response, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from api import problems
from api.problems import Problem
from api.wiring import parts
from settings import Settings

_FORMS: Final = {"application/x-www-form-urlencoded", "multipart/form-data"}

Asked = TypeVar("Asked", bound=BaseModel)


def limit(app: APIFlask, settings: Settings) -> None:
    """Have no request hold more of a body than this; `api.uploads` streams past it, and counts by itself."""
    app.config["MAX_CONTENT_LENGTH"] = settings.max_json_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = 0  # no field of a multipart form is ours
    app.register_error_handler(RequestEntityTooLarge, _refused)


def whole() -> bytes:
    """Return the request's body, the same at every call, or raise Problem where it is too long.

    What Flask reads by itself after this, a form or JSON, it reads from here.
    """
    most = _most()
    # One more than allowed, since werkzeug cuts a body of unknown length off at its limit without a word.
    request.max_content_length = most + 1
    try:
        body = request.get_data()
    except RequestEntityTooLarge as error:
        raise _too_large() from error
    if len(body) > most:
        raise _too_large()
    return body


def parsed(model: type[Asked]) -> Asked:
    """The body's JSON as `model`, or Problem where it is none."""
    try:
        return model.model_validate_json(whole())
    except ValidationError as error:
        words = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Problem(422, "invalid_request", words) from error


def _most() -> int:
    # Who shows no key sends two short fields at most; and a form of nothing but `&a` costs a hundred times its bytes.
    settings = parts().settings
    return settings.max_json_bytes if "caller" in g and request.mimetype not in _FORMS else settings.max_form_bytes


def _too_large() -> Problem:
    return Problem(413, "too_large", f"Send at most {_most()} bytes at once; images go as files to POST /v1/batches.")


def _refused(_error: RequestEntityTooLarge) -> Response:
    return problems.answer(_too_large())
