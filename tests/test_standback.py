"""The trainer rests while the line works, and only then."""

import pytest

from worker.priority import StandBack


class Clock:
    """A clock that only working and resting move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rested = 0.0

    def __call__(self) -> float:
        return self.now

    def rest(self, seconds: float) -> None:
        self.now += seconds
        self.rested += seconds


def worked(clock: Clock, stand_back: StandBack, *, steps: int, seconds: float) -> None:
    for _ in range(steps):
        clock.now += seconds
        stand_back()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_it_works_its_share_of_the_time_while_others_are_busy(share: float) -> None:
    clock = Clock()
    worked(clock, StandBack(lambda: True, share, clock.rest, clock), steps=100, seconds=0.1)
    assert (clock.now - clock.rested) / clock.now == pytest.approx(share)


@pytest.mark.parametrize(("busy", "share"), [(False, 0.1), (True, 1.0)])
def test_it_never_rests_where_nobody_waits_or_nobody_shares(busy: bool, share: float) -> None:
    clock = Clock()
    worked(clock, StandBack(lambda: busy, share, clock.rest, clock), steps=100, seconds=0.1)
    assert clock.rested == 0


def test_one_long_piece_of_work_is_not_followed_by_a_rest_without_end() -> None:
    clock = Clock()
    worked(clock, StandBack(lambda: True, 0.01, clock.rest, clock), steps=1, seconds=600)
    assert clock.rested == 30


def test_it_does_not_ask_the_database_at_every_step() -> None:
    clock, asked = Clock(), 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        return True

    worked(clock, StandBack(ask, 0.5, clock.rest, clock), steps=100, seconds=0.125)
    assert asked == 25  # in 25 seconds
