"""The commands that change the champion, and make the next one: promote, rollback, retrain."""

import getpass
import json
import sys
import time
from typing import Any

import click
from rich.progress import MofNCompleteColumn

from api.client import Client
from api.commands import talking
from settings import Settings
from terminal import answers, bar, fail, words

_POLL_SECONDS = 0.25
_WAIT_SECONDS = 120

_who = click.option("--who", help="Who answers for it; your user name if not given.")
_reason = click.option("--reason", required=True, help="Why; it stands in the audit.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("version")
@_who
@_reason
@_json
@click.pass_obj
def promote(settings: Settings, /, version: str, who: str | None, reason: str, *, as_json: bool) -> None:
    """Make a version champion that has passed the gate, and wait until a worker has tried it."""
    with talking(settings) as client:
        asked = client.promote(version, who=who or getpass.getuser(), reason=reason)
        with words.status("a worker tries it"):
            settled = _settled(client, asked)
    if as_json:
        click.echo(json.dumps(settled, indent=2))
    elif settled["state"] == "in_effect":
        answers.print(f"{version} is the champion; batches that are under way keep theirs")
    if settled["state"] == "refused":
        fail(f"{version} did not become champion, {settled['previous']} stays: {settled['problem']}")
    if settled["state"] == "pending":
        words.print(f"no worker has tried {version} in {_WAIT_SECONDS} s; it becomes champion when one has")
        sys.exit(1)


@click.command()
@_who
@_reason
@_json
@click.pass_obj
def rollback(settings: Settings, /, who: str | None, reason: str, *, as_json: bool) -> None:
    """Make the version champion again that the present one replaced, at once."""
    with talking(settings) as client:
        champion = next(model["version"] for model in client.models()["data"] if "champion" in model["aliases"])
        done = client.roll_back(champion, who=who or getpass.getuser(), reason=reason)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        answers.print(f"{done['version']} is the champion again")


@click.command()
@click.option("--wait", is_flag=True, help="Follow the run to its end.")
@click.option("--cancel", "stopped", metavar="RUN", help="Stop this run after its present epoch.")
@_json
@click.pass_obj
def retrain(settings: Settings, /, stopped: str | None, *, wait: bool, as_json: bool) -> None:
    """Train a candidate on the base data and the labels so far. With --wait, exits with 1 unless one was made."""
    with talking(settings) as client:
        run = client.cancel_retraining(stopped) if stopped else client.retrain()
        if wait:
            run = _followed(client, run)
    if as_json:
        click.echo(json.dumps(run, indent=2))
    else:
        made = f", {run['version']} {'passes' if run['passed'] else 'does not pass'} the gate" if run["version"] else ""
        answers.print(f"{run['id']} {run['state']}{made}{': ' + run['problem'] if run['problem'] else ''}")
    if wait and run["state"] != "succeeded":
        sys.exit(1)


def _followed(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    with bar("training", MofNCompleteColumn()) as progress:
        task = progress.add_task("epochs", total=None)
        while run["state"] in {"queued", "running"}:
            time.sleep(_POLL_SECONDS)
            run = client.retraining_run(run["id"])
            progress.update(task, total=run["epochs"], completed=run["epoch"])
    return run


def _settled(client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    """The promotion once a worker has tried it, or as it stands after a while."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while asked["state"] == "pending" and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        latest = client.models()["promotion"]
        asked = latest if latest and latest["id"] == asked["id"] else asked
    return asked
