"""Training builds the given network, keeps patients apart, and records what it did."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from training import calibration, data, figures, fit, index, kept, phantoms, probes, runs, shipped
from training.fit import Config
from training.index import DataUnusable
from worker import cnn
from worker.cnn import PARAMETERS
from worker.predictor import Decision, Predictor
from worker.radiograph import SIZE, decode

DATA = Path(__file__).parents[2] / "shared" / "data" / "covid-cxr"
GOLDEN = {1: 0.574601, 2: 0.724159, 3: 0.672659, 4: 0.858503}  # seed of the phantom: probability
QUICK = Config(epochs=2, batch_size=16, seed=3)

needs_radiographs = pytest.mark.skipif(not DATA.is_dir(), reason=f"the radiographs are not at {DATA}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in the layout of the COVID-19 Radiography Database, 24 of each class."""
    made = tmp_path_factory.mktemp("phantoms")
    phantoms.write_layout(made, patients=24, seed=1)
    return made


@pytest.fixture(scope="module")
def radiographs(folder: Path) -> data.Radiographs:
    return data.load(folder, index.index(folder))


@pytest.fixture(scope="module")
def finished(folder: Path) -> runs.Run:
    return runs.run(folder, QUICK)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two of each class, for the tests that break something."""
    phantoms.write_layout(tmp_path, patients=2, seed=5, size=64)
    return tmp_path


# The network


def test_every_layer_is_the_given_one() -> None:
    layers = [(layer.name, layer.output.shape[1:], layer.count_params()) for layer in cnn.build().layers]
    assert layers == [
        ("scale", (128, 128, 1), 0),
        ("conv_32", (126, 126, 32), 320),
        ("pool_1", (63, 63, 32), 0),
        ("conv_16_a", (61, 61, 16), 4_624),
        ("pool_2", (30, 30, 16), 0),
        ("conv_16_b", (28, 28, 16), 2_320),
        ("pool_3", (14, 14, 16), 0),
        ("flatten", (3_136,), 0),
        ("dense_512", (512,), 1_606_144),
        ("dense_256", (256,), 131_328),
        ("covid", (1,), 257),
    ]
    assert cnn.build().count_params() == PARAMETERS == 1_744_993


def test_convolutions_are_3_by_3_with_relu_and_the_end_is_a_sigmoid() -> None:
    model = cnn.build()
    for name in ("conv_32", "conv_16_a", "conv_16_b"):
        layer = model.get_layer(name)
        assert (layer.kernel_size, layer.strides, layer.padding) == ((3, 3), (1, 1), "valid")
        assert layer.activation is keras.activations.relu
    assert all(model.get_layer(f"pool_{place}").pool_size == (2, 2) for place in (1, 2, 3))
    assert all(model.get_layer(name).activation is keras.activations.relu for name in ("dense_512", "dense_256"))
    assert model.get_layer("covid").activation is keras.activations.sigmoid


def test_it_is_compiled_with_adam_binary_cross_entropy_and_accuracy() -> None:
    model = fit.compiled(5e-4)
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(5e-4)
    assert model.loss == "binary_crossentropy"
    model.evaluate(np.zeros((1, SIZE, SIZE, 1), np.uint8), np.zeros((1, 1)), verbose=0)
    assert set(model.get_metrics_result()) == {"loss", "accuracy"}


# The data


def test_an_empty_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match=r"no images.*CLASS/images"):
        index.index(tmp_path)


def test_a_folder_without_positives_is_refused(small: Path) -> None:
    (small / "COVID").rename(small / "Pneumonia")
    with pytest.raises(DataUnusable, match="no positive class"):
        index.index(small)


def test_a_folder_with_only_positives_is_refused(small: Path) -> None:
    shutil.rmtree(small / "Normal")
    with pytest.raises(DataUnusable, match="holds only COVID"):
        index.index(small)


def test_an_image_without_its_mask_is_refused_by_name(small: Path) -> None:
    (small / "COVID/masks/COVID-1.png").unlink()
    with pytest.raises(DataUnusable, match=r"COVID/images/COVID-1\.png has no lung mask"):
        index.index(small)


def test_an_image_that_metadata_names_and_nobody_has_is_refused(small: Path) -> None:
    files = [entry.file for entry in index.index(small)]
    (small / "metadata.csv").write_text("\n".join(["file", *files, "Normal/images/gone.png"]))
    with pytest.raises(DataUnusable, match=r"missing, Normal/images/gone\.png"):
        index.index(small)


def test_a_patient_in_two_folds_is_refused(small: Path) -> None:
    rows = [f"{entry.file},one-patient,{place}" for place, entry in enumerate(index.index(small))]
    (small / "metadata.csv").write_text("\n".join(["file,patient_id,fold", *rows]))
    with pytest.raises(DataUnusable, match="patient one-patient is in two folds"):
        index.index(small)


def test_a_damaged_image_is_named(small: Path) -> None:
    (small / "COVID/images/COVID-1.png").write_bytes(b"not an image")
    with pytest.raises(DataUnusable, match=r"COVID-1\.png cannot be decoded"):
        data.load(small, index.index(small))


def test_too_few_patients_to_train_on_are_refused(small: Path) -> None:
    with pytest.raises(DataUnusable, match="folds need positives and negatives"):
        fit.fit(data.load(small, index.index(small)), QUICK)


@needs_radiographs
def test_no_patient_stands_on_both_sides_of_a_split() -> None:
    entries = index.index(DATA)
    folds: dict[str, set[int]] = {}
    for entry in entries:
        folds.setdefault(entry.patient, set()).add(entry.fold)
    assert all(len(found) == 1 for found in folds.values())
    assert len(entries) == 1_260
    assert not set(Config().training_folds) & {Config().validation_fold, Config().test_fold}


def test_without_metadata_a_patient_keeps_the_fold_whatever_else_is_there(folder: Path, small: Path) -> None:
    larger = {entry.patient: entry.fold for entry in index.index(folder)}
    assert all(larger[entry.patient] == entry.fold for entry in index.index(small))


def test_radiographs_are_decoded_as_serving_decodes_them(folder: Path, radiographs: data.Radiographs) -> None:
    for entry, grey in zip(radiographs.entries[:3], radiographs.greys, strict=False):
        assert np.array_equal(grey, decode((folder / entry.file).read_bytes()))


def test_the_fingerprint_changes_when_one_byte_of_a_mask_changes(small: Path) -> None:
    entries = index.index(small)
    before = data.load(small, entries).fingerprint
    assert data.load(small, entries[::-1]).fingerprint == before
    mask = small / entries[0].mask
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert data.load(small, entries).fingerprint != before


def test_a_subset_holds_every_class_and_fold(folder: Path) -> None:
    entries = index.index(folder)
    chosen = index.subset(entries, 12)
    assert {(entry.fold, entry.positive) for entry in chosen} == {(entry.fold, entry.positive) for entry in entries}
    assert chosen == index.subset(reversed(entries), 12)


# The masks


def test_training_sees_each_radiograph_as_it_is_and_with_its_lungs_alone(radiographs: data.Radiographs) -> None:
    views = fit.both_views(radiographs)[..., 0]
    whole, lungs = np.split(views, 2)
    assert np.array_equal(whole, radiographs.greys)
    for grey, view, mask in zip(radiographs.greys, lungs, radiographs.masks, strict=True):
        assert np.array_equal(view[mask], grey[mask])
        assert set(view[~mask].tolist()) == {round(float(grey.mean()))}


def test_the_probes_leave_what_they_say(radiographs: data.Radiographs) -> None:
    greys, masks = radiographs.greys, radiographs.masks
    blanked = probes.lungs_blanked(greys, masks)
    assert np.array_equal(blanked[~masks], greys[~masks])
    assert all(np.ptp(grey[mask]) == 0 for grey, mask in zip(blanked, masks, strict=True))
    border = probes.border_only(greys)
    assert np.array_equal(border[:, : probes.BORDER], greys[:, : probes.BORDER])
    assert all(np.ptp(grey[probes.BORDER : -probes.BORDER, probes.BORDER : -probes.BORDER]) == 0 for grey in border)


def test_both_classes_weigh_alike() -> None:
    positive = np.array([True] * 3 + [False] * 9)
    weights = fit.class_weights(positive)
    assert weights[positive].sum() == pytest.approx(weights[~positive].sum())
    assert weights.mean() == pytest.approx(1)


# The figures and the decision


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


# A run


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
    validation = fit._plain(radiographs.folds(QUICK.validation_fold), QUICK.batch_size)
    loss = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
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


# Phantoms and the shipped model


def test_phantoms_are_the_same_for_a_seed_and_decode_in_every_format(tmp_path: Path) -> None:
    paths = phantoms.write(tmp_path, 5, 1)
    assert [path.name.split(".", 1)[1] for path in paths] == ["png", "16bit.png", "jpg", "dcm", "inverted.dcm"]
    for place, path in enumerate(paths):
        reference = tmp_path / "reference.png"
        phantoms.write(tmp_path / str(place), 1, 1 + place)[0].rename(reference)
        difference = decode(path.read_bytes()).astype(int) - decode(reference.read_bytes())
        assert abs(difference).max() <= 2


def test_importing_training_phantoms_and_the_shipped_model_loads_no_tensorflow() -> None:
    code = "import sys, training, training.phantoms, training.shipped as s; s.load(); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


def test_the_shipped_model_gives_the_golden_probabilities() -> None:
    card, weights = shipped.load()
    decision = Decision(card.threshold, card.calibration_slope, card.calibration_intercept)
    predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=8)
    greys = [decode(phantoms._png(phantoms.phantom(seed))) for seed in GOLDEN]
    got = [prediction.probability for prediction in predictor.predict(greys)]
    assert got == pytest.approx(list(GOLDEN.values()), abs=1e-4)


@needs_radiographs
def test_the_shipped_model_reproduces_its_recorded_figures() -> None:
    card, weights = shipped.load()
    again = runs.evaluate_card(DATA, card, weights).as_json()
    assert again["auroc"] == pytest.approx(card.metrics["auroc"], abs=1e-3)
    assert again["confusion"] == card.metrics["confusion"]
    recorded, got = card.metrics["within_source"]["ieee8023"], again["within_source"]["ieee8023"]
    assert got["auroc"] == pytest.approx(recorded["auroc"], abs=1e-3)


def test_the_model_card_states_the_recorded_figures() -> None:
    card, _ = shipped.load()
    words = (Path(shipped.__file__).parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.version in words
    assert card.data_fingerprint in words
    for name in ("auroc", "sensitivity", "specificity", "lungs_blanked_auroc", "border_only_auroc"):
        assert f"{card.metrics[name]:.3f}" in words, name
    assert f"{card.metrics['within_source']['ieee8023']['auroc']:.3f}" in words
