"""The trainer, in this process: what ends a run, what stops it, and what promotes by itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

import up
from db import registry, runs
from db.blobs import Blobs
from db.database import Database
from db.labels import Truth
from db.retraining import RetrainingRun
from db.runs import RunState
from db.verdicts import Verdict
from settings import Settings
from tests.labelled import classified, label, picture
from tests.service import until
from training import retraining, shipped, verdicts
from training import runs as training_runs
from training.data import Radiographs
from training.parts import Parts
from training.trainer import Trainer
from worker.decoders import Decoders
from worker.tickets import Tickets, celery_app


class Bench:
    """A home with a trainer that works in a thread of the test."""

    def __init__(self, home: Path, decoders: Decoders, data: Path | None, **more: str) -> None:
        environment = {"CXR_HOME": str(home), "REDIS_URL": "memory://", **more}
        settings = Settings.from_environment(environment | ({"CXR_TRAINING_DATA": str(data)} if data else {}))
        up.bring_up_to_date(settings)
        self.database = Database(settings.database_url)
        self.parts = Parts(settings, self.database, Blobs(settings.blobs), decoders, stand_back=lambda: None)
        self.stopping = threading.Event()
        self.trainer = Trainer(self.parts, Tickets(celery_app(settings), batch_size=1), self.stopping)

    def ask(self) -> str:
        with self.database.write() as session:
            return runs.ask(session, RetrainingRun, actor="test").id

    def run(self, run_id: str) -> RetrainingRun:
        with self.database.read() as session:
            found = runs.find(session, RetrainingRun, run_id)
        assert found
        return found

    def begun(self, run_id: str) -> threading.Thread:
        """Let the trainer look in another thread, and return that once an epoch is done."""
        thread = threading.Thread(target=self.trainer.look)
        thread.start()
        until(lambda: self.run(run_id).epoch >= 1 or not thread.is_alive(), "an epoch")
        return thread


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1, seconds=20, address_space=2 << 30)
    yield made
    made.close()


@pytest.fixture
def labelled(tmp_path: Path, folder: Path, decoders: Decoders) -> Iterator[Callable[[int], Bench]]:
    """Makes a bench with a label, for so many epochs."""
    with ExitStack() as opened:

        def make(epochs: int) -> Bench:
            soon = {"CXR_RETRAIN_LABELS": "1", "CXR_RETRAIN_EPOCHS": str(epochs), "CXR_RETRAIN_EXPOSURES": "1"}
            bench = Bench(tmp_path, decoders, folder, **soon)
            opened.callback(bench.database.close)
            (sha256,) = classified(bench.database, bench.parts.blobs, picture(1))
            label(bench.database, sha256, Truth.POSITIVE)
            return bench

        yield make


@pytest.fixture
def long(labelled: Callable[[int], Bench]) -> Bench:
    """With more epochs than a test has patience for."""
    return labelled(100_000)


def test_too_few_labels_end_the_run_and_it_says_how_many_it_needs(
    tmp_path: Path, folder: Path, decoders: Decoders
) -> None:
    bench = Bench(tmp_path, decoders, folder, CXR_RETRAIN_LABELS="3")
    run_id = bench.ask()
    bench.trainer.look()
    run = bench.run(run_id)
    assert (run.state, run.new_images) == ("failed", 0)
    assert run.problem
    assert "CXR_RETRAIN_LABELS asks for 3" in run.problem
    bench.database.close()


def test_without_base_data_the_run_says_which_setting_is_missing(tmp_path: Path, decoders: Decoders) -> None:
    bench = Bench(tmp_path, decoders, None)
    run_id = bench.ask()
    bench.trainer.look()
    run = bench.run(run_id)
    assert (run.state, "CXR_TRAINING_DATA" in (run.problem or "")) == ("failed", True)
    bench.database.close()


def test_a_tensorflow_that_cannot_be_loaded_ends_the_run(tmp_path: Path, decoders: Decoders) -> None:
    bench = Bench(tmp_path, decoders, None)
    run_id = bench.ask()

    def prepare() -> None:
        raise MemoryError

    Trainer(
        bench.parts, Tickets(celery_app(bench.parts.settings), batch_size=1), bench.stopping, prepare=prepare
    ).look()
    run = bench.run(run_id)
    assert (run.state, run.problem) == (
        "failed",
        "TensorFlow cannot be loaded, MemoryError; the trainer's log says more",
    )
    bench.database.close()


def test_a_running_run_stops_when_it_is_cancelled(long: Bench) -> None:
    run_id = long.ask()
    thread = long.begun(run_id)
    with long.database.write() as session:
        runs.cancel(session, RetrainingRun, run_id, actor="test")
    thread.join()
    run = long.run(run_id)
    assert (run.state, run.version) == ("cancelled", None)
    with long.database.read() as session:
        assert registry.pointed_at(session, registry.CHALLENGER) is None


def test_a_trainer_that_is_to_end_leaves_the_run_for_the_next_one(long: Bench) -> None:
    run_id = long.ask()
    thread = long.begun(run_id)
    long.stopping.set()
    thread.join()
    left = long.run(run_id)
    assert (left.state, left.attempts) == ("queued", 1)
    long.stopping.clear()
    thread = threading.Thread(target=long.trainer.look)
    thread.start()
    until(lambda: long.run(run_id).epoch > left.epoch, "the next epoch")
    with long.database.write() as session:
        runs.cancel(session, RetrainingRun, run_id, actor="test")
    thread.join()
    assert long.run(run_id).attempts == 2


def test_a_run_that_goes_wrong_as_nobody_foresaw_fails_and_the_next_one_is_carried_out(
    tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, decoders, None, CXR_SWEEP_SECONDS="1")
    carry_out = retraining.carry_out

    def fail(*_: object) -> Verdict:
        raise ArithmeticError

    monkeypatch.setattr(retraining, "carry_out", fail)
    thread = threading.Thread(target=bench.trainer.look_now_and_then)
    first = bench.ask()
    thread.start()
    until(lambda: bench.run(first).state == RunState.FAILED, "the first run's end")
    assert bench.run(first).problem == "ArithmeticError; the trainer's log says more"
    monkeypatch.setattr(retraining, "carry_out", carry_out)
    second = bench.ask()
    until(lambda: bench.run(second).state == RunState.FAILED, "the second run's end")
    assert "CXR_TRAINING_DATA" in (bench.run(second).problem or "")
    bench.stopping.set()
    thread.join()
    bench.database.close()


def stolen(session: Session, run_id: str) -> None:
    mine = update(RetrainingRun).where(RetrainingRun.id == run_id)
    session.execute(mine.values({RetrainingRun.lease_token: "that of another trainer"}))


def cancelled(session: Session, run_id: str) -> None:
    runs.cancel(session, RetrainingRun, run_id, actor="test")


Strike = Callable[[Session, str], None]


def struck(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: ModuleType, name: str, befalls: Strike
) -> RetrainingRun:
    """A run of one epoch that something befalls right after the function of this name."""
    run_id, done = bench.ask(), getattr(where, name)

    def then(*given: Any, **more: Any) -> Any:
        made = done(*given, **more)
        with bench.database.write() as session:
            befalls(session, run_id)
        return made

    monkeypatch.setattr(where, name, then)
    bench.trainer.look()
    return bench.run(run_id)


@pytest.mark.parametrize(
    ("befalls", "state"),
    [pytest.param(stolen, RunState.RUNNING, marks=pytest.mark.long), (cancelled, RunState.CANCELLED)],
)
def test_what_befalls_a_run_after_its_last_epoch_leaves_no_candidate(
    labelled: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch, befalls: Strike, state: RunState
) -> None:
    bench = labelled(1)
    run = struck(bench, monkeypatch, training_runs, "trained", befalls)
    assert (run.state, run.epoch, run.version) == (state, 1, None)
    assert list((bench.parts.settings.home / "runs" / "tensorboard" / run.id).rglob("events.*")), "curves to look at"
    with bench.database.read() as session:
        assert [model.version for model in registry.newest(session)] == [shipped.load()[0].version]
        assert registry.pointed_at(session, registry.CHALLENGER) is None


@pytest.mark.parametrize(
    ("befalls", "state"),
    [pytest.param(stolen, RunState.RUNNING, marks=pytest.mark.long), (cancelled, RunState.SUCCEEDED)],
)
def test_a_candidate_that_is_judged_is_appointed_though_the_run_was_cancelled_but_not_by_who_lost_it(
    labelled: Callable[[int], Bench],
    radiographs: Radiographs,
    monkeypatch: pytest.MonkeyPatch,
    befalls: Strike,
    state: RunState,
) -> None:
    bench, finish, kept = labelled(1), runs.finish, list[bool]()

    def noted(session: Session, run: RetrainingRun, *given: Any, **more: Any) -> bool:
        kept.append((bench.parts.settings.home / "runs" / run.id / "checkpoint.npz").exists())
        return finish(session, run, *given, **more)

    monkeypatch.setattr(runs, "finish", noted)
    run = struck(bench, monkeypatch, verdicts, "judge", befalls)
    assert run.state == state
    ours = state == RunState.SUCCEEDED
    with bench.database.read() as session:
        candidate = registry.newest(session)[0].version
        assert candidate != shipped.load()[0].version
        assert registry.pointed_at(session, registry.CHALLENGER) == (candidate if ours else None)
        config = registry.find(session, candidate).config
    counts = {"images": 1, "left_out": 0, "positive": 1, "by": {"rt_pcr": 1}, "hospitals": {"default": 1}}
    assert config["labels"] == {"run": run.id, **counts}
    assert config[training_runs.BASE] == radiographs.fingerprint, "it is told apart from other folders"
    checkpoint = bench.parts.settings.home / "runs" / run.id / "checkpoint.npz"
    assert checkpoint.exists() != ours, "the next attempt trains no epoch again"
    assert kept == [True] * ours, "nor where this one dies before its end is committed"
