"""The faults by name: how often in each tier, and what the system is made of meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import libfaketime

from tests.chaos import faults
from tests.chaos.field import LEASE_SECONDS, REAL_LEASE_SECONDS, Make
from tests.chaos.scene import Scene
from tests.chaos.standin import COMMITS

SQLITE, POSTGRESQL = "sqlite", "postgresql"
TIERS = ("short", "middle", "full")
_LIBFAKETIME = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
_CLOCK = {
    "LD_PRELOAD": str(_LIBFAKETIME),
    "FAKETIME_TIMESTAMP_FILE": faults.CLOCK,
    "FAKETIME_NO_CACHE": "1",
    "DONT_FAKE_MONOTONIC": "1",  # no clock that is set does that
    "NO_FAKE_STAT": "1",
}


@dataclass(frozen=True)
class Fault:
    """`times` are the injections in each tier, over both databases; `pause` lies between two of them, in seconds.

    Where the short one has none, the middle one is the first that does it.
    `recovery_seconds` are what is promised of a recovery. Where a process `ends_itself`, its death is part of the fault.
    """

    words: str
    inject: Callable[[Scene], object]
    times: tuple[int, int, int]
    pause: tuple[float, float] = (0.3, 1.0)
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    make: Make = field(default_factory=Make)
    after: Callable[[Scene], None] = lambda _: None
    patience_seconds: float = 180
    recovery_seconds: float | None = None
    ends_itself: bool = False
    small_disk: bool = False


# What the product promises: a dead worker's images within lease + 15 s.
_LEASE = LEASE_SECONDS + 15

FAULTS = {
    "worker-kill": Fault("worker SIGKILL", faults.kill_worker, (2, 100, 1000), (0.1, 0.6), recovery_seconds=_LEASE),
    "worker-kill-real": Fault(
        "worker SIGKILL, with the real model",
        faults.kill_real_worker,
        (0, 4, 50),
        (0.5, 3),
        make=Make(workers=2, real_model=True),
        recovery_seconds=REAL_LEASE_SECONDS + 15,
    ),
    "worker-stop": Fault(
        "worker SIGSTOP past its lease", faults.stop_worker_past_its_lease, (1, 5, 50), recovery_seconds=_LEASE
    ),
    "worker-term": Fault(
        "worker SIGTERM", faults.tell_worker_to_stop, (0, 30, 30), recovery_seconds=30, after=faults.nothing_was_delayed
    ),
    "api-kill": Fault("API SIGKILL in mid-upload", faults.kill_api_in_mid_upload, (0, 10, 100), recovery_seconds=60),
    "broker-kill": Fault("broker SIGKILL", faults.kill_broker, (1, 10, 100), recovery_seconds=60),
    "broker-wipe": Fault("broker wiped", faults.wipe_broker, (0, 3, 25), recovery_seconds=60),
    "postgresql-crash": Fault(
        "PostgreSQL immediate stop",
        faults.crash_postgresql,
        (1, 5, 50),
        (4, 6),  # a recovery is measured, not the next crash
        databases=(POSTGRESQL,),
        recovery_seconds=30,
    ),
    "sqlite-commit": Fault(
        "SQLite process SIGKILL in mid-commit",
        faults.wait_for_a_death_in_mid_commit,
        (2, 20, 500),
        (0, 0),
        databases=(SQLITE,),
        make=Make(environment={COMMITS: "{seed}"}),
        ends_itself=True,
    ),
    "network": Fault(
        "network cut or half-open",
        faults.disturb_network,
        (0, 10, 100),
        databases=(POSTGRESQL,),
        make=Make(proxies=True),
        recovery_seconds=60,
    ),
    "disk-full": Fault("disk full", faults.fill_disk, (1, 3, 30), small_disk=True),
    "clock": Fault(
        "clock set by an hour",
        faults.set_clock,
        (0, 4, 40),
        (2, 4),
        make=Make(environment=_CLOCK),
        after=faults.clocks_were_wrong,
    ),
    "poison": Fault(
        "poison image (raise, exit, SIGSEGV, allocate, hang)",
        faults.poison,
        (1, 5, 50),
        patience_seconds=900,
        ends_itself=True,
    ),
    "minds": Fault("batch cancelled, retried, purged", faults.change_minds, (2, 30, 300)),
    "model-swap": Fault("model swapped under load", faults.swap_model, (0, 5, 50)),
    "model-corrupt": Fault("corrupt model file", faults.corrupt_model, (0, 2, 10), recovery_seconds=60),
    "two-beats": Fault(
        "two beats and three sweepers, seconds",
        faults.let_beats_meet,
        (0, 10, 60),
        (0, 0),
        make=Make(beats=2),
        after=faults.one_run_for_each_slot,
    ),
    "power-cut": Fault(
        "power cut: blobs that were not fsynced are gone", faults.cut_power, (1, 3, 25), (1, 2), recovery_seconds=60
    ),
}


def shares(name: str, tier: str, times: int | None = None) -> list[tuple[str, int]]:
    """(database, times): the databases of a fault share its injections; in the short tier they take turns."""
    fault = FAULTS[name]
    if tier == "short" and times is None:
        turn = list(FAULTS).index(name) % len(fault.databases)
        return [(fault.databases[turn], fault.times[0])] if fault.times[0] else []
    whole = fault.times[TIERS.index(tier)] if times is None else times
    parts = [whole // len(fault.databases) + (n < whole % len(fault.databases)) for n in range(len(fault.databases))]
    return [(database, part) for database, part in zip(fault.databases, parts, strict=True) if part]
