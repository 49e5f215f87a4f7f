"""A client for the HTTP API of cxr-batch. It needs httpx and pydantic, and imports nothing else of the project."""

from cxr_client.answers import Batch, Counts, History, Image, Limits, Original, Ready, Refused, Result, Step, Submitted
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
from cxr_client.records import Delivery, Label, Labelled, LabelRow, Model, ModelList, Promotion, RetrainingRun, Webhook

__all__ = [
    "AnswerUnknown",
    "Batch",
    "Client",
    "ClientError",
    "Counts",
    "Delivery",
    "Draft",
    "FileUnreadable",
    "History",
    "Image",
    "Label",
    "LabelRow",
    "Labelled",
    "Limits",
    "Model",
    "ModelList",
    "NotAllowed",
    "Original",
    "Promotion",
    "Ready",
    "Refused",
    "Result",
    "RetrainingRun",
    "ServerAway",
    "ServerRefused",
    "Step",
    "StillOpen",
    "Submitted",
    "Webhook",
]
