"""A model as serving runs it: the same predictor, the same decision."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from db.registry import Card
from training import probes
from training.figures import Numbers
from training.probes import Masks
from worker.decision import Decision
from worker.predictor import Predictor
from worker.radiograph import Grey

_BATCH_SIZE: Final = 64


class Scorer:
    """Scores radiographs by the calibrated probability. Raises ModelUnusable."""

    def __init__(self, weights: bytes, decision: Decision, *, preprocessing: str) -> None:
        self.decision = decision
        self._predictor = Predictor(weights, decision, preprocessing=preprocessing, batch_size=_BATCH_SIZE)

    def __call__(self, greys: NDArray[np.uint8] | Sequence[Grey], *, masks: Masks | None = None) -> Numbers:
        """Return the calibrated probability of each of (n, SIZE, SIZE) grey levels; `masks` are taken for its lungs."""
        maps = None if masks is None else probes.halved(masks)
        return np.array([each.probability for each in self._predictor.predict(list(greys), maps=maps)])


def scorer_of(card: Card, weights: bytes) -> Scorer:
    """Return the model version ready to score, or raise ModelUnusable."""
    return Scorer(weights, Decision.of(card), preprocessing=card.preprocessing)
