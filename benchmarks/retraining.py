"""The line's speed while a candidate is trained, against its speed without: the trainer has to step back."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import instance
from benchmarks.images import repeated
from db import labels, runs, tenancy
from db.labels import Given, Source, Truth
from db.retraining import RetrainingRun
from db.runs import RunState
from training import phantoms

_IMAGES = 1_000
_ROUNDS = 5
_PATIENTS = 60
_SECONDS = 600
_POLL_SECONDS = 0.2


def figure() -> None:
    """Rounds with and without training in turn, since these machines' speed drifts."""
    with tempfile.TemporaryDirectory() as folder:
        phantoms.write_layout(Path(folder), patients=_PATIENTS, seed=1)
        settings = {
            "CXR_TRAINING_DATA": folder,
            "CXR_RETRAIN_CRON": "0 0 29 2 *",
            "CXR_RETRAIN_LABELS": "1",
            "CXR_RETRAIN_EPOCHS": "100000",
        }
        with instance.running(**settings) as bench:
            items = bench.keep(repeated(_IMAGES))
            bench.wait(bench.submit(items[:200]))  # warm
            _label(bench, items[0].sha256)
            ratios = []
            for number in range(_ROUNDS):
                alone = _IMAGES / bench.wait(bench.submit(items))
                run_id = _training(bench)
                beside = _IMAGES / bench.wait(bench.submit(items))
                _cancelled(bench, run_id)
                ratios.append(beside / alone)
                print(f"  round {number + 1}: alone {alone:.0f} images/s, while training {beside:.0f} images/s")
    print(f"line while a candidate is trained / line alone: {statistics.median(ratios):.2f}")


def _label(bench: instance.Bench, sha256: str) -> None:
    with bench.database.of(tenancy.DEFAULT).write() as session:
        labels.give(session, [Given(Truth.POSITIVE, Source.RT_PCR, "bench", image_sha256=sha256)], actor="bench")


def _training(bench: instance.Bench) -> str:
    """Ask for a run, and return once it trains."""
    with bench.database.write() as session:
        run_id = runs.ask(session, RetrainingRun, actor="bench").id
    _until(bench, run_id, lambda run: run.epoch >= 1)
    return run_id


def _cancelled(bench: instance.Bench, run_id: str) -> None:
    """The run must have trained all the while."""
    with bench.database.write() as session:
        run = runs.find(session, RetrainingRun, run_id)
        if run is None or run.state != RunState.RUNNING:
            raise AssertionError("the run ended before the line did")
        runs.cancel(session, RetrainingRun, run_id, actor="bench")
    _until(bench, run_id, lambda run: run.state == RunState.CANCELLED)


def _until(bench: instance.Bench, run_id: str, condition: Callable[[RetrainingRun], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with bench.database.read() as session:
            run = runs.find(session, RetrainingRun, run_id)
            if run and run.state == RunState.FAILED:
                raise AssertionError(run.problem)
            if run and condition(run):
                return
        time.sleep(_POLL_SECONDS)
    raise AssertionError(f"{run_id} does not get there in {_SECONDS} s")
