"""The commands that fetch: results, images, result, history, limits."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from api.commands import batch_argument, show_images
from api.connection import batch_ids, connected, plain_data
from cxr_client import Client, Counts, Result
from settings import Settings
from terminal import NOTICE, answer, answers, fail, json_option, plain, speaks_json, table, words

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])
_FOUND = (
    "result_id",
    "batch_id",
    "custom_id",
    "accession",
    "label",
    "probability",
    "model_version",
    "created_at",
    "amended_by",
)
# As db.tables has them, which would load SQLAlchemy.
LABELS = ("positive", "negative", "inconclusive")
STATES = tuple(Counts.model_fields)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@click.command()
@click.argument("batch", required=False, shell_complete=batch_ids)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write there, not to stdout.")
@click.option("--partial", is_flag=True, help="Fetch what there is before the batch is finished.")
@click.option("--model", help="Search all batches: results of this model version.")
@click.option("--accession", help="Search all batches: results of this accession number.")
@click.option("--label", type=click.Choice(LABELS), help="Search all batches: results of this label.")
@click.option("--from", "since", type=_TIME, help="Search all batches: results of then (UTC) and later.")
@click.option("--to", "until", type=_TIME, help="Search all batches: results before then (UTC).")
@json_option
@click.pass_obj
def results(settings: Settings, /, batch: str | None, output: Path | None, *, partial: bool, **search: Any) -> None:
    """Fetch the results of a batch, of the latest one, or of a search over all batches, as CSV or JSON."""
    wanted = {name: _aware(value) for name, value in search.items() if value is not None}
    if wanted and batch:
        raise click.UsageError("a search goes over all batches: give a batch or a search, not both")
    with connected(settings) as client:
        if wanted:
            pieces, of = _searched(client.results(**wanted)), "the search"
        else:
            chosen = batch or _latest(client)
            pieces, of = _of_batch(client, chosen, partial=partial), chosen
        with _destination(output) as file:
            for piece in pieces:
                file.write(piece)
    if output:
        words.print(f"results of {of} written to {output}", markup=False)


@click.command()
@batch_argument
@click.option("--state", type=click.Choice(STATES), help="Only images in this state.")
@json_option
@click.pass_obj
def images(settings: Settings, batch: str, state: str | None) -> None:
    """List the images of a batch where they stand."""
    with connected(settings) as client:
        found = list(client.images(batch, state=state))

    def show() -> None:
        show_images(found)
        words.print(NOTICE, style="yellow")

    answer([plain_data(image) for image in found], show)


@click.command()
@click.argument("result")
@click.option(
    "--heatmap", type=click.Path(dir_okay=False, path_type=Path), help="Write where the model looked there, as PNG."
)
@json_option
@click.pass_obj
def result(settings: Settings, result: str, heatmap: Path | None) -> None:
    """Show one result with everything that made it."""
    with connected(settings) as client:
        found = client.result(result)
        if heatmap:
            with words.status("a worker draws where the model looked"):
                heatmap.write_bytes(client.heatmap(result))

    def show() -> None:
        _show_fields(plain_data(found))
        words.print(NOTICE, style="yellow")

    answer(plain_data(found), show)


@click.command()
@click.argument("result")
@json_option
@click.pass_obj
def history(settings: Settings, result: str) -> None:
    """Show the life of one result, from its submission to the last look at it."""
    with connected(settings) as client:
        found = client.history(result)

    def show() -> None:
        shown = table("at (UTC)", "what", "who", "from", whole={"at (UTC)", "what"})
        for step in found.steps:
            shown.add_row(f"{step.at:%Y-%m-%d %H:%M:%S}", step.action, plain(step.actor), step.origin or "")
        answers.print(shown)
        words.print(NOTICE, style="yellow")

    answer(plain_data(found), show)


@click.command()
@json_option
@click.pass_obj
def limits(settings: Settings) -> None:
    """Show what a submission may hold."""
    with connected(settings) as client:
        found = plain_data(client.limits())
    answer(found, lambda: _show_fields(found))


def _latest(client: Client) -> str:
    newest = client.batches(limit=1)
    if not newest:
        fail("there is no batch yet: submit one with `cxr submit FOLDER --wait`", code="no_batch")
    return newest[0].id


def _of_batch(client: Client, batch_id: str, *, partial: bool) -> Iterator[bytes]:
    """The batch's results in the form that was asked for, as they stream in."""
    if not speaks_json():
        yield from client.export(batch_id, "csv", partial=partial)
        return
    yield b'{"data": '
    yield from client.export(batch_id, "json", partial=partial)
    yield b', "problem": null}\n'


def _searched(found: Iterable[Result]) -> Iterator[bytes]:
    if not speaks_json():
        yield from _as_csv(found)
        return
    yield b'{"data": ['
    for number, one in enumerate(found):
        yield (b",\n" if number else b"\n") + one.model_dump_json().encode()
    yield b'\n], "problem": null}\n'


def _as_csv(found: Iterable[Result]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_FOUND)
    for one in found:
        row = [one.id, *(_cell(getattr(one, name)) for name in _FOUND[1:])]
        writer.writerow(row)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    # A spreadsheet runs a cell that begins like a formula; the quote makes it text.
    return f"'{text}" if text.startswith(_FORMULA) else text


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    """Stdout, or the file: an old one stays until the new one is whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    unfinished = output.with_name(f".{output.name}.part")
    try:
        with words.status(f"fetching to {output}"), unfinished.open("wb") as file:
            yield file
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


def _show_fields(found: dict[str, Any]) -> None:
    shown = table("field", "value", whole={"field"})
    for name, value in found.items():
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        shown.add_row(name.replace("_", " "), "" if value is None else plain(text))
    answers.print(shown)
