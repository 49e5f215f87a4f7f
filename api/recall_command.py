"""The command that has every result of a model version seen anew: by the server's trainer, while it looks on."""

import sys
import time
from collections.abc import Sequence

import click
from rich.progress import MofNCompleteColumn

from api.connection import connected, plain_data
from cxr_client import Client, Reclassification
from settings import Settings
from terminal import NOTICE, Exit, answer, answers, bar, json_option, minute, plain, table, words

_POLL_SECONDS = 1.0
_LONG_SECONDS = 30


@click.command()
@click.option("--model", "old", help="Version whose results are seen anew.")
@click.option("--with", "new", help="Version that sees them anew.")
@click.option("--dry-run", "dry", is_flag=True, help="Count what would change, but keep nothing.")
@click.option("--follow", "followed", metavar="RUN", help="Follow this run, and ask for none.")
@click.option("--cancel", "stopped", metavar="RUN", help="Stop this run; what it has amended so far stays.")
@click.option("--list", "listed", is_flag=True, help="Show the runs, newest first, and ask for none.")
@json_option
@click.pass_obj
def reclassify(
    settings: Settings,
    /,
    old: str | None,
    new: str | None,
    followed: str | None,
    stopped: str | None,
    *,
    dry: bool,
    listed: bool,
) -> None:
    """See every result of a model version anew with another, and keep that beside the original.

    Exits with 1 if some images could not be seen anew, or if the run did not come to its end.
    """
    asked = bool(old and new)
    if [asked, bool(followed), bool(stopped), listed].count(True) != 1 or (not asked and (old or new or dry)):
        raise click.UsageError("give --model and --with, or one of --follow, --cancel and --list")
    with connected(settings) as client:
        if listed:
            found = client.reclassifications.all()
            answer([plain_data(one) for one in found], lambda: _show_all(found))
            return
        if stopped:
            run = client.reclassifications.cancel(stopped)
            answer(plain_data(run), lambda: answers.print(f"{run.id} {'is to stop' if run.open else run.state}"))
            return
        if old and new:
            run = client.reclassifications.ask(old, new, dry_run=dry)
        else:
            run = client.reclassifications.one(followed or "")
        run = _followed(client, run)
    answer(plain_data(run), lambda: _show(run))
    sys.exit(Exit.DONE if run.state == "succeeded" and not run.missing else Exit.PROBLEM)


def _followed(client: Client, run: Reclassification) -> Reclassification:
    waits = time.monotonic() + _LONG_SECONDS
    try:
        with bar("seeing anew", MofNCompleteColumn()) as progress:
            task = progress.add_task("seeing anew", total=None)
            while run.open:
                time.sleep(_POLL_SECONDS)
                run = client.reclassifications.one(run.id)
                progress.update(task, total=run.total, completed=run.done)
                if run.state == "queued" and time.monotonic() > waits:
                    words.print("it waits for a trainer: `cxr up` starts one, elsewhere `cxr trainer` has to run")
                    waits = float("inf")
    except KeyboardInterrupt:
        said = f"{run.id} goes on: `cxr reclassify --follow {run.id}` shows it, `--cancel` in its place stops it"
        words.print(said, soft_wrap=True)
        raise
    return run


def _show(run: Reclassification) -> None:
    amended = sum(number for to in run.changes.values() for number in to.values())
    flipped = amended - sum(to.get(before, 0) for before, to in run.changes.items())
    kept = "would be amended; nothing was kept" if run.dry_run else "amended"
    answers.print(f"{run.id} {run.state}{': ' + plain(run.problem) if run.problem else ''}", soft_wrap=True)
    answers.print(f"{amended} results {kept}, {flipped} with another label")
    shown = table("before", "after", "images", right={"images"})
    for before, to in run.changes.items():
        for after, number in to.items():
            shown.add_row(before, after, str(number))
    if amended:
        answers.print(shown)
    for code, number in run.missing.items():
        answers.print(f"not seen anew, {code}: {number}")
    answers.print(NOTICE, style="yellow")


def _show_all(found: Sequence[Reclassification]) -> None:
    names = ("asked (UTC)", "run", "state", "seen", "model", "with", "problem")
    shown = table(*names, right={"seen"}, whole={"asked (UTC)", "run", "state"})
    for run in found:
        state = f"{run.state} (dry run)" if run.dry_run else run.state
        seen = "" if run.total is None else f"{run.done} of {run.total}"
        versions = (run.old_version, run.new_version)
        shown.add_row(minute(run.asked_at), run.id, state, seen, *versions, plain(run.problem or ""))
    answers.print(shown)
