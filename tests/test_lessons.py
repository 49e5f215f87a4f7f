"""Textures, and the machine on them that teaches the CNN."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from training import data, fit, lessons, textures
from training.config import Config
from worker.preparation import preparation
from worker.radiograph import SIZE

Pictures = NDArray[np.uint8]


def waves(length: float, *, upright: bool = True) -> Pictures:
    """Stripes of this length in pixels, across both halves alike."""
    along = np.arange(SIZE) % (SIZE // 2)
    line = np.rint(127 + 60 * np.sin(2 * np.pi * along / length)).astype(np.uint8)
    stripes = np.broadcast_to(line, (SIZE, SIZE)) if upright else np.broadcast_to(line[:, np.newaxis], (SIZE, SIZE))
    return stripes[np.newaxis, ..., np.newaxis]


def together(pictures: Pictures) -> NDArray[np.float32]:
    """(sizes, directions) of edges beside their mean, of both lungs, all regions alike."""
    told = textures.textures(pictures)[0]
    half = told[: len(told) // 2].reshape(len(textures.SIZES), 8, -1)
    return np.asarray(half[..., :8].mean(axis=1))


def test_a_mirror_image_has_the_same_textures() -> None:
    random = np.random.default_rng(1)
    pictures = random.integers(0, 256, (3, SIZE, SIZE, 1)).astype(np.uint8)
    np.testing.assert_allclose(textures.textures(pictures[:, :, ::-1]), textures.textures(pictures), atol=1e-4)


def test_stripes_are_told_by_the_direction_in_which_they_change() -> None:
    upright, level = together(waves(8)), together(waves(8, upright=False))
    assert (upright.argmax(axis=1) % 4 == 0).all(), "along x, forwards or backwards"
    assert (level.argmax(axis=1) % 4 == 2).all(), "along y"


def test_long_stripes_have_more_energy_at_the_larger_size_than_short_ones() -> None:
    def mean(pictures: Pictures) -> NDArray[np.float32]:
        told = textures.textures(pictures)[0]
        kinds = told[: len(told) // 2].reshape(len(textures.SIZES), 8, 18)
        return np.asarray(kinds[..., 8].mean(axis=1))

    long, short = mean(waves(24)), mean(waves(5))
    assert long[-1] - long[0] > short[-1] - short[0] + 1


def test_a_flat_picture_has_finite_textures() -> None:
    assert np.isfinite(textures.textures(np.full((1, SIZE, SIZE, 1), 127, np.uint8))).all()


Taught = Callable[[NDArray[np.bool_]], lessons.Lessons]


@pytest.fixture(scope="module")
def part(radiographs: data.Radiographs) -> data.Radiographs:
    return radiographs.folds(0, 1)


@pytest.fixture(scope="module")
def taught(part: data.Radiographs) -> Taught:
    pictures = preparation(Config.preprocessing, batch_size=8)(part.greys)
    return lambda truth: lessons.lessons(pictures, truth, part.patients, fit.shares(part), seed=1)


@pytest.fixture(scope="module")
def told(part: data.Radiographs, taught: Taught) -> lessons.Lessons:
    return taught(part.positive)


def test_the_machine_tells_the_class_of_patients_that_it_did_not_know(
    part: data.Radiographs, told: lessons.Lessons
) -> None:
    assert told.probability[part.positive].min() > told.probability[~part.positive].max()
    assert ((told.probability > 0) & (told.probability < 1)).all()


def test_what_is_told_of_a_radiograph_does_not_come_from_its_own_label(part: data.Radiographs, taught: Taught) -> None:
    changed = part.positive.copy()
    wrong = int(np.flatnonzero(changed)[0])
    changed[wrong] = False
    assert taught(changed).probability[wrong] > 0.5


def test_hints_are_standardised_and_tell_pictures_apart(part: data.Radiographs, told: lessons.Lessons) -> None:
    assert told.hints.shape == (len(part.greys), lessons.HINTS)
    known = told.hints[:, (told.hints != 0).any(axis=0)].astype(float)
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=0.3)
    assert 0.7 < (known**2).mean() < 1.3
    strengths = (known**2).mean(axis=0)
    assert strengths[0] > strengths[-1], "the stronger count for more"


def test_one_class_alone_is_no_reason_to_fail() -> None:
    told = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    only = lessons.Machine(told, np.ones(6, np.bool_), np.full(6, 1 / 6))
    np.testing.assert_allclose(only(told), 1.0)
