"""The model that comes with the project: research use only, see MODEL_CARD.md beside it."""

from pathlib import Path

from db.registry import Card
from training import kept


def load() -> tuple[Card, bytes]:
    """Return the card and the weights of the shipped model; needs no TensorFlow."""
    return kept.read(Path(__file__).parent)
