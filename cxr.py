"""The command line: `cxr`."""

import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

import up
from settings import SettingInvalid, Settings

NOTICE = "Research software, not a medical device."
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".dcm", ".dicom", ""}
_SHOWN = 25

console = Console()
# Words about the work go to stderr, so that stdout holds the answer alone.
errors = Console(stderr=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cxr-batch")
@click.pass_context
def main(context: click.Context) -> None:
    """Classify batches of chest X-rays. Research software, not a medical device."""
    try:
        context.obj = Settings.from_environment()
    except SettingInvalid as error:
        _fail(str(error))


def _fail(words: str) -> NoReturn:
    errors.print(f"cxr: {words}", style="red", markup=False, highlight=False)
    sys.exit(1)


def _serving(command: Callable[[Settings], None]) -> Callable[[Settings], None]:
    """A long-lived process: logs to stderr, ends with the instance that started it."""

    @wraps(command)
    def run(settings: Settings) -> None:
        up.die_with_supervisor()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        command(settings)

    return run


@main.command()
@click.pass_obj
@_serving
def api(settings: Settings) -> None:
    """Serve the HTTP API and the pages."""
    from api.server import SchemaOld, serve  # noqa: PLC0415

    try:
        serve(settings)
    except SchemaOld as error:
        _fail(str(error))


@main.command()
@click.pass_obj
@_serving
def worker(settings: Settings) -> None:
    """Classify what is queued; one such process per GPU, or per machine."""
    from db.registry import NoChampion  # noqa: PLC0415
    from worker import process  # noqa: PLC0415

    try:
        process.run(settings)
    except NoChampion as error:
        _fail(str(error))


@main.command()
@click.pass_obj
@_serving
def beat(settings: Settings) -> None:
    """Send the scheduled tasks at their times."""
    from worker import process  # noqa: PLC0415

    process.beat(settings)


@main.command()
@click.pass_obj
def migrate(settings: Settings) -> None:
    """Bring the database up to date and register the shipped model if there is none."""
    bring_up_to_date(settings)
    console.print("the database is up to date")


def bring_up_to_date(settings: Settings) -> None:
    from db import migrate as migrations  # noqa: PLC0415
    from db import registry  # noqa: PLC0415
    from db.blobs import Blobs  # noqa: PLC0415
    from db.database import Database  # noqa: PLC0415
    from training import shipped  # noqa: PLC0415

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
@click.option("--demo", is_flag=True, help="Classify a demonstration batch first: phantoms made by code.")
@click.option("--images", type=click.Path(exists=True, path_type=Path), help="Classify this folder first.")
@click.pass_obj
def up_(settings: Settings, demo: bool, images: Path | None) -> None:
    """Run everything on this machine until Ctrl-C: broker, API, workers, schedule."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bring_up_to_date(settings)
        with up.Instance(settings, say=errors.print) as instance:
            print(f"ready: {instance.url}", flush=True)
            if images:
                _classify_batch(settings, [images], synthetic=False)
            elif demo:
                _classify_phantoms(settings)
            console.print(f"Serving at {instance.url}. {NOTICE} Ctrl-C stops everything.", highlight=False)
            instance.wait()
    except up.StartFailed as error:
        _fail(str(error))
    except KeyboardInterrupt:
        errors.print("stopped")


def _classify_phantoms(settings: Settings) -> None:
    from training import phantoms  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory:
        console.print("Demonstration: synthetic radiographs, drawn by code; no number below means anything.")
        phantoms.write(Path(directory), count=48, seed=1)
        _classify_batch(settings, [Path(directory)], synthetic=True)


def _classify_batch(settings: Settings, paths: Sequence[Path], *, synthetic: bool) -> None:
    batch = _submit(settings, paths, urgent=False, synthetic=synthetic, wait=True)
    _show_results(settings, batch)
    classified = batch["counts"]["classified"]
    print(f"done: {classified} classified, {batch['total'] - classified} rejected", flush=True)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--wait", is_flag=True, help="Follow the batch to its end and show its results.")
@click.option("--urgent", is_flag=True, help="Before everything that is routine.")
@click.option("--synthetic", is_flag=True, help="Mark the images as made by code.")
@click.pass_obj
def submit(settings: Settings, paths: tuple[Path, ...], wait: bool, urgent: bool, synthetic: bool) -> None:
    """Submit files and folders as one batch. Exits with 1 if an image was not classified (with --wait)."""
    batch = _submit(settings, paths, urgent=urgent, synthetic=synthetic, wait=wait)
    if not wait:
        print(batch["id"])
        return
    _show_results(settings, batch)
    if batch["outcome"] != "all_classified":
        sys.exit(1)


def _submit(settings: Settings, paths: Sequence[Path], *, urgent: bool, synthetic: bool, wait: bool) -> dict[str, Any]:
    files = _files(paths)
    if not files:
        _fail("no PNG, JPEG or DICOM files there")
    with _talking(settings) as client:
        with _bar("sending", DownloadColumn()) as bar:
            task = bar.add_task("sending", total=sum(path.stat().st_size for _, path in files))
            batch: dict[str, Any] = client.submit(files, urgent=urgent, synthetic=synthetic, sent=lambda size: bar.advance(task, size))
        if wait:
            with _bar("classifying", MofNCompleteColumn()) as bar:
                task = bar.add_task("classifying", total=batch["total"])
                for batch in client.follow(batch["id"]):  # noqa: B020 - the last one is kept
                    bar.update(task, completed=round(batch["progress"] * batch["total"]))
    return batch


def _files(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(custom_id, path) of every image below `paths`; the id is the path as it was given."""
    found = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
        found += inside if path.is_dir() else [path]
    return [(str(path), path) for path in dict.fromkeys(found)]


@main.command()
@click.argument("batch", required=False)
@click.pass_obj
def status(settings: Settings, batch: str | None) -> None:
    """Show one batch, or the newest ones."""
    with _talking(settings) as client:
        found = [client.batch(batch)] if batch else client.batches()
    table = Table("batch", "submitted", "lane", "state", "done", "classified", "rejected", "model")
    for one in found:
        counts, done = one["counts"], round(one["progress"] * one["total"])
        state = (one["outcome"] or one["state"]) + (" (synthetic)" if one["synthetic"] else "")
        table.add_row(
            one["id"], one["submitted_at"][:19], one["lane"], state, f"{done}/{one['total']}",
            str(counts["classified"]), str(counts["rejected"] + counts["quarantined"]), one["model_version"],
        )  # fmt: skip
    console.print(table)


@main.command()
@click.argument("batch", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there instead of printing.")
@click.option("--partial", is_flag=True, help="Do not wait for the batch to be finished.")
@click.pass_obj
def results(settings: Settings, batch: str | None, output: Path | None, partial: bool) -> None:
    """Fetch the results of a batch, or of the latest, as CSV."""
    with _talking(settings) as client:
        if batch is None:
            newest = client.batches(limit=1)
            if not newest:
                _fail("there is no batch yet: submit one with `cxr submit FOLDER`")
            batch = newest[0]["id"]
        if output is None:
            for text in client.results_csv(batch, partial=partial):
                sys.stdout.write(text)
            return
        lines = 0
        with output.open("w", encoding="utf-8", newline="") as file:
            for text in client.results_csv(batch, partial=partial):
                file.write(text)
                lines += text.count("\n")
    errors.print(f"{lines - 1} images of {batch} written to {output}", highlight=False, markup=False)


@main.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def classify(settings: Settings, image: Path) -> None:
    """Classify one image by its path, without a server."""
    from worker.rejection import CODES, ImageRejected  # noqa: PLC0415

    try:
        with errors.status("loading the model"):
            answer = _classify_one(settings, image)
    except ImageRejected as rejected:
        _fail(f"{image}: {rejected.code}: {CODES[rejected.code]}")
    print(answer)
    errors.print(NOTICE, style="yellow")


def _classify_one(settings: Settings, image: Path) -> str:
    from worker.radiograph import decode  # noqa: PLC0415

    grey = decode(image.read_bytes())
    from worker import device  # noqa: PLC0415

    device.prepare()
    from training import shipped  # noqa: PLC0415
    from worker.predictor import Decision, Predictor  # noqa: PLC0415

    card, weights = shipped.load()
    decision = Decision(card.threshold, card.calibration_slope, card.calibration_intercept)
    predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=1)
    prediction = predictor.predict([grey])[0]
    return f"label: {prediction.label}\nprobability: {prediction.probability:.6f}\nmodel: {card.version}"


@main.group()
def audit() -> None:
    """The append-only record of what happened."""


@audit.command("verify")
@click.pass_obj
def audit_verify(settings: Settings) -> None:
    """Walk the chain; exits with 1 if a row was edited, deleted, swapped or cut off."""
    from db import audit as chain  # noqa: PLC0415
    from db.database import Database  # noqa: PLC0415

    with Database(settings.database_url).read() as session:
        verdict = chain.verify(session)
    if verdict.problem:
        _fail(f"the audit does not hold: {verdict.problem}")
    console.print(f"the audit holds: {verdict.rows} rows")


def _show_results(settings: Settings, batch: dict[str, Any]) -> None:
    with _talking(settings) as client:
        images = client.images(batch["id"], limit=_SHOWN)
    title = f"{batch['id']}{' - SYNTHETIC' if batch['synthetic'] else ''}, {batch['model_version']}. {NOTICE}"
    table = Table("image", "state", "label", "probability", title=title)
    for image in images:
        probability = "" if image["probability"] is None else f"{image['probability']:.3f}"
        table.add_row(image["custom_id"], image["code"] or image["state"], image["label"], probability)
    console.print(table, markup=False)
    if batch["total"] > _SHOWN:
        console.print(f"and {batch['total'] - _SHOWN} more: cxr results {batch['id']}", highlight=False)


class _talking:  # noqa: N801 - reads as `with _talking(settings) as client`
    """A client whose failures end the command with one line."""

    def __init__(self, settings: Settings) -> None:
        from api.client import Client  # noqa: PLC0415

        self._client = Client(up.running_url(settings))

    def __enter__(self) -> Any:
        return self._client.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from api.client import ServerAway, ServerRefused  # noqa: PLC0415

        self._client.__exit__(kind, error, trace)
        if isinstance(error, ServerAway | ServerRefused):
            _fail(str(error))


def _bar(words: str, *columns: Any) -> Progress:
    return Progress(SpinnerColumn(), TextColumn(words), BarColumn(), *columns, TimeElapsedColumn(), console=errors)


if __name__ == "__main__":
    main()
