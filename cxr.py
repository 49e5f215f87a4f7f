"""The command line: `cxr`."""

import contextlib
import logging
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click
from sqlalchemy.exc import OperationalError, ProgrammingError

import api.audit_commands
import api.commands
import api.draft_commands
import api.folders
import api.key_commands
import api.labelling
import api.model_commands
import api.recall_command
import api.retrieval
import api.succession
import api.verify_command
import api.webhook_commands
import operator_key
import training.commands
import training.judging
import training.points
import training.shadowing
import up
from completion import completion
from db import migrate as migrations
from db import registry
from db.blobs import BlobDamaged, Blobs
from db.database import Database
from doctor.command import doctor
from settings import SettingInvalid, Settings
from terminal import NOTICE, Exit, answer, fail, json_option, words
from training import shipped

_DEMONSTRATION = 48


class _OneLine(click.Group):
    """What a person can mend ends a command with one line, not with a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (OperationalError, ProgrammingError) as error:
            message = f"the database cannot be used, check DATABASE_URL or run `cxr migrate`: {error.orig}"
            fail(message, code="database_away", retryable=True)
        except BrokenPipeError:
            raise  # the reader has had enough, as in `cxr results | head`; click ends quietly
        except (BlobDamaged, OSError) as error:
            fail(f"{type(error).__name__}: {error}", code=type(error).__name__)
        except KeyboardInterrupt:
            words.print("interrupted")
            sys.exit(Exit.INTERRUPTED)


@click.group(cls=_OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cxr-batch")
@click.pass_context
def main(context: click.Context) -> None:
    """Classify batches of chest X-rays. Research software, not a medical device."""
    try:
        context.obj = Settings.from_environment()
    except SettingInvalid as error:
        fail(str(error), code="setting_invalid", status=Exit.USAGE)


def _serving(command: Callable[[Settings], None]) -> Callable[[Settings], None]:
    """A long-lived process: logs to stderr, ends with the instance that started it."""

    @wraps(command)
    def run(settings: Settings) -> None:
        up.die_with_supervisor()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        command(settings)

    return run


@main.command("api")
@click.pass_obj
@_serving
def api_(settings: Settings) -> None:
    """Serve the HTTP API and the pages."""
    from api.server import serve  # noqa: PLC0415 - every other command would pay for Flask

    try:
        serve(settings)
    except migrations.SchemaOld as error:
        fail(str(error))


@main.command()
@click.pass_obj
@_serving
def worker(settings: Settings) -> None:
    """Classify what is queued; one such process per GPU, or per machine."""
    from worker import process  # noqa: PLC0415 - loads Celery, and then TensorFlow

    try:
        process.run(settings)
    except (migrations.SchemaOld, registry.NoChampion) as error:
        fail(str(error))


@main.command()
@click.pass_obj
@_serving
def beat(settings: Settings) -> None:
    """Send the scheduled tasks at their times."""
    from worker import beat as beats  # noqa: PLC0415

    beats.run(settings)


@main.command()
@click.pass_obj
@_serving
def trainer(settings: Settings) -> None:
    """Carry out recalls and retraining runs, with the lowest priority."""
    from training import trainer as process  # noqa: PLC0415 - loads Celery, and then TensorFlow

    process.run(settings)


@main.command()
@json_option
@click.pass_obj
def migrate(settings: Settings) -> None:
    """Bring the database up to date, and register the shipped model where it is not."""
    bring_up_to_date(settings)
    schema = {"schema": migrations.NEWEST}
    answer(schema, lambda: words.print("the database is up to date"))


def bring_up_to_date(settings: Settings) -> None:
    """Migrate, register the shipped model, and make it the champion where there is none."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database_url)
    migrations.upgrade(database)
    card, weights = shipped.load()
    with database.write() as session:
        registry.register(session, Blobs(settings.blobs), card, weights, actor="shipped")
        if not registry.has_champion(session):
            registry.appoint(session, registry.CHAMPION, card.version, actor="shipped")
    database.close()


@main.command("up")
@click.option("--demo", is_flag=True, help="First classify a demonstration batch: phantoms drawn by code.")
@click.option("--images", type=click.Path(exists=True, path_type=Path), help="First classify this folder.")
@click.pass_obj
def up_(settings: Settings, images: Path | None, *, demo: bool) -> None:
    """Run everything on this machine until Ctrl-C: broker, API, workers, schedule."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT: a script's `&` has it ignored
        signal.signal(number, signal.default_int_handler)
    files = api.folders.images_in([images]) if images else []
    try:
        with words.status("starting"):
            bring_up_to_date(settings)
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
        _classify(settings, api.folders.images_in([Path()]), synthetic=True)


def _classify(settings: Settings, files: api.commands.Files, *, synthetic: bool) -> None:
    sent = api.commands.send(settings, files, synthetic=synthetic)
    batch = api.commands.follow(settings, sent.id)
    api.commands.show(settings, batch)
    click.echo(f"done: {batch.counts.classified} classified, {batch.total - batch.counts.classified} rejected")


for command in (
    api.audit_commands.audit,
    api.commands.submit,
    api.commands.import_,
    api.commands.status,
    api.commands.cancel,
    api.commands.retry,
    api.commands.purge,
    api.retrieval.results,
    api.retrieval.images,
    api.retrieval.result,
    api.retrieval.history,
    api.retrieval.limits,
    api.key_commands.key,
    api.key_commands.tenant,
    api.key_commands.sign_in,
    api.labelling.label,
    api.labelling.labels,
    api.draft_commands.draft,
    api.webhook_commands.webhook,
    api.succession.promote,
    api.succession.rollback,
    api.succession.retrain,
    training.commands.classify,
    training.commands.train,
    training.commands.evaluate,
    api.model_commands.models,
    api.model_commands.monitoring,
    completion,
    doctor,
    training.judging.judge,
    training.points.operating_point,
    training.shadowing.shadow,
    api.recall_command.reclassify,
    api.verify_command.verify,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
