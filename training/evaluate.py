"""What a model is worth on radiographs it was not trained on, and how much of that is their source."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training import figures, probes
from training.data import Radiographs
from training.figures import Numbers, Truth
from training.probes import Masks
from worker.predictor import Decision, Predictor
from worker.radiograph import Grey

_SEED: Final = 20_200_101  # of the bootstrap only: intervals come out the same every time
_BATCH_SIZE: Final = 64

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Ranking:
    """AUROC and the rates at the operating point, each with its 95 % interval by patient; None where undefined."""

    positives: int
    negatives: int
    patients: int
    auroc: float | None
    auroc_interval: Interval
    sensitivity: float | None
    sensitivity_interval: Interval
    specificity: float | None
    specificity_interval: Interval


@dataclass(frozen=True)
class Evaluation(Ranking):
    """Everything that is known about a model on one set of radiographs; `as_json` is what is stored and shown."""

    threshold: float
    ppv: float | None
    npv: float | None
    accuracy: float
    ece: float
    brier: float
    confusion: dict[str, int]
    within_source: dict[str, Ranking]
    lungs_only_auroc: float | None
    lungs_blanked_auroc: float | None
    lungs_blanked_given_auroc: float | None
    border_only_auroc: float | None
    border_only_given_auroc: float | None
    data_fingerprint: str

    def as_json(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and numbers, never NaN."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain


class Scorer:
    """A model as serving runs it: the same predictor, the same decision."""

    def __init__(self, weights: bytes, decision: Decision, *, preprocessing: str) -> None:
        self.threshold = decision.threshold
        self._predictor = Predictor(weights, decision, preprocessing=preprocessing, batch_size=_BATCH_SIZE)

    def __call__(self, greys: NDArray[np.uint8] | Sequence[Grey], *, masks: Masks | None = None) -> Numbers:
        """Return the calibrated probability of each of (n, SIZE, SIZE) grey levels; `masks` are taken for its lungs."""
        maps = None if masks is None else probes.halved(masks)
        return np.array([each.probability for each in self._predictor.predict(list(greys), maps=maps)])


def evaluate(radiographs: Radiographs, scorer: Scorer) -> Evaluation:
    """Return the figures on all the given radiographs; give only those that the model was not trained on."""
    scores, truth = scorer(radiographs.greys), radiographs.positive
    called = scores >= scorer.threshold
    greys, masks = radiographs.greys, radiographs.masks
    return Evaluation(
        **vars(_ranking(scores, truth, radiographs.patients, threshold=scorer.threshold)),
        threshold=scorer.threshold,
        ppv=figures.share(truth, called),
        npv=figures.share(~truth, ~called),
        accuracy=float((called == truth).mean()),
        ece=figures.calibration_error(scores, truth),
        brier=figures.brier(scores, truth),
        confusion=_confusion(called, truth),
        within_source=_within_source(scores, radiographs, threshold=scorer.threshold),
        lungs_only_auroc=figures.auroc(scorer(probes.lungs_only(greys, masks)), truth),
        lungs_blanked_auroc=figures.auroc(scorer(probes.lungs_blanked(greys, masks)), truth),
        lungs_blanked_given_auroc=figures.auroc(scorer(probes.lungs_blanked(greys, masks), masks=masks), truth),
        border_only_auroc=figures.auroc(scorer(probes.border_only(greys)), truth),
        border_only_given_auroc=figures.auroc(scorer(probes.border_only(greys), masks=masks), truth),
        data_fingerprint=radiographs.fingerprint,
    )


def _ranking(scores: Numbers, truth: Truth, patients: NDArray[np.str_], *, threshold: float) -> Ranking:
    def sensitivity(some: Numbers, theirs: Truth) -> float | None:
        return figures.sensitivity(some >= threshold, theirs)

    def specificity(some: Numbers, theirs: Truth) -> float | None:
        return figures.specificity(some >= threshold, theirs)

    def interval(figure: Callable[[Numbers, Truth], float | None]) -> Interval:
        return figures.interval(figure, scores, truth, patients=patients, seed=_SEED)

    return Ranking(
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        patients=len(np.unique(patients)),
        auroc=figures.auroc(scores, truth),
        auroc_interval=interval(figures.auroc),
        sensitivity=sensitivity(scores, truth),
        sensitivity_interval=interval(sensitivity),
        specificity=specificity(scores, truth),
        specificity_interval=interval(specificity),
    )


def _within_source(scores: Numbers, radiographs: Radiographs, *, threshold: float) -> dict[str, Ranking]:
    """The only comparison that the source cannot help: positives and negatives of one source."""
    found: dict[str, Ranking] = {}
    for source in np.unique(radiographs.sources):
        chosen = radiographs.sources == source
        truth = radiographs.positive[chosen]
        if source and truth.any() and not truth.all():
            found[str(source)] = _ranking(scores[chosen], truth, radiographs.patients[chosen], threshold=threshold)
    return found


def _confusion(called: Truth, truth: Truth) -> dict[str, int]:
    return {
        "true_positive": int((called & truth).sum()),
        "false_positive": int((called & ~truth).sum()),
        "false_negative": int((~called & truth).sum()),
        "true_negative": int((~called & ~truth).sum()),
    }
