"""Is this an upright frontal chest X-ray? Asked before the score, by a network of 22,000 weights."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from worker import cnn
from worker.forward import Forward
from worker.radiograph import SIZE, Grey
from worker.rejection import BLANK, INVERTED, LOW_CONTRAST, NOT_FRONTAL, TURNED

SIDE: Final = 32
"""Edge of what the gate sees, in pixels."""

CARD: Final = Path(__file__).with_name("gate.json")
WEIGHTS: Final = Path(__file__).with_name("gate.npz")

_FLAT: Final = 4.0  # grey levels: keeps a picture without contrast from being blown up
_BLANK: Final = 3.0  # grey levels of spread, below which nothing is to be seen
# The same of what the gate sees: the faintest of 1,340 published radiographs has 13.9. At a sixth of their levels, where
# nearly all fall below it, one score in five moves by more than 0.02.
_FAINT: Final = 12.0

_Logits = NDArray[np.float32]


class GateDamaged(Exception):
    """The gate's weights are not those of its card; install the program again."""


@dataclass(frozen=True)
class Card:
    """Which gate this is: a picture passes from `threshold` on, a logit."""

    version: str
    threshold: float
    weights_sha256: str
    fitted: dict[str, Any]


def card() -> Card:
    return Card(**json.loads(CARD.read_text(encoding="utf-8")))


class Gate:
    """The shipped gate, loaded and warmed up. Raises GateDamaged."""

    def __init__(self, *, batch_size: int) -> None:
        self._card = card()
        model = loaded(WEIGHTS.read_bytes(), self._card)
        self._forward = Forward(model, np.float32, batch_size=batch_size)

    @property
    def version(self) -> str:
        return self._card.version

    def judge(self, greys: Sequence[Grey]) -> list[tuple[str, ...]]:
        """Return for each radiograph why it gets no score, in order: nothing where it passes."""
        if not greys:
            return []
        stacked = np.stack(greys)
        passes = self._logits(stacked) >= self._card.threshold
        faint = _tiles(stacked).std(axis=(1, 2)) < _FAINT
        return [
            self._stopped(grey) if not passed else (LOW_CONTRAST,) if low else ()
            for passed, low, grey in zip(passes, faint, greys, strict=True)
        ]

    def _stopped(self, grey: Grey) -> tuple[str, ...]:
        """What more can be said: it is blank, or nearly so, or it would pass the other way round."""
        if (spread := grey.std()) < _FAINT:
            return (NOT_FRONTAL, BLANK if spread < _BLANK else LOW_CONTRAST)
        others = np.stack([255 - grey, *(np.rot90(grey, turns) for turns in (1, 2, 3))])
        logits = self._logits(others)
        best = int(logits.argmax())
        if logits[best] < self._card.threshold:
            return (NOT_FRONTAL,)
        return (NOT_FRONTAL, TURNED if best else INVERTED)

    def _logits(self, greys: NDArray[np.uint8]) -> _Logits:
        logits = self._forward(seen(greys))[:, 0]
        if not np.isfinite(logits).all():
            raise FloatingPointError("the gate gave no number")
        return logits


def loaded(weights: bytes, card: Card) -> keras.Model:
    if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
        raise GateDamaged(f"{WEIGHTS.name} is not what {card.version} was recorded with: install the program again")
    model = build()
    cnn.load_weights(model, weights)
    return model


def build() -> keras.Model:
    """Return the untrained network: (n, SIDE, SIDE, 1) as `seen` makes it to (n, 1) logit."""
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="picture"),
            layers.Conv2D(12, 3, padding="same", activation="relu", name="conv_12"),
            layers.MaxPooling2D(name="pool_1"),
            layers.Conv2D(24, 3, padding="same", activation="relu", name="conv_24"),
            layers.MaxPooling2D(name="pool_2"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_32"),
            layers.MaxPooling2D(name="pool_3"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.3, seed=7, name="drop"),
            layers.Dense(24, activation="relu", name="dense_24"),
            layers.Dense(1, name="frontal"),
        ],
        name="cxr_gate",
    )


def seen(greys: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, SIDE, SIDE, 1) of mean 0 and spread 1 for each of (n, SIZE, SIZE) grey levels, averaged in tiles."""
    tiles = _tiles(greys)
    tiles -= tiles.mean(axis=(1, 2), keepdims=True)
    tiles /= tiles.std(axis=(1, 2), keepdims=True) + _FLAT
    return np.asarray(tiles[..., np.newaxis])


def _tiles(greys: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean of each tile, (n, SIDE, SIDE)."""
    tile = SIZE // SIDE
    rows = np.add.reduce(greys.reshape(-1, SIDE, tile, SIZE), axis=2, dtype=np.uint16)
    return np.asarray(np.add.reduce(rows.reshape(-1, SIDE, SIDE, tile), axis=3, dtype=np.float32) / tile**2)
