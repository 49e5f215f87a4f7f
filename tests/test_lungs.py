"""The lung segmenter: what it is, what it finds, what it must not find."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.project import COVID_CXR, needs_radiographs
from training import anatomy, data, index, segment
from training.data import Radiographs
from worker import lungs
from worker.lungs import SIDE, Segmenter
from worker.radiograph import SIZE

ROOT = Path(__file__).parents[1]
TEST_FOLD = 5


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(lungs.weights(), batch_size=8)


@pytest.fixture(scope="module")
def held_out() -> Radiographs:
    return data.load(COVID_CXR, [entry for entry in index.index(COVID_CXR) if entry.fold == TEST_FOLD])


def phantom(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    drawing = anatomy.draw(seed, size=2 * SIZE)
    grey = Image.fromarray(drawing.grey).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(grey), drawing.lungs[::2, ::2]


def pictures_that_are_none() -> dict[str, NDArray[np.uint8]]:
    random = np.random.default_rng(1)
    grey, _ = phantom(1)
    ramp = np.broadcast_to(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, SIZE))
    return {
        "black": np.zeros((SIZE, SIZE), np.uint8),
        "white": np.full((SIZE, SIZE), 255, np.uint8),
        "noise": random.integers(0, 256, (SIZE, SIZE), np.uint8),
        "ramp": ramp,
        "inverted": 255 - grey,
        "upside down": grey[::-1],
        "on its side": grey.T,
        "on its other side": grey.T[:, ::-1],
    }


def test_a_map_has_a_probability_for_each_pixel_of_each_radiograph(segmenter: Segmenter) -> None:
    for count in (0, 1, 7, 8, 9, 17):
        maps = segmenter.segment([phantom(1)[0]] * count)
        assert maps.shape == (count, SIDE, SIDE)
        assert maps.dtype == np.float32
        assert ((maps >= 0) & (maps <= 1)).all()


def test_the_place_in_a_batch_changes_nothing(segmenter: Segmenter) -> None:
    greys = [phantom(seed)[0] for seed in range(1, 12)]
    together = segmenter.segment(greys)
    alone = np.concatenate([segmenter.segment([grey]) for grey in greys])
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_brighter_or_flatter_exposure_finds_the_same_lungs(segmenter: Segmenter) -> None:
    grey, _ = phantom(3)
    plain, flat = segmenter.segment([grey, (grey * 0.6 + 40).astype(np.uint8)])
    assert np.abs(plain - flat).mean() < 0.02


def test_it_finds_the_lungs_of_phantoms(segmenter: Segmenter) -> None:
    greys, masks = zip(*(phantom(seed) for seed in range(1, 9)), strict=True)
    assert segment.dice(segmenter.segment(greys), np.stack(masks)).min() > 0.85


@pytest.mark.parametrize("name", pictures_that_are_none())
def test_it_finds_no_lungs_where_no_frontal_chest_is(segmenter: Segmenter, name: str) -> None:
    (found,) = segmenter.segment([pictures_that_are_none()[name]])
    assert lungs.findings(found).area < 0.02


def test_findings_say_where_and_how_much() -> None:
    probability = np.zeros((SIDE, SIDE), np.float32)
    probability[16:48, 8:24] = 0.9
    probability[16:32, 40:56] = 0.6
    found = lungs.findings(probability)
    assert found.area == pytest.approx((32 * 16 + 16 * 16) / SIDE**2)
    assert found.sure == pytest.approx(0.8)
    assert found.left_share == pytest.approx(2 / 3)
    assert found.box == lungs.Box(left=8 / SIDE, top=16 / SIDE, right=56 / SIDE, bottom=48 / SIDE)


def test_no_lung_has_no_box() -> None:
    assert lungs.findings(np.zeros((SIDE, SIDE), np.float32)) == lungs.Findings(0.0, 0.0, 0.0, None)


def test_standardising_is_the_same_in_training(radiographs: Radiographs) -> None:
    greys = radiographs.greys[:4]
    inside = np.asarray(segment._standardised(greys[..., np.newaxis].astype(np.float32)))
    assert inside == pytest.approx(lungs.standardised(greys), abs=1e-4)


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "lungs.npz"
    damaged.write_bytes(lungs.WEIGHTS.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(lungs, "WEIGHTS", damaged)
    with pytest.raises(lungs.SegmenterDamaged):
        lungs.weights()


@pytest.mark.long
def test_training_is_one_command_and_records_what_it_did(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.segment", "--data", str(folder), "--out", str(tmp_path), "--epochs", "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    record = segment.read(tmp_path)
    assert record["config"]["epochs"] == 1
    assert record["dice"]
    Segmenter((tmp_path / "lungs.npz").read_bytes(), batch_size=1)


def test_the_shipped_weights_are_those_of_the_record() -> None:
    assert segment.read(lungs.WEIGHTS.parent)["weights_sha256"] == lungs.WEIGHTS_SHA256


@needs_radiographs
def test_annotators_would_draw_the_held_out_lungs_alike(segmenter: Segmenter, held_out: Radiographs) -> None:
    drawn = np.array([entry.mask_by == "annotator" for entry in held_out.entries])
    scores = segment.dice(segmenter.segment(held_out.greys[drawn]), held_out.masks[drawn])
    recorded = segment.read(lungs.WEIGHTS.parent)["dice"]["annotator"]["mean"]
    assert scores.mean() == pytest.approx(recorded, abs=2e-3)
    assert scores.mean() > 0.93


@needs_radiographs
def test_nearly_every_held_out_radiograph_has_lungs_and_none_when_inverted_or_turned(
    segmenter: Segmenter, held_out: Radiographs
) -> None:
    def areas(greys: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.array([lungs.findings(each).area for each in segmenter.segment(greys)])

    greys = held_out.greys
    assert (areas(greys) > 0.1).mean() >= 0.99
    for none in (255 - greys, np.rot90(greys, 1, (1, 2)), np.rot90(greys, 3, (1, 2)), greys[:, ::-1]):
        assert (areas(none) < 0.1).mean() >= 0.98
