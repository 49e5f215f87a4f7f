"""The commands on batches: submit, status, cancel, retry, purge."""

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
from rich.progress import DownloadColumn, MofNCompleteColumn

from api.connection import batch_ids, connected, plain_data
from api.folders import images_in
from cxr_client import Batch, Image, ServerAway, Submitted
from settings import Settings
from terminal import NOTICE, Exit, answer, answers, bar, json_option, minute, plain, table, words

_SHOWN = 25
_NARROW = 110

Files: TypeAlias = Sequence[tuple[str, Path]]

batch_argument = click.argument("batch", shell_complete=batch_ids)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Follow the batch to its end and show its results.")
@click.option("--urgent", is_flag=True, help="Before everything that is routine.")
@click.option("--synthetic", is_flag=True, help="Mark the images as made by code, not of patients.")
@click.option("--idempotency-key", metavar="KEY", help="The same again with the same key makes no second batch.")
@json_option
@click.pass_obj
def submit(
    settings: Settings,
    paths: Sequence[Path],
    *,
    wait: bool,
    urgent: bool,
    synthetic: bool,
    idempotency_key: str | None,
) -> None:
    """Submit files and folders as one batch. With --wait, exits with 1 unless every image was classified."""
    sent = send(settings, images_in(paths), urgent=urgent, synthetic=synthetic, idempotency_key=idempotency_key)
    _answer_sent(settings, sent, wait=wait)


@click.command("import")
@click.argument("paths", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Follow the batch to its end and show its results.")
@click.option("--urgent", is_flag=True, help="Before everything that is routine.")
@click.option("--synthetic", is_flag=True, help="Mark the images as made by code, not of patients.")
@click.option("--idempotency-key", metavar="KEY", help="The same again with the same key makes no second batch.")
@json_option
@click.pass_obj
def import_(settings: Settings, /, paths: Sequence[str], *, wait: bool, **more: Any) -> None:
    """Submit files and folders that lie below the server's import root, by their paths there."""
    with connected(settings) as client, words.status("importing"):
        sent = client.import_(paths, **more)
    _answer_sent(settings, sent, wait=wait)


@click.command()
@click.argument("batch", required=False, shell_complete=batch_ids)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Batches, the newest first.")
@json_option
@click.pass_obj
def status(settings: Settings, batch: str | None, *, limit: int) -> None:
    """Show one batch, or the newest ones."""
    with connected(settings) as client:
        found = [client.batch(batch)] if batch else client.batches(limit=limit)
    answer(plain_data(found[0]) if batch else [plain_data(one) for one in found], lambda: _show_batches(found))


@click.command()
@batch_argument
@json_option
@click.pass_obj
def cancel(settings: Settings, batch: str) -> None:
    """Stop what no worker has begun; results that are there stay."""
    with connected(settings) as client:
        _say_where_it_stands(client.cancel(batch))


@click.command()
@batch_argument
@json_option
@click.pass_obj
def retry(settings: Settings, batch: str) -> None:
    """Queue again what was quarantined, cancelled or expired."""
    with connected(settings) as client:
        _say_where_it_stands(client.retry(batch))


@click.command()
@batch_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge(settings: Settings, batch: str, *, yes: bool) -> None:
    """Remove a batch's images for good; results and audit stay."""
    if not yes:
        click.confirm(f"Remove the images of {batch} for good?", abort=True, err=True)
    with connected(settings) as client:
        _say_where_it_stands(client.purge(batch))


def send(
    settings: Settings,
    files: Files,
    *,
    urgent: bool = False,
    synthetic: bool = False,
    idempotency_key: str | None = None,
) -> Submitted:
    """Submit the files with a progress bar."""
    key = idempotency_key or secrets.token_hex(16)
    with connected(settings) as client, bar("sending", DownloadColumn()) as progress:
        task = progress.add_task("sending", total=None)
        try:
            return client.submit(
                files,
                urgent=urgent,
                synthetic=synthetic,
                idempotency_key=key,
                on_progress=lambda sent, total: progress.update(task, completed=sent, total=total),
            )
        except ServerAway:
            words.print(f"whether there is a batch is not known: the same again with --idempotency-key {key}")
            raise


def _answer_sent(settings: Settings, sent: Submitted, *, wait: bool) -> None:
    """Print the id, or follow the batch and show how it ended."""
    if not wait:
        answer(plain_data(sent), lambda: answers.print(sent.id))
        return
    batch = follow(settings, sent.id)
    show(settings, batch)
    if batch.outcome != "all_classified":
        sys.exit(Exit.PROBLEM)


def follow(settings: Settings, batch_id: str) -> Batch:
    """Wait for the batch to be finished, with a progress bar, and return it."""
    with connected(settings) as client, bar("classifying", MofNCompleteColumn()) as progress:
        task = progress.add_task("classifying", total=None)
        for batch in client.follow(batch_id):
            progress.update(task, total=batch.total, completed=batch.done)
    return batch


def show(settings: Settings, batch: Batch) -> None:
    """Say how the batch ended: all of it as JSON, or to a person the first images, those without a number first."""
    with connected(settings) as client:
        images = list(client.images(batch.id))
    everything = plain_data(batch) | {"images": [plain_data(image) for image in images]}
    answer(everything, lambda: _show_finished(batch, images))


def show_images(images: Sequence[Image]) -> None:
    """Print a table of images with what became of them."""
    shown = table("image", "state", "label", "probability", right={"probability"}, whole={"label", "probability"})
    for image in images:
        probability = "" if image.probability is None else f"{image.probability:.3f}"
        state = image.code or " ".join([*(image.reasons or []), *(image.notes or [])]) or image.state
        label = f"{image.label}, before {image.original.label}" if image.original else image.label
        shown.add_row(plain(image.custom_id), state, label, probability)
    answers.print(shown)


def _show_finished(batch: Batch, images: Sequence[Image]) -> None:
    synthetic = "  SYNTHETIC: drawn by code, the numbers mean nothing." if batch.synthetic else ""
    answers.print(f"\n{batch.id} · model {batch.model_version}{synthetic}", soft_wrap=True)
    show_images(sorted(images, key=lambda image: image.probability is not None)[:_SHOWN])
    classified = batch.counts.classified
    answers.print(f"{classified} classified, {batch.total - classified} not")
    if batch.total > _SHOWN:
        answers.print(f"… and {batch.total - _SHOWN} more: cxr images {batch.id}")
    answers.print(NOTICE, style="yellow")


def _show_batches(found: Sequence[Batch]) -> None:
    if not found:
        words.print("no batch yet: submit one with `cxr submit FOLDER --wait`")
        return
    wide = answers.width >= _NARROW
    more = ("lane", "classified", "rejected") if wide else ("not",)
    names = ("batch", "submitted (UTC)", "state", "done", *more)
    shown = table(*names, right={"done", *more} - {"lane"}, whole={"batch", "submitted (UTC)", "done", *more})
    for one in found:
        state = (one.outcome or one.state).replace("_", " ") + (" (synthetic)" if one.synthetic else "")
        refused = str(one.counts.rejected + one.counts.quarantined)
        figures = (one.lane, str(one.counts.classified), refused) if wide else (refused,)
        shown.add_row(one.id, minute(one.submitted_at), state, f"{one.done}/{one.total}", *figures)
    answers.print(shown)
    if len(found) == 1 and found[0].queue_position is not None:
        seconds = found[0].eta_seconds
        pace = "no worker has shown its pace yet" if seconds is None else f"about {seconds:.0f} s to go"
        answers.print(f"{found[0].queue_position} images are ahead of it; {pace}")


def _say_where_it_stands(batch: Batch) -> None:
    numbers = ", ".join(f"{number} {state}" for state, number in batch.counts if number)
    purged = ", purged" if batch.purged_at else ""
    words_ = f"{batch.id} {batch.state}{purged}: {numbers}"
    answer(plain_data(batch), lambda: answers.print(words_, soft_wrap=True))
