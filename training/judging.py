"""The command that puts a version before the gate."""

import sys
from pathlib import Path

import click
from rich.progress import MofNCompleteColumn

import home
from db import registry
from db.blobs import Blobs
from settings import Settings
from terminal import Exit, answer, answers, bar, fail, json_option, table
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
@json_option
@click.pass_obj
def judge(settings: Settings, version: str, folder: Path | None) -> None:
    """Put a version before the gate, on the folder's frozen fold, and keep the verdict. Exits with 1 if it fails."""
    database = home.database(settings)
    if folder is None and not settings.training_data.name:
        fail("give --data, or set CXR_TRAINING_DATA")
    chosen = folder or settings.training_data
    device.quiet()
    from training import verdicts  # noqa: PLC0415 - loads TensorFlow
    from worker.decision import ModelUnusable  # noqa: PLC0415

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
    told = {"version": version, "champion": verdict.champion, "passed": verdict.passed, "findings": verdict.findings}
    said = f"{version} {'passes' if verdict.passed else 'does not pass'}, against {verdict.champion}"
    answer(told, lambda: _show(verdict.findings, said))
    if not verdict.passed:
        sys.exit(Exit.PROBLEM)


def _show(findings: list[dict[str, object]], said: str) -> None:
    shown = table("rule", "", "what was found", whole={""})
    for finding in findings:
        shown.add_row(str(finding["rule"]), "passes" if finding["passed"] else "fails", str(finding["words"]))
    answers.print(shown)
    answers.print(said)
