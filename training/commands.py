"""The commands on models and images that need no server: train, evaluate, classify."""

import hashlib
import math
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import MofNCompleteColumn, TextColumn

import home
from db import registry
from db.blobs import Blobs
from db.registry import Card
from settings import Settings
from terminal import NOTICE, answer, answers, bar, fail, json_option, table, words
from training import shipped
from training.config import Config
from training.index import DataUnusable
from worker import device
from worker.decision import Decision

if TYPE_CHECKING:
    from worker.decoder import Decoded

_SHARE = click.FloatRange(0, 1, min_open=True)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--data", "folder", type=_FOLDER, required=True, help="Folder of CLASS/images and CLASS/masks.")
@click.option(
    "--epochs", type=click.IntRange(min=1), default=Config.epochs, show_default=True, help="At most; it may stop early."
)
@click.option(
    "--exposures",
    type=click.IntRange(min=0),
    default=Config.exposures,
    show_default=True,
    help="Changed copies of each radiograph to learn from.",
)
@click.option("--seed", type=int, default=Config.seed, show_default=True)
@click.option(
    "--sensitivity",
    type=_SHARE,
    default=Config.sensitivity,
    show_default=True,
    help="Of the operating point, on the validation fold.",
)
@click.option(
    "--specificity",
    type=_SHARE,
    default=Config.specificity,
    show_default=True,
    help="Only where the validation fold reaches it is an image called positive.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Keep weights, card, plots and report there, not in CXR_HOME/runs."
)
@json_option
@click.pass_obj
def train(settings: Settings, /, folder: Path, out: Path | None, **chosen: Any) -> None:
    """Train the CNN, evaluate it on the held-out fold, and register it as a new version."""
    device.quiet()
    from training import runs, verdicts  # noqa: PLC0415 - loads TensorFlow

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
    database = home.existing(settings)
    if database:
        with database.write() as session:
            registry.register(session, Blobs(settings.blobs), run.card, run.weights, actor="train")
    else:
        words.print("not registered: this home has no database yet; run `cxr migrate` or `cxr up` first")
    _answer_figures(run.card.version, run.evaluation.as_json())


@click.command()
@click.option("--data", "folder", type=_FOLDER, required=True, help="Folder of CLASS/images and CLASS/masks.")
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.option("--all", "everything", is_flag=True, help="Every image, in the folder it was trained on too.")
@click.option("--prevalence", type=click.FloatRange(0, 1), help="Share of positives that PPV and NPV are for.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with all plots.")
@json_option
@click.pass_obj
def evaluate(
    settings: Settings,
    folder: Path,
    version: str | None,
    *,
    everything: bool,
    prevalence: float | None,
    report: Path | None,
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
    _answer_figures(card.version, figures)


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.option(
    "--heatmap", type=click.Path(dir_okay=False, path_type=Path), help="Write where the model looked there, as PNG."
)
@json_option
@click.pass_obj
def classify(settings: Settings, image: Path, version: str | None, heatmap: Path | None) -> None:
    """Classify one image by its path, without a server."""
    from worker.rejection import NOTES, REASONS  # noqa: PLC0415 - every command would pay for it

    decoded = _decoded(settings, image)
    card, weights = _model(settings, version)
    device.quiet()
    with words.status("loading the model"):
        from worker.assessment import assess  # noqa: PLC0415 - loads TensorFlow
        from worker.gate import Gate  # noqa: PLC0415
        from worker.predictor import Predictor  # noqa: PLC0415

        predictor = Predictor(weights, Decision.of(card), preprocessing=card.preprocessing, batch_size=1)
        gate = Gate(batch_size=1)
    (prediction,) = assess([decoded], gate, predictor.predict)
    if prediction.raw is not None and not math.isfinite(prediction.raw):
        fail(f"{card.version} gave no number for this image")
    if heatmap and prediction.probability is None:
        words.print(f"{heatmap} is not written: the image is {prediction.label}, and no model looked at it")
    elif heatmap:
        from worker import heatmap as gradcam  # noqa: PLC0415 - loads TensorFlow

        heat = gradcam.heatmap(weights, decoded.grey, preprocessing=card.preprocessing)
        heatmap.write_bytes(gradcam.png(decoded.grey, heat))
    told = {
        "label": prediction.label,
        "probability": prediction.probability,
        "reasons": prediction.reasons,
        "notes": decoded.notes,
        "threshold": card.threshold,
        "band_low": card.band_low,
        "band_high": card.band_high,
        "model_version": card.version,
        "gate": gate.version,
    }

    def show() -> None:
        click.echo(f"label: {prediction.label}")
        if prediction.probability is not None:
            click.echo(f"probability: {prediction.probability:.6f} ({_told(card)})")
        for reason in prediction.reasons:
            click.echo(f"reason: {reason}: {REASONS[reason]}")
        for note in decoded.notes:
            click.echo(f"note: {note}: {NOTES[note]}")
        click.echo(f"model: {card.version}")
        click.echo(f"gate: {gate.version}")
        words.print(NOTICE, style="yellow")

    answer(told, show)


def _decoded(settings: Settings, image: Path) -> "Decoded":
    """The radiograph, by a process with the limits of time and memory that a worker's have; or end the command."""
    from worker.decoders import Decoders, DecodersUnusable  # noqa: PLC0415 - every command would pay for them
    from worker.rejection import CODES, ImageRejected  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, closing(Decoders.of(settings, 1)) as decoders:
        with image.open("rb") as file:
            named = Path(folder) / hashlib.file_digest(file, "sha256").hexdigest()
        named.symlink_to(image.absolute())
        try:
            (found,) = decoders.decode([named])
        except DecodersUnusable as error:
            fail(str(error))
    if isinstance(found, ImageRejected):
        fail(f"{image}: {found.code}: {CODES[found.code]}", code=found.code)
    return found


def _told(card: Card) -> str:
    """Where the labels begin and end."""
    if card.band_low is None or card.band_high is None:
        return f"positive from {card.threshold:.3f}"
    return f"negative below {card.band_low:.3f}, positive from {card.band_high:.3f}"


def _model(settings: Settings, version: str | None) -> tuple[Card, bytes]:
    """The named version, or this home's champion, or, in a home without a database, the shipped model."""
    database = home.existing(settings)
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


def _answer_figures(version: str, figures: dict[str, object]) -> None:
    answer({"model": version} | figures, lambda: _show(version, figures), bare=True)


def _show(version: str, figures: dict[str, object]) -> None:
    answers.print(f"model: {version}")
    shown = table("figure", "value", "95 % interval", right={"value"}, whole={"value"})
    for name, value in figures.items():
        interval = figures.get(f"{name}_interval")
        if isinstance(value, float):
            between = f"{interval[0]:.3f} to {interval[1]:.3f}" if isinstance(interval, list) else ""
            shown.add_row(name.replace("_", " "), f"{value:.3f}", between)
    answers.print(shown)
    answers.print(NOTICE, style="yellow")
