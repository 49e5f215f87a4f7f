"""One result, computed again from the stored bytes and compared with what was kept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from db.blobs import Blobs
from db.database import Database
from db.results import Found
from db.tables import Result
from worker.decision import Decision, ModelUnusable, Prediction
from worker.decoders import Decoded, Decoders, DecodersUnusable
from worker.judge import Judge
from worker.models import Loaded, Models
from worker.radiograph import DECODING
from worker.rejection import ImageRejected

TOLERANCE = 1e-3
"""Most that a raw probability may differ: shapes of batches, processors and libraries round float32 differently.

One pixel of what is laid out then has another grey level, and its rank, now and then: 1.4e-4 at most over 447 radiographs.
"""

_SAME_ARITHMETIC = 1e-9  # calibration is computed in float64, from the number as it was kept


class NotComputable(Exception):
    """The bytes, the model or the gate are not here any more; that says nothing about the result."""


@dataclass(frozen=True)
class Bench:
    """All that a result is computed again with."""

    database: Database
    blobs: Blobs
    decoders: Decoders
    models: Models
    judge: Judge


@dataclass(frozen=True)
class Verified:
    """What was computed now; `differences` is empty where the result is confirmed."""

    raw_probability: float | None
    difference: float | None
    differences: tuple[str, ...]


def told(found: Found, bench: Bench) -> dict[str, Any]:
    """Verify, and return what the audit keeps of it; `confirmed` is None, with the reason, where it cannot be computed."""
    try:
        verified = verify(found, bench)
    except (NotComputable, ModelUnusable, DecodersUnusable) as error:
        return {"confirmed": None, "reason": str(error)}
    return {
        "confirmed": not verified.differences,
        "kept_raw_probability": found.result.raw_probability,
        "raw_probability": verified.raw_probability,
        "difference": verified.difference,
        "tolerance": TOLERANCE,
        "differences": list(verified.differences),
    }


def verify(found: Found, bench: Bench) -> Verified:
    """Compute the result again. Raises NotComputable, saying what is missing."""
    kept = found.result
    loaded, path = _loaded(kept, bench), bench.blobs.path(kept.image_sha256)
    if not path.exists():
        raise NotComputable("the stored bytes of its image are gone: they were purged, or lost")
    (decoded,) = bench.decoders.decode([path])
    if isinstance(decoded, ImageRejected):
        told = (f"the stored bytes are now {decoded.code}: {decoded.words}",)
        return Verified(None, None, told if decoded.code == "image_lost" else _by_the_same_decoder(kept, told))
    ever = bench.models.decisions_ever(kept.model_version, kept.tenant)
    # One that never was compares as the registered one, which says so.
    decision = next((one for one in ever if _numbers_of(one) == _numbers_kept(kept)), loaded.decision)
    now = _predicted(kept, loaded, bench.judge, decoded)
    apart = None if kept.raw_probability is None or now.raw is None else abs(kept.raw_probability - now.raw)
    wrong, otherwise = tuple(_wrong(found, loaded, decision)), tuple(_seen_otherwise(kept, now, apart))
    return Verified(now.raw, apart, wrong + (otherwise if wrong else _by_the_same_decoder(kept, otherwise)))


def _loaded(kept: Result, bench: Bench) -> Loaded:
    """The model that it was made with; raises NotComputable where that, or its gate or preprocessing, is not here."""
    if kept.gate is not None and kept.gate != bench.judge.gate_version:
        raise NotComputable(f"it was made with {kept.gate}, and {bench.judge.gate_version} is installed here")
    try:
        loaded = bench.models.get(kept.model_version)
    except ModelUnusable as error:
        raise NotComputable(str(error)) from error
    if kept.preprocessing != loaded.preprocessing:
        raise NotComputable(
            f"it was made with {kept.preprocessing}, the model is now registered with {loaded.preprocessing}"
        )
    return loaded


def _predicted(kept: Result, loaded: Loaded, judge: Judge, decoded: Decoded) -> Prediction:
    if kept.gate is None:  # from before there was one
        return loaded.predictor.predict([decoded.grey])[0]
    return judge.judge(kept.model_version, [decoded])[0]


def _by_the_same_decoder(kept: Result, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """What is seen otherwise; raises NotComputable where that may be another decoder's doing."""
    if otherwise and kept.decoding != DECODING:
        before = kept.decoding or "a decoder whose version was not kept"
        raise NotComputable(f"its image was read by {before}, and {DECODING} is installed here: {'; '.join(otherwise)}")
    return otherwise


def _seen_otherwise(kept: Result, now: Prediction, apart: float | None) -> Iterator[str]:
    """What the same pixels must give again."""
    if apart is None and (kept.raw_probability, tuple(kept.reasons)) != (now.raw, now.reasons):
        yield f"the gate: kept {kept.reasons or 'passed'}, computed {list(now.reasons) or 'passed'}"
    if apart is not None and not apart <= TOLERANCE:
        yield f"raw probability: kept {kept.raw_probability}, computed {now.raw}"


def _wrong(found: Found, loaded: Loaded, decision: Decision) -> Iterator[str]:
    """What is not as it must be, whatever the pixels; the label must follow from the kept number, since a computed one may round otherwise."""
    kept = found.result
    if kept.image_sha256 != found.image.sha256:
        yield "the result names other bytes than its image"
    if kept.weights_sha256 != loaded.weights_sha256:
        yield f"the weights: kept {kept.weights_sha256}, registered {loaded.weights_sha256}"
    if _numbers_of(decision) != _numbers_kept(kept):
        yield f"the threshold and band: kept {_numbers_kept(kept)}, registered {_numbers_of(decision)}"
    if kept.raw_probability is None or kept.probability is None:
        return
    decided = decision.again(loaded.predictor.decide(kept.raw_probability))
    if not math.isclose(kept.probability, decided.probability or 0, abs_tol=_SAME_ARITHMETIC):
        yield f"the calibrated probability: kept {kept.probability}, {decided.probability} follows from the raw one"
    if (kept.label, tuple(kept.reasons)) != (decided.label, decided.reasons):
        yield f"the label: kept {kept.label}, {decided.label} follows from the probability"


def _numbers_of(decision: Decision) -> tuple[float | None, ...]:
    return decision.threshold, *(decision.band or (None, None))


def _numbers_kept(result: Result) -> tuple[float | None, ...]:
    return result.threshold, result.band_low, result.band_high
