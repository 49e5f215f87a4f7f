"""Where the instance of this CXR_HOME answers: a file that it keeps as long as it runs."""

import json
from typing import Final

from settings import Settings

INSTANCE: Final = "instance.json"


class NotRunning(Exception):
    """No instance runs in this CXR_HOME; the message says what to do."""


def url(settings: Settings) -> str:
    """The address of the instance of this CXR_HOME, or of the server that CXR_URL names. Raises NotRunning."""
    if settings.url:
        return settings.url
    try:
        details = json.loads((settings.home / INSTANCE).read_text(encoding="utf-8"))
        return str(details["url"])
    except (OSError, ValueError, KeyError) as error:
        words = f"nothing runs in {settings.home}: start it with `cxr up`, or set CXR_HOME or CXR_URL"
        raise NotRunning(words) from error
