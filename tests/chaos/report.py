"""docs/reliability.md, written by the run that it tells of."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.chaos import switches
from tests.chaos.catalogue import FAULTS
from tests.chaos.field import LEASE_SECONDS
from tests.chaos.runs import Outcome
from tests.project import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"
OFF_WORDS = {
    "sweeper": "no sweeper: nobody takes back what dead workers held",
    "ring": "no second ring: each ticket is sent once",
    "lease": "no lease: a claim is for good",
    "fence": "no fence: who wakes up late stores all the same",
    "fsync": "no fsync before the answer",
    switches.NOTHING: "nothing, judged like the others",
    "plain": "one Celery task for each image, `acks_late`, Redis, no queue in SQL",
}
_TOP = """# Reliability

**The promise.** Every image that is answered with 202 reaches exactly one terminal state, with at most one result for
each model version, whatever is killed, cut, filled or wiped in between.

This page is written by `make chaos`, which breaks a real system on purpose: API, workers, beat, Valkey, SQLite and
PostgreSQL as processes, clients that note on the disk what they sent and were answered, and one checker that compares. Workers have a
stand-in model unless the table says otherwise, so that they can die by the hundred.
"""


def line(outcome: Outcome) -> str:
    """One line for a terminal."""
    recovery = f", recovery {_recovery(outcome.recoveries)} s" if outcome.recoveries else ""
    return (
        f"{outcome.fault} on {outcome.database}, {outcome.times} times, seed {outcome.seed}: {outcome.images:,} images, "
        f"lost {outcome.lost}, duplicated {outcome.duplicated}{recovery}, in {outcome.seconds:.0f} s"
    )


def write(
    outcomes: Sequence[Outcome], off: Sequence[tuple[str, Outcome]], histories: str, *, tier: str, seed: int
) -> None:
    """Write the document."""
    injected, images = sum(one.times for one in outcomes), sum(one.images for one in outcomes)
    lost, twice = sum(one.lost for one in outcomes), sum(one.duplicated for one in outcomes)
    machine = (
        f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores ({_processor()}), {_memory()}"
    )
    last = f"Last run: {datetime.now(UTC):%Y-%m-%d}, commit `{_commit()}`, seed {seed}, tier *{tier}*, {machine}.\n"
    shown = f"**{injected:,} faults, {images:,} images: {lost} lost, {twice} duplicated.**{'' if lost else _BOUND}\n"
    parts = [
        _TOP,
        last,
        shown,
        _table(outcomes),
        _METHOD.format(lease=LEASE_SECONDS),
        "## The same with a part switched off\n\nA harness that finds nothing proves nothing unless it can find something.\n",
        _off_table(off),
        f"## The queue against its model\n\n{histories}\n",
        _AGAIN,
    ]
    DOCUMENT.write_text("\n".join(parts), encoding="utf-8")


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = [
        "| fault | database | commit | injected | met work | images | lost | duplicated | a fault loses an image, 95 % | recovery p50 / max, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        recovery = _recovery(one.recoveries) if one.recoveries else ""
        words = FAULTS[one.fault].words
        met = min(len(one.recoveries), one.times) if FAULTS[one.fault].recovery_seconds else one.times
        rows.append(
            f"| {words} | {one.database} | {one.commit[:7]} | {one.times:,} | {met:,} | {one.images:,} | {one.lost} | {one.duplicated} "
            f"| {'' if one.lost else f'< {min(3 / max(met, 1), 1):.1%}'} | {recovery} |"
        )
    return "\n".join(rows) + "\n"


def _off_table(off: Sequence[tuple[str, Outcome]]) -> str:
    rows = [
        "| switched off | fault | injected | images | lost | duplicated | else |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in off:
        words = FAULTS[one.fault].words if one.fault in FAULTS else "worker SIGKILL"
        rows.append(
            f"| {OFF_WORDS[name]} | {words} | {one.times} | {one.images:,} | {one.lost} | {one.duplicated} | {one.late} |"
        )
    return "\n".join(rows) + "\n"


def _recovery(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f}"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], check=False, cwd=ROOT).returncode
    return done.stdout.strip() + (" and changes" if changed else "")


_BOUND = """ No loss in n faults of a kind shows, at 95 %, that fewer than 3/n of them lose
an image, on this machine and for this fault: the column says so. It does not show that none ever will."""
_METHOD = """**Recovery**: for a worker's death or sleep, until all the images that it held and that had to be claimed again are finished
(lease {lease} s here, 60 s by default; faults that met no work are left out); for a broker, until a batch is done whose tickets were lost; until a
stopped worker has ended; until the API answers again; for PostgreSQL the images that were held too; else from the end of the fault until the next image is finished.

**What is checked** after each run: every image that was answered with 202 is classified, or quarantined where it was made to
end workers; at most one result for each image and model version; no result for an unknown image or from another model;
blobs hash to their names; the audit chain verifies and covers every image; no lease is left; sending a request again under its
`Idempotency-Key` made nothing new.

**Blamed** as `worker_died` is an image only when two processes that judged it and nothing else ended before a worker's eyes, or at ten strikes:
[suspects](architecture.md#the-queue-of-record). When three deaths with the image alone were enough, these same cuts of commits and power
blamed 4 good images of 219,038.

**What is not**: a real power cut (blobs that were not fsynced are taken away by us; SQLite's and PostgreSQL's own
promises are believed), more than one machine, failing memory, a disk that lies.
"""
_AGAIN = """## Run it yourself

    make chaos                                     # everything; what is done at this commit is not done again
    make chaos FAULT=worker-kill N=20 SEED=7       # one fault; the same seed makes the same choices
    make chaos TIER=middle                         # a tenth of it
    make chaos ALSO="COMMIT..."                    # what was kept at those commits counts too; the table says which is whose

The faults by name: {names}.
""".format(names=", ".join(f"`{name}`" for name in FAULTS))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> str:
    return f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
