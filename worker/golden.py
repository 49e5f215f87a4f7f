"""Pictures that a formula draws, and whether a model still says of them what it said when it was judged."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.decision import ModelUnusable
from worker.predictor import Predictor
from worker.radiograph import SIZE

TOLERANCE: Final = 0.01
"""In raw probability: another processor rounds otherwise, other weights differ by more."""

RECORDED: Final = "golden"
"""In a card's config: what the model said on the day that it was trained."""

_DENSITIES: Final = (0.0, 0.25, 0.5, 0.75)


def pictures() -> NDArray[np.uint8]:
    """Return (n, SIZE, SIZE) grey levels: a chest with two lungs and ribs, the lower lungs ever denser."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    body = np.clip(1.6 - 2.2 * np.abs(x - 0.5) ** 1.5 - 0.3 * y, 0, 1)
    lungs = np.maximum(_lung(x, y, centre=0.3), _lung(x, y, centre=0.7))
    ribs = 0.12 * np.sin(28 * y + 4 * np.abs(x - 0.5))
    drawn = [body * (0.85 - lungs * (0.6 - density * 0.5 * (y > 0.5) - ribs)) for density in _DENSITIES]  # noqa: PLR2004
    return np.asarray(np.clip(np.stack(drawn) * 255, 0, 255), np.uint8)


def outputs(predictor: Predictor) -> list[float]:
    """Return the raw probability of each picture; NaN where the model gives no number."""
    found = [prediction.raw for prediction in predictor.predict(list(pictures()))]
    return [float("nan") if raw is None else raw for raw in found]


def difference(got: Sequence[float], recorded: Sequence[float]) -> float:
    """Return the largest one; NaN where a picture has no number, or other pictures were recorded than there are."""
    return float(np.abs(np.subtract(got, recorded)).max()) if len(got) == len(recorded) else float("nan")


def check(predictor: Predictor, version: str, recorded: Sequence[float]) -> None:
    """Raise ModelUnusable where the model no longer says what was recorded of it."""
    far = difference(outputs(predictor), recorded)
    if not far <= TOLERANCE:  # NaN too
        words = f"on the golden pictures {version} differs by {far:.3f} from what was recorded, {TOLERANCE} is allowed"
        raise ModelUnusable(words)


def _lung(x: NDArray[np.float64], y: NDArray[np.float64], *, centre: float) -> NDArray[np.float64]:
    return np.clip(4 * (1 - ((x - centre) / 0.15) ** 2 - ((y - 0.5) / 0.34) ** 2), 0, 1)
