"""What a call can end with, as one tree: every error has a stable `code`, and says whether trying again may help."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The base of all of them."""

    def __init__(self, words: str, *, code: str, retryable: bool) -> None:
        super().__init__(words)
        self.code = code
        self.retryable = retryable


class ServerAway(ClientError):
    """No answer came: nothing listens, or the connection broke."""

    def __init__(self, words: str) -> None:
        super().__init__(words, code="server_away", retryable=True)


class ServerRefused(ClientError):
    """The server answered with a problem (RFC 9457): `detail` are its words, `problem` all that it said."""

    def __init__(
        self, status: int, problem: Mapping[str, Any], retry_after_seconds: float | None, *, retryable: bool
    ) -> None:
        self.status = status
        self.problem = problem
        self.detail = str(problem["detail"])
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{self.detail} ({problem['code']})", code=str(problem["code"]), retryable=retryable)


class NotAllowed(ServerRefused):
    """The key is missing, unknown or expired (401), or may not do this (403)."""


class StillOpen(ClientError):
    """The batch had not ended, the heatmap was not drawn or the result not verified, within the time that was given."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} was not done within {seconds:g} s", code="still_open", retryable=True)


class FileUnreadable(ClientError):
    """A file cannot be read, or became shorter while it was sent."""

    def __init__(self, words: str) -> None:
        super().__init__(words, code="file_unreadable", retryable=False)


class AnswerUnknown(ClientError):
    """What came is no answer of this API: another program listens there, or the versions do not fit."""

    def __init__(self, words: str) -> None:
        super().__init__(words, code="answer_unknown", retryable=False)
