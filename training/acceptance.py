"""The rules by which a candidate may become champion, each with its number; home AUROC is none of them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from db.promotions import Finding
from training import figures, probes, stability
from training.data import Radiographs
from training.figures import Numbers, Truth

_SEED: Final = 20_261_123  # of the bootstrap, so that a verdict comes out the same again
_ROUNDS: Final = 5
_TIMED: Final = 64

Figure = Callable[[Numbers, NDArray[np.int_]], float | None]


class Score(Protocol):
    """From (n, SIZE, SIZE) grey levels to probabilities; with `masks` it is told where the lungs are."""

    def __call__(self, greys: NDArray[np.uint8], *, masks: probes.Masks | None = None) -> Numbers: ...


@dataclass(frozen=True)
class Bounds:
    """How much is asked for. A group of fewer than `smallest_group` of either class is too small to be judged."""

    auroc_loss: float = 0.02
    calibration_loss: float = 0.02
    probe_auroc: float = 0.65
    moved_score: float = 0.05
    floor_auroc: float = 0.55
    smallest_group: int = 10
    golden_difference: float = 0.01
    more_milliseconds: float = 2.0
    """Of the processor, an image."""


@dataclass(frozen=True)
class Scored:
    """The frozen fold with what candidate and champion say of it."""

    fold: Radiographs
    candidate: Numbers
    champion: Numbers


def judge(
    fold: Radiographs, candidate: Score, champion: Score, *, golden_difference: float, bounds: Bounds | None = None
) -> list[Finding]:
    """Return one Finding for each rule and group; the candidate passes where all of them do."""
    asked = bounds or Bounds()
    scored = Scored(fold, candidate(fold.greys), champion(fold.greys))
    return [
        _not_worse_within_source(scored, asked),
        _not_worse_calibrated(scored, asked),
        *_blind_where_it_should_be(fold, candidate, asked),
        *_steady(scored, candidate, asked),
        *_floors(scored, asked),
        _golden(golden_difference, asked),
        _as_fast(fold, candidate, champion, asked),
    ]


def _not_worse_within_source(scored: Scored, asked: Bounds) -> Finding:
    fold = scored.fold

    def figure(scores: Numbers, chosen: NDArray[np.int_]) -> float | None:
        return within_source(scores[chosen], fold.positive[chosen], fold.sources[chosen])

    gain = _paired(figure, scored)
    if gain is None:
        words = "no source of the frozen fold has positives and negatives: `source` in metadata.csv says which is whose"
        return Finding("within_source_auroc", passed=False, measured=None, bound=None, words=words)
    difference, _, high = gain
    passed = difference >= -asked.auroc_loss and high >= 0
    words = f"AUROC within sources, candidate less champion: {difference:+.3f}, at most {high:+.3f} (97.5 %)"
    return Finding("within_source_auroc", passed, difference, -asked.auroc_loss, words)


def _not_worse_calibrated(scored: Scored, asked: Bounds) -> Finding:
    truth = scored.fold.positive
    gain = _paired(lambda scores, chosen: figures.calibration_error(scores[chosen], truth[chosen]), scored)
    if gain is None:
        raise AssertionError("a calibration error is always defined")
    difference, low, _ = gain
    passed = difference <= asked.calibration_loss and low <= 0
    words = f"calibration error, candidate less champion: {difference:+.3f}, at least {low:+.3f} (2.5 %)"
    return Finding("calibration", passed, difference, asked.calibration_loss, words)


def _blind_where_it_should_be(fold: Radiographs, candidate: Score, asked: Bounds) -> Iterator[Finding]:
    """Each probe as serving would see it, and told where the lungs were: finding none is no proof of knowing nothing."""
    masks = probes.masks_of(fold)
    probed = {
        "lungs_blanked": probes.lungs_blanked(fold.greys, masks),
        "border_only": probes.border_only(fold.greys),
    }
    for name, greys in probed.items():
        for given, told, ending in ((None, "", ""), (masks, ", told where they were", "_given")):
            auroc = figures.auroc(candidate(greys, masks=given), fold.positive)
            passed = auroc is not None and auroc <= asked.probe_auroc
            words = (
                f"AUROC with {name.replace('_', ' ')}{told}: {_shown(auroc)}, at most {asked.probe_auroc} is allowed"
            )
            yield Finding(f"probe_{name}{ending}", passed, auroc, asked.probe_auroc, words)


def _steady(scored: Scored, candidate: Score, asked: Bounds) -> Iterator[Finding]:
    for name, change in stability.CHANGES.items():
        moved = np.abs(candidate(change(scored.fold.greys)) - scored.candidate)
        median = float(np.median(moved))
        words = f"the score moves by {median:.3f} at the median under {name}, at most {asked.moved_score} is allowed"
        yield Finding(f"stable_{name}", median <= asked.moved_score, median, asked.moved_score, words)


def _floors(scored: Scored, asked: Bounds) -> Iterator[Finding]:
    truth = scored.fold.positive
    for name, chosen in groups(scored.fold):
        positives, negatives = int(truth[chosen].sum()), int((~truth[chosen]).sum())
        rule, counts = f"floor_{name.replace(' ', '_')}", f"{positives} positives, {negatives} negatives"
        if min(positives, negatives) < asked.smallest_group:
            words = f"not judged in {name} ({counts}): fewer than {asked.smallest_group} of either say nothing"
            yield Finding(rule, passed=True, measured=None, bound=asked.floor_auroc, words=words)
            continue
        auroc = figures.auroc(scored.candidate[chosen], truth[chosen])
        passed = auroc is not None and auroc >= asked.floor_auroc
        words = f"AUROC in {name} ({counts}): {_shown(auroc)}, at least {asked.floor_auroc} is asked for"
        yield Finding(rule, passed, auroc, asked.floor_auroc, words)


def groups(fold: Radiographs) -> Iterator[tuple[str, Truth]]:
    """Yield each source, each view, and the positives with each class of negative."""
    for source in np.unique(fold.sources):
        if source:
            yield f"source {source}", fold.sources == source
    views = np.array([getattr(entry, "view", "") for entry in fold.entries])
    for view in np.unique(views):
        if view:
            yield f"view {view}", views == view
    classes = np.array([entry.label for entry in fold.entries])
    for name in np.unique(classes[~fold.positive]):
        yield f"class {name}", fold.positive | (classes == name)


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


def _paired(figure: Figure, scored: Scored) -> tuple[float, float, float] | None:
    """Candidate less champion with its 95 % interval, both on the same patients drawn with replacement."""
    everything = np.arange(len(scored.fold.entries))
    difference = _difference(figure, scored, everything)
    if difference is None:
        return None
    generator = np.random.default_rng(_SEED)
    names, owner = np.unique(scored.fold.patients, return_inverse=True)
    theirs = [np.flatnonzero(owner == place) for place in range(len(names))]
    drawn = (
        np.concatenate([theirs[place] for place in generator.integers(0, len(names), len(names))])
        for _ in range(figures.RESAMPLES)
    )
    found = [value for value in map(partial(_difference, figure, scored), drawn) if value is not None]
    low, high = np.percentile(found, [2.5, 97.5])
    return difference, float(low), float(high)


def _difference(figure: Figure, scored: Scored, chosen: NDArray[np.int_]) -> float | None:
    ours, theirs = figure(scored.candidate, chosen), figure(scored.champion, chosen)
    return None if ours is None or theirs is None else ours - theirs


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
