"""What a run works with; loads no TensorFlow, which a trainer without a run does without."""

from collections.abc import Callable
from dataclasses import dataclass

from db.blobs import Blobs
from db.database import Database
from settings import Settings
from worker.decoders import Decoders


@dataclass(frozen=True)
class Parts:
    """The stores, the children that decode, and what is called between two steps."""

    settings: Settings
    database: Database
    blobs: Blobs
    decoders: Decoders
    stand_back: Callable[[], None]
