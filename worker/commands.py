"""What computes again what was kept, where the images are: verify, reclassify."""

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.progress import MofNCompleteColumn

import home
from db import amendments, audit, confirmation, registry, results
from db.blobs import Blobs
from db.tables import Label
from settings import Settings
from terminal import NOTICE, Exit, answer, answers, bar, fail, json_option, operator
from worker import device

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.verification import Bench

_Pairs = Counter[tuple[Label, Label]]


@contextmanager
def _bench(settings: Settings, *, decoders: int) -> Iterator["Bench"]:
    device.quiet()
    from worker.decoders import Decoders  # noqa: PLC0415
    from worker.judge import Judge  # noqa: PLC0415 - loads TensorFlow
    from worker.models import Models  # noqa: PLC0415
    from worker.verification import Bench  # noqa: PLC0415

    database, blobs = home.database(settings), Blobs(settings.blobs)
    models = Models(database, blobs, batch_size=settings.batch_size)
    children = Decoders(decoders, seconds=settings.decode_seconds, address_space=settings.decode_bytes)
    try:
        judge = Judge(models, batch_size=settings.batch_size, longest_seconds=settings.lease_seconds)
        yield Bench(database, blobs, children, models, judge)
    finally:
        children.close()
        database.close()


def computed_again(settings: Settings, result: str) -> dict[str, Any]:
    """What `cxr verify` finds where the images are; ends the command where there is no such result."""
    with _bench(settings, decoders=1) as bench:
        from worker import verification  # noqa: PLC0415

        with bench.database.read() as session:
            found = results.one(session, result)
        if found is None:
            fail(f"there is no result {result}")
        told = verification.told(found, bench)
        actor, origin = operator()
        with audit.coming_from(origin), bench.database.write() as session:
            confirmation.keep(session, found, actor, told)
    return told


@click.command()
@click.option("--model", "old", required=True, help="Version whose results are seen anew.")
@click.option("--with", "new", required=True, help="Version that sees them anew.")
@click.option("--dry-run", "dry", is_flag=True, help="Compute and count, but keep nothing.")
@json_option
@click.pass_obj
def reclassify(settings: Settings, old: str, new: str, *, dry: bool) -> None:
    """See every result of a model version anew with another, and keep that beside the original.

    Killed and run again, it goes on where it was. Exits with 1 if some images could not be seen anew.
    """
    if old == new:
        fail("--model and --with name the same version")
    with _bench(settings, decoders=settings.decoders) as bench:
        from worker.decision import ModelUnusable  # noqa: PLC0415
        from worker.reclassification import Reclassification  # noqa: PLC0415

        with bench.database.read() as session:
            _check(session, old, new)
            total = amendments.count(session, old, new)
        work = Reclassification(
            bench.database, bench.blobs, bench.decoders, bench.models, bench.judge, settings.batch_size
        )
        actor, origin = operator()
        with bar("seeing anew", MofNCompleteColumn()) as progress, audit.coming_from(origin):
            task = progress.add_task("seeing anew", total=total)
            try:
                report = work.run(
                    old,
                    new,
                    actor=actor,
                    worker=f"{socket.gethostname()}-{os.getpid()}-reclassify",
                    dry=dry,
                    on_progress=lambda number: progress.advance(task, number),
                )
            except ModelUnusable as error:
                fail(str(error))
        with bench.database.read() as session:
            changes = report.changes if dry else Counter(amendments.changes(session, old, new))
    _tell(report.changes.total(), changes, report.missing, dry=dry)
    sys.exit(Exit.PROBLEM if report.missing else Exit.DONE)


def _check(session: "Session", old: str, new: str) -> None:
    try:
        registry.find(session, old)
        registry.find(session, new)
    except registry.VersionUnknown as error:
        fail(str(error))


def _tell(now: int, changes: _Pairs, missing: Counter[str], *, dry: bool) -> None:
    """What this run did, and what all runs together changed."""
    changed = {f"{before} to {after}": number for (before, after), number in sorted(changes.items()) if before != after}
    told = {
        "dry_run": dry,
        "amended_now": 0 if dry else now,
        "amended_in_all": changes.total(),
        "labels_changed": sum(changed.values()),
        "changes": changed,
        "not_seen": dict(missing),
    }
    answer(told, lambda: _show(told))


def _show(told: dict[str, Any]) -> None:
    if told["dry_run"]:
        click.echo(f"{told['amended_in_all']} results would be amended; nothing was kept")
    else:
        click.echo(f"{told['amended_now']} results amended now, {told['amended_in_all']} in all")
    click.echo(f"labels changed: {told['labels_changed']}")
    for way, number in told["changes"].items():
        click.echo(f"  {way}: {number}")
    for code, number in told["not_seen"].items():
        click.echo(f"not seen anew, {code}: {number}")
    answers.print(NOTICE, style="yellow")
