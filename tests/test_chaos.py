"""Every fault once or a few times, with the harness of `make chaos`."""

import pytest

from tests.chaos import report, runs
from tests.chaos.catalogue import FAULTS, shares

SEED = 1
SHORT = [(name, *share) for name in FAULTS for share in shares(name, "short")]


@pytest.mark.parametrize(("name", "database", "times"), SHORT)
def test_nothing_is_lost_and_nothing_done_twice(name: str, database: str, times: int) -> None:
    fault = FAULTS[name]
    if fault.small_disk and not runs.can_have_a_small_disk():
        pytest.skip("this machine lets us mount no small disk")
    outcome = runs.run(name, database, times, SEED)
    assert outcome.images
    assert (outcome.lost, outcome.duplicated, outcome.problems) == (0, 0, []), report.line(outcome)
