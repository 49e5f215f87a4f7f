"""A worker that is told to stop while Celery starts ends as one that was told later: with 0, and its leave taken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

import up
from db.database import Database
from db.heartbeats import Worker
from settings import Settings
from tests.project import ROOT

_TOLD_WHILE_CELERY_STARTS = """
import os, signal
from celery.apps.worker import Worker

def told(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)

setattr(Worker, {moment!r}, told)
from tests.chaos import standin
standin.run("worker")
"""


@pytest.mark.parametrize("moment", ["on_before_init", "on_start"])
def test_sigterm_while_celery_starts_is_no_failure(moment: str, tmp_path: Path) -> None:
    given = {"CXR_HOME": str(tmp_path), "REDIS_URL": "memory://"}
    settings = Settings.from_environment(given)
    up.bring_up_to_date(settings)
    script = _TOLD_WHILE_CELERY_STARTS.format(moment=moment)
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False, env=os.environ | given, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Database(settings.database_url).read() as session:
        assert session.scalars(select(Worker.id)).all() == []
