"""What the server says over HTTP: whether it takes images, its version, its clock, and whether it knows the key."""

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import operator_key
import running
from cxr_client import Client, ClientError, NotAllowed
from cxr_client.version import VERSION
from doctor.finding import Finding, failed, warning, well
from doctor.records import check_clock
from settings import Settings

_FORBIDDEN = 403
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def check_server(settings: Settings) -> Iterator[Finding]:
    """The server that the command line talks to."""
    try:
        url = running.url(settings)
    except running.NotRunning as error:
        yield failed("server", str(error), "start it with `cxr up`, or name another with CXR_URL")
        return
    try:
        with Client(url, operator_key.known(settings), patience_seconds=0) as client:
            ready, here = client.ready(), datetime.now(UTC)
            if ready.problems:
                yield failed("server", f"{url}: {'; '.join(ready.problems)}", "mend what it names")
            else:
                yield well("server", f"{url} takes images; workers: {ready.workers}")
            if ready.version != VERSION:
                seen = f"the server is {ready.version or 'older'}, this command line {VERSION}"
                yield warning("server's version", seen, "bring both to the same")
            if ready.date:
                yield check_clock("the server", ready.date, here)
            yield _key(client)
    except ClientError as error:
        yield failed("server", str(error), "start it, or check CXR_URL and the network")
    if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in _LOOPBACK:
        seen = f"{url} is not encrypted: whoever is in between reads images and the key"
        yield warning("encryption", seen, "put TLS in front of it and use https")


def _key(client: Client) -> Finding:
    try:
        client.batches(limit=1)
    except NotAllowed as error:
        if error.status == _FORBIDDEN:
            return well("key", "the server knows it; it may not read")
        return failed("key", error.detail, "set CXR_KEY to a key that is valid: `cxr key create` makes one")
    return well("key", "the server answers with it")
