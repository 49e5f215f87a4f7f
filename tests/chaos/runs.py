"""One run of one fault on one database: start, load, inject again and again, settle, check."""

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests import postgres
from tests.chaos import checker, field, power
from tests.chaos.catalogue import FAULTS, SQLITE, Fault
from tests.chaos.field import Field
from tests.chaos.load import History, Load
from tests.chaos.scene import Scene
from tests.service import until

_SMALL_DISK_MB = 48
_OFF_PATIENCE_SECONDS = 25


@dataclass(frozen=True)
class Outcome:
    """What a run showed; `recoveries` in seconds."""

    fault: str
    database: str
    times: int
    seed: int
    images: int
    lost: int
    duplicated: int
    problems: list[str]
    recoveries: list[float]
    seconds: float
    broken: int = 0
    """Of the problems, those that are broken rules; the others are a process that ended or somebody who gave up."""
    commit: str = ""
    """Of the code that was run, where the outcome was kept."""

    @property
    def holds(self) -> bool:
        return not (self.lost or self.duplicated or self.problems)

    @property
    def late(self) -> str:
        """That a recovery took longer than is promised; a busy machine does that too, so it is told apart."""
        promised = FAULTS[self.fault].recovery_seconds if self.fault in FAULTS else None
        slowest = max(self.recoveries, default=0)
        late = promised is not None and slowest > promised
        return f"a recovery took {slowest:.1f} s, {promised:.0f} s is promised" if late else ""


def run(
    name: str,
    database: str,
    times: int,
    seed: int,
    *,
    off: str = "",
    injected: Callable[[int], object] = lambda _: None,
) -> Outcome:
    """Run it; `off` switches off a part of the promise. `injected` hears of every injection."""
    fault = FAULTS[name]
    start = time.monotonic()
    environment = {name: value.replace("{seed}", str(seed)) for name, value in fault.make.environment.items()}
    make = replace(fault.make, off=off, environment=environment)
    with (
        _places(fault) as (home, logs),
        _server(database, fault, home) as server,
        field.running(home, logs, make, server) as system,
    ):
        scene, history = _inject(system, fault, times, seed, injected)
        settled = system.settle(_OFF_PATIENCE_SECONDS if off else fault.patience_seconds)
        fault.after(scene)
        verdict = checker.check(
            system.database,
            system.blobs,
            history.sent(),
            poisoned=frozenset(scene.poisoned),
            cancelled=frozenset(scene.cancelled),
            purged=frozenset(scene.purged),
        )
        history.close()
        recoveries = scene.measured()
        problems = [*verdict.problems, *scene.notes, *scene.load.gave_up]
        if not settled:
            problems.append("not every batch came to its end in time")
        if not fault.ends_itself:
            problems += system.deaths
        return Outcome(
            name, database, times, seed, verdict.images, verdict.lost, verdict.duplicated, problems, recoveries,
            time.monotonic() - start, len(verdict.problems),
        )  # fmt: skip


def _inject(
    system: Field, fault: Fault, times: int, seed: int, injected: Callable[[int], object]
) -> tuple[Scene, History]:
    history = History(system.logs / "history")
    load = Load(system.url, history, seed=seed, waiting=system.waiting, headers=system.headers)
    scene = Scene(system, load, random.Random(seed), power.present(system.blobs.root))
    with load:
        until(lambda: scene.load.answers[202], "the first batch")
        for number in range(1, times + 1):
            fault.inject(scene)
            injected(number)
            time.sleep(scene.dice.uniform(*fault.pause))
    return scene, history


@contextmanager
def _places(fault: Fault) -> Iterator[tuple[Path, Path]]:
    """The home of the system, and a directory for logs and history that no fault touches."""
    with tempfile.TemporaryDirectory(prefix="cxr-chaos-") as directory:
        home = Path(directory) / "home"
        home.mkdir()
        home.parent.chmod(0o755)  # PostgreSQL's user reads the clock there
        if fault.small_disk:
            size = f"size={_SMALL_DISK_MB}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", home], check=True)
        try:
            yield home, Path(directory) / "logs"
        finally:
            if fault.small_disk:
                subprocess.run(["umount", "--lazy", home], check=True)


@contextmanager
def _server(database: str, fault: Fault, home: Path) -> Iterator[postgres.Server | None]:
    """PostgreSQL, where it is the turn of it; its clock is set with all the others."""
    if database == SQLITE:
        yield None
        return
    environment = {name: value.format(home=home) for name, value in fault.make.environment.items()}
    if "LD_PRELOAD" in environment:  # its user may not be allowed to look into the checkout
        environment["LD_PRELOAD"] = shutil.copy(environment["LD_PRELOAD"], str(home.parent))
    with postgres.own(environment) as server:
        yield server
