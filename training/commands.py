"""The commands on models and images that need no server: train, evaluate, classify."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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

_SHARE = click.FloatRange(0, 1, min_open=True)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--data", "folder", type=_FOLDER, required=True, help="Folder of CLASS/images and CLASS/masks.")
@click.option("--epochs", type=click.IntRange(min=1), default=40, show_default=True, help="At most; it may stop early.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--sensitivity",
    type=_SHARE,
    default=0.95,
    show_default=True,
    help="Of the operating point, on the validation fold.",
)
@click.option(
    "--specificity",
    type=_SHARE,
    default=0.9,
    show_default=True,
    help="Only where the validation fold reaches it is an image called positive.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep weights, card, plots and report there, not in CXR_HOME/runs."
)
@click.pass_obj
def train(settings: Settings, /, folder: Path, out: Path | None, **chosen: Any) -> None:
    """Train the CNN, evaluate it on the held-out fold, and register it as a new version."""
    device.quiet()
    from training import runs, verdicts  # noqa: PLC0415 - loads TensorFlow
    from training.fit import Config  # noqa: PLC0415

    config = Config(**chosen)
    started = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-seed-{config.seed}"
    try:
        with bar("training", MofNCompleteColumn(), TextColumn("{task.description}")) as progress:
            reading, fitting = progress.add_task("radiographs"), progress.add_task("epochs", total=config.epochs)

            def on_epoch(epoch: int, of: int, logs: dict[str, float]) -> None:
                described = f"epochs  loss {logs['loss']:.3f}  validation {logs['val_loss']:.3f}"
                progress.update(fitting, completed=epoch, total=of, description=described)

            run = runs.run(
                folder,
                config,
                on_image=lambda done, total: progress.update(reading, completed=done, total=total),
                on_epoch=on_epoch,
                logs=settings.home / "runs" / "tensorboard" / started,
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
@click.option("--all", "everything", is_flag=True, help="Every image, in the folder it was trained on too.")
@click.option("--prevalence", type=click.FloatRange(0, 1), help="Share of positives that PPV and NPV are for.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with all plots.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_obj
def evaluate(
    settings: Settings,
    folder: Path,
    version: str | None,
    *,
    everything: bool,
    prevalence: float | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Evaluate a model on a folder of CLASS/images: the held-out fold of what it was trained on, else every image."""
    card, weights = _model(settings, version)
    device.quiet()
    from training import runs  # noqa: PLC0415 - loads TensorFlow

    try:
        with bar("reading", MofNCompleteColumn()) as progress:
            task = progress.add_task("reading")
            examined = runs.evaluate_card(
                folder,
                card,
                weights,
                everything=everything,
                prevalence=prevalence,
                on_image=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except DataUnusable as error:
        fail(str(error))
    figures = examined.evaluation.as_json()
    if report:
        from training import report as reports  # noqa: PLC0415 - draws with matplotlib

        pictures = reports.drawn(examined.evaluation, examined.scores, examined.truth)
        report.write_text(reports.page(card, figures, pictures), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"model": card.version} | figures, indent=2))
    else:
        answers.print(f"model: {card.version}")
        _show(figures)


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.option(
    "--heatmap", type=click.Path(dir_okay=False, path_type=Path), help="Write where the model looked there, as PNG."
)
@click.pass_obj
def classify(settings: Settings, image: Path, version: str | None, heatmap: Path | None) -> None:
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

        predictor = Predictor(weights, Decision.of(card), preprocessing=card.preprocessing, batch_size=1)
        gate = Gate(batch_size=1)
    (prediction,) = assess([decoded], gate, predictor.predict)
    if prediction.raw is not None and not math.isfinite(prediction.raw):
        fail(f"{card.version} gave no number for this image")
    click.echo(f"label: {prediction.label}")
    if prediction.probability is not None:
        if heatmap:
            from worker import heatmap as gradcam  # noqa: PLC0415 - loads TensorFlow

            heat = gradcam.heatmap(weights, decoded.grey, preprocessing=card.preprocessing)
            heatmap.write_bytes(gradcam.png(decoded.grey, heat))
        click.echo(f"probability: {prediction.probability:.6f} ({_told(card)})")
    for reason in prediction.reasons:
        click.echo(f"reason: {reason}: {REASONS[reason]}")
    click.echo(f"model: {card.version}")
    click.echo(f"gate: {gate.version}")
    words.print(NOTICE, style="yellow")


def _told(card: Card) -> str:
    """Where the labels begin and end."""
    if card.band_low is None or card.band_high is None:
        return f"positive from {card.threshold:.3f}"
    return f"negative below {card.band_low:.3f}, positive from {card.band_high:.3f}"


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
