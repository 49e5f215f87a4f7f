"""Four pictures of a run: learning curves, ROC, calibration, confusion."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training import figures
from training.figures import Numbers, Truth

_SIZE = (5.0, 4.0)  # inches


def learning_curves(history: dict[str, list[float]], best_epoch: int) -> Figure:
    """Loss by epoch, with the epoch that was kept; the training loss is on both views and augmented."""
    figure, axes = _empty("epoch", "loss (binary cross-entropy)")
    epochs = np.arange(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], label="training")
    axes.plot(epochs, history["val_loss"], label="validation")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.legend()
    return figure


def roc(scores: Numbers, truth: Truth, threshold: float) -> Figure:
    """Sensitivity against 1 - specificity, with the operating point."""
    figure, axes = _empty("1 - specificity", "sensitivity")
    cuts = np.concatenate([[np.inf], np.unique(scores)[::-1]])
    points = [((scores >= cut)[~truth].mean(), (scores >= cut)[truth].mean()) for cut in cuts]
    axes.plot(*zip(*points, strict=True), label=f"AUROC {figures.auroc(scores, truth):.3f}")
    called = scores >= threshold
    axes.plot(called[~truth].mean(), called[truth].mean(), "o", label=f"operating point {threshold:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.legend(loc="lower right")
    return figure


def calibration(scores: Numbers, truth: Truth) -> Figure:
    """Share of positives against the mean probability of each bin."""
    figure, axes = _empty("calibrated probability", "share of positives")
    means, shares, _ = zip(*figures.calibration_curve(scores, truth), strict=True)
    axes.plot(means, shares, "o-", label=f"ECE {figures.calibration_error(scores, truth):.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.legend(loc="upper left")
    return figure


def confusion(counts: dict[str, int]) -> Figure:
    """The four counts at the operating point."""
    figure, axes = _empty("called", "is")
    table = [
        [counts["true_positive"], counts["false_negative"]],
        [counts["false_positive"], counts["true_negative"]],
    ]
    axes.imshow(table, cmap="Greys", vmin=0, vmax=2 * max(map(max, table)))
    axes.set_xticks([0, 1], ["positive", "negative"])
    axes.set_yticks([0, 1], ["positive", "negative"])
    for row, counted in enumerate(table):
        for column, count in enumerate(counted):
            axes.text(column, row, str(count), ha="center", va="center", fontsize=16)
    return figure


def save(directory: Path, drawn: dict[str, Figure]) -> None:
    """Write each figure as NAME.png."""
    for name, figure in drawn.items():
        figure.savefig(directory / f"{name}.png", dpi=120)


def _empty(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes
