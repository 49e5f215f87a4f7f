"""The rules by which a candidate may become champion, each with its number; home AUROC is none of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from db.verdicts import Finding
from training import figures, floors, pairing, probes, stability
from training.bounds import Bounds
from training.data import Radiographs
from training.figures import Numbers, Truth
from training.pairing import Chosen
from worker.decision import Decision

_ROUNDS: Final = 5
_TIMED: Final = 64

Before = Mapping[str, Sequence[float]]
"""For each rule, the bounds that earlier verdicts on this frozen fold have set."""


class Score(Protocol):
    """From (n, SIZE, SIZE) grey levels to probabilities; with `masks` it is told where the lungs are."""

    def __call__(self, greys: NDArray[np.uint8], *, masks: probes.Masks | None = None) -> Numbers: ...


def judge(
    fold: Radiographs,
    candidate: Score,
    champion: Score,
    *,
    decision: Decision,
    champion_decision: Decision,
    golden_difference: float,
    before: Before | None = None,
    bounds: Bounds | None = None,
) -> list[Finding]:
    """Return one Finding for each rule and group; the candidate, which decides so, passes where all of them do."""
    asked, earlier = bounds or Bounds(), before or {}
    ours, theirs = candidate(fold.greys), champion(fold.greys)
    return [
        _large_enough(fold, asked),
        *not_worse_within_source(fold, ours, theirs, earlier, asked),
        *not_worse_calibrated(fold, ours, theirs, earlier, asked),
        *_blind_where_it_should_be(fold, candidate, asked),
        *_steady(fold, candidate, ours, asked),
        *floors.floors(fold, ours, decision, asked),
        as_outspoken(_undecided(ours, decision), _undecided(theirs, champion_decision), earlier, asked),
        _golden(golden_difference, asked),
        _as_fast(fold, candidate, champion, asked),
    ]


def _large_enough(fold: Radiographs, asked: Bounds) -> Finding:
    positives, negatives = int(fold.positive.sum()), int((~fold.positive).sum())
    fewer, least = min(positives, negatives), asked.smallest_group
    words = (
        f"{positives} positives and {negatives} negatives in the frozen fold, at least {least} of each are asked for"
    )
    return Finding("frozen_fold", fewer >= least, fewer, least, words)


def not_worse_within_source(
    fold: Radiographs, ours: Numbers, theirs: Numbers, before: Before, asked: Bounds
) -> Iterator[Finding]:
    """Yield what is found of the AUROC within sources, against the champion and against the best before it."""
    truth, sources = fold.positive, fold.sources

    def figure(scores: Numbers, chosen: Chosen) -> float | None:
        return within_source(scores[chosen], truth[chosen], sources[chosen])

    rule, gain = "within_source_auroc", pairing.gain(figure, ours, theirs, fold.patients)
    everything = np.arange(len(ours))
    measured, champions = figure(ours, everything), figure(theirs, everything)
    if gain is None or measured is None or champions is None:
        words = "no source of the frozen fold has positives and negatives: `source` in metadata.csv says which is whose"
        yield Finding(rule, passed=False, measured=None, bound=None, words=words)
        return
    words = f"AUROC within sources, candidate less champion: {gain.difference:+.3f}, at most {gain.high:+.3f} (97.5 %)"
    passed = gain.difference >= -asked.auroc_loss and gain.high >= 0
    yield Finding(rule, passed, gain.difference, -asked.auroc_loss, words)
    rule = "within_source_auroc_kept"
    bound = max([champions - asked.auroc_loss, *before.get(rule, ())])
    words = f"AUROC within sources: {measured:.3f}, at least {bound:.3f} by the best champion on this fold"
    yield Finding(rule, measured >= bound, measured, bound, words)


def not_worse_calibrated(
    fold: Radiographs, ours: Numbers, theirs: Numbers, before: Before, asked: Bounds
) -> Iterator[Finding]:
    """Yield what is found of the calibration error, against the champion and against the best before it."""
    truth = fold.positive
    gain = pairing.gain(
        lambda scores, chosen: figures.calibration_error(scores[chosen], truth[chosen]), ours, theirs, fold.patients
    )
    if gain is None:
        raise AssertionError("a calibration error is always defined")
    words = f"calibration error, candidate less champion: {gain.difference:+.3f}, at least {gain.low:+.3f} (2.5 %)"
    passed = gain.difference <= asked.calibration_loss and gain.low <= 0
    yield Finding("calibration", passed, gain.difference, asked.calibration_loss, words)
    rule, measured = "calibration_kept", figures.calibration_error(ours, truth)
    bound = min([figures.calibration_error(theirs, truth) + asked.calibration_loss, *before.get(rule, ())])
    words = f"calibration error: {measured:.3f}, at most {bound:.3f} by the best champion on this fold"
    yield Finding(rule, measured <= bound, measured, bound, words)


def _blind_where_it_should_be(fold: Radiographs, candidate: Score, asked: Bounds) -> Iterator[Finding]:
    """Each probe as serving would see it, and told where the lungs were: finding none is no proof of knowing nothing."""
    masks = probes.masks_of(fold)
    blanked, border = probes.lungs_blanked(fold.greys, masks), probes.border_only(fold.greys)
    probed = (
        ("lungs_blanked", blanked, None),
        ("lungs_blanked_given", blanked, masks),
        ("border_only", border, None),
        ("border_only_given", probes.border_only(fold.greys, masks), masks),
    )
    for name, greys, given in probed:
        auroc = figures.auroc(candidate(greys, masks=given), fold.positive)
        passed = auroc is not None and auroc <= asked.probe_auroc
        told = name.replace("_given", ", told where they were").replace("_", " ")
        words = f"AUROC with {told}: {_shown(auroc)}, at most {asked.probe_auroc} is allowed"
        yield Finding(f"probe_{name}", passed, auroc, asked.probe_auroc, words)


def _steady(fold: Radiographs, candidate: Score, ours: Numbers, asked: Bounds) -> Iterator[Finding]:
    for name, change in stability.CHANGES.items():
        moved = np.abs(candidate(change(fold.greys)) - ours)
        median = float(np.median(moved))
        words = f"the score moves by {median:.3f} at the median under {name}, at most {asked.moved_score} is allowed"
        yield Finding(f"stable_{name}", median <= asked.moved_score, median, asked.moved_score, words)


def as_outspoken(ours: float, theirs: float, before: Before, asked: Bounds) -> Finding:
    """Return what is found of the shares that get no label: a band that is wide enough would keep any floor."""
    rule = "inconclusive"
    bound = min([theirs + asked.more_inconclusive, *before.get(rule, ())])
    words = f"share without a label: {ours:.3f}, at most {bound:.3f} by the best champion on this fold"
    return Finding(rule, ours <= bound, ours, bound, words)


def _undecided(scores: Numbers, decision: Decision) -> float:
    return float(np.mean([decision.is_inconclusive(score) for score in scores]))


def _golden(difference: float, asked: Bounds) -> Finding:
    passed = difference <= asked.golden_difference
    words = f"the golden pictures differ by {difference:.4f} from when it was trained, at most {asked.golden_difference} is allowed"
    return Finding("golden", passed, None if np.isnan(difference) else difference, asked.golden_difference, words)


def _as_fast(fold: Radiographs, candidate: Score, champion: Score, asked: Bounds) -> Finding:
    """By the time of the processor, in turn, so that other work on the machine counts for both."""
    greys = fold.greys[:_TIMED]
    spent: dict[Score, list[float]] = {candidate: [], champion: []}
    for _ in range(_ROUNDS):
        for scorer, seconds in spent.items():
            start = time.process_time()
            scorer(greys)
            seconds.append(time.process_time() - start)
    ours, theirs = (1000 * min(spent[scorer]) / len(greys) for scorer in (candidate, champion))
    words = f"it takes {ours:.2f} ms an image, the champion {theirs:.2f}; at most {asked.more_milliseconds} more are allowed"
    return Finding("speed", ours - theirs <= asked.more_milliseconds, ours - theirs, asked.more_milliseconds, words)


def within_source(scores: Numbers, truth: Truth, sources: NDArray[np.str_]) -> float | None:
    """AUROC over the pairs of a positive and a negative from one source; None without such pairs."""
    total, pairs = 0.0, 0
    for source in np.unique(sources[sources != ""]):
        chosen = sources == source
        auroc = figures.auroc(scores[chosen], truth[chosen])
        if auroc is not None:
            count = int(truth[chosen].sum()) * int((~truth[chosen]).sum())
            total, pairs = total + auroc * count, pairs + count
    return total / pairs if pairs else None


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
