"""A process of the system under test: the real one, with the stand-in model, and with what the run asks for."""

import logging
import os
import random
import signal
import sys
import threading
from typing import Any

from celery.schedules import schedule as every
from sqlalchemy import event
from sqlalchemy.engine import Engine

import up
from settings import Settings
from tests.chaos import power, switches

COMMITS = "CHAOS_COMMITS"
_LONGEST_COMMIT_SECONDS = 0.004


def run(what: str) -> None:
    """Be an API, a worker or a beat, as the environment says."""
    up.die_with_supervisor()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    switches.switch_off()
    _die_in_mid_commit()
    settings = Settings.from_environment()
    {"api": _api, "worker": _worker, "beat": _beat}[what](settings)


def _api(settings: Settings) -> None:
    from api import server  # noqa: PLC0415

    power.keep_journal()
    server.serve(settings)


def _worker(settings: Settings) -> None:
    stand_in()
    from worker import process, trial  # noqa: PLC0415 - after the switches

    trial.MODULE = "tests.chaos.standin"
    process.run(settings)


def stand_in() -> None:
    """Put the stand-ins in the places of the model, the gate and the device."""
    from tests.chaos import gate, predictor  # noqa: PLC0415
    from worker import device  # noqa: PLC0415

    sys.modules["worker.predictor"] = predictor
    sys.modules["worker.gate"] = gate
    device.prepare = lambda: "stand-in"


def serve(descriptor: int, **options: Any) -> None:
    """Be the process in which an image is on trial."""
    stand_in()
    from worker import trial  # noqa: PLC0415

    trial.serve(descriptor, **options)


def _beat(settings: Settings) -> None:
    """Send every scheduled task each second, so that two of us meet."""
    from worker import beat, schedule  # noqa: PLC0415

    for entry in schedule.ENTRIES.values():
        entry["schedule"] = every(run_every=1)
    beat.run(settings)


def _die_in_mid_commit() -> None:
    """Some commits after the start, within one, the process is gone."""
    seed = os.environ.get(COMMITS)
    if not seed:
        return
    dice = random.Random(f"{seed} {os.environ.get('CHAOS_START')}")
    left = [dice.randrange(3, 40)]

    def soon(_connection: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            seconds = dice.uniform(0, _LONGEST_COMMIT_SECONDS)
            threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    event.listen(Engine, "commit", soon)


if __name__ == "__main__":
    run(sys.argv[1])
