"""What promotes by itself: a candidate that passed, where the setting says so, together with the end of its run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from db import promotions, registry, runs, verdicts
from db.blobs import Blobs
from db.retraining import RetrainingRun
from db.verdicts import Finding, Verdict
from tests.service import CARD
from tests.test_trainer import Bench, Strike, cancelled, decoders, stolen
from training import retraining
from training.lease import Lease
from training.parts import Parts
from worker.decoders import Decoders

__all__ = ["decoders"]

Ended = Callable[..., Bench]


def judged(session: Session, blobs: Blobs, version: str, *, passed: bool) -> Verdict:
    """A candidate that the gate judged so, whose weights nobody can load."""
    registry.register(session, blobs, registry.Card(**vars(CARD) | {"version": version}), b"weights", actor="test")
    found = Finding("golden", passed=passed, measured=0.0, bound=0.01, words="golden 0")
    return verdicts.record(
        session,
        version,
        [found],
        champion=registry.champion(session).version,
        fold_fingerprint="fold",
        golden=[0.5],
        reference={},
        actor="test",
    )


@pytest.fixture
def ended(tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ended]:
    """Lets a run end with the candidate `b`, without training one; something may befall it just before that."""
    with ExitStack() as opened:

        def end(*, passed: bool, setting: str, befalls: Strike | None = None) -> Bench:
            bench = Bench(tmp_path, decoders, None, CXR_RETRAIN_PROMOTE=setting)
            opened.callback(bench.database.close)

            def carry_out(parts: Parts, run: RetrainingRun, _held: Lease) -> Verdict:
                with bench.database.write() as session:
                    if befalls:
                        befalls(session, run.id)
                    return judged(session, parts.blobs, "b", passed=passed)

            monkeypatch.setattr(retraining, "carry_out", carry_out)
            bench.ask()
            bench.trainer.look()
            return bench

        yield end


def outcome(bench: Bench) -> tuple[str, str | None, str | None]:
    """How the run ended, which version waits to become champion, and who asked for that."""
    with bench.database.read() as session:
        (run,) = runs.newest(session, RetrainingRun, limit=9)
        waiting = promotions.pending(session)
    return run.state, *((waiting.version, waiting.who) if waiting else (None, None))


@pytest.mark.parametrize(("passed", "setting"), [(True, "1"), (False, "1"), (True, "0")])
def test_what_passes_is_promoted_by_itself_only_where_the_setting_says_so_and_though_the_shadow_fails(
    ended: Ended, caplog: pytest.LogCaptureFixture, *, passed: bool, setting: str
) -> None:
    bench = ended(passed=passed, setting=setting)
    promoted = passed and setting == "1"
    assert outcome(bench) == ("succeeded", *(("b", "CXR_RETRAIN_PROMOTE") if promoted else (None, None)))
    assert "no report of what b would change" in caplog.text


@pytest.mark.parametrize(("befalls", "state"), [(stolen, "running"), (cancelled, "succeeded")])
def test_a_run_that_was_lost_or_cancelled_promotes_nothing(ended: Ended, befalls: Strike, state: str) -> None:
    assert outcome(ended(passed=True, setting="1", befalls=befalls)) == (state, None, None)


def test_a_run_is_not_lost_where_another_promotion_waits(
    ended: Ended, caplog: pytest.LogCaptureFixture, blobs: Blobs
) -> None:
    def another_waits(session: Session, _run_id: str) -> None:
        judged(session, blobs, "c", passed=True)
        promotions.ask(session, "c", who="Dr B", reason="test", actor="test")

    bench = ended(passed=True, setting="1", befalls=another_waits)
    assert outcome(bench) == ("succeeded", "c", "Dr B")
    assert "b is not promoted by itself: PromotionPending" in caplog.text
