"""A client for the HTTP API of cxr-batch. It needs httpx and pydantic, and imports nothing else of the project."""

from cxr_client.answers import Batch, Counts, Image, Labelled, LabelRow, Limits, Ready, Refused, Result, Submitted
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
    "Image",
    "LabelRow",
    "Labelled",
    "Limits",
    "NotAllowed",
    "Ready",
    "Refused",
    "Result",
    "ServerAway",
    "ServerRefused",
    "StillOpen",
    "Submitted",
]
