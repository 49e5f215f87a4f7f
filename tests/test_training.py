"""A run: seeded, recorded whole, and blind to the fold that is held out."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training import data, fit, index, kept, runs
from training.fit import Config
from training.index import DataUnusable
from worker import cnn
from worker.preparation import preparation

DATA = Path(__file__).parents[2] / "shared" / "data" / "covid-cxr"
QUICK = Config(epochs=2, batch_size=16, seed=3)

needs_radiographs = pytest.mark.skipif(not DATA.is_dir(), reason=f"the radiographs are not at {DATA}")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(radiographs: data.Radiographs) -> None:
    once, again = (fit.fit(radiographs, replace(QUICK, epochs=1)) for _ in range(2))
    other = fit.fit(radiographs, replace(QUICK, epochs=1, seed=4))
    assert once.history["loss"] == pytest.approx(again.history["loss"], rel=1e-5)
    assert once.history["loss"] != pytest.approx(other.history["loss"], rel=1e-5)


def test_the_best_weights_are_copied_and_training_stops_when_it_no_longer_gets_better() -> None:
    model = fit.compiled(5e-4)
    best = fit._BestEpoch(Config(patience=2), None)
    best.set_model(model)
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5]):
        assert not model.stop_training
        for variable in model.weights:
            variable.assign(np.full(variable.shape, epoch + 1.0))
        best.on_epoch_end(epoch, {"val_loss": loss})
    assert model.stop_training
    assert best.epoch == 2
    assert all((weights == 2).all() for weights in best.weights)


def test_the_weights_that_are_kept_give_the_lowest_validation_loss(radiographs: data.Radiographs) -> None:
    seen: list[tuple[int, int]] = []
    fitted = fit.fit(radiographs, QUICK, lambda epoch, epochs, _: seen.append((epoch, epochs)))
    assert seen == [(1, 2), (2, 2)]
    model = fit.compiled(QUICK.learning_rate)
    cnn.load_weights(model, fitted.weights)
    validation = radiographs.folds(QUICK.validation_fold)
    prepared = preparation(QUICK.preprocessing, batch_size=8)(validation.greys)
    batches = fit._plain(prepared, validation, QUICK.batch_size)
    loss = model.evaluate(batches, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(fitted.history["val_loss"]), rel=1e-3)


def test_the_test_fold_changes_nothing_in_training(radiographs: data.Radiographs) -> None:
    without = radiographs.folds(*range(QUICK.test_fold))
    once, again = (fit.fit(part, replace(QUICK, epochs=1)) for part in (radiographs, without))
    assert once.history["loss"] == pytest.approx(again.history["loss"], rel=1e-5)


def test_a_run_is_recorded_whole_and_read_back(finished: runs.Run, tmp_path: Path) -> None:
    runs.save(tmp_path, finished)
    card, weights = kept.read(tmp_path)
    assert (card, weights) == (finished.card, finished.weights)
    assert card.version.endswith(hashlib.sha256(weights).hexdigest()[:8])
    assert card.config["seed"] == QUICK.seed
    assert card.config["augmentation"]["shift"] > 0
    assert card.metrics["confusion"].keys() == {"true_positive", "false_positive", "false_negative", "true_negative"}
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "learning_curves.png",
        "roc.png",
        "calibration.png",
        "confusion.png",
    }


def test_damaged_weights_are_not_read(finished: runs.Run, tmp_path: Path) -> None:
    runs.save(tmp_path, finished)
    (tmp_path / kept.WEIGHTS).write_bytes(finished.weights[:-1] + b"?")
    with pytest.raises(kept.WeightsDamaged, match="copy it again"):
        kept.read(tmp_path)


def test_evaluating_the_card_again_gives_the_recorded_figures(folder: Path, finished: runs.Run) -> None:
    again = runs.evaluate_card(folder, finished.card, finished.weights).as_json()
    assert again["auroc"] == finished.card.metrics["auroc"]
    everything = runs.evaluate_card(folder, finished.card, finished.weights, everything=True)
    assert (everything.positives, everything.negatives) == (24, 24)


def test_a_folder_with_nothing_held_out_says_so(small: Path, finished: runs.Run) -> None:
    assert all(entry.fold != QUICK.test_fold for entry in index.index(small))
    with pytest.raises(DataUnusable, match="--all"):
        runs.evaluate_card(small, finished.card, finished.weights)
