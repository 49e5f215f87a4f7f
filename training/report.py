"""One HTML page with all that is known of a model on a set of radiographs; nothing in it is fetched from elsewhere."""

import base64
import io
from typing import Any, Final

import jinja2
from matplotlib.figure import Figure

from db.registry import Card
from training import plots
from training.evaluate import Evaluation
from training.figures import Interval, Numbers, Truth

_FIGURES: Final = {
    "auroc": "AUROC",
    "sensitivity": "Sensitivity at the operating point",
    "specificity": "Specificity at the operating point",
    "ppv": "PPV at that prevalence",
    "npv": "NPV at that prevalence",
    "ece": "Expected calibration error",
    "brier": "Brier score",
    "inconclusive": "Share without a label, in the band",
}
_PROBES: Final = {
    "lungs_blanked_auroc": "Lungs blanked, as serving would see it",
    "lungs_blanked_given_auroc": "Lungs blanked, told where they were",
    "border_only_auroc": "Border only, as serving would see it",
    "border_only_given_auroc": "Border only, told where the lungs were",
    "lungs_only_auroc": "Lungs only",
}
_GROUPS: Final = {
    "within_source": "Within one source",
    "by_source": "By source",
    "by_view": "By view",
    "by_negative": "All positives against one class of negative",
}
_WORDS: Final = {
    "learning_curves": "Learning curves",
    "roc": "ROC",
    "precision_recall": "Precision and recall",
    "calibration": "Reliability",
    "confusion": "Confusion at the operating point",
    "auroc_by_group": "AUROC by group, and where it should be 0.5",
}


def drawn(evaluation: Evaluation, scores: Numbers, truth: Truth) -> dict[str, Figure]:
    """Return the pictures of an evaluation; those that need both classes are left out where one is missing."""
    both = truth.any() and not truth.all()
    threshold = evaluation.threshold
    curves = {"roc": plots.roc, "precision_recall": plots.precision_recall}
    rows: dict[str, tuple[float | None, Interval]] = {"all": (evaluation.auroc, evaluation.auroc_interval)}
    for kind, groups in (("within", evaluation.within_source), ("view", evaluation.by_view)):
        rows |= {f"{kind} {name}": (one.auroc, one.auroc_interval) for name, one in groups.items()}
    rows |= {f"against {name}": (one.auroc, one.auroc_interval) for name, one in evaluation.by_negative.items()}
    rows["lungs blanked"] = (evaluation.lungs_blanked_auroc, evaluation.lungs_blanked_auroc_interval)
    rows["lungs blanked, told where"] = (
        evaluation.lungs_blanked_given_auroc,
        evaluation.lungs_blanked_given_auroc_interval,
    )
    rows["border only"] = (evaluation.border_only_auroc, evaluation.border_only_auroc_interval)
    rows["border only, told where"] = (evaluation.border_only_given_auroc, evaluation.border_only_given_auroc_interval)
    return (
        ({name: draw(scores, truth, threshold) for name, draw in curves.items()} if both else {})
        | {"calibration": plots.calibration(scores, truth), "confusion": plots.confusion(evaluation.confusion)}
        | ({"auroc_by_group": plots.intervals(rows)} if any(value is not None for value, _ in rows.values()) else {})
    )


def page(card: Card, figures: dict[str, Any], pictures: dict[str, Figure]) -> str:
    """Return the report as HTML; `figures` is `Evaluation.as_json()`."""
    loader = jinja2.PackageLoader("training")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template.filters["number"] = _number
    return template.get_template("report.html").render(
        card=card,
        figures=figures,
        named=_FIGURES,
        probes=_PROBES,
        groups=_GROUPS,
        pictures=[(_WORDS[name], _embedded(figure)) for name, figure in pictures.items()],
    )


def _number(value: float | list[float] | None) -> str:
    if isinstance(value, list):
        return " to ".join(f"{each:.3f}" for each in value)
    return "" if value is None else f"{value:.3f}"


def _embedded(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
