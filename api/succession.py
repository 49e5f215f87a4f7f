"""The commands that change the champion, and make the next one: promote, rollback, retrain."""

import getpass
import sys
import time
from collections.abc import Sequence

import click
from rich.progress import MofNCompleteColumn

from api.connection import connected, plain_data
from cxr_client import Client, Promotion, RetrainingRun
from settings import Settings
from terminal import Exit, answer, answers, bar, fail, json_option, minute, plain, table, words

_POLL_SECONDS = 0.25
_WAIT_SECONDS = 120

_who = click.option("--who", help="Who answers for it; your user name if not given.")
_reason = click.option("--reason", required=True, help="Why; it stands in the audit.")


@click.command()
@click.argument("version")
@_who
@_reason
@json_option
@click.pass_obj
def promote(settings: Settings, /, version: str, who: str | None, reason: str) -> None:
    """Make a version champion that has passed the gate, and wait until a worker has tried it."""
    with connected(settings) as client:
        asked = client.models.promote(version, who=who or getpass.getuser(), reason=reason)
        for hospital in map(plain, asked.points_left):
            what = f"{hospital} has an operating point of its own with {asked.previous}, and none with {version}"
            words.print(f"{what}: it will decide as the version does, until `cxr operating-point --site {hospital}`")
        with words.status("a worker tries it"):
            settled = _settled(client, asked)
    if settled.state in {"refused", "withdrawn"}:
        words_ = f"{version} did not become champion, {settled.previous} stays: {settled.problem}"
        fail(words_, code="promotion_refused")
    if settled.state == "pending":
        words.print(
            f"no worker has tried {version} in {_WAIT_SECONDS} s; it becomes champion when one has; `cxr rollback` withdraws it"
        )
        answer(plain_data(settled), lambda: None)
        sys.exit(Exit.PROBLEM)
    settled = settled.model_copy(update={"points_left": asked.points_left})
    said = f"{version} is the champion; batches that are under way keep theirs"
    answer(plain_data(settled), lambda: answers.print(said))


@click.command()
@_who
@_reason
@json_option
@click.pass_obj
def rollback(settings: Settings, /, who: str | None, reason: str) -> None:
    """Make the version champion again that the present one replaced, at once; or withdraw a promotion that still waits."""
    with connected(settings) as client:
        known = client.models.all()
        last = known.promotion
        champion = next(model.version for model in known.data if "champion" in model.aliases)
        back_from = last.version if last and last.state == "pending" else champion
        done = client.models.roll_back(back_from, who=who or getpass.getuser(), reason=reason)
    withdrawn = f"{done.version} does not become champion, {done.previous} stays"
    said = f"{done.version} is the champion again" if done.rollback else withdrawn
    answer(plain_data(done), lambda: answers.print(said))


@click.command()
@click.option("--wait", is_flag=True, help="Follow the run to its end.")
@click.option("--list", "listed", is_flag=True, help="Show the runs, newest first, and ask for none.")
@click.option("--cancel", "stopped", metavar="RUN", help="Stop this run after its present epoch.")
@json_option
@click.pass_obj
def retrain(settings: Settings, /, stopped: str | None, *, wait: bool, listed: bool) -> None:
    """Train a candidate on the base data and the labels so far. With --wait, exits with 1 unless one was made."""
    if listed:
        with connected(settings) as client:
            runs = client.models.runs()
        answer([plain_data(one) for one in runs], lambda: _show(runs))
        return
    with connected(settings) as client:
        run = client.models.cancel_run(stopped) if stopped else client.models.retrain()
        if wait:
            run = _followed(client, run)
    made = f", {run.version} {'passes' if run.passed else 'does not pass'} the gate" if run.version else ""
    said = f"{run.id} {run.state}{made}{': ' + run.problem if run.problem else ''}"
    answer(plain_data(run), lambda: answers.print(said))
    if wait and run.state != "succeeded":
        sys.exit(Exit.PROBLEM)


def _show(runs: Sequence[RetrainingRun]) -> None:
    shown = table(
        "asked (UTC)", "run", "state", "epoch", "made", "gate", "problem", whole={"asked (UTC)", "run", "state"}
    )
    for run in runs:
        gate = {None: "", True: "passed", False: "failed"}[run.passed]
        epoch = f"{run.epoch} of {run.epochs}" if run.epochs else ""
        shown.add_row(minute(run.asked_at), run.id, run.state, epoch, run.version or "", gate, plain(run.problem or ""))
    answers.print(shown)


def _followed(client: Client, run: RetrainingRun) -> RetrainingRun:
    with bar("training", MofNCompleteColumn()) as progress:
        task = progress.add_task("epochs", total=None)
        while run.state in {"queued", "running"}:
            time.sleep(_POLL_SECONDS)
            run = client.models.run(run.id)
            progress.update(task, total=run.epochs, completed=run.epoch)
    return run


def _settled(client: Client, asked: Promotion) -> Promotion:
    """The promotion once a worker has tried it, or as it stands after a while."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while asked.state == "pending" and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        latest = client.models.all().promotion
        asked = latest if latest and latest.id == asked.id else asked
    return asked
