"""The command that gives ground truth: one label, or a CSV of them."""

import hashlib
import json
import sys
from pathlib import Path

import click

from api.commands import talking
from settings import Settings
from terminal import answers, fail, words

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
@click.option("--csv", "table", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Many at once.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def label(settings: Settings, /, table: Path | None, *, as_json: bool, **given: str | None) -> None:
    """Give ground truth for a study or an image; the newest label of an image holds. Exits with 1 if one was refused."""
    with talking(settings) as client:
        answer = client.label_csv(table.read_text(encoding="utf-8-sig")) if table else client.label([_row(**given)])
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for row in answer["rows"]:
            if row["detail"]:
                words.print(f"row {row['row']}: {row['detail']}", markup=False)
        images = sum(row["images"] for row in answer["rows"])
        answers.print(f"{answer['kept']} labels kept, of {images} stored images; {answer['refused']} refused")
    if answer["refused"]:
        sys.exit(1)


def _row(
    *, label: str | None, image: str | None, result: str | None, by: str | None, **more: str | None
) -> dict[str, str]:
    if not label or not more["source"] or not by:
        fail("give positive or negative, --source and --by, or a table with --csv")
    if image and Path(image).is_file():
        image = hashlib.sha256(Path(image).read_bytes()).hexdigest()
    source = _SOURCES[more.pop("source") or ""]
    row = {"label": label, "source": source, "given_by": by, "image_sha256": image, "result_id": result} | more
    return {name: value for name, value in row.items() if value}
