"""Where the model looked: the heat moves when the finding moves, and lies on the radiograph where the lung lies."""

import io
from contextlib import closing
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import update

from db import heatmaps, registry
from db.blobs import Blobs
from db.database import Database
from db.tables import Result
from tests import labelled, migrated
from tests.service import CARD, Service
from training import phantoms, shipped
from worker import cnn, explanation, heatmap, unfolding
from worker.decoders import Decoders
from worker.radiograph import SIZE, Grey, decode

PLACES = {"upper left": (34, 34), "upper right": (34, 94), "lower left": (94, 34), "lower right": (94, 94)}


def spotted(places: NDArray[np.int_], seed: int) -> Grey:
    """Noise, each with a bright spot at its place, or with none where that is negative."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    pictures = random.normal(90, 10, (len(places), SIZE, SIZE))
    for place, (down, right) in enumerate(places):
        if down >= 0:
            pictures[place] += 120 * np.exp(-((y - down) ** 2 + (x - right) ** 2) / (2 * 7**2))
    return np.asarray(pictures.clip(0, 255)[..., np.newaxis], np.uint8)


@pytest.fixture(scope="module")
def finder() -> keras.Model:
    """The shipped CNN, which soon learns to say whether there is a spot."""
    keras.utils.set_random_seed(5)
    random = np.random.default_rng(5)
    places = random.integers(20, SIZE - 20, (160, 2))
    places[::2] = -1
    model = cnn.build()
    cnn.load_weights(model, shipped.load()[1])
    model.compile(optimizer=keras.optimizers.Adam(5e-4), loss="binary_crossentropy")
    model.fit(spotted(places, 6), (places[:, :1] >= 0).astype(np.float32), epochs=4, batch_size=16, verbose=0)
    return model


@pytest.mark.parametrize("place", PLACES)
def test_the_heat_moves_with_the_finding(finder: keras.Model, place: str) -> None:
    spot = PLACES[place]
    picture = spotted(np.array([spot]), 7)
    assert finder.predict(picture, verbose=0)[0, 0] > 0.8
    heat = heatmap.gradcam(finder, picture)[0]
    hottest = np.array(np.unravel_index(heat.argmax(), heat.shape)) / heat.shape[0] * SIZE
    assert np.abs(hottest - spot).max() < 20, hottest


def test_what_was_laid_out_comes_back_to_its_place() -> None:
    maps = np.zeros((1, SIZE // 2, SIZE // 2), np.float32)
    maps[0, 10:50, 8:28], maps[0, 10:50, 36:56] = 1, 1
    corners, found = unfolding.outlines(maps)
    assert found.all()
    grey = np.tile(np.arange(SIZE, dtype=np.uint8), (SIZE, 1))  # each column has its own level
    laid_out = unfolding._laid_out(grey, corners[0]).astype(np.float32)
    back = unfolding.folded_back(laid_out, corners[0])
    inside = back > 0
    assert inside.mean() > 0.2
    assert np.abs(back - grey)[inside].max() <= 2
    assert not inside[:, : 2 * 8].any()
    assert not inside[: 2 * 9].any()


def test_the_shipped_models_heat_stays_within_the_lungs() -> None:
    card, weights = shipped.load()
    grey = decode(phantoms._png(phantoms.phantom(1)))
    heat = heatmap.heatmap(weights, grey, preprocessing=card.preprocessing)
    assert (heat.shape, heat.max() <= 1, heat.min() >= 0, heat.max() > 0) == ((SIZE, SIZE), True, True, True)
    assert not heat[:, SIZE // 2 - 2 : SIZE // 2 + 2].any()
    assert not heat[:4].any()


def test_the_png_is_red_where_it_is_hot_and_the_radiograph_elsewhere() -> None:
    grey, heat = np.full((SIZE, SIZE), 100, np.uint8), np.zeros((SIZE, SIZE), np.float32)
    heat[:64] = 1
    picture = np.asarray(Image.open(io.BytesIO(heatmap.png(grey, heat))))
    assert picture.shape == (4 * SIZE, 4 * SIZE, 3)
    assert (picture[-1, 0] == 100).all()
    assert picture[0, 0, 0] > picture[0, 0, 1] + 80


@pytest.fixture
def kept(tmp_path: Path) -> Blobs:
    blobs = Blobs(tmp_path)
    heatmaps.put(blobs, "batch_1", "result_1", b"png")
    heatmaps.put(blobs, "batch_2", "result_2", b"png")
    return blobs


def test_heatmaps_go_with_their_batch_and_with_time(kept: Blobs) -> None:
    assert heatmaps.tidy(kept, older_than_seconds=60) == 0
    heatmaps.remove(kept, "batch_1")
    assert not heatmaps.path(kept, "batch_1", "result_1").exists()
    assert heatmaps.path(kept, "batch_2", "result_2").read_bytes() == b"png"
    assert heatmaps.tidy(kept, older_than_seconds=-1) == 1


def test_its_image_is_decoded_under_the_limits_of_the_decoding_children(
    kept: Blobs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(migrated.sqlite(tmp_path / "test.db"))
    with database.write() as session:
        registry.register(session, kept, CARD, b"weights", actor="test")
        registry.appoint(session, registry.CHAMPION, CARD.version, actor="test")
    labelled.classified(database, kept, phantoms._png(phantoms.phantom(1)))
    with database.write() as session:
        changed = update(Result).values(weights_sha256=kept.put(b"weights")).returning(Result.id)
        result_id = session.scalars(changed).one()
    with closing(Decoders(1, seconds=20, address_space=2 << 30, max_pixels=100)) as decoders:
        assert not explanation.make(database, kept, decoders, result_id)
    assert f"no heatmap of {result_id}: too_large" in caplog.text
    database.close()


def test_a_worker_makes_the_heatmap_that_the_api_is_asked_for(service: Service) -> None:
    drawn = phantoms._png(phantoms.phantom(1))
    batch_id = service.submit({"one.png": drawn, "noise.png": noise()})
    results = {line.custom_id: line.result_id for line in service.wait(batch_id)}
    address = f"/v1/results/{results['one.png']}/heatmap.png"
    answer = service.http.get(address, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png"), answer.text
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (4 * SIZE, 4 * SIZE)
    stopped = service.http.get(f"/v1/results/{results['noise.png']}/heatmap.png")
    assert (stopped.status_code, stopped.json()["code"]) == (409, "no_score")
    assert service.http.get("/v1/results/result_0/heatmap.png").status_code == 404
    service.http.delete(f"/v1/batches/{batch_id}").raise_for_status()
    assert service.http.get(address).json()["code"] == "batch_purged"
    folder = heatmaps.path(Blobs(service.settings.blobs), batch_id, "").parent
    assert not folder.exists()


def noise() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
