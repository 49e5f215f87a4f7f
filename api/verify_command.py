"""The command that has one result computed again: here, where the images are, or by a worker of a server."""

import sys
from typing import Any

import click

from api.connection import connected, plain_data
from settings import Settings
from terminal import NOTICE, Exit, answer, fail, json_option, words
from worker.commands import computed_again


@click.command()
@click.argument("result")
@json_option
@click.pass_obj
def verify(settings: Settings, result: str) -> None:
    """Compute one result again from the stored bytes, with the model, preprocessing and gate that it names, and compare.

    Exits with 0 if it is confirmed, 1 if it is not, 6 if it cannot be computed any more.
    """
    with words.status("computing again"):
        told = _by_the_server(settings, result) if settings.url else computed_again(settings, result)
    if told["confirmed"] is None:
        fail(f"{result} cannot be computed again: {told['reason']}", code="not_computable", status=Exit.GONE)
    answer({"result": result} | told, lambda: _say(result, told))
    sys.exit(Exit.DONE if told["confirmed"] else Exit.PROBLEM)


def _by_the_server(settings: Settings, result: str) -> dict[str, Any]:
    """A worker of the server that CXR_URL names computes it."""
    with connected(settings) as client:
        told: dict[str, Any] = plain_data(client.verify(result))
        return told


def _say(result: str, told: dict[str, Any]) -> None:
    click.echo(f"result: {result}")
    if told["difference"] is not None:
        click.echo(f"raw probability: kept {told['kept_raw_probability']}, computed {told['raw_probability']}")
        click.echo(f"difference: {told['difference']:.1e} of at most {told['tolerance']:.0e}")
    for difference in told["differences"] or []:
        click.echo(f"differs: {difference}")
    click.echo("confirmed" if told["confirmed"] else "NOT confirmed")
    words.print(NOTICE, style="yellow")
