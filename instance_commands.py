"""The commands that start processes: the whole instance of this machine, one part of it, and the database's schema."""

import contextlib
import logging
import signal
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

import operator_key
import up
from api.commands import Files, follow, send, show
from api.folders import images_in
from db import migrate as migrations
from db import registry
from settings import Settings
from terminal import NOTICE, answer, fail, json_option, words

_DEMONSTRATION = 48


def _serving(command: Callable[[Settings], None]) -> Callable[[Settings], None]:
    """A long-lived process: logs to stderr, ends with the instance that started it."""

    @wraps(command)
    def run(settings: Settings) -> None:
        up.die_with_supervisor()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        command(settings)

    return run


@click.command("api")
@click.pass_obj
@_serving
def api_(settings: Settings) -> None:
    """Serve the HTTP API and the pages."""
    from api.server import serve  # noqa: PLC0415 - every other command would pay for Flask

    try:
        serve(settings)
    except migrations.SchemaOld as error:
        fail(str(error))


@click.command()
@click.pass_obj
@_serving
def worker(settings: Settings) -> None:
    """Classify what is queued; one such process per GPU, or per machine."""
    from worker import process  # noqa: PLC0415 - loads Celery, and then TensorFlow

    try:
        process.run(settings)
    except (migrations.SchemaOld, registry.NoChampion) as error:
        fail(str(error))


@click.command()
@click.pass_obj
@_serving
def beat(settings: Settings) -> None:
    """Send the scheduled tasks at their times."""
    from worker import beat as beats  # noqa: PLC0415

    beats.run(settings)


@click.command()
@click.pass_obj
@_serving
def trainer(settings: Settings) -> None:
    """Carry out recalls and retraining runs, with the lowest priority."""
    from training import trainer as process  # noqa: PLC0415 - loads Celery, and then TensorFlow

    process.run(settings)


@click.command()
@json_option
@click.pass_obj
def migrate(settings: Settings) -> None:
    """Bring the database up to date, and register the shipped model where it is not."""
    up.bring_up_to_date(settings)
    schema = {"schema": migrations.NEWEST}
    answer(schema, lambda: words.print("the database is up to date"))


@click.command("up")
@click.option("--demo", is_flag=True, help="First classify a demonstration batch: phantoms drawn by code.")
@click.option("--images", type=click.Path(exists=True, path_type=Path), help="First classify this folder.")
@click.pass_obj
def up_(settings: Settings, images: Path | None, *, demo: bool) -> None:
    """Run everything on this machine until Ctrl-C: broker, API, workers, schedule."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT: a script's `&` has it ignored
        signal.signal(number, signal.default_int_handler)
    files = images_in([images]) if images else []
    try:
        with words.status("starting"):
            up.bring_up_to_date(settings)
            first = operator_key.make_first(settings)
            instance = up.Instance(settings, say=words.print)
            instance.start()
        with instance:
            click.echo(f"ready: {instance.url}")
            _say_who_may_enter(settings, instance.url, first)
            if files:
                _classify(settings, files, synthetic=False)
            elif demo:
                _demonstrate(settings)
            words.print(f"serving at {instance.url} · {NOTICE} · Ctrl-C stops everything")
            instance.wait()
    except up.StartFailed as error:
        fail(str(error))
    except KeyboardInterrupt:
        words.print("stopped")


def _say_who_may_enter(settings: Settings, url: str, first: str | None) -> None:
    if first:
        words.print(f"admin key, shown this once and kept in {settings.home}: {first}", soft_wrap=True, markup=False)
    link = operator_key.link(settings, url)
    if link:
        words.print(f"open in a browser, once within the hour: {link}", soft_wrap=True, markup=False)


def _demonstrate(settings: Settings) -> None:
    from training import phantoms  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        words.print("demonstration: synthetic radiographs, drawn by code; their numbers mean nothing")
        phantoms.write(Path(), count=_DEMONSTRATION, seed=1)
        _classify(settings, images_in([Path()]), synthetic=True)


def _classify(settings: Settings, files: Files, *, synthetic: bool) -> None:
    sent = send(settings, files, synthetic=synthetic)
    batch = follow(settings, sent.id)
    show(settings, batch)
    click.echo(f"done: {batch.counts.classified} classified, {batch.total - batch.counts.classified} rejected")
