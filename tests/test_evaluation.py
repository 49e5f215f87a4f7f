"""An evaluation: on any folder, by group, under what must not matter, and as one page."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cxr
from training import data, index, report, runs, stability
from training.evaluate import EVERYTHING, HELD_OUT, evaluate
from training.index import POSITIVE
from training.scorer import scorer_of


@pytest.fixture(scope="module")
def described(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms, with two sources and two views."""
    made = tmp_path_factory.mktemp("described") / "data"
    shutil.copytree(folder, made)
    rows = [
        f"{entry.file},{entry.patient},{('here', 'there')[place % 2]},{('PA', 'AP')[place // 2 % 2]}"
        for place, entry in enumerate(index.index(made))
    ]
    (made / "metadata.csv").write_text("\n".join(["file,patient_id,source,view", *rows]))
    return made


def test_the_folder_of_the_training_is_judged_by_what_was_held_out_and_another_one_whole(
    folder: Path, small: Path, finished: runs.Run
) -> None:
    own = runs.evaluate_card(folder, finished.card, finished.weights).evaluation
    assert (own.evaluated, own.positives + own.negatives < 48) == (HELD_OUT, True)
    other = runs.evaluate_card(small, finished.card, finished.weights).evaluation
    assert (other.evaluated, other.positives, other.negatives) == (EVERYTHING, 2, 2)


def test_a_folder_without_masks_is_evaluated_by_the_lungs_that_are_found(small: Path, finished: runs.Run) -> None:
    drawn = runs.evaluate_card(small, finished.card, finished.weights).evaluation
    for masks in small.glob("*/masks"):
        shutil.rmtree(masks)
    with pytest.raises(index.DataUnusable, match="no lung mask"):
        index.index(small)
    found = runs.evaluate_card(small, finished.card, finished.weights).evaluation
    assert found.auroc == drawn.auroc
    assert found.lungs_blanked_auroc is not None


def test_every_source_view_and_class_of_negative_has_its_figures(described: Path, finished: runs.Run) -> None:
    radiographs = data.load(described, index.index(described))
    told = evaluate(radiographs, scorer_of(finished.card, finished.weights), prevalence=0.05).as_json()
    assert told["by_source"].keys() == told["within_source"].keys() == {"here", "there"}
    assert told["by_view"].keys() == {"PA", "AP"}
    assert told["by_negative"].keys() == {"Normal"}
    assert sum(one["positives"] for one in told["by_view"].values()) == told["positives"] == 24
    assert told["by_negative"]["Normal"]["auroc"] == told["auroc"]
    assert told["prevalence"] == 0.05
    for name in ("auroc", "sensitivity", "specificity", "ppv", "npv", "brier"):
        low, high = told[f"{name}_interval"]
        assert low - 1e-9 <= told[name] <= high + 1e-9, name
    assert told["ece_interval"][0] <= told["ece_interval"][1]
    assert told["stability"].keys() == stability.CHANGES.keys()


def test_what_does_not_change_a_picture_moves_no_score(radiographs: data.Radiographs, finished: runs.Run) -> None:
    scorer = scorer_of(finished.card, finished.weights)
    greys = radiographs.greys[:8]
    scores = scorer(greys)
    still = stability.moved(lambda same: same, greys, scores, scorer)
    assert still.most == pytest.approx(0, abs=1e-6)
    turned = stability.moved(lambda same: 255 - same, greys, scores, scorer)
    assert turned.most > still.most


def test_one_class_alone_has_rates_but_no_auroc(radiographs: data.Radiographs, finished: runs.Run) -> None:
    positives = [place for place, entry in enumerate(radiographs.entries) if entry.label == POSITIVE][:6]
    some = data.Radiographs(
        tuple(radiographs.entries[place] for place in positives),
        radiographs.greys[positives],
        radiographs.masks[positives],
        "",
    )
    found = evaluate(some, scorer_of(finished.card, finished.weights))
    assert (found.auroc, found.specificity, found.ppv) == (None, None, None)
    assert found.sensitivity is not None
    drawn = report.drawn(found, np.full(6, 0.5), some.positive)
    assert drawn.keys() == {"calibration", "confusion"}


def test_the_report_is_one_page_that_fetches_nothing(finished: runs.Run) -> None:
    figures = finished.evaluation.as_json()
    page = report.page(finished.card, figures, report.drawn(finished.evaluation, finished.scores, finished.truth))
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page)
    assert page.count("data:image/png;base64,") == 5
    assert "not a medical device" in page
    assert f"{figures['auroc']:.3f}" in page
    assert json.dumps(finished.card.config["weights_sha256"]) in page.replace("&#34;", '"')


def test_the_command_prints_the_evaluation_as_its_own_record(small: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--data", str(small), "--all", "--json"]
    answer = CliRunner().invoke(cxr.main, words, env={"CXR_HOME": str(tmp_path / "home")})
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert (0 <= told["auroc"] <= 1, told["positives"]) == (True, 2)
