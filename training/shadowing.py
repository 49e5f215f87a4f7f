"""The command that lets a challenger look at what came in lately."""

import click
from rich.progress import MofNCompleteColumn

import home
from db import registry
from db.blobs import Blobs
from db.shadows import ShadowReport
from settings import Settings
from terminal import answer, answers, bar, fail, json_option, table
from worker import device, priority


@click.command()
@click.option("--model", "version", help="Registered version; the challenger if none is named.")
@click.option("--last", "images", type=click.IntRange(min=1), default=1000, show_default=True, help="Images.")
@json_option
@click.pass_obj
def shadow(settings: Settings, /, version: str | None, images: int) -> None:
    """Score the last images of patients with a challenger, and report which labels would change. Makes no result."""
    database = home.database(settings)
    with database.read() as session:
        chosen = version or registry.pointed_at(session, registry.CHALLENGER)
        try:
            registry.find(session, chosen or "")
        except registry.VersionUnknown as error:
            fail(str(error) if chosen else "there is no challenger yet: name a version with --model")
    device.quiet()
    from worker import shadow as shadowing  # noqa: PLC0415 - loads TensorFlow
    from worker.decision import ModelUnusable  # noqa: PLC0415
    from worker.decoders import Decoders  # noqa: PLC0415

    priority.yield_to_everybody()
    decoders = Decoders.of(settings, 1)
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
    told = {"version": report.version, "images": report.images, "unreadable": report.unreadable, "flips": report.flips}
    answer(told, lambda: _show(report))


def _show(report: ShadowReport) -> None:
    columns = ("site", "source", "before", "after", "images")
    shown = table(*columns, right={"images"})
    for flip in report.flips:
        shown.add_row(*(str(flip[name]) for name in columns))
    answers.print(shown)
    changed = sum(flip["images"] for flip in report.flips)
    answers.print(f"{changed} of {report.images} labels would change; {report.unreadable} images cannot be read")
