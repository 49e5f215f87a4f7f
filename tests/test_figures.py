"""The figures of an evaluation, and the decision made from them, against known cases."""

import numpy as np
import pytest

from training import calibration, figures
from training.calibration import Wanted
from training.figures import Numbers, Truth
from worker.decision import Decision


def decide(raw: Numbers, truth: Truth, wanted: Wanted) -> Decision:
    """Each radiograph of a patient of its own."""
    return calibration.decide(raw, truth, np.arange(len(raw)).astype(str), wanted=wanted)


def drawn(count: int, seed: int) -> tuple[Numbers, Truth]:
    """Raw outputs of a classifier that is right more often than not."""
    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.3
    return 1 / (1 + np.exp(-random.normal(truth * 1.5, 1))), truth


@pytest.mark.parametrize("levels", [5, 1_000_000])
def test_auroc_is_the_share_of_pairs_ranked_rightly(levels: int) -> None:
    random = np.random.default_rng(levels)
    scores, truth = random.integers(0, levels, 80) / levels, random.random(80) < 0.3
    pairs = [(p > n) + (p == n) / 2 for p in scores[truth] for n in scores[~truth]]
    assert figures.auroc(scores, truth) == pytest.approx(np.mean(pairs))


def test_auroc_is_undefined_without_negatives() -> None:
    assert figures.auroc(np.array([0.1, 0.9]), np.array([True, True])) is None


def test_calibration_error_and_brier_score_of_a_known_case() -> None:
    probability, truth = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False])
    assert figures.calibration_error(probability, truth) == pytest.approx(0.5 * 0.05 + 0.5 * 0.45)
    assert figures.brier(probability, truth) == pytest.approx((3 * 0.05**2 + 0.95**2) / 4)


def test_the_interval_draws_patients_not_images() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.random(40), np.arange(40) % 2 == 0
    alone = figures.interval(figures.auroc, scores, truth, patients=np.arange(40).astype(str), seed=1)
    doubled = figures.interval(
        figures.auroc, np.tile(scores, 4), np.tile(truth, 4), patients=np.tile(np.arange(40), 4).astype(str), seed=1
    )
    assert alone is not None
    assert doubled == pytest.approx(alone)  # four copies of each patient are no more evidence


@pytest.mark.parametrize("sensitivity", [0.8, 0.9, 0.95, 1.0])
def test_the_operating_point_reaches_the_stated_sensitivity_and_no_higher_one_does(sensitivity: float) -> None:
    random = np.random.default_rng(2)
    truth = random.random(300) < 0.3
    raw = 1 / (1 + np.exp(-random.normal(truth * 1.5, 1)))
    decision = decide(raw, truth, Wanted(sensitivity))
    probability = decision.calibrate(raw)
    assert (probability[truth] >= decision.threshold).mean() >= sensitivity
    next_higher = probability[truth & (probability >= decision.threshold)].min() + 1e-12
    assert (probability[truth] >= next_higher).mean() < sensitivity


def test_platt_scaling_finds_the_slope_and_intercept_that_made_the_data() -> None:
    random = np.random.default_rng(4)
    logits = random.normal(0, 3, 40_000)
    truth = random.random(40_000) < 1 / (1 + np.exp(-(0.6 * logits - 1)))
    assert calibration.platt(logits, truth) == pytest.approx((0.6, -1), abs=0.05)


def test_platt_scaling_stays_finite_where_the_classes_are_apart() -> None:
    raw, truth = np.array([0.0, 0.0, 1.0, 1.0]), np.array([False, False, True, True])
    decision = decide(raw, truth, Wanted())
    assert np.isfinite([decision.slope, decision.intercept]).all()
    assert 0 < decision.threshold < 1


@pytest.mark.parametrize("specificity", [0.8, 0.9, 0.97])
def test_above_the_band_the_stated_specificity_holds_and_below_it_the_sensitivity(specificity: float) -> None:
    raw, truth = drawn(300, 2)
    decision = decide(raw, truth, Wanted(0.95, specificity))
    probability = decision.calibrate(raw)
    assert decision.band
    low, high = decision.band
    assert low <= decision.threshold < high
    assert (probability[~truth] < high).mean() >= specificity
    assert (probability[truth] >= low).mean() >= 0.95


def test_the_band_is_wider_where_fewer_patients_say_where_the_operating_point_lies() -> None:
    raw, truth = drawn(60, 3)
    few = calibration.decide(raw, truth, np.arange(60).astype(str), wanted=Wanted())
    many = calibration.decide(np.tile(raw, 20), np.tile(truth, 20), np.arange(1200).astype(str), wanted=Wanted())
    assert few.band
    assert many.band
    assert few.threshold - few.band[0] > many.threshold - many.band[0] >= 0


def test_no_label_is_given_inside_the_band() -> None:
    decision = Decision(0.3, 1.0, 0.0, (0.2, 0.6))
    labels = {probability: decision.label(probability) for probability in (0.1, 0.2, 0.3, 0.59, 0.6, 0.9)}
    expected = ("negative", "inconclusive", "inconclusive", "inconclusive", "positive", "positive")
    assert tuple(labels.values()) == expected
    assert decision.prediction(0.5, 0.4).reasons == ("undecided",)
    assert decision.prediction(0.5, 0.7).reasons == ()


def test_ppv_falls_with_the_prevalence_as_bayes_says() -> None:
    truth = np.array([True] * 10 + [False] * 10)
    called = np.array([True] * 9 + [False] + [True] * 2 + [False] * 8)  # sensitivity 0.9, specificity 0.8
    assert figures.predictive(called, truth, prevalence=0.5) == pytest.approx((0.9 / 1.1, 0.8 / 0.9))
    assert figures.predictive(called, truth, prevalence=0.01) == pytest.approx((0.009 / 0.207, 0.792 / 0.793))
    assert figures.predictive(called, truth, prevalence=0.0) == pytest.approx((0, 1))
    assert figures.predictive(called, np.full(20, True), prevalence=0.5) == (None, None)


def test_a_network_that_is_too_sure_of_itself_is_as_good_once_calibrated() -> None:
    raw, truth = drawn(400, 5)
    logits = np.log(raw / (1 - raw))
    sure = 1 / (1 + np.exp(-3 * logits - 1))
    assert calibration.loss_when_calibrated(sure, truth) == pytest.approx(
        calibration.loss_when_calibrated(raw, truth), rel=1e-3
    )
    assert calibration.loss_when_calibrated(1 - raw, ~truth) == pytest.approx(
        calibration.loss_when_calibrated(raw, truth), rel=0.02
    )
    assert calibration.loss_when_calibrated(raw, np.roll(truth, 7)) > calibration.loss_when_calibrated(raw, truth)
