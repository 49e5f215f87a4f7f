"""The commands on drafts: open one, put images in, submit it."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import MofNCompleteColumn

from api.commands import batch_argument
from api.connection import connected, plain_data
from api.folders import images_in
from settings import Settings
from terminal import answer, answers, bar, json_option


@click.group()
def draft() -> None:
    """A batch that is filled image by image, and submitted when it is complete."""


@draft.command("open")
@click.option("--total", type=click.IntRange(min=1), help="It cannot be submitted with another number of images.")
@click.option("--urgent", is_flag=True, help="Before everything that is routine.")
@click.option("--synthetic", is_flag=True, help="Mark the images as made by code, not of patients.")
@json_option
@click.pass_obj
def open_(settings: Settings, total: int | None, *, urgent: bool, synthetic: bool) -> None:
    """Open a draft, and print its id."""
    with connected(settings) as client:
        opened = client.batch(client.draft(total=total, urgent=urgent, synthetic=synthetic).id)
    answer(plain_data(opened), lambda: answers.print(opened.id))


@draft.command()
@batch_argument
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
@click.pass_obj
def put(settings: Settings, batch: str, paths: Sequence[Path]) -> None:
    """Put files and folders into a draft. What is there already stays, so after a failure give the same again."""
    files = images_in(paths)
    with connected(settings) as client, bar("putting", MofNCompleteColumn()) as progress:
        there = client.draft_of(batch)
        images = [there.put(custom_id, path) for custom_id, path in progress.track(files)]
    answer([plain_data(image) for image in images], lambda: answers.print(f"{len(images)} images are in {batch}"))


@draft.command()
@batch_argument
@json_option
@click.pass_obj
def submit(settings: Settings, batch: str) -> None:
    """Close a draft and queue its images."""
    with connected(settings) as client:
        sent = client.draft_of(batch).submit()
    answer(plain_data(sent), lambda: answers.print(sent.id))
