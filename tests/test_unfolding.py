"""The lungs on a rectangle: what is kept, what must be gone."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.test_lungs import phantom
from worker import unfolding
from worker.lungs import SIDE, Segmenter, weights
from worker.radiograph import SIZE

Scene = tuple[NDArray[np.uint8], NDArray[np.float32]]


def scene(seed: int) -> Scene:
    """A phantom and the map that a perfect segmenter would give."""
    grey, lungs = phantom(seed)
    return grey, lungs.reshape(SIDE, 2, SIDE, 2).mean((1, 3)).astype(np.float32)


def unfold(grey: NDArray[np.uint8], lungs: NDArray[np.float32]) -> NDArray[np.int64]:
    pictures, found = unfolding.unfolded(grey[np.newaxis], lungs[np.newaxis])
    assert found.all()
    return np.asarray(pictures[0, ..., 0], np.int64)


def moved(picture: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """Drawn smaller, into the upper left part of a black picture."""
    small = np.asarray(Image.fromarray(np.asarray(picture)).resize((size, size), Image.Resampling.BILINEAR))
    canvas = np.zeros_like(np.asarray(picture))
    canvas[:size, :size] = small
    return canvas


def test_it_is_a_picture_of_the_models_size_for_each_radiograph() -> None:
    scenes = [scene(seed) for seed in range(1, 6)]
    pictures, found = unfolding.unfolded(
        np.stack([grey for grey, _ in scenes]), np.stack([lungs for _, lungs in scenes])
    )
    assert pictures.shape == (5, SIZE, SIZE, 1)
    assert pictures.dtype == np.uint8
    assert found.all()
    for picture, one in zip(pictures, scenes, strict=True):
        assert (picture[..., 0] == unfold(*one)).all()  # the neighbours change nothing


def test_what_lies_outside_the_lungs_changes_nothing() -> None:
    grey, lungs = scene(2)
    outside = np.kron(lungs, np.ones((2, 2))) == 0
    painted = np.where(outside, np.random.default_rng(1).integers(0, 256, grey.shape), grey).astype(np.uint8)
    difference = np.abs(unfold(grey, lungs) - unfold(painted, lungs))
    assert np.mean(difference > 16) < 0.02  # pixels between two others at the very edge


@pytest.mark.parametrize("exposure", ["darker", "flatter", "gamma"])
def test_the_exposure_changes_nothing(exposure: str) -> None:
    grey, lungs = scene(3)
    level = {
        "darker": grey * 0.7,
        "flatter": grey * 0.5 + 60,
        "gamma": 255 * (grey / 255) ** 1.4,
    }[exposure]
    assert np.abs(unfold(grey, lungs) - unfold(level.astype(np.uint8), lungs)).mean() < 4


def test_the_place_and_size_in_the_picture_change_little() -> None:
    grey, lungs = scene(4)
    shrunk = unfold(np.asarray(moved(grey, 112), np.uint8), np.asarray(moved(lungs, 56), np.float32))
    assert np.abs(unfold(grey, lungs) - shrunk).mean() < 12


def test_blanked_lungs_leave_nothing() -> None:
    grey, lungs = scene(5)
    inside = np.kron(lungs, np.ones((2, 2))) > 0
    blanked = np.where(inside, 90, grey).astype(np.uint8)
    assert np.mean(unfold(blanked, lungs) == 127) > 0.98


def test_a_spot_in_the_lung_stays_at_its_place() -> None:
    grey, lungs = scene(6)
    down, across = SIZE // 2, 36  # in the middle of the lung at the left of the picture
    spotted = grey.copy()
    spotted[down - 4 : down + 4, across - 4 : across + 4] = 255
    brighter = unfold(spotted, lungs) - unfold(grey, lungs)
    assert np.unravel_index(brighter.argmax(), brighter.shape)[1] < SIZE // 2
    assert brighter[:, SIZE // 2 :].mean() < brighter[:, : SIZE // 2].mean()


@pytest.mark.parametrize("lung", ["none", "one", "specks"])
def test_without_two_lungs_it_says_so_and_lays_out_the_middle(lung: str) -> None:
    grey, lungs = scene(7)
    only = {"none": np.zeros_like(lungs), "one": np.where(np.arange(SIDE) < SIDE // 2, lungs, 0)}
    some = only.get(lung, np.zeros_like(lungs)).astype(np.float32)
    if lung == "specks":
        some[5, ::9] = 1
    pictures, found = unfolding.unfolded(grey[np.newaxis], some[np.newaxis])
    middle, _ = unfolding.unfolded(grey[np.newaxis], np.zeros((1, SIDE, SIDE), np.float32))
    if lung != "one":  # where one lung alone is found, its halves may pass for two
        assert not found.any()
        assert (pictures == middle).all()
    assert pictures.shape == (1, SIZE, SIZE, 1)


def test_no_map_whatever_breaks_it() -> None:
    random = np.random.default_rng(3)
    maps = random.random((64, SIDE, SIDE)).astype(np.float32)
    maps[:32] = (maps[:32] > 0.97) * maps[:32]
    maps[32] = 1
    greys = random.integers(0, 256, (64, SIZE, SIZE), np.uint8)
    pictures, _ = unfolding.unfolded(greys, maps)
    assert pictures.shape == (64, SIZE, SIZE, 1)
    lines, _ = unfolding.outlines(maps)
    assert np.isfinite(lines).all()
    assert ((lines >= -0.1) & (lines <= 1.1)).all()


def test_the_segmenters_maps_do() -> None:
    greys = np.stack([phantom(seed)[0] for seed in range(1, 9)])
    _, found = unfolding.unfolded(greys, Segmenter(weights(), batch_size=8).segment(greys))
    assert found.all()
