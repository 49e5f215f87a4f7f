"""The command that puts a version before the gate."""

import json
import sys
from pathlib import Path

import click
from rich.progress import MofNCompleteColumn
from rich.table import Table

from db import migrate, registry
from db.blobs import Blobs
from settings import Settings
from terminal import answers, bar, fail
from training.index import DataUnusable
from worker import device


@click.command()
@click.argument("version")
@click.option(
    "--data",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of CLASS/images and CLASS/masks; CXR_TRAINING_DATA if not given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_obj
def judge(settings: Settings, version: str, folder: Path | None, *, as_json: bool) -> None:
    """Put a version before the gate, on the folder's frozen fold, and keep the verdict. Exits with 1 if it fails."""
    chosen = folder or settings.training_data
    if not chosen.name:
        fail("give --data, or set CXR_TRAINING_DATA")
    database = migrate.existing(settings.database_url)
    if database is None:
        fail("this home has no database yet: run `cxr migrate` or `cxr up` first")
    device.quiet()
    from training import verdicts  # noqa: PLC0415 - loads TensorFlow
    from worker.predictor import ModelUnusable  # noqa: PLC0415

    try:
        with bar("reading", MofNCompleteColumn()) as progress:
            task = progress.add_task("reading")
            verdict = verdicts.judge(
                database,
                Blobs(settings.blobs),
                chosen,
                version,
                actor="judge",
                on_image=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except (DataUnusable, ModelUnusable, registry.VersionUnknown, registry.NoChampion) as error:
        fail(str(error))
    if as_json:
        told = {"version": version, "champion": verdict.champion, "passed": verdict.passed}
        click.echo(json.dumps(told | {"findings": verdict.findings}, indent=2))
    else:
        _show(verdict.findings)
        answers.print(f"{version} {'passes' if verdict.passed else 'does not pass'}, against {verdict.champion}")
    if not verdict.passed:
        sys.exit(1)


def _show(findings: list[dict[str, object]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("rule", "", "what was found"):
        table.add_column(name)
    for finding in findings:
        table.add_row(str(finding["rule"]), "passes" if finding["passed"] else "fails", str(finding["words"]))
    answers.print(table)
