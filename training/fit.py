"""Trains the given CNN on radiographs and on their lungs alone, and keeps the best epoch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training import augmentation, calibration
from training.augmentation import Strength
from training.data import Radiographs
from training.index import FOLDS, DataUnusable
from training.probes import lungs_only
from worker import cnn
from worker.predictor import Decision
from worker.radiograph import prepare

OnEpoch = Callable[[int, int, dict[str, float]], None]

_PREDICTED_TOGETHER: Final = 64


@dataclass(frozen=True)
class Config:
    """Everything that decides a run beside the data; it is stored whole with the weights."""

    epochs: int = 40
    patience: int = 8
    batch_size: int = 32
    learning_rate: float = 5e-4
    seed: int = 7
    validation_fold: int = 4
    test_fold: int = FOLDS - 1
    sensitivity: float = 0.95
    augmentation: Strength = field(default_factory=Strength)

    @property
    def training_folds(self) -> tuple[int, ...]:
        return tuple(fold for fold in range(FOLDS) if fold not in {self.validation_fold, self.test_fold})


@dataclass(frozen=True)
class Fitted:
    """The best epoch's weights, how their output is decided on, and the learning curves, one value an epoch."""

    weights: bytes
    decision: Decision
    history: dict[str, list[float]]
    best_epoch: int


def compiled(learning_rate: float) -> keras.Model:
    """Return the given CNN, ready to train: Adam, binary cross-entropy, accuracy."""
    model = cnn.build()
    model.compile(optimizer=keras.optimizers.Adam(learning_rate), loss="binary_crossentropy", metrics=["accuracy"])
    return model


def fit(radiographs: Radiographs, config: Config, on_epoch: OnEpoch | None = None) -> Fitted:
    """Train on the training folds, choose and calibrate on the validation fold; the test fold is never looked at."""
    training, validation = radiographs.folds(*config.training_folds), radiographs.folds(config.validation_fold)
    _check(training, "training")
    _check(validation, "validation")
    keras.utils.set_random_seed(config.seed)
    model = compiled(config.learning_rate)
    best = _BestEpoch(config, on_epoch)
    history = model.fit(
        _batches(training, config),
        validation_data=_plain(validation, config.batch_size),
        epochs=config.epochs,
        callbacks=[best],
        shuffle=False,  # the data set shuffles by itself, from the seed
        verbose=0,
    )
    model.set_weights(best.weights)
    raw = model.predict(prepare(validation.greys), batch_size=_PREDICTED_TOGETHER, verbose=0)[:, 0].astype(np.float64)
    decision = calibration.decide(raw, validation.positive, sensitivity=config.sensitivity)
    curves = {name: [float(value) for value in values] for name, values in history.history.items()}
    return Fitted(cnn.weights_to_bytes(model), decision, curves, best.epoch)


def both_views(training: Radiographs) -> NDArray[np.uint8]:
    """Return (2n, SIZE, SIZE, 1): each radiograph as it is, then each with its lungs alone."""
    return prepare(np.concatenate([training.greys, lungs_only(training.greys, training.masks)]))


def class_weights(positive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a weight for each radiograph, so that both classes count alike and the mean weight is 1."""
    share = float(positive.mean())
    return np.where(positive, 0.5 / share, 0.5 / (1 - share)).astype(np.float32, copy=False)


def _batches(training: Radiographs, config: Config) -> Any:
    labels, weights = training.positive.astype(np.float32), class_weights(training.positive)
    return augmentation.dataset(
        (both_views(training), np.tile(labels, 2)[:, None], np.tile(weights, 2)),
        batch_size=config.batch_size,
        seed=config.seed,
        strength=config.augmentation,
    )


def _plain(validation: Radiographs, batch_size: int) -> Any:
    labels = validation.positive.astype(np.float32)[:, None]
    slices = (prepare(validation.greys), labels, class_weights(validation.positive))
    return tf.data.Dataset.from_tensor_slices(slices).batch(batch_size)


def _check(part: Radiographs, name: str) -> None:
    if len(set(part.positive.tolist())) < 2:  # noqa: PLR2004 - COVID and not
        raise DataUnusable(f"the {name} folds need positives and negatives: add patients of both")


class _BestEpoch(keras.callbacks.Callback):  # type: ignore[misc] # keras is untyped
    """Copies the weights of the lowest validation loss and stops when it has not fallen for `patience` epochs."""

    def __init__(self, config: Config, on_epoch: OnEpoch | None) -> None:
        super().__init__()
        self._config = config
        self._on_epoch = on_epoch
        self._loss = np.inf
        self.epoch = 0
        self.weights: list[NDArray[np.float32]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not self.weights or logs["val_loss"] < self._loss:
            self._loss, self.epoch = logs["val_loss"], epoch + 1
            # Copied: what get_weights returns may change with the next step.
            self.weights = [np.array(weights) for weights in self.model.get_weights()]
        if self._on_epoch:
            self._on_epoch(epoch + 1, self._config.epochs, {name: float(value) for name, value in logs.items()})
        if epoch + 1 - self.epoch >= self._config.patience:
            self.model.stop_training = True
