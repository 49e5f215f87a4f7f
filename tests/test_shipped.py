"""Phantoms, and the model that comes with the code."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import COVID_CXR, needs_radiographs
from training import phantoms, runs, shipped
from worker import golden
from worker.decision import Decision, ModelUnusable
from worker.predictor import Predictor
from worker.radiograph import decode

GOLDEN = {1: 0.558446, 2: 0.186607, 3: 0.206582, 4: 0.498093}  # seed of the phantom: probability


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
    decision = Decision.of(card)
    predictor = Predictor(weights, decision, preprocessing=card.preprocessing, batch_size=8)
    greys = [decode(phantoms._png(phantoms.phantom(seed))) for seed in GOLDEN]
    got = [prediction.probability for prediction in predictor.predict(greys)]
    assert got == pytest.approx(list(GOLDEN.values()), abs=1e-4)
    recorded = card.config[golden.RECORDED]
    golden.check(predictor, card.version, recorded)
    for others in (recorded[1:], [value + 0.02 for value in recorded]):
        with pytest.raises(ModelUnusable, match="golden pictures"):
            golden.check(predictor, card.version, others)


@needs_radiographs
def test_the_shipped_model_reproduces_its_recorded_figures() -> None:
    card, weights = shipped.load()
    again = runs.evaluate_card(COVID_CXR, card, weights).evaluation.as_json()
    assert again["auroc"] == pytest.approx(card.metrics["auroc"], abs=1e-3)
    assert again["confusion"] == card.metrics["confusion"]
    recorded, got = card.metrics["within_source"]["ieee8023"], again["within_source"]["ieee8023"]
    assert got["auroc"] == pytest.approx(recorded["auroc"], abs=1e-3)


def test_the_model_card_states_the_recorded_figures() -> None:
    card, _ = shipped.load()
    words = (Path(shipped.__file__).parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.version in words
    assert card.data_fingerprint in words
    probes = ("lungs_blanked_auroc", "lungs_blanked_given_auroc", "border_only_auroc", "border_only_given_auroc")
    for name in ("auroc", "sensitivity", "specificity", "ppv", "npv", "ece", "brier", *probes):
        low, high = card.metrics[f"{name}_interval"]
        for told in (f"{card.metrics[name]:.3f}", f"{low:.3f}-{high:.3f}"):
            assert told in words, (name, told)
    assert f"{card.metrics['within_source']['ieee8023']['auroc']:.3f}" in words
