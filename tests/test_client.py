"""The Python client: installed alone, used as its document says, and what it does with the key."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel

import cxr_client
from api import keys, labels, models, monitoring, schemas, trail, verifications, webhooks
from api.reclassification import ReclassificationAnswer
from api.retraining import RetrainingAnswer
from cxr_client import Client, NotAllowed
from cxr_client.version import VERSION
from settings import Settings
from tests.clients import alone, client, pictures, saying
from tests.project import PYPROJECT, ROOT
from tests.service import Service

__all__ = ["alone", "pictures"]  # fixtures
FOREIGN = {"tensorflow", "keras", "celery", "flask", "sqlalchemy", "api", "worker", "db", "settings"}


# Installing


def test_the_client_alone_is_a_wheel_that_needs_none_of_the_service(tmp_path: Path) -> None:
    builder = [str(Path(sys.executable).with_name("hatchling")), "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(builder, cwd=ROOT / "cxr_client", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("cxr_client-*.whl")
    program = f"import sys, cxr_client; assert not {FOREIGN} & set(sys.modules); print(cxr_client.__file__)"
    command = [sys.executable, "-P", "-c", program]
    told = subprocess.run(
        command, env={"PYTHONPATH": str(wheel)}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(str(wheel))


def test_client_server_and_package_have_one_version() -> None:
    assert PYPROJECT["project"]["version"] == VERSION


def test_the_client_has_each_field_that_the_api_answers_and_needs_no_other() -> None:
    pairs: dict[type[BaseModel], type[BaseModel]] = {
        cxr_client.Batch: schemas.BatchStatus,
        cxr_client.Submitted: schemas.SubmittedAnswer,
        cxr_client.Counts: schemas.Counts,
        cxr_client.Image: schemas.ImageAnswer,
        cxr_client.Result: schemas.ResultAnswer,
        cxr_client.Limits: schemas.Limits,
        cxr_client.Ready: schemas.Ready,
        cxr_client.Original: schemas.OriginalAnswer,
        cxr_client.Reclassification: ReclassificationAnswer,
        cxr_client.RetrainingRun: RetrainingAnswer,
        cxr_client.ModelWhole: models.ModelWhole,
        cxr_client.Verdict: models.VerdictAnswer,
        cxr_client.Finding: models.FindingAnswer,
        cxr_client.Shadow: models.ShadowAnswer,
        cxr_client.Flip: models.Flip,
        cxr_client.Promotion: models.PromotionAnswer,
        cxr_client.Performance: monitoring.PerformanceAnswer,
        cxr_client.Rate: monitoring.RateAnswer,
        cxr_client.Drift: monitoring.DriftAnswer,
        cxr_client.Key: keys.KeyMade,
        cxr_client.Label: labels.LabelAnswer,
        cxr_client.LabelRow: labels.RowAnswer,
        cxr_client.Webhook: webhooks.WebhookMade,
        cxr_client.Delivery: webhooks.DeliveryAnswer,
        cxr_client.AuditEvent: trail.AuditEvent,
        cxr_client.AuditEnd: trail.AuditEnd,
        cxr_client.Step: trail.Step,
        cxr_client.History: trail.History,
        cxr_client.Monitoring: monitoring.MonitoringAnswer,
        cxr_client.Labelled: labels.LabelsAnswer,
        cxr_client.ModelList: models.ModelList,
        cxr_client.Verification: verifications.Verification,
    }
    for kind, answered in pairs.items():
        needed = {name for name, field in kind.model_fields.items() if field.is_required()}
        assert needed <= set(answered.model_fields) <= set(kind.model_fields), kind


# Using


def test_the_example_in_the_document_runs(service: Service, pictures: list[Path]) -> None:
    text = (ROOT / "docs" / "integrating.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example
    assert len(example[1].splitlines()) == 10
    environment = os.environ | {"CXR_URL": service.instance.url, "CXR_KEY": str(service.key)}
    command = [sys.executable, "-c", example[1], *map(str, pictures)]
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 0, told.stderr
    assert [line.split()[0] for line in told.stdout.splitlines()] == [str(path) for path in pictures]
    assert {line.split()[1] for line in told.stdout.splitlines()} <= {"positive", "negative", "inconclusive"}


def test_a_batch_is_submitted_followed_and_read_typed(service: Service, pictures: list[Path]) -> None:
    with Client(service.instance.url, service.key) as there:
        sent = there.submit([("first", pictures[0]), str(pictures[1]), pictures[2]], synthetic=True)
        seen = list(there.follow(sent.id))
        assert not seen[-1].open
        assert [batch.done for batch in seen] == sorted(batch.done for batch in seen)
        assert (seen[-1].outcome, seen[-1].counts.classified) == ("all_classified", 3)
        images = list(there.images(sent.id))
        assert [image.custom_id for image in images] == ["first", str(pictures[1]), str(pictures[2])]
        assert there.image(sent.id, "first") == images[0]
        found = there.result(str(images[0].result_id))
        assert (found.probability, found.batch_id) == (images[0].probability, sent.id)
        assert found.id in {one.id for one in there.results(model=found.model_version, since=sent.submitted_at)}
        assert list(there.results(until=datetime(2020, 1, 1, tzinfo=UTC))) == []
        assert b"".join(there.export(sent.id)).startswith(b"custom_id,")
        assert sent.id in {batch.id for batch in there.batches()}
        assert there.purge(sent.id).purged_at


def test_results_and_the_audit_come_from_as_many_pages_as_they_need(
    service: Service, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(service.instance.url, service.key) as there:
        sent = there.wait(there.submit(pictures[:3]).id)
        found = [one.id for one in there.results(model=sent.model_version)]
        told = [row.seq for row in there.audit(subject=sent.id)]
        assert (len(found) >= 3, len(told)) == (True, 2)
        monkeypatch.setattr("cxr_client.client._PAGE", 1)
        assert [one.id for one in there.results(model=sent.model_version)] == found
        assert [row.seq for row in there.audit(subject=sent.id)] == told


def test_waiting_ends_where_its_time_is_over(alone: Settings, pictures: list[Path]) -> None:
    with client(alone) as there:
        sent = there.submit(pictures)
        with pytest.raises(cxr_client.StillOpen) as error:
            there.wait(sent.id, seconds=0.1)
        assert (error.value.code, error.value.retryable) == ("still_open", True)
        assert there.cancel(sent.id).state == "cancelled"
        assert there.wait(sent.id, seconds=0.1).outcome is None
        assert there.retry(sent.id).state == "processing"


def test_batches_and_runs_come_from_as_many_pages_as_they_need(
    alone: Settings, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(alone) as there:
        sent = [there.submit(pictures[:1]).id for _ in range(103)][::-1]
        assert [batch.id for batch in there.batches(limit=101)] == sent[:101]
        assert [batch.id for batch in there.batches(limit=1000)][:103] == sent
        runs = [there.models.cancel_run(there.models.retrain().id).id for _ in range(2)]
        monkeypatch.setattr("cxr_client.succession._PAGE", 1)
        assert [run.id for run in there.models.runs()] == runs[::-1]
        assert there.batches(limit=0) == []


# The key


def test_the_key_goes_into_one_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with saying((401, {}, b"no")) as (url, heard):
        monkeypatch.setenv("CXR_URL", url)
        monkeypatch.setenv("CXR_KEY", "cxr_1_secret")
        with Client.from_environment() as there, pytest.raises(NotAllowed) as error:
            there.batches()
    (headers,) = heard
    assert [name for name, value in headers.items() if "secret" in value] == ["Authorization"]
    assert headers["Authorization"] == "Bearer cxr_1_secret"
    assert "secret" not in f"{error.value} {vars(error.value)} {vars(there)}"
