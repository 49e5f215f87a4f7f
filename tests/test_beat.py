"""Beat knows after its end when each task was sent last, and goes on where it cannot write that down."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from celery import Celery

from settings import Settings
from worker import schedule
from worker.beat import Scheduler
from worker.tickets import celery_app

_LATE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture
def app(tmp_path: Path) -> Celery:
    made = celery_app(Settings.from_environment({"CXR_HOME": str(tmp_path)}))
    made.conf.beat_schedule = schedule.ENTRIES
    return made


def _scheduler(app: Celery, path: Path) -> Scheduler:
    return Scheduler(app, schedule_filename=str(path))


def _note_late(scheduler: Scheduler) -> None:
    scheduler.schedule["tidy"].last_run_at = _LATE


def test_when_a_task_was_sent_last_is_known_after_the_end(app: Celery, tmp_path: Path) -> None:
    first = _scheduler(app, tmp_path / "beat")
    _note_late(first)
    first.close()
    assert _scheduler(app, tmp_path / "beat").schedule["tidy"].last_run_at == _LATE


def test_a_file_that_cannot_be_written_ends_nothing(
    app: Celery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "beat.next").mkdir()
    scheduler = _scheduler(app, tmp_path / "beat")
    _note_late(scheduler)
    scheduler.sync()
    assert "when each task was sent last is not kept: Is a directory" in caplog.text
    assert set(scheduler.schedule) >= set(schedule.ENTRIES)


def test_a_file_that_is_none_of_ours_is_replaced(app: Celery, tmp_path: Path) -> None:
    (tmp_path / "beat").write_bytes(b"something else")
    scheduler = _scheduler(app, tmp_path / "beat")
    _note_late(scheduler)
    scheduler.close()
    assert _scheduler(app, tmp_path / "beat").schedule["tidy"].last_run_at == _LATE
