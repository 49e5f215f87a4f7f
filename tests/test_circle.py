"""The whole circle on real processes: label, beat, retrain, gate, promote, workers use it, roll back."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from sqlalchemy import select

import up
from db.chains import AuditRow
from settings import Settings
from tests import teaching
from tests.service import Service, free_port, until
from tests.test_cli import cxr as command

pytestmark = pytest.mark.timeout(1800)

EPOCHS = 8
PATIENCE_SECONDS = 900
BY = {"source": "rt_pcr", "given_by": "laboratory"}
BROKEN = b"\x89PNG\r\n\x1a\n and then nothing"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Everything, with a beat that asks for retraining every minute."""
    environment = {
        "CXR_HOME": str(tmp_path_factory.mktemp("home")),
        "CXR_PORT": str(free_port()),
        "CXR_DECODERS": "1",
        "CXR_DECODE_SECONDS": "3",
        "CXR_LEASE_SECONDS": "9",
        "CXR_SWEEP_SECONDS": "2",
        "CXR_TRAINING_DATA": str(teaching.write(tmp_path_factory.mktemp("data"))),
        "CXR_RETRAIN_CRON": "* * * * *",
        "CXR_RETRAIN_EPOCHS": str(EPOCHS),
        "CXR_RETRAIN_LABELS": "4",
    }
    settings = Settings.from_environment(environment)
    up.bring_up_to_date(settings)
    with Service.started(settings) as service:
        yield service


def pictures(*, first: int) -> dict[str, bytes]:
    """Three that are ill, three that are not, and one that is broken."""
    made = {
        f"{seed}.png": teaching.png(teaching.radiograph(seed, ill=bool(seed % 2))[0])
        for seed in range(first, first + 6)
    }
    return made | {"broken.png": BROKEN}


def runs(service: Service) -> list[Any]:
    found: list[Any] = service.http.get("/v1/retraining-runs").json()["data"]
    return found


def ended(service: Service) -> Any:
    """The newest run that came to an end with a candidate."""
    return next((run for run in runs(service) if run["state"] == "succeeded"), None)


def champion(service: Service) -> str:
    models = service.http.get("/v1/models").json()["data"]
    return next(str(model["version"]) for model in models if "champion" in model["aliases"])


def versions(service: Service, first: int) -> set[str | None]:
    lines = service.wait(service.submit(pictures(first=first)), seconds=PATIENCE_SECONDS)
    return {line.model_version for line in lines if line.state == "classified"}


def trainers(service: Service) -> list[int]:
    return service.instance.pids("trainer")


@pytest.mark.long
def test_the_circle_closes(running: Service) -> None:
    before = champion(running)
    failed = until(
        lambda: next((run for run in runs(running) if run["problem"]), None), "a run", seconds=PATIENCE_SECONDS
    )
    assert (failed["state"], failed["actor"], failed["new_images"]) == ("failed", "schedule", 0)
    assert "CXR_RETRAIN_LABELS asks for 4" in failed["problem"]

    lines = running.wait(running.submit(pictures(first=9000)), seconds=PATIENCE_SECONDS)
    rows = [
        {"image_sha256": line.sha256, "label": label, "patient": line.custom_id, **BY}
        for line in lines
        for label in ("negative", "positive" if line.custom_id[3] in "13579" else "negative")  # the second one holds
    ]
    answer = running.http.post("/v1/labels", json={"labels": rows})
    assert answer.json()["kept"] == len(rows), answer.text

    started = until(
        lambda: next((run for run in runs(running) if run["state"] == "running" and run["epoch"] >= 2), None),
        "two epochs",
        seconds=PATIENCE_SECONDS,
    )
    assert psutil.Process(trainers(running)[0]).nice() == 19
    for pid in trainers(running):
        os.kill(pid, signal.SIGKILL)
    run = until(lambda: ended(running), "a candidate", seconds=PATIENCE_SECONDS)
    assert (run["id"], run["attempts"]) == (started["id"], 2)
    assert (run["actor"], run["new_images"], run["epoch"], run["passed"]) == ("schedule", 6, EPOCHS, True)
    assert resumed_after(running, run["id"]) >= 2

    candidate = run["version"]
    shown = running.http.get(f"/v1/models/{candidate}").json()
    assert shown["verdict"]["champion"] == before
    assert "challenger" in shown["aliases"]
    told = shown["config"]["labels"]
    assert (told["run"], told["images"], told["hospitals"]) == (run["id"], 6, {"default": 6})
    home = running.settings.home
    assert f"{run['id']} made {candidate}, which passes the gate" in (home / "logs" / "trainer.log").read_text()
    assert versions(running, 9100) == {before}
    seen = until(lambda: running.http.get(f"/v1/models/{candidate}").json()["shadow"], "the look at real images")
    assert seen["images"] >= 6
    promoted = command("promote", candidate, "--reason", "the circle", home=home)
    assert (promoted.returncode, champion(running)) == (0, candidate), promoted.stderr
    assert versions(running, 9200) == {candidate}
    assert command("rollback", "--reason", "the circle", home=home).returncode == 0
    assert versions(running, 9300) == {before}
    assert running.audit().problem is None


def resumed_after(service: Service, run_id: str) -> int:
    """The last epoch that the second attempt found done, by the audit."""
    statement = select(AuditRow.detail).where(AuditRow.action == "retraining.started", AuditRow.subject == run_id)
    with service.database.read() as session:
        told = [json.loads(detail) for detail in session.scalars(statement.order_by(AuditRow.seq))]
    return int(told[-1]["after_epoch"])
