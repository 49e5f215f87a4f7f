"""Champions change in running workers, under load: between two batches, tried first, and one call goes back."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import keras
import pytest
from sqlalchemy import select

import up
from db import drift, operating_points, registry, tenancy, verdicts
from db.blobs import Blobs
from db.registry import Card
from db.tables import Result
from db.verdicts import Finding
from settings import Settings
from terminal import Exit
from tests.service import Service, free_port, until
from tests.test_cli import cxr as command
from training import phantoms, shipped
from worker import cnn, decoder, golden
from worker.assessment import assess
from worker.decision import Decision, ModelUnusable
from worker.gate import Gate
from worker.models import Models
from worker.predictor import Predictor

PASSED = Finding("probe_border_only", passed=True, measured=0.5, bound=0.65, words="border only 0.5")
BY = {"who": "Dr B", "reason": "test"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    environment = {"CXR_HOME": str(home), "CXR_PORT": str(free_port()), "CXR_WORKERS": "2", "CXR_DECODERS": "1"}
    settings = Settings.from_environment(environment)
    up.bring_up_to_date(settings)
    with Service.started(settings) as service:
        yield service


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in phantoms.write(tmp_path_factory.mktemp("phantoms"), 5, 1)}


def candidate(service: Service, seed: int, *, off: float = 0.0) -> str:
    """Register a network of this seed with a verdict that lets it pass; `off` falsifies what the golden ones gave."""
    keras.utils.set_random_seed(seed)
    model = cnn.build()
    weights = cnn.weights_to_bytes(model)
    card: Card = replace(shipped.load()[0], version=f"candidate-{seed}")
    decision = Decision(card.threshold, card.calibration_slope, card.calibration_intercept)
    predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=8)
    outputs = [output + off for output in golden.outputs(predictor)]
    with service.database.write() as session:
        registry.register(session, Blobs(service.settings.blobs), card, weights, actor="test")
        verdicts.record(
            session,
            card.version,
            [PASSED],
            champion=registry.champion(session).version,
            fold_fingerprint="fold",
            golden=outputs,
            reference={},
            actor="test",
        )
    return card.version


def champion(service: Service) -> str:
    found = service.http.get("/v1/models").json()["data"]
    return next(str(model["version"]) for model in found if "champion" in model["aliases"])


def call(service: Service, version: str, what: str) -> Any:
    answer = service.http.post(f"/v1/models/{version}/{what}", json=BY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def settled(service: Service) -> Any:
    def found() -> Any:
        promotion = service.http.get("/v1/models").json()["promotion"]
        return promotion["state"] != "pending" and promotion

    return until(found, "the promotion is settled")


class Load(threading.Thread):
    """Submits batch after batch until it is told to stop."""

    def __init__(self, service: Service, files: dict[str, bytes]) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._files = files
        self._stopping = threading.Event()
        self.batches: list[str] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            self.batches.append(self._service.submit(self._files))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()


@pytest.mark.long
def test_a_champion_changes_and_goes_back_under_load_and_no_batch_mixes_models(
    running: Service, files: dict[str, bytes]
) -> None:
    before, processes = champion(running), running.instance.pids("worker")
    version = candidate(running, 11)
    with Load(running, files) as load:

        def several() -> int:
            seen = len(load.batches)
            until(lambda: len(load.batches) > seen + 2, "more batches")
            return len(load.batches)

        several()
        assert call(running, version, "promote")["previous"] == before
        assert settled(running)["state"] == "in_effect"
        asked_after = several()
        assert call(running, version, "rollback")["version"] == before
        several()
    pinned = [running.progress(batch_id).model_version for batch_id in load.batches]
    for batch_id, model in zip(load.batches, pinned, strict=True):
        lines = running.wait(batch_id)
        assert {line.model_version for line in lines} == {model}
        assert {line.state for line in lines} == {"classified"}
    assert (pinned[0], pinned[asked_after - 1], pinned[-1]) == (before, version, before)
    assert running.instance.pids("worker") == processes
    assert champion(running) == before
    assert running.audit().problem is None


@pytest.mark.parametrize(("seed", "what"), [(12, "weights"), (13, "golden")])
def test_a_version_that_fails_in_the_worker_leaves_the_old_champion_and_an_alarm(
    running: Service, files: dict[str, bytes], seed: int, what: str
) -> None:
    before = champion(running)
    version = candidate(running, seed, off=0.2 if what == "golden" else 0.0)
    if what == "weights":
        with running.database.read() as session:
            path: Path = Blobs(running.settings.blobs).path(registry.find(session, version).weights_sha256)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    call(running, version, "promote")
    promotion = settled(running)
    assert (promotion["state"], champion(running)) == ("refused", before)
    assert ("damaged" if what == "weights" else "golden pictures") in promotion["problem"]
    with pytest.raises(
        ModelUnusable, match=promotion["problem"]
    ):  # nor would it be used by a worker that did not try it
        Models(running.database, Blobs(running.settings.blobs), batch_size=8).get(version)
    assert version in running.http.get("/").text
    logs = [path.read_text() for path in (running.settings.home / "logs").glob("worker-*.log")]
    assert any(f"CRITICAL worker.succession: {version} does not become champion" in log for log in logs)
    assert {line.model_version for line in running.wait(running.submit(files))} == {before}


def counted(service: Service, version: str) -> int:
    with service.database.read() as session:
        return sum(drift.inputs(session, version).get("brightness", []))


def would_change(service: Service, version: str, last: int) -> int:
    """By the model itself, here, without the shadow's code for comparing."""
    with service.database.read() as session:
        rows = session.execute(select(Result.image_sha256, Result.label).order_by(Result.id.desc()).limit(last)).all()
        model = registry.find(session, version)
        card, sha256 = registry.card_of(model), model.weights_sha256
    blobs = Blobs(service.settings.blobs)
    predictor = Predictor(blobs.read(sha256), Decision.of(card), preprocessing=card.preprocessing, batch_size=8)
    decoded = [decoder.decoded(blobs.read(row.image_sha256)) for row in rows]
    found = assess(decoded, Gate(batch_size=8), predictor.predict)
    return sum(one.label != row.label for one, row in zip(found, rows, strict=True))


def test_the_commands_shadow_promote_and_go_back(running: Service, files: dict[str, bytes]) -> None:
    before, home = champion(running), running.settings.home
    running.wait(running.submit(files))
    version = candidate(running, 14)
    last = len(files)
    shadowed = command("shadow", "--model", version, "--last", str(last), "--json", home=home)
    assert shadowed.returncode == 0, shadowed.stderr
    report = running.http.get(f"/v1/models/{version}").json()["shadow"]
    assert report["images"] == last
    assert sum(flip["images"] for flip in report["flips"]) == would_change(running, version, last)
    assert until(lambda: counted(running, before), "what came in is counted")
    with running.database.write() as session:
        operating_points.put(session, before, tenancy.DEFAULT, (0.3, (0.2, 0.4)), on={}, actor="test")
    promoted = command("promote", version, "--reason", "test", "--who", "Dr B", home=home)
    assert (promoted.returncode, champion(running)) == (0, version), promoted.stderr
    assert f"default has an operating point of its own with {before}" in promoted.stderr
    assert version in command("models", home=home).stdout
    seen = command("shadow", "--model", before, "--last", str(last), "--json", home=home)
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout)["data"]["images"] == last
    again = command("promote", version, "--reason", "test", home=home)
    assert (again.returncode, "already_champion" in again.stderr) == (Exit.REFUSED, True)
    back = command("rollback", "--reason", "test", "--json", home=home)
    assert (back.returncode, champion(running)) == (0, before), back.stderr
