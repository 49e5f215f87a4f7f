"""The commands on ground truth: give one label or a CSV of them, list what was given."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from api.connection import connected, plain_data
from cxr_client import Label, Labelled
from settings import Settings
from terminal import Exit, answer, answers, fail, json_option, minute, plain, table, words

_SHORT = 16
_SOURCES = {"rt-pcr": "rt_pcr", "radiologist": "radiologist"}


@click.command()
@click.argument("label", required=False, type=click.Choice(["positive", "negative"]))
@click.option("--accession", help="Of the study that it is about.")
@click.option("--image", help="Of the image: its file as it is stored, or the SHA-256 that its result names.")
@click.option("--result", help="Id of a result: it is about that result's image.")
@click.option("--source", type=click.Choice(list(_SOURCES)), help="What found it.")
@click.option("--by", help="Who found it; no patient.")
@click.option("--patient", help="Your pseudonym of the patient; only its SHA-256 is kept.")
@click.option("--found-at", help="When it was found, such as 2026-11-22T08:00:00Z.")
@click.option("--csv", "csv_", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Many at once.")
@json_option
@click.pass_obj
def label(settings: Settings, /, csv_: Path | None, **given: str | None) -> None:
    """Give ground truth for a study or an image; the newest label of an image holds. Exits with 1 if one was refused."""
    with connected(settings) as client:
        told = client.label_csv(csv_.read_text(encoding="utf-8-sig")) if csv_ else client.label([_row(**given)])
    answer(plain_data(told), lambda: _show(told))
    if told.refused:
        sys.exit(Exit.PROBLEM)


@click.command()
@click.option("--accession", help="Of this study.")
@click.option("--image", metavar="SHA256", help="Of this image.")
@json_option
@click.pass_obj
def labels(settings: Settings, accession: str | None, image: str | None) -> None:
    """List the labels that were given, newest first; of one image the newest holds."""
    with connected(settings) as client:
        found = list(client.labels(accession=accession, image_sha256=image))
    answer([plain_data(one) for one in found], lambda: _show_labels(found))


def _show_labels(found: Sequence[Label]) -> None:
    shown = table("given (UTC)", "label", "source", "of", "by", whole={"given (UTC)", "label", "source"})
    for one in found:
        of = one.accession or (one.image_sha256 or "")[:_SHORT]
        shown.add_row(minute(one.created_at), one.label, one.source, plain(of), plain(one.given_by))
    answers.print(shown)


def _show(told: Labelled) -> None:
    for row in told.rows:
        if row.detail:
            words.print(f"row {row.row}: {row.detail}", markup=False)
    images = sum(row.images for row in told.rows)
    answers.print(f"{told.kept} labels kept, of {images} stored images; {told.refused} refused")


def _row(
    *, label: str | None, image: str | None, result: str | None, by: str | None, **more: str | None
) -> dict[str, str]:
    if not label or not more["source"] or not by:
        fail("give positive or negative, --source and --by, or a table with --csv", status=Exit.USAGE)
    if image and Path(image).is_file():
        image = hashlib.sha256(Path(image).read_bytes()).hexdigest()
    source = _SOURCES[more.pop("source") or ""]
    row = {"label": label, "source": source, "given_by": by, "image_sha256": image, "result_id": result} | more
    return {name: value for name, value in row.items() if value}
