"""What is no fault of an image: a gate or a model that fails on a blank picture too, and a process that slept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from db.tables import Label
from worker import judge
from worker.decision import ModelUnusable, Prediction
from worker.decoder import Decoded
from worker.judge import Judge
from worker.radiograph import BLANK, Grey

VERSION = "v1"
PICTURE = np.full_like(BLANK, 100)
GOOD = Prediction(0.2, 0.2, Label.NEGATIVE)
NO_NUMBER = Prediction(float("nan"), float("nan"), Label.NEGATIVE)

Predict = Callable[[Sequence[Grey]], list[Prediction]]


@dataclass
class Fake:
    """A model that says what the test wants, and remembers that it was given up."""

    predict: Predict
    given_up: bool = False

    @property
    def predictor(self) -> "Fake":
        return self

    def get(self, _version: str) -> "Fake":
        return self

    def give_up(self, _version: str) -> None:
        self.given_up = True


class Passing:
    version = "gate"

    def judge(self, greys: Sequence[Grey]) -> list[tuple[str, ...]]:
        return [() for _ in greys]


class Sick(Passing):
    def judge(self, greys: Sequence[Grey]) -> list[tuple[str, ...]]:
        raise RuntimeError(f"the device is gone, with {len(greys)} pictures")


def judged(
    monkeypatch: pytest.MonkeyPatch, predict: Predict, gate: Passing | None = None
) -> tuple[Judge, Fake, Callable[[], list[Prediction]]]:
    monkeypatch.setattr(judge, "Gate", lambda **_: gate or Passing())
    model = Fake(predict)
    made = Judge(cast(Any, model), batch_size=8, longest_seconds=0.2)
    return made, model, lambda: made.judge(VERSION, [Decoded(PICTURE, 1.0, None)])


def always(answer: Prediction) -> Predict:
    return lambda greys: [answer for _ in greys]


def only_blank(greys: Sequence[Grey]) -> list[Prediction]:
    if any(grey.any() for grey in greys):
        raise ValueError("poison")
    return [GOOD for _ in greys]


def test_a_model_that_fails_on_everything_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_greys: Sequence[Grey]) -> list[Prediction]:
        raise RuntimeError("the device is gone")

    for predict in (fail, always(NO_NUMBER)):
        _, model, ask = judged(monkeypatch, predict)
        with pytest.raises(ModelUnusable):
            ask()
        assert model.given_up


def test_a_gate_that_fails_on_everything_makes_no_image_a_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, ask = judged(monkeypatch, always(GOOD), Sick())
    with pytest.raises(ModelUnusable):
        ask()


def test_an_image_that_fails_alone_is_itself_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, ask = judged(monkeypatch, only_blank)
    with pytest.raises(ValueError, match="poison"):
        ask()
    assert not model.given_up


def test_an_image_that_alone_gets_no_number_keeps_that_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, ask = judged(monkeypatch, lambda greys: [NO_NUMBER if grey.any() else GOOD for grey in greys])
    assert ask() == [NO_NUMBER]
    assert not model.given_up


def test_a_prediction_hangs_when_it_is_late_at_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "_SECOND_LOOK_SECONDS", 0.1)
    made, _, _ = judged(monkeypatch, always(GOOD))
    seen = []
    with made._watched():
        seen.append(made.hangs())
        time.sleep(0.3)
        seen.append(made.hangs())  # late, but perhaps this process slept
        time.sleep(0.2)
        seen.append(made.hangs())
    assert (seen, made.hangs()) == ([False, False, True], False)
