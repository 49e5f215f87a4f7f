"""How scores and inputs are spread over the training data: what drift is measured against."""

from typing import Any, Final

from training.data import Radiographs
from training.scorer import Scorer
from worker import drift

REFERENCE: Final = "reference"
"""Where it stands in the configuration on a version's card."""


def reference(radiographs: Radiographs, scorer: Scorer) -> dict[str, Any]:
    """Return the counts of each feature in equal bins, as live ones are counted."""
    return {"score": drift.counted(scorer(radiographs.greys)), **drift.inputs(radiographs.greys)}
