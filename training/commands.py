"""The commands on models and images that need no server: train, evaluate, classify."""

import json
import math
from dataclasses import replace
from pathlib import Path

import click
from rich.progress import MofNCompleteColumn, TextColumn
from rich.table import Table

from db import migrate, registry
from db.blobs import Blobs
from db.registry import Card
from settings import Settings
from terminal import NOTICE, answers, bar, fail, words
from training import shipped
from training.index import DataUnusable
from worker import device

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--data", "folder", type=_FOLDER, required=True, help="Folder of CLASS/images and CLASS/masks.")
@click.option("--epochs", type=click.IntRange(min=1), default=40, show_default=True, help="At most; it may stop early.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep weights, card and plots there, not in CXR_HOME/runs."
)
@click.pass_obj
def train(settings: Settings, folder: Path, epochs: int, seed: int, out: Path | None) -> None:
    """Train the CNN, evaluate it on the held-out fold, and register it as a new version."""
    device.quiet()
    from training import runs, verdicts  # noqa: PLC0415 - loads TensorFlow
    from training.fit import Config  # noqa: PLC0415

    try:
        with bar("training", MofNCompleteColumn(), TextColumn("{task.description}")) as progress:
            reading, fitting = progress.add_task("radiographs"), progress.add_task("epochs", total=epochs)

            def on_epoch(epoch: int, of: int, logs: dict[str, float]) -> None:
                described = f"epochs  loss {logs['loss']:.3f}  validation {logs['val_loss']:.3f}"
                progress.update(fitting, completed=epoch, total=of, description=described)

            run = runs.run(
                folder,
                Config(epochs=epochs, seed=seed),
                on_image=lambda done, total: progress.update(reading, completed=done, total=total),
                on_epoch=on_epoch,
            )
    except DataUnusable as error:
        fail(str(error))
    run = replace(run, card=verdicts.with_golden(run.card, run.weights))
    runs.save(out or settings.home / "runs" / run.card.version, run)
    database = migrate.existing(settings.database_url)
    if database:
        with database.write() as session:
            registry.register(session, Blobs(settings.blobs), run.card, run.weights, actor="train")
    else:
        words.print("not registered: this home has no database yet; run `cxr migrate` or `cxr up` first")
    answers.print(f"model: {run.card.version}")
    _show(run.evaluation.as_json())


@click.command()
@click.option("--data", "folder", type=_FOLDER, required=True, help="Folder of CLASS/images and CLASS/masks.")
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.option("--all", "everything", is_flag=True, help="Every image of the folder, not the held-out fold alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_obj
def evaluate(settings: Settings, folder: Path, version: str | None, *, everything: bool, as_json: bool) -> None:
    """Evaluate a model on the held-out fold of a folder."""
    card, weights = _model(settings, version)
    device.quiet()
    from training import runs  # noqa: PLC0415 - loads TensorFlow

    try:
        with bar("reading", MofNCompleteColumn()) as progress:
            task = progress.add_task("reading")
            evaluation = runs.evaluate_card(
                folder,
                card,
                weights,
                everything=everything,
                on_image=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except DataUnusable as error:
        fail(str(error))
    figures = evaluation.as_json()
    if as_json:
        click.echo(json.dumps({"model": card.version} | figures, indent=2))
    else:
        answers.print(f"model: {card.version}")
        _show(figures)


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.pass_obj
def classify(settings: Settings, image: Path, version: str | None) -> None:
    """Classify one image by its path, without a server."""
    from worker import decoder  # noqa: PLC0415 - every command would pay for the decoders
    from worker.rejection import CODES, REASONS, ImageRejected  # noqa: PLC0415

    try:
        decoded = decoder.decoded(image.read_bytes())
    except ImageRejected as rejected:
        fail(f"{image}: {rejected.code}: {CODES[rejected.code]}")
    card, weights = _model(settings, version)
    device.quiet()
    with words.status("loading the model"):
        from worker.assessment import assess  # noqa: PLC0415 - loads TensorFlow
        from worker.gate import Gate  # noqa: PLC0415
        from worker.predictor import Decision, Predictor  # noqa: PLC0415

        decision = Decision(card.threshold, card.calibration_slope, card.calibration_intercept)
        predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=1)
        gate = Gate(batch_size=1)
    (prediction,) = assess([decoded], gate, predictor.predict)
    if prediction.raw is not None and not math.isfinite(prediction.raw):
        fail(f"{card.version} gave no number for this image")
    click.echo(f"label: {prediction.label}")
    if prediction.probability is not None:
        click.echo(f"probability: {prediction.probability:.6f} (positive from {card.threshold:.3f})")
    for reason in prediction.reasons:
        click.echo(f"reason: {reason}: {REASONS[reason]}")
    click.echo(f"model: {card.version}")
    click.echo(f"gate: {gate.version}")
    words.print(NOTICE, style="yellow")


@click.command()
@click.pass_obj
def models(settings: Settings) -> None:
    """List the registered model versions."""
    database = migrate.existing(settings.database_url)
    if database is None:
        fail("this home has no database yet: run `cxr migrate` or `cxr up` first")
    with database.read() as session:
        champion = registry.champion(session).version
        found = registry.cards(session)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("version", "", "AUROC on the held-out fold", "threshold"):
        table.add_column(name)
    for card in found:
        mark = "champion" if card.version == champion else ""
        table.add_row(card.version, mark, f"{card.metrics.get('auroc', float('nan')):.3f}", f"{card.threshold:.3f}")
    answers.print(table)


def _model(settings: Settings, version: str | None) -> tuple[Card, bytes]:
    """The named version, or this home's champion, or, in a home without a database, the shipped model."""
    database = migrate.existing(settings.database_url)
    if database is None:
        card, weights = shipped.load()
        if version not in {None, card.version}:
            fail(f"{version} is not registered; this home has no database, only the shipped {card.version}")
        return card, weights
    with database.read() as session:
        try:
            model = registry.find(session, version) if version else registry.champion(session)
        except (registry.VersionUnknown, registry.NoChampion) as error:
            fail(str(error))
        return registry.card_of(model), Blobs(settings.blobs).read(model.weights_sha256)


def _show(figures: dict[str, object]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    for name, value in figures.items():
        interval = figures.get(f"{name}_interval")
        if isinstance(value, float):
            shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if isinstance(interval, list) else ""
            table.add_row(name.replace("_", " "), f"{value:.3f}", shown)
    answers.print(table)
    answers.print(NOTICE, style="yellow")
