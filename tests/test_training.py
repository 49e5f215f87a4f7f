"""A run: seeded, recorded whole, and blind to the fold that is held out."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event

from training import calibration, data, fit, index, kept, provenance, runs
from training.best_epoch import MEASURE, BestEpoch
from training.checkpoint import Checkpoint
from training.config import Config
from training.index import DataUnusable
from worker import cnn
from worker.preparation import preparation

QUICK = Config(epochs=2, batch_size=16, seed=3, exposures=1)


@dataclass(frozen=True)
class Once:
    """What `fit` gave with QUICK, the epochs that it told, and its folder for TensorBoard."""

    fitted: fit.Fitted
    told: list[tuple[int, int]]
    logs: Path


@pytest.fixture(scope="module")
def once(radiographs: data.Radiographs, tmp_path_factory: pytest.TempPathFactory) -> Once:
    told, logs = list[tuple[int, int]](), tmp_path_factory.mktemp("logs")
    fitted = fit.fit(radiographs, QUICK, lambda epoch, epochs, _: told.append((epoch, epochs)), logs=logs)
    return Once(fitted, told, logs)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    radiographs: data.Radiographs, once: Once
) -> None:
    again, other = (fit.fit(radiographs, replace(QUICK, epochs=1, seed=seed)) for seed in (QUICK.seed, 4))
    first, same, another = (one.history["loss"][0] for one in (once.fitted, again, other))
    assert first == pytest.approx(same, rel=1e-5)
    assert first != pytest.approx(another, rel=1e-5)


def test_the_best_weights_are_copied_and_training_stops_for_good_when_it_no_longer_gets_better(tmp_path: Path) -> None:
    _, model = fit.compiled(5e-4)
    measured = [float("nan"), 1.0, 2.0, 1.5]
    left, kept_there = iter(measured), Checkpoint(tmp_path / "checkpoint.npz")
    best = BestEpoch(Config(patience=2), lambda: {MEASURE: next(left)}, None, kept_there)
    best.set_model(model)
    model.optimizer.build(model.trainable_variables)
    for epoch in range(len(measured)):
        assert not model.stop_training
        for variable in model.weights:
            variable.assign(np.full(variable.shape, epoch + 1.0))
        best.on_epoch_end(epoch, {"loss": 2.0, "covid_loss": 1.0, "covid_accuracy": 0.5})
    assert model.stop_training
    assert best.epoch == 2
    assert all((weights == 2).all() for weights in best.weights)
    again = BestEpoch(Config(patience=2), dict, None, kept_there)
    assert again.resume(model) == Config.epochs, "a trainer that died then trains no epoch more"


def test_the_weights_that_are_kept_give_the_lowest_loss_once_calibrated(
    radiographs: data.Radiographs, once: Once
) -> None:
    assert once.told == [(1, 2), (2, 2)]
    model = cnn.build()
    cnn.load_weights(model, once.fitted.weights)
    validation = radiographs.folds(QUICK.validation_fold)
    prepared = preparation(QUICK.preprocessing, batch_size=8)(validation.greys)
    raw = model.predict(prepared, verbose=0)[:, 0].astype(np.float64)
    loss = calibration.loss_when_calibrated(raw, validation.positive)
    assert loss == pytest.approx(min(once.fitted.history[MEASURE]), rel=1e-3)


def test_the_test_fold_changes_nothing_in_training(radiographs: data.Radiographs, once: Once) -> None:
    without = fit.fit(radiographs.folds(*range(QUICK.test_fold)), QUICK)
    assert without.history["loss"][0] == pytest.approx(once.fitted.history["loss"][0], rel=1e-5)


def test_a_run_is_recorded_whole_and_read_back(finished: runs.Run, tmp_path: Path) -> None:
    runs.save(tmp_path, finished)
    card, weights = kept.read(tmp_path)
    assert (card, weights) == (finished.card, finished.weights)
    assert card.version.endswith(hashlib.sha256(weights).hexdigest()[:8])
    assert card.config["seed"] == QUICK.seed
    assert card.config["augmentation"]["shift"] > 0
    assert card.config["made_with"]["seconds"] >= 0
    assert {name: sum(bins) for name, bins in card.config["reference"].items()} == dict.fromkeys(
        ("score", "brightness", "contrast"), 48 - card.metrics["positives"] - card.metrics["negatives"]
    )
    assert card.config["made_with"]["libraries"].keys() == {"keras", "numpy", "pillow", "tensorflow"}
    assert (card.band_low or 0) <= card.threshold <= (card.band_high or 0)
    assert card.metrics["confusion"].keys() == {"true_positive", "false_positive", "false_negative", "true_negative"}
    assert {path.name for path in tmp_path.glob("*.png")} == {
        *("learning_curves.png", "roc.png", "precision_recall.png"),
        *("calibration.png", "confusion.png", "auroc_by_group.png"),
    }
    assert card.version in (tmp_path / runs.REPORT).read_text(encoding="utf-8")


def test_damaged_weights_are_not_read(finished: runs.Run, tmp_path: Path) -> None:
    runs.save(tmp_path, finished)
    (tmp_path / kept.WEIGHTS).write_bytes(finished.weights[:-1] + b"?")
    with pytest.raises(kept.WeightsDamaged, match="copy it again"):
        kept.read(tmp_path)


def test_evaluating_the_card_again_gives_the_recorded_figures(folder: Path, finished: runs.Run) -> None:
    config = finished.card.config | {runs.BASE: finished.card.data_fingerprint}
    retrained = replace(finished.card, data_fingerprint="of labelled images too", config=config)
    again = runs.evaluate_card(folder, retrained, finished.weights).evaluation.as_json()
    assert again["auroc"] == finished.card.metrics["auroc"]
    everything = runs.evaluate_card(folder, finished.card, finished.weights, everything=True).evaluation
    assert (everything.positives, everything.negatives) == (24, 24)


def test_a_folder_with_nothing_held_out_says_so(small: Path, finished: runs.Run) -> None:
    rows = [f"{entry.file},{entry.patient},0" for entry in index.index(small)]
    (small / "metadata.csv").write_text("\n".join(["file,patient_id,fold", *rows]))
    with pytest.raises(DataUnusable, match="--all"):
        runs.evaluate_card(small, finished.card, finished.weights)


def test_the_commit_of_the_code_is_recorded() -> None:
    made_with = provenance.provenance()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False, text=True).stdout.strip()
    assert (made_with["commit"] or "").rstrip("+") == head


def test_tensorboard_finds_every_curve_of_every_epoch(once: Once) -> None:
    (written,) = once.logs.glob("events.out.tfevents.*")
    events = [Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(written))]
    found: dict[str, list[float]] = {}
    for event in events:
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    assert found.keys() == once.fitted.history.keys()
    assert found["val_loss"] == pytest.approx(once.fitted.history["val_loss"])


@pytest.mark.long
def test_two_devices_train_together_and_go_on_after_a_kill_by_the_same_command(
    folder: Path, tmp_path: Path, once: Once
) -> None:
    """In a process of its own: devices are made before TensorFlow's first use."""
    program = """
import contextlib, sys
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from tests.test_training import QUICK
from training import data, distribution, fit, index
from training.checkpoint import Checkpoint
folder, kept = map(Path, sys.argv[1:])
radiographs = data.load(folder, index.index(folder))
assert distribution.strategy("CPU").num_replicas_in_sync == 2
def die(epoch, epochs, logs):
    print(logs["loss"])
    raise KeyboardInterrupt
with contextlib.suppress(KeyboardInterrupt):
    fit.fit(radiographs, QUICK, die, Checkpoint(kept), devices="CPU")
print(*fit.fit(radiographs, QUICK, None, Checkpoint(kept), devices="CPU").history["loss"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, folder, tmp_path / "checkpoint.npz"],
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    together, kept, went_on = (float(loss) for loss in done.stdout.split()[-3:])
    assert together == pytest.approx(
        once.fitted.history["loss"][0], abs=0.02
    )  # later steps of Adam make much of a rounding
    assert kept == together
    assert went_on < together
