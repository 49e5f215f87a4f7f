"""The figures of an evaluation, and the decision made from them, against known cases."""

import numpy as np
import pytest

from training import calibration, figures


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
    decision = calibration.decide(raw, truth, sensitivity=sensitivity)
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
    decision = calibration.decide(raw, truth, sensitivity=0.95)
    assert np.isfinite([decision.slope, decision.intercept]).all()
    assert 0 < decision.threshold < 1
