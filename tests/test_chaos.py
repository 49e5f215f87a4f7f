"""What kills or stops a worker, PostgreSQL, the broker or a disk, once or twice, with the harness of `make chaos`; CI does every fault."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.chaos import apart, report
from tests.chaos.apart import Job
from tests.chaos.catalogue import FAULTS, shares
from tests.chaos.runs import Outcome

SEED = 1
AT_ONCE = 2
SHORT = [Job(name, *share, SEED) for name in FAULTS for share in shares(name, "short")]

Runs = Mapping[Job, Future[Outcome]]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """Most of a run is waiting, so they go on side by side; only those that were asked for."""
    here = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen = {item.callspec.id for item in here if item.module is request.module}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {job: pool.submit(apart.run, job) for job in SHORT if job.name in chosen and job.possible}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", SHORT, ids=lambda job: job.name)
def test_nothing_is_lost_and_nothing_done_twice(job: Job, runs: Runs) -> None:
    if job not in runs:
        pytest.skip("this machine lets us mount no small disk")
    outcome = runs[job].result()
    assert (outcome.lost, outcome.duplicated, outcome.broken) == (0, 0, 0), [report.line(outcome), *outcome.problems]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", SHORT, ids=lambda job: job.name)
def test_no_process_ends_by_itself_and_nobody_gives_up(job: Job, runs: Runs) -> None:
    """Which a machine that has no time for us may cause too."""
    if job in runs:
        outcome = runs[job].result()
        assert outcome.images
        assert outcome.problems == []
