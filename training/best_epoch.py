"""Keeps the weights of the best epoch of a run, and every epoch in its checkpoint."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import keras
import numpy as np

from training.checkpoint import Arrays, Checkpoint
from training.config import Config

OnEpoch = Callable[[int, int, dict[str, float]], None]

MEASURE: Final = "val_calibrated_loss"
"""By which the epoch is chosen; it stands in the learning curves."""


class BestEpoch(keras.callbacks.Callback):  # type: ignore[misc] # keras is untyped
    """Copies the weights of the lowest measure and stops when it has not fallen for `patience` epochs.

    The measure is the validation loss after calibration, as serving calibrates: the plain one punishes a network that
    is too sure of itself, which calibration mends, and stopped one of three seeds at its third epoch.
    """

    def __init__(
        self,
        config: Config,
        measure: Callable[[], dict[str, float]],
        on_epoch: OnEpoch | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._config = config
        self._measure = measure
        self._on_epoch = on_epoch
        self._lowest = np.inf
        self.epoch = 0
        self.weights: Arrays = []
        self.history: dict[str, list[float]] = {}

    def resume(self, model: keras.Model) -> int:
        """Put the model back to the last epoch that was kept, and return after which one to go on; 0 for a new run.

        The last of all epochs where the run had stopped already.
        """
        kept = self._checkpoint.restore(model, asdict(self._config)) if self._checkpoint else None
        if kept is None:
            return 0
        self.weights, state = kept
        self._lowest, self.epoch, self.history = state["loss"], state["best"], state["history"]
        return self._config.epochs if self._is_over(state["epoch"]) else int(state["epoch"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs |= {"loss": logs.pop("covid_loss"), "accuracy": logs.pop("covid_accuracy")} | self._measure()
        measured = logs[MEASURE] if np.isfinite(logs[MEASURE]) else np.inf  # no number is below NaN
        if not self.weights or measured < self._lowest:
            self._lowest, self.epoch = measured, epoch + 1
            # Copied: what get_weights returns may change with the next step.
            self.weights = [np.array(weights) for weights in self.model.get_weights()]
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if self._checkpoint:
            state = {"epoch": epoch + 1, "best": self.epoch, "loss": float(self._lowest), "history": self.history}
            self._checkpoint.save(self.model, self.weights, asdict(self._config), state)
        if self._on_epoch:
            self._on_epoch(epoch + 1, self._config.epochs, {name: float(value) for name, value in logs.items()})
        if self._is_over(epoch + 1):
            self.model.stop_training = True

    def _is_over(self, epochs: int) -> bool:
        return epochs - self.epoch >= self._config.patience
