"""What the gate asks of each source, each view and each class of negative by itself."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from db.tables import Label
from db.verdicts import Finding
from training import figures
from training.bounds import Bounds
from training.data import Radiographs
from training.figures import Numbers, Truth
from worker.decision import Decision


def floors(fold: Radiographs, scores: Numbers, decision: Decision, asked: Bounds) -> Iterator[Finding]:
    """Yield a Finding for each group: by its AUROC where it has enough of both classes, else by the class that it has."""
    called = np.array([decision.label(score) for score in scores])
    for name, chosen in groups(fold):
        yield _floor(name, scores[chosen], called[chosen], fold.positive[chosen], asked)


def groups(fold: Radiographs) -> Iterator[tuple[str, Truth]]:
    """Yield each source, each view, and the positives with each class of negative."""
    for kind, named in (("source", fold.sources), ("view", fold.views)):
        for name in np.unique(named[named != ""]):
            yield f"{kind} {name}", named == name
    for name in np.unique(fold.labels[~fold.positive]):
        yield f"class {name}", fold.positive | (fold.labels == name)


def _floor(name: str, scores: Numbers, called: NDArray[np.str_], truth: Truth, asked: Bounds) -> Finding:
    rule, positives, negatives = f"floor_{name.replace(' ', '_')}", int(truth.sum()), int((~truth).sum())
    counts = f"{name} ({positives} positives, {negatives} negatives)"
    if max(positives, negatives) < asked.smallest_group:
        words = f"not judged in {counts}: fewer than {asked.smallest_group} of each class say nothing"
        return Finding(rule, passed=True, measured=None, bound=None, words=words)
    if min(positives, negatives) >= asked.smallest_group:
        what, measured, bound = "AUROC", figures.auroc(scores, truth), asked.floor_auroc
    elif positives > negatives:
        kept = figures.share(called != Label.NEGATIVE, truth)
        what, measured, bound = "share of positives not called negative", kept, asked.floor_positives
    else:
        kept = figures.share(called != Label.POSITIVE, ~truth)
        what, measured, bound = "share of negatives not called positive", kept, asked.floor_negatives
    words = f"{what} in {counts}: {measured:.3f}, at least {bound} is asked for"
    return Finding(rule, measured is not None and measured >= bound, measured, bound, words)
