"""Whatever the HTTP API can do, a command does against any server."""

from typing import Any

from tests.test_docs import LEAVES
from tests.uploading import Api

COMMANDS = {
    "GET /livez": "doctor",
    "GET /readyz": "doctor",
    "GET /v1/audit": "audit list",
    "GET /v1/audit/head": "audit verify",
    "GET /v1/batches": "status",
    "POST /v1/batches": "submit",
    "GET /v1/batches/{batch_id}": "status",
    "DELETE /v1/batches/{batch_id}": "purge",
    "POST /v1/batches/{batch_id}/cancel": "cancel",
    "POST /v1/batches/{batch_id}/retry": "retry",
    "POST /v1/batches/{batch_id}/submit": "draft submit",
    "GET /v1/batches/{batch_id}/images": "images",
    "GET /v1/batches/{batch_id}/images/{custom_id}": "images",
    "PUT /v1/batches/{batch_id}/images/{custom_id}": "draft put",
    "GET /v1/batches/{batch_id}/results": "results",
    "GET /v1/batches/{batch_id}/results.{suffix}": "results",
    "GET /v1/keys": "key list",
    "POST /v1/keys": "key create",
    "DELETE /v1/keys/{key_id}": "key revoke",
    "GET /v1/labels": "labels",
    "POST /v1/labels": "label",
    "GET /v1/limits": "limits",
    "GET /v1/models": "models",
    "GET /v1/models/{version}": "models",
    "GET /v1/models/{version}/monitoring": "monitoring",
    "POST /v1/models/{version}/promote": "promote",
    "POST /v1/models/{version}/rollback": "rollback",
    "GET /v1/reclassifications": "reclassify",
    "POST /v1/reclassifications": "reclassify",
    "GET /v1/reclassifications/{run_id}": "reclassify",
    "POST /v1/reclassifications/{run_id}/cancel": "reclassify",
    "GET /v1/results": "results",
    "GET /v1/results/{result_id}": "result",
    "GET /v1/results/{result_id}/heatmap.png": "result",
    "GET /v1/results/{result_id}/history": "history",
    "GET /v1/results/{result_id}/verifications": "verify",
    "POST /v1/results/{result_id}/verifications": "verify",
    "GET /v1/retraining-runs": "retrain",
    "POST /v1/retraining-runs": "retrain",
    "GET /v1/retraining-runs/{run_id}": "retrain",
    "POST /v1/retraining-runs/{run_id}/cancel": "retrain",
    "GET /v1/webhooks": "webhook list",
    "POST /v1/webhooks": "webhook add",
    "GET /v1/webhooks/{webhook_id}": "webhook list",
    "DELETE /v1/webhooks/{webhook_id}": "webhook remove",
    "GET /v1/webhooks/{webhook_id}/deliveries": "webhook deliveries",
}
"""One row for each call; a new call needs a command first."""

FOR_MONITORING_SYSTEMS = {"GET /metrics"}


def test_every_call_has_a_command(api: Api) -> None:
    document: Any = api.client.get("/openapi.json").json
    calls = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert calls - FOR_MONITORING_SYSTEMS == set(COMMANDS)
    assert {f"cxr {command}" for command in COMMANDS.values()} <= set(LEAVES)
