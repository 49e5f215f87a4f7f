"""Rows of the audit as FHIR R4 AuditEvents, for a hospital's own audit repository."""

import json
from typing import Any, Final

from db.chains import AuditRow

_LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_OURS: Final = "urn:cxr-batch:audit"
_IDS: Final = "urn:cxr-batch:id"

_Kind = tuple[str, str, str]  # (system, code, create | read | update | delete | execute)
_ANY: Final[_Kind] = (_DICOM, "110100", "E")  # Application Activity
# AuditEvent.type is extensible, and what happens to a record in its life has codes of its own: ISO 21089.
_KINDS: Final[dict[str, _Kind]] = {
    "batch.submitted": (_LIFECYCLE, "receive", "C"),
    "batch.purged": (_LIFECYCLE, "destroy", "D"),
    "image.classified": (_LIFECYCLE, "originate", "C"),
    "result.viewed": (_LIFECYCLE, "access", "R"),
    "results.viewed": (_LIFECYCLE, "access", "R"),
    "results.searched": (_LIFECYCLE, "access", "R"),
    "results.exported": (_LIFECYCLE, "disclose", "R"),
    "result.amended": (_LIFECYCLE, "amend", "U"),
    "result.verified": (_LIFECYCLE, "verify", "R"),
    "results.purged": (_LIFECYCLE, "destroy", "D"),
    "label.given": (_LIFECYCLE, "attest", "C"),
    "audit.pruned": (_LIFECYCLE, "destroy", "D"),
    "audit.viewed": (_LIFECYCLE, "access", "R"),
    "audit.exported": (_LIFECYCLE, "disclose", "R"),
}
_IP_ADDRESS: Final = "2"
_MACHINE_NAME: Final = "1"


def audit_event(row: AuditRow) -> dict[str, Any]:
    """Return the row as an AuditEvent resource; its entity carries all that the hash is made of."""
    system, code, action = _KINDS.get(row.action, _ANY)
    agent: dict[str, Any] = {
        "who": {"identifier": {"system": _IDS, "value": row.actor}, "display": row.actor},
        "requestor": True,
    }
    if row.origin:
        kind = _MACHINE_NAME if row.actor.startswith("cli:") else _IP_ADDRESS
        agent["network"] = {"address": row.origin, "type": kind}
    return {
        "resourceType": "AuditEvent",
        "id": row.hash,
        "type": {"system": system, "code": code},
        "subtype": [{"system": _OURS, "code": row.action}],
        "action": action,
        "recorded": row.at,
        "outcome": "0",  # what failed leaves no row
        "agent": [agent],
        "source": {"observer": {"display": "cxr-batch"}},
        "entity": [{"what": {"identifier": {"system": _IDS, "value": row.subject}}, "detail": _details(row)}],
    }


def _details(row: AuditRow) -> list[dict[str, str]]:
    told = {
        "tenant": row.tenant,
        "seq": str(row.seq),
        "batch_id": row.batch_id,
        "detail": row.detail,
        "previous_hash": row.previous_hash,
        "hash": row.hash,
    }
    return [{"type": name, "valueString": value} for name, value in told.items() if value]


def as_line(row: AuditRow) -> str:
    return json.dumps(audit_event(row))
