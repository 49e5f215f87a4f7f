"""Trains the given CNN on what serving will show it, and keeps the best epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from training import augmentation, calibration, distribution, memory
from training.augmentation import Drawn
from training.best_epoch import MEASURE, BestEpoch, OnEpoch
from training.calibration import Wanted
from training.checkpoint import Checkpoint
from training.config import Config
from training.curves import Curves
from training.data import Radiographs
from training.exposures import exposures
from training.index import DataUnusable
from training.lessons import HINTS, lessons
from worker import cnn
from worker.decision import Decision
from worker.preparation import Prepare, preparation

OnStep = Callable[[], None]

_PREDICTED_TOGETHER: Final = 64


@dataclass(frozen=True)
class Fitted:
    """The best epoch's weights, how their output is decided on, and the learning curves, one value an epoch."""

    weights: bytes
    decision: Decision
    history: dict[str, list[float]]
    best_epoch: int


def compiled(learning_rate: Any, *, hints: float = Config.hints) -> tuple[keras.Model, keras.Model]:
    """Return the given CNN, and what trains it: the same with textures to tell beside the class, for the training alone.

    Adam, binary cross-entropy, accuracy; the rate may be a schedule.
    """
    given = cnn.build()
    told = keras.layers.Dense(HINTS, name="hints")(given.get_layer("dense_256").output)
    learner = keras.Model(given.inputs[0], {"covid": given.outputs[0], "hints": told})
    learner.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss={"covid": "binary_crossentropy", "hints": "mean_squared_error"},
        loss_weights={"covid": 1.0, "hints": hints},
        metrics={"covid": [accuracy]},
    )
    return given, learner


def accuracy(truth: Any, told: Any) -> Any:
    """Keras' accuracy, where the truth may be a probability."""
    return keras.metrics.binary_accuracy(truth > 0.5, told)  # noqa: PLR2004 - an even chance


def fit(
    radiographs: Radiographs,
    config: Config,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    *,
    on_step: OnStep | None = None,
    logs: Path | None = None,
    devices: str = "GPU",
) -> Fitted:
    """Train on the training folds, choose and calibrate on the validation fold; the test fold is never looked at.

    Goes on after the last epoch in `checkpoint`, and keeps each one there. Where there are several `devices`, each
    takes its share of every batch. `logs` is for TensorBoard.
    """
    training, validation = radiographs.folds(*config.training_folds), radiographs.folds(config.validation_fold)
    _check(training, "training")
    _check(validation, "validation")
    keras.utils.set_random_seed(config.seed)
    prepare = preparation(config.preprocessing, batch_size=_PREDICTED_TOGETHER)
    held_back = prepare(validation.greys)
    with distribution.strategy(devices).scope():
        rate = _falling(config, steps=augmentation.steps(len(training.greys), config.batch_size))
        given, learner = compiled(rate, hints=config.hints)

    def raw() -> NDArray[np.float64]:
        return np.asarray(given.predict(held_back, batch_size=_PREDICTED_TOGETHER, verbose=0)[:, 0], np.float64)

    best = BestEpoch(config, lambda: _measured(raw(), validation.positive), on_epoch, checkpoint)
    learner.fit(
        _batches(training, config, prepare),
        initial_epoch=best.resume(learner),
        epochs=config.epochs,
        callbacks=[best, _keeping_memory(), *_after_each_step(on_step), *([Curves(logs)] if logs else [])],
        shuffle=False,  # the data set draws by itself, from the seed
        verbose=0,
    )
    learner.set_weights(best.weights)
    wanted = Wanted(config.sensitivity, config.specificity)
    decision = calibration.decide(raw(), validation.positive, validation.patients, wanted=wanted)
    return Fitted(cnn.weights_to_bytes(given), decision, best.history, best.epoch)


def _measured(raw: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    return {
        "val_loss": calibration.loss(raw, truth),
        "val_accuracy": float(((raw >= 0.5) == truth).mean()),  # noqa: PLR2004 - an even chance, as Keras has it
        MEASURE: calibration.loss_when_calibrated(raw, truth),
    }


def _keeping_memory() -> keras.callbacks.Callback:
    return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: memory.keep())  # noqa: ARG005 - keras passes them by name


def _after_each_step(call: OnStep | None) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: call())] if call else []  # noqa: ARG005 - keras passes them by name


def shares(radiographs: Radiographs) -> NDArray[np.float64]:
    """Return how often each radiograph is drawn: positives one half, negatives of their sources and others a quarter.

    So a source tells little about the class: it is what a network learns first where it can.
    """
    positive = radiographs.positive
    theirs = np.isin(radiographs.sources, radiographs.sources[positive])
    groups = [group for group in (~positive & theirs, ~positive & ~theirs) if group.any()]
    drawn = np.where(positive, 0.5 / max(1, positive.sum()), 0.0)
    for group in groups:
        drawn[group] = 0.5 / len(groups) / group.sum()
    return np.asarray(drawn / drawn.sum())


def _batches(training: Radiographs, config: Config, prepare: Prepare) -> Any:
    """Return batches of pictures, what is to be told of the class, and of the textures; both are the same in each exposure."""
    pictures = [prepare(greys) for greys in exposures(training.greys, config.exposures, seed=config.seed)]
    drawn = shares(training)
    taught = lessons(pictures[0], training.positive, training.patients, drawn, seed=config.seed)
    target = config.taught * taught.probability + (1 - config.taught) * training.positive
    told = np.column_stack([target, taught.hints]).astype(np.float32)
    batches = augmentation.dataset(
        Drawn(np.stack(pictures, axis=1), told, drawn),
        batch_size=config.batch_size,
        seed=config.seed,
        strength=config.augmentation,
    )
    return batches.map(lambda seen, truth: (seen, {"covid": truth[:, :1], "hints": truth[:, 1:]}))


def _falling(config: Config, *, steps: int) -> Any:
    """Half a cosine over all epochs of `steps` batches, down to a fiftieth of the first rate (Loshchilov 2017)."""
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs * steps, alpha=0.02)


def _check(part: Radiographs, name: str) -> None:
    if len(set(part.positive.tolist())) < 2:  # noqa: PLR2004 - COVID and not
        raise DataUnusable(f"the {name} folds need positives and negatives: add patients of both")
