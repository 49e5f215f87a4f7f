"""A model version in a directory: model.json beside weights.npz; reading it needs no TensorFlow."""

import hashlib
import json
from pathlib import Path

from db.registry import Card

CARD, WEIGHTS = "model.json", "weights.npz"


class WeightsDamaged(Exception):
    """The weights are not those that the card was written for; copy the directory again."""


def read(directory: Path) -> tuple[Card, bytes]:
    """Return the card and the weights, or raise WeightsDamaged."""
    card = Card(**json.loads((directory / CARD).read_text(encoding="utf-8")))
    weights = (directory / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != card.config["weights_sha256"]:
        raise WeightsDamaged(f"{directory / WEIGHTS} is not what {card.version} was recorded with: copy it again")
    return card, weights
