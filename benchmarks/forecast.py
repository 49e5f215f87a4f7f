"""How far off the forecast is: what the API said at a quarter, a half and three quarters, against what then happened."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks import instance
from benchmarks.instance import Bench
from db import heartbeats
from training import phantoms

_DRAWN, _IMAGES, _ROUNDS = 48, 2_000, 5
_SHARES = (0.25, 0.5, 0.75)
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class _Look:
    """What the API said at one moment."""

    at: float
    progress: float
    eta_seconds: float | None


def figure() -> None:
    """Print the median error of `eta_seconds`, as a share of the time that was really left."""
    errors: dict[float, list[float]] = {share: [] for share in _SHARES}
    with tempfile.TemporaryDirectory() as drawn, instance.running() as bench:
        paths = list(islice(cycle(phantoms.write(Path(drawn), count=_DRAWN, seed=1)), _IMAGES))
        items = bench.keep(paths)
        bench.wait(bench.submit(items[: _IMAGES // 4]))
        _await_pace(bench)
        for number in range(1, _ROUNDS + 1):
            found = _watched(bench, bench.submit(items))
            for share, error in found.items():
                errors[share].append(error)
            print(f"  round {number}: " + ", ".join(f"at {share:.0%} {error:+.0%}" for share, error in found.items()))
    for share, told in errors.items():
        sizes = [abs(error) for error in told]
        print(f"forecast at {share:.0%}: median error {statistics.median(sizes):.0%}, worst {max(sizes):.0%}")


def _await_pace(bench: Bench) -> None:
    """A worker says how fast it is with its next sign of life."""
    while True:
        with bench.database.read() as session:
            if heartbeats.images_per_second(session):
                return
        time.sleep(_LOOK_SECONDS)


def _watched(bench: Bench, batch_id: str) -> dict[float, float]:
    """Follow the batch to its end and return, for each share, the first forecast's error; late is positive."""
    looks: list[_Look] = []
    while True:
        answer = bench.ask(batch_id)
        if answer.finished_at:
            break
        looks.append(_Look(time.time(), answer.progress, answer.eta_seconds))
        time.sleep(_LOOK_SECONDS)
    end = bench.finished(batch_id)
    found = {}
    for share in _SHARES:
        look = next(look for look in looks if look.progress >= share and look.eta_seconds is not None)
        left = end - look.at
        found[share] = ((look.eta_seconds or 0.0) - left) / left
    return found
