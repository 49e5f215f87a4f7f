"""Decoded images in, findings and failures out: what one model version, with the gate before it, says of them."""

import logging
import math
import time
from collections.abc import Sequence

from db.queue import Claimed, Failure, Finding
from db.tables import ImageState
from worker.decoders import Decoded
from worker.judge import Judge
from worker.models import Models
from worker.radiograph import DECODING
from worker.rejection import CODES
from worker.trial import Trial

log = logging.getLogger(__name__)


def examine(
    models: Models, judge: Judge | Trial, version: str, images: Sequence[tuple[Claimed, Decoded]]
) -> tuple[list[Finding], list[Failure]]:
    """Return a finding for each image, or a failure where the model gave no number. Raises ModelUnusable; at a trial Guilty or TrialImpossible."""
    loaded = models.get(version)
    start = time.perf_counter()
    predictions = judge.judge(version, [decoded for _, decoded in images])
    each_ms = (time.perf_counter() - start) * 1000 / len(images)
    decisions = models.decisions(version, {image.tenant for image, _ in images})
    findings, failures = [], []
    for (image, decoded), prediction in zip(images, predictions, strict=True):
        if prediction.raw is not None and not math.isfinite(prediction.raw):
            failures.append(failure(image, "model_output"))
            continue
        decision = decisions[image.tenant]
        answer = decision.again(prediction)
        findings.append(
            Finding(
                image=image,
                identifiers=decoded.identifiers,
                weights_sha256=loaded.weights_sha256,
                preprocessing=loaded.preprocessing,
                raw_probability=prediction.raw,
                probability=prediction.probability,
                threshold=decision.threshold,
                band=decision.band,
                label=answer.label,
                reasons=answer.reasons,
                decode_ms=decoded.milliseconds,
                predict_ms=each_ms,
                gate=judge.gate_version,
                decoding=DECODING,
                notes=decoded.notes,
            )
        )
    return findings, failures


def failure(image: Claimed, code: str) -> Failure:
    state = ImageState.QUARANTINED if CODES[code].quarantined else ImageState.REJECTED
    log.info("image %d: %s, %s", image.id, state, code)
    return Failure(image, state, code)
