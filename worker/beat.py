"""Beat: sends the scheduled tasks at their times, on a full disk too."""

import contextlib
import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from celery.beat import PersistentScheduler

from settings import Settings
from worker import schedule
from worker.tickets import celery_app

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Send them, until SIGTERM."""
    app = celery_app(settings)
    app.conf.beat_schedule = schedule.entries(settings)
    app.Beat(schedule=str(settings.home / "beat"), scheduler_cls=Scheduler, loglevel="INFO").run()


class LastTimes(dict[str, Any]):
    """When each task was sent last, in a file that is replaced as a whole.

    Where it cannot be written, beat goes on: after its end it may send a task twice, and the task's slot is taken then.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        with contextlib.suppress(FileNotFoundError):
            self.update(pickle.loads(path.read_bytes()))  # noqa: S301 - ours, in CXR_HOME

    @classmethod
    def open(cls, path: str, *, writeback: bool) -> Self:
        """Stand in for shelve.open."""
        del writeback
        return cls(Path(path))

    def sync(self) -> None:
        following = self._path.with_suffix(".next")
        try:
            following.write_bytes(pickle.dumps(dict(self)))
            following.replace(self._path)
        except OSError as error:
            log.warning("when each task was sent last is not kept: %s", error.strerror)

    close = sync


class Scheduler(PersistentScheduler):  # type: ignore[misc]
    """Celery's own, which keeps its times in three files and ends where they cannot be written."""

    persistence = SimpleNamespace(open=LastTimes.open)
