"""Predicts grey levels: what prepares them, the CNN, and what follows from its number."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker import cnn
from worker.decision import Decision, ModelUnusable, Prediction
from worker.forward import Forward
from worker.preparation import Maps, PreparationUnknown, preparation
from worker.radiograph import Grey


class Predictor:
    """One model version, loaded and warmed up."""

    def __init__(self, weights: bytes, decision: Decision, *, preprocessing: str, batch_size: int) -> None:
        try:
            self._prepare = preparation(preprocessing, batch_size=batch_size)
        except PreparationUnknown as error:
            raise ModelUnusable(f"the model was trained on {error}") from error
        model = cnn.build()
        try:
            cnn.load_weights(model, weights)
        except Exception as error:
            raise ModelUnusable("the weights cannot be loaded into the CNN") from error
        self._decision = decision
        self._forward = Forward(model, np.uint8, batch_size=batch_size)

    def predict(self, greys: Sequence[Grey], *, maps: Maps | None = None) -> list[Prediction]:
        """Return one Prediction per radiograph, in order; `maps` replaces what the segmenter would find, for probes."""
        if not greys:
            return []
        parts = [
            self._forward(self._prepare(greys[chunk], None if maps is None else maps[chunk]))[:, 0]
            for chunk in self._forward.chunks(len(greys))
        ]
        return self._decided(np.concatenate(parts).astype(np.float64))

    def decide(self, raw: float) -> Prediction:
        """What follows from a raw output that was kept."""
        return self._decided(np.array([raw]))[0]

    def _decided(self, raw: NDArray[np.float64]) -> list[Prediction]:
        return [
            self._decision.prediction(float(value), float(probability))
            for value, probability in zip(raw, self._decision.calibrate(raw), strict=True)
        ]
