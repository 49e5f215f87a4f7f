"""What is said of decoded images: a score, or, where the gate or the file's own tags forbid one, the reasons."""

from collections.abc import Callable, Sequence

from db.tables import Label
from worker.decision import Prediction
from worker.decoder import Decoded
from worker.gate import Gate
from worker.radiograph import Grey


def assess(
    images: Sequence[Decoded], gate: Gate, predict: Callable[[Sequence[Grey]], Sequence[Prediction]]
) -> list[Prediction]:
    """Return one Prediction per image, in order; only what passes the gate reaches the model."""
    judged = gate.judge([image.grey for image in images])
    reasons = [why + image.reasons for why, image in zip(judged, images, strict=True)]
    passed = [image.grey for image, why in zip(images, reasons, strict=True) if not why]
    scores = iter(predict(passed) if passed else [])
    found = [Prediction(None, None, Label.INCONCLUSIVE, why) if why else next(scores) for why in reasons]
    if next(scores, None) is not None:
        raise AssertionError("more scores than images")
    return found
