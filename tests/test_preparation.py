"""Each model sees what it was trained on."""

import numpy as np
import pytest

from tests.test_lungs import phantom
from worker import cnn, unfolding
from worker.decision import Decision, ModelUnusable
from worker.lungs import SIDE, Segmenter, weights
from worker.predictor import Predictor
from worker.preparation import VERSIONS, PreparationUnknown, preparation
from worker.radiograph import PREPROCESSING, SIZE, prepare

GREYS = [phantom(seed)[0] for seed in range(1, 4)]


def test_the_plain_one_is_the_grey_levels() -> None:
    assert (preparation(PREPROCESSING, batch_size=8)(GREYS) == prepare(np.stack(GREYS))).all()


def test_the_lungs_are_found_and_unfolded() -> None:
    maps = Segmenter(weights(), batch_size=8).segment(GREYS)
    expected, _ = unfolding.unfolded(np.stack(GREYS), maps)
    assert (preparation(unfolding.VERSION, batch_size=8)(GREYS) == expected).all()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_model_predicts_after_each(version: str) -> None:
    model = cnn.build()
    predictor = Predictor(cnn.weights_to_bytes(model), Decision(0.5, 1.0, 0.0), preprocessing=version, batch_size=2)
    raw = [prediction.raw for prediction in predictor.predict(GREYS)]
    expected = model(preparation(version, batch_size=2)(GREYS))[:, 0]
    assert raw == pytest.approx(np.asarray(expected).tolist(), abs=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_radiographs_are_no_pictures(version: str) -> None:
    assert preparation(version, batch_size=2)([]).shape == (0, SIZE, SIZE, 1)


def test_another_preprocessing_is_refused_by_name() -> None:
    with pytest.raises(PreparationUnknown, match="lungs999"):
        preparation("lungs999", batch_size=1)
    with pytest.raises(ModelUnusable, match="lungs999"):
        Predictor(b"", Decision(0.5, 1.0, 0.0), preprocessing="lungs999", batch_size=1)


def test_given_maps_replace_what_the_segmenter_finds() -> None:
    left = np.zeros((len(GREYS), SIDE, SIDE), np.float32)
    expected, found = unfolding.unfolded(np.stack(GREYS), left)
    assert not found.any()
    assert (preparation(unfolding.VERSION, batch_size=8)(GREYS, left) == expected).all()
    assert (preparation(PREPROCESSING, batch_size=8)(GREYS, left) == prepare(np.stack(GREYS))).all()
