"""Gate and model under watch: what hangs, or fails on a blank picture too, is no fault of an image."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from worker.assessment import assess
from worker.decision import ModelUnusable, Prediction
from worker.decoder import Decoded
from worker.gate import Gate
from worker.models import Loaded, Models
from worker.radiograph import BLANK

_SECOND_LOOK_SECONDS = 2


class Judge:
    """Says of decoded images what gate and model say; any number of threads may ask."""

    def __init__(self, models: Models, *, batch_size: int, longest_seconds: float) -> None:
        self._models = models
        self._gate = Gate(batch_size=batch_size)
        self._longest_seconds = longest_seconds
        self._begun: dict[int, float] = {}
        self._late: dict[float, float] = {}

    @property
    def gate_version(self) -> str:
        return self._gate.version

    def judge(self, version: str, images: Sequence[Decoded]) -> list[Prediction]:
        """Return one Prediction per image, in order. Raises ModelUnusable, and whatever these images alone cause."""
        loaded = self._models.get(version)
        try:
            with self._watched():
                found = assess(images, self._gate, loaded.predictor.predict)
        except Exception as error:
            self._check(version, loaded, type(error).__name__)
            raise
        if not all(_is_number(one) for one in found):
            self._check(version, loaded, "no number")
        return found

    def hangs(self) -> bool:
        """Whether a prediction does not end; then only the end of this process frees its thread.

        Seen twice, a while apart: a process that slept as a whole finds its predictions late, and then done.
        """
        present = time.monotonic()
        late = {begun for begun in self._begun.copy().values() if present - begun > self._longest_seconds}
        self._late = {begun: self._late.get(begun, present) for begun in late}
        return any(present - seen >= _SECOND_LOOK_SECONDS for seen in self._late.values())

    def _check(self, version: str, loaded: Loaded, what: str) -> None:
        """Raise ModelUnusable if gate and model cannot judge a blank picture either."""
        try:
            with self._watched():
                self._gate.judge([BLANK])
                works = _is_number(loaded.predictor.predict([BLANK])[0])
        except Exception:  # noqa: BLE001 - whatever it is, the model is not to be used
            works = False
        if not works:
            self._models.give_up(version)
            raise ModelUnusable(f"{version} no longer predicts: {what}")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        self._begun[threading.get_ident()] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[threading.get_ident()]


def _is_number(prediction: Prediction) -> bool:
    """Or was not asked for one."""
    return prediction.raw is None or math.isfinite(prediction.raw)
