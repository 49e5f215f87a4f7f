"""The server that a command talks to: its client, and how a failure ends the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from click import Context, Parameter

import operator_key
import running
from cxr_client import Client, ClientError, NotAllowed, ServerRefused
from settings import Settings
from terminal import Exit, fail, words

_PATIENCE_SECONDS = 30.0
_COMPLETIONS = 50


@contextmanager
def connected(settings: Settings, *, patience_seconds: float = _PATIENCE_SECONDS) -> Iterator[Client]:
    """A client whose failures end the command with one line."""
    try:
        url = running.url(settings)
        with Client(url, operator_key.known(settings), patience_seconds=patience_seconds, on_retry=_say) as client:
            yield client
    except running.NotRunning as error:
        fail(str(error), code="not_running", retryable=True, status=Exit.AWAY)
    except ClientError as error:
        fail(str(error), code=error.code, retryable=error.retryable, status=_status(error))


def batch_ids(_context: Context, _parameter: Parameter, begun: str) -> list[str]:
    """The newest batches that begin like this, for the shell's completion: silent, and not for long."""
    try:
        settings = Settings.from_environment()
        with Client(running.url(settings), operator_key.known(settings), patience_seconds=0) as client:
            return [batch.id for batch in client.batches(limit=_COMPLETIONS) if batch.id.startswith(begun)]
    except Exception:  # noqa: BLE001 - a word on the screen would stand in the middle of what is typed
        return []


def _say(error: ClientError, seconds: float) -> None:
    words.print(f"{error}; trying again in {seconds:.0f} s", style="yellow", markup=False, soft_wrap=True)


def _status(error: ClientError) -> Exit:
    if isinstance(error, NotAllowed):
        return Exit.NOT_ALLOWED
    if isinstance(error, ServerRefused) and error.status == HTTPStatus.GONE:
        return Exit.GONE
    return Exit.AWAY if error.retryable else Exit.REFUSED


def plain_data(answer: Any) -> Any:
    """A typed answer as JSON takes it, with the fields that this client does not know."""
    return answer.model_dump(mode="json", by_alias=True)
