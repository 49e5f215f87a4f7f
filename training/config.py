"""Everything that decides a training run beside the data."""

from dataclasses import dataclass, field

from training.index import FOLDS, FROZEN_FOLD
from worker import unfolding


@dataclass(frozen=True)
class Strength:
    """Largest change: shift and zoom as fractions, turn in radians, contrast as fraction; noise in grey levels.

    Half of the pictures are mirrored where `mirror` is set: both lungs then take each other's place.
    """

    shift: float = 0.04
    turn: float = 0.06
    zoom: float = 0.08
    contrast: float = 0.25
    noise: float = 6.0
    mirror: bool = True


@dataclass(frozen=True)
class Config:
    """What is asked of a run; it is stored whole with the weights."""

    preprocessing: str = unfolding.VERSION
    epochs: int = 30
    patience: int = 15
    batch_size: int = 32
    learning_rate: float = 8e-4
    seed: int = 7
    exposures: int = 8
    """Changed copies of each training radiograph, beside the radiograph as it is."""
    taught: float = 0.7
    """Share of each target that a machine on textures tells; the label has the rest."""
    hints: float = 1.0
    """Weight of the textures that the CNN must tell while it trains, beside the class."""
    validation_fold: int = 4
    test_fold: int = FROZEN_FOLD
    sensitivity: float = 0.95
    """Of the operating point, on the validation fold."""
    specificity: float = 0.9
    """From which on, on the validation fold, an image is called positive."""
    augmentation: Strength = field(default_factory=Strength)

    @property
    def training_folds(self) -> tuple[int, ...]:
        return tuple(fold for fold in range(FOLDS) if fold not in {self.validation_fold, self.test_fold})
