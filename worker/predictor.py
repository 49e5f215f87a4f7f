"""Predicts grey levels in batches of a few fixed shapes, each compiled once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from db.registry import Card
from db.tables import Label, Model
from worker import cnn
from worker.preparation import Maps, PreparationUnknown, preparation
from worker.radiograph import SIZE, Grey
from worker.rejection import UNDECIDED


class ModelUnusable(Exception):
    """This worker cannot use the model: its weights are damaged or of another preprocessing."""


@dataclass(frozen=True)
class Decision:
    """How a raw output becomes an answer; stored with the model version."""

    threshold: float
    slope: float
    intercept: float
    band: tuple[float, float] | None = None
    """From the first and below the second number no label is given."""

    @classmethod
    def of(cls, card: Card | Model) -> Self:
        """Return the decision that stands with a model version."""
        stored = (card.band_low, card.band_high)
        band = None if stored[0] is None or stored[1] is None else (stored[0], stored[1])
        return cls(card.threshold, card.calibration_slope, card.calibration_intercept, band)

    def calibrate(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Platt scaling: sigmoid(slope · logit(raw) + intercept). Platt 1999."""
        bounded = np.clip(raw, 1e-7, 1 - 1e-7)
        logit = np.log(bounded / (1 - bounded))
        return np.asarray(1 / (1 + np.exp(-(self.slope * logit + self.intercept))))

    def again(self, prediction: "Prediction") -> "Prediction":
        """Return the same numbers with the label that this decision gives them; without numbers, as it is."""
        if prediction.raw is None or prediction.probability is None:
            return prediction
        return self.prediction(prediction.raw, prediction.probability)

    def is_inconclusive(self, probability: float) -> bool:
        return self.band is not None and self.band[0] <= probability < self.band[1]

    def prediction(self, raw: float, probability: float) -> "Prediction":
        """Return the answer with its reasons."""
        label = self.label(probability)
        return Prediction(raw, probability, label, (UNDECIDED,) if label == Label.INCONCLUSIVE else ())

    def label(self, probability: float) -> Label:
        if self.is_inconclusive(probability):
            return Label.INCONCLUSIVE
        return Label.POSITIVE if probability >= self.threshold else Label.NEGATIVE


@dataclass(frozen=True)
class Prediction:
    """Raw and calibrated probability of COVID-19 for one image; `raw` is NaN where the model gave no number.

    Both are None where it was not asked, for these `reasons`; where the reason is UNDECIDED, they do not decide.
    """

    raw: float | None
    probability: float | None
    label: Label
    reasons: tuple[str, ...] = ()


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
        self._shapes = sorted({1, min(8, batch_size), batch_size})
        self._forward = _compile(model)
        for shape in self._shapes:
            self._forward(np.zeros((shape, SIZE, SIZE, 1), np.uint8))

    def predict(self, greys: Sequence[Grey], *, maps: Maps | None = None) -> list[Prediction]:
        """Return one Prediction per radiograph, in order; `maps` replaces what the segmenter would find, for probes."""
        if not greys:
            return []
        chunks = [slice(start, start + self._shapes[-1]) for start in range(0, len(greys), self._shapes[-1])]
        parts = [self._padded(greys[chunk], None if maps is None else maps[chunk]) for chunk in chunks]
        raw = np.concatenate(parts)
        return [
            self._decision.prediction(float(value), float(probability))
            for value, probability in zip(raw, self._decision.calibrate(raw), strict=True)
        ]

    def _padded(self, greys: Sequence[Grey], maps: Maps | None) -> NDArray[np.float64]:
        shape = next(shape for shape in self._shapes if shape >= len(greys))
        batch = np.zeros((shape, SIZE, SIZE, 1), np.uint8)
        batch[: len(greys)] = self._prepare(greys, maps)
        return self._forward(batch)[: len(greys)]


def _compile(model: keras.Model) -> Callable[[Grey], NDArray[np.float64]]:
    """One compiled function; `model.predict` costs 40 ms a call and leaks."""
    function = tf.function(lambda batch: model(batch, training=False))

    def forward(batch: Grey) -> NDArray[np.float64]:
        return np.asarray(function(tf.constant(batch)), dtype=np.float64)[:, 0]

    return forward
