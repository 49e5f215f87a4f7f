"""Predicts grey levels in batches of a few fixed shapes, each compiled once."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker import cnn
from worker.decision import Decision, ModelUnusable, Prediction
from worker.preparation import Maps, PreparationUnknown, preparation
from worker.radiograph import SIZE, Grey


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
        return self._decided(np.concatenate(parts))

    def decide(self, raw: float) -> Prediction:
        """What follows from a raw output that was kept."""
        return self._decided(np.array([raw]))[0]

    def _decided(self, raw: NDArray[np.float64]) -> list[Prediction]:
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
