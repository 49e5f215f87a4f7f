"""The commands that talk to a server: submit, status, results, cancel, retry, purge."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import DownloadColumn, MofNCompleteColumn
from rich.table import Table

import operator_key
import up
from api.client import Batch, Client, ServerAway, ServerRefused
from settings import Settings
from terminal import NOTICE, answers, bar, fail, words
from worker.formats import MAGIC_BYTES, media_type

_SHOWN = 25
_SUFFIXES = {".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".zip"}  # broken ones too: the answer says so

Paths = Sequence[Path]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Follow the batch to its end and show its results.")
@click.option("--urgent", is_flag=True, help="Before everything that is routine.")
@click.option("--synthetic", is_flag=True, help="Mark the images as made by code, not of patients.")
@click.pass_obj
def submit(settings: Settings, paths: Paths, *, wait: bool, urgent: bool, synthetic: bool) -> None:
    """Submit files and folders as one batch. With --wait, exits with 1 unless every image was classified."""
    if not wait:
        answers.print(send(settings, paths, urgent=urgent, synthetic=synthetic)["id"])
        return
    batch = follow(settings, send(settings, paths, urgent=urgent, synthetic=synthetic)["id"])
    show(settings, batch)
    if batch["outcome"] != "all_classified":
        sys.exit(1)


@click.command()
@click.argument("batch", required=False)
@click.pass_obj
def status(settings: Settings, batch: str | None) -> None:
    """Show one batch, or the newest ones."""
    with talking(settings) as client:
        found = [client.batch(batch)] if batch else client.batches()
    if not found:
        words.print("no batch yet: submit one with `cxr submit FOLDER --wait`")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("batch", no_wrap=True)
    for name in ("submitted (UTC)", "lane", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("done", "classified", "rejected"):
        table.add_column(name, justify="right")
    for one in found:
        counts, done = one["counts"], round(one["progress"] * one["total"])
        state = (one["outcome"] or one["state"]).replace("_", " ") + (" (synthetic)" if one["synthetic"] else "")
        refused = counts["rejected"] + counts["quarantined"]
        figures = (f"{done}/{one['total']}", str(counts["classified"]), str(refused))
        table.add_row(one["id"], one["submitted_at"][:16].replace("T", " "), one["lane"], state, *figures)
    answers.print(table)


@click.command()
@click.argument("batch", required=False)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write there, not to stdout.")
@click.option("--partial", is_flag=True, help="Fetch what there is before the batch is finished.")
@click.pass_obj
def results(settings: Settings, batch: str | None, output: Path | None, *, partial: bool) -> None:
    """Fetch the results of a batch, or of the latest one, as CSV."""
    with talking(settings) as client:
        chosen = batch or _latest(client)
        if output is None:
            for text in client.results_csv(chosen, partial=partial):
                sys.stdout.write(text)
            return
        unfinished = output.with_name(f".{output.name}.part")  # an old file stays until the new one is whole
        with words.status(f"fetching {chosen}"), _removed_after(unfinished):
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                for text in client.results_csv(chosen, partial=partial):
                    file.write(text)
            unfinished.replace(output)
    words.print(f"results of {chosen} written to {output}", markup=False)


@click.command()
@click.argument("batch")
@click.pass_obj
def cancel(settings: Settings, batch: str) -> None:
    """Stop what no worker has begun; results that are there stay."""
    with talking(settings) as client:
        _say_where_it_stands(client.cancel(batch))


@click.command()
@click.argument("batch")
@click.pass_obj
def retry(settings: Settings, batch: str) -> None:
    """Queue again what was quarantined, cancelled or expired."""
    with talking(settings) as client:
        _say_where_it_stands(client.retry(batch))


@click.command()
@click.argument("batch")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(settings: Settings, batch: str, *, yes: bool) -> None:
    """Remove a batch's images for good; results and audit stay."""
    if not yes:
        click.confirm(f"Remove the images of {batch} for good?", abort=True)
    with talking(settings) as client:
        _say_where_it_stands(client.purge(batch))


def _say_where_it_stands(batch: Batch) -> None:
    numbers = ", ".join(f"{number} {state}" for state, number in batch["counts"].items() if number)
    purged = ", purged" if batch["purged_at"] else ""
    answers.print(f"{batch['id']} {batch['state']}{purged}: {numbers}")


def send(settings: Settings, paths: Paths, *, urgent: bool = False, synthetic: bool = False) -> Batch:
    """Submit the images under `paths` with a progress bar."""
    files = images_in(paths)
    total = sum(path.stat().st_size for _, path in files)
    with talking(settings) as client, bar("sending", DownloadColumn()) as progress:
        task = progress.add_task("sending", total=total)
        return client.submit(files, urgent=urgent, synthetic=synthetic, sent=lambda size: progress.advance(task, size))


def follow(settings: Settings, batch_id: str) -> Batch:
    """Wait for the batch to be finished, with a progress bar, and return it."""
    batch: Batch = {}
    with talking(settings) as client, bar("classifying", MofNCompleteColumn()) as progress:
        task = progress.add_task("classifying", total=None)
        for batch in client.follow(batch_id):
            progress.update(task, total=batch["total"], completed=round(batch["progress"] * batch["total"]))
    return batch


def show(settings: Settings, batch: Batch) -> None:
    """Print the first images of the batch with their results, those without a number first."""
    with talking(settings) as client:
        images = sorted(client.images(batch["id"]), key=lambda image: image["probability"] is not None)[:_SHOWN]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("state")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for image in images:
        probability = "" if image["probability"] is None else f"{image['probability']:.3f}"
        state = image["code"] or " ".join(image["reasons"] or []) or image["state"]
        table.add_row(_escaped(image["custom_id"]), state, image["label"], probability)
    synthetic = "  SYNTHETIC: drawn by code, the numbers mean nothing." if batch["synthetic"] else ""
    answers.print(f"\n{batch['id']} · model {batch['model_version']}{synthetic}")
    answers.print(table)
    classified = batch["counts"]["classified"]
    answers.print(f"{classified} classified, {batch['total'] - classified} not")
    if batch["total"] > _SHOWN:
        answers.print(f"… and {batch['total'] - _SHOWN} more: cxr results {batch['id']}")
    answers.print(NOTICE, style="yellow")


def images_in(paths: Paths) -> list[tuple[str, Path]]:
    """(custom_id, path) of every image below `paths`, or end the command; the id is the path as it was given."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(inner for inner in path.rglob("*") if inner.is_file() and not inner.name.startswith("."))
            images = [inner for inner in inside if inner.suffix.lower() in _SUFFIXES or _begins_like_an_image(inner)]
            if len(images) < len(inside):
                words.print(f"{path}: {len(inside) - len(images)} files are left out: no PNG, JPEG, DICOM or zip")
            found += images
        else:
            found.append(path)
    if not found:
        fail(f"no PNG, JPEG, DICOM or zip files in {', '.join(map(str, paths))}")
    return [(str(path), path) for path in dict.fromkeys(found)]


def _begins_like_an_image(path: Path) -> bool:
    """Scanners name DICOM files by their UID, without an ending."""
    with path.open("rb") as file:
        return media_type(file.read(MAGIC_BYTES)) is not None


def _latest(client: Client) -> str:
    newest = client.batches(limit=1)
    if not newest:
        fail("there is no batch yet: submit one with `cxr submit FOLDER --wait`")
    return str(newest[0]["id"])


def _escaped(text: str) -> str:
    """A name as it is, but for what would move the cursor or read as markup."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text).replace(
        "[", r"\["
    )


@contextmanager
def _removed_after(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def talking(settings: Settings) -> Iterator[Client]:
    """A client whose failures end the command with one line."""
    try:
        with Client(up.running_url(settings), key=operator_key.known(settings)) as client:
            yield client
    except (up.NotRunning, ServerAway, ServerRefused) as error:
        fail(str(error))
