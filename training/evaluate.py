"""What a model is worth on radiographs it was not trained on, and how much of that is their source."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from training import figures, groups, probes
from training.data import Radiographs
from training.figures import Interval, Numbers, Truth
from training.groups import Ranking
from training.probes import Masks
from training.scorer import Scorer
from training.stability import CHANGES, Moved, moved

HELD_OUT: Final = "the held-out fold"
EVERYTHING: Final = "every image"


@dataclass(frozen=True)
class Evaluation(Ranking):
    """Everything that is known about a model on one set of radiographs; `as_json` is what is stored and shown.

    Figures are None where they are not defined, each `_interval` is 95 % by patient.
    """

    evaluated: str
    threshold: float
    prevalence: float
    ppv: float | None
    ppv_interval: Interval
    npv: float | None
    npv_interval: Interval
    accuracy: float
    ece: float
    ece_interval: Interval
    brier: float
    brier_interval: Interval
    confusion: dict[str, int]
    inconclusive: float
    within_source: dict[str, Ranking]
    by_source: dict[str, Ranking]
    by_view: dict[str, Ranking]
    by_negative: dict[str, Ranking]
    lungs_only_auroc: float | None
    lungs_blanked_auroc: float | None
    lungs_blanked_auroc_interval: Interval
    lungs_blanked_given_auroc: float | None
    lungs_blanked_given_auroc_interval: Interval
    border_only_auroc: float | None
    border_only_auroc_interval: Interval
    border_only_given_auroc: float | None
    border_only_given_auroc_interval: Interval
    stability: dict[str, Moved]
    data_fingerprint: str

    def as_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, never NaN."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain


def evaluate(
    radiographs: Radiographs, scorer: Scorer, *, prevalence: float | None = None, evaluated: str = HELD_OUT
) -> Evaluation:
    """Return the figures on all the given radiographs; give only those that the model was not trained on.

    PPV and NPV hold for a share of positives of `prevalence`, that of the radiographs if none is given.
    """
    scores, truth, patients = scorer(radiographs.greys), radiographs.positive, radiographs.patients
    threshold = scorer.decision.threshold
    share = float(truth.mean()) if prevalence is None else prevalence
    by_source = groups.by(radiographs.sources, scores, radiographs, threshold=threshold)

    def interval(figure: figures.Figure) -> Interval:
        return figures.interval(figure, scores, truth, patients=patients, seed=groups.SEED)

    def ppv(some: Numbers, theirs: Truth) -> float | None:
        return figures.predictive(some >= threshold, theirs, prevalence=share)[0]

    def npv(some: Numbers, theirs: Truth) -> float | None:
        return figures.predictive(some >= threshold, theirs, prevalence=share)[1]

    called = scores >= threshold
    return Evaluation(
        **vars(groups.ranking(scores, truth, patients, threshold=threshold)),
        evaluated=evaluated,
        threshold=threshold,
        prevalence=share,
        ppv=ppv(scores, truth),
        ppv_interval=interval(ppv),
        npv=npv(scores, truth),
        npv_interval=interval(npv),
        accuracy=float((called == truth).mean()),
        ece=figures.calibration_error(scores, truth),
        ece_interval=interval(figures.calibration_error),
        brier=figures.brier(scores, truth),
        brier_interval=interval(figures.brier),
        confusion=_confusion(called, truth),
        inconclusive=float(np.mean([scorer.decision.is_inconclusive(score) for score in scores])),
        within_source={name: one for name, one in by_source.items() if one.positives and one.negatives},
        by_source=by_source,
        by_view=groups.by(radiographs.views, scores, radiographs, threshold=threshold),
        by_negative=groups.by_negative(scores, radiographs, threshold=threshold),
        **_probed(radiographs, scorer),
        stability={name: moved(change, radiographs.greys, scores, scorer) for name, change in CHANGES.items()},
        data_fingerprint=radiographs.fingerprint,
    )


def _probed(radiographs: Radiographs, scorer: Scorer) -> dict[str, Any]:
    """AUROC where it should be a half, once as serving would see it, once told where the lungs were."""
    greys, truth, masks = radiographs.greys, radiographs.positive, probes.masks_of(radiographs)
    blanked, border = probes.lungs_blanked(greys, masks), probes.border_only(greys)

    def probed(name: str, pictures: probes.Greys, given: Masks | None = None) -> dict[str, Any]:
        scores, patients = scorer(pictures, masks=given), radiographs.patients
        told = figures.interval(figures.auroc, scores, truth, patients=patients, seed=groups.SEED)
        return {f"{name}_auroc": figures.auroc(scores, truth), f"{name}_auroc_interval": told}

    return {
        "lungs_only_auroc": figures.auroc(scorer(probes.lungs_only(greys, masks)), truth),
        **probed("lungs_blanked", blanked),
        **probed("lungs_blanked_given", blanked, masks),
        **probed("border_only", border),
        # The frame shows lung where lungs reach it, and how much of it tells the source: it is no border.
        **probed("border_only_given", probes.border_only(greys, masks), masks),
    }


def _confusion(called: Truth, truth: Truth) -> dict[str, int]:
    return {
        "true_positive": int((called & truth).sum()),
        "false_positive": int((called & ~truth).sum()),
        "false_negative": int((~called & truth).sum()),
        "true_negative": int((~called & ~truth).sum()),
    }
