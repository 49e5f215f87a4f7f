"""The pictures of a run and of an evaluation."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training import figures
from training.figures import Interval, Numbers, Truth

_SIZE = (5.0, 4.0)  # inches


_CALIBRATED = "val_calibrated_loss"


def learning_curves(history: dict[str, list[float]], best_epoch: int) -> Figure:
    """Loss by epoch, with the epoch that was kept; that of training is on changed radiographs, against what is taught."""
    figure, axes = _empty("epoch", "loss (binary cross-entropy)")
    epochs = np.arange(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], label="training, against what is taught")
    axes.plot(epochs, history["val_loss"], label="validation, against labels")
    if _CALIBRATED in history:
        axes.plot(epochs, history[_CALIBRATED], label="validation, calibrated, classes alike")
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


def precision_recall(scores: Numbers, truth: Truth, threshold: float) -> Figure:
    """PPV against sensitivity at the share of positives that is there, with the operating point."""
    figure, axes = _empty("sensitivity", "PPV")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    axes.step(hits / truth.sum(), hits / np.arange(1, len(hits) + 1), where="post")
    called = scores >= threshold
    if called.any():
        axes.plot(
            truth[called].sum() / truth.sum(), truth[called].mean(), "o", label=f"operating point {threshold:.3f}"
        )
    axes.axhline(truth.mean(), color="grey", linestyle=":", label="chance")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    return figure


def intervals(rows: dict[str, tuple[float | None, Interval]]) -> Figure:
    """AUROC with its interval, a row each; what is not defined is left out."""
    shown = {name: (value, ends) for name, (value, ends) in rows.items() if value is not None}
    figure, axes = _empty("AUROC", "")
    figure.set_size_inches(_SIZE[0], 1.2 + 0.32 * len(shown))
    for place, (value, ends) in enumerate(shown.values()):
        low, high = ends or (value, value)
        axes.plot([low, high], [place, place], color="tab:blue")
        axes.plot(value, place, "o", color="tab:blue")
    axes.axvline(0.5, color="grey", linestyle=":")
    axes.set_yticks(range(len(shown)), list(shown))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, 1)
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
