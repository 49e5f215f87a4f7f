"""From a model's raw output to the answer: calibration, operating point, band."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from db.registry import Card
from db.tables import Label, Model
from worker.rejection import UNDECIDED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ModelUnusable(Exception):
    """This worker cannot use the model: its weights are damaged or of another preprocessing."""


@dataclass(frozen=True)
class Decision:
    """How a raw output becomes an answer; stored with the model version."""

    threshold: float
    slope: float
    intercept: float
    band: tuple[float, float] | None = None
    """From the first and below the second number no label is given."""

    @classmethod
    def of(cls, card: Card | Model) -> Self:
        """Return the decision that stands with a model version."""
        stored = (card.band_low, card.band_high)
        band = None if stored[0] is None or stored[1] is None else (stored[0], stored[1])
        return cls(card.threshold, card.calibration_slope, card.calibration_intercept, band)

    def at(self, threshold: float, band: tuple[float, float]) -> Self:
        """Return the same calibration with another operating point."""
        return replace(self, threshold=threshold, band=band)

    def calibrate(self, raw: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Platt scaling: sigmoid(slope · logit(raw) + intercept). Platt 1999."""
        import numpy as np  # noqa: PLC0415 - every command would pay for it

        bounded = np.clip(raw, 1e-7, 1 - 1e-7)
        logit = np.log(bounded / (1 - bounded))
        return np.asarray(1 / (1 + np.exp(-(self.slope * logit + self.intercept))))

    def again(self, prediction: "Prediction") -> "Prediction":
        """Return the same numbers with the label that this decision gives them; without numbers, as it is."""
        if prediction.raw is None or prediction.probability is None:
            return prediction
        return self.prediction(prediction.raw, prediction.probability)

    def is_inconclusive(self, probability: float) -> bool:
        return self.band is not None and self.band[0] <= probability < self.band[1]

    def prediction(self, raw: float, probability: float) -> "Prediction":
        """Return the answer with its reasons."""
        label = self.label(probability)
        return Prediction(raw, probability, label, (UNDECIDED,) if label == Label.INCONCLUSIVE else ())

    def label(self, probability: float) -> Label:
        if self.is_inconclusive(probability):
            return Label.INCONCLUSIVE
        return Label.POSITIVE if probability >= self.threshold else Label.NEGATIVE


@dataclass(frozen=True)
class Prediction:
    """Raw and calibrated probability of COVID-19 for one image; `raw` is NaN where the model gave no number.

    Both are None where it was not asked, for these `reasons`; where the reason is UNDECIDED, they do not decide.
    """

    raw: float | None
    probability: float | None
    label: Label
    reasons: tuple[str, ...] = ()
