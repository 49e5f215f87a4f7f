"""A client for the HTTP API of cxr-batch. It needs httpx and pydantic, and imports nothing else of the project."""

from cxr_client.answers import (
    Batch,
    Counts,
    History,
    Image,
    Label,
    Labelled,
    LabelRow,
    Limits,
    Ready,
    Refused,
    Result,
    Step,
    Submitted,
)
from cxr_client.client import Client
from cxr_client.drafts import Draft
from cxr_client.errors import (
    AnswerUnknown,
    ClientError,
    FileUnreadable,
    NotAllowed,
    ServerAway,
    ServerRefused,
    StillOpen,
)

__all__ = [
    "AnswerUnknown",
    "Batch",
    "Client",
    "ClientError",
    "Counts",
    "Draft",
    "FileUnreadable",
    "History",
    "Image",
    "Label",
    "LabelRow",
    "Labelled",
    "Limits",
    "NotAllowed",
    "Ready",
    "Refused",
    "Result",
    "ServerAway",
    "ServerRefused",
    "Step",
    "StillOpen",
    "Submitted",
]
