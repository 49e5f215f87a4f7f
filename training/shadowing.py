"""The command that lets a challenger look at what came in lately."""

import json

import click
from rich.progress import MofNCompleteColumn
from rich.table import Table

from db import migrate, registry
from db.blobs import Blobs
from settings import Settings
from terminal import answers, bar, fail
from worker import device, priority


@click.command()
@click.option("--model", "version", help="Registered version; the challenger if none is named.")
@click.option("--last", "images", type=click.IntRange(min=1), default=1000, show_default=True, help="Images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_obj
def shadow(settings: Settings, /, version: str | None, images: int, *, as_json: bool) -> None:
    """Score the last images of patients with a challenger, and report which labels would change. Makes no result."""
    database = migrate.existing(settings.database_url)
    if database is None:
        fail("this home has no database yet: run `cxr migrate` or `cxr up` first")
    with database.read() as session:
        chosen = version or registry.pointed_at(session, registry.CHALLENGER)
        try:
            registry.find(session, chosen or "")
        except registry.VersionUnknown as error:
            fail(str(error) if chosen else "there is no challenger yet: name a version with --model")
    device.quiet()
    from worker import shadow as shadowing  # noqa: PLC0415 - loads TensorFlow
    from worker.decoders import Decoders  # noqa: PLC0415
    from worker.predictor import ModelUnusable  # noqa: PLC0415

    priority.yield_to_everybody()
    decoders = Decoders(1, seconds=settings.decode_seconds, address_space=settings.decode_bytes)
    try:
        with bar("looking", MofNCompleteColumn()) as progress:
            task = progress.add_task("images")
            report = shadowing.look(
                database,
                Blobs(settings.blobs),
                decoders,
                str(chosen),
                images=images,
                actor="shadow",
                on_image=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except ModelUnusable as error:
        fail(str(error))
    finally:
        decoders.close()
    if as_json:
        told = {"version": report.version, "images": report.images, "unreadable": report.unreadable}
        click.echo(json.dumps(told | {"flips": report.flips}, indent=2))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = ("site", "source", "before", "after", "images")
    for name in columns:
        table.add_column(name)
    for flip in report.flips:
        table.add_row(*(str(flip[name]) for name in columns))
    answers.print(table)
    changed = sum(flip["images"] for flip in report.flips)
    answers.print(f"{changed} of {report.images} labels would change; {report.unreadable} images cannot be read")
